/* Softmax and standardisation of rows with their gradients, and conversion between contiguous order
 * and channels-last. If a row's elements are contiguous, a group of threads shares the row; if
 * neighbouring rows are, each thread takes its own row. The sums of a group's threads are added as
 * a tree. */
#include "backend/cuda/launch.h"

/* --- a group of threads and its row --- */

/* The threads of a block in groups of `width`: one, a warp, or all of them. */
struct Team {
    int width, member;
    int64_t row;
};

static __device__ inline Team own_team(int width) {
    int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    Team t = {width, (int)(thread % width), thread / width};
    return t;
}

/* The sum over the team's threads, returned in all of them. */
template <typename V> static __device__ inline V team_sum(const Team &t, V v, V *shared) {
    if (t.width == 1) return v;
    v = warp_sum(v);
    if (t.width == WARP) return v;
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = v;
    __syncthreads();
    V sum = 0;
    for (int i = 0; i < THREADS / WARP; i++) sum += shared[i];
    return sum;
}

static __device__ inline float team_max(const Team &t, float v, float *shared) {
    if (t.width == 1) return v;
    v = warp_max(v);
    if (t.width == WARP) return v;
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = v;
    __syncthreads();
    for (int i = 0; i < THREADS / WARP; i++) v = shared[i] > v ? shared[i] : v;
    return v;
}

/* All threads of a block run together: those without a row compute the last row again and write
 * nothing. */
struct Row {
    int64_t at, step, K, index;
    bool own;
};

static __device__ inline Row own_row(const Team &t, const RowShape &r) {
    int64_t rows = r.outer * r.inner, i = t.row < rows ? t.row : rows - 1;
    Row row = {i / r.inner * r.K * r.inner + i % r.inner, r.inner, r.K, i, t.row < rows};
    return row;
}

/* Loops over this thread's indices k of its row, at offset o in memory. */
#define EACH_OF_ROW(t, r, o)                                                                       \
    for (int64_t k = (t).member, o = (r).at + k * (r).step; k < (r).K;                             \
         k += (t).width, o = (r).at + k * (r).step)

static int team_width(const RowShape &r) {
    return r.inner > 1 || r.K < 8 ? 1 : r.K <= 2048 ? WARP : THREADS;
}

static dim3 team_blocks(const RowShape &r, int width) {
    int64_t threads = r.outer * r.inner * width;
    return dim3((unsigned)((threads + THREADS - 1) / THREADS));
}

/* --- softmax --- */

template <typename T> static __global__ void softmax_rows(const T *x, T *y, RowShape s, int width) {
    SHARED(float, shared, THREADS / WARP);
    Team t = own_team(width);
    Row r = own_row(t, s);
    float most = -INFINITY, sum = 0;
    EACH_OF_ROW(t, r, o) {
        float v = real_get(x + o);
        most = v > most || v != v ? v : most;
    }
    most = team_max(t, most, shared);
    EACH_OF_ROW(t, r, o) sum += expf(real_get(x + o) - most);
    sum = team_sum(t, sum, shared);
    EACH_OF_ROW(t, r, o) if (r.own) real_put(y + o, expf(real_get(x + o) - most) / sum);
}

template <typename G, typename T>
static __global__ void softmax_rows_back(const G *dy, const T *y, G *dx, RowShape s, int width) {
    SHARED(float, shared, THREADS / WARP);
    Team t = own_team(width);
    Row r = own_row(t, s);
    float sum = 0;
    EACH_OF_ROW(t, r, o) sum += real_get(dy + o) * real_get(y + o);
    sum = team_sum(t, sum, shared);
    EACH_OF_ROW(t, r, o)
    if (r.own) real_put(dx + o, real_get(y + o) * (real_get(dy + o) - sum));
}

cudaError_t kernel_softmax_rows(cudaStream_t s, Real real, const void *x, void *y, RowShape r) {
    int width = team_width(r);
    WITH_REAL(real, LAUNCH(softmax_rows<T>, team_blocks(r, width), THREADS, s, (const T *)x, (T *)y,
                           r, width));
}

/* --- standardisation --- */

template <typename T>
static __global__ void standardize_rows(const T *x, double eps, T *y, float *factors, RowShape s,
                                        int width) {
    SHARED(double, shared, THREADS / WARP);
    Team t = own_team(width);
    Row r = own_row(t, s);
    double sum = 0, square = 0;
    EACH_OF_ROW(t, r, o) sum += (double)real_get(x + o);
    double mean = team_sum(t, sum, shared) / (double)r.K;
    EACH_OF_ROW(t, r, o) {
        double d = (double)real_get(x + o) - mean;
        square += d * d;
    }
    double factor = 1 / sqrt(team_sum(t, square, shared) / (double)r.K + eps);
    if (!r.own) return;
    if (factors && t.member == 0) factors[r.index] = (float)factor;
    EACH_OF_ROW(t, r, o) real_put(y + o, (float)(((double)real_get(x + o) - mean) * factor));
}

template <typename G, typename T>
static __global__ void standardize_rows_back(const G *dy, const T *y, const float *factors, G *dx,
                                             RowShape s, int width) {
    SHARED(double, shared, THREADS / WARP);
    Team t = own_team(width);
    Row r = own_row(t, s);
    double sum = 0, product = 0;
    EACH_OF_ROW(t, r, o) {
        double g = (double)real_get(dy + o);
        sum += g;
        product += g * (double)real_get(y + o);
    }
    double mean = team_sum(t, sum, shared) / (double)r.K;
    double slope = team_sum(t, product, shared) / (double)r.K;
    if (!r.own) return;
    double factor = (double)factors[r.index];
    EACH_OF_ROW(t, r, o) {
        double g = (double)real_get(dy + o) - mean - (double)real_get(y + o) * slope;
        real_put(dx + o, (float)(g * factor));
    }
}

cudaError_t kernel_standardize_rows(cudaStream_t s, Real real, const void *x, double eps, void *y,
                                    float *factors, RowShape r) {
    int width = team_width(r);
    WITH_REAL(real, LAUNCH(standardize_rows<T>, team_blocks(r, width), THREADS, s, (const T *)x,
                           eps, (T *)y, factors, r, width));
}

/* Gradients have one Real, forward's results another: either may be bf16 while the other is f32. */
template <typename G>
static cudaError_t softmax_back_of(cudaStream_t s, Real real, const G *dy, const void *y, G *dx,
                                   RowShape r) {
    int width = team_width(r);
    WITH_REAL(real, LAUNCH((softmax_rows_back<G, T>), team_blocks(r, width), THREADS, s, dy,
                           (const T *)y, dx, r, width));
}

cudaError_t kernel_softmax_rows_back(cudaStream_t s, Real gradients, Real values, const void *dy,
                                     const void *y, void *dx, RowShape r) {
    WITH_REAL(gradients, softmax_back_of(s, values, (const T *)dy, y, (T *)dx, r));
}

template <typename G>
static cudaError_t standardize_back_of(cudaStream_t s, Real real, const G *dy, const void *y,
                                       const float *factors, G *dx, RowShape r) {
    int width = team_width(r);
    WITH_REAL(real, LAUNCH((standardize_rows_back<G, T>), team_blocks(r, width), THREADS, s, dy,
                           (const T *)y, factors, dx, r, width));
}

cudaError_t kernel_standardize_rows_back(cudaStream_t s, Real gradients, Real values,
                                         const void *dy, const void *y, const float *factors,
                                         void *dx, RowShape r) {
    WITH_REAL(gradients, standardize_back_of(s, values, (const T *)dy, y, factors, (T *)dx, r));
}

/* --- order --- */

/* y [N,B,A] = x [N,A,B]. */
template <typename T>
static __global__ void turn(const T *x, T *y, int64_t n, int64_t A, int64_t B) {
    EACH(i, n) {
        int64_t a = i % A, b = i / A % B, image = i / A / B;
        y[i] = x[(image * A + a) * B + b];
    }
}

cudaError_t kernel_turn(cudaStream_t s, Real real, const void *x, void *y, int64_t N, int64_t A,
                        int64_t B) {
    int64_t n = N * A * B;
    WITH_REAL(real, LAUNCH(turn<T>, blocks_for(n), THREADS, s, (const T *)x, (T *)y, n, A, B));
}
