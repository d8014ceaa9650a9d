/* The CPU device's own vector code: each instruction set that this processor has against scalar
 * references in double, and all of them, on any number of threads and at any alignment, against
 * each other bit for bit. */
#include <float.h>
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "backend/cpu/cpu.h"

static const int64_t sizes[] = {0, 1, 7, 8, 15, 16, 17, 33, 1000, 8191, 8192, 8193, 40001};
enum { SIZES = sizeof sizes / sizeof *sizes, MOST = 40001 };

static const CpuKernels *kernels;

/* Each test runs once per instruction set; its number is the test's state. */
static int choose(void **state) {
    CpuIsa isa = (CpuIsa)(intptr_t)*state;
    kernels = cpu_isa_present(isa) ? cpu_isa_kernels(isa) : NULL;
    omp_set_num_threads(2);
    return 0;
}

static void want_isa(void) {
    if (!kernels) skip();
}

/* n floats of stream `key` in [-1.5, 1.5), none of them 0, every 97th tiny or subnormal. */
static float *floats(uint64_t key, int64_t n) {
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        v[i] = (float)(3 * random_uniform(key, (uint64_t)i) - 1.5) + 1e-4f;
        if (i % 97 == 5) v[i] *= 1e-30f;
        if (i % 97 == 6) v[i] *= 1e-42f;
    }
    return v;
}

static bool same(float a, float b) {
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static void want_same(const char *what, int64_t i, float got, float wanted) {
    if (!same(got, wanted))
        fail_msg("%s %s: element %lld is %.9g, wanted %.9g", kernels->isa, what, (long long)i,
                 (double)got, (double)wanted);
}

static void want_near(const char *what, int64_t i, double got, double wanted, double relative) {
    if (!(fabs(got - wanted) <= relative * fabs(wanted)))
        fail_msg("%s %s: element %lld is %.17g, wanted %.17g", kernels->isa, what, (long long)i,
                 got, wanted);
}

static void want_within(const char *what, int64_t i, double got, double wanted, double distance) {
    if (!(fabs(got - wanted) <= distance))
        fail_msg("%s %s: element %lld is %.17g, wanted %.17g", kernels->isa, what, (long long)i,
                 got, wanted);
}

static float apply(BinaryOp op, float a, float b) {
    switch (op) {
    case BINARY_ADD: return (float)((double)a + (double)b);
    case BINARY_SUB: return (float)((double)a - (double)b);
    case BINARY_MUL: return (float)((double)a * (double)b);
    case BINARY_DIV: return (float)((double)a / (double)b);
    case BINARY_MIN: return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
    case BINARY_MAX: return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
    case BINARY_POW: return powf(a, b);
    case BINARY_GREATER: return a > b;
    case BINARY_AT_LEAST: return a >= b;
    case BINARY_EQUAL: return a == b;
    case BINARY_SHARE: return isnan(a) || isnan(b) ? NAN : (float)((a > b) + (a >= b)) / 2;
    case BINARY_KEEP: return b == 0 ? 0 : a;
    default: return -1;
    }
}

static void test_binary(void **state) {
    (void)state;
    want_isa();
    float *a = floats(1, MOST), *b = floats(2, MOST), *out = floats(3, MOST);
    a[3] = NAN, b[4] = NAN, a[5] = INFINITY, b[7] = 0;
    for (int s = 0; s < SIZES; s++)
        for (int op = 0; op < BINARY_OPS; op++) {
            int64_t n = sizes[s];
            out[n] = 12;
            kernels->binary((BinaryOp)op, a, b, out, n);
            for (int64_t i = 0; i < n; i++)
                want_same("binary", i, out[i], apply((BinaryOp)op, a[i], b[i]));
            kernels->binary_scalar((BinaryOp)op, a, 0.7f, out, n);
            for (int64_t i = 0; i < n; i++)
                want_same("binary_scalar", i, out[i], apply((BinaryOp)op, a[i], 0.7f));
            kernels->scalar_binary((BinaryOp)op, 0.7f, b, out, n);
            for (int64_t i = 0; i < n; i++)
                want_same("scalar_binary", i, out[i], apply((BinaryOp)op, 0.7f, b[i]));
            memcpy(out, a, (size_t)n * sizeof *out);
            kernels->binary((BinaryOp)op, out, out, out, n); /* in place */
            for (int64_t i = 0; i < n; i++)
                want_same("binary in place", i, out[i], apply((BinaryOp)op, a[i], a[i]));
            assert_true(out[n] == 12);
        }
    kernels->binary_scalar(BINARY_MIN, a, NAN, out, 20);
    for (int i = 0; i < 20; i++) assert_true(isnan(out[i]));
    memcpy(out, a, MOST * sizeof *out);
    kernels->add(out, b, MOST);
    for (int64_t i = 0; i < MOST; i++) want_same("add", i, out[i], apply(BINARY_ADD, a[i], b[i]));
    free(a), free(b), free(out);
}

/* The nearer of the two bf16 numbers around v, the even one of a tie. */
static float nearest_bf16(float v) {
    uint32_t bits, down, up;
    float low, high;
    memcpy(&bits, &v, sizeof v);
    down = bits & 0xffff0000U, up = down + 0x10000U;
    memcpy(&low, &down, sizeof low), memcpy(&high, &up, sizeof high);
    if (isinf(v)) return v;
    double past = fabs((double)v - (double)low), ahead = fabs((double)high - (double)v);
    if (isinf(high))
        ahead = fabs(ldexp(1, 128) - fabs((double)v)); /* where the next one would be */
    return past < ahead || (past == ahead && !(down & 0x10000U)) ? low : high;
}

static void test_bf16(void **state) {
    (void)state;
    want_isa();
    float *a = floats(31, MOST), *out = floats(3, MOST);
    const float special[] = {
        0,       -0.0f, INFINITY,  -INFINITY, FLT_MAX,    -FLT_MAX,      0x1p-133,      -0x3p-134,
        FLT_MIN, 1,     0x1.01p0F, 0x1.03p0F, -0x1.01p0F, 0x1.010002p0F, 0x1.00fffep0F, 3.38e38F};
    enum { SPECIAL = sizeof special / sizeof *special };
    for (int i = 0; i < SPECIAL; i++) a[i] = special[i];
    for (int s = 0; s < SIZES; s++) {
        int64_t n = sizes[s];
        out[n] = 12;
        kernels->round_bf16(a, out, n);
        for (int64_t i = 0; i < n; i++) want_same("round_bf16", i, out[i], nearest_bf16(a[i]));
        assert_true(out[n] == 12);
    }
    want_same("round_bf16", 10, out[10], 1);
    want_same("round_bf16", 11, out[11], 0x1.04p0F);
    /* NaN stays NaN, whatever its payload, which rounding up would carry into the sign. */
    uint32_t nans[] = {0x7fffffffU, 0xffffffffU, 0x7f800001U, 0x7fc00000U};
    memcpy(a, nans, sizeof nans);
    kernels->round_bf16(a, a, 4);
    for (int i = 0; i < 4; i++) assert_true(isnan(a[i]));
    free(a), free(out);
}

static void test_unary(void **state) {
    (void)state;
    want_isa();
    float *a = floats(1, MOST), *out = floats(3, MOST);
    a[1] = NAN, a[2] = 0, a[3] = -0.0f, a[4] = INFINITY, a[8] = -INFINITY;
    for (int s = 0; s < SIZES; s++) {
        int64_t n = sizes[s];
        out[n] = 12;
        kernels->clamp(a, -0.25f, 0.5f, out, n);
        for (int64_t i = 0; i < n; i++)
            want_same("clamp", i, out[i], a[i] < -0.25f ? -0.25f : a[i] > 0.5f ? 0.5f : a[i]);
        kernels->sign(a, out, n);
        for (int64_t i = 0; i < n; i++) {
            float wanted = isnan(a[i]) ? NAN : a[i] == 0 ? 0 : copysignf(1, a[i]);
            want_same("sign", i, out[i], wanted);
        }
        kernels->quantize(a, 255, out, n);
        for (int64_t i = 0; i < n; i++)
            want_same("quantize", i, out[i], nearbyintf(a[i] * 255) / 255);
        kernels->fill(out, 0.1f, n);
        for (int64_t i = 0; i < n; i++) want_same("fill", i, out[i], 0.1f);
        assert_true(out[n] == 12);
    }
    /* Halves go to the even level. */
    const float halves[] = {0.5f, 1.5f, 2.5f, 3.5f, -0.5f, -1.5f, -2.5f, 8388609.0f};
    const float evens[] = {0, 2, 2, 4, -0.0f, -2, -2, 8388609.0f};
    kernels->quantize(halves, 1, out, 8);
    for (int i = 0; i < 8; i++) want_same("quantize", i, out[i], evens[i]);
    free(a), free(out);
}

/* Reference of one image's norms, summed exactly enough in long double. */
static void reference_norms(const float *q, int64_t D, double *l2, double *linf, double *zeros) {
    long double sum = 0;
    *linf = 0, *zeros = 0;
    for (int64_t i = 0; i < D; i++) {
        sum += (long double)q[i] * (long double)q[i];
        *linf = fmax(*linf, fabs((double)q[i]));
        *zeros += q[i] == 0;
    }
    *l2 = (double)sqrtl(sum);
    if (D) *zeros /= (double)D;
}

static void test_norms(void **state) {
    (void)state;
    want_isa();
    enum { N = 3 };
    float *q = floats(4, N * MOST);
    KernelPartial *partial = malloc(kernel_partials(N, MOST) * sizeof *partial);
    for (int64_t i = 0; i < N * MOST; i += 5) q[i] = i % 2 ? 0.0f : -0.0f;
    for (int s = 0; s < SIZES; s++) {
        int64_t D = sizes[s];
        double l2[N], linf[N], zeros[N], wanted[3];
        kernels->norms(q, N, D, partial, l2, linf, zeros);
        for (int n = 0; n < N; n++) {
            reference_norms(q + n * D, D, &wanted[0], &wanted[1], &wanted[2]);
            want_near("l2", D, l2[n], wanted[0], 1e-13);
            want_near("linf", D, linf[n], wanted[1], 0);
            want_near("zero_share", D, zeros[n], wanted[2], 0);
        }
    }
    free(q), free(partial);
}

/* Gradients near 1e-23, whose float norm is 0, and subnormal ones have norms; NaN shows. */
static void test_norms_of_tiny_gradients(void **state) {
    (void)state;
    want_isa();
    enum { D = 1000 };
    float q[D];
    KernelPartial partial;
    double l2, linf, zeros;
    const float tiny[] = {1e-23f, 1e-44f, FLT_TRUE_MIN};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < D; i++) q[i] = i % 2 ? tiny[k] : -tiny[k];
        kernels->norms(q, 1, D, &partial, &l2, &linf, &zeros);
        want_near("l2", k, l2, sqrt(D) * (double)tiny[k], 1e-13);
        want_near("linf", k, linf, (double)tiny[k], 0);
        assert_true(zeros == 0);
    }
    memset(q, 0, sizeof q);
    q[D - 1] = FLT_TRUE_MIN;
    kernels->norms(q, 1, D, &partial, &l2, &linf, &zeros);
    assert_true(l2 == (double)FLT_TRUE_MIN && linf == l2 && zeros == 0.999);
    for (int at = 0; at < D; at += 37) {
        q[at] = NAN;
        kernels->norms(q, 1, D, &partial, &l2, &linf, &zeros);
        assert_true(isnan(l2) && isnan(linf));
        q[at] = 0;
    }
    q[D / 2] = -INFINITY;
    kernels->norms(q, 1, D, &partial, &l2, &linf, &zeros);
    assert_true(isinf(l2) && isinf(linf));
}

static void test_step(void **state) {
    (void)state;
    want_isa();
    enum { N = 3 };
    float *q = floats(5, N * MOST), *x = floats(6, N * MOST), *x0 = floats(7, N * MOST);
    float *before = malloc(N * MOST * sizeof *before);
    KernelPartial *partial = malloc(kernel_partials(N, MOST) * sizeof *partial);
    for (int64_t i = 0; i < N * MOST; i++) x[i] = x0[i] = (float)random_uniform(8, (uint64_t)i);
    const double a[N] = {0.3, 0, 1e-3 / 7};
    for (int s = 0; s < SIZES; s++) {
        int64_t D = sizes[s];
        double l2[N], linf[N];
        memcpy(before, x, N * MOST * sizeof *before);
        if (D) q[D] = NAN; /* of the image that does not move */
        kernels->step(x, q, a, x0, (Box){0}, N, D, partial, l2, linf);
        if (D) q[D] = 1;
        for (int n = 0; n < N; n++) {
            long double sum = 0;
            double most = 0;
            for (int64_t i = n * D; i < (n + 1) * D; i++) {
                double v = (double)before[i] + a[n] * (double)q[i];
                float wanted = a[n] == 0 ? before[i] : (float)fmin(fmax(v, 0), 1);
                want_same("step", i, x[i], wanted);
                double d = (double)wanted - (double)x0[i];
                sum += (long double)d * (long double)d;
                most = fmax(most, fabs(d));
            }
            want_near("step's l2", D, l2[n], (double)sqrtl(sum), 1e-13);
            want_near("step's linf", D, linf[n], most, 0);
        }
    }
    /* A tiny gradient and the large multiplier that its norm asks for. */
    double l2, linf, scale = 0.05 / (1e-23 * sqrt(100));
    for (int i = 0; i < 100; i++) x[i] = x0[i] = 0.5f, q[i] = 1e-23f;
    kernels->step(x, q, &scale, x0, (Box){0}, 1, 100, partial, &l2, &linf);
    want_near("step along a tiny gradient", 0, l2, 0.05, 1e-5);
    q[50] = NAN;
    kernels->step(x, q, &scale, x0, (Box){0}, 1, 100, partial, &l2, &linf);
    assert_true(isnan(x[50]) && isnan(l2) && isnan(linf));
    free(q), free(x), free(x0), free(before), free(partial);
}

/* Held to the ball, exactly: never further from x0 than the double that was asked for. */
static void test_project(void **state) {
    (void)state;
    want_isa();
    enum { N = 4 };
    float *x = malloc(N * MOST * sizeof *x), *x0 = malloc(N * MOST * sizeof *x);
    float *before = malloc(N * MOST * sizeof *before);
    const double scale[N] = {1, 0.3, 1, 0.7}, radius[N] = {0.1, INFINITY, INFINITY, 0.05};
    for (int s = 0; s < SIZES; s++) {
        int64_t D = sizes[s];
        for (int64_t i = 0; i < N * MOST; i++) {
            x[i] = (float)random_uniform(40, (uint64_t)i);
            x0[i] = (float)random_uniform(41, (uint64_t)i);
            if (i % 97 == 5) x0[i] = 0, x[i] = 1e-30f;
            if (i % 97 == 6) x0[i] = 1, x[i] = 0;
            if (i % 97 == 7) x0[i] = 0, x[i] = 1;
        }
        memcpy(before, x, N * MOST * sizeof *before);
        kernels->project(x, x0, scale, radius, N, D);
        for (int64_t i = 0; i < N * MOST; i++) {
            int n = D ? (int)(i / D) : N;
            if (n >= N || n == 2) { /* beyond the batch, and the image that is left as it is */
                want_same("project leaves", i, x[i], before[i]);
                continue;
            }
            double d = scale[n] * ((double)before[i] - (double)x0[i]);
            d = fmin(fmax(d, -radius[n]), radius[n]);
            double made = (double)x[i] - (double)x0[i];
            assert_true(fabs(made) <= fabs(d));
            want_within("project", i, made, d, 1.2e-7); /* a unit of the last place below 1 */
            if (scale[n] == 1 && fabs(d) < radius[n]) want_same("inside", i, x[i], before[i]);
        }
    }
    x[0] = NAN;
    kernels->project(x, x0, scale, radius, 1, 8);
    assert_true(isnan(x[0]));
    free(x), free(x0), free(before);
}

/* Adam in the space of tanh, one step from a state on its way, in double. */
static void test_tanh_step(void **state) {
    (void)state;
    want_isa();
    enum { N = 3 };
    float *x = malloc(N * MOST * sizeof *x), *before[4], *q = floats(43, N * MOST);
    float *w = floats(44, N * MOST), *m = floats(45, N * MOST), *v = floats(46, N * MOST);
    float *x0 = malloc(N * MOST * sizeof *x0);
    KernelPartial *partial = malloc(kernel_partials(N, MOST) * sizeof *partial);
    const AdamStep s = {.rate = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    const double c[N] = {0.5, 3, 1e4};
    const int64_t t[N] = {1, 0, 1000};
    for (int64_t i = 0; i < N * MOST; i++) {
        w[i] *= i % 11 == 3 ? 40 : 4; /* some far beyond what float can tell from 0 and 1 */
        v[i] = fabsf(v[i]);
        x[i] = (float)(1 / (1 + exp(-2 * (double)w[i])));
        x0[i] = (float)random_uniform(47, (uint64_t)i);
    }
    float *const now[4] = {x, w, m, v};
    for (int k = 0; k < 4; k++) before[k] = malloc(N * MOST * sizeof *before[k]);
    for (int size = 0; size < SIZES; size++) {
        int64_t D = sizes[size];
        double l2[N];
        for (int k = 0; k < 4; k++) memcpy(before[k], now[k], N * MOST * sizeof(float));
        TanhStep a = {.x = x, .w = w, .m = m, .v = v, .q = q, .x0 = x0, .c = c, .t = t, .l2 = l2};
        kernels->tanh_step(&s, &a, N, D, partial);
        for (int n = 0; n < N; n++) {
            long double sum = 0;
            for (int64_t i = n * D; i < (n + 1) * D; i++) {
                double was = (double)before[0][i], d = (double)x[i] - (double)x0[i];
                sum += (long double)d * (long double)d;
                if (t[n] == 0) {
                    for (int k = 0; k < 4; k++) want_same("stays", i, now[k][i], before[k][i]);
                    continue;
                }
                double part = 2 * (was - (double)x0[i]) - c[n] * (double)q[i];
                double g = part * 2 * was * (1 - was), scale = fabs(c[n] * (double)q[i]) + 2;
                double mean = 0.9 * (double)before[2][i] + 0.1 * g;
                double spread = 0.999 * (double)before[3][i] + 0.001 * g * g;
                want_within("tanh m", i, (double)m[i], mean, 2e-7 * (scale + fabs(mean) + 1));
                want_within("tanh v", i, (double)v[i], spread, 1e-6 * (spread + scale * scale));
                double moved = (double)m[i] / (1 - pow(0.9, (double)t[n]));
                moved /= sqrt((double)v[i] / (1 - pow(0.999, (double)t[n]))) + 1e-8;
                moved = (double)before[1][i] - 0.01 * moved;
                want_within("tanh w", i, (double)w[i], moved,
                            2e-7 * fabs(moved) + 1e-5 * fabs(moved - (double)before[1][i]));
                double y = 1 / (1 + exp(-2 * (double)w[i]));
                /* relative near 0, where tanh's space has its numbers */
                want_within("tanh x", i, (double)x[i], y, 3e-7 * y + 2e-38);
            }
            want_near("tanh l2", D, l2[n], (double)sqrtl(sum), 1e-13);
        }
    }
    double l2;
    w[5] = NAN;
    TanhStep a = {.x = x, .w = w, .m = m, .v = v, .q = q, .x0 = x0, .c = c, .t = t, .l2 = &l2};
    kernels->tanh_step(&s, &a, 1, 16, partial);
    assert_true(isnan(x[5]) && isnan(l2));
    for (int k = 0; k < 4; k++) free(before[k]);
    free(x), free(w), free(m), free(v), free(q), free(x0), free(partial);
}

/* In a box of its own for each element, below zero too; where it has no width nothing moves. */
static void test_boxes(void **state) {
    (void)state;
    want_isa();
    enum { D = 1003 };
    float *low = malloc(D * sizeof *low), *high = malloc(D * sizeof *high);
    float *x = malloc(D * sizeof *x), *x0 = malloc(D * sizeof *x0), *q = floats(61, D);
    float *w = floats(62, D), *m = calloc(D, sizeof *m), *v = calloc(D, sizeof *v);
    KernelPartial *partial = malloc(kernel_partials(1, D) * sizeof *partial);
    const double a = 2.5, c = 0.5, half = 0.5, radius = 0.01;
    const int64_t t = 1;
    double l2, linf;
    for (int i = 0; i < D; i++) {
        low[i] = -3 * (float)random_uniform(63, (uint64_t)i);
        high[i] = i % 7 == 3 ? low[i] : low[i] + 2 * (float)random_uniform(64, (uint64_t)i);
        x[i] = x0[i] = low[i] + (high[i] - low[i]) * (float)random_uniform(65, (uint64_t)i);
    }
    kernels->step(x, q, &a, x0, (Box){low, high}, 1, D, partial, &l2, &linf);
    for (int i = 0; i < D; i++) {
        double to = (double)x0[i] + a * (double)q[i];
        want_same("boxed step", i, x[i], (float)fmin(fmax(to, (double)low[i]), (double)high[i]));
    }
    kernels->project(x, x0, &half, &radius, 1, D);
    for (int i = 0; i < D; i++) {
        double d = fabs((double)x[i] - (double)x0[i]);
        assert_true(d <= radius && x[i] >= low[i] && x[i] <= high[i]);
    }
    const AdamStep s = {.rate = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    TanhStep step = {{low, high}, x, w, m, v, q, x0, &c, &t, &l2};
    float *before = malloc(D * sizeof *before);
    memcpy(before, w, D * sizeof *before);
    for (int i = 0; i < D; i++) x[i] = low[i] + (high[i] - low[i]) / (1 + expf(-2 * w[i]));
    float *was = malloc(D * sizeof *was);
    memcpy(was, x, D * sizeof *was);
    kernels->tanh_step(&s, &step, 1, D, partial);
    for (int i = 0; i < D; i++) {
        double width = (double)high[i] - (double)low[i], u = 1 / (1 + exp(-2 * (double)before[i]));
        double g =
            (2 * ((double)was[i] - (double)x0[i]) - c * (double)q[i]) * width * 2 * u * (1 - u);
        want_within("boxed tanh m", i, (double)m[i], 0.1 * g, 1e-6);
        double y = (double)low[i] + width / (1 + exp(-2 * (double)w[i]));
        want_within("boxed tanh x", i, (double)x[i], y, 1e-6);
        assert_true(x[i] >= low[i] && x[i] <= high[i]);
        if (width == 0) want_same("no width", i, w[i], before[i]);
    }
    free(low), free(high), free(x), free(x0), free(q), free(w), free(m), free(v), free(partial);
    free(before), free(was);
}

static void test_sgd(void **state) {
    (void)state;
    want_isa();
    enum { P = 1003, STEPS = 4 };
    for (int nesterov = 0; nesterov < 2; nesterov++) {
        SgdStep s = {.rate = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = nesterov};
        float *p = floats(10, P), *start = floats(10, P), *g = floats(9, P);
        float *m = calloc(P, sizeof *m);
        for (int t = 0; t < STEPS; t++) kernels->sgd(&s, p, g, m, P);
        for (int i = 0; i < P; i++) {
            double w = (double)start[i], momentum = 0;
            for (int t = 0; t < STEPS; t++) {
                double d = (double)g[i] + 0.01 * w;
                momentum = 0.9 * momentum + d;
                w -= 0.1 * (nesterov ? d + 0.9 * momentum : momentum);
            }
            want_within("sgd", i, (double)p[i], w, 3e-6);
        }
        free(p), free(start), free(g), free(m);
    }
}

static void test_adam(void **state) {
    (void)state;
    want_isa();
    enum { P = 1003, STEPS = 4 };
    for (int decoupled = 0; decoupled < 2; decoupled++) {
        AdamStep s = {.rate = 0.02,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .eps = 1e-8,
                      .weight_decay = 0.01,
                      .decoupled = decoupled};
        float *p = floats(10, P), *start = floats(10, P), *g = floats(9, P);
        float *m = calloc(P, sizeof *m), *v = calloc(P, sizeof *v);
        for (s.t = 1; s.t <= STEPS; s.t++) kernels->adam(&s, p, g, m, v, P);
        for (int i = 0; i < P; i++) {
            double w = (double)start[i], mean = 0, square = 0;
            for (int t = 1; t <= STEPS; t++) {
                double d = (double)g[i] + (decoupled ? 0 : 0.01 * w);
                mean = 0.9 * mean + 0.1 * d;
                square = 0.999 * square + 0.001 * d * d;
                if (decoupled) w -= 0.02 * 0.01 * w;
                w -=
                    0.02 * (mean / (1 - pow(0.9, t))) / (sqrt(square / (1 - pow(0.999, t))) + 1e-8);
            }
            /* A subnormal gradient's square is 0 in float, and eps decides. */
            if (fabs((double)g[i]) > 1e-4) want_within("adam", i, (double)p[i], w, 3e-6);
            assert_true(isfinite(p[i]));
        }
        free(p), free(start), free(g), free(m), free(v);
    }
}

static void test_channels(void **state) {
    (void)state;
    want_isa();
    const double mean[] = {0.485, 0.456, 0.406}, std[] = {0.229, 0.224, 0.225};
    const float scale[] = {0.229f, 0.224f, 0.225f};
    float *x = floats(11, 6 * MOST), *out = floats(12, 6 * MOST);
    for (int s = 0; s < SIZES; s++) {
        int64_t HW = sizes[s];
        kernels->normalize(x, mean, std, out, 2, 3, HW);
        for (int64_t i = 0; i < 6 * HW; i++) {
            int c = (int)(i / HW % 3);
            want_same("normalize", i, out[i], (float)(((double)x[i] - mean[c]) / std[c]));
        }
        kernels->scale_channels(out, scale, 2, 3, HW);
        for (int64_t i = 0; i < 6 * HW; i++) {
            int c = (int)(i / HW % 3);
            float was = (float)(((double)x[i] - mean[c]) / std[c]);
            want_same("scale_channels", i, out[i], was * scale[c]);
        }
    }
    free(x), free(out);
}

/* Channel c of image n at cell i of a blocked tensor. */
static int64_t blocked_at(int64_t n, int64_t c, int64_t i, int64_t C, int64_t cells, int64_t B) {
    int64_t blocks = (C + B - 1) / B;
    return ((n * blocks + c / B) * cells + i) * B + c % B;
}

/* The steps of batch norm against sums over a channel written out. */
static void want_batchnorm(int64_t N, int64_t C, int64_t cells, int64_t B) {
    int64_t channels = (C + B - 1) / B * B, all = N * channels * cells;
    float *x = calloc((size_t)all, sizeof *x), *y = floats(31, all), *from = floats(30, all);
    float *dy = calloc((size_t)all, sizeof *dy), *dx = floats(34, all);
    double *part = malloc((size_t)(2 * N * channels) * sizeof *part), count = (double)(N * cells);
    double zero[48] = {0}, sum[48], square[48], factor[48], shift[48], sums[48], products[48];
    for (int64_t c = 0; c < C; c++)
        for (int64_t i = 0; i < N * cells; i++) {
            int64_t at = blocked_at(i / cells, c, i % cells, C, cells, B);
            x[at] = from[at] / 8 + 100; /* far from 0, where a single pass in float would fail */
            dy[at] = from[all - 1 - at];
        }
    for (int64_t c = 0; c < channels; c++)
        factor[c] = (double)c / 7 - 2, shift[c] = 3.0 - (double)c;
    kernels->norm_moment(x, zero, 1, part, sum, N, C, cells, B);
    for (int64_t c = 0; c < channels; c++) sum[c] /= count;
    kernels->norm_moment(x, sum, 2, part, square, N, C, cells, B);
    kernels->norm_products(x, dy, sum, part, sums, products, N, C, cells, B);
    kernels->norm_apply(x, sum, factor, shift, y, N, C, cells, B);
    kernels->norm_back(x, dy, sum, factor, shift, products, dx, N, C, cells, B);
    for (int64_t c = 0; c < channels; c++) {
        double m = 0, v = 0, s = 0, p = 0, size = 1e-300;
        for (int64_t i = 0; i < N * cells; i++)
            m += (double)x[blocked_at(i / cells, c, i % cells, C, cells, B)] / count;
        for (int64_t i = 0; i < N * cells; i++) {
            int64_t at = blocked_at(i / cells, c, i % cells, C, cells, B);
            double d = (double)x[at] - m, g = (double)dy[at];
            v += d * d, s += g, p += g * d, size += fabs(g * d);
        }
        want_within("batch mean", c, sum[c], m, 1e-13 * fabs(m));
        want_within("sum of squares", c, square[c], v, 1e-12 * v);
        want_within("sum of dy", c, sums[c], s, 1e-13 * count);
        want_within("sum of products", c, products[c], p, 1e-11 * size);
        for (int64_t i = 0; i < N * cells; i++) {
            int64_t at = blocked_at(i / cells, c, i % cells, C, cells, B);
            double d = (double)x[at] - sum[c], wanted = d * factor[c] + shift[c];
            /* within half a unit of the wanted value's last place, and a hair */
            assert_true(fabs((double)y[at] - wanted) <= 6.1e-8 * fabs(wanted) + 1e-11);
            wanted = ((double)dy[at] - shift[c] - d * products[c]) * factor[c];
            assert_true(fabs((double)dx[at] - wanted) <= 6.1e-8 * fabs(wanted) + 1e-11);
        }
    }
    free(x), free(y), free(from), free(dy), free(dx), free(part);
}

static void test_batchnorm(void **state) {
    (void)state;
    want_isa();
    static const int64_t blocks[] = {1, 8, 16};
    for (int b = 0; b < 3; b++) {
        want_batchnorm(1, 3, 5, blocks[b]);
        want_batchnorm(2, 16, 1, blocks[b]);
        want_batchnorm(3, 37, 49, blocks[b]);
        want_batchnorm(8, 40, 961, blocks[b]);
    }
}

/* relu and relu_save: NaN stays NaN, and all that is not above 0 becomes +0. */
static void want_relu(const float *x, float cap, int64_t n, const uint8_t *mask) {
    float *y = malloc(MOST * sizeof *y), *saved = malloc(MOST * sizeof *saved);
    uint8_t *bits = malloc(MOST / 8 + 1);
    int64_t whole = n / 8 * 8;
    memcpy(saved, x, MOST * sizeof *saved);
    kernels->relu(x, cap, y, n);
    kernels->relu_save(saved, cap, saved, bits, whole);
    for (int64_t i = 0; i < n; i++) {
        float wanted = x[i] <= 0 ? 0 : x[i] > cap ? cap : x[i];
        want_same("relu", i, y[i], wanted);
        want_same("relu_save", i, saved[i], i < whole ? wanted : x[i]);
    }
    assert_memory_equal(bits, mask, (size_t)whole / 8);
    free(y), free(saved), free(bits);
}

static void test_masks(void **state) {
    (void)state;
    want_isa();
    float *y = floats(13, MOST), *g = floats(14, MOST), *got = malloc(MOST * sizeof *got);
    uint8_t *bits = malloc(MOST / 8 + 1);
    y[0] = 0, y[1] = -0.0f, y[2] = NAN, y[3] = FLT_TRUE_MIN, y[4] = 1, y[5] = nextafterf(1, 0);
    y[9] = INFINITY, g[2] = NAN, g[8] = -INFINITY, g[10] = NAN;
    for (int s = 0; s < SIZES; s++)
        for (int capped = 0; capped < 2; capped++) {
            int64_t n = sizes[s] / 8 * 8;
            float cap = capped ? 1 : INFINITY;
            bits[n / 8] = 0xa5;
            kernels->relu_mask(y, cap, bits, n);
            assert_int_equal(bits[n / 8], 0xa5);
            memcpy(got, g, MOST * sizeof *got);
            kernels->apply_mask(got, bits, n);
            for (int64_t i = 0; i < MOST; i++) {
                bool open = i >= n || isnan(y[i]) || (y[i] > 0 && y[i] < cap);
                if (i < n) assert_int_equal(bits[i / 8] >> (i % 8) & 1, open);
                want_same("apply_mask", i, got[i], open ? g[i] : 0);
            }
            want_relu(y, cap, sizes[s], bits);
        }
    free(y), free(g), free(got), free(bits);
}

/* Values of few kinds, so that windows have ties, and NaN and infinities among them. */
static float pooled(int64_t i) {
    static const float kinds[] = {0, -0.0f, 1, 1, 2, -1, -INFINITY, 0.5f};
    uint64_t draw = random_bits(31, (uint64_t)i);
    return draw % 61 == 0 ? NAN : draw % 67 == 1 ? INFINITY : kinds[draw / 128 % 8];
}

/* One window of channel b as the definition has it: the place of the first of the largest, or of
 * the last NaN. */
static int64_t winner_of(const PoolShape *s, const float *plane, int64_t i, int64_t j, int64_t b) {
    int64_t place = -1;
    float best = 0;
    for (int64_t r = 0; r < s->kernel[0]; r++)
        for (int64_t q = 0; q < s->kernel[1]; q++) {
            int64_t h = i * s->stride[0] - s->pad[0] + r, w = j * s->stride[1] - s->pad[1] + q;
            if (h < 0 || w < 0 || h >= s->H || w >= s->W) continue;
            float x = plane[(h * s->W + w) * s->B + b];
            if (place >= 0 && !(x > best) && !isnan(x)) continue;
            best = x;
            place = r * s->kernel[1] + q;
        }
    return place;
}

static void want_maxpool(const PoolShape *s) {
    int64_t in = s->planes * s->H * s->W * s->B, out = s->planes * s->OH * s->OW * s->B;
    float *x = malloc((size_t)in * sizeof *x), *dx = malloc((size_t)in * sizeof *dx);
    float *y = malloc((size_t)out * sizeof *y), *dy = floats(32, out);
    double *wanted = calloc((size_t)in, sizeof *wanted);
    uint16_t *winner = malloc((size_t)out * sizeof *winner);
    for (int64_t i = 0; i < in; i++) x[i] = pooled(i);
    kernels->maxpool(s, x, y, winner);
    for (int64_t o = 0; o < out; o++) {
        int64_t b = o % s->B, j = o / s->B % s->OW, i = o / s->B / s->OW % s->OH;
        const float *plane = x + o / s->B / s->OW / s->OH * s->H * s->W * s->B;
        int64_t place = winner_of(s, plane, i, j, b);
        int64_t h = i * s->stride[0] - s->pad[0] + place / s->kernel[1];
        int64_t w = j * s->stride[1] - s->pad[1] + place % s->kernel[1];
        int64_t at = (plane - x) + (h * s->W + w) * s->B + b;
        assert_int_equal(winner[o], place);
        want_same("maxpool", o, y[o], x[at]);
        wanted[at] += (double)dy[o];
    }
    kernels->maxpool_data(s, dy, winner, dx);
    for (int64_t i = 0; i < in; i++)
        if (!(fabs((double)dx[i] - wanted[i]) <= 1e-6))
            fail_msg("%s maxpool_data: element %lld is %.9g, wanted %.9g", kernels->isa,
                     (long long)i, (double)dx[i], wanted[i]);
    float *again = malloc((size_t)out * sizeof *again);
    kernels->maxpool(s, x, again, NULL);
    assert_memory_equal(again, y, (size_t)out * sizeof *y);
    free(again);
    free(x), free(dx), free(y), free(dy), free(wanted), free(winner);
}

static void test_maxpool(void **state) {
    (void)state;
    want_isa();
    /* planes B H W OH OW kernel stride pad */
    static const PoolShape shapes[] = {{3, 8, 13, 12, 7, 6, {3, 3}, {2, 2}, {1, 1}, false},
                                       {2, 16, 8, 8, 4, 4, {2, 2}, {2, 2}, {0, 0}, false},
                                       {1, 8, 9, 10, 9, 5, {3, 2}, {1, 2}, {1, 0}, false},
                                       {1, 16, 40, 30, 1, 1, {40, 30}, {1, 1}, {0, 0}, false},
                                       {2, 8, 11, 11, 3, 3, {2, 2}, {4, 4}, {0, 0}, false}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) want_maxpool(&shapes[i]);
}

/* Against sums in double, where cells divide the image and where they overlap; added to what is
 * there and not. */
static void want_average(const PoolShape *s, bool add) {
    int64_t in = s->planes * s->H * s->W * s->B, out = s->planes * s->OH * s->OW * s->B;
    float *x = floats(33, in), *dx = floats(34, in), *y = floats(35, out), *dy = floats(36, out);
    double *wanted = calloc((size_t)in, sizeof *wanted);
    for (int64_t i = 0; i < in && add; i++) wanted[i] = (double)dx[i];
    kernels->average(s, x, y);
    for (int64_t o = 0; o < out; o++) {
        int64_t b = o % s->B, j = o / s->B % s->OW, i = o / s->B / s->OW % s->OH;
        int64_t plane = o / s->B / s->OW / s->OH * s->H * s->W, h1, w1;
        int64_t h0 = i * s->H / s->OH, w0 = j * s->W / s->OW;
        h1 = ((i + 1) * s->H + s->OH - 1) / s->OH, w1 = ((j + 1) * s->W + s->OW - 1) / s->OW;
        double sum = 0, count = (double)((h1 - h0) * (w1 - w0));
        for (int64_t h = h0; h < h1; h++)
            for (int64_t w = w0; w < w1; w++) {
                int64_t at = (plane + h * s->W + w) * s->B + b;
                sum += (double)x[at];
                wanted[at] += (double)dy[o] / count;
            }
        want_within("average", o, (double)y[o], sum / count, 1e-6);
    }
    kernels->average_data(s, dy, add, dx);
    for (int64_t i = 0; i < in; i++) want_within("average_data", i, (double)dx[i], wanted[i], 1e-6);
    free(x), free(dx), free(y), free(dy), free(wanted);
}

static void test_average(void **state) {
    (void)state;
    want_isa();
    static const int64_t grids[][4] = {{7, 7, 1, 1},  {56, 55, 1, 1}, {12, 8, 3, 2},
                                       {7, 10, 3, 4}, {5, 5, 5, 5},   {2, 3, 5, 7}};
    static const int64_t blocks[] = {1, 3, 8, 16, 21, 40};
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++)
        for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
            const int64_t *n = grids[i];
            PoolShape s = {
                .planes = 3, .B = blocks[b], .H = n[0], .W = n[1], .OH = n[2], .OW = n[3]};
            want_average(&s, false);
            want_average(&s, true);
        }
}

/* Everything whose order of operations could differ, into one digest. */
static uint64_t digest(const CpuKernels *k, int threads, int offset) {
    enum { N = 3, D = 20011 };
    omp_set_num_threads(threads);
    float *memory[5], *v[5];
    for (int i = 0; i < 5; i++) {
        float *made = floats(20 + (uint64_t)i, N * D);
        memory[i] = malloc((N * D + 16) * sizeof(float));
        v[i] = memory[i] + offset;
        memcpy(v[i], made, N * D * sizeof(float));
        free(made);
    }
    KernelPartial *partial = malloc(kernel_partials(N, D) * sizeof *partial);
    double f[5][N], a[N] = {0.1, 0.7, 0.3};
    k->norms(v[0], N, D, partial, f[0], f[1], f[2]);
    k->clamp(v[1], 0, 1, v[1], N * D);
    k->step(v[1], v[0], a, v[2], (Box){0}, N, D, partial, f[3], f[4]);
    SgdStep sgd = {.rate = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true};
    k->sgd(&sgd, v[2], v[0], v[3], N * D);
    AdamStep adam = {.rate = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .t = 3};
    k->binary(BINARY_MUL, v[4], v[4], v[4], N * D);
    k->adam(&adam, v[2], v[0], v[3], v[4], N * D);
    k->quantize(v[0], 255, v[0], N * D);
    double ones[N] = {1, 0.5, 0.9}, radii[N] = {0.2, INFINITY, 0.1}, tanh_l2[N];
    int64_t turn[N] = {1, 7, 300};
    TanhStep tanh_step = {.x = v[1],
                          .w = v[2],
                          .m = v[3],
                          .v = v[4],
                          .q = v[0],
                          .x0 = v[1],
                          .c = ones,
                          .t = turn,
                          .l2 = tanh_l2};
    k->tanh_step(&adam, &tanh_step, N, D, partial);
    k->clamp(v[0], 0, 1, v[0], N * D);
    k->project(v[1], v[0], ones, radii, N, D);
    for (int n = 0; n < N; n++) f[4][n] += tanh_l2[n];
    k->round_bf16(v[3], v[3], N * D);
    k->relu_mask(v[3], INFINITY, (uint8_t *)v[4], N * D / 8 * 8);
    k->apply_mask(v[2], (uint8_t *)v[4], N * D / 8 * 8);
    PoolShape average = {N, 16, 35, 35, 18, 18, {3, 3}, {2, 2}, {1, 1, 1, 1}, true};
    k->avgwindow(&average, v[2], v[4]);
    k->avgwindow_data(&average, v[4], v[0]);
    PoolShape adaptive = {.planes = N, .B = 16, .H = 35, .W = 35, .OH = 6, .OW = 1};
    k->average(&adaptive, v[2], v[4]);
    k->average_data(&adaptive, v[4], true, v[0]);
    MoveShape turn_round = {3, {N, 100, 200}, {D, 1, 100}, {D, 200, 1}, 0, 0};
    k->move(&turn_round, v[2], v[3], true);
    uint64_t hash = random_hash(RANDOM_EMPTY, f, sizeof f);
    for (int i = 0; i < 5; i++) hash = random_hash(hash, v[i], N * D * sizeof(float));
    for (int i = 0; i < 5; i++) free(memory[i]);
    free(partial);
    return hash;
}

static void test_same_bits(void **state) {
    (void)state;
    want_isa();
    uint64_t wanted = digest(cpu_isa_kernels(CPU_X86_64), 1, 0);
    for (int threads = 1; threads <= 3; threads++)
        for (int offset = 0; offset < 4; offset++)
            if (digest(kernels, threads, offset) != wanted)
                fail_msg("%s: other bits on %d threads at offset %d", kernels->isa, threads,
                         offset);
    omp_set_num_threads(2);
}

/* An image's figures do not depend on its neighbours or its place. */
static void test_neighbours(void **state) {
    (void)state;
    want_isa();
    enum { N = 4, D = 9001 };
    float *q = floats(15, N * D);
    KernelPartial *partial = malloc(kernel_partials(N, D) * sizeof *partial);
    double all[3][N], alone[3];
    kernels->norms(q, N, D, partial, all[0], all[1], all[2]);
    for (int n = 0; n < N; n++) {
        kernels->norms(q + n * D, 1, D, partial, &alone[0], &alone[1], &alone[2]);
        for (int k = 0; k < 3; k++) assert_true(all[k][n] == alone[k]);
    }
    free(q), free(partial);
}

/* The environment chooses, and a name that it does not know is refused. */
static void test_choice(void **state) {
    (void)state;
    Error e;
    CpuIsa isa;
    setenv("ADVRT_ISA", "x86-64", 1);
    assert_int_equal(cpu_isa_choose(&isa, &e), 0);
    assert_int_equal(isa, CPU_X86_64);
    setenv("ADVRT_ISA", "avx9", 1);
    assert_int_equal(cpu_isa_choose(&isa, &e), -1);
    assert_string_equal(e.text, "ADVRT_ISA=avx9: must be x86-64, avx2 or avx512");
    for (int i = 0; i < CPU_ISAS; i++) {
        setenv("ADVRT_ISA", cpu_isa_kernels((CpuIsa)i)->isa, 1);
        assert_int_equal(cpu_isa_choose(&isa, &e), cpu_isa_present((CpuIsa)i) ? 0 : -1);
        if (!cpu_isa_present((CpuIsa)i)) assert_non_null(strstr(e.text, "does not have it"));
    }
    unsetenv("ADVRT_ISA");
    assert_int_equal(cpu_isa_choose(&isa, &e), 0);
    assert_true(cpu_isa_present(isa));
    Device *d;
    assert_int_equal(cpu_device(-1, &d, &e), -1);
    assert_int_equal(cpu_device(0, &d, &e), 0);
    int threads = ((CpuDevice *)d)->threads;
    assert_true(threads >= 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    assert_int_equal(cpu_threads_default(), 1);
    unsetenv("OMP_NUM_THREADS");
    assert_int_equal(cpu_threads_default(), threads);
}

#define ISAS(test)                                                                                 \
    {"x86-64 " #test, test, choose, NULL, (void *)CPU_X86_64},                                     \
        {"avx2 " #test, test, choose, NULL, (void *)CPU_AVX2}, {                                   \
        "avx512 " #test, test, choose, NULL, (void *)CPU_AVX512                                    \
    }

int main(void) {
    unsetenv("ADVRT_ISA");
    unsetenv("OMP_NUM_THREADS");
    const struct CMUnitTest tests[] = {
        ISAS(test_binary),
        ISAS(test_unary),
        ISAS(test_bf16),
        ISAS(test_norms),
        ISAS(test_norms_of_tiny_gradients),
        ISAS(test_step),
        ISAS(test_project),
        ISAS(test_tanh_step),
        ISAS(test_boxes),
        ISAS(test_sgd),
        ISAS(test_adam),
        ISAS(test_channels),
        ISAS(test_batchnorm),
        ISAS(test_masks),
        ISAS(test_maxpool),
        ISAS(test_average),
        ISAS(test_same_bits),
        ISAS(test_neighbours),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
