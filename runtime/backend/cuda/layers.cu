/* Elementwise layers, and conversion between planes and channels-last. */
#include "backend/cuda/launch.h"

/* --- planes and channels-last --- */

template <typename T>
static __global__ void from_planes(const float *x, const double *mean, const double *std, T *y,
                                   int64_t n, int64_t C, int64_t P) {
    EACH(i, n) {
        int64_t c = i % C, p = i / C % P, image = i / C / P;
        float v = x[(image * C + c) * P + p];
        if (mean) v = (float)(((double)v - mean[c]) / std[c]);
        real_put(y + i, v);
    }
}

cudaError_t kernel_from_planes(cudaStream_t s, const float *x, const double *mean,
                               const double *std, Real real, void *y, int64_t N, int64_t C,
                               int64_t P) {
    int64_t n = N * C * P;
    WITH_REAL(real,
              LAUNCH(from_planes<T>, blocks_for(n), THREADS, s, x, mean, std, (T *)y, n, C, P));
}

template <typename T>
static __global__ void to_planes(const T *x, const float *scale, float *y, int64_t n, int64_t C,
                                 int64_t P, bool sum) {
    EACH(i, n) {
        int64_t p = i % P, c = i / P % C, image = i / P / C;
        float v = real_get(x + (image * P + p) * C + c);
        if (scale) v *= scale[c];
        y[i] = sum ? y[i] + v : v;
    }
}

cudaError_t kernel_to_planes(cudaStream_t s, Real real, const void *x, const float *scale, float *y,
                             int64_t N, int64_t C, int64_t P, bool sum) {
    int64_t n = N * C * P;
    WITH_REAL(real, LAUNCH(to_planes<T>, blocks_for(n), THREADS, s, (const T *)x, scale, y, n, C, P,
                           sum));
}

template <typename From, typename To>
static __global__ void convert(const From *x, To *y, int64_t n) {
    EACH(i, n) real_put(y + i, real_get(x + i));
}

template <typename From>
static cudaError_t convert_from(cudaStream_t s, const From *x, Real to, void *y, int64_t n) {
    dim3 grid = blocks_for(n);
    if (to == REAL_F32) return LAUNCH((convert<From, float>), grid, THREADS, s, x, (float *)y, n);
    return LAUNCH((convert<From, Bf16>), grid, THREADS, s, x, (Bf16 *)y, n);
}

cudaError_t kernel_convert(cudaStream_t s, Real from, const void *x, Real to, void *y, int64_t n) {
    WITH_REAL(from, convert_from<T>(s, (const T *)x, to, y, n));
}

/* --- activations and masks --- */

/* min(max(v, 0), cap); NaN stays NaN. */
static __device__ inline float relu_of(float v, float cap) {
    v = v < 0 ? 0 : v;
    return v > cap ? cap : v;
}

/* 0 < v < cap, or v is NaN. */
static __device__ inline bool is_open(float v, float cap) {
    return !(v <= 0) && !(v >= cap);
}

/* The 32 elements of a warp make one word. The last word may extend past n; those bits are 0. */
static __device__ inline void put_mask(uint32_t *mask, int64_t i, bool open) {
    uint32_t bits = __ballot_sync(ALL_LANES, open);
    if (threadIdx.x % WARP == 0) mask[i / WARP] = bits;
}

static __host__ __device__ inline int64_t whole_words(int64_t n) {
    return (n + WARP - 1) / WARP * WARP;
}

template <typename T>
static __global__ void epilogue(T *y, const float *bias, bool relu, float cap, uint32_t *mask,
                                int64_t n, int64_t C) {
    EACH(i, whole_words(n)) {
        float v = 0;
        if (i < n) {
            v = real_get(y + i);
            if (bias) v += bias[i % C];
            if (relu) v = relu_of(v, cap);
            real_put(y + i, v);
        }
        if (mask) put_mask(mask, i, i < n && is_open(v, cap));
    }
}

cudaError_t kernel_epilogue(cudaStream_t s, Real real, void *y, const float *bias, bool relu,
                            float cap, uint32_t *mask, int64_t n, int64_t C) {
    WITH_REAL(real,
              LAUNCH(epilogue<T>, blocks_for(n), THREADS, s, (T *)y, bias, relu, cap, mask, n, C));
}

template <typename T>
static __global__ void make_mask(const T *y, float cap, uint32_t *mask, int64_t n) {
    EACH(i, whole_words(n)) {
        float v = i < n ? real_get(y + i) : 0;
        put_mask(mask, i, is_open(v, cap));
    }
}

cudaError_t kernel_mask(cudaStream_t s, Real real, const void *y, float cap, uint32_t *mask,
                        int64_t n) {
    WITH_REAL(real, LAUNCH(make_mask<T>, blocks_for(n), THREADS, s, (const T *)y, cap, mask, n));
}

template <typename T> static __global__ void apply_mask(T *g, const uint32_t *mask, int64_t n) {
    EACH(i, n) {
        if (!(mask[i / WARP] >> (i % WARP) & 1)) real_put(g + i, 0);
    }
}

cudaError_t kernel_apply_mask(cudaStream_t s, Real real, void *g, const uint32_t *mask, int64_t n) {
    WITH_REAL(real, LAUNCH(apply_mask<T>, blocks_for(n), THREADS, s, (T *)g, mask, n));
}

template <typename T> static __global__ void relu(const T *a, float cap, T *out, int64_t n) {
    EACH(i, n) real_put(out + i, relu_of(real_get(a + i), cap));
}

cudaError_t kernel_relu(cudaStream_t s, Real real, const void *a, float cap, void *out, int64_t n) {
    WITH_REAL(real, LAUNCH(relu<T>, blocks_for(n), THREADS, s, (const T *)a, cap, (T *)out, n));
}

/* --- sums and maps --- */

template <typename T> static __global__ void sum_of(const T *a, const T *b, T *out, int64_t n) {
    EACH(i, n) real_put(out + i, real_get(a + i) + real_get(b + i));
}

cudaError_t kernel_sum(cudaStream_t s, Real real, const void *a, const void *b, void *out,
                       int64_t n) {
    WITH_REAL(real, LAUNCH(sum_of<T>, blocks_for(n), THREADS, s, (const T *)a, (const T *)b,
                           (T *)out, n));
}

template <typename T>
static __global__ void affine(const T *a, const float *scale, const float *shift, T *out, int64_t n,
                              int64_t C, bool sum) {
    EACH(i, n) {
        float v = real_get(a + i) * scale[i % C] + (shift ? shift[i % C] : 0);
        real_put(out + i, sum ? real_get(out + i) + v : v);
    }
}

cudaError_t kernel_affine(cudaStream_t s, Real real, const void *a, const float *scale,
                          const float *shift, void *out, int64_t n, int64_t C, bool sum) {
    WITH_REAL(real, LAUNCH(affine<T>, blocks_for(n), THREADS, s, (const T *)a, scale, shift,
                           (T *)out, n, C, sum));
}

/* --- dropout --- */

/* random_bits and random_uniform of base/random.h. */
static __device__ inline uint64_t bits_of(uint64_t key, uint64_t i) {
    uint64_t z = key + i + UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static __device__ inline double uniform_of(uint64_t key, uint64_t i) {
    return (double)(bits_of(key, i) >> 40) / 16777216.0;
}

static __global__ void dropout(const float *a, const uint64_t *run, uint64_t seed, double p,
                               float *out, int64_t n, int64_t C, int64_t P, int64_t first,
                               bool sum) {
    uint64_t key = bits_of(seed, *run);
    float scale = (float)(1 / (1 - p));
    EACH(i, n) {
        int64_t c = i % C, at = i / C % P, image = first + i / C / P;
        bool keep = uniform_of(key, (uint64_t)((image * C + c) * P + at)) >= p;
        float v = keep ? a[i] * scale : 0;
        out[i] = sum ? out[i] + v : v;
    }
}

cudaError_t kernel_dropout(cudaStream_t s, const float *a, const uint64_t *run, uint64_t seed,
                           double p, float *out, int64_t N, int64_t C, int64_t P, int64_t first,
                           bool sum) {
    int64_t n = N * C * P;
    return LAUNCH(dropout, blocks_for(n), THREADS, s, a, run, seed, p, out, n, C, P, first, sum);
}

static __global__ void count(uint64_t *run) {
    *run += 1;
}

cudaError_t kernel_count(cudaStream_t s, uint64_t *run) {
    return LAUNCH(count, 1, 1, s, run);
}
