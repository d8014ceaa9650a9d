/* Every operation of a device against the CPU's, on the same numbers: run with the device that
 * ADVRT_TEST_DEVICE names. Tolerances are relative to the larger of 1 and the CPU's number. */
#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "tensor/loss.h"
#include "tensor/tensor.h"
#include "under_test.h"

static Device *cpu;
static char program[PATH_MAX]; /* this one, for the other ranks */

enum { ARRAYS = 8 };

/* One array of a case: n numbers of a type, uniform from low to high; some of them are special. */
typedef struct Array {
    Dtype type;
    int64_t n;
    double low, high;
} Array;

#define F32(n, low, high)                                                                          \
    { DTYPE_F32, n, low, high }
#define F64(n, low, high)                                                                          \
    { DTYPE_F64, n, low, high }
#define I64(n, low, high)                                                                          \
    { DTYPE_I64, n, low, high }
#define U8(n)                                                                                      \
    { DTYPE_U8, n, 0, 0 }

/* An operation on arrays, of which it changes some; all are compared. */
typedef struct Case {
    const char *name;
    int (*run)(Device *d, void **a, Error *e);
    double tolerance;
    Array array[ARRAYS];
    bool special; /* with NaN, infinities, zeros and subnormals among the f32 */
} Case;

static double number(const Case *c, int which, int64_t i) {
    static const float specials[] = {NAN, INFINITY, -INFINITY, 0, -0.0F, 1e-42F, -1e-42F, 1};
    const Array *a = &c->array[which];
    uint64_t key = random_hash(RANDOM_EMPTY, c->name, strlen(c->name)) + (uint64_t)which;
    if (c->special && a->type == DTYPE_F32 && i % 7 == 3)
        return (double)specials[random_bits(key, (uint64_t)i) % 8];
    return a->low + (a->high - a->low) * random_uniform(key + 99, (uint64_t)i);
}

/* The arrays' numbers on the host, as the operation leaves them on the device. */
static void run_on(Device *d, const Case *c, void **host) {
    void *memory[ARRAYS] = {0};
    Error e = {0};
    for (int k = 0; k < ARRAYS && c->array[k].n; k++) {
        const Array *a = &c->array[k];
        size_t size = dtype_size(a->type), bytes = size * (size_t)a->n;
        host[k] = malloc(bytes);
        for (int64_t i = 0; i < a->n; i++) {
            double v = number(c, k, i);
            dtype_convert(a->type, (char *)host[k] + (size_t)i * size, DTYPE_F64, &v, 1);
        }
        if (d->take(d, bytes, "a case", &memory[k], &e) ||
            d->copy_in(d, memory[k], host[k], bytes, &e))
            fail_msg("%s: %s", c->name, e.text);
    }
    if (c->run(d, memory, &e)) fail_msg("%s: %s", c->name, e.text);
    for (int k = 0; k < ARRAYS && c->array[k].n; k++) {
        size_t bytes = dtype_size(c->array[k].type) * (size_t)c->array[k].n;
        if (d->copy_out(d, host[k], memory[k], bytes, &e)) fail_msg("%s: %s", c->name, e.text);
        d->release(d, memory[k]);
    }
}

static void compare(const Case *c, int which, const void *got, const void *wanted) {
    const Array *a = &c->array[which];
    size_t size = dtype_size(a->type);
    for (int64_t i = 0; i < a->n; i++) {
        double x, y;
        dtype_convert(DTYPE_F64, &x, a->type, (const char *)got + (size_t)i * size, 1);
        dtype_convert(DTYPE_F64, &y, a->type, (const char *)wanted + (size_t)i * size, 1);
        bool same =
            x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= c->tolerance * fmax(1, fabs(y));
        if (!same)
            fail_msg("%s: array %d[%d] is %.9g, on the CPU %.9g", c->name, which, (int)i, x, y);
    }
}

static void check(const Case *c) {
    void *got[ARRAYS] = {0}, *wanted[ARRAYS] = {0};
    run_on(cpu, c, wanted);
    run_on(device, c, got);
    for (int k = 0; k < ARRAYS && c->array[k].n; k++) {
        compare(c, k, got[k], wanted[k]);
        free(got[k]), free(wanted[k]);
    }
}

/* --- elementwise --- */

enum { N = 1000, BATCH = 3, D = 20011, K = 70 };

static BinaryOp binary_op;

static int run_binary(Device *d, void **a, Error *e) {
    return d->binary(d, binary_op, a[0], a[1], a[2], N, e) ||
           d->binary_scalar(d, binary_op, a[0], 0.7F, a[3], N, e) ||
           d->binary_scalar(d, binary_op, a[0], NAN, a[4], N, e);
}

static int run_broadcast(Device *d, void **a, Error *e) {
    /* [5,1,8] with [1,25,8], and with a row that repeats */
    Broadcast s = {3, {5, 25, 8}, {8, 0, 1}, {0, 8, 1}}, row = {2, {125, 8}, {8, 1}, {0, 1}};
    return d->broadcast(d, binary_op, &s, a[0], a[1], a[2], e) ||
           d->broadcast(d, binary_op, &row, a[2], a[1], a[3], e);
}

static void test_binary(void **state) {
    (void)state;
    for (int op = 0; op < BINARY_OPS; op++) {
        binary_op = (BinaryOp)op;
        double tolerance = op == BINARY_POW ? 1e-5 : 0;
        Case c = {"binary",
                  run_binary,
                  tolerance,
                  {F32(N, -2, 2), F32(N, -2, 2), F32(N, 0, 0), F32(N, 0, 0), F32(N, 0, 0)},
                  true};
        check(&c);
        Case wide = {"broadcast",
                     run_broadcast,
                     tolerance,
                     {F32(40, 0.1, 2), F32(200, 0.1, 2), F32(N, 0, 0), F32(N, 0, 0)},
                     op != BINARY_POW};
        check(&wide);
    }
}

static int run_unary(Device *d, void **a, Error *e) {
    return d->fill(d, a[1], -0.25F, N, e) || d->clamp(d, a[0], -1, 1, a[2], N, e) ||
           d->quantize(d, a[0], 255, a[3], N, e) || d->sign(d, a[0], a[4], N, e) ||
           d->copy(d, a[5], a[0], N * 4, e) || d->fill(d, a[0], 3, 0, e);
}

static MapOp map_op;

static int run_map(Device *d, void **a, Error *e) {
    return d->map(d, map_op, a[0], a[1], N, e) || d->map(d, map_op, a[0], a[0], N, e);
}

static void test_unary(void **state) {
    (void)state;
    Case c = {"unary",
              run_unary,
              0,
              {F32(N, -2, 2), F32(N, 0, 0), F32(N, 0, 0), F32(N, 0, 0), F32(N, 0, 0), F32(N, 0, 0)},
              true};
    check(&c);
    for (int op = 0; op < MAP_OPS; op++) {
        map_op = (MapOp)op;
        Case m = {"map", run_map, 1e-6, {F32(N, 0.1, 3), F32(N, 0, 0)}, true};
        check(&m);
    }
}

/* --- rows --- */

static const RowShape shapes[] = {{6, K, 1}, {2, 5, 21}, {1, 1, 9}, {3, 33, 4}};

static RowShape rows;
static ReduceOp reduce_op;

static int run_reduce(Device *d, void **a, Error *e) {
    return d->reduce(d, reduce_op, a[0], rows, a[1], e);
}

static int run_softmax(Device *d, void **a, Error *e) {
    return d->softmax(d, SOFTMAX, a[0], rows, a[1], e) ||
           d->softmax(d, SOFTMAX_LOG, a[0], rows, a[2], e) ||
           d->softmax(d, SOFTMAX_FLOAT, a[0], rows, a[3], e);
}

static int run_top(Device *d, void **a, Error *e) {
    int64_t k = rows.K < 4 ? rows.K : 4;
    return d->top(d, a[0], rows, k, a[1], a[2], e);
}

/* J indices of a row, and the row without one. */
static int run_select(Device *d, void **a, Error *e) {
    enum { J = 3 };
    return d->gather(d, false, a[0], a[1], rows, J, a[3], e) ||
           d->gather(d, true, a[0], a[2], rows, rows.K - 1, a[4], e) ||
           d->scatter(d, false, a[3], a[1], rows, J, a[5], e) ||
           d->scatter(d, true, a[4], a[2], rows, rows.K - 1, a[6], e);
}

static void test_rows(void **state) {
    (void)state;
    for (int s = 0; s < 4; s++) {
        rows = shapes[s];
        int64_t n = rows.outer * rows.inner, all = n * rows.K, k = rows.K < 4 ? rows.K : 4;
        for (int op = 0; op < REDUCE_OPS; op++)
            for (int special = 0; special < 2; special++) {
                reduce_op = (ReduceOp)op;
                Case c = {"reduce", run_reduce, 1e-6, {F32(all, -3, 3), F32(n, 0, 0)}, special};
                check(&c);
            }
        Case soft = {"softmax",
                     run_softmax,
                     2e-6,
                     {F32(all, -9, 9), F32(all, 0, 0), F32(all, 0, 0), F32(all, 0, 0)},
                     0};
        check(&soft);
        Case top = {"top", run_top, 0, {F32(all, -2, 2), F32(n * k, 0, 0), I64(n * k, 0, 0)}, true};
        check(&top);
        Case pick = {"select",
                     run_select,
                     1e-6,
                     {F32(all, -2, 2), I64(3 * n, 0, (double)rows.K), I64(n, 0, (double)rows.K),
                      F32(3 * n, 0, 0), F32(all - n + (rows.K == 1), 0, 0), F32(all, 0, 0),
                      F32(all, 0, 0)},
                     false};
        check(&pick);
    }
}

static int run_matmul(Device *d, void **a, Error *e) {
    return d->matmul(d, MATMUL_NN, a[0], a[1], a[2], 10, 20, 30, e) ||
           d->matmul(d, MATMUL_NT, a[0], a[1], a[3], 10, 20, 30, e) ||
           d->matmul(d, MATMUL_TN, a[0], a[1], a[4], 10, 20, 30, e) ||
           d->matmul(d, MATMUL_NN, a[0], a[1], a[5], 3, 0, 5, e) ||
           d->matmul(d, MATMUL_NN, a[0], a[1], a[5], 0, 2, 5, e);
}

static void test_matmul(void **state) {
    (void)state;
    Case c = {"matmul",
              run_matmul,
              1e-5,
              {F32(200, -1, 1), F32(600, -1, 1), F32(300, 0, 0), F32(300, 0, 0), F32(300, 0, 0),
               F32(15, 1, 2)},
              false};
    check(&c);
}

/* --- losses --- */

static LossCall loss_call;

static int run_loss(Device *d, void **a, Error *e) {
    return d->loss(d, &loss_call, a[0], a[1], 9, K, a[2], a[3], e);
}

static int run_stats(Device *d, void **a, Error *e) {
    LogitStats out = {a[1], (float *)a[1] + 9, (float *)a[1] + 18, (float *)a[1] + 27, a[2], a[3]};
    return d->logit_stats(d, a[0], a[4], a[5], 9, K, &out, e);
}

/* The host's numbers go where they are compared with the rest. */
static int run_cross_entropy(Device *d, void **a, Error *e) {
    double loss;
    int64_t correct;
    if (d->cross_entropy(d, a[0], a[1], 9, K, &loss, &correct, a[2], e)) return -1;
    double both[2] = {loss, (double)correct};
    return d->copy_in(d, a[3], both, sizeof both, e);
}

/* A loss without a function of the device's own is refused; a device must not take another's. */
static void test_unknown_loss(void **state) {
    (void)state;
    Loss unknown = *loss_at(0);
    unknown.name = "unheard";
    LossCall call = {.loss = &unknown};
    char wanted[128];
    Error e = {0};
    snprintf(wanted, sizeof wanted, "device %s does not compute loss unheard: use --device cpu",
             device->name);
    assert_int_equal(device->loss(device, &call, NULL, NULL, 1, 2, NULL, NULL, &e), -1);
    assert_string_equal(e.text, wanted);
}

static void test_losses(void **state) {
    (void)state;
    for (int i = 0; loss_at(i); i++)
        for (int special = 0; special < 2; special++) {
            loss_call = loss_usual(loss_at(i));
            for (int k = 0; k < LOSS_PARAMETERS; k++) loss_call.p[k] /= 10;
            Case c = {"loss",
                      run_loss,
                      2e-6,
                      {F32(9 * K, -20, 20), I64(9, 0, K), F32(9, 0, 0), F32(9 * K, 0, 0)},
                      special};
            check(&c);
        }
    for (int special = 0; special < 2; special++) {
        Case stats = {
            "stats",
            run_stats,
            1e-6,
            {F32(9 * K, -5, 5), F32(36, 0, 0), I64(9, 0, 0), U8(9), I64(9, 0, K), I64(9, 0, K)},
            special};
        check(&stats);
    }
    Case c = {"cross entropy",
              run_cross_entropy,
              1e-6,
              {F32(9 * K, -5, 5), I64(9, 0, K), F32(9 * K, 0, 0), F64(2, 0, 0)},
              false};
    check(&c);
}

/* --- images and optimisers --- */

static int run_norms(Device *d, void **a, Error *e) {
    return d->norms(d, a[0], BATCH, D, a[1], a[2], a[3], e);
}

static int run_step(Device *d, void **a, Error *e) {
    return d->step(d, a[0], a[1], a[2], a[3], (Box){0}, BATCH, D, a[4], a[5], e);
}

static int run_boxed_step(Device *d, void **a, Error *e) {
    return d->step(d, a[0], a[1], a[2], a[3], (Box){a[6], a[7]}, BATCH, D, a[4], a[5], e);
}

static int run_project(Device *d, void **a, Error *e) {
    return d->project(d, a[0], a[1], a[2], a[3], BATCH, D, e);
}

static int run_tanh_in(Device *d, void **a, Box box, Error *e) {
    AdamStep s = {.rate = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    float *memory = a[0];
    int64_t n = BATCH * D;
    TanhStep t = {.box = box,
                  .x = memory,
                  .w = memory + n,
                  .m = memory + 2 * n,
                  .v = memory + 3 * n,
                  .q = a[1],
                  .x0 = a[2],
                  .c = a[3],
                  .t = a[4],
                  .l2 = a[5]};
    return d->tanh_step(d, &s, &t, BATCH, D, e);
}

static int run_tanh(Device *d, void **a, Error *e) {
    return run_tanh_in(d, a, (Box){0}, e);
}

static int run_boxed_tanh(Device *d, void **a, Error *e) {
    return run_tanh_in(d, a, (Box){a[6], a[7]}, e);
}

static int run_optimisers(Device *d, void **a, Error *e) {
    SgdStep sgd = {.rate = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true};
    AdamStep adam = {
        .rate = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .t = 3};
    if (d->sgd(d, &sgd, a[0], a[1], a[2], N, e) || d->adam(d, &adam, a[0], a[1], a[2], a[3], N, e))
        return -1;
    adam.decoupled = true;
    sgd.nesterov = false;
    return d->adam(d, &adam, a[0], a[1], a[2], a[3], N, e) ||
           d->sgd(d, &sgd, a[0], a[1], a[2], N, e);
}

static void test_images(void **state) {
    (void)state;
    Array doubles = F64(BATCH, 0, 0);
    for (int special = 0; special < 2; special++) {
        Case c = {
            "norms", run_norms, 1e-12, {F32(BATCH * D, -1, 1), doubles, doubles, doubles}, special};
        check(&c);
    }
    Case step = {"step",
                 run_step,
                 1e-12,
                 {F32(BATCH * D, 0, 1), F32(BATCH * D, -1, 1), F64(BATCH, 0, 1),
                  F32(BATCH * D, 0, 1), doubles, doubles},
                 false};
    check(&step);
    Case project = {
        "project",
        run_project,
        0,
        {F32(BATCH * D, 0, 1), F32(BATCH * D, 0, 1), F64(BATCH, 0.5, 1), F64(BATCH, 0, 0.4)},
        false};
    check(&project);
    Case tanh = {"tanh",
                 run_tanh,
                 2e-6,
                 {F32(4 * BATCH * D, 0.01, 0.99), F32(BATCH * D, -1, 1), F32(BATCH * D, 0, 1),
                  F64(BATCH, 0, 5), I64(BATCH, 0, 3), doubles},
                 false};
    check(&tanh);
    Case boxed[] = {
        {"step in a box",
         run_boxed_step,
         1e-12,
         {F32(BATCH * D, -3, 2), F32(BATCH * D, -9, 9), F64(BATCH, 0, 1), F32(BATCH * D, -3, 2),
          doubles, doubles, F32(D, -3, -1), F32(D, 0, 2)},
         false},
        {"project below zero",
         run_project,
         0,
         {F32(BATCH * D, -3, 2), F32(BATCH * D, -3, 2), F64(BATCH, 0.5, 1), F64(BATCH, 0, 3)},
         false},
        {"tanh in a box",
         run_boxed_tanh,
         2e-6,
         {F32(4 * BATCH * D, 0.01, 0.99), F32(BATCH * D, -1, 1), F32(BATCH * D, 0, 1),
          F64(BATCH, 0, 5), I64(BATCH, 0, 3), doubles, F32(D, -3, -1), F32(D, 0, 2)},
         false},
    };
    for (size_t i = 0; i < sizeof boxed / sizeof *boxed; i++) check(&boxed[i]);
    Case optimisers = {"optimisers",
                       run_optimisers,
                       2e-6,
                       {F32(N, -1, 1), F32(N, -1, 1), F32(N, -1, 1), F32(N, 0, 1)},
                       false};
    check(&optimisers);
}

/* --- memory --- */

/* Across the pieces that copies are made of, and back. */
static void test_copies(void **state) {
    (void)state;
    Error e = {0};
    const size_t sizes[] = {1, 7, 300 << 10, (4 << 20) + 13, 21 << 20};
    for (int i = 0; i < 5; i++) {
        size_t n = sizes[i];
        unsigned char *from = malloc(n), *to = malloc(n);
        void *a, *b;
        for (size_t k = 0; k < n; k++) from[k] = (unsigned char)(k * 31 + k / 255);
        assert_int_equal(device->take(device, n, "a copy", &a, &e), 0);
        assert_int_equal(device->take(device, n, "a copy", &b, &e), 0);
        assert_int_equal(device->copy_in(device, a, from, n, &e), 0);
        assert_int_equal(device->copy(device, b, a, n, &e), 0);
        assert_int_equal(device->copy(device, b, b, n, &e), 0);
        assert_int_equal(device->copy_out(device, to, b, n, &e), 0);
        assert_memory_equal(from, to, n);
        device->release(device, a), device->release(device, b);
        free(from), free(to);
    }
}

/* What was given back serves again, and is counted while it is taken. */
static void test_pool(void **state) {
    (void)state;
    Error e = {0};
    void *a, *b;
    size_t before = memory_count().in_use;
    assert_int_equal(device->take(device, 5 << 20, "first", &a, &e), 0);
    assert_true(memory_count().in_use >= before + (5 << 20));
    device->release(device, a);
    assert_int_equal(memory_count().in_use, before);
    assert_int_equal(device->take(device, (5 << 20) - 100, "second", &b, &e), 0);
    if (device != cpu) assert_ptr_equal(a, b);
    device->release(device, b);
    device->release(device, NULL);
}

/* --- groups --- */

enum { RANKS = 3, SUMMED = 40001 };

/* Rank r of a group puts in r + i / 1000: what comes out is the same everywhere. */
static void sum_as(int rank, int count, const char id[GROUP_ID]) {
    Error e = {0};
    Group *g;
    float *x = malloc(SUMMED * sizeof *x), *d = under_test_buffer(0, SUMMED);
    if (device->group_new(device, rank, count, id, &g, &e)) fail_msg("%s", e.text);
    assert_true(g->rank == rank && g->count == count);
    for (int i = 0; i < SUMMED; i++) x[i] = (float)rank + (float)i / 1000;
    assert_int_equal(device->copy_in(device, d, x, SUMMED * sizeof *x, &e), 0);
    if (g->sum(g, d, SUMMED, &e)) fail_msg("%s", e.text);
    assert_int_equal(g->sum(g, d, 0, &e), 0);
    assert_int_equal(device->copy_out(device, x, d, SUMMED * sizeof *x, &e), 0);
    for (int i = 0; i < SUMMED; i++) {
        float wanted = 0;
        for (int r = 0; r < count; r++) wanted += (float)r + (float)i / 1000;
        if (fabsf(x[i] - wanted) > 1e-5F * wanted)
            fail_msg("rank %d, element %d: %g, not %g", rank, i, (double)x[i], (double)wanted);
    }
    g->free(g);
    free(x);
}

static void test_group_of_one(void **state) {
    (void)state;
    Error e = {0};
    Group *g;
    char id[GROUP_ID];
    if (!device->group_new) skip();
    if (device->group_id(device, id, &e)) fail_msg("%s", e.text);
    sum_as(0, 1, id);
    assert_int_equal(device->group_new(device, 1, 1, id, &g, &e), -1);
    assert_non_null(strstr(e.text, "a group of 1 has no rank 1"));
}

/* --- what goes wrong, where the device is the stand-in --- */

static void (*fail_call)(const char *name, int n);
static int (*call_failed)(void);
static void (*limit_memory)(size_t bytes);
static void (*forget_error)(void);

/* Finds the stand-in's own functions, or skips the test. */
static void want_standin(void) {
    void *lib = dlopen("libstandin.so", RTLD_NOW | RTLD_NOLOAD);
    if (!lib) skip();
    *(void **)&fail_call = dlsym(lib, "standin_fail");
    *(void **)&call_failed = dlsym(lib, "standin_failed");
    *(void **)&limit_memory = dlsym(lib, "standin_memory");
    *(void **)&forget_error = dlsym(lib, "standin_reset_error");
}

/* Each rank is a process of its own: this program, told its rank and the group's name. */
static void test_group_of_several(void **state) {
    (void)state;
    want_standin();
    Error e = {0};
    char id[GROUP_ID], rank[8], own[16];
    pid_t child[RANKS];
    if (!device->group_new) skip();
    if (device->group_id(device, id, &e)) fail_msg("%s", e.text);
    fflush(NULL);
    for (int r = 1; r < RANKS; r++) {
        snprintf(rank, sizeof rank, "%d", r);
        snprintf(own, sizeof own, "cuda:%d", r);
        child[r] = fork();
        assert_int_not_equal(child[r], -1);
        if (child[r] == 0) {
            setenv("ADVRT_TEST_DEVICE", own, 1); /* NCCL wants a GPU for each */
            setenv("STANDIN_GPUS", "3", 1);
            execl(program, program, rank, id, NULL);
            _exit(127);
        }
    }
    sum_as(0, RANKS, id);
    for (int r = 1; r < RANKS; r++) {
        int status;
        assert_int_equal(waitpid(child[r], &status, 0), child[r]);
        assert_int_equal(status, 0);
    }
}

static int as_rank(char **argv) {
    char id[GROUP_ID] = "";
    snprintf(id, sizeof id, "%s", argv[2]);
    sum_as(atoi(argv[1]), RANKS, id);
    under_test_close();
    return 0;
}

/* A group's calls that fail, and what a lost peer leaves. */
static void test_failures_of_groups(void **state) {
    (void)state;
    want_standin();
    static const char *const calls[] = {"ncclGetUniqueId", "ncclCommInitRank", "ncclAllReduce",
                                        "ncclCommGetAsyncError"};
    if (!device->group_new) skip();
    float *x = under_test_buffer(0, 8);
    for (int i = 0; i < 4; i++) {
        Error e = {0};
        Group *g = NULL;
        char id[GROUP_ID];
        size_t before = memory_count().in_use;
        fail_call(calls[i], 1);
        int failed = device->fill(device, x, 1, 8, &e) || device->group_id(device, id, &e) ||
                     device->group_new(device, 0, 1, id, &g, &e) || g->sum(g, x, 8, &e);
        assert_true(call_failed());
        if (g) g->free(g);
        fail_call("any", 0);
        if (!failed || !strstr(e.text, i == 3 ? "remote process" : calls[i]))
            fail_msg("%s: '%s'", calls[i], e.text);
        assert_int_equal(memory_count().in_use, before);
    }
}

static void add(Graph *g, Layer l, int input) {
    Error e = {0};
    int value;
    l.inputs = 1;
    l.input[0] = input;
    l.eps = 1e-3;
    l.groups = l.groups ? l.groups : 1;
    snprintf(l.name, sizeof l.name, "layer%d", g->n_layers);
    if (graph_add(g, &l, &value, &e)) fail_msg("%s", e.text);
}

/* Every way that lowering takes: planes, both kinds of convolution, padding, pools, a grid into a
 * linear layer. */
static Graph *sample_net(void) {
    Graph *g;
    Error e = {0};
    double mean[2] = {0.4, 0.5}, std[2] = {0.2, 0.3};
    assert_int_equal(graph_new(&g, 2, 12, 10, &e), 0);
    add(g, (Layer){.kind = LAYER_NORMALIZE, .mean = mean, .std = std}, 0);
    Layer conv = {
        .kind = LAYER_CONV, .C = 8, .kernel = {3, 3}, .stride = {1, 1}, .pad = {0, 1, 1, 1}};
    add(g, conv, 1);
    add(g, (Layer){.kind = LAYER_BATCHNORM, .momentum = 0.1}, 2);
    add(g, (Layer){.kind = LAYER_RELU, .cap = 6}, 3);
    conv.groups = 8;
    add(g, conv, 4);
    add(g, (Layer){.kind = LAYER_RELU, .cap = INFINITY}, 5);
    add(g, (Layer){.kind = LAYER_MAXPOOL, .kernel = {2, 2}, .stride = {2, 2}}, 6);
    add(g, (Layer){.kind = LAYER_ADAPTIVE_AVGPOOL, .out = {2, 2}}, 7);
    add(g, (Layer){.kind = LAYER_LINEAR, .C = 5, .bias = true}, 8);
    if (graph_init_golden(g, device, "", NULL, &e)) fail_msg("%s", e.text);
    return g;
}

/* A plan of each purpose made and run. */
static int make_and_run(Graph *g, PlanPurpose purpose, Error *e) {
    float x[2 * 240] = {0.5F}, z[10], dx[2 * 240];
    PlanRequest r = {.purpose = purpose, .N = 2};
    Plan *p;
    if (plan_new(g, device, &r, &p, e)) return -1;
    int failed = plan_time(p, true, e) || host_forward(p, x, z, e) ||
                 (purpose == PLAN_GRADIENT && host_backward(p, z, dx, e)) ||
                 (purpose == PLAN_TRAINING && host_train_backward(p, z, e)) ||
                 plan_time(p, false, e);
    plan_free(p);
    return failed;
}

/* Every call of CUDA's, cuBLAS's and cuDNN's in turn fails: an error that names it, nothing lost,
 * and the next run is well. */
static void test_failures(void **state) {
    (void)state;
    want_standin();
    Graph *g = sample_net();
    Error e = {0};
    for (int i = 0; i < 4; i++) under_test_buffer(i, 2 * 240);
    for (int purpose = PLAN_FORWARD; purpose <= PLAN_TRAINING; purpose++) {
        if (make_and_run(g, (PlanPurpose)purpose, &e)) fail_msg("%s", e.text);
        size_t before = memory_count().in_use;
        int n = 1;
        for (;; n++) {
            Error said = {0};
            fail_call("any", n);
            int failed = make_and_run(g, (PlanPurpose)purpose, &said);
            bool happened = call_failed();
            fail_call("any", 0);
            assert_int_equal(memory_count().in_use, before);
            if (!happened) {
                assert_int_equal(failed, 0);
                break;
            }
            if (!failed || !strstr(said.text, "cuda:0")) fail_msg("call %d: '%s'", n, said.text);
        }
        assert_true(n > 40);
    }
    graph_free(g);
}

/* Opening in which every call fails in turn; the stand-in counts what is left behind. */
static void test_failures_of_opening(void **state) {
    (void)state;
    want_standin();
    for (int n = 1;; n++) {
        Error e = {0};
        Device *d = NULL;
        size_t before = memory_count().in_use;
        fail_call("any", n);
        int failed = device_open("cuda", 0, getenv("ADVRT_TEST_FOLDER"), &d, &e);
        bool happened = call_failed();
        fail_call("any", 0);
        if (!failed) device_close(d);
        assert_int_equal(memory_count().in_use, before);
        if (!happened) break;
        if (!failed || !strstr(e.text, "--device cuda: ")) fail_msg("call %d: '%s'", n, e.text);
    }
}

/* What does not fit says what would. */
static void test_largest_batch(void **state) {
    (void)state;
    want_standin();
    Graph *g = sample_net();
    Error e = {0};
    Plan *p;
    long fits = 0;
    PlanRequest r = {.purpose = PLAN_GRADIENT, .N = 100000};
    limit_memory((size_t)200 << 20);
    assert_int_not_equal(plan_new(g, device, &r, &p, &e), 0);
    const char *at = strstr(e.text, "; a batch of ");
    if (!at || !strstr(e.text, "activations of a plan wants ") ||
        sscanf(at, "; a batch of %ld fits", &fits) != 1)
        fail_msg("%s", e.text);
    assert_in_range(fits, 1000, 99999);
    r.N = fits;
    if (plan_new(g, device, &r, &p, &e)) fail_msg("%ld images: %s", fits, e.text);
    plan_free(p);
    r.N = fits * 11 / 10;
    assert_int_not_equal(plan_new(g, device, &r, &p, &e), 0);
    limit_memory((size_t)8 << 30);
    forget_error();
    graph_free(g);
}

int main(int argc, char **argv) {
    Error e = {0};
    under_test_open();
    if (argc == 3) return as_rank(argv);
    if (file_program(argv[0], program) != 0) return 1;
    if (cpu_device(0, &cpu, &e)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_unknown_loss),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_failures_of_opening),
        cmocka_unit_test(test_largest_batch),
        cmocka_unit_test(test_group_of_one),
        cmocka_unit_test(test_group_of_several),
        cmocka_unit_test(test_failures_of_groups),
    };
    int failed = cmocka_run_group_tests_name("device operations", tests, NULL, NULL);
    under_test_close();
    return failed;
}
