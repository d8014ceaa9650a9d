/* L-BFGS-B by reverse communication: minimisers worked out by hand, and that a solver's state is
 * its own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "solve/lbfgsb.h"

enum { D = 40, MOST = 500 };
static const LbfgsbOptions options = {.memory = 10, .tolerance = 1e-13, .gradient = 1e-12};
static Device *cpu;

static int open_device(void **state) {
    (void)state;
    Error e;
    return cpu_device(2, &cpu, &e);
}

static Tensor tensor_of(Dtype type, int64_t rows, int64_t columns) {
    Error e;
    Tensor t;
    int64_t shape[2] = {rows, columns};
    assert_int_equal(tensor_new(&t, cpu, type, columns ? 2 : 1, shape, &e), 0);
    memset(t.data, 0, tensor_bytes(&t));
    return t;
}

/* N problems that ascend L(x) = sum_i slope_i x_i - curve_i x_i^4, image n with its own numbers. */
typedef struct Problems {
    int64_t N;
    Tensor x, q, value, c, l2, state, start;
    Lbfgsb *solvers[MOST];
} Problems;

static double slope(int64_t image, int64_t i) {
    return 3 * random_uniform((uint64_t)image, (uint64_t)i) - 1.5;
}

static double curve(int64_t image, int64_t i) {
    return image % 2 ? random_uniform((uint64_t)image + 77, (uint64_t)i) : 0;
}

static Problems begin(int64_t N, int64_t first_image) {
    Error e;
    Problems p = {.N = N,
                  .x = tensor_of(DTYPE_F32, N, D),
                  .q = tensor_of(DTYPE_F32, N, D),
                  .start = tensor_of(DTYPE_F32, N, D),
                  .value = tensor_of(DTYPE_F32, N, 0),
                  .c = tensor_of(DTYPE_F64, N, 0),
                  .l2 = tensor_of(DTYPE_F64, N, 0),
                  .state = tensor_of(DTYPE_I64, N, 0)};
    for (int64_t n = 0; n < N; n++) {
        float *x0 = (float *)p.start.data + n * D;
        for (int64_t i = 0; i < D; i++)
            x0[i] = (float)random_uniform((uint64_t)(first_image + n) + 1000, (uint64_t)i);
        Tensor row;
        assert_int_equal(lbfgsb_new(&p.solvers[n], D, &options, &e), 0);
        assert_int_equal(tensor_narrow(&row, &p.start, n, 1, &e), 0);
        assert_int_equal(lbfgsb_start(p.solvers[n], &row, NULL, NULL, &e), 0);
        tensor_free(&row);
        memcpy((float *)p.x.data + n * D, x0, D * sizeof *x0);
        ((double *)p.c.data)[n] = 0.5 + (double)((first_image + n) % 3);
        ((int64_t *)p.state.data)[n] = LBFGSB_RUNNING;
    }
    return p;
}

static void end(Problems *p) {
    for (int64_t n = 0; n < p->N; n++) lbfgsb_free(p->solvers[n]);
    Tensor *all[] = {&p->x, &p->q, &p->start, &p->value, &p->c, &p->l2, &p->state};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) tensor_free(all[i]);
}

static void evaluate(Problems *p, int64_t first_image) {
    for (int64_t n = 0; n < p->N; n++) {
        const float *x = (float *)p->x.data + n * D;
        double sum = 0;
        for (int64_t i = 0; i < D; i++) {
            double v = (double)x[i], a = slope(first_image + n, i), b = curve(first_image + n, i);
            sum += a * v - b * v * v * v * v;
            ((float *)p->q.data)[n * D + i] = (float)(a - 4 * b * v * v * v);
        }
        ((float *)p->value.data)[n] = (float)sum;
    }
}

/* One turn for all images that still run; how many do. */
static int turn(Problems *p, int64_t first_image) {
    Error e = {0};
    int running = 0;
    double *c = p->c.data, kept[MOST];
    for (int64_t n = 0; n < p->N; n++) {
        kept[n] = c[n];
        if (((int64_t *)p->state.data)[n] != LBFGSB_RUNNING) c[n] = 0;
        running += c[n] != 0;
    }
    evaluate(p, first_image);
    LbfgsbBatch b = {&p->x, &p->q, &p->value, &p->c, &p->l2, &p->state};
    if (lbfgsb_advance(p->solvers, &b, &e) != 0) fail_msg("%s", e.text);
    memcpy(c, kept, (size_t)p->N * sizeof *c);
    return running;
}

/* The value comes in float, 1e-7 of it is noise, and its root is how near a minimiser can be told.
 * Without curvature the minimiser of c ||x - x0||^2 - a x is x0 + a / 2c, held to the box. */
static void test_minimiser(void **state) {
    (void)state;
    Problems p = begin(8, 0);
    for (int i = 0; i < 200 && turn(&p, 0); i++) continue;
    for (int64_t n = 0; n < 8; n++) {
        const float *x = (float *)p.x.data + n * D, *x0 = (float *)p.start.data + n * D;
        double c = ((double *)p.c.data)[n], square = 0;
        int bound = 0;
        assert_int_not_equal(((int64_t *)p.state.data)[n], LBFGSB_RUNNING);
        for (int64_t i = 0; i < D; i++) {
            double low = 0, high = 1; /* the derivative rises with x: bisect */
            for (int k = 0; k < 60; k++) {
                double v = (low + high) / 2;
                double slope_at =
                    2 * c * (v - (double)x0[i]) - slope(n, i) + 4 * curve(n, i) * v * v * v;
                *(slope_at > 0 ? &high : &low) = v;
            }
            if (n % 2 == 0) {
                double closed = (double)x0[i] + slope(n, i) / (2 * c);
                assert_float_equal((low + high) / 2, fmin(fmax(closed, 0), 1), 1e-9);
            }
            bound += low == 0 || high == 1;
            assert_float_equal((double)x[i], (low + high) / 2, 2e-3);
            square += ((double)x[i] - (double)x0[i]) * ((double)x[i] - (double)x0[i]);
        }
        assert_true(bound > 0 && bound < D);
        assert_float_equal(((double *)p.l2.data)[n], sqrt(square), 1e-12);
    }
    end(&p);
}

/* Many images in flight, in threads, are the images alone, bit for bit, at every turn. */
static void test_apart(void **state) {
    (void)state;
    enum { N = 32, TURNS = 25 };
    Problems together = begin(N, 0);
    Problems *alone = calloc(N, sizeof *alone);
    for (int64_t n = 0; n < N; n++) alone[n] = begin(1, n);
    for (int t = 0; t < TURNS; t++) {
        turn(&together, 0);
        for (int64_t n = N; n-- > 0;) {
            turn(&alone[n], n);
            assert_memory_equal((float *)together.x.data + n * D, alone[n].x.data,
                                D * sizeof(float));
            assert_true(((double *)together.l2.data)[n] == *(double *)alone[n].l2.data);
            assert_true(((int64_t *)together.state.data)[n] == *(int64_t *)alone[n].state.data);
        }
    }
    for (int64_t n = 0; n < N; n++) end(&alone[n]);
    free(alone);
    end(&together);
}

static void test_refusals(void **state) {
    (void)state;
    Error e;
    Lbfgsb *s;
    size_t before = memory_count().in_use;
    assert_int_equal(lbfgsb_new(&s, D, &(LbfgsbOptions){.memory = 0}, &e), -1);
    assert_non_null(strstr(e.text, "memory must be in 1 .. 100, got 0"));
    assert_int_equal(lbfgsb_new(&s, 1 << 30, &options, &e), -1);
    assert_non_null(strstr(e.text, "numbers"));
    assert_int_equal(lbfgsb_new(&s, D, &(LbfgsbOptions){.memory = 5, .tolerance = NAN}, &e), -1);
    for (int i = 1; i <= 10; i++) { /* each of its allocations fails in turn */
        memory_fail_at((uint64_t)i);
        assert_int_equal(lbfgsb_new(&s, D, &options, &e), -1);
        assert_null(s);
    }
    memory_fail_at(0);
    assert_int_equal(memory_count().in_use, before);
    Problems p = begin(2, 0);
    LbfgsbBatch b = {&p.x, &p.q, &p.value, &p.c, &p.l2, &p.state};
    Lbfgsb *idle[2] = {p.solvers[0], NULL};
    assert_int_equal(lbfgsb_advance(idle, &b, &e), -1);
    assert_non_null(strstr(e.text, "image 2 has c != 0, but its solver is not running"));
    b.c = &p.value;
    assert_int_equal(lbfgsb_advance(p.solvers, &b, &e), -1);
    assert_string_equal(e.text, "L-BFGS: c must be f64 [2], got f32 [2]");
    Tensor small = tensor_of(DTYPE_F32, 3, 0);
    assert_int_equal(lbfgsb_start(p.solvers[0], &small, NULL, NULL, &e), -1);
    tensor_free(&small);
    end(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimiser),
        cmocka_unit_test(test_apart),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_device, NULL);
}
