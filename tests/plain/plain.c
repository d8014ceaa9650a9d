/* A device of plain loops: the shortest whole answer to device/device.h, and what other devices are
 * tested against. docs/own-device.md walks through it.
 *
 * Its memory is the host's, so it borrows the CPU's operations on tensors and writes only the
 * lowering of programs itself: f32 in plain order [N,C,H,W], sums in double, one step for each op.
 * Nothing is fast here.
 */
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "device/plugin.h"
#include "device/plan.h"
#include "formula.h"
#include "device/resize.h"

#define EXPORTED __attribute__((visibility("default")))

/* The slots of a step's buffers: an op's inputs and outputs, the operands of fused work, and
 * scratch memory for sums, and the cells
 * of a resized plane. */
enum { IN, OUT = IN + OP_INPUTS, ADD = OUT + OP_OUTPUTS, MASK, OPEN, SUMS, CELLS, SLOTS };

/* An op and the shapes it works on. forward: itself, or the op that it is the gradient of, whose
 * input is x [N,C,H,W] and whose output y [N,K,OH,OW]. */
typedef struct Job {
    Op op;
    int64_t N, C, H, W, K, OH, OW;
    int64_t first, whole; /* images of the batch that other ranks share: before these, and all */
    int64_t elements;     /* of out[0] */
    const float *weight, *bias; /* of a convolution or linear layer; scale and shift of a map */
    float *dweight, *dbias;     /* gradients of parameters */
    float *running[2];          /* mean and variance */
    int64_t weights;            /* elements of weight */
    int64_t each[OP_INPUTS];    /* elements of the inputs, of an image */
    MapSpec map;                /* of OP_MAP, with its params */
    ReduceSpec reduce;
    MoveSpec move;
    const float *param[OP_PARAMS];
    MatmulSpec matmul; /* the program does not outlive the making of the plan */
    int64_t image[3];  /* elements of an image of a, b and out; 0: a parameter */
} Job;

_Static_assert((int)SLOTS <= (int)STEP_BUFFERS, "a step has room for the slots");

typedef int Loop(const Job *j, Plan *p, void *const *at, Error *e);

/* --- convolutions and linear layers --- */

/* Calls `each` for every product y[o] += x[i] w[k] of a convolution, o by o. Inlined with its
 * `each`, it takes a tenth of the time. */
typedef void Product(int64_t o, int64_t i, int64_t k, void *own);
static inline __attribute__((always_inline)) void each_product(const Job *j, Product *each,
                                                               void *own) {
    int64_t G = j->op.groups, CG = j->C / G, KG = j->K / G, R = j->op.kernel[0],
            S = j->op.kernel[1], C = j->C, H = j->H, W = j->W, OW = j->OW, OH = j->OH,
            down = j->op.dilation[0], right = j->op.dilation[1];
    for (int64_t o = 0; o < j->N * j->K * OH * OW; o++) {
        int64_t k = o / (OW * OH) % j->K, n = o / (OW * OH * j->K),
                top = o / OW % OH * j->op.stride[0] - j->op.pad[0],
                left = o % OW * j->op.stride[1] - j->op.pad[1];
        for (int64_t c = 0; c < CG; c++) {
            int64_t plane = (n * C + k / KG * CG + c) * H * W, filter = (k * CG + c) * R * S;
            for (int64_t r = 0; r < R; r++)
                for (int64_t s = 0; s < S; s++) {
                    int64_t h = top + r * down, w = left + s * right;
                    if (h < 0 || h >= H || w < 0 || w >= W) continue;
                    each(o, plane + h * W + w, filter + r * S + s, own);
                }
        }
    }
}

typedef struct Operands {
    const float *a, *b;
    double *sum;
    float *y;
    double total; /* of y's element `at` */
    int64_t at;
} Operands;

/* An element of y is whole when the next one begins. */
static void to_y(int64_t o, int64_t i, int64_t k, void *own) {
    Operands *s = own;
    if (o != s->at) s->total = 0;
    s->at = o;
    s->total += (double)s->a[i] * (double)s->b[k];
    s->y[o] = (float)s->total;
}
static void to_x(int64_t o, int64_t i, int64_t k, void *own) {
    const Operands *s = own;
    s->sum[i] += (double)s->a[o] * (double)s->b[k];
}
static void to_weights(int64_t o, int64_t i, int64_t k, void *own) {
    const Operands *s = own;
    s->sum[k] += (double)s->a[i] * (double)s->b[o];
}

/* out [n] = the sums of a convolution's products. */
static inline __attribute__((always_inline)) void scatter(const Job *j, Product *each,
                                                          const float *a, const float *b,
                                                          double *sum, float *out, int64_t n) {
    memset(sum, 0, (size_t)n * sizeof *sum);
    each_product(j, each, &(Operands){.a = a, .b = b, .sum = sum});
    for (int64_t i = 0; i < n; i++) out[i] = (float)sum[i];
}

static void sum_bias(const Job *j, const float *dy) {
    for (int64_t k = 0; k < j->K && j->dbias; k++) {
        double sum = 0;
        for (int64_t n = 0; n < j->N; n++)
            for (int64_t i = 0; i < j->OH * j->OW; i++)
                sum += (double)dy[(n * j->K + k) * j->OH * j->OW + i];
        j->dbias[k] = (float)sum;
    }
}

static int conv(const Job *j, Plan *p, void *const *at, Error *e) {
    float *y = at[OUT];
    (void)p, (void)e;
    memset(y, 0, (size_t)j->elements * sizeof *y);
    each_product(j, to_y, &(Operands){.a = at[IN], .b = j->weight, .y = y, .at = -1});
    for (int64_t i = 0; i < j->elements && j->bias; i++)
        y[i] += j->bias[i / (j->OH * j->OW) % j->K];
    return 0;
}

static int conv_data(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    scatter(j, to_x, at[IN], j->weight, at[SUMS], at[OUT], j->elements);
    return 0;
}

static int conv_weights(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    sum_bias(j, at[IN + 1]);
    scatter(j, to_weights, at[IN], at[IN + 1], at[SUMS], j->dweight, j->weights);
    return 0;
}

/* --- products of matrices --- */

static int64_t place_of(const MatmulOperand *m, int64_t i, int64_t j, int64_t r, int64_t s) {
    return m->at + i * m->step[0] + j * m->step[1] + r * m->row + s * m->column;
}

static void product(const Job *j, const float *a, const float *b, double *out) {
    const MatmulSpec *p = &j->matmul;
    for (int64_t n = 0; n < j->N; n++)
        for (int64_t i = 0; i < p->n[0]; i++)
            for (int64_t k = 0; k < p->n[1]; k++)
                for (int64_t r = 0; r < p->M; r++)
                    for (int64_t s = 0; s < p->N; s++) {
                        double sum = 0;
                        for (int64_t t = 0; t < p->K; t++)
                            sum += (double)a[n * j->image[0] + place_of(&p->a, i, k, r, t)] *
                                   (double)b[n * j->image[1] + place_of(&p->b, i, k, t, s)];
                        out[n * j->image[2] + place_of(&p->out, i, k, r, s)] += p->scale * sum;
                    }
}

static int matmul(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *a = j->op.in[0] == NO_VALUE ? j->weight : at[IN];
    const float *b = j->op.in[1] == NO_VALUE ? j->weight : at[IN + 1];
    float *y = at[OUT];
    double *sum = at[SUMS];
    (void)p, (void)e;
    memset(sum, 0, (size_t)j->elements * sizeof *sum);
    product(j, a, b, sum);
    for (int64_t i = 0; i < j->elements; i++)
        y[i] = (float)(sum[i] + (j->bias ? (double)j->bias[i % j->matmul.N] : 0));
    return 0;
}

static int matmul_param(const Job *j, Plan *p, void *const *at, Error *e) {
    double *sum = at[SUMS];
    (void)p, (void)e;
    memset(sum, 0, (size_t)j->weights * sizeof *sum);
    product(j, at[IN], at[IN + 1], sum);
    for (int64_t i = 0; i < j->weights; i++) j->dweight[i] = (float)sum[i];
    return 0;
}

/* --- rows --- */

/* Where element k of row i lies. */
static int64_t in_row(const RowsSpec *r, int64_t i, int64_t k) {
    return (i / r->inner * r->K + k) * r->inner + i % r->inner;
}

static int softmax(const Job *j, Plan *p, void *const *at, Error *e) {
    const RowsSpec *r = &j->op.rows;
    const float *x = at[IN];
    float *y = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements / r->K; i++) {
        double most = -INFINITY, sum = 0;
        for (int64_t k = 0; k < r->K; k++) most = fmax(most, (double)x[in_row(r, i, k)]);
        for (int64_t k = 0; k < r->K; k++) sum += exp((double)x[in_row(r, i, k)] - most);
        for (int64_t k = 0; k < r->K; k++)
            y[in_row(r, i, k)] = (float)(exp((double)x[in_row(r, i, k)] - most) / sum);
    }
    return 0;
}

static int softmax_back(const Job *j, Plan *p, void *const *at, Error *e) {
    const RowsSpec *r = &j->op.rows;
    const float *dy = at[IN], *y = at[IN + 1];
    float *dx = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements / r->K; i++) {
        double sum = 0;
        for (int64_t k = 0; k < r->K; k++)
            sum += (double)dy[in_row(r, i, k)] * (double)y[in_row(r, i, k)];
        for (int64_t k = 0; k < r->K; k++) {
            int64_t o = in_row(r, i, k);
            dx[o] = (float)((double)y[o] * ((double)dy[o] - sum));
        }
    }
    return 0;
}

static int standardize(const Job *j, Plan *p, void *const *at, Error *e) {
    const RowsSpec *r = &j->op.rows;
    const float *x = at[IN];
    float *y = at[OUT], *spread = at[OUT + 1];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements / r->K; i++) {
        double mean = 0, variance = 0;
        for (int64_t k = 0; k < r->K; k++) mean += (double)x[in_row(r, i, k)] / (double)r->K;
        for (int64_t k = 0; k < r->K; k++)
            variance += pow((double)x[in_row(r, i, k)] - mean, 2) / (double)r->K;
        double factor = 1 / sqrt(variance + j->op.eps);
        for (int64_t k = 0; k < r->K; k++)
            y[in_row(r, i, k)] = (float)(((double)x[in_row(r, i, k)] - mean) * factor);
        if (spread) spread[i] = (float)factor;
    }
    return 0;
}

static int standardize_back(const Job *j, Plan *p, void *const *at, Error *e) {
    const RowsSpec *r = &j->op.rows;
    const float *dy = at[IN], *y = at[IN + 1], *spread = at[IN + 2];
    float *dx = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements / r->K; i++) {
        double mean = 0, slope = 0;
        for (int64_t k = 0; k < r->K; k++) {
            double g = (double)dy[in_row(r, i, k)] / (double)r->K;
            mean += g, slope += g * (double)y[in_row(r, i, k)];
        }
        for (int64_t k = 0; k < r->K; k++) {
            int64_t o = in_row(r, i, k);
            dx[o] = (float)((double)spread[i] * ((double)dy[o] - mean - (double)y[o] * slope));
        }
    }
    return 0;
}

/* --- normalisation --- */

static int64_t channel_of(const Job *j, int64_t i) {
    return i / (j->H * j->W) % j->C;
}

static int normalize(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN];
    float *y = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements; i++) {
        int64_t c = channel_of(j, i);
        y[i] = (float)(((double)x[i] - j->op.mean[c]) / j->op.std[c]);
    }
    return 0;
}

static int affine(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN];
    float *y = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements; i++) {
        int64_t c = channel_of(j, i);
        y[i] = x[i] * j->weight[c] + j->bias[c];
    }
    return 0;
}

/* sum [C] over the images of all ranks. */
static int over_ranks(Plan *p, double *sum, int64_t n, Error *e) {
    Group *g = p->request.group;
    return g ? g->sum_double(g, sum, n, e) : 0;
}

static int batchnorm(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN];
    float *y = at[OUT];
    double *mean = at[OUT + 1], *variance = at[OUT + 2], m = j->op.momentum;
    double count = (double)(j->whole * j->H * j->W);
    if (count < 2)
        return error_set(e, "batch norm in training needs more than one value per channel");
    memset(mean, 0, (size_t)j->C * sizeof *mean);
    memset(variance, 0, (size_t)j->C * sizeof *variance);
    for (int64_t i = 0; i < j->elements; i++) mean[channel_of(j, i)] += (double)x[i];
    if (over_ranks(p, mean, j->C, e)) return -1;
    for (int64_t c = 0; c < j->C; c++) mean[c] /= count;
    for (int64_t i = 0; i < j->elements; i++) {
        double d = (double)x[i] - mean[channel_of(j, i)];
        variance[channel_of(j, i)] += d * d;
    }
    if (over_ranks(p, variance, j->C, e)) return -1;
    for (int64_t c = 0; c < j->C; c++) {
        variance[c] /= count;
        j->running[0][c] = (float)((1 - m) * (double)j->running[0][c] + m * mean[c]);
        j->running[1][c] =
            (float)((1 - m) * (double)j->running[1][c] + m * variance[c] * count / (count - 1));
    }
    for (int64_t i = 0; i < j->elements; i++) {
        int64_t c = channel_of(j, i);
        y[i] = (float)(((double)x[i] - mean[c]) / sqrt(variance[c] + j->op.eps) *
                           (double)j->weight[c] +
                       (double)j->bias[c]);
    }
    return 0;
}

static int batchnorm_back(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN], *dy = at[IN + 1];
    const double *mean = at[IN + 2], *variance = at[IN + 3];
    float *dx = at[OUT];
    int64_t C = j->C, n = j->N * C * j->H * j->W;
    double count = (double)(j->whole * j->H * j->W);
    double *sum = at[SUMS];
    memset(sum, 0, (size_t)(2 * C) * sizeof *sum);
    for (int64_t i = 0; i < n; i++) {
        int64_t c = channel_of(j, i);
        sum[c] += (double)dy[i];
        sum[C + c] += (double)dy[i] * ((double)x[i] - mean[c]) / sqrt(variance[c] + j->op.eps);
    }
    for (int64_t c = 0; c < C; c++) {
        j->dbias[c] = (float)sum[c];
        j->dweight[c] = (float)sum[C + c];
    }
    if (over_ranks(p, sum, 2 * C, e)) return -1;
    for (int64_t i = 0; i < n && dx; i++) {
        int64_t c = channel_of(j, i);
        double spread = sqrt(variance[c] + j->op.eps), u = ((double)x[i] - mean[c]) / spread;
        dx[i] = (float)((double)j->weight[c] / spread *
                        ((double)dy[i] - sum[c] / count - u * sum[C + c] / count));
    }
    return 0;
}

/* --- pooling --- */

/* The greatest of a window and its place; NaN is greater than all, and the first of a tie wins. */
static int64_t winner(const Job *j, const float *x, int64_t plane, int64_t oy, int64_t ox) {
    int64_t best = -1;
    for (int64_t r = 0; r < j->op.kernel[0]; r++)
        for (int64_t s = 0; s < j->op.kernel[1]; s++) {
            int64_t h = oy * j->op.stride[0] + r - j->op.pad[0],
                    w = ox * j->op.stride[1] + s - j->op.pad[1];
            if (h < 0 || h >= j->H || w < 0 || w >= j->W) continue;
            int64_t i = (plane * j->H + h) * j->W + w;
            if (best < 0 || x[i] > x[best] || (isnan(x[i]) && !isnan(x[best]))) best = i;
        }
    return best;
}

static int maxpool(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN];
    float *y = at[OUT];
    int64_t *places = at[OUT + 1];
    (void)p, (void)e;
    for (int64_t o = 0; o < j->elements; o++) {
        int64_t i = winner(j, x, o / (j->OH * j->OW), o / j->OW % j->OH, o % j->OW);
        y[o] = x[i];
        if (places) places[o] = i;
    }
    return 0;
}

static int maxpool_back(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *dy = at[IN];
    const int64_t *places = at[IN + 1];
    float *dx = at[OUT];
    (void)p, (void)e;
    memset(dx, 0, (size_t)j->elements * sizeof *dx);
    for (int64_t o = 0; o < j->N * j->K * j->OH * j->OW; o++) dx[places[o]] += dy[o];
    return 0;
}

/* Output cell i of n averages the rows from floor(i H / n) to ceil((i + 1) H / n). */
typedef void Cell(float *x, float *y, double share);
static void add_to_y(float *x, float *y, double share) {
    *y += (float)((double)*x * share);
}
static void add_to_x(float *x, float *y, double share) {
    *x += (float)((double)*y * share);
}
static void average(const Job *j, float *x, float *y, Cell *each) {
    for (int64_t o = 0; o < j->N * j->K * j->OH * j->OW; o++) {
        int64_t plane = o / (j->OH * j->OW), oy = o / j->OW % j->OH, ox = o % j->OW;
        int64_t top = oy * j->H / j->OH, bottom = ((oy + 1) * j->H + j->OH - 1) / j->OH;
        int64_t left = ox * j->W / j->OW, right = ((ox + 1) * j->W + j->OW - 1) / j->OW;
        double share = 1 / (double)((bottom - top) * (right - left));
        for (int64_t h = top; h < bottom; h++)
            for (int64_t w = left; w < right; w++)
                each(&x[(plane * j->H + h) * j->W + w], &y[o], share);
    }
}

static int avgpool(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memset(at[OUT], 0, (size_t)j->elements * sizeof(float));
    average(j, at[IN], at[OUT], add_to_y);
    return 0;
}

static int avgpool_back(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memset(at[OUT], 0, (size_t)j->elements * sizeof(float));
    average(j, at[OUT], at[IN], add_to_x);
    return 0;
}

/* Output i's window along an axis: the elements in the image, and how many count. */
typedef struct Span {
    int64_t first, end, count;
} Span;
static Span span(const Job *j, int axis, int64_t i) {
    int64_t size = axis ? j->W : j->H, start = i * j->op.stride[axis] - j->op.pad[axis];
    int64_t end = start + j->op.kernel[axis], padded = size + j->op.pad[axis + 2];
    Span s = {start < 0 ? 0 : start, end < size ? end : size, 0};
    s.count = j->op.count_pad ? (end < padded ? end : padded) - start : s.end - s.first;
    return s;
}

static void average_windows(const Job *j, float *x, float *y, Cell *each) {
    for (int64_t o = 0; o < j->N * j->K * j->OH * j->OW; o++) {
        int64_t plane = o / (j->OH * j->OW);
        Span rows = span(j, 0, o / j->OW % j->OH), columns = span(j, 1, o % j->OW);
        for (int64_t h = rows.first; h < rows.end; h++)
            for (int64_t w = columns.first; w < columns.end; w++)
                each(&x[(plane * j->H + h) * j->W + w], &y[o],
                     1 / (double)(rows.count * columns.count));
    }
}

static int avgwindow(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memset(at[OUT], 0, (size_t)j->elements * sizeof(float));
    average_windows(j, at[IN], at[OUT], add_to_y);
    return 0;
}

static int avgwindow_back(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memset(at[OUT], 0, (size_t)j->elements * sizeof(float));
    average_windows(j, at[OUT], at[IN], add_to_x);
    return 0;
}

/* --- element by element --- */

static int copy(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memmove(at[OUT], at[IN], (size_t)j->elements * sizeof(float));
    return 0;
}

static float clip(float x, double cap) {
    return x < 0 ? 0 : x > (float)cap ? (float)cap : x;
}

static int relu(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN];
    float *y = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements; i++) y[i] = clip(x[i], j->op.cap);
    return 0;
}

static int mask(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN];
    const uint8_t *bits = at[IN + 1];
    float *y = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements; i++) y[i] = bits[i] ? x[i] : 0;
    return 0;
}

static int add(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *a = at[IN], *b = at[IN + 1];
    float *y = at[OUT];
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements; i++) y[i] = a[i] + b[i];
    return 0;
}

static int dropout(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *x = at[IN];
    float *y = at[OUT], scale = (float)(1 / (1 - j->op.p));
    uint8_t *bits = at[OUT + 1];
    uint64_t key = random_bits(j->op.stream, p->runs);
    int64_t before = j->first * j->C * j->H * j->W;
    (void)e;
    for (int64_t i = 0; i < j->elements; i++) {
        bool kept = random_uniform(key, (uint64_t)(before + i)) >= j->op.p;
        y[i] = kept ? x[i] * scale : 0;
        if (bits) bits[i] = kept;
    }
    return 0;
}

static int dropout_back(const Job *j, Plan *p, void *const *at, Error *e) {
    const float *dy = at[IN];
    const uint8_t *bits = at[IN + 1];
    float *dx = at[OUT], scale = (float)(1 / (1 - j->op.p));
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements; i++) dx[i] = bits[i] ? dy[i] * scale : 0;
    return 0;
}

/* Where element i of a shape lies at other strides. */
static int64_t strided(const Shape *s, const int64_t *stride, int64_t i) {
    int64_t at = 0;
    for (int d = s->ndim - 1; d >= 0; d--) {
        at += i % s->dim[d] * stride[d];
        i /= s->dim[d];
    }
    return at;
}

static int map(const Job *j, Plan *p, void *const *at, Error *e) {
    const MapSpec *m = &j->map;
    float *y = at[OUT];
    int64_t each = j->elements / j->N;
    (void)p, (void)e;
    for (int64_t i = 0; i < j->elements; i++) {
        double operand[MAP_OPERANDS];
        for (int k = 0; k < m->formula.operands; k++) {
            const MapOperand *o = &m->operand[k];
            const float *from = o->input < 0 ? j->param[o->param] : at[IN + o->input];
            int64_t image = o->input < 0 ? 0 : i / each * j->each[o->input];
            operand[k] = (double)from[image + strided(&m->shape, o->stride, i % each)];
        }
        y[i] = (float)formula_value(&m->formula, operand);
    }
    return 0;
}

/* y [n] = the sums of x over dimensions, and over the images where y is a parameter's gradient. */
static void sum_over(const Job *j, const float *x, double *sum, float *y, int64_t images,
                     int64_t n) {
    const Shape *s = &j->reduce.shape;
    int64_t stride[SHAPE_DIMS] = {0}, step = 1, each = 1;
    for (int d = s->ndim - 1; d >= 0; d--) {
        stride[d] = j->reduce.over[d] ? 0 : step;
        if (!j->reduce.over[d]) step *= s->dim[d];
        each *= s->dim[d];
    }
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t i = 0; i < j->N * each; i++)
        sum[(images > 1 ? i / each * step : 0) + strided(s, stride, i % each)] += (double)x[i];
    for (int64_t i = 0; i < n; i++) y[i] = (float)(sum[i] * j->reduce.scale);
}

static int reduce(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    sum_over(j, at[IN], at[SUMS], at[OUT], j->N, j->elements);
    return 0;
}

static int reduce_param(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    sum_over(j, at[IN], at[SUMS], j->dweight, 1, j->weights);
    return 0;
}

/* --- moves --- */

static int view(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memcpy(at[OUT], at[IN], (size_t)j->elements * sizeof(float));
    return 0;
}

static int move(const Job *j, Plan *p, void *const *at, Error *e) {
    const MoveSpec *m = &j->move;
    int64_t n = 1;
    (void)p, (void)e;
    for (int d = 0; d < m->ndim; d++) n *= m->n[d];
    for (int64_t i = 0; i < j->N * n; i++) {
        const float *x = (const float *)at[IN] + i / n * j->each[0] + m->from_at;
        float *y = (float *)at[OUT] + i / n * (j->elements / j->N) + m->to_at;
        int64_t rest = i % n;
        for (int d = m->ndim - 1; d >= 0; d--, rest /= m->n[d + 1]) {
            x += rest % m->n[d] * m->from[d];
            y += rest % m->n[d] * m->to[d];
        }
        *y = *x;
    }
    return 0;
}

static int insert(const Job *j, Plan *p, void *const *at, Error *e) {
    size_t bytes = (size_t)j->elements * sizeof(float);
    if (at[IN + 1])
        memcpy(at[OUT], at[IN + 1], bytes);
    else
        memset(at[OUT], 0, bytes);
    return move(j, p, at, e);
}

/* --- resizing --- */

/* Each output cell with the four, or the one, that it is made of. */
static void interpolate(const Job *j, const ResizeCell *cells, float *x, float *y, Cell *each) {
    for (int64_t o = 0; o < j->N * j->K * j->OH * j->OW; o++) {
        const ResizeCell *r = &cells[o / j->OW % j->OH], *c = &cells[j->OH + o % j->OW];
        float *plane = x + o / (j->OW * j->OH) * j->H * j->W;
        for (int k = 0; k < 4; k++) {
            double down = (double)r->weight, across = (double)c->weight;
            double share = (k / 2 ? down : 1 - down) * (k % 2 ? across : 1 - across);
            int64_t h = k / 2 ? r->high : r->low, w = k % 2 ? c->high : c->low;
            if (share != 0) each(&plane[h * j->W + w], &y[o], share);
        }
    }
}

static int resize(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memset(at[OUT], 0, (size_t)j->elements * sizeof(float));
    interpolate(j, at[CELLS], at[IN], at[OUT], add_to_y);
    return 0;
}

static int resize_back(const Job *j, Plan *p, void *const *at, Error *e) {
    (void)p, (void)e;
    memset(at[OUT], 0, (size_t)j->elements * sizeof(float));
    interpolate(j, at[CELLS], at[OUT], at[IN], add_to_x);
    return 0;
}

static const struct {
    const char *name; /* for the profile */
    Loop *run;
} loops[OP_KINDS] = {
    [OP_INPUT] = {"input", copy},
    [OP_OUTPUT] = {"output", copy},
    [OP_NORMALIZE] = {"normalize", normalize},
    [OP_AFFINE] = {"affine", affine},
    [OP_CONV] = {"conv", conv},
    [OP_CONV_DATA] = {"conv back", conv_data},
    [OP_CONV_WEIGHTS] = {"conv weights", conv_weights},
    /* a linear layer is a convolution whose kernel is the grid: job_of() says so */
    [OP_LINEAR] = {"linear", conv},
    [OP_LINEAR_DATA] = {"linear back", conv_data},
    [OP_LINEAR_WEIGHTS] = {"linear weights", conv_weights},
    [OP_BATCHNORM] = {"batch norm", batchnorm},
    [OP_BATCHNORM_BACK] = {"batch norm back", batchnorm_back},
    [OP_RELU] = {"relu", relu},
    [OP_MASK] = {"mask", mask},
    [OP_MAXPOOL] = {"max pool", maxpool},
    [OP_MAXPOOL_BACK] = {"max pool back", maxpool_back},
    [OP_AVGPOOL] = {"average pool", avgpool},
    [OP_AVGPOOL_BACK] = {"average pool back", avgpool_back},
    [OP_ADD] = {"add", add},
    [OP_DROPOUT] = {"dropout", dropout},
    [OP_DROPOUT_BACK] = {"dropout back", dropout_back},
    [OP_MAP] = {"map", map},
    [OP_REDUCE] = {"sum", reduce},
    [OP_REDUCE_PARAM] = {"parameter sum", reduce_param},
    [OP_VIEW] = {"view", view},
    [OP_MOVE] = {"move", move},
    [OP_INSERT] = {"insert", insert},
    [OP_AVGWINDOW] = {"average pool", avgwindow},
    [OP_AVGWINDOW_BACK] = {"average pool back", avgwindow_back},
    [OP_MATMUL] = {"matmul", matmul},
    [OP_MATMUL_PARAM] = {"matmul weights", matmul_param},
    [OP_SOFTMAX] = {"softmax", softmax},
    [OP_SOFTMAX_BACK] = {"softmax back", softmax_back},
    [OP_STANDARDIZE] = {"standardize", standardize},
    [OP_STANDARDIZE_BACK] = {"standardize back", standardize_back},
    [OP_RESIZE] = {"resize", resize},
    [OP_RESIZE_BACK] = {"resize back", resize_back},
};

/* --- one step for each op: its loop, then what is fused into it --- */

static int run(Plan *p, const Step *s, Error *e) {
    const Job *j = s->job;
    if (loops[j->op.kind].run(j, p, s->at, e)) return -1;
    float *y = s->at[OUT];
    const float *other = s->at[ADD];
    const uint8_t *bits = s->at[MASK];
    uint8_t *open = s->at[OPEN];
    for (int64_t i = 0; i < j->elements && y; i++) {
        if (other) y[i] += other[i];
        if (j->op.relu) y[i] = clip(y[i], j->op.cap);
        if (bits && !bits[i]) y[i] = 0;
        if (open) open[i] = y[i] > 0 && y[i] < (float)j->op.cap;
    }
    return 0;
}

/* --- lowering --- */

static size_t bytes_of(const Compiler *c, int value) {
    static const size_t size[] = {[VALUE_REAL] = sizeof(float),
                                  [VALUE_BITS] = sizeof(uint8_t),
                                  [VALUE_PLACES] = sizeof(int64_t),
                                  [VALUE_CHANNELS] = sizeof(double)};
    return (size_t)value_elements(c, value) * size[c->program->values[value].kind];
}

/* A new value gets a buffer; the caller's tensors have theirs. */
static int place(Compiler *c, int value, int *slot, Error *e) {
    *slot = NO_BUFFER;
    if (value == NO_VALUE) return 0;
    if (c->buffer[value] == NO_BUFFER) {
        int b = buffer_new(c, bytes_of(c, value), e);
        if (b < 0) return -1;
        value_place(c, value, b);
    }
    *slot = c->buffer[value];
    return 0;
}

static Job job_of(const Compiler *c, const Op *op) {
    const Op *forward = op->backward && op->twin >= 0 ? &c->program->ops[op->twin] : op;
    /* a parameter may stand first, or alone */
    int in = forward->in[0] != NO_VALUE   ? forward->in[0]
             : forward->in[1] != NO_VALUE ? forward->in[1]
                                          : forward->out[0];
    int out = forward->out[0];
    bool turned = forward->kind == OP_CONV_DATA; /* of a transposed convolution */
    const Value *x = &c->program->values[turned ? out : in],
                *y = &c->program->values[turned ? in : out];
    const PlanRequest *r = c->request;
    Job j = {.op = *op,
             .N = r->N,
             .C = x->C,
             .H = x->H,
             .W = x->W,
             .K = y->C,
             .OH = y->H,
             .OW = y->W,
             .first = r->group ? r->first : 0,
             .whole = r->group ? r->whole : r->N};
    if (op->out[0] != NO_VALUE) j.elements = value_elements(c, op->out[0]);
    for (int i = 0; i < OP_INPUTS; i++)
        if (op->in[i] != NO_VALUE) j.each[i] = value_elements(c, op->in[i]) / r->N;
    if (op->move) j.move = *op->move;
    if (op->kind == OP_LINEAR || op->kind == OP_LINEAR_DATA || op->kind == OP_LINEAR_WEIGHTS) {
        j.op.groups = 1;
        j.op.kernel[0] = x->H, j.op.kernel[1] = x->W;
        j.op.stride[0] = j.op.stride[1] = 1;
        memset(j.op.pad, 0, sizeof j.op.pad);
    }
    return j;
}

static float *param(const Compiler *c, int i) {
    return i < 0 ? NULL : c->program->params[i].data;
}

/* Copies of folded weights for inference; in training the parameters themselves. */
static int give_weights(Compiler *c, const Op *op, Job *j, Error *e) {
    const Op *forward = op->backward ? &c->program->ops[op->twin] : op;
    void *weight, *bias;
    j->weights = c->program->params[op->param[0]].count;
    j->weight = param(c, op->param[0]);
    j->bias = param(c, op->param[1]);
    if (c->request->purpose == PLAN_TRAINING) return 0;
    if (buffer_owned(c, (size_t)j->weights * sizeof(float), "weights", &weight, e) < 0 ||
        buffer_owned(c, (size_t)j->K * sizeof(float), "bias", &bias, e) < 0 ||
        c->program->weights(c->program, forward, weight, bias, e))
        return -1;
    j->weight = weight;
    j->bias = bias;
    return 0;
}

static int give_channels(Compiler *c, const Op *op, Job *j, Error *e) {
    void *scale, *shift;
    size_t bytes = (size_t)j->C * sizeof(float);
    if (buffer_owned(c, bytes, "scale", &scale, e) < 0 ||
        buffer_owned(c, bytes, "shift", &shift, e) < 0 ||
        c->program->channels(c->program, op, scale, op->shift ? shift : NULL, e))
        return -1;
    j->weight = scale;
    j->bias = shift;
    return 0;
}

static int give_gradients(Compiler *c, const Op *op, Job *j, Error *e) {
    float **memory[2] = {&j->dweight, &j->dbias};
    for (int i = 0; i < 2; i++) {
        if (op->param[i] < 0) continue;
        int b = buffer_param_gradient(c, op->param[i], e);
        if (b < 0) return -1;
        *memory[i] = c->plan->buffers[b].fixed;
    }
    return 0;
}

static void give_map(const Compiler *c, const Op *op, Job *j) {
    j->map = *op->map;
    for (int i = 0; i < OP_PARAMS; i++) j->param[i] = param(c, op->param[i]);
}

static int64_t image_of(const Compiler *c, int value) {
    return value == NO_VALUE ? 0 : value_elements(c, value) / c->request->N;
}

static int give_matmul(Compiler *c, const Op *op, Job *j, Error *e) {
    j->matmul = *op->matmul;
    for (int i = 0; i < 2; i++) j->image[i] = image_of(c, op->in[i]);
    j->image[2] = image_of(c, op->out[0]);
    if (op->param[0] < 0) return 0;
    j->weights = c->program->params[op->param[0]].count;
    if (op->kind == OP_MATMUL_PARAM) return give_gradients(c, op, j, e);
    j->weight = param(c, op->param[0]);
    j->bias = param(c, op->param[1]);
    return 0;
}

static bool sums(OpKind kind) {
    return kind == OP_MATMUL || kind == OP_MATMUL_PARAM || kind == OP_REDUCE ||
           kind == OP_REDUCE_PARAM || kind == OP_CONV_DATA || kind == OP_CONV_WEIGHTS ||
           kind == OP_LINEAR_DATA || kind == OP_LINEAR_WEIGHTS || kind == OP_BATCHNORM_BACK;
}

/* A double for each number that the op makes: a step takes no memory of its own. */
static int scratch_for_sums(Compiler *c, const Job *j, Error *e) {
    int64_t n = j->elements;
    if (j->weights > n) n = j->weights;
    if (2 * j->C > n) n = 2 * j->C;
    return buffer_new(c, (size_t)n * sizeof(double), e);
}

static int lower(Compiler *c, const Op *op, Error *e) {
    Job j = job_of(c, op);
    int slots[SLOTS], failed = 0;
    switch (op->kind) {
    case OP_CONV:
    case OP_CONV_DATA:
    case OP_LINEAR:
    case OP_LINEAR_DATA: failed = give_weights(c, op, &j, e); break;
    case OP_AFFINE: failed = give_channels(c, op, &j, e); break;
    case OP_MATMUL:
    case OP_MATMUL_PARAM: failed = give_matmul(c, op, &j, e); break;
    case OP_MAP: give_map(c, op, &j); break;
    case OP_REDUCE: j.reduce = *op->reduce; break;
    case OP_REDUCE_PARAM: j.reduce = *op->reduce; /* fall through */
    case OP_CONV_WEIGHTS:
    case OP_LINEAR_WEIGHTS:
        j.weights = c->program->params[op->param[0]].count;
        failed = give_gradients(c, op, &j, e);
        break;
    case OP_BATCHNORM:
    case OP_BATCHNORM_BACK:
        j.weight = param(c, op->param[0]), j.bias = param(c, op->param[1]);
        j.running[0] = param(c, op->param[2]), j.running[1] = param(c, op->param[3]);
        if (op->backward) failed = give_gradients(c, op, &j, e);
        break;
    default: break;
    }
    for (int i = 0; i < OP_INPUTS; i++) failed |= place(c, op->in[i], &slots[IN + i], e);
    for (int i = 0; i < OP_OUTPUTS; i++) failed |= place(c, op->out[i], &slots[OUT + i], e);
    failed |= place(c, op->add, &slots[ADD], e) | place(c, op->mask, &slots[MASK], e) |
              place(c, op->open, &slots[OPEN], e);
    slots[SUMS] = slots[CELLS] = NO_BUFFER;
    if (op->resize)
        failed |= resize_tables(c, op->backward ? &c->program->ops[op->twin] : op, &slots[CELLS],
                                NULL, e);
    if (failed || (sums(op->kind) && (slots[SUMS] = scratch_for_sums(c, &j, e)) < 0)) return -1;
    return step_new(c, loops[op->kind].name, run, SLOTS, slots, &j, sizeof j, e) ? 0 : -1;
}

/* --- the plugin --- */

EXPORTED const char advrt_plain_build[] = DEVICE_BUILD;
EXPORTED int advrt_plain_device(int index, Device **out, Error *e);

static Device plain;

EXPORTED int advrt_plain_device(int index, Device **out, Error *e) {
    Device *cpu;
    if (index > 0) return error_set(e, "there is one plain device, got number %d", index);
    if (cpu_device(0, &cpu, e)) return -1;
    plain = *cpu;
    plain.name = "plain";
    plain.bf16 = plain.tf32 = plain.rounds = false;
    plain.lower_begin = NULL;
    plain.lower = lower;
    plain.lower_end = NULL;
    *out = &plain;
    return 0;
}
