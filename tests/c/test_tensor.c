/* Tensors: conversion between element types, shapes, shared storage, and the checks of the front
 * door. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "tensor/loss.h"
#include "tensor/ops.h"

static Device *device;

static int open_device(void **state) {
    Error e;
    (void)state;
    return cpu_device(1, &device, &e);
}

static double one(Dtype to, Dtype from, const void *in) {
    char raw[8];
    double v;
    dtype_convert(to, raw, from, in, 1);
    dtype_convert(DTYPE_F64, &v, to, raw, 1);
    return v;
}

static uint16_t bits_of(Dtype type, double v) {
    uint16_t bits;
    dtype_convert(type, &bits, DTYPE_F64, &v, 1);
    return bits;
}

static double value_of(Dtype type, uint16_t bits) {
    double v;
    dtype_convert(DTYPE_F64, &v, type, &bits, 1);
    return v;
}

static void test_names(void **state) {
    (void)state;
    for (int t = 0; t < DTYPES; t++) {
        Dtype back;
        assert_int_equal(dtype_of(dtype_name((Dtype)t), &back), 0);
        assert_int_equal(back, t);
    }
    Dtype none;
    assert_int_equal(dtype_of("f8", &none), -1);
}

/* Every pattern of both 16-bit formats, against the compiler's own half and float's upper half. */
static void test_16_bit_values(void **state) {
    (void)state;
    for (uint32_t b = 0; b < 0x10000; b++) {
        uint16_t bits = (uint16_t)b;
        uint32_t wide = b << 16;
        _Float16 half;
        float upper;
        memcpy(&half, &bits, sizeof half);
        memcpy(&upper, &wide, sizeof upper);
        double h = value_of(DTYPE_F16, bits), u = value_of(DTYPE_BF16, bits);
        if (isnan((float)half))
            assert_true(isnan(h));
        else
            assert_true(h == (double)half && (signbit(h) != 0) == (bits >> 15));
        if (isnan(upper))
            assert_true(isnan(u));
        else
            assert_true(u == (double)upper && (signbit(u) != 0) == (bits >> 15));
        if (!isnan(h)) assert_int_equal(bits_of(DTYPE_F16, h), bits);
        if (!isnan(u)) assert_int_equal(bits_of(DTYPE_BF16, u), bits);
    }
}

/* Between any two neighbours the midpoint goes to the even one and all else to the nearer one. */
static void test_16_bit_rounding(void **state) {
    (void)state;
    const Dtype types[] = {DTYPE_F16, DTYPE_BF16};
    const uint16_t infinity[] = {0x7c00, 0x7f80};
    for (int k = 0; k < 2; k++) {
        Dtype t = types[k];
        for (uint16_t low = 0; low < infinity[k]; low++) {
            uint16_t high = (uint16_t)(low + 1), even = low & 1 ? high : low;
            double a = value_of(t, low), b = value_of(t, high);
            if (high == infinity[k]) b = 2 * a - value_of(t, (uint16_t)(low - 1));
            double middle = a + (b - a) / 2;
            assert_int_equal(bits_of(t, middle), even);
            assert_int_equal(bits_of(t, -middle), even | 0x8000);
            assert_int_equal(bits_of(t, nextafter(middle, 0)), low);
            assert_int_equal(bits_of(t, nextafter(middle, INFINITY)), high);
        }
        assert_true(isnan(value_of(t, bits_of(t, NAN))));
        assert_int_equal(bits_of(t, INFINITY), infinity[k]);
        assert_int_equal(bits_of(t, -INFINITY), infinity[k] | 0x8000);
        assert_int_equal(bits_of(t, 1e300), infinity[k]);
        assert_int_equal(bits_of(t, -1e-320), 0x8000);
    }
}

static void test_integers(void **state) {
    (void)state;
    double v = 300.9;
    assert_true(one(DTYPE_U8, DTYPE_F64, &v) == 255);
    assert_true(one(DTYPE_I16, DTYPE_F64, &v) == 300);
    v = -1.9;
    assert_true(one(DTYPE_U8, DTYPE_F64, &v) == 0);
    assert_true(one(DTYPE_I8, DTYPE_F64, &v) == -1);
    assert_true(one(DTYPE_BOOL, DTYPE_F64, &v) == 1);
    v = NAN;
    assert_true(one(DTYPE_I32, DTYPE_F64, &v) == 0);
    v = 1e30;
    int64_t wide;
    dtype_convert(DTYPE_I64, &wide, DTYPE_F64, &v, 1);
    assert_true(wide == INT64_MAX);
    v = -1e30;
    dtype_convert(DTYPE_I64, &wide, DTYPE_F64, &v, 1);
    assert_true(wide == INT64_MIN);
    /* Just above the middle of two floats: rounding to double first would make it a tie. */
    int64_t above = (INT64_C(1) << 60) + (INT64_C(1) << 36) + 1;
    assert_true(one(DTYPE_F32, DTYPE_I64, &above) == 0x1p60 + 0x1p37);
    above = -above;
    assert_true(one(DTYPE_F32, DTYPE_I64, &above) == -0x1p60 - 0x1p37);
    int64_t least = INT64_MIN;
    assert_true(one(DTYPE_F32, DTYPE_I64, &least) == -0x1p63);
    assert_true(one(DTYPE_I8, DTYPE_I64, &least) == -128);
    int64_t exact = (INT64_C(1) << 53) + 1, back;
    dtype_convert(DTYPE_I64, &back, DTYPE_I64, &exact, 1);
    assert_true(back == exact);
}

/* More than one block, and every pair of types on small whole numbers. */
static void test_pairs(void **state) {
    (void)state;
    enum { N = 600 };
    double in[N], out[N];
    char from[N * 8], to[N * 8];
    for (int i = 0; i < N; i++) in[i] = i % 2;
    for (int a = 0; a < DTYPES; a++)
        for (int b = 0; b < DTYPES; b++) {
            dtype_convert((Dtype)a, from, DTYPE_F64, in, N);
            dtype_convert((Dtype)b, to, (Dtype)a, from, N);
            dtype_convert(DTYPE_F64, out, (Dtype)b, to, N);
            assert_memory_equal(in, out, sizeof in);
        }
}

static void test_shapes(void **state) {
    (void)state;
    Error e;
    Tensor t;
    const int64_t huge[] = {INT64_MAX, 2}, negative[] = {2, -1};
    const int64_t hidden[] = {0, INT64_MAX, INT64_MAX}, nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(tensor_new(&t, device, DTYPE_F32, 2, huge, &e), -1);
    assert_null(t.storage);
    assert_non_null(strstr(e.text, "[9223372036854775807,2]"));
    assert_int_equal(tensor_new(&t, device, DTYPE_F32, 2, negative, &e), -1);
    assert_int_equal(tensor_new(&t, device, DTYPE_F32, 3, hidden, &e), -1);
    assert_int_equal(tensor_new(&t, device, DTYPE_F32, 9, nine, &e), -1);
    assert_int_equal(tensor_new(&t, device, DTYPE_F32, 0, NULL, &e), 0);
    assert_int_equal(tensor_count(&t), 1);
    tensor_free(&t);
    tensor_free(&t);
    const int64_t empty[] = {3, 0, 2};
    assert_int_equal(tensor_new(&t, device, DTYPE_F64, 3, empty, &e), 0);
    assert_int_equal(tensor_bytes(&t), 0);
    tensor_free(&t);
    char text[128];
    const int64_t wide[8] = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX,
                             INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
    assert_true(strlen(shape_text(8, wide, text)) < sizeof text);
}

static void test_views(void **state) {
    (void)state;
    Error e;
    Tensor t, rows, flat;
    const int64_t shape[] = {4, 3}, six[] = {6}, five[] = {5};
    size_t before = memory_count().in_use;
    assert_int_equal(tensor_uniform(&t, device, 7, 2, shape, &e), 0);
    assert_int_equal(tensor_narrow(&rows, &t, 1, 2, &e), 0);
    assert_int_equal(tensor_reshape(&flat, &rows, 1, six, &e), 0);
    assert_int_equal(tensor_reshape(&flat, &rows, 1, five, &e), -1);
    assert_int_equal(tensor_narrow(&rows, &t, 3, 2, &e), -1);
    assert_int_equal(tensor_narrow(&rows, &t, -1, 1, &e), -1);
    assert_int_equal(tensor_narrow(&rows, &t, 1, INT64_MAX, &e), -1);
    tensor_free(&t);
    float v[6];
    assert_int_equal(tensor_to_host(&flat, v, &e), 0);
    for (int i = 0; i < 6; i++) assert_true(v[i] == (float)random_uniform(7, (uint64_t)i + 3));
    tensor_free(&rows);
    tensor_free(&flat);
    assert_int_equal(memory_count().in_use, before);
}

static void test_copies(void **state) {
    (void)state;
    Error e;
    Tensor a, b, c;
    const int64_t shape[] = {3000};
    assert_int_equal(tensor_uniform(&a, device, random_hash(RANDOM_EMPTY, "a", 1), 1, shape, &e),
                     0);
    assert_int_equal(tensor_convert(&b, &a, DTYPE_F64, &e), 0);
    assert_int_equal(tensor_convert(&c, &b, DTYPE_F32, &e), 0);
    assert_memory_equal(a.data, c.data, tensor_bytes(&a));
    assert_int_equal(tensor_copy(&a, &b, &e), -1);
    assert_int_equal(tensor_fill(&c, 2.5f, &e), 0);
    assert_int_equal(tensor_copy(&a, &c, &e), 0);
    assert_memory_equal(a.data, c.data, tensor_bytes(&a));
    tensor_free(&a);
    tensor_free(&b);
    tensor_free(&c);
}

/* Each allocation of a conversion fails in turn: an error, an empty tensor, nothing lost. */
static void test_memory_runs_out(void **state) {
    (void)state;
    Error e;
    Tensor a, b;
    const int64_t shape[] = {10};
    assert_int_equal(tensor_uniform(&a, device, 1, 1, shape, &e), 0);
    size_t before = memory_count().in_use;
    for (uint64_t n = 1; n <= 2; n++) {
        memory_fail_at(n);
        assert_int_equal(tensor_convert(&b, &a, DTYPE_F64, &e), -1);
        assert_null(b.storage);
        assert_non_null(strstr(e.text, "out of memory"));
        assert_int_equal(memory_count().in_use, before);
    }
    memory_fail_at(0);
    tensor_free(&a);
}

#define REFUSED(call, words)                                                                       \
    do {                                                                                           \
        assert_int_equal(call, -1);                                                                \
        if (!strstr(e.text, words)) fail_msg("'%s' does not say '%s'", e.text, words);             \
    } while (0)

static void test_checks(void **state) {
    (void)state;
    Error e;
    Tensor z, other, one_class, wide, label, value, l2;
    const int64_t two[] = {2, 3}, three[] = {3, 3}, alone[] = {2, 1}, rows[] = {2};
    assert_int_equal(tensor_uniform(&z, device, 1, 2, two, &e), 0);
    assert_int_equal(tensor_uniform(&other, device, 1, 2, three, &e), 0);
    assert_int_equal(tensor_uniform(&one_class, device, 1, 2, alone, &e), 0);
    assert_int_equal(tensor_convert(&wide, &z, DTYPE_F64, &e), 0);
    assert_int_equal(tensor_new(&label, device, DTYPE_I64, 1, rows, &e), 0);
    assert_int_equal(tensor_new(&value, device, DTYPE_F32, 1, rows, &e), 0);
    assert_int_equal(tensor_new(&l2, device, DTYPE_F64, 1, rows, &e), 0);
    int64_t *classes = label.data;
    classes[0] = 2;
    classes[1] = 0;

    const LossCall ce = loss_usual(loss_find("ce")), margin = loss_usual(loss_find("m_logit"));
    LossCall out_of_range = margin;
    out_of_range.p[0] = NAN;
    REFUSED(tensor_loss(&out_of_range, &z, &label, &value, &z, &e),
            "kappa must be a number from 0");
    REFUSED(tensor_binary(BINARY_ADD, &z, &other, &z, &e), "add: b must be of shape [2,3]");
    REFUSED(tensor_binary(BINARY_MUL, &z, &wide, &z, &e), "mul: b must be f32, got f64");
    REFUSED(tensor_clamp(&z, 1, 0, &z, &e), "low 1 must be at most high 0");
    REFUSED(tensor_clamp(&z, NAN, 0, &z, &e), "clamp");
    REFUSED(tensor_quantize(&z, 0, &z, &e), "levels");
    REFUSED(tensor_loss(&ce, &z, &value, &value, &z, &e), "target must be i64");
    REFUSED(tensor_loss(&ce, &other, &label, &value, &other, &e), "[3]");
    REFUSED(tensor_loss(&margin, &z, &label, &value, &other, &e), "dz");
    REFUSED(tensor_norms(&z, &l2, &l2, &value, &e), "zero_share must be f64");
    const TensorBox unit = {0}, half = {.low = &other}, wide_box = {&z, &z},
                    wrong_type = {&value, &l2};
    REFUSED(tensor_step(&z, &z, &value, &z, unit, &l2, &l2, &e), "a must be f64");
    REFUSED(tensor_step(&z, &z, &l2, &other, unit, &l2, &l2, &e), "x0 must be of shape [2,3]");
    REFUSED(tensor_step(&z, &z, &l2, &z, half, &l2, &l2, &e), "step: the box has no 'high'");
    REFUSED(tensor_step(&z, &z, &l2, &z, wide_box, &l2, &l2, &e), "elements of an image, got 6");
    REFUSED(tensor_step(&z, &z, &l2, &z, wrong_type, &l2, &l2, &e), "step: ");
    AdamStep adam = {.t = 0};
    REFUSED(tensor_adam(&adam, &z, &z, &z, &z, &e), "counted from 1");

    classes[1] = 3;
    REFUSED(tensor_loss(&ce, &z, &label, &value, &z, &e),
            "target of row 2 must be a class in 0 .. 2, got 3");
    classes[1] = -1;
    REFUSED(tensor_loss(&ce, &z, &label, &value, &z, &e), "got -1");
    classes[0] = classes[1] = 0;
    REFUSED(tensor_loss(&margin, &one_class, &label, &value, &one_class, &e), "at least 2 classes");
    Tensor none = {0};
    REFUSED(tensor_fill(&none, 0, &e), "emptied");

    Tensor *all[] = {&z, &other, &one_class, &wide, &label, &value, &l2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) tensor_free(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),           cmocka_unit_test(test_16_bit_values),
        cmocka_unit_test(test_16_bit_rounding), cmocka_unit_test(test_integers),
        cmocka_unit_test(test_pairs),           cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_views),           cmocka_unit_test(test_copies),
        cmocka_unit_test(test_memory_runs_out), cmocka_unit_test(test_checks),
    };
    return cmocka_run_group_tests(tests, open_device, NULL);
}
