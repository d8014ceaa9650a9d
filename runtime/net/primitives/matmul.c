/* The gradient of out = scale a b: for a it is scale dout b', for b it is scale a' dout. Both are
 * products over the same memory with other strides. */
#include "net/build.h"

static MatmulOperand transposed(MatmulOperand m) {
    return (MatmulOperand){{m.step[0], m.step[1]}, m.column, m.row, m.at};
}

/* The product that computes the gradient of the first operand or of the second. */
static MatmulSpec gradient_spec(const MatmulSpec *s, bool first) {
    MatmulSpec g = *s;
    if (first) {
        g.K = s->N, g.N = s->K;
        g.a = s->out, g.b = transposed(s->b), g.out = s->a;
    } else {
        g.K = s->M, g.M = s->K;
        g.a = transposed(s->a), g.b = s->out, g.out = s->b;
    }
    return g;
}

/* The gradient of an operand: a value, or the parameter in its place. */
static int operand_rule(Build *b, int i, int g, int operand, Error *e) {
    const Op *f = &b->program->ops[i];
    int value = f->in[operand], other = f->in[1 - operand];
    if (value == NO_VALUE ? !b->training : !gradient_wanted(b, value)) return 0;
    MatmulSpec spec = gradient_spec(f->matmul, operand == 0);
    const MatmulSpec *kept = build_spec(b, &spec, sizeof spec, e);
    int in[2] = {operand == 0 ? g : other, operand == 0 ? other : g};
    if (!kept) return -1;
    Op *op = value == NO_VALUE ? gradient_to_params(b, OP_MATMUL_PARAM, i, 2, in, e)
                               : gradient_op(b, OP_MATMUL, i, value, 2, in, e);
    if (!op) return -1;
    op->matmul = kept;
    op->param[1] = -1;
    return value == NO_VALUE ? 0 : gradient_add(b, i, value, op->out[0], e);
}

/* The bias is added to the last dimension of out. */
static int bias_rule(Build *b, int i, int g, Error *e) {
    const Op *f = &b->program->ops[i];
    ReduceSpec spec = {.shape = b->program->values[f->out[0]].shape, .scale = 1};
    if (f->param[1] < 0 || !b->training) return 0;
    for (int d = 0; d < spec.shape.ndim - 1; d++) spec.over[d] = true;
    const ReduceSpec *kept = build_spec(b, &spec, sizeof spec, e);
    Op *op = kept ? gradient_to_params(b, OP_REDUCE_PARAM, i, 1, &g, e) : NULL;
    if (!op) return -1;
    op->reduce = kept;
    op->param[0] = op->param[1];
    op->param[1] = -1;
    return 0;
}

int gradient_matmul(Build *b, int i, int g, Error *e) {
    return operand_rule(b, i, g, 1, e) || operand_rule(b, i, g, 0, e) || bias_rule(b, i, g, e) ? -1
                                                                                               : 0;
}
