/* Maps and sums over dimensions. They traverse operands by strides, so images stay
 * channels-last. */
#include <string.h>

#include "backend/cuda/lower.h"

/* Dimension number d in memory order: for an image height, width, channels; for any other shape its
 * own order. */
static int in_memory(bool image, int d) {
    static const int order[] = {1, 2, 0};
    return image ? order[d] : d;
}

static int in_memory_order(const Shape *s, const int64_t *of, int64_t *to) {
    for (int d = 0; d < s->ndim; d++) to[d] = of[in_memory(s->ndim == 3, d)];
    return s->ndim;
}

/* The strides of a shape's elements in memory. */
static void lies(const Shape *s, int64_t *stride) {
    int64_t step = 1;
    for (int d = s->ndim - 1; d >= 0; d--) {
        stride[d] = step;
        step *= s->dim[d];
    }
    if (s->ndim == 3) {
        stride[0] = 1;
        stride[1] = s->dim[2] * s->dim[0];
        stride[2] = s->dim[0];
    }
}

/* The strides of a value over `whole`: 0 where it is repeated. Elsewhere, the memory stride of the
 * dimension that the operand's contiguous stride identifies. */
static void value_strides(const MapOperand *o, const Shape *whole, const Shape *own,
                          int64_t *stride) {
    int64_t mine[SHAPE_DIMS];
    lies(own, mine);
    for (int d = 0; d < whole->ndim; d++) {
        int64_t plain = 1;
        stride[d] = 0;
        for (int k = own->ndim - 1; k >= 0 && o->stride[d]; k--) {
            if (o->stride[d] == plain && own->dim[k] == whole->dim[d]) stride[d] = mine[k];
            plain *= own->dim[k];
        }
    }
}

/* at: y, the operands. */
static int run_map(Plan *p, const Step *s, Error *e) {
    FormulaArgs args = *(const FormulaArgs *)s->job;
    for (int j = 0; j < args.formula.operands; j++) args.in[j] = s->at[j + 1];
    return step_done(p, s, kernel_formula(stream_of(p), &args, s->at[0]), e);
}

static int give_operand(Compiler *c, const Op *op, int j, FormulaArgs *a, Error *e) {
    const MapOperand *o = &op->map->operand[j];
    int64_t stride[SHAPE_DIMS];
    if (o->input < 0) {
        a->real[j] = REAL_F32;
        in_memory_order(&op->map->shape, o->stride, &a->stride[j][1]);
        return buffer_param(c, op->param[o->param], e);
    }
    int value = op->in[o->input];
    a->real[j] = value_real(c, value);
    a->stride[j][0] = value_elements(c, value) / c->request->N;
    value_strides(o, &op->map->shape, &value_of(c, value)->shape, stride);
    in_memory_order(&op->map->shape, stride, &a->stride[j][1]);
    return value_read(c, value, e);
}

int cuda_lower_map(Compiler *c, const Op *op, Error *e) {
    const MapSpec *m = op->map;
    FormulaArgs args = {.formula = m->formula, .out = op_real(c, op)};
    int buffers[MAP_OPERANDS + 1];
    args.n[0] = c->request->N;
    args.ndim = 1 + in_memory_order(&m->shape, m->shape.dim, &args.n[1]);
    for (int j = 0; j < m->formula.operands; j++)
        if ((buffers[j + 1] = give_operand(c, op, j, &args, e)) < 0) return -1;
    buffers[0] = buffer_of(c, op->out[0], op_real(c, op), e);
    if (buffers[0] < 0 ||
        !step_new(c, "map", run_map, m->formula.operands + 1, buffers, &args, sizeof args, e))
        return -1;
    return deliver(c, op, buffers[0], NO_BUFFER, false, e);
}

/* --- sums --- */

/* at: x, y. */
static int run_reduce(Plan *p, const Step *s, Error *e) {
    return step_done(p, s, kernel_sum_over(stream_of(p), s->job, s->at[0], s->at[1]), e);
}

static void add_dimension(SumArgs *a, bool over, int64_t n, int64_t stride) {
    int *count = over ? &a->over : &a->kept;
    (over ? a->over_n : a->kept_n)[*count] = n;
    (over ? a->over_stride : a->kept_stride)[(*count)++] = stride;
}

/* The kept dimensions in the memory order of out. */
static SumArgs sum_args(const Compiler *c, const Op *op, const Shape *out, bool batch) {
    const ReduceSpec *spec = op->reduce;
    SumArgs a = {.scale = spec->scale, .in = value_real(c, op->in[0])};
    int64_t mine[SHAPE_DIMS];
    bool image = out && out->ndim == 3 && spec->shape.ndim == 3;
    lies(&spec->shape, mine);
    add_dimension(&a, batch, c->request->N, value_elements(c, op->in[0]) / c->request->N);
    for (int d = 0; d < spec->shape.ndim; d++) {
        int k = in_memory(image, d);
        add_dimension(&a, spec->over[k], spec->shape.dim[k], mine[k]);
    }
    return a;
}

int cuda_lower_reduce(Compiler *c, const Op *op, Error *e) {
    SumArgs a = sum_args(c, op, &value_of(c, op->out[0])->shape, false);
    a.out = op_real(c, op);
    int x = value_read(c, op->in[0], e);
    int y = x < 0 ? -1 : buffer_of(c, op->out[0], a.out, e);
    if (y < 0 || !step_new(c, "sum", run_reduce, 2, (int[]){x, y}, &a, sizeof a, e)) return -1;
    return deliver(c, op, y, NO_BUFFER, false, e);
}

int cuda_lower_reduce_param(Compiler *c, const Op *op, Error *e) {
    SumArgs a = sum_args(c, op, NULL, true);
    int x = value_read(c, op->in[0], e);
    int y = x < 0 ? -1 : buffer_param_gradient(c, op->param[0], e);
    if (y < 0) return -1;
    return step_new(c, "parameter sum", run_reduce, 2, (int[]){x, y}, &a, sizeof a, e) ? 0 : -1;
}
