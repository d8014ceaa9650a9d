/* The CPU device's own convolutions against the double reference: every kernel that this processor
 * can run, and the sixteen-lane form on AVX2, which has it in halves, so that what only AVX-512
 * takes is tested wherever AVX2 is. */
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

#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LANES 16
#define ROWS 12
#define CONVOLUTIONS halves
#define HOLD(vector) (void)(vector)
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Bits __attribute__((vector_size(64)));
typedef uint16_t Open;

static inline Open open_of(Bits lanes) {
    Open open = 0;
    for (int i = 0; i < LANES; i++) open |= (Open)((lanes[i] & 1) << i);
    return open;
}

static inline Bits lanes_of(Open open) {
    Bits lanes;
    for (int i = 0; i < LANES; i++) lanes[i] = -(open >> i & 1);
    return lanes;
}

#include "backend/cpu/convolve.inc"
#pragma GCC pop_options

static const struct {
    const char *name;
    CpuIsa isa;
    const ConvolutionKernels *kernels;
} variants[] = {{"avx2", CPU_AVX2, &cpu_convolutions_avx2},
                {"avx512", CPU_AVX512, &cpu_convolutions_avx512},
                {"avx512 in halves", CPU_AVX2, &halves}};

/* What one run reads and writes, and the reference's answer. */
typedef struct Case {
    Convolution shape;
    const ConvolutionKernel *kernel;
    float *x, *w, *bias, *packed, *before, *y, *scratch;
    double *wanted, *scale; /* scale: the sum of the products' absolute values */
    size_t outputs;
} Case;

static void *aligned(size_t bytes) {
    void *p = aligned_alloc(64, (bytes / 64 + 1) * 64);
    assert_non_null(p);
    memset(p, 0, bytes);
    return p;
}

static float draw(const char *name, int64_t i) {
    return (float)(2 * random_uniform(random_hash(RANDOM_EMPTY, name, strlen(name)), (uint64_t)i) -
                   1);
}

static int64_t blocks_of(const Case *k, int64_t C) {
    return (C + k->kernel->lanes - 1) / k->kernel->lanes;
}

/* Where element (n, c, h, w) lies in blocks of channels. */
static int64_t at(const Case *k, int64_t C, int64_t H, int64_t W, int64_t n, int64_t c, int64_t h,
                  int64_t w) {
    int64_t B = k->kernel->lanes;
    return (((n * blocks_of(k, C) + c / B) * H + h) * W + w) * B + c % B;
}

static void reference(Case *k, int64_t n, int64_t o, int64_t h, int64_t w) {
    const Convolution *s = &k->shape;
    double sum = k->bias ? (double)k->bias[o] : 0, scale = fabs(sum);
    int64_t i = at(k, s->K, s->OH, s->OW, n, o, h, w);
    for (int64_t c = 0; c < s->C; c++)
        for (int64_t r = 0; r < s->taps; r++)
            for (int64_t q = 0; q < s->taps; q++) {
                int64_t y = h * s->stride + r - s->top, x = w * s->stride + q - s->left;
                if (y % s->spread || x % s->spread) continue;
                y /= s->spread, x /= s->spread;
                if (y < 0 || x < 0 || y >= s->H || x >= s->W) continue;
                double product = (double)k->w[((o * s->C + c) * s->taps + r) * s->taps + q] *
                                 (double)k->x[at(k, s->C, s->H, s->W, n, c, y, x)];
                sum += product;
                scale += fabs(product);
            }
    if (s->sum) {
        sum += (double)k->before[i];
        scale += fabs((double)k->before[i]);
    }
    if (s->relu) sum = fmin(fmax(sum, 0), (double)s->cap);
    k->wanted[i] = sum;
    k->scale[i] = scale;
}

static Case prepare(const ConvolutionKernel *kernel, Convolution s, bool bias) {
    Case k = {.shape = s, .kernel = kernel};
    size_t filter = (size_t)(s.taps * s.taps), weights = (size_t)(s.K * s.C) * filter;
    k.outputs = (size_t)(s.N * blocks_of(&k, s.K) * kernel->lanes * s.OH * s.OW);
    k.x = aligned((size_t)(s.N * blocks_of(&k, s.C) * kernel->lanes * s.H * s.W) * sizeof(float));
    k.w = aligned(weights * sizeof(float));
    k.bias = bias ? aligned((size_t)s.K * sizeof(float)) : NULL;
    k.before = aligned(k.outputs * sizeof(float));
    k.y = aligned(k.outputs * sizeof(float));
    k.wanted = aligned(k.outputs * sizeof(double));
    k.scale = aligned(k.outputs * sizeof(double));
    k.packed = aligned(kernel->weights(&s) * sizeof(float));
    k.scratch = aligned(kernel->scratch(&s) * sizeof(float));
    for (size_t i = 0; i < weights; i++) k.w[i] = draw("w", (int64_t)i);
    for (int64_t i = 0; bias && i < s.K; i++) k.bias[i] = draw("bias", i);
    for (int64_t n = 0; n < s.N; n++)
        for (int64_t c = 0; c < s.C; c++)
            for (int64_t i = 0; i < s.H * s.W; i++)
                k.x[at(&k, s.C, s.H, s.W, n, c, i / s.W, i % s.W)] =
                    draw("x", (n * s.C + c) * s.H * s.W + i);
    for (int64_t n = 0; n < s.N; n++)
        for (int64_t o = 0; o < s.K; o++)
            for (int64_t i = 0; i < s.OH * s.OW; i++) {
                int64_t to = at(&k, s.K, s.OH, s.OW, n, o, i / s.OW, i % s.OW);
                k.before[to] = draw("y", to);
                reference(&k, n, o, i / s.OW, i % s.OW);
            }
    kernel->pack(&s, k.w, false, k.bias, k.packed);
    return k;
}

static void release(Case *k) {
    void *all[] = {k->x, k->w,       k->bias,   k->packed, k->before,
                   k->y, k->scratch, k->wanted, k->scale};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Scratch is given as NaN: nothing of it may be read before it is written. */
static void run(Case *k, void *opened, const void *open) {
    memcpy(k->y, k->before, k->outputs * sizeof(float));
    memset(k->scratch, 0xff, k->kernel->scratch(&k->shape) * sizeof(float));
    k->kernel->run(&k->shape, &(ConvolutionBuffers){.x = k->x,
                                                    .weights = k->packed,
                                                    .y = k->y,
                                                    .scratch = k->scratch,
                                                    .opened = opened,
                                                    .open = open});
}

static void want_near(const Case *k, const char *name) {
    const Convolution *s = &k->shape;
    for (size_t i = 0; i < k->outputs; i++)
        if (!(fabs((double)k->y[i] - k->wanted[i]) <= 3e-6 * k->scale[i]))
            fail_msg("%s: %lld taps, %lldx%lldx%lld to %lldx%lldx%lld: element %zu is %.9g, wanted "
                     "%.9g (scale %g)",
                     name, (long long)s->taps, (long long)s->C, (long long)s->H, (long long)s->W,
                     (long long)s->K, (long long)s->OH, (long long)s->OW, i, (double)k->y[i],
                     k->wanted[i], k->scale[i]);
}

/* N C K H W OH OW taps top left stride spread sum relu cap backward threads */
static const Convolution shapes[] = {
    {3, 19, 21, 13, 11, 13, 11, 1, 0, 0, 1, 1, false, false, 0, false, 2},
    {2, 40, 72, 7, 7, 7, 7, 1, 0, 0, 1, 1, true, true, INFINITY, false, 2},
    {1, 8, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, false, true, 6, false, 2},
    {1, 16, 16, 20, 30, 20, 30, 1, 0, 0, 1, 1, true, false, 0, false, 2},
    {3, 19, 21, 13, 11, 13, 11, 3, 1, 1, 1, 1, false, false, 0, false, 2},
    {2, 33, 48, 14, 14, 14, 14, 3, 1, 1, 1, 1, true, true, INFINITY, false, 2},
    {1, 8, 9, 3, 2, 5, 4, 3, 2, 2, 1, 1, false, true, 0.5F, false, 2},
    {2, 16, 24, 9, 10, 7, 8, 3, 0, 0, 1, 1, true, false, 0, false, 2},
    {9, 24, 8, 16, 16, 16, 16, 3, 1, 1, 1, 1, false, true, INFINITY, false, 2},
    {11, 24, 8, 14, 15, 14, 15, 3, 1, 1, 1, 1, true, false, 0, false, 2},
    {7, 40, 24, 10, 4, 9, 4, 3, 1, 1, 1, 1, false, true, 6, false, 2},
    {2, 9, 8, 42, 41, 42, 41, 3, 1, 1, 1, 1, false, false, 0, false, 2},
    {2, 17, 12, 12, 9, 13, 10, 4, 2, 2, 1, 1, false, false, 0, false, 2},
    {3, 16, 40, 15, 15, 14, 14, 4, 1, 1, 1, 1, true, true, 6, false, 2},
    {2, 24, 20, 13, 14, 13, 14, 5, 2, 2, 1, 1, false, true, INFINITY, false, 2},
    {1, 9, 3, 27, 27, 27, 27, 5, 2, 2, 1, 1, true, false, 0, false, 2},
    {3, 19, 21, 13, 11, 7, 6, 3, 1, 1, 2, 1, false, false, 0, false, 2},
    {2, 33, 48, 14, 14, 7, 7, 3, 1, 1, 2, 1, true, true, INFINITY, false, 2},
    {3, 24, 20, 28, 25, 14, 12, 3, 1, 2, 2, 1, false, true, 6, false, 2},
    {2, 9, 8, 82, 81, 40, 40, 3, 0, 0, 2, 1, true, false, 0, false, 2},
    {9, 8, 40, 28, 27, 10, 9, 1, 0, 0, 3, 1, false, true, 6, false, 2},
    {2, 24, 20, 13, 14, 6, 7, 5, 1, 2, 2, 1, true, false, 0, false, 2},
    {3, 21, 19, 7, 6, 13, 11, 3, 1, 1, 1, 2, false, false, 0, false, 2},
    {2, 48, 33, 7, 7, 14, 14, 3, 1, 1, 1, 2, true, false, 0, false, 2},
    {9, 20, 24, 14, 9, 27, 18, 3, 1, 1, 1, 2, false, true, 6, false, 2},
    {1, 8, 9, 1, 40, 1, 80, 3, 1, 1, 1, 2, true, false, 0, false, 2},
    {9, 40, 8, 10, 9, 28, 27, 1, 0, 0, 1, 3, false, true, 6, false, 2},
    {2, 20, 24, 6, 7, 13, 14, 5, 3, 2, 1, 2, true, false, 0, false, 2},
    {1, 16, 16, 5, 5, 12, 12, 2, 1, 1, 1, 3, false, false, 0, false, 2},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef void Check(Case *k, const char *name);

/* The kernels that can compute a convolution; their number. */
static size_t able(const ConvolutionKernels *all, const Convolution *s,
                   const ConvolutionKernel *kernels[2]) {
    bool strided = s->stride > 1 || s->spread > 1;
    kernels[0] = strided ? &all->strided : s->taps == 1 ? &all->pointwise : &all->winograd;
    kernels[1] = &all->phased;
    bool phased = s->stride == 2 || (s->spread == 2 && s->top == 1 && s->left == 1);
    return phased && s->taps == 3 ? 2 : 1;
}

static void for_each(Check *check) {
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        if (!cpu_isa_present(variants[v].isa)) continue;
        for (size_t i = 0; i < SHAPES; i++) {
            const ConvolutionKernel *kernels[2];
            size_t n = able(variants[v].kernels, &shapes[i], kernels);
            for (size_t j = 0; j < n; j++) {
                Case k = prepare(kernels[j], shapes[i], i % 2 == 0);
                check(&k, variants[v].name);
                release(&k);
            }
        }
    }
}

static void check_values(Case *k, const char *name) {
    run(k, NULL, NULL);
    want_near(k, name);
}

static void test_against_the_reference(void **state) {
    (void)state;
    for_each(check_values);
}

/* The same bits for any number of threads, and for an image at any place of any batch. */
static void check_bits(Case *k, const char *name) {
    float *first = aligned(k->outputs * sizeof(float));
    Convolution whole = k->shape;
    float *x = k->x, *before = k->before;
    size_t in = (size_t)(blocks_of(k, whole.C) * k->kernel->lanes * whole.H * whole.W);
    size_t out = k->outputs / (size_t)whole.N;
    run(k, NULL, NULL);
    memcpy(first, k->y, k->outputs * sizeof(float));
    const int threads[] = {1, 3, 5, MOST_STRETCHES + 3};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        k->shape.threads = threads[i];
        free(k->scratch);
        k->scratch = aligned(k->kernel->scratch(&k->shape) * sizeof(float));
        run(k, NULL, NULL);
        if (memcmp(first, k->y, k->outputs * sizeof(float)) != 0)
            fail_msg("%s, %lld taps: other bits with %d threads", name, (long long)whole.taps,
                     threads[i]);
    }
    k->shape.N = 1;
    k->outputs = out;
    free(k->scratch);
    k->scratch = aligned(k->kernel->scratch(&k->shape) * sizeof(float));
    for (int64_t n = 0; n < whole.N; n++) {
        k->x = x + (size_t)n * in;
        k->before = before + (size_t)n * out;
        run(k, NULL, NULL);
        if (memcmp(first + (size_t)n * out, k->y, out * sizeof(float)) != 0)
            fail_msg("%s, %lld taps: image %lld has other bits alone", name, (long long)whole.taps,
                     (long long)n);
    }
    k->x = x;
    k->before = before;
    free(first);
}

static void test_bits(void **state) {
    (void)state;
    for_each(check_bits);
}

/* opened has the bits of 0 < y < cap, and what open lacks is +0, NaN too. */
static void check_masks(Case *k, const char *name) {
    size_t bytes = k->outputs / 8;
    uint8_t *opened = aligned(bytes), *open = aligned(bytes);
    if (!k->shape.relu) k->shape.cap = INFINITY;
    run(k, opened, NULL);
    for (size_t i = 0; i < k->outputs; i++)
        if ((opened[i / 8] >> i % 8 & 1) != (k->y[i] > 0 && k->y[i] < k->shape.cap))
            fail_msg("%s, %lld taps: bit %zu of %.9g", name, (long long)k->shape.taps, i,
                     (double)k->y[i]);
    for (size_t i = 0; i < bytes; i++) open[i] = (uint8_t)(37 * i + 11);
    for (size_t i = 0; i < k->outputs; i++) {
        bool closed = !(open[i / 8] >> i % 8 & 1);
        if (closed) k->wanted[i] = 0;
        if (closed && k->shape.sum) k->before[i] = NAN;
    }
    run(k, NULL, open);
    want_near(k, name);
    for (size_t i = 0; i < k->outputs; i++)
        if (!(open[i / 8] >> i % 8 & 1)) assert_false(signbit(k->y[i]));
    free(opened);
    free(open);
}

static void test_masks(void **state) {
    (void)state;
    for_each(check_masks);
}

/* A NaN of the input reaches every output whose window it is in, ReLU or not, and its bit is set;
 * other images have none. */
static void check_nan(Case *k, const char *name) {
    const Convolution *s = &k->shape;
    uint8_t *opened = aligned(k->outputs / 8);
    if (!s->relu) k->shape.cap = INFINITY;
    k->x[at(k, s->C, s->H, s->W, 0, 0, 0, 0)] = NAN;
    run(k, opened, NULL);
    for (int64_t o = 0; o < s->K; o++) {
        size_t i = at(k, s->K, s->OH, s->OW, 0, o, 0, 0);
        if (!isnan(k->y[i]) || !(opened[i / 8] >> i % 8 & 1))
            fail_msg("%s, %lld taps: NaN is lost in channel %lld", name, (long long)s->taps,
                     (long long)o);
    }
    for (size_t i = k->outputs / (size_t)s->N; i < k->outputs; i++) assert_false(isnan(k->y[i]));
    free(opened);
}

static void test_nan(void **state) {
    (void)state;
    for_each(check_nan);
}

/* The weights of the convolution whose gradient this is: from k->w, and back by `turned`. */
static float *turned_case(const Case *k) {
    const Convolution *s = &k->shape;
    int64_t filter = s->taps * s->taps;
    float *w = aligned((size_t)(s->C * s->K * filter) * sizeof(float));
    for (int64_t c = 0; c < s->C; c++)
        for (int64_t o = 0; o < s->K; o++)
            for (int64_t i = 0; i < filter; i++)
                w[(c * s->K + o) * filter + i] = k->w[(o * s->C + c) * filter + filter - 1 - i];
    return w;
}

/* With the weights of the convolution whose gradient this is. */
static void check_backward(Case *k, const char *name) {
    const Convolution *s = &k->shape;
    if (s->taps > k->kernel->backward_taps || k->bias) return;
    Convolution other = {.C = s->K, .K = s->C, .taps = s->taps, .threads = 2};
    float *w = turned_case(k), *bias = aligned((size_t)s->C * sizeof(float));
    for (int64_t c = 0; c < s->C; c++) bias[c] = 1;
    free(k->packed);
    k->packed = aligned(k->kernel->weights(&other) * sizeof(float));
    k->kernel->pack(&other, w, false, bias, k->packed);
    k->shape.backward = true;
    free(k->scratch);
    k->scratch = aligned(k->kernel->scratch(s) * sizeof(float));
    run(k, NULL, NULL);
    want_near(k, name);
    free(w);
    free(bias);
}

/* Packed from the weights of the convolution whose gradient this is, into memory that held others:
 * the same bits. */
static void check_turned(Case *k, const char *name) {
    size_t bytes = k->kernel->weights(&k->shape) * sizeof(float);
    float *w = turned_case(k), *packed = aligned(bytes);
    memset(packed, 0xff, bytes);
    k->kernel->pack(&k->shape, w, true, k->bias, packed);
    if (memcmp(packed, k->packed, bytes) != 0)
        fail_msg("%s, %lld taps: other bits when turned", name, (long long)k->shape.taps);
    free(w);
    free(packed);
}

static void test_turned(void **state) {
    (void)state;
    for_each(check_turned);
}

/* The gradient of one weight, and the sum of its products' absolute values. */
static double weight_gradient(const Case *k, const float *dy, int64_t o, int64_t c, int64_t r,
                              int64_t q, double *scale) {
    const Convolution *s = &k->shape;
    double sum = 0;
    *scale = 0;
    for (int64_t n = 0; n < s->N; n++)
        for (int64_t h = 0; h < s->OH; h++)
            for (int64_t w = 0; w < s->OW; w++) {
                int64_t y = h + r - s->top, x = w + q - s->left;
                if (y < 0 || x < 0 || y >= s->H || x >= s->W) continue;
                double product = (double)dy[at(k, s->K, s->OH, s->OW, n, o, h, w)] *
                                 (double)k->x[at(k, s->C, s->H, s->W, n, c, y, x)];
                sum += product;
                *scale += fabs(product);
            }
    return sum;
}

/* `before` serves as the output's gradient; scratch and what is written start as NaN. */
static void check_gradient(Case *k, const char *name) {
    const Convolution *s = &k->shape;
    if (!k->kernel->gradient) return;
    size_t filter = (size_t)(s->taps * s->taps), weights = (size_t)(s->K * s->C) * filter;
    size_t bytes = k->kernel->gradient_scratch(s) * sizeof(float);
    float *scratch = aligned(bytes), *dw = aligned(weights * sizeof(float));
    float *again = aligned(weights * sizeof(float)), *db = aligned((size_t)s->K * sizeof(float));
    memset(scratch, 0xff, bytes);
    memset(dw, 0xff, weights * sizeof(float));
    k->kernel->gradient(s, k->x, k->before, scratch, dw, db);
    for (size_t i = 0; i < weights; i++) {
        int64_t place = (int64_t)(i % filter), c = (int64_t)(i / filter) % s->C;
        double scale, wanted = weight_gradient(k, k->before, (int64_t)(i / filter) / s->C, c,
                                               place / s->taps, place % s->taps, &scale);
        if (!(fabs((double)dw[i] - wanted) <= 3e-6 * scale + 1e-6))
            fail_msg("%s, %lld taps, %lldx%lld: weight %zu's gradient is %.9g, wanted %.9g", name,
                     (long long)s->taps, (long long)s->H, (long long)s->W, i, (double)dw[i],
                     wanted);
    }
    for (int64_t o = 0; o < s->K; o++) {
        double wanted = 0;
        for (int64_t n = 0; n < s->N; n++)
            for (int64_t i = 0; i < s->OH * s->OW; i++)
                wanted += (double)k->before[at(k, s->K, s->OH, s->OW, n, o, i / s->OW, i % s->OW)];
        assert_true(fabs((double)db[o] - wanted) <= 1e-6 * fabs(wanted) + 1e-9);
    }
    k->shape.threads = 3;
    k->kernel->gradient(s, k->x, k->before, scratch, again, NULL);
    assert_memory_equal(dw, again, weights * sizeof(float));
    free(scratch), free(dw), free(again), free(db);
}

static void test_gradient(void **state) {
    (void)state;
    for_each(check_gradient);
}

static void test_backward(void **state) {
    (void)state;
    for_each(check_backward);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_reference),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_turned),
        cmocka_unit_test(test_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
