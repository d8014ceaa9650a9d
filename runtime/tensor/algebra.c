#include "tensor/algebra.h"

#include <inttypes.h>

/* Fails unless t has n elements. */
static int want_count(const char *operation, const char *name, const Tensor *t, int64_t n,
                      Error *e) {
    char text[128];
    if (tensor_count(t) == n) return 0;
    return error_set(e, "%s: %s must have %" PRId64 " elements, got %s", operation, name, n,
                     tensor_shape_text(t, text));
}

static int want_dim(const char *operation, const Tensor *t, int dim, Error *e) {
    char text[128];
    if (dim >= 0 && dim < t->ndim) return 0;
    return error_set(e, "%s: no dimension %d in a tensor of shape %s", operation, dim + 1,
                     tensor_shape_text(t, text));
}

int tensor_map(MapOp op, const Tensor *a, const Tensor *out, Error *e) {
    if (tensor_want("map", "a", a, DTYPE_F32, a, e) ||
        tensor_want("map", "out", out, DTYPE_F32, a, e) ||
        want_count("map", "out", out, tensor_count(a), e))
        return -1;
    Device *d = tensor_device(a);
    return d->map(d, op, a->data, out->data, tensor_count(a), e);
}

/* The size of t in dimension i after t is extended to ndim dimensions. */
static int64_t lined_up(const Tensor *t, int ndim, int i) {
    int own = i - (ndim - t->ndim);
    return own < 0 ? 1 : t->shape[own];
}

int tensor_broadcast_shape(const Tensor *a, const Tensor *b, int *ndim, int64_t shape[TENSOR_DIMS],
                           Error *e) {
    char left[128], right[128];
    *ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int i = 0; i < *ndim; i++) {
        int64_t p = lined_up(a, *ndim, i), q = lined_up(b, *ndim, i);
        if (p != q && p != 1 && q != 1)
            return error_set(e, "shapes %s and %s cannot be broadcast together",
                             tensor_shape_text(a, left), tensor_shape_text(b, right));
        shape[i] = p == 1 ? q : p;
    }
    return 0;
}

/* Drops dimensions of one element. Merges neighbouring dimensions where each operand advances
 * contiguously or is repeated in both. */
static Broadcast broadcast_of(const Tensor *a, const Tensor *b, const Tensor *out) {
    int64_t a_step = 1, b_step = 1;
    Broadcast s = {0}, backwards = {0};
    for (int i = out->ndim - 1; i >= 0; i--) {
        int64_t n = out->shape[i], p = lined_up(a, out->ndim, i), q = lined_up(b, out->ndim, i);
        int64_t to_a = p == 1 ? 0 : a_step, to_b = q == 1 ? 0 : b_step;
        a_step *= p;
        b_step *= q;
        if (n == 1) continue;
        int j = backwards.ndim - 1;
        if (j >= 0 && to_a == backwards.a[j] * backwards.shape[j] &&
            to_b == backwards.b[j] * backwards.shape[j]) {
            backwards.shape[j] *= n;
            continue;
        }
        j = backwards.ndim++;
        backwards.shape[j] = n;
        backwards.a[j] = to_a;
        backwards.b[j] = to_b;
    }
    if (backwards.ndim == 0) {
        backwards.ndim = 1;
        backwards.shape[0] = tensor_count(out);
    }
    s.ndim = backwards.ndim;
    for (int i = 0; i < s.ndim; i++) {
        int j = s.ndim - 1 - i;
        s.shape[i] = backwards.shape[j];
        s.a[i] = backwards.a[j];
        s.b[i] = backwards.b[j];
    }
    return s;
}

int tensor_broadcast(BinaryOp op, const Tensor *a, const Tensor *b, const Tensor *out, Error *e) {
    int ndim;
    Tensor wanted = {0};
    char text[128], got[128];
    if (tensor_want("broadcast", "a", a, DTYPE_F32, a, e) ||
        tensor_want("broadcast", "b", b, DTYPE_F32, a, e) ||
        tensor_want("broadcast", "out", out, DTYPE_F32, a, e) ||
        tensor_broadcast_shape(a, b, &ndim, wanted.shape, e))
        return -1;
    wanted.ndim = ndim;
    if (!tensor_same_shape(&wanted, out))
        return error_set(e, "broadcast: out must be of shape %s, got %s",
                         tensor_shape_text(&wanted, text), tensor_shape_text(out, got));
    Device *d = tensor_device(a);
    if (tensor_same_shape(a, b))
        return d->binary(d, op, a->data, b->data, out->data, tensor_count(out), e);
    if (tensor_count(out) == 0) return 0;
    Broadcast s = broadcast_of(a, b, out);
    return d->broadcast(d, op, &s, a->data, b->data, out->data, e);
}

RowShape tensor_rows(const Tensor *t, int dim) {
    RowShape r = {1, t->shape[dim], 1};
    for (int i = 0; i < dim; i++) r.outer *= t->shape[i];
    for (int i = dim + 1; i < t->ndim; i++) r.inner *= t->shape[i];
    return r;
}

int tensor_reduce(ReduceOp op, const Tensor *a, RowShape r, const Tensor *out, Error *e) {
    if (tensor_want("reduce", "a", a, DTYPE_F32, a, e) ||
        tensor_want("reduce", "out", out, DTYPE_F32, a, e) ||
        want_count("reduce", "a", a, r.outer * r.K * r.inner, e) ||
        want_count("reduce", "out", out, r.outer * r.inner, e))
        return -1;
    Device *d = tensor_device(a);
    return d->reduce(d, op, a->data, r, out->data, e);
}

int tensor_softmax(SoftmaxKind kind, const Tensor *a, int dim, const Tensor *out, Error *e) {
    const char *name = kind == SOFTMAX_LOG ? "log_softmax" : "softmax";
    if (tensor_want(name, "a", a, DTYPE_F32, a, e) || want_dim(name, a, dim, e) ||
        tensor_want(name, "out", out, DTYPE_F32, a, e) ||
        want_count(name, "out", out, tensor_count(a), e))
        return -1;
    Device *d = tensor_device(a);
    return d->softmax(d, kind, a->data, tensor_rows(a, dim), out->data, e);
}

int tensor_top(const Tensor *a, int dim, int64_t k, const Tensor *value, const Tensor *index,
               Error *e) {
    const char *name = "topk";
    if (tensor_want(name, "a", a, DTYPE_F32, a, e) || want_dim(name, a, dim, e)) return -1;
    RowShape r = tensor_rows(a, dim);
    if (k < 1 || k > r.K)
        return error_set(e, "%s: k must be in 1 .. %" PRId64 ", got %" PRId64, name, r.K, k);
    if (tensor_want(name, "value", value, DTYPE_F32, a, e) ||
        tensor_want(name, "index", index, DTYPE_I64, a, e) ||
        want_count(name, "value", value, r.outer * k * r.inner, e) ||
        want_count(name, "index", index, r.outer * k * r.inner, e))
        return -1;
    Device *d = tensor_device(a);
    return d->top(d, a->data, r, k, value->data, index->data, e);
}

static int want_indices(const char *name, const Tensor *index, int64_t K, Error *e) {
    enum { BLOCK = 512 };
    int64_t host[BLOCK], n = tensor_count(index);
    Device *d = tensor_device(index);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        const int64_t *at = (const int64_t *)index->data + i;
        if (d->copy_out(d, host, at, (size_t)m * sizeof *host, e) != 0) return -1;
        for (int64_t j = 0; j < m; j++)
            if (host[j] < 0 || host[j] >= K)
                return error_set(e,
                                 "%s: index %" PRId64 " must be in 0 .. %" PRId64 ", got %" PRId64,
                                 name, i + j + 1, K - 1, host[j]);
    }
    return 0;
}

/* The checks that gather and scatter share: `whole` [outer,K,inner] and `part` [outer,J,inner]. */
static int want_selection(const char *name, bool others, const Tensor *whole, int dim,
                          const Tensor *index, const Tensor *part, int64_t *J, Error *e) {
    if (tensor_want(name, "a", whole, DTYPE_F32, whole, e) || want_dim(name, whole, dim, e) ||
        tensor_want(name, "index", index, DTYPE_I64, whole, e) ||
        tensor_want(name, "part", part, DTYPE_F32, whole, e))
        return -1;
    RowShape r = tensor_rows(whole, dim);
    int64_t rows = r.outer * r.inner;
    if (others && r.K < 1)
        return error_set(e, "%s: a row without elements has none to leave out", name);
    *J = others ? r.K - 1 : rows ? tensor_count(index) / rows : 0;
    return want_count(name, "index", index, others ? rows : rows * *J, e) ||
                   want_count(name, "part", part, rows * *J, e) || want_indices(name, index, r.K, e)
               ? -1
               : 0;
}

int tensor_gather(bool others, const Tensor *a, int dim, const Tensor *index, const Tensor *out,
                  Error *e) {
    int64_t J;
    if (want_selection(others ? "others" : "gather", others, a, dim, index, out, &J, e)) return -1;
    Device *d = tensor_device(a);
    return d->gather(d, others, a->data, index->data, tensor_rows(a, dim), J, out->data, e);
}

int tensor_scatter(bool others, const Tensor *dy, int dim, const Tensor *index, const Tensor *da,
                   Error *e) {
    int64_t J;
    if (want_selection("scatter", others, da, dim, index, dy, &J, e)) return -1;
    Device *d = tensor_device(da);
    return d->scatter(d, others, dy->data, index->data, tensor_rows(da, dim), J, da->data, e);
}

int tensor_matmul_shape(MatmulKind kind, const Tensor *a, const Tensor *b, int64_t shape[2],
                        Error *e) {
    char left[128], right[128];
    bool a_turned = kind == MATMUL_TN, b_turned = kind == MATMUL_NT;
    if (a->ndim != 2 || b->ndim != 2 || a->shape[!a_turned] != b->shape[b_turned])
        return error_set(e, "matmul: cannot multiply %s%s by %s%s", tensor_shape_text(a, left),
                         a_turned ? "'" : "", tensor_shape_text(b, right), b_turned ? "'" : "");
    shape[0] = a->shape[a_turned];
    shape[1] = b->shape[!b_turned];
    return 0;
}

int tensor_matmul(MatmulKind kind, const Tensor *a, const Tensor *b, const Tensor *out, Error *e) {
    int64_t shape[2];
    if (tensor_want("matmul", "a", a, DTYPE_F32, a, e) ||
        tensor_want("matmul", "b", b, DTYPE_F32, a, e) ||
        tensor_want("matmul", "out", out, DTYPE_F32, a, e) ||
        tensor_matmul_shape(kind, a, b, shape, e) ||
        want_count("matmul", "out", out, shape[0] * shape[1], e))
        return -1;
    Device *d = tensor_device(a);
    return d->matmul(d, kind, a->data, b->data, out->data, shape[0], a->shape[kind != MATMUL_TN],
                     shape[1], e);
}
