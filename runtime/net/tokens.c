/* What layers that are made of products and rows share. */
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
    const Shape shape = b->program->values[x].shape; /* new values may move the old */
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

/* Where a parameter of dimensions first .. end - 1 lies for each dimension of the shape. */
static void strides_of(const Shape *s, int first, int end, int64_t *stride) {
    int64_t step = 1;
    for (int d = s->ndim - 1; d >= 0; d--) {
        bool own = d >= first && d < end;
        stride[d] = own ? step : 0;
        if (own) step *= s->dim[d];
    }
}

/* x * weight + bias */
static int emit_affine(Build *b, const Layer *l, int x, int first, int end, Error *e) {
    MapSpec map = {.formula = {.operands = 3,
                               .n = 5,
                               .step = {{.code = FORMULA_OPERAND, .a = 0},
                                        {.code = FORMULA_OPERAND, .a = 1},
                                        {.code = FORMULA_MUL, .a = 0, .b = 1},
                                        {.code = FORMULA_OPERAND, .a = 2},
                                        {.code = FORMULA_ADD, .a = 2, .b = 3}}},
                   .operand = {{.input = 0, .param = -1},
                               {.input = -1, .param = 0},
                               {.input = -1, .param = 1}},
                   .shape = l->shape};
    strides_of(&l->shape, 0, l->shape.ndim, map.operand[0].stride);
    for (int i = 1; i < 3; i++) strides_of(&l->shape, first, end, map.operand[i].stride);
    const MapSpec *kept = build_spec(b, &map, sizeof map, e);
    Op *op = kept ? layer_op(b, OP_MAP, l, 1, &x, e) : NULL;
    if (!op) return -1;
    op->map = kept;
    return op->out[0];
}

int emit_norm(Build *b, const Layer *l, int x, RowsSpec rows, int first, int end, Error *e) {
    int y = emit_rows(b, OP_STANDARDIZE, l, x, rows, e);
    return y < 0 || !l->bias ? y : emit_affine(b, l, y, first, end, e);
}
