/* Functions of rows: the losses on logits, softmax, reductions. One warp per row. */
#include <string.h>

#include "backend/cuda/launch.h"

enum { ROWS = 4, ROW_THREADS = ROWS * WARP };

/* The row of this warp; N or more if the warp has none. */
static __device__ inline int64_t own_row() {
    return (int64_t)blockIdx.x * ROWS + threadIdx.x / WARP;
}

static dim3 row_blocks(int64_t N) {
    return dim3((unsigned)((N + ROWS - 1) / ROWS));
}

/* The maximum of elements `apart` from each other; NaN if one is NaN. */
static __device__ inline float row_max(const float *z, int64_t K, int64_t apart, int lane) {
    float m = -INFINITY;
    int nans = 0;
    for (int64_t k = lane; k < K; k += WARP) {
        float v = z[k * apart];
        nans |= v != v;
        m = v > m ? v : m;
    }
    return warp_sum(nans) ? NAN : warp_max(m);
}

/* The index of the maximum, the lowest of a tie, without class `without` (-1: none). -1 if one of
 * these elements is NaN. */
static __device__ inline int64_t row_argmax(const float *z, int64_t K, int64_t without, int lane) {
    int64_t best = -1;
    float value = 0;
    int nans = 0;
    for (int64_t k = lane; k < K; k += WARP) {
        float v = z[k];
        if (k == without) continue;
        nans |= v != v;
        if (best < 0 || v > value) best = k, value = v;
    }
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        int64_t other = __shfl_xor_sync(ALL_LANES, best, lanes);
        float v = __shfl_xor_sync(ALL_LANES, value, lanes);
        bool take = other >= 0 && (best < 0 || v > value || (v == value && other < best));
        if (take) best = other, value = v;
    }
    return warp_sum(nans) ? -1 : best;
}

/* log sum exp(z - m) in float, as frameworks do. */
static __device__ inline float row_log_sum(const float *z, int64_t K, int64_t apart, float m,
                                           int lane) {
    float sum = 0;
    for (int64_t k = lane; k < K; k += WARP) sum += expf(z[k * apart] - m);
    return logf(warp_sum(sum));
}

/* The same in double, by log1p over all but the maximum. When one class is nearly certain, its log
 * p is minus the sum of the others. */
static __device__ inline double row_log_rest(const float *z, int64_t K, int64_t apart, float m,
                                             int lane) {
    double rest = 0;
    int greatest = 0;
    for (int64_t k = lane; k < K; k += WARP) {
        if (z[k * apart] < m)
            rest += exp((double)z[k * apart] - (double)m);
        else
            greatest++;
    }
    rest = warp_sum(rest) + (double)(warp_sum(greatest) - 1);
    return isinf(m) ? NAN : log1p(rest);
}

/* log softmax. Its gradient is in float: beyond a margin of about 16.7, p_t rounds to 1 and p_t - 1
 * is exactly 0. */
static __device__ inline float ce_row(const float *z, int64_t t, int64_t K, float *dz, int lane) {
    float m = row_max(z, K, 1, lane), log_sum = row_log_sum(z, K, 1, m, lane);
    for (int64_t k = lane; k < K; k += WARP) {
        float d = -expf((z[k] - m) - log_sum);
        dz[k] = k == t ? d + 1.0f : d;
    }
    return (float)(((double)z[t] - (double)m) - row_log_rest(z, K, 1, m, lane));
}

/* The loss functions return the value of one row; each lane writes its own elements of the
 * gradient. p holds the parameters as in the loss's record. */
struct LossParameters {
    float p[LOSS_PARAMETERS];
};

struct CeLoss {
    static __device__ inline float row(const float *z, int64_t t, int64_t K, const LossParameters &,
                                       float *dz, int lane) {
        return ce_row(z, t, K, dz, lane);
    }
};

struct LogitLoss {
    static __device__ inline float row(const float *z, int64_t t, int64_t K, const LossParameters &,
                                       float *dz, int lane) {
        for (int64_t k = lane; k < K; k += WARP) dz[k] = k == t ? 1.0f : 0.0f;
        return z[t];
    }
};

struct MLogitLoss {
    static __device__ inline float row(const float *z, int64_t t, int64_t K,
                                       const LossParameters &with, float *dz, int lane) {
        int64_t other = row_argmax(z, K, t, lane);
        float margin = other < 0 ? NAN : z[t] - z[other], kappa = with.p[0];
        for (int64_t k = lane; k < K; k += WARP) {
            float d = margin <= kappa ? (k == t ? 1.0f : k == other ? -1.0f : 0.0f) : 0.0f;
            dz[k] = margin != margin ? NAN : d;
        }
        return margin > kappa ? kappa : margin;
    }
};

template <typename Loss>
static __global__ void loss(LossParameters with, const float *z, const int64_t *target, int64_t N,
                            int64_t K, float *value, float *dz) {
    int64_t n = own_row();
    int lane = threadIdx.x % WARP;
    if (n >= N) return;
    float v = Loss::row(z + n * K, target[n], K, with, dz + n * K, lane);
    if (lane == 0) value[n] = v;
}

template <typename Loss>
static cudaError_t run_loss(cudaStream_t s, const double *p, const float *z, const int64_t *target,
                            int64_t N, int64_t K, float *value, float *dz) {
    LossParameters with;
    if (N == 0) return cudaSuccess;
    for (int i = 0; i < LOSS_PARAMETERS; i++) with.p[i] = (float)p[i];
    return LAUNCH(loss<Loss>, row_blocks(N), ROW_THREADS, s, with, z, target, N, K, value, dz);
}

static const struct {
    const char *name;
    LossKernel run;
} own_losses[] = {
    {"ce", run_loss<CeLoss>}, {"logit", run_loss<LogitLoss>}, {"m_logit", run_loss<MLogitLoss>}};

LossKernel kernel_of_loss(const char *name) {
    for (size_t i = 0; i < sizeof own_losses / sizeof own_losses[0]; i++)
        if (strcmp(own_losses[i].name, name) == 0) return own_losses[i].run;
    return NULL;
}

/* In double and rounded once. The subspace follows from the rounded numbers (Definition IV.1). */
static __global__ void logit_stats(const float *z, const int64_t *initial, const int64_t *target,
                                   int64_t N, int64_t K, LogitStats out) {
    int64_t n = own_row();
    int lane = threadIdx.x % WARP;
    if (n >= N) return;
    const double tau = 0.9;
    const float *row = z + n * K;
    double m = (double)row_max(row, K, 1, lane), sum = 0;
    int infinite = 0;
    for (int64_t k = lane; k < K; k += WARP) infinite |= isinf(row[k]) != 0;
    if (warp_sum(infinite)) m = NAN;
    for (int64_t k = lane; k < K; k += WARP) sum += exp((double)row[k] - m);
    sum = warp_sum(sum);
    int64_t best = row_argmax(row, K, -1, lane), c = initial[n], t = target[n];
    if (lane) return;
    float p_best = (float)(1 / sum), p_target = (float)(exp((double)row[t] - m) / sum);
    out.p_initial[n] = (float)(exp((double)row[c] - m) / sum);
    out.p_target[n] = p_target;
    out.z_initial[n] = row[c];
    out.z_target[n] = row[t];
    out.prediction[n] = best;
    out.subspace[n] = (double)p_target >= tau ? 3 : best != t && (double)p_best >= tau ? 1 : 2;
}

cudaError_t kernel_logit_stats(cudaStream_t s, const float *z, const int64_t *initial,
                               const int64_t *target, int64_t N, int64_t K, const LogitStats *out) {
    if (N == 0) return cudaSuccess;
    LogitStats o = *out;
    return LAUNCH(logit_stats, row_blocks(N), ROW_THREADS, s, z, initial, target, N, K, o);
}

static __global__ void cross_entropy(const float *z, const int64_t *label, int64_t N, int64_t K,
                                     float *value, int64_t *correct, float *dz) {
    int64_t n = own_row();
    int lane = threadIdx.x % WARP;
    if (n >= N) return;
    float *d = dz + n * K, v = ce_row(z + n * K, label[n], K, d, lane);
    int64_t best = row_argmax(z + n * K, K, -1, lane);
    for (int64_t k = lane; k < K; k += WARP)
        d[k] = -d[k] / (float)N; /* each lane reads only elements it wrote itself */
    if (lane) return;
    value[n] = v;
    correct[n] = best == label[n];
}

cudaError_t kernel_cross_entropy(cudaStream_t s, const float *z, const int64_t *label, int64_t N,
                                 int64_t K, float *value, int64_t *correct, float *dz) {
    if (N == 0) return cudaSuccess;
    return LAUNCH(cross_entropy, row_blocks(N), ROW_THREADS, s, z, label, N, K, value, correct, dz);
}

/* --- rows of any tensor --- */

/* The first element of row i. */
static __device__ inline int64_t row_start(int64_t i, const RowShape &r) {
    return i / r.inner * r.K * r.inner + i % r.inner;
}

static __global__ void softmax(SoftmaxKind kind, const float *a, RowShape r, float *out) {
    int64_t i = own_row();
    int lane = threadIdx.x % WARP;
    if (i >= r.outer * r.inner) return;
    const float *row = a + row_start(i, r);
    float *to = out + row_start(i, r), m = row_max(row, r.K, r.inner, lane);
    double most = (double)m, sum = 0;
    if (kind == SOFTMAX_LOG) {
        double rest = row_log_rest(row, r.K, r.inner, m, lane);
        for (int64_t k = lane; k < r.K; k += WARP)
            to[k * r.inner] = (float)(((double)row[k * r.inner] - most) - rest);
        return;
    }
    if (kind == SOFTMAX_FLOAT) {
        float log_sum = row_log_sum(row, r.K, r.inner, m, lane);
        for (int64_t k = lane; k < r.K; k += WARP)
            to[k * r.inner] = expf((row[k * r.inner] - m) - log_sum);
        return;
    }
    for (int64_t k = lane; k < r.K; k += WARP) sum += exp((double)row[k * r.inner] - most);
    sum = warp_sum(sum);
    for (int64_t k = lane; k < r.K; k += WARP)
        to[k * r.inner] = (float)(exp((double)row[k * r.inner] - most) / sum);
}

cudaError_t kernel_softmax(cudaStream_t s, SoftmaxKind kind, const float *a, RowShape r,
                           float *out) {
    int64_t rows = r.outer * r.inner;
    if (rows == 0 || r.K == 0) return cudaSuccess;
    return LAUNCH(softmax, row_blocks(rows), ROW_THREADS, s, kind, a, r, out);
}

/* The term of one element in a row's sum. */
template <int OP> static __device__ inline double term_of(double v, double most) {
    switch (OP) {
    case REDUCE_ABS_SUM: return fabs(v);
    case REDUCE_NORM: return v * v;
    case REDUCE_LOGSUMEXP: return exp(v - most);
    default: return v;
    }
}

template <int OP> static __global__ void reduce(const float *a, RowShape r, float *out) {
    int64_t i = own_row();
    int lane = threadIdx.x % WARP;
    if (i >= r.outer * r.inner) return;
    const float *row = a + row_start(i, r);
    double most = OP == REDUCE_LOGSUMEXP ? -INFINITY : 0, sum = 0;
    if (OP == REDUCE_ABS_MAX || OP == REDUCE_LOGSUMEXP) {
        int nans = 0;
        for (int64_t k = lane; k < r.K; k += WARP) {
            double v = (double)row[k * r.inner];
            if (OP == REDUCE_ABS_MAX) v = fabs(v);
            nans |= v != v;
            most = v > most ? v : most;
        }
        most = warp_sum(nans) ? NAN : warp_max(most);
    }
    if (OP != REDUCE_ABS_MAX && !isinf(most))
        for (int64_t k = lane; k < r.K; k += WARP)
            sum += term_of<OP>((double)row[k * r.inner], most);
    sum = warp_sum(sum);
    if (OP == REDUCE_NORM) sum = sqrt(sum);
    if (OP == REDUCE_ABS_MAX) sum = most;
    if (OP == REDUCE_LOGSUMEXP) sum = isinf(most) ? most : most + log(sum);
    if (lane == 0) out[i] = (float)sum;
}

cudaError_t kernel_reduce(cudaStream_t s, ReduceOp op, const float *a, RowShape r, float *out) {
    int64_t rows = r.outer * r.inner;
    if (rows == 0) return cudaSuccess;
    dim3 grid = row_blocks(rows);
    switch (op) {
    case REDUCE_SUM: return LAUNCH(reduce<REDUCE_SUM>, grid, ROW_THREADS, s, a, r, out);
    case REDUCE_ABS_SUM: return LAUNCH(reduce<REDUCE_ABS_SUM>, grid, ROW_THREADS, s, a, r, out);
    case REDUCE_NORM: return LAUNCH(reduce<REDUCE_NORM>, grid, ROW_THREADS, s, a, r, out);
    case REDUCE_ABS_MAX: return LAUNCH(reduce<REDUCE_ABS_MAX>, grid, ROW_THREADS, s, a, r, out);
    case REDUCE_LOGSUMEXP: return LAUNCH(reduce<REDUCE_LOGSUMEXP>, grid, ROW_THREADS, s, a, r, out);
    default: return cudaErrorInvalidValue;
    }
}
