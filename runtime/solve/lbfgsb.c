#define _GNU_SOURCE
#include "solve/lbfgsb.h"

#include <dlfcn.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <string.h>

#include "base/memory.h"

/* liblbfgsb has no C header. Strings are Fortran's: padded with blanks, with lengths after the
 * other arguments. */
enum { TEXT = 60, LOGICALS = 4, INTEGERS = 44, DOUBLES = 29 };
void setulb_(const int *n, const int *m, double *x, const double *l, const double *u,
             const int *nbd, double *f, double *g, const double *factr, const double *pgtol,
             double *wa, int *iwa, char *task, const int *iprint, char *csave, int *lsave,
             int *isave, double *dsave, size_t task_length, size_t csave_length);

struct Lbfgsb {
    LbfgsbOptions options;
    LbfgsbState state;
    int D;
    float *x0, *host; /* [D]; host: staging for transfers to and from the device */
    double *x, *g, *low, *high, *work;
    int *bounded, *integers;
    /* the state that setulb keeps between calls, besides work and integers */
    char task[TEXT], csave[TEXT];
    int lsave[LOGICALS], isave[INTEGERS];
    double dsave[DOUBLES];
};

/* A BLAS with threads would sum in an order that depends on their number, and take cores from other
 * images. Which BLAS the system has is known only at run time.
 */
static void keep_blas_to_one_thread(void) {
    static const char *const names[] = {"openblas_set_num_threads", "MKL_Set_Num_Threads"};
    int threads = omp_get_max_threads();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void (*set)(int);
        *(void **)&set = dlsym(RTLD_DEFAULT, names[i]);
        if (set) set(1);
    }
    void (*set_blis)(int64_t);
    *(void **)&set_blis = dlsym(RTLD_DEFAULT, "bli_thread_set_num_threads");
    if (set_blis) set_blis(1);
    omp_set_num_threads(threads); /* OpenBLAS on OpenMP has changed this setting */
}

static size_t work_size(int64_t D, int m) {
    return (size_t)((2 * m + 5) * D + 11 * m * m + 8 * m);
}

int lbfgsb_new(Lbfgsb **out, int64_t D, const LbfgsbOptions *options, Error *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *what = "L-BFGS";
    *out = NULL;
    int m = options->memory;
    if (m < 1 || m > 100) return error_set(e, "L-BFGS: memory must be in 1 .. 100, got %d", m);
    if (!(options->tolerance >= 0 && options->gradient >= 0))
        return error_set(e, "L-BFGS: a tolerance must be at least 0, got %g and %g",
                         options->tolerance, options->gradient);
    if (D < 1 || D > INT_MAX / 256)
        return error_set(e, "L-BFGS: an image has %" PRId64 " numbers; 1 .. %d are possible", D,
                         INT_MAX / 256);
    pthread_once(&once, keep_blas_to_one_thread);
    Lbfgsb *s = memory_zeroed(1, sizeof *s, what, e);
    if (!s) return -1;
    size_t n = (size_t)D;
    *s = (Lbfgsb){.options = *options, .D = (int)D};
    s->x0 = memory_zeroed(n, sizeof(float), what, e);
    s->host = memory_zeroed(n, sizeof(float), what, e);
    s->x = memory_zeroed(n, sizeof(double), what, e);
    s->g = memory_zeroed(n, sizeof(double), what, e);
    s->low = memory_zeroed(n, sizeof(double), what, e);
    s->high = memory_zeroed(n, sizeof(double), what, e);
    s->work = memory_zeroed(work_size(D, m), sizeof(double), what, e);
    s->bounded = memory_zeroed(n, sizeof(int), what, e);
    s->integers = memory_zeroed(3 * n, sizeof(int), what, e);
    if (!s->x0 || !s->host || !s->x || !s->g || !s->low || !s->high || !s->work || !s->bounded ||
        !s->integers) {
        lbfgsb_free(s);
        return -1;
    }
    for (size_t i = 0; i < n; i++) s->bounded[i] = 2; /* below and above */
    *out = s;
    return 0;
}

void lbfgsb_free(Lbfgsb *s) {
    if (!s) return;
    void *const blocks[] = {s->x0,   s->host, s->x,       s->g,       s->low,
                            s->high, s->work, s->bounded, s->integers};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) memory_free(blocks[i]);
    memory_free(s);
}

static bool task_is(const Lbfgsb *s, const char *word) {
    return strncmp(s->task, word, strlen(word)) == 0;
}

/* One call to the library; f and s->g hold the function at s->x if it asked for it. */
static void call(Lbfgsb *s, double f) {
    const int silent = -1;
    double factor = s->options.tolerance / DBL_EPSILON;
    setulb_(&s->D, &s->options.memory, s->x, s->low, s->high, s->bounded, &f, s->g, &factor,
            &s->options.gradient, s->work, s->integers, s->task, &silent, s->csave, s->lsave,
            s->isave, s->dsave, TEXT, TEXT);
}

/* Continues until the library asks for the function or ends. */
static void advance(Lbfgsb *s, double f) {
    do call(s, f);
    while (task_is(s, "NEW_X"));
    s->state = task_is(s, "FG")     ? LBFGSB_RUNNING
               : task_is(s, "CONV") ? LBFGSB_CONVERGED
                                    : LBFGSB_STOPPED;
}

/* Copies f32 numbers to the host; NULL stands for D times `otherwise`. */
static int take_side(Lbfgsb *s, const Tensor *t, double otherwise, double *to, Error *e) {
    if (t && (t->dtype != DTYPE_F32 || tensor_count(t) != s->D))
        return error_set(e, "L-BFGS: wanted a side of the box, f32 of %d numbers", s->D);
    if (t && tensor_to_host(t, s->host, e) != 0) return -1;
    for (int i = 0; i < s->D; i++) to[i] = t ? (double)s->host[i] : otherwise;
    return 0;
}

int lbfgsb_start(Lbfgsb *s, const Tensor *x0, const Tensor *low, const Tensor *high, Error *e) {
    if (x0->dtype != DTYPE_F32 || tensor_count(x0) != s->D)
        return error_set(e, "L-BFGS: wanted an f32 image of %d numbers", s->D);
    if (take_side(s, low, 0, s->low, e) || take_side(s, high, 1, s->high, e) ||
        tensor_to_host(x0, s->x0, e))
        return -1;
    for (int i = 0; i < s->D; i++) s->x[i] = (double)s->x0[i];
    memset(s->task, ' ', TEXT);
    memcpy(s->task, "START", 5);
    advance(s, 0);
    if (task_is(s, "ERROR")) return error_set(e, "L-BFGS: %.*s", TEXT, s->task);
    return 0;
}

/* One step of one image. host holds the gradient of L on entry and the next point on return.
 * Returns ||x - x0||. */
static double move(Lbfgsb *s, double c, double value) {
    double square = 0, made = 0;
    for (int i = 0; i < s->D; i++) {
        double d = s->x[i] - (double)s->x0[i];
        square += d * d;
        s->g[i] = 2 * c * d - (double)s->host[i];
    }
    advance(s, c * square - value);
    for (int i = 0; i < s->D; i++) {
        s->host[i] = (float)s->x[i];
        double d = (double)s->host[i] - (double)s->x0[i];
        made += d * d;
    }
    return sqrt(made);
}

/* Checks that t has the type and N rows. */
static int want_rows(const char *name, const Tensor *t, Dtype type, int64_t N, Error *e) {
    if (t->dtype == type && t->ndim == 1 && t->shape[0] == N) return 0;
    char text[128];
    return error_set(e, "L-BFGS: %s must be %s [%" PRId64 "], got %s %s", name, dtype_name(type), N,
                     dtype_name(t->dtype), tensor_shape_text(t, text));
}

typedef struct Rows { /* on the host, [N] each */
    float *value;
    double *c, *l2;
    int64_t *state;
} Rows;

static int copy_rows(const LbfgsbBatch *b, Rows *r, Error *e) {
    return tensor_to_host(b->value, r->value, e) || tensor_to_host(b->c, r->c, e) ||
           tensor_to_host(b->l2, r->l2, e) || tensor_to_host(b->state, r->state, e);
}

/* Steps the images; image i is D floats at index i of x and q. */
static int move_batch(Lbfgsb *const *solvers, const LbfgsbBatch *b, Rows *r, int64_t N, int64_t D,
                      Error *e) {
    Device *d = tensor_device(b->x);
    size_t bytes = (size_t)D * sizeof(float);
    for (int64_t n = 0; n < N; n++) {
        if (r->c[n] == 0) continue;
        if (!solvers[n] || solvers[n]->D != D || solvers[n]->state != LBFGSB_RUNNING)
            return error_set(e,
                             "L-BFGS: image %" PRId64
                             " has c != 0, but its solver is not running; start it first",
                             n + 1);
        if (d->copy_out(d, solvers[n]->host, (float *)b->q->data + n * D, bytes, e) != 0) return -1;
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t n = 0; n < N; n++) {
        if (r->c[n] == 0) continue;
        r->l2[n] = move(solvers[n], r->c[n], (double)r->value[n]);
        r->state[n] = solvers[n]->state;
    }
    for (int64_t n = 0; n < N; n++)
        if (r->c[n] != 0 &&
            d->copy_in(d, (float *)b->x->data + n * D, solvers[n]->host, bytes, e) != 0)
            return -1;
    return tensor_from_host(b->l2, r->l2, e) || tensor_from_host(b->state, r->state, e);
}

int lbfgsb_advance(Lbfgsb *const *solvers, const LbfgsbBatch *b, Error *e) {
    if (b->x->ndim < 1 || b->x->shape[0] < 1 || b->x->dtype != DTYPE_F32 ||
        b->q->dtype != DTYPE_F32 || !tensor_same_shape(b->x, b->q))
        return error_set(e, "L-BFGS: x and q must be f32 images [N,...] of one shape");
    int64_t N = b->x->shape[0], D = tensor_count(b->x) / N;
    if (want_rows("value", b->value, DTYPE_F32, N, e) || want_rows("c", b->c, DTYPE_F64, N, e) ||
        want_rows("l2", b->l2, DTYPE_F64, N, e) || want_rows("state", b->state, DTYPE_I64, N, e))
        return -1;
    size_t n = (size_t)N;
    double *rows = memory_zeroed(n, 4 * sizeof *rows, "L-BFGS", e);
    if (!rows) return -1;
    Rows r = {.c = rows,
              .l2 = rows + n,
              .state = (int64_t *)(rows + 2 * n),
              .value = (float *)(rows + 3 * n)};
    int failed = copy_rows(b, &r, e) || move_batch(solvers, b, &r, N, D, e);
    memory_free(rows);
    return failed ? -1 : 0;
}
