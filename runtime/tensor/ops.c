#include "tensor/ops.h"

#include <inttypes.h>
#include <math.h>

#include "tensor/loss.h"

/* Fails unless t has the type, is on the device of `like` and has the shape of `shape` (NULL:
 * any). */
static int want(const char *operation, const char *name, const Tensor *t, Dtype type,
                const Tensor *like, const Tensor *shape, Error *e) {
    char wanted[128], got[128];
    if (tensor_want(operation, name, t, type, like, e) != 0) return -1;
    if (shape && !tensor_same_shape(t, shape))
        return error_set(e, "%s: %s must be of shape %s, got %s", operation, name,
                         tensor_shape_text(shape, wanted), tensor_shape_text(t, got));
    return 0;
}

/* Fails unless t is [N], where N is the first dimension of `rows`. */
static int want_row(const char *operation, const char *name, const Tensor *t, Dtype type,
                    const Tensor *like, int64_t rows, Error *e) {
    Tensor shape = {.ndim = 1, .shape = {rows}};
    return want(operation, name, t, type, like, &shape, e);
}

static int want_f32(const char *operation, const char *name, const Tensor *t, const Tensor *like,
                    const Tensor *shape, Error *e) {
    return want(operation, name, t, DTYPE_F32, like, shape, e);
}

int tensor_fill(const Tensor *out, float value, Error *e) {
    if (want_f32("fill", "out", out, out, NULL, e) != 0) return -1;
    Device *d = tensor_device(out);
    return d->fill(d, out->data, value, tensor_count(out), e);
}

static const char *const binary_names[BINARY_OPS] = {"add", "sub", "mul", "div", "min", "max"};

int tensor_binary(BinaryOp op, const Tensor *a, const Tensor *b, const Tensor *out, Error *e) {
    const char *name = binary_names[op];
    if (want_f32(name, "a", a, a, NULL, e) || want_f32(name, "b", b, a, a, e) ||
        want_f32(name, "out", out, a, a, e))
        return -1;
    Device *d = tensor_device(a);
    return d->binary(d, op, a->data, b->data, out->data, tensor_count(a), e);
}

int tensor_binary_scalar(BinaryOp op, const Tensor *a, float b, const Tensor *out, Error *e) {
    const char *name = binary_names[op];
    if (want_f32(name, "a", a, a, NULL, e) || want_f32(name, "out", out, a, a, e)) return -1;
    Device *d = tensor_device(a);
    return d->binary_scalar(d, op, a->data, b, out->data, tensor_count(a), e);
}

int tensor_clamp(const Tensor *a, float low, float high, const Tensor *out, Error *e) {
    if (want_f32("clamp", "a", a, a, NULL, e) || want_f32("clamp", "out", out, a, a, e)) return -1;
    if (!(low <= high))
        return error_set(e, "clamp: low %g must be at most high %g", (double)low, (double)high);
    Device *d = tensor_device(a);
    return d->clamp(d, a->data, low, high, out->data, tensor_count(a), e);
}

int tensor_quantize(const Tensor *a, float levels, const Tensor *out, Error *e) {
    if (want_f32("quantize", "a", a, a, NULL, e) || want_f32("quantize", "out", out, a, a, e))
        return -1;
    if (!(levels > 0))
        return error_set(e, "quantize: levels must be above 0, got %g", (double)levels);
    Device *d = tensor_device(a);
    return d->quantize(d, a->data, levels, out->data, tensor_count(a), e);
}

int tensor_sign(const Tensor *a, const Tensor *out, Error *e) {
    if (want_f32("sign", "a", a, a, NULL, e) || want_f32("sign", "out", out, a, a, e)) return -1;
    Device *d = tensor_device(a);
    return d->sign(d, a->data, out->data, tensor_count(a), e);
}

static int want_logits(const char *operation, const Tensor *z, Error *e) {
    char text[128];
    if (want_f32(operation, "z", z, z, NULL, e) != 0) return -1;
    if (z->ndim != 2 || z->shape[1] < 1)
        return error_set(e, "%s: z must be [N,K] with at least one class, got %s", operation,
                         tensor_shape_text(z, text));
    return 0;
}

/* Fails unless t is i64 [N] with every class in 0 .. K-1, for the N and K of z. */
static int want_classes(const char *operation, const char *name, const Tensor *t, const Tensor *z,
                        Error *e) {
    enum { BLOCK = 512 };
    int64_t host[BLOCK], N = z->shape[0], K = z->shape[1];
    if (want_row(operation, name, t, DTYPE_I64, z, N, e) != 0) return -1;
    Device *d = tensor_device(t);
    for (int64_t i = 0; i < N; i += BLOCK) {
        int64_t m = N - i < BLOCK ? N - i : BLOCK;
        if (d->copy_out(d, host, (const int64_t *)t->data + i, (size_t)m * sizeof *host, e) != 0)
            return -1;
        for (int64_t j = 0; j < m; j++)
            if (host[j] < 0 || host[j] >= K)
                return error_set(e,
                                 "%s: %s of row %" PRId64 " must be a class in 0 .. %" PRId64
                                 ", got %" PRId64,
                                 operation, name, i + j + 1, K - 1, host[j]);
    }
    return 0;
}

int tensor_loss(const LossCall *call, const Tensor *z, const Tensor *target, const Tensor *value,
                const Tensor *dz, Error *e) {
    if (want_logits("loss", z, e) || want_classes("loss", "target", target, z, e) ||
        want_row("loss", "value", value, DTYPE_F32, z, z->shape[0], e) ||
        want_f32("loss", "dz", dz, z, z, e) || loss_check(call, z->shape[1], e))
        return -1;
    Device *d = tensor_device(z);
    return d->loss(d, call, z->data, target->data, z->shape[0], z->shape[1], value->data, dz->data,
                   e);
}

int tensor_logit_stats(const Tensor *z, const Tensor *initial, const Tensor *target,
                       const Tensor out[6], Error *e) {
    static const char *const names[6] = {"p_initial", "p_target",   "z_initial",
                                         "z_target",  "prediction", "subspace"};
    const char *op = "stats";
    if (want_logits(op, z, e) || want_classes(op, "initial", initial, z, e) ||
        want_classes(op, "target", target, z, e))
        return -1;
    for (int i = 0; i < 6; i++) {
        Dtype type = i < 4 ? DTYPE_F32 : i == 4 ? DTYPE_I64 : DTYPE_U8;
        if (want_row(op, names[i], &out[i], type, z, z->shape[0], e) != 0) return -1;
    }
    Device *d = tensor_device(z);
    LogitStats stats = {out[0].data, out[1].data, out[2].data,
                        out[3].data, out[4].data, out[5].data};
    return d->logit_stats(d, z->data, initial->data, target->data, z->shape[0], z->shape[1], &stats,
                          e);
}

int tensor_cross_entropy(const Tensor *z, const Tensor *label, double *loss, int64_t *correct,
                         const Tensor *dz, Error *e) {
    const char *op = "cross_entropy";
    if (want_logits(op, z, e) || want_classes(op, "label", label, z, e) ||
        want_f32(op, "dz", dz, z, z, e))
        return -1;
    if (z->shape[0] == 0) return error_set(e, "cross_entropy: the mean over no rows is undefined");
    Device *d = tensor_device(z);
    return d->cross_entropy(d, z->data, label->data, z->shape[0], z->shape[1], loss, correct,
                            dz->data, e);
}

/* Fails unless t is f32 [N,...]. *D is the number of elements of one image. */
static int want_images(const char *operation, const char *name, const Tensor *t, int64_t *D,
                       Error *e) {
    if (want_f32(operation, name, t, t, NULL, e) != 0) return -1;
    if (t->ndim < 1) return error_set(e, "%s: %s must be [N,...], got []", operation, name);
    *D = 1;
    for (int i = 1; i < t->ndim; i++) *D *= t->shape[i];
    return 0;
}

int tensor_norms(const Tensor *q, const Tensor *l2, const Tensor *linf, const Tensor *zero_share,
                 Error *e) {
    const char *op = "norms";
    int64_t D;
    if (want_images(op, "q", q, &D, e) != 0) return -1;
    int64_t N = q->shape[0];
    if (want_row(op, "l2", l2, DTYPE_F64, q, N, e) ||
        want_row(op, "linf", linf, DTYPE_F64, q, N, e) ||
        want_row(op, "zero_share", zero_share, DTYPE_F64, q, N, e))
        return -1;
    Device *d = tensor_device(q);
    return d->norms(d, q->data, N, D, l2->data, linf->data, zero_share->data, e);
}

/* Fails unless the box has both sides or neither. A side has D elements on the device of `like`. */
static int want_box(const char *operation, TensorBox box, const Tensor *like, int64_t D, Box *out,
                    Error *e) {
    const struct {
        const char *name;
        const Tensor *t;
    } sides[] = {{"low", box.low}, {"high", box.high}};
    *out = (Box){0};
    if (!box.low && !box.high) return 0;
    if (!box.low || !box.high)
        return error_set(e, "%s: the box has no '%s'", operation, box.low ? "high" : "low");
    for (int i = 0; i < 2; i++) {
        const Tensor *t = sides[i].t;
        if (want_f32(operation, sides[i].name, t, like, NULL, e) != 0) return -1;
        if (tensor_count(t) != D)
            return error_set(e,
                             "%s: %s must have the %" PRId64 " elements of an image, got %" PRId64,
                             operation, sides[i].name, D, tensor_count(t));
    }
    *out = (Box){box.low->data, box.high->data};
    return 0;
}

int tensor_step(const Tensor *x, const Tensor *q, const Tensor *a, const Tensor *x0, TensorBox box,
                const Tensor *l2, const Tensor *linf, Error *e) {
    const char *op = "step";
    int64_t D;
    Box in;
    if (want_images(op, "x", x, &D, e) != 0) return -1;
    int64_t N = x->shape[0];
    if (want_f32(op, "q", q, x, x, e) || want_row(op, "a", a, DTYPE_F64, x, N, e) ||
        want_f32(op, "x0", x0, x, x, e) || want_row(op, "l2", l2, DTYPE_F64, x, N, e) ||
        want_row(op, "linf", linf, DTYPE_F64, x, N, e) || want_box(op, box, x, D, &in, e))
        return -1;
    Device *d = tensor_device(x);
    return d->step(d, x->data, q->data, a->data, x0->data, in, N, D, l2->data, linf->data, e);
}

int tensor_project(const Tensor *x, const Tensor *x0, const Tensor *scale, const Tensor *radius,
                   Error *e) {
    const char *op = "project";
    int64_t D;
    if (want_images(op, "x", x, &D, e) != 0) return -1;
    int64_t N = x->shape[0];
    if (want_f32(op, "x0", x0, x, x, e) || want_row(op, "scale", scale, DTYPE_F64, x, N, e) ||
        want_row(op, "radius", radius, DTYPE_F64, x, N, e))
        return -1;
    Device *d = tensor_device(x);
    return d->project(d, x->data, x0->data, scale->data, radius->data, N, D, e);
}

int tensor_tanh_step(const AdamStep *s, const TanhTensors *a, Error *e) {
    const char *op = "tanh_step";
    const struct {
        const char *name;
        const Tensor *t;
    } images[] = {{"w", &a->w}, {"m", &a->m}, {"v", &a->v}, {"q", &a->q}, {"x0", &a->x0}};
    int64_t D;
    Box in;
    if (want_images(op, "x", &a->x, &D, e) != 0) return -1;
    for (size_t i = 0; i < sizeof images / sizeof *images; i++)
        if (want_f32(op, images[i].name, images[i].t, &a->x, &a->x, e) != 0) return -1;
    int64_t N = a->x.shape[0];
    if (want_row(op, "c", &a->c, DTYPE_F64, &a->x, N, e) ||
        want_row(op, "t", &a->t, DTYPE_I64, &a->x, N, e) ||
        want_row(op, "l2", &a->l2, DTYPE_F64, &a->x, N, e) ||
        want_box(op, a->box, &a->x, D, &in, e))
        return -1;
    Device *d = tensor_device(&a->x);
    TanhStep step = {.box = in,
                     .x = a->x.data,
                     .w = a->w.data,
                     .m = a->m.data,
                     .v = a->v.data,
                     .q = a->q.data,
                     .x0 = a->x0.data,
                     .c = a->c.data,
                     .t = a->t.data,
                     .l2 = a->l2.data};
    return d->tanh_step(d, s, &step, N, D, e);
}

int tensor_tanh_enter(const Tensor *x, const Tensor *w, TensorBox box, double hair, Error *e) {
    enum { BLOCK = 512 };
    const char *op = "tanh_enter";
    float host_x[BLOCK], host_w[BLOCK], low[BLOCK], high[BLOCK];
    Box in;
    if (want_f32(op, "x", x, x, NULL, e) || want_f32(op, "w", w, x, x, e)) return -1;
    if (!(hair > 0 && hair < 0.5))
        return error_set(e, "tanh_enter: hair must be above 0 and below 0.5, got %g", hair);
    Device *d = tensor_device(x);
    int64_t n = tensor_count(x);
    if (want_box(op, box, x, n, &in, e) != 0) return -1;
    for (int j = 0; j < BLOCK; j++) low[j] = 0, high[j] = 1;
    for (int64_t i = 0; i < n; i += BLOCK) {
        size_t m = (size_t)(n - i < BLOCK ? n - i : BLOCK), bytes = m * sizeof *host_x;
        if (d->copy_out(d, host_x, (float *)x->data + i, bytes, e) != 0 ||
            (in.low && (d->copy_out(d, low, in.low + i, bytes, e) != 0 ||
                        d->copy_out(d, high, in.high + i, bytes, e) != 0)))
            return -1;
        for (size_t j = 0; j < m; j++) {
            double width = (double)high[j] - (double)low[j];
            double v = width > 0 ? ((double)host_x[j] - (double)low[j]) / width : 0.5;
            v = v < hair ? hair : v > 1 - hair ? 1 - hair : v; /* fmin would hide a NaN */
            host_w[j] = (float)(0.5 * log(v / (1 - v)));       /* atanh(2v - 1) */
            host_x[j] = (float)((double)low[j] + width / (1 + exp(-2 * (double)host_w[j])));
        }
        if (d->copy_in(d, (float *)x->data + i, host_x, bytes, e) != 0 ||
            d->copy_in(d, (float *)w->data + i, host_w, bytes, e) != 0)
            return -1;
    }
    return 0;
}

int tensor_sgd(const SgdStep *s, const Tensor *p, const Tensor *g, const Tensor *m, Error *e) {
    if (want_f32("sgd", "p", p, p, NULL, e) || want_f32("sgd", "g", g, p, p, e) ||
        want_f32("sgd", "m", m, p, p, e))
        return -1;
    Device *d = tensor_device(p);
    return d->sgd(d, s, p->data, g->data, m->data, tensor_count(p), e);
}

int tensor_adam(const AdamStep *s, const Tensor *p, const Tensor *g, const Tensor *m,
                const Tensor *v, Error *e) {
    if (want_f32("adam", "p", p, p, NULL, e) || want_f32("adam", "g", g, p, p, e) ||
        want_f32("adam", "m", m, p, p, e) || want_f32("adam", "v", v, p, p, e))
        return -1;
    if (s->t < 1) return error_set(e, "adam: steps are counted from 1, got %" PRId64, s->t);
    Device *d = tensor_device(p);
    return d->adam(d, s, p->data, g->data, m->data, v->data, tensor_count(p), e);
}
