/* Maps and sums over dimensions: OP_MAP and OP_REDUCE of device/program.h. */
#include "backend/cuda/launch.h"

static __device__ inline float get(const void *p, Real real, int64_t i) {
    return real == REAL_F32 ? ((const float *)p)[i] : real_get((const Bf16 *)p + i);
}

static __device__ inline float softplus(float x) {
    return (x > 0 || x != x ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}

static __device__ inline float sigmoid(float x) {
    float e = expf(-fabsf(x));
    return x < 0 ? e / (1.0f + e) : 1.0f / (1.0f + e);
}

static __device__ float formula_step(const FormulaStep &s, const float *reg, const float *operand) {
    float a = reg[s.a], b = reg[s.b];
    switch (s.code) {
    case FORMULA_OPERAND: return operand[s.a];
    case FORMULA_CONSTANT: return s.constant;
    case FORMULA_ADD: return a + b;
    case FORMULA_SUB: return a - b;
    case FORMULA_MUL: return a * b;
    case FORMULA_DIV: return a / b;
    case FORMULA_MIN: return b != b ? b : a < b || a != a ? a : b;
    case FORMULA_MAX: return b != b ? b : a > b || a != a ? a : b;
    case FORMULA_NEG: return -a;
    case FORMULA_ABS: return fabsf(a);
    case FORMULA_SIGN: return a > 0 ? 1.0f : a < 0 ? -1.0f : 0.0f;
    case FORMULA_EXP: return expf(a);
    case FORMULA_LOG: return logf(a);
    case FORMULA_TANH: return tanhf(a);
    case FORMULA_ERF: return erff(a);
    case FORMULA_SQRT: return sqrtf(a);
    case FORMULA_SIGMOID: return sigmoid(a);
    case FORMULA_SOFTPLUS: return softplus(a);
    case FORMULA_POW: return powf(a, b);
    case FORMULA_FLOOR: return floorf(a);
    case FORMULA_GREATER: return a > b ? 1.0f : 0.0f;
    case FORMULA_AT_LEAST: return a >= b ? 1.0f : 0.0f;
    case FORMULA_EQUAL: return a == b ? 1.0f : 0.0f;
    case FORMULA_SELECT: return a != 0 ? b : reg[s.c];
    default: return 0;
    }
}

static __global__ void formula(FormulaArgs m, void *out, int64_t n) {
    EACH(i, n) {
        int64_t at[MAP_OPERANDS] = {0}, rest = i;
        float operand[MAP_OPERANDS], reg[FORMULA_STEPS];
        reg[0] = 0;
        for (int d = m.ndim - 1; d >= 0; d--) {
            int64_t k = rest % m.n[d];
            rest /= m.n[d];
            for (int j = 0; j < m.formula.operands; j++) at[j] += k * m.stride[j][d];
        }
        for (int j = 0; j < m.formula.operands; j++) operand[j] = get(m.in[j], m.real[j], at[j]);
        for (int k = 0; k < m.formula.n; k++)
            reg[k] = formula_step(m.formula.step[k], reg, operand);
        float y = reg[m.formula.n - 1];
        if (m.out == REAL_F32)
            real_put((float *)out + i, y);
        else
            real_put((Bf16 *)out + i, y);
    }
}

cudaError_t kernel_formula(cudaStream_t s, const FormulaArgs *m, void *out) {
    int64_t n = 1;
    for (int d = 0; d < m->ndim; d++) n *= m->n[d];
    return LAUNCH(formula, blocks_for(n), THREADS, s, *m, out, n);
}

static __device__ int64_t place(const int64_t *n, const int64_t *stride, int dims, int64_t i) {
    int64_t at = 0;
    for (int d = dims - 1; d >= 0; d--) {
        at += i % n[d] * stride[d];
        i /= n[d];
    }
    return at;
}

/* One warp per sum: lane l takes terms l, l + WARP, ... */
static __global__ void sum_over(SumArgs m, const void *x, void *out, int64_t sums, int64_t terms) {
    int64_t warps = (int64_t)gridDim.x * blockDim.x / WARP;
    int64_t warp = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP,
            lane = threadIdx.x % WARP;
    for (int64_t o = warp; o < sums; o += warps) {
        int64_t from = place(m.kept_n, m.kept_stride, m.kept, o);
        double sum = 0;
        for (int64_t i = lane; i < terms; i += WARP)
            sum += (double)get(x, m.in, from + place(m.over_n, m.over_stride, m.over, i));
        sum = warp_sum(sum);
        if (lane) continue;
        if (m.out == REAL_F32)
            real_put((float *)out + o, (float)(sum * m.scale));
        else
            real_put((Bf16 *)out + o, (float)(sum * m.scale));
    }
}

cudaError_t kernel_sum_over(cudaStream_t s, const SumArgs *m, const void *x, void *out) {
    int64_t sums = 1, terms = 1;
    for (int d = 0; d < m->kept; d++) sums *= m->kept_n[d];
    for (int d = 0; d < m->over; d++) terms *= m->over_n[d];
    return LAUNCH(sum_over, blocks_for(sums * WARP), THREADS, s, *m, x, out, sums, terms);
}
