/* Functions that layers made of products and rows share. */
#include "net/layer.h"

int emit_matmul(Build *b, const Layer *l, const Shape *shape, const int in[2],
                const MatmulSpec *spec, Error *e) {
    const MatmulSpec *kept = build_spec(b, spec, sizeof *spec, e);
    Op *op = kept ? layer_op_shaped(b, OP_MATMUL, l, shape, 2, in, e) : NULL;
    if (!op) return -1;
    op->matmul = kept;
    for (int i = 0; i < OP_PARAMS; i++)
        if ((in[0] != NO_VALUE && in[1] != NO_VALUE) || i > 1) op->param[i] = -1;
    return op->out[0];
}

RowsSpec rows_along(const Shape *s, int first, int end) {
    RowsSpec r = {1, 1, 1};
    for (int i = 0; i < s->ndim; i++)
        *(i < first ? &r.outer : i < end ? &r.K : &r.inner) *= s->dim[i];
    return r;
}

int emit_rows(Build *b, OpKind kind, const Layer *l, int x, RowsSpec rows, Error *e) {
    const Shape shape = b->program->values[x].shape; /* a copy: adding a value may move the array */
    Op *op = layer_op_shaped(b, kind, l, &shape, 1, &x, e);
    if (!op) return -1;
    op->rows = rows;
    for (int i = 0; i < OP_PARAMS; i++) op->param[i] = -1;
    return op->out[0];
}

int layer_norm_params(Graph *g, Layer *l, int ndim, const int64_t *shape, Error *e) {
    if (!(l->eps > 0)) return layer_fail(l, e, "eps must be greater than 0");
    if (!l->bias) return 0;
    return layer_param(g, l, 0, "weight", PARAM_NORM_WEIGHT, ndim, shape, e) ||
                   layer_param(g, l, 1, "bias", PARAM_NORM_BIAS, ndim, shape, e)
               ? -1
               : 0;
}

/* The shape of a parameter of dimensions first .. end - 1, extended so that it broadcasts to s from
 * the last dimension. */
static Shape repeated(const Shape *s, int first, int end) {
    Shape p = {.ndim = s->ndim - first};
    for (int d = 0; d < p.ndim; d++) p.dim[d] = first + d < end ? s->dim[first + d] : 1;
    return p;
}

int emit_norm(Build *b, const Layer *l, int x, RowsSpec rows, int first, int end, Error *e) {
    int y = emit_rows(b, OP_STANDARDIZE, l, x, rows, e);
    if (y < 0 || !l->bias) return y;
    Shape own = repeated(&l->shape, first, end);
    MapInput in[3] = {
        {y, -1, l->shape}, {NO_VALUE, l->param[0], own}, {NO_VALUE, l->param[1], own}};
    const Op *op = build_map(b, "x * y + z", 3, in, &l->shape, e);
    return op ? op->out[0] : -1;
}
