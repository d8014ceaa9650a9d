/* Elementwise operations: arithmetic, 8-bit images, and the optimisers. */
#include "backend/cuda/launch.h"

static __global__ void fill(float *out, float value, int64_t n) {
    EACH(i, n) out[i] = value;
}

cudaError_t kernel_fill(cudaStream_t s, float *out, float value, int64_t n) {
    return n ? LAUNCH(fill, blocks_for(n), THREADS, s, out, value, n) : cudaSuccess;
}

/* BinaryOp as defined in device.h. */
template <int OP> static __device__ inline float apply(float a, float b) {
    switch (OP) {
    case BINARY_ADD: return a + b;
    case BINARY_SUB: return a - b;
    case BINARY_MUL: return a * b;
    case BINARY_DIV: return a / b;
    case BINARY_MIN: return a < b || a != a ? a : b;
    case BINARY_MAX: return a > b || a != a ? a : b;
    case BINARY_POW: return powf(a, b);
    case BINARY_GREATER: return a > b ? 1.0f : 0.0f;
    case BINARY_AT_LEAST: return a >= b ? 1.0f : 0.0f;
    case BINARY_EQUAL: return a == b ? 1.0f : 0.0f;
    case BINARY_SHARE: return a > b ? 1.0f : a < b ? 0.0f : a == b ? 0.5f : NAN;
    default: return b != 0 ? a : 0.0f; /* BINARY_KEEP */
    }
}

/* If b is NULL, b_value takes its place. */
template <int OP>
static __global__ void binary(const float *a, const float *b, float b_value, float *out,
                              int64_t n) {
    EACH(i, n) out[i] = apply<OP>(a[i], b ? b[i] : b_value);
}

/* Calls DO(OP) with the compile-time constant of `op`. */
#define WITH_BINARY(op, DO)                                                                        \
    switch (op) {                                                                                  \
    case BINARY_ADD: return DO(BINARY_ADD);                                                        \
    case BINARY_SUB: return DO(BINARY_SUB);                                                        \
    case BINARY_MUL: return DO(BINARY_MUL);                                                        \
    case BINARY_DIV: return DO(BINARY_DIV);                                                        \
    case BINARY_MIN: return DO(BINARY_MIN);                                                        \
    case BINARY_MAX: return DO(BINARY_MAX);                                                        \
    case BINARY_POW: return DO(BINARY_POW);                                                        \
    case BINARY_GREATER: return DO(BINARY_GREATER);                                                \
    case BINARY_AT_LEAST: return DO(BINARY_AT_LEAST);                                              \
    case BINARY_EQUAL: return DO(BINARY_EQUAL);                                                    \
    case BINARY_SHARE: return DO(BINARY_SHARE);                                                    \
    case BINARY_KEEP: return DO(BINARY_KEEP);                                                      \
    default: return cudaErrorInvalidValue;                                                         \
    }

static cudaError_t run_binary(cudaStream_t s, BinaryOp op, const float *a, const float *b,
                              float value, float *out, int64_t n) {
    if (n == 0) return cudaSuccess;
    dim3 grid = blocks_for(n);
#define RUN(OP) LAUNCH(binary<OP>, grid, THREADS, s, a, b, value, out, n)
    WITH_BINARY(op, RUN)
#undef RUN
}

cudaError_t kernel_binary(cudaStream_t s, BinaryOp op, const float *a, const float *b, float *out,
                          int64_t n) {
    return run_binary(s, op, a, b, 0, out, n);
}

cudaError_t kernel_binary_scalar(cudaStream_t s, BinaryOp op, const float *a, float b, float *out,
                                 int64_t n) {
    return run_binary(s, op, a, NULL, b, out, n);
}

template <int OP>
static __global__ void broadcast(Broadcast b, const float *x, const float *y, float *out,
                                 int64_t n) {
    EACH(i, n) {
        int64_t rest = i, from_x = 0, from_y = 0;
        for (int d = b.ndim - 1; d >= 0; d--) {
            int64_t place = rest % b.shape[d];
            from_x += place * b.a[d];
            from_y += place * b.b[d];
            rest /= b.shape[d];
        }
        out[i] = apply<OP>(x[from_x], y[from_y]);
    }
}

cudaError_t kernel_broadcast(cudaStream_t s, BinaryOp op, const Broadcast *b, const float *x,
                             const float *y, float *out) {
    int64_t n = 1;
    Broadcast shape = *b;
    for (int i = 0; i < b->ndim; i++) n *= b->shape[i];
    if (n == 0) return cudaSuccess;
    dim3 grid = blocks_for(n);
#define RUN(OP) LAUNCH(broadcast<OP>, grid, THREADS, s, shape, x, y, out, n)
    WITH_BINARY(op, RUN)
#undef RUN
}

template <int OP> static __global__ void map(const float *a, float *out, int64_t n) {
    EACH(i, n) {
        float v = a[i];
        switch (OP) {
        case MAP_EXP: out[i] = expf(v); break;
        case MAP_LOG: out[i] = logf(v); break;
        case MAP_LOG1P: out[i] = log1pf(v); break;
        case MAP_TANH: out[i] = tanhf(v); break;
        default: out[i] = sqrtf(v); break;
        }
    }
}

cudaError_t kernel_map(cudaStream_t s, MapOp op, const float *a, float *out, int64_t n) {
    if (n == 0) return cudaSuccess;
    dim3 grid = blocks_for(n);
    switch (op) {
    case MAP_EXP: return LAUNCH(map<MAP_EXP>, grid, THREADS, s, a, out, n);
    case MAP_LOG: return LAUNCH(map<MAP_LOG>, grid, THREADS, s, a, out, n);
    case MAP_LOG1P: return LAUNCH(map<MAP_LOG1P>, grid, THREADS, s, a, out, n);
    case MAP_TANH: return LAUNCH(map<MAP_TANH>, grid, THREADS, s, a, out, n);
    case MAP_SQRT: return LAUNCH(map<MAP_SQRT>, grid, THREADS, s, a, out, n);
    default: return cudaErrorInvalidValue;
    }
}

static __global__ void clamp(const float *a, float low, float high, float *out, int64_t n) {
    EACH(i, n) {
        float v = a[i];
        v = v < low ? low : v;
        out[i] = v > high ? high : v;
    }
}

cudaError_t kernel_clamp(cudaStream_t s, const float *a, float low, float high, float *out,
                         int64_t n) {
    return n ? LAUNCH(clamp, blocks_for(n), THREADS, s, a, low, high, out, n) : cudaSuccess;
}

static __global__ void quantize(const float *a, float levels, float *out, int64_t n) {
    EACH(i, n) out[i] = rintf(a[i] * levels) / levels;
}

cudaError_t kernel_quantize(cudaStream_t s, const float *a, float levels, float *out, int64_t n) {
    return n ? LAUNCH(quantize, blocks_for(n), THREADS, s, a, levels, out, n) : cudaSuccess;
}

static __global__ void sign(const float *a, float *out, int64_t n) {
    EACH(i, n) {
        float v = a[i];
        out[i] = v > 0 ? 1.0f : v < 0 ? -1.0f : v == 0 ? 0.0f : v;
    }
}

cudaError_t kernel_sign(cudaStream_t s, const float *a, float *out, int64_t n) {
    return n ? LAUNCH(sign, blocks_for(n), THREADS, s, a, out, n) : cudaSuccess;
}

/* --- optimisers --- */

struct Sgd {
    float rate, momentum, decay, ahead, own;
};

static __global__ void sgd(Sgd k, float *p, const float *g, float *m, int64_t n) {
    EACH(i, n) {
        float d = g[i] + k.decay * p[i], moved = k.momentum * m[i] + d;
        m[i] = moved;
        p[i] -= k.rate * (k.own * d + k.ahead * moved);
    }
}

cudaError_t kernel_sgd(cudaStream_t s, const SgdStep *step, float *p, const float *g, float *m,
                       int64_t n) {
    float momentum = (float)step->momentum;
    Sgd k = {(float)step->rate, momentum, (float)step->weight_decay,
             step->nesterov ? momentum : 1.0f, step->nesterov ? 1.0f : 0.0f};
    return n ? LAUNCH(sgd, blocks_for(n), THREADS, s, k, p, g, m, n) : cudaSuccess;
}

struct Adam {
    float beta1, rest1, beta2, rest2, eps, rate, root, decay, keep;
};

static __global__ void adam(Adam k, float *p, const float *g, float *m, float *v, int64_t n) {
    EACH(i, n) {
        float d = g[i] + k.decay * p[i];
        float mean = k.beta1 * m[i] + k.rest1 * d, square = k.beta2 * v[i] + k.rest2 * (d * d);
        m[i] = mean;
        v[i] = square;
        p[i] = k.keep * p[i] - k.rate * (mean / (sqrtf(square) / k.root + k.eps));
    }
}

cudaError_t kernel_adam(cudaStream_t s, const AdamStep *a, float *p, const float *g, float *m,
                        float *v, int64_t n) {
    double correct1 = 1 - pow(a->beta1, (double)a->t), correct2 = 1 - pow(a->beta2, (double)a->t);
    Adam k;
    k.beta1 = (float)a->beta1, k.rest1 = (float)(1 - a->beta1);
    k.beta2 = (float)a->beta2, k.rest2 = (float)(1 - a->beta2);
    k.eps = (float)a->eps;
    k.rate = (float)(a->rate / correct1);
    k.root = (float)sqrt(correct2);
    k.decay = a->decoupled ? 0 : (float)a->weight_decay;
    k.keep = a->decoupled ? (float)(1 - a->rate * a->weight_decay) : 1;
    return n ? LAUNCH(adam, blocks_for(n), THREADS, s, k, p, g, m, v, n) : cudaSuccess;
}
