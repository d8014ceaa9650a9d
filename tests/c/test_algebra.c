/* What autograd is made of, at the tensors' front door: broadcasting over every way in which shapes
 * fit, rows around any dimension, selections, products, the same bits on any number of threads, and
 * what is refused. That the numbers are the mathematics is tests/lua/autograd_rules_spec.lua's. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tensor/algebra.h"

static Device *device;

static int open_device(void **state) {
    Error e;
    (void)state;
    return cpu_device(2, &device, &e);
}

static Tensor made(Dtype type, int ndim, const int64_t *shape) {
    Tensor t;
    Error e;
    assert_int_equal(tensor_new(&t, device, type, ndim, shape, &e), 0);
    return t;
}

static Tensor uniform(uint64_t key, int ndim, const int64_t *shape) {
    Tensor t;
    Error e;
    assert_int_equal(tensor_uniform(&t, device, key, ndim, shape, &e), 0);
    return t;
}

/* Element of t, which lies in host memory, at place `at` of a shape of ndim dimensions. */
static float repeated(const Tensor *t, int ndim, const int64_t *at) {
    int64_t i = 0;
    for (int d = 0; d < t->ndim; d++) {
        int64_t place = at[d + ndim - t->ndim];
        i = i * t->shape[d] + (t->shape[d] == 1 ? 0 : place);
    }
    return ((const float *)t->data)[i];
}

static void want_broadcast(const Tensor *a, const Tensor *b) {
    Error e;
    int ndim;
    int64_t shape[TENSOR_DIMS], at[TENSOR_DIMS];
    assert_int_equal(tensor_broadcast_shape(a, b, &ndim, shape, &e), 0);
    Tensor out = made(DTYPE_F32, ndim, shape);
    assert_int_equal(tensor_broadcast(BINARY_SUB, a, b, &out, &e), 0);
    for (int64_t i = 0; i < tensor_count(&out); i++) {
        int64_t rest = i;
        for (int d = ndim - 1; d >= 0; rest /= shape[d], d--) at[d] = rest % shape[d];
        float wanted = repeated(a, ndim, at) - repeated(b, ndim, at);
        assert_true(((float *)out.data)[i] == wanted);
    }
    tensor_free(&out);
}

/* Both operands take every mixture of full, single and missing dimensions. */
static void test_broadcast(void **state) {
    (void)state;
    const int64_t full[4] = {3, 2, 5, 4};
    for (int left = 0; left < 5 * 16; left++)
        for (int right = 0; right < 5 * 16; right++) {
            Tensor t[2];
            for (int k = 0; k < 2; k++) {
                int choice = k ? right : left, ndim = choice / 16;
                int64_t shape[4] = {0};
                for (int d = 0; d < ndim; d++) shape[d] = choice >> d & 1 ? 1 : full[d + 4 - ndim];
                t[k] = uniform(7 + (uint64_t)k, ndim, shape);
            }
            want_broadcast(&t[0], &t[1]);
            tensor_free(&t[0]), tensor_free(&t[1]);
        }
    const int64_t none[3] = {2, 0, 3}, row[1] = {3};
    Tensor a = made(DTYPE_F32, 3, none), b = uniform(1, 1, row);
    want_broadcast(&a, &b);
    tensor_free(&a), tensor_free(&b);
}

/* Rows long and short, threads few and many. */
static void test_threads(void **state) {
    (void)state;
    Error e;
    const int64_t shapes[3][3] = {{3, 50000, 1}, {2, 300, 400}, {1, 7, 40000}};
    for (int s = 0; s < 3; s++) {
        Tensor a = uniform(31, 3, shapes[s]), out[2][REDUCE_OPS + 3];
        RowShape r = tensor_rows(&a, 1);
        assert_true(r.outer == shapes[s][0] && r.K == shapes[s][1] && r.inner == shapes[s][2]);
        int64_t rows[2] = {r.outer, r.inner};
        for (int k = 0; k < 2; k++) {
            omp_set_num_threads(k ? 3 : 1);
            for (int op = 0; op < REDUCE_OPS; op++) {
                out[k][op] = made(DTYPE_F32, 2, rows);
                assert_int_equal(tensor_reduce((ReduceOp)op, &a, r, &out[k][op], &e), 0);
            }
            for (int kind = SOFTMAX; kind <= SOFTMAX_FLOAT; kind++) {
                Tensor *soft = &out[k][REDUCE_OPS + kind];
                *soft = made(DTYPE_F32, 3, shapes[s]);
                assert_int_equal(tensor_softmax((SoftmaxKind)kind, &a, 1, soft, &e), 0);
            }
        }
        for (int i = 0; i < REDUCE_OPS + 3; i++) {
            assert_memory_equal(out[0][i].data, out[1][i].data, tensor_bytes(&out[0][i]));
            tensor_free(&out[0][i]), tensor_free(&out[1][i]);
        }
        tensor_free(&a);
    }
    omp_set_num_threads(2);
}

static void test_rows_of_nothing(void **state) {
    (void)state;
    Error e;
    const int64_t empty[2] = {3, 0}, rows[1] = {3};
    Tensor a = made(DTYPE_F32, 2, empty), out = made(DTYPE_F32, 1, rows);
    for (int op = 0; op < REDUCE_OPS; op++) {
        assert_int_equal(tensor_reduce((ReduceOp)op, &a, tensor_rows(&a, 1), &out, &e), 0);
        for (int n = 0; n < 3; n++)
            assert_true(((float *)out.data)[n] == (op == REDUCE_LOGSUMEXP ? -INFINITY : 0));
    }
    assert_int_equal(tensor_softmax(SOFTMAX_LOG, &a, 1, &a, &e), 0);
    tensor_free(&a), tensor_free(&out);
}

static void test_top(void **state) {
    (void)state;
    Error e;
    const float row[7] = {1, NAN, 3, 3, -INFINITY, NAN, 3};
    const int64_t shape[1] = {7}, wanted[7] = {1, 5, 2, 3, 6, 0, 4};
    Tensor a = made(DTYPE_F32, 1, shape);
    memcpy(a.data, row, sizeof row);
    for (int64_t k = 1; k <= 7; k++) {
        Tensor value = made(DTYPE_F32, 1, &k), index = made(DTYPE_I64, 1, &k);
        assert_int_equal(tensor_top(&a, 0, k, &value, &index, &e), 0);
        for (int64_t j = 0; j < k; j++) {
            assert_int_equal(((int64_t *)index.data)[j], wanted[j]);
            assert_memory_equal((float *)value.data + j, row + wanted[j], sizeof *row);
        }
        tensor_free(&value), tensor_free(&index);
    }
    assert_int_equal(tensor_top(&a, 0, 8, &a, &a, &e), -1);
    assert_string_equal(e.text, "topk: k must be in 1 .. 7, got 8");
    tensor_free(&a);
}

/* <gather x, y> = <x, scatter y>, with indices that repeat. */
static void test_adjoint(void **state) {
    (void)state;
    Error e;
    const int64_t whole[3] = {2, 5, 3}, part[3] = {2, 8, 3}, rest[3] = {2, 4, 3}, rows[2] = {2, 3};
    Tensor x = uniform(1, 3, whole), back = made(DTYPE_F32, 3, whole);
    for (int others = 0; others < 2; others++) {
        Tensor y = uniform(2, 3, others ? rest : part);
        Tensor got = made(DTYPE_F32, 3, others ? rest : part);
        Tensor index = made(DTYPE_I64, others ? 2 : 3, others ? rows : part);
        for (int64_t i = 0; i < tensor_count(&index); i++)
            ((int64_t *)index.data)[i] = (int64_t)(5 * random_uniform(9, (uint64_t)i));
        assert_int_equal(tensor_gather(others, &x, 1, &index, &got, &e), 0);
        assert_int_equal(tensor_scatter(others, &y, 1, &index, &back, &e), 0);
        double left = 0, right = 0;
        for (int64_t i = 0; i < tensor_count(&y); i++)
            left += (double)((float *)got.data)[i] * (double)((float *)y.data)[i];
        for (int64_t i = 0; i < tensor_count(&x); i++)
            right += (double)((float *)x.data)[i] * (double)((float *)back.data)[i];
        assert_true(fabs(left - right) < 1e-5 * fabs(left) && left != 0);
        for (int bad = 0; bad < 2; bad++) {
            ((int64_t *)index.data)[3] = bad ? -1 : 5;
            assert_int_equal(tensor_gather(others, &x, 1, &index, &got, &e), -1);
            assert_non_null(strstr(e.text, "index 4 must be in 0 .. 4, got "));
            assert_int_equal(tensor_scatter(others, &y, 1, &index, &back, &e), -1);
        }
        tensor_free(&y), tensor_free(&got), tensor_free(&index);
    }
    tensor_free(&x), tensor_free(&back);
}

/* Sizes around the kernels' blocks; every kind of product is that of the first. */
static void test_matmul(void **state) {
    (void)state;
    Error e;
    const int64_t sizes[6] = {0, 1, 3, 8, 9, 30};
    for (int64_t c = 0; c < 6 * 6 * 6; c++) {
        int64_t M = sizes[c % 6], K = sizes[c / 6 % 6], N = sizes[c / 36], shape[2];
        const int64_t left[2][2] = {{M, K}, {K, M}}, right[2][2] = {{K, N}, {N, K}},
                      all[2] = {M, N};
        for (int kind = 0; kind < MATMUL_KINDS; kind++) {
            bool a_turned = kind == MATMUL_TN, b_turned = kind == MATMUL_NT;
            Tensor a = uniform(4, 2, left[a_turned]), b = uniform(5, 2, right[b_turned]);
            Tensor out = made(DTYPE_F32, 2, all);
            assert_int_equal(tensor_matmul_shape((MatmulKind)kind, &a, &b, shape, &e), 0);
            assert_true(shape[0] == M && shape[1] == N);
            assert_int_equal(tensor_matmul((MatmulKind)kind, &a, &b, &out, &e), 0);
            for (int64_t i = 0; i < M * N; i++) {
                double sum = 0;
                for (int64_t k = 0; k < K; k++) {
                    int64_t m = i / N, n = i % N;
                    sum += (double)((float *)a.data)[a_turned ? k * M + m : m * K + k] *
                           (double)((float *)b.data)[b_turned ? n * K + k : k * N + n];
                }
                assert_true(fabs((double)((float *)out.data)[i] - sum) <= 1e-6 * sum);
            }
            tensor_free(&a), tensor_free(&b), tensor_free(&out);
        }
    }
}

static void want_refused(int status, const Error *e, const char *text) {
    assert_int_equal(status, -1);
    if (!strstr(e->text, text)) fail_msg("'%s' does not say '%s'", e->text, text);
}

static void test_door(void **state) {
    (void)state;
    Error e;
    int ndim;
    const int64_t shape[2] = {2, 3}, other[2] = {3, 2}, row[1] = {2};
    int64_t got[TENSOR_DIMS];
    Tensor a = uniform(1, 2, shape), b = uniform(1, 2, other), wide = made(DTYPE_F64, 2, shape);
    Tensor n = uniform(1, 1, row), classes = made(DTYPE_I64, 1, row), empty = {0};
    memset(classes.data, 0, tensor_bytes(&classes));
    want_refused(tensor_map(MAP_EXP, &wide, &a, &e), &e, "a must be f32, got f64");
    want_refused(tensor_map(MAP_EXP, &a, &n, &e), &e, "out must have 6 elements, got [2]");
    want_refused(tensor_map(MAP_EXP, &a, &empty, &e), &e, "out is an emptied tensor");
    want_refused(tensor_broadcast_shape(&a, &b, &ndim, got, &e), &e,
                 "shapes [2,3] and [3,2] cannot be broadcast together");
    want_refused(tensor_broadcast(BINARY_ADD, &a, &b, &a, &e), &e, "cannot be broadcast");
    want_refused(tensor_broadcast(BINARY_ADD, &a, &a, &n, &e), &e, "shape [2,3], got [2]");
    want_refused(tensor_broadcast(BINARY_ADD, &a, &wide, &a, &e), &e, "b must be f32");
    want_refused(tensor_reduce(REDUCE_SUM, &a, tensor_rows(&a, 0), &n, &e), &e, "3 elements");
    want_refused(tensor_reduce(REDUCE_SUM, &a, (RowShape){2, 4, 1}, &n, &e), &e, "a must have 8");
    want_refused(tensor_softmax(SOFTMAX, &a, 2, &a, &e), &e, "softmax: no dimension 3");
    want_refused(tensor_softmax(SOFTMAX_LOG, &a, -1, &a, &e), &e, "log_softmax: no dimension 0");
    want_refused(tensor_softmax(SOFTMAX_LOG, &a, 1, &n, &e), &e, "out must have 6");
    want_refused(tensor_top(&a, 2, 1, &n, &classes, &e), &e, "no dimension 3");
    want_refused(tensor_top(&a, 1, 0, &n, &classes, &e), &e, "k must be in 1 .. 3, got 0");
    want_refused(tensor_top(&a, 1, 2, &n, &classes, &e), &e, "value must have 4");
    want_refused(tensor_top(&a, 1, 1, &n, &n, &e), &e, "index must be i64");
    want_refused(tensor_gather(false, &a, 1, &n, &n, &e), &e, "index must be i64, got f32");
    want_refused(tensor_gather(false, &a, 0, &classes, &n, &e), &e, "index must have 0 elements");
    want_refused(tensor_gather(true, &a, 1, &classes, &n, &e), &e, "others: part must have 4");
    want_refused(tensor_scatter(false, &a, 1, &classes, &b, &e), &e, "scatter: index must have 0");
    want_refused(tensor_matmul_shape(MATMUL_NN, &a, &a, got, &e), &e, "[2,3] by [2,3]");
    want_refused(tensor_matmul_shape(MATMUL_NT, &a, &b, got, &e), &e, "[2,3] by [3,2]'");
    want_refused(tensor_matmul_shape(MATMUL_NN, &a, &n, got, &e), &e, "[2,3] by [2]");
    want_refused(tensor_matmul(MATMUL_NN, &a, &b, &a, &e), &e, "out must have 4");
    Tensor all[] = {a, b, wide, n, classes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) tensor_free(&all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_rows_of_nothing),
        cmocka_unit_test(test_top),
        cmocka_unit_test(test_adjoint),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_door),
    };
    return cmocka_run_group_tests(tests, open_device, NULL);
}
