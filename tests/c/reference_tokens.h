/* The double reference (reference.h) of layers of products and rows. */
#ifndef ADVRT_TESTS_REFERENCE_TOKENS_H
#define ADVRT_TESTS_REFERENCE_TOKENS_H

#include <math.h>
#include <stdlib.h>

#include "net/graph.h"

/* Where a matrix of a batch lies: element (r, s) of number b is at at(b) + r row + s column. */
typedef struct RefMatrix {
    double *x, *dx;
    int64_t row, column;
} RefMatrix;

/* z += scale a b, or what it gives back to a and b. z is [M,N]. */
static inline void ref_product(RefMatrix a, RefMatrix b, RefMatrix z, int64_t M, int64_t N,
                               int64_t K, double scale, bool back) {
    for (int64_t r = 0; r < M; r++)
        for (int64_t s = 0; s < N; s++)
            for (int64_t k = 0; k < K; k++) {
                int64_t i = r * a.row + k * a.column, j = k * b.row + s * b.column,
                        o = r * z.row + s * z.column;
                if (!back) z.x[o] += scale * a.x[i] * b.x[j];
                if (back) a.dx[i] += scale * z.dx[o] * b.x[j];
                if (back) b.dx[j] += scale * z.dx[o] * a.x[i];
            }
}

static inline RefMatrix ref_at(double *x, double *dx, int64_t at, int64_t row, int64_t column) {
    return (RefMatrix){x + at, dx + at, row, column};
}

static inline void ref_linear_last(const Layer *l, int64_t rows, int64_t D, double *x, double *dx,
                                   double *w, double *dw, double *b, double *db, double *y,
                                   double *dy, bool back) {
    int64_t K = l->shape.dim[l->shape.ndim - 1];
    for (int64_t o = 0; o < rows * K; o++) {
        if (!back) y[o] = b ? b[o % K] : 0;
        if (back && db) db[o % K] += dy[o];
    }
    ref_product(ref_at(x, dx, 0, D, 1), ref_at(w, dw, 0, 1, D), ref_at(y, dy, 0, K, 1), rows, K, D,
                1, back);
}

/* Both inputs' matrices for output matrix `at` of a layer: dimensions before the last two are
 * broadcast. */
static inline int64_t ref_broadcast(const Shape *in, const Shape *out, int64_t at) {
    int64_t place = 0, step = in->dim[in->ndim - 1] * in->dim[in->ndim - 2];
    for (int i = 0; i < out->ndim - 2; i++) {
        int64_t size = out->dim[out->ndim - 3 - i], k = at % size;
        at /= size;
        if (i >= in->ndim - 2) continue;
        int64_t own = in->dim[in->ndim - 3 - i];
        place += (own > 1 ? k : 0) * step;
        step *= own;
    }
    return place;
}

static inline void ref_matmul(const Layer *l, const Layer *a, const Layer *b, double *x, double *dx,
                              double *y, double *dy, double *z, double *dz, bool back) {
    int64_t n = l->shape.ndim, M = l->shape.dim[n - 2], N = l->shape.dim[n - 1];
    int64_t A = a->shape.dim[a->shape.ndim - 1], B = b->shape.dim[b->shape.ndim - 1];
    int64_t K = l->flags[0] ? a->shape.dim[a->shape.ndim - 2] : A;
    for (int64_t i = 0; i < shape_count(&l->shape) / (M * N); i++) {
        int64_t p = ref_broadcast(&a->shape, &l->shape, i),
                q = ref_broadcast(&b->shape, &l->shape, i);
        for (int64_t o = 0; o < M * N && !back; o++) z[i * M * N + o] = 0;
        ref_product(ref_at(x, dx, p, l->flags[0] ? 1 : A, l->flags[0] ? A : 1),
                    ref_at(y, dy, q, l->flags[1] ? 1 : B, l->flags[1] ? B : 1),
                    ref_at(z, dz, i * M * N, N, 1), M, N, K, l->scale, back);
    }
}

/* Rows [outer,K,inner]: softmax, or standardisation, and back. */
static inline void ref_softmax(RowsSpec r, const double *x, double *dx, double *y, const double *dy,
                               bool back) {
    for (int64_t i = 0; i < r.outer * r.inner; i++) {
        int64_t at = i / r.inner * r.K * r.inner + i % r.inner;
        double most = -INFINITY, sum = 0;
        for (int64_t k = 0; k < r.K; k++) most = fmax(most, x[at + k * r.inner]);
        for (int64_t k = 0; k < r.K; k++)
            sum +=
                back ? y[at + k * r.inner] * dy[at + k * r.inner] : exp(x[at + k * r.inner] - most);
        for (int64_t k = 0; k < r.K; k++) {
            int64_t o = at + k * r.inner;
            if (!back) y[o] = exp(x[o] - most) / sum;
            if (back) dx[o] += y[o] * (dy[o] - sum);
        }
    }
}

/* The parameter of element o: dimensions first .. end - 1 of the shape are its own. */
static inline int64_t ref_param_of(const Shape *s, int first, int end, int64_t o) {
    int64_t place = 0, step = 1;
    for (int d = s->ndim - 1; d >= 0; d--) {
        int64_t k = o % s->dim[d];
        o /= s->dim[d];
        if (d < first || d >= end) continue;
        place += k * step;
        step *= s->dim[d];
    }
    return place;
}

typedef struct RefNorm {
    RowsSpec rows; /* of one image */
    int first, end;
    double *w, *dw, *b, *db; /* NULL where the norm has none */
} RefNorm;

static inline RefNorm ref_norm_of(const Layer *l) {
    const Shape *s = &l->shape;
    int64_t all = shape_count(s), n = l->n_sizes ? l->sizes[0] : 0;
    RefNorm r = {.first = 0, .end = 1, .rows = {s->dim[0], all / s->dim[0], 1}};
    if (l->kind == LAYER_GROUPNORM) r.rows = (RowsSpec){l->groups, all / l->groups, 1};
    if (l->kind != LAYER_LAYERNORM) return r;
    r.rows = (RowsSpec){1, s->dim[0], all / s->dim[0]};
    if (n == 0) return r;
    r.first = s->ndim - (int)n, r.end = s->ndim;
    r.rows = (RowsSpec){1, 1, 1};
    for (int d = 0; d < s->ndim; d++) *(d < r.first ? &r.rows.outer : &r.rows.K) *= s->dim[d];
    return r;
}

static inline void ref_norm(const Layer *l, const RefNorm *p, const double *x, double *dx,
                            double *y, const double *dy, bool back) {
    RowsSpec r = p->rows;
    for (int64_t i = 0; i < r.outer * r.inner; i++) {
        int64_t at = i / r.inner * r.K * r.inner + i % r.inner;
        double mean = 0, variance = 0, sum = 0, product = 0, n = (double)r.K;
        for (int64_t k = 0; k < r.K; k++) mean += x[at + k * r.inner] / n;
        for (int64_t k = 0; k < r.K; k++) variance += pow(x[at + k * r.inner] - mean, 2) / n;
        double factor = 1 / sqrt(variance + l->eps);
        for (int pass = 0; pass <= back; pass++)
            for (int64_t k = 0; k < r.K; k++) {
                int64_t o = at + k * r.inner, q = ref_param_of(&l->shape, p->first, p->end, o);
                double u = (x[o] - mean) * factor, w = p->w ? p->w[q] : 1;
                if (!back) y[o] = u * w + (p->b ? p->b[q] : 0);
                if (!back) continue;
                double g = dy[o] * w;
                if (pass == 0) sum += g / n, product += g * u / n;
                if (pass == 0 && p->dw) p->dw[q] += dy[o] * u;
                if (pass == 0 && p->db) p->db[q] += dy[o];
                if (pass == 1) dx[o] += factor * (g - sum - u * product);
            }
    }
}

/* x [.., L, 3 D] of one image; what it needs between is made anew. */
static inline void ref_attention(const Layer *l, double *x, double *dx, double *y, double *dy,
                                 bool back) {
    int n = l->shape.ndim;
    int64_t L = l->shape.dim[n - 2], D = l->shape.dim[n - 1], d = D / l->groups;
    double *p = calloc((size_t)(4 * L * L), sizeof *p), scale = l->scale;
    if (!(scale > 0)) scale = 1 / sqrt((double)d);
    for (int64_t i = 0; i < shape_count(&l->shape) / (L * d); i++) {
        int64_t window = i / l->groups, head = i % l->groups, at = window * L * 3 * D + head * d,
                to = window * L * D + head * d;
        for (int64_t k = 0; k < 4 * L * L; k++) p[k] = 0;
        RefMatrix q = ref_at(x, dx, at, 3 * D, 1), k = ref_at(x, dx, at + D, 1, 3 * D),
                  v = ref_at(x, dx, at + 2 * D, 3 * D, 1), z = ref_at(y, dy, to, D, 1),
                  s = {p, p + L * L, L, 1}, w = {p + 2 * L * L, p + 3 * L * L, L, 1};
        RowsSpec rows = {L, L, 1};
        for (int64_t r = 0; r < L && !back; r++)
            for (int64_t c = 0; c < d; c++) z.x[r * D + c] = 0;
        ref_product(q, k, s, L, L, d, scale, false);
        ref_softmax(rows, s.x, NULL, w.x, NULL, false);
        ref_product(w, v, z, L, d, L, 1, back);
        if (back) ref_softmax(rows, s.x, s.dx, w.x, w.dx, true);
        if (back) ref_product(q, k, s, L, L, d, scale, true);
    }
    free(p);
}

#endif
