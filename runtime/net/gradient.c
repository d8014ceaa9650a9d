/* Adds the gradient of a program to the same program. It goes from the last op to the first. Each
 * primitive's rule emits primitives that turn the gradient of its output into the gradients of its
 * inputs.
 *
 * A value's gradient is the sum of its readers' contributions. All of them are known when the walk
 * reaches the op that makes the value. Only then is the sum masked by the value's ReLU and, for
 * emulated bf16, rounded. */
#include "net/build.h"

Op *gradient_op(Build *b, OpKind kind, int twin, int of, int n, const int *in, Error *e) {
    const Shape shape =
        b->program->values[of].shape; /* a copy: adding a value may move the array */
    int made = build_shaped(b, VALUE_REAL, &shape, e);
    Op like = b->program->ops[twin];
    Op *op = made < 0 ? NULL : build_op(b, kind, &like, n, in, e);
    if (!op) return NULL;
    b->program->values[made].gradient_of = of;
    op->backward = true;
    op->shift = false;
    op->twin = twin;
    op->out[0] = made;
    return op;
}

bool gradient_wanted(const Build *b, int value) {
    return b->flags[value].wanted;
}

/* A single contribution is the gradient itself, so no sum is needed. */
int gradient_add(Build *b, int twin, int value, int contribution, Error *e) {
    if (!gradient_wanted(b, value)) return 0;
    int known = b->gradient[value];
    if (known == NO_VALUE) {
        b->gradient[value] = contribution;
        return 0;
    }
    const Op *op = gradient_op(b, OP_ADD, twin, value, 2, (int[]){known, contribution}, e);
    if (!op) return -1;
    b->gradient[value] = op->out[0];
    return 0;
}

/* Adds an op that computes, from in[0 .. n-1], a contribution to the gradient of the twin's first
 * input. */
static int pass_on(Build *b, OpKind kind, int twin, int n, const int *in, Error *e) {
    int x = b->program->ops[twin].in[0];
    if (!gradient_wanted(b, x)) return 0;
    const Op *op = gradient_op(b, kind, twin, x, n, in, e);
    return op ? gradient_add(b, twin, x, op->out[0], e) : -1;
}

/* --- the rules: i is the op, g the gradient of its output --- */

Op *gradient_to_params(Build *b, OpKind kind, int twin, int n, const int *in, Error *e) {
    Op like = b->program->ops[twin];
    Op *op = build_op(b, kind, &like, n, in, e);
    if (!op) return NULL;
    op->backward = true;
    op->twin = twin;
    return op;
}

/* The gradients of parameters, for training. */
static int to_params(Build *b, OpKind kind, int i, int g, Error *e) {
    int in[2] = {b->program->ops[i].in[0], g};
    return !b->training || gradient_to_params(b, kind, i, 2, in, e) ? 0 : -1;
}

static int conv_rule(Build *b, int i, int g, Error *e) {
    return to_params(b, OP_CONV_WEIGHTS, i, g, e) || pass_on(b, OP_CONV_DATA, i, 1, &g, e) ? -1 : 0;
}

static int linear_rule(Build *b, int i, int g, Error *e) {
    return to_params(b, OP_LINEAR_WEIGHTS, i, g, e) || pass_on(b, OP_LINEAR_DATA, i, 1, &g, e) ? -1
                                                                                               : 0;
}

static int batchnorm_rule(Build *b, int i, int g, Error *e) {
    const Op *f = &b->program->ops[i];
    int in[4] = {f->in[0], g, f->out[1], f->out[2]};
    if (gradient_wanted(b, in[0])) return pass_on(b, OP_BATCHNORM_BACK, i, 4, in, e);
    return gradient_to_params(b, OP_BATCHNORM_BACK, i, 4, in, e) ? 0 : -1;
}

static int affine_rule(Build *b, int i, int g, Error *e) {
    return pass_on(b, OP_AFFINE, i, 1, &g, e);
}

/* ReLU, whose mask is already applied, and rounding, which counts as the identity. */
static int identity_rule(Build *b, int i, int g, Error *e) {
    return gradient_add(b, i, b->program->ops[i].in[0], g, e);
}

int gradient_keep(Build *b, int i, int slot, ValueKind kind, const Shape *shape, Error *e) {
    int kept = build_shaped(b, kind, shape, e);
    b->program->ops[i].out[slot] = kept;
    return kept;
}

/* Adds an output with one number per element of the op's output. */
static int keep(Build *b, int i, ValueKind kind, Error *e) {
    const Shape shape = b->program->values[b->program->ops[i].out[0]].shape;
    return gradient_keep(b, i, 1, kind, &shape, e);
}

static int maxpool_rule(Build *b, int i, int g, Error *e) {
    if (!gradient_wanted(b, b->program->ops[i].in[0])) return 0;
    int places = keep(b, i, VALUE_PLACES, e);
    return places < 0 ? -1 : pass_on(b, OP_MAXPOOL_BACK, i, 2, (int[]){g, places}, e);
}

static int avgpool_rule(Build *b, int i, int g, Error *e) {
    return pass_on(b, OP_AVGPOOL_BACK, i, 1, &g, e);
}

static int add_rule(Build *b, int i, int g, Error *e) {
    return gradient_add(b, i, b->program->ops[i].in[0], g, e) ||
                   gradient_add(b, i, b->program->ops[i].in[1], g, e)
               ? -1
               : 0;
}

static int dropout_rule(Build *b, int i, int g, Error *e) {
    if (!gradient_wanted(b, b->program->ops[i].in[0])) return 0;
    int bits = keep(b, i, VALUE_BITS, e);
    return bits < 0 ? -1 : pass_on(b, OP_DROPOUT_BACK, i, 2, (int[]){g, bits}, e);
}

/* clang-format off */
static GradientRule *const rules[OP_KINDS] = {
    [OP_CONV] = conv_rule,
    [OP_LINEAR] = linear_rule,
    [OP_BATCHNORM] = batchnorm_rule,
    [OP_NORMALIZE] = affine_rule,
    [OP_AFFINE] = affine_rule,
    [OP_RELU] = identity_rule,
    [OP_MAXPOOL] = maxpool_rule,
    [OP_AVGPOOL] = avgpool_rule,
    [OP_ADD] = add_rule,
    [OP_DROPOUT] = dropout_rule,
    [OP_ROUND] = identity_rule,
    [OP_VIEW] = gradient_view,
    [OP_MOVE] = gradient_move,
    [OP_INSERT] = gradient_insert,
    [OP_MAP] = gradient_map,
    [OP_REDUCE] = gradient_reduce,
    [OP_AVGWINDOW] = gradient_avgwindow,
    [OP_CONV_DATA] = gradient_conv_data,
    [OP_MATMUL] = gradient_matmul,
    [OP_SOFTMAX] = gradient_softmax,
    [OP_STANDARDIZE] = gradient_standardize,
    [OP_RESIZE] = gradient_resize,
};
/* clang-format on */

/* --- masks and rounding --- */

/* The op that applied a ReLU to the value, possibly before a rounding; -1 if none did. */
static int activated_by(const Program *p, int value) {
    int i = maker_of(p, value);
    if (i >= 0 && p->ops[i].kind == OP_ROUND) i = maker_of(p, p->ops[i].in[0]);
    return i >= 0 && (p->ops[i].relu || p->ops[i].kind == OP_RELU) ? i : -1;
}

/* The value that readers see: the value itself, or its rounded copy. */
static int seen_as(const Program *p, int value) {
    for (int i = 0; i < p->n_forward; i++)
        if (p->ops[i].kind == OP_ROUND && p->ops[i].in[0] == value) return p->ops[i].out[0];
    return value;
}

/* The bits of a value: whether it lies in (0, cap). They become an extra output of its maker. */
static int bits_of(Build *b, int value, double cap, Error *e) {
    Program *p = b->program;
    int maker = maker_of(p, value);
    if (p->ops[maker].open != NO_VALUE) return p->ops[maker].open;
    const Shape shape = p->values[value].shape;
    int bits = build_shaped(b, VALUE_BITS, &shape, e);
    p->ops[maker].open = bits;
    p->ops[maker].cap = cap;
    return bits;
}

static int emit_mask(Build *b, int i, int value, double cap, int *g, Error *e) {
    int bits = bits_of(b, value, cap, e);
    const Op *op = bits < 0 ? NULL : gradient_op(b, OP_MASK, i, value, 2, (int[]){*g, bits}, e);
    if (!op) return -1;
    *g = op->out[0];
    return 0;
}

/* max(relu(x)) = relu(max(x)). If only a pool reads a ReLU's output, mask the gradient of the
 * pool's output, which is smaller. The largest element of a window is active exactly if the pooled
 * value is. */
static int mask_pooled(Build *b, int i, int *g, Error *e) {
    const Program *p = b->program;
    const Op *pool = &p->ops[i];
    int x = pool->in[0], relu = activated_by(p, x);
    if (relu < 0 || pool->relu || count_readers(p, x) != 1) return 0;
    b->flags[x].masked = true;
    return emit_mask(b, i, seen_as(p, p->ops[i].out[0]), p->ops[relu].cap, g, e);
}

static int complete(Build *b, int i, int *g, Error *e) {
    const Program *p = b->program;
    const Op *op = &p->ops[i];
    int value = seen_as(p, p->ops[i].out[0]);
    if ((op->relu || op->kind == OP_RELU) && !b->flags[value].masked &&
        emit_mask(b, i, value, op->cap, g, e))
        return -1;
    if (p->ops[i].kind == OP_MAXPOOL && mask_pooled(b, i, g, e)) return -1;
    if (!b->rounds_backward || p->ops[i].kind == OP_NORMALIZE ||
        p->ops[maker_of(p, *g)].kind == OP_ROUND)
        return 0;
    const Op *rounded = gradient_op(b, OP_ROUND, i, value, 1, g, e);
    if (!rounded) return -1;
    *g = rounded->out[0];
    return 0;
}

/* --- the walk from the last op to the first --- */

static void want(Build *b) {
    const Program *p = b->program;
    b->flags[VALUE_X].wanted = !b->training;
    for (int i = 0; i < p->n_forward; i++) {
        const Op *op = &p->ops[i];
        bool any = op->add != NO_VALUE && gradient_wanted(b, op->add);
        for (int j = 0; j < OP_INPUTS; j++)
            any |= op->in[j] != NO_VALUE && gradient_wanted(b, op->in[j]);
        b->flags[op->out[0]].wanted = any || (b->training && op->param[0] >= 0);
    }
}

int emit_gradient(Build *b, Error *e) {
    Program *p = b->program;
    int logits = p->ops[p->n_forward - 1].in[0];
    want(b);
    const Op *input =
        gradient_op(b, OP_INPUT, maker_of(p, logits), logits, 1, (int[]){VALUE_DZ}, e);
    if (!input) return -1;
    b->gradient[logits] = input->out[0];
    for (int i = p->n_forward - 2; i >= 0; i--) {
        OpKind kind = p->ops[i].kind;
        int g = kind == OP_KINDS ? NO_VALUE : b->gradient[p->ops[i].out[0]];
        if (g == NO_VALUE) continue;
        if (kind != OP_ROUND && complete(b, i, &g, e)) return -1;
        if (p->ops[i].add != NO_VALUE && gradient_add(b, i, p->ops[i].add, g, e)) return -1;
        if (rules[kind](b, i, g, e)) return -1;
    }
    if (b->training) return 0;
    Op like = p->ops[maker_of(p, b->gradient[VALUE_X])];
    Op *output = build_op(b, OP_OUTPUT, &like, 1, &b->gradient[VALUE_X], e);
    if (!output) return -1;
    output->backward = true;
    output->out[0] = VALUE_DX;
    return 0;
}
