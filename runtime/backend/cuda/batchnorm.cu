/* Sums over rows [rows,C], and batch norm with the batch's statistics, which is made of such sums.
 * Everything is in double and rounded once. An error of a few units in the last place could flip a
 * ReLU and so change a whole gradient. A block takes 32 channels and one of CHUNKS ranges of rows.
 * The sums of the ranges are added in order. */
#include "backend/cuda/launch.h"

enum { CHUNKS = 64, ROW_LANES = THREADS / WARP };

int64_t kernel_rows_work(int64_t C) {
    return CHUNKS * C;
}

/* The quantity that is summed. */
enum { SUM_X, SUM_SQUARES, SUM_PRODUCTS };

/* part [CHUNKS,C]: sums of x, (x - mean)^2 or dy (x - mean). */
template <int WHAT>
static __global__ void part_sums(const float *x, const float *dy, const double *mean, int64_t rows,
                                 int64_t C, double *part) {
    SHARED(double, lanes, THREADS);
    int64_t c = (int64_t)blockIdx.x * WARP + threadIdx.x % WARP, chunk = blockIdx.y;
    int64_t first = chunk * rows / CHUNKS, end = (chunk + 1) * rows / CHUNKS;
    int lane = threadIdx.x / WARP;
    double total = 0, m = WHAT == SUM_X || c >= C ? 0 : mean[c];
    for (int64_t r = first + lane; r < end && c < C; r += ROW_LANES) {
        double v = (double)x[r * C + c] - m;
        total += WHAT == SUM_X ? v : WHAT == SUM_SQUARES ? v * v : v * (double)dy[r * C + c];
    }
    lanes[threadIdx.x] = total;
    __syncthreads();
    if (lane || c >= C) return;
    for (int i = 1; i < ROW_LANES; i++) total += lanes[i * WARP + threadIdx.x];
    part[chunk * C + c] = total;
}

/* out [C] = the sum of part over the chunks, times factor. */
template <typename T>
static __global__ void whole_sums(const double *part, T *out, double factor, int64_t C) {
    EACH(c, C) {
        double total = 0;
        for (int64_t i = 0; i < CHUNKS; i++) total += part[i * C + c];
        out[c] = (T)(total * factor);
    }
}

template <int WHAT, typename T>
static cudaError_t sums(cudaStream_t s, const float *x, const float *dy, const double *mean, T *out,
                        double factor, double *work, int64_t rows, int64_t C) {
    dim3 grid((unsigned)((C + WARP - 1) / WARP), CHUNKS);
    cudaError_t done = LAUNCH(part_sums<WHAT>, grid, THREADS, s, x, dy, mean, rows, C, work);
    if (done != cudaSuccess) return done;
    return LAUNCH(whole_sums<T>, blocks_for(C), THREADS, s, work, out, factor, C);
}

cudaError_t kernel_column_sums(cudaStream_t s, const float *dy, float *out, double *work,
                               int64_t rows, int64_t C) {
    return sums<SUM_X>(s, dy, NULL, NULL, out, 1, work, rows, C);
}

/* out [C]: the contribution of this process's rows to the mean or the variance of the whole
 * batch. */
template <int WHAT>
static cudaError_t moment(cudaStream_t s, const float *x, const double *mean, double *out,
                          double *work, const BatchNorm *b) {
    return sums<WHAT>(s, x, NULL, mean, out, 1 / (double)b->count, work, b->rows, b->C);
}

cudaError_t kernel_norm_mean(cudaStream_t s, const float *x, double *work, BatchNorm b) {
    return moment<SUM_X>(s, x, NULL, b.mean, work, &b);
}

cudaError_t kernel_norm_variance(cudaStream_t s, const float *x, double *work, BatchNorm b) {
    return moment<SUM_SQUARES>(s, x, b.mean, b.variance, work, &b);
}

static __global__ void normalize(const float *x, float *y, BatchNorm b) {
    EACH(i, b.rows * b.C) {
        int64_t c = i % b.C;
        double factor = (double)b.scale[c] / sqrt(b.variance[c] + b.eps);
        y[i] = (float)(((double)x[i] - b.mean[c]) * factor + (double)b.shift[c]);
    }
}

static __global__ void move_running(BatchNorm b) {
    EACH(c, b.C) {
        double unbias = (double)b.count / (double)(b.count - 1), m = b.momentum;
        double mean = (double)(float)b.mean[c], variance = (double)(float)b.variance[c];
        b.running_mean[c] = (float)((1 - m) * (double)b.running_mean[c] + m * mean);
        b.running_var[c] = (float)((1 - m) * (double)b.running_var[c] + m * variance * unbias);
    }
}

cudaError_t kernel_norm_apply(cudaStream_t s, const float *x, float *y, BatchNorm b) {
    cudaError_t done = LAUNCH(normalize, blocks_for(b.rows * b.C), THREADS, s, x, y, b);
    return done != cudaSuccess ? done : LAUNCH(move_running, blocks_for(b.C), THREADS, s, b);
}

/* The parameters' gradients: the sums over a channel of dy, and of dy times the normalised x. */
static __global__ void norm_gradients(const double *sum, float *dscale, float *dshift,
                                      BatchNorm b) {
    EACH(c, b.C) {
        dshift[c] = (float)sum[c];
        dscale[c] = (float)(sum[b.C + c] / sqrt(b.variance[c] + b.eps));
    }
}

cudaError_t kernel_norm_products(cudaStream_t s, const float *x, const float *dy, float *dscale,
                                 float *dshift, double *sum, double *work, BatchNorm b) {
    cudaError_t done = sums<SUM_X>(s, dy, NULL, NULL, sum, 1, work, b.rows, b.C);
    if (done == cudaSuccess)
        done = sums<SUM_PRODUCTS>(s, x, dy, b.mean, sum + b.C, 1, work, b.rows, b.C);
    if (done != cudaSuccess) return done;
    return LAUNCH(norm_gradients, blocks_for(b.C), THREADS, s, sum, dscale, dshift, b);
}

static __global__ void norm_back(const float *x, const float *dy, float *dx, const double *sum,
                                 BatchNorm b, bool add) {
    EACH(i, b.rows * b.C) {
        int64_t c = i % b.C;
        double inverse = 1 / sqrt(b.variance[c] + b.eps), count = (double)b.count;
        double normal = ((double)x[i] - b.mean[c]) * inverse;
        double g = (double)dy[i] - sum[c] / count - normal * sum[b.C + c] * inverse / count;
        float v = (float)((double)b.scale[c] * inverse * g);
        dx[i] = add ? dx[i] + v : v;
    }
}

cudaError_t kernel_norm_back(cudaStream_t s, const float *x, const float *dy, float *dx,
                             const double *sum, BatchNorm b, bool add) {
    return LAUNCH(norm_back, blocks_for(b.rows * b.C), THREADS, s, x, dy, dx, sum, b, add);
}
