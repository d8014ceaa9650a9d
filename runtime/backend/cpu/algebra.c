/* The operations of autograd: functions of one operand, broadcasting, reductions, selections and
 * products. Logits and images are small beside the network's work. So these are plain loops over
 * rows, with the C library's functions and sums in double. Elementwise work on two operands uses
 * the vector code. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"

/* SERIAL: with fewer elements, threads cost more than they save. */
enum { SERIAL = 16384, LANES = 8 };

#define EACH                                                                                       \
    _Pragma("omp parallel for schedule(static) if (n > SERIAL)") for (int64_t i = 0; i < n; i++)

int cpu_map(Device *d, MapOp op, const float *a, float *out, int64_t n, Error *e) {
    (void)d, (void)e;
    switch (op) {
    case MAP_EXP: EACH out[i] = expf(a[i]); break;
    case MAP_LOG: EACH out[i] = logf(a[i]); break;
    case MAP_LOG1P: EACH out[i] = log1pf(a[i]); break;
    case MAP_TANH: EACH out[i] = tanhf(a[i]); break;
    case MAP_SQRT: EACH out[i] = sqrtf(a[i]); break;
    default: break;
    }
    return 0;
}

int cpu_broadcast(Device *d, BinaryOp op, const Broadcast *s, const float *a, const float *b,
                  float *out, Error *e) {
    (void)e;
    const CpuKernels *k = cpu_kernels();
    (void)d;
    int last = s->ndim - 1;
    int64_t place[DEVICE_DIMS] = {0}, n = s->shape[last], runs = 1;
    for (int i = 0; i < last; i++) runs *= s->shape[i];
    for (int64_t run = 0; run < runs && n > 0; run++, out += n) {
        if (s->a[last] && s->b[last])
            k->binary(op, a, b, out, n);
        else if (s->a[last])
            k->binary_scalar(op, a, *b, out, n);
        else
            k->scalar_binary(op, *a, b, out, n);
        for (int i = last - 1; i >= 0; i--) {
            a += s->a[i];
            b += s->b[i];
            if (++place[i] < s->shape[i]) break;
            a -= s->a[i] * s->shape[i];
            b -= s->b[i] * s->shape[i];
            place[i] = 0;
        }
    }
    return 0;
}

/* Sums in a fixed number of lanes, so that one addition does not wait for the last. */
#define ROW_SUM(TERM)                                                                              \
    double lane[LANES] = {0}, all = 0;                                                             \
    int64_t k = 0;                                                                                 \
    for (; k + LANES <= K; k += LANES)                                                             \
        for (int l = 0; l < LANES; l++) {                                                          \
            double v = (double)a[(k + l) * apart];                                                 \
            lane[l] += TERM;                                                                       \
        }                                                                                          \
    for (int l = 0; k < K; k++, l++) {                                                             \
        double v = (double)a[k * apart];                                                           \
        lane[l] += TERM;                                                                           \
    }                                                                                              \
    for (int l = 0; l < LANES; l++) all += lane[l];                                                \
    return all

static double row_sum(const float *a, int64_t K, int64_t apart) {
    ROW_SUM(v);
}

static double row_abs_sum(const float *a, int64_t K, int64_t apart) {
    ROW_SUM(fabs(v));
}

static double row_norm(const float *a, int64_t K, int64_t apart) {
    ROW_SUM(v * v);
}

/* NaN if an element is NaN. */
static double row_abs_max(const float *a, int64_t K, int64_t apart) {
    double most = 0;
    for (int64_t k = 0; k < K; k++) {
        double v = fabs((double)a[k * apart]);
        if (v > most || isnan(v)) most = v;
    }
    return most;
}

static double row_logsumexp(const float *a, int64_t K, int64_t apart) {
    double most = -INFINITY, sum = 0;
    for (int64_t k = 0; k < K; k++) {
        double v = (double)a[k * apart];
        if (v > most || isnan(v)) most = v;
    }
    if (isinf(most)) return most;
    for (int64_t k = 0; k < K; k++) sum += exp((double)a[k * apart] - most);
    return most + log(sum);
}

int cpu_reduce(Device *d, ReduceOp op, const float *a, RowShape r, float *out, Error *e) {
    (void)d, (void)e;
    int64_t rows = r.outer * r.inner;
#pragma omp parallel for schedule(static) if (rows * r.K > SERIAL)
    for (int64_t i = 0; i < rows; i++) {
        const float *row = a + i / r.inner * r.K * r.inner + i % r.inner;
        double v = 0;
        switch (op) {
        case REDUCE_SUM: v = row_sum(row, r.K, r.inner); break;
        case REDUCE_ABS_SUM: v = row_abs_sum(row, r.K, r.inner); break;
        case REDUCE_NORM: v = sqrt(row_norm(row, r.K, r.inner)); break;
        case REDUCE_ABS_MAX: v = row_abs_max(row, r.K, r.inner); break;
        case REDUCE_LOGSUMEXP: v = row_logsumexp(row, r.K, r.inner); break;
        default: break;
        }
        out[i] = (float)v;
    }
    return 0;
}

static bool before(float a, float b) {
    return a > b || (isnan(a) && !isnan(b));
}

/* Keeps the k largest elements so far, in order, `apart` from each other. */
static void top_row(const float *a, int64_t K, int64_t apart, int64_t k, float *value,
                    int64_t *index) {
    for (int64_t i = 0; i < K; i++) {
        float v = a[i * apart];
        int64_t kept = i < k ? i : k, at = kept;
        while (at > 0 && before(v, value[(at - 1) * apart])) at--;
        if (at == k) continue;
        for (int64_t j = kept < k ? kept : k - 1; j > at; j--) {
            value[j * apart] = value[(j - 1) * apart];
            index[j * apart] = index[(j - 1) * apart];
        }
        value[at * apart] = v;
        index[at * apart] = i;
    }
}

int cpu_top(Device *d, const float *a, RowShape r, int64_t k, float *value, int64_t *index,
            Error *e) {
    (void)d, (void)e;
    int64_t rows = r.outer * r.inner;
#pragma omp parallel for schedule(static) if (rows * r.K > SERIAL)
    for (int64_t i = 0; i < rows; i++) {
        int64_t outer = i / r.inner, inner = i % r.inner, to = outer * k * r.inner + inner;
        top_row(a + outer * r.K * r.inner + inner, r.K, r.inner, k, value + to, index + to);
    }
    return 0;
}

int cpu_gather(Device *d, bool others, const float *a, const int64_t *index, RowShape r, int64_t J,
               float *out, Error *e) {
    (void)d, (void)e;
    int64_t rows = r.outer * r.inner, apart = r.inner;
#pragma omp parallel for schedule(static) if (rows * J > SERIAL)
    for (int64_t i = 0; i < rows; i++) {
        int64_t outer = i / apart, inner = i % apart, to = outer * J * apart + inner;
        const float *row = a + outer * r.K * apart + inner;
        for (int64_t j = 0; j < J; j++) {
            int64_t k = others ? j + (j >= index[i]) : index[to + j * apart];
            out[to + j * apart] = row[k * apart];
        }
    }
    return 0;
}

int cpu_scatter(Device *d, bool others, const float *dy, const int64_t *index, RowShape r,
                int64_t J, float *da, Error *e) {
    (void)d, (void)e;
    int64_t rows = r.outer * r.inner, apart = r.inner;
#pragma omp parallel for schedule(static) if (rows * r.K > SERIAL)
    for (int64_t i = 0; i < rows; i++) {
        int64_t outer = i / apart, inner = i % apart, from = outer * J * apart + inner;
        float *row = da + outer * r.K * apart + inner;
        for (int64_t k = 0; k < r.K; k++) row[k * apart] = 0;
        for (int64_t j = 0; j < J; j++) {
            int64_t k = others ? j + (j >= index[i]) : index[from + j * apart];
            row[k * apart] += dy[from + j * apart];
        }
    }
    return 0;
}

int cpu_matmul(Device *d, MatmulKind kind, const float *a, const float *b, float *out, int64_t M,
               int64_t K, int64_t N, Error *e) {
    (void)e;
    const CpuKernels *k = cpu_kernels();
    (void)d;
    switch (kind) {
    case MATMUL_NN: k->linear_data(a, b, out, M, N, K); break;
    case MATMUL_NT: k->linear(a, b, NULL, out, M, K, N); break;
    case MATMUL_TN: k->linear_weights(a, b, out, NULL, K, N, M); break;
    default: break;
    }
    return 0;
}
