/* The losses on logits: against references in double and finite differences, and where float
 * stops: the margins that the paper's argument turns on. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "backend/cpu/cpu.h"
#include "tensor/loss.h"

enum { MOST = 1000 };

static Device *device;

static int open_device(void **state) {
    Error e;
    (void)state;
    return cpu_device(2, &device, &e);
}

static void logits(float *z, int64_t n, uint64_t key, double scale) {
    for (int64_t i = 0; i < n; i++)
        z[i] = (float)(scale * (random_uniform(key, (uint64_t)i) - 0.5));
}

static float run_call(const LossCall *call, const float *z, int64_t t, int64_t K, float *dz) {
    Error e;
    float value;
    assert_int_equal(device->loss(device, call, z, &t, 1, K, &value, dz, &e), 0);
    return value;
}

/* first: the loss's first parameter, where it has one. */
static float run(const char *name, double first, const float *z, int64_t t, int64_t K, float *dz) {
    LossCall call = {.loss = loss_find(name), .p = {first}};
    return run_call(&call, z, t, K, dz);
}

/* What the paper's equations say, in double. */
static double reference(const char *name, double kappa, const double *z, int64_t t, int64_t K) {
    double m = -INFINITY, other = -INFINITY, sum = 0;
    for (int64_t k = 0; k < K; k++) {
        m = fmax(m, z[k]);
        if (k != t) other = fmax(other, z[k]);
    }
    for (int64_t k = 0; k < K; k++) sum += exp(z[k] - m);
    if (strcmp(name, "ce") == 0) return z[t] - m - log(sum);
    if (strcmp(name, "logit") == 0) return z[t];
    assert_string_equal(name, "m_logit");
    return fmin(z[t] - other, kappa);
}

/* Of each record: its value against the paper's equation, its gradient against finite differences,
 * and the device against both. */
static void check_record(const LossCall *call, double *z, int64_t t, int64_t K) {
    static float narrow[MOST], dz[MOST];
    static double gradient[MOST];
    const Loss *loss = call->loss;
    const double h = 1e-5;
    for (int64_t k = 0; k < K; k++) narrow[k] = (float)z[k];
    double wanted = loss->value(z, t, K, call->p);
    loss->gradient(z, t, K, call->p, gradient);
    assert_true(fabs(wanted - reference(loss->name, call->p[0], z, t, K)) < 1e-12);
    assert_true(fabs((double)run_call(call, narrow, t, K, dz) - wanted) < 5e-6);
    for (int64_t k = 0; k < K; k++) {
        double at = z[k];
        z[k] = at + h;
        double up = loss->value(z, t, K, call->p);
        z[k] = at - h;
        double down = loss->value(z, t, K, call->p);
        z[k] = at;
        assert_true(fabs(gradient[k] - (up - down) / (2 * h)) < 1e-6);
        assert_true(fabs((double)dz[k] - gradient[k]) < 1e-6);
    }
}

static void test_values_and_gradients(void **state) {
    (void)state;
    static float z[MOST];
    static double wide[MOST];
    const int64_t classes[] = {2, 3, 10, MOST};
    assert_non_null(loss_at(0));
    for (int i = 0; loss_at(i); i++)
        for (int c = 0; c < 4; c++)
            for (int64_t t = 0; t < 2; t++) {
                LossCall call = loss_usual(loss_at(i));
                logits(z, classes[c], 31 + (uint64_t)c, 12);
                for (int64_t k = 0; k < classes[c]; k++) wide[k] = (double)z[k];
                check_record(&call, wide, t, classes[c]);
            }
}

/* A loss with a record alone: the product of a number and the target's logit squared. */
static double square(const double *z, int64_t t, int64_t K, const double *p) {
    (void)K;
    return p[1] * z[t] * z[t];
}

static void square_gradient(const double *z, int64_t t, int64_t K, const double *p, double *dz) {
    for (int64_t k = 0; k < K; k++) dz[k] = k == t ? 2 * p[1] * z[t] : 0;
}

static const Loss squared = {.name = "squared",
                             .fewest = 3,
                             .parameter = {{"offset", 0, 0, 1, false}, {"scale", 3, 0, 8, false}},
                             .value = square,
                             .gradient = square_gradient};

static void test_record_alone(void **state) {
    (void)state;
    LossCall call = loss_usual(&squared);
    float z[4] = {1, 2, 0.5f, 4}, dz[4];
    Error e = {0};
    assert_true(run_call(&call, z, 2, 4, dz) == 0.75f);
    const float wanted[4] = {0, 0, 3, 0};
    assert_memory_equal(dz, wanted, sizeof dz);
    assert_int_equal(loss_check(&call, 3, &e), 0);
    assert_int_equal(loss_check(&call, 2, &e), -1);
    assert_string_equal(e.text, "squared needs at least 3 classes, got 2");
    call.p[1] = 9;
    assert_int_equal(loss_check(&call, 3, &e), -1);
    assert_string_equal(e.text, "squared: scale must be a number from 0 to 8, got 9");
    call.p[1] = NAN;
    assert_int_equal(loss_check(&call, 3, &e), -1);
    assert_null(loss_find("squared"));
}

static void row_with_margin(float *z, int64_t K, float margin) {
    for (int64_t k = 0; k < K; k++) z[k] = 0;
    z[1] = margin;
}

static bool all_zero(const float *v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (v[i] != 0) return false;
    return true;
}

/* Float's precision: where p_t rounds to 1, and where everything is 0. */
static void test_where_float_stops(void **state) {
    (void)state;
    static float z[MOST], dz[MOST];
    row_with_margin(z, 2, 16.5f);
    run("ce", 0, z, 1, 2, dz);
    assert_true(dz[1] > 0 && dz[0] < 0);
    row_with_margin(z, 2, 16.8f);
    run("ce", 0, z, 1, 2, dz);
    assert_true(dz[1] == 0);
    assert_true(fabs((double)dz[0] / -exp(-16.8) - 1) < 1e-5);

    row_with_margin(z, MOST, 22.5f);
    run("ce", 0, z, 1, MOST, dz);
    assert_true(dz[1] > 0);
    row_with_margin(z, MOST, 24);
    run("ce", 0, z, 1, MOST, dz);
    assert_true(dz[1] == 0 && dz[0] < 0 && dz[MOST - 1] < 0);

    row_with_margin(z, 10, 103);
    run("ce", 0, z, 1, 10, dz);
    assert_true(dz[0] < 0 && fpclassify(dz[0]) == FP_SUBNORMAL);
    row_with_margin(z, 10, 104.5f);
    run("ce", 0, z, 1, 10, dz);
    assert_true(all_zero(dz, 10));
    run("logit", 0, z, 1, 10, dz);
    assert_true(dz[1] == 1);
}

static float value_at(float *z, int64_t K, float margin, float *dz) {
    row_with_margin(z, K, margin);
    return run("ce", 0, z, 1, K, dz);
}

/* The value falls with every step of the margin, where 1 - p has long rounded to 0. */
static void test_ce_value_is_fine(void **state) {
    (void)state;
    static float z[MOST], dz[MOST];
    const int64_t classes[] = {2, 10, MOST};
    for (int c = 0; c < 3; c++) {
        int64_t K = classes[c];
        for (float margin = -60; margin < 80; margin += 0.37f) {
            float value = value_at(z, K, margin, dz);
            double others = (double)(K - 1) * exp(-(double)margin), wanted = -log1p(others);
            assert_true(fabs((double)value / wanted - 1) < 1e-7);
            assert_true(value_at(z, K, nextafterf(margin, 100) + 1e-4f, dz) > value);
        }
    }
    const float tie[3] = {5, 5, -90};
    assert_true(fabs((double)run("ce", 0, tie, 1, 3, dz) + log(2)) < 1e-7);
}

/* Beyond kappa nothing is left; at kappa itself, as torch.clamp, the gradient still passes. */
static void test_margin(void **state) {
    (void)state;
    float z[4] = {1, 21, 1, 0}, dz[4];
    assert_true(run("m_logit", 20, z, 1, 4, dz) == 20);
    const float at_kappa[4] = {-1, 1, 0, 0}; /* of two equal others the first */
    assert_memory_equal(dz, at_kappa, sizeof dz);
    z[1] = nextafterf(21, 30);
    assert_true(run("m_logit", 20, z, 1, 4, dz) == 20);
    assert_true(all_zero(dz, 4));
    assert_true(run("m_logit", 0, z, 3, 4, dz) == -z[1]);
    const float behind[4] = {0, -1, 0, 1};
    assert_memory_equal(dz, behind, sizeof dz);
    assert_true(run("m_logit", HUGE_VAL, (float[]){1e30f, -1e30f}, 0, 2, dz) == 2e30f); /* no cut */
}

/* NaN anywhere shows in what comes out; nothing is read or written out of bounds. */
static void test_nan(void **state) {
    (void)state;
    for (int at = 0; at < 3; at++) {
        float z[3] = {1, 2, 3}, dz[3];
        z[at] = NAN;
        assert_true(isnan(run("ce", 0, z, 1, 3, dz)));
        for (int k = 0; k < 3; k++) assert_true(isnan(dz[k]));
        assert_true(isnan(run("m_logit", 20, z, 1, 3, dz)));
        for (int k = 0; k < 3; k++) assert_true(isnan(dz[k]));
    }
    float z[3] = {INFINITY, 0, INFINITY}, dz[3];
    assert_true(isnan(run("ce", 0, z, 0, 3, dz)));
    assert_true(isnan(run("m_logit", 20, z, 0, 3, dz)));
}

typedef struct Row {
    float p_initial, p_target, z_initial, z_target;
    int64_t prediction;
    uint8_t subspace;
} Row;

static Row stats(const float *z, int64_t c, int64_t t, int64_t K) {
    Error e;
    Row r;
    LogitStats out = {&r.p_initial, &r.p_target,   &r.z_initial,
                      &r.z_target,  &r.prediction, &r.subspace};
    assert_int_equal(device->logit_stats(device, z, &c, &t, 1, K, &out, &e), 0);
    return r;
}

static void test_stats(void **state) {
    (void)state;
    const float z[4] = {2, -1, 0.5f, 2};
    double sum = 2 * exp(2) + exp(-1) + exp(0.5);
    Row r = stats(z, 3, 1, 4);
    assert_true(fabs((double)r.p_initial - exp(2) / sum) < 1e-7);
    assert_true(fabs((double)r.p_target - exp(-1) / sum) < 1e-7);
    assert_true(r.z_initial == 2 && r.z_target == -1);
    assert_int_equal(r.prediction, 0); /* the lower of two that tie */
    assert_int_equal(r.subspace, 2);

    /* Two classes: p of the first is 1 / (1 + exp(-margin)); 0.9 at log 9 = 2.1972. */
    const float below[2] = {2.197f, 0}, above[2] = {2.198f, 0};
    assert_int_equal(stats(below, 0, 1, 2).subspace, 2);
    assert_int_equal(stats(above, 0, 1, 2).subspace, 1);
    assert_int_equal(stats(below, 1, 0, 2).subspace, 2);
    assert_int_equal(stats(above, 1, 0, 2).subspace, 3);

    const float far[2] = {-100, 0}, broken[3] = {0, NAN, 1};
    r = stats(far, 0, 1, 2);
    assert_true(r.p_initial > 0 && r.p_target == 1);
    r = stats(broken, 0, 2, 3);
    assert_int_equal(r.prediction, -1);
    assert_int_equal(r.subspace, 2);
    assert_true(isnan(r.p_target) && r.z_target == 1);
}

static void test_cross_entropy(void **state) {
    (void)state;
    enum { N = 5, K = 7 };
    Error e;
    float z[N * K], dz[N * K];
    double loss, wanted = 0;
    int64_t correct, label[N] = {0, 6, 2, 3, 3}, right = 0;
    logits(z, N * K, 77, 6);
    for (int n = 0; n < N; n++) {
        double wide[K];
        int best = 0;
        for (int k = 0; k < K; k++) {
            wide[k] = (double)z[n * K + k];
            if (wide[k] > wide[best]) best = k;
        }
        wanted -= reference("ce", 0, wide, label[n], K) / N;
        right += best == label[n];
    }
    assert_int_equal(device->cross_entropy(device, z, label, N, K, &loss, &correct, dz, &e), 0);
    assert_true(fabs(loss - wanted) < 1e-6);
    assert_int_equal(correct, right);
    for (int n = 0; n < N; n++) {
        double sum = 0, total = 0;
        for (int k = 0; k < K; k++) sum += exp((double)z[n * K + k]);
        for (int k = 0; k < K; k++) {
            double softmax = exp((double)z[n * K + k]) / sum;
            double d = (double)dz[n * K + k];
            assert_true(fabs(d - (softmax - (k == label[n])) / N) < 1e-7);
            total += d;
        }
        assert_true(fabs(total) < 1e-7);
    }
}

/* Rows do not see each other, and threads do not change a bit. */
static void test_rows_alone(void **state) {
    (void)state;
    enum { N = 9 };
    static float z[N * MOST], dz[N * MOST], alone[MOST];
    float value[N];
    int64_t t[N];
    Error e;
    logits(z, N * MOST, 5, 30);
    for (int n = 0; n < N; n++) t[n] = 11 * n;
    for (int i = 0; loss_at(i); i++)
        for (int threads = 1; threads <= 2; threads++) {
            LossCall call = loss_usual(loss_at(i));
            omp_set_num_threads(threads);
            assert_int_equal(device->loss(device, &call, z, t, N, MOST, value, dz, &e), 0);
            for (int n = 0; n < N; n++) {
                float v = run_call(&call, z + n * MOST, t[n], MOST, alone);
                assert_memory_equal(&v, &value[n], sizeof v);
                assert_memory_equal(alone, dz + n * MOST, sizeof alone);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_and_gradients),
        cmocka_unit_test(test_record_alone),
        cmocka_unit_test(test_where_float_stops),
        cmocka_unit_test(test_ce_value_is_fine),
        cmocka_unit_test(test_margin),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_rows_alone),
    };
    return cmocka_run_group_tests(tests, open_device, NULL);
}
