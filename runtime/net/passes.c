/* The passes over a new program. A pass that fuses an op into another one marks it with kind
 * OP_KINDS and gives its output to the other op. The end of the pass removes marked ops. */
#include "net/build.h"

static bool reads(const Op *op, int value) {
    bool read = op->add == value || op->mask == value;
    for (int j = 0; j < OP_INPUTS; j++) read = read || op->in[j] == value;
    return read && op->kind != OP_KINDS;
}

int count_readers(const Program *p, int value) {
    int n = 0;
    for (int i = 0; i < p->n_ops; i++) {
        const Op *op = &p->ops[i];
        if (op->kind == OP_KINDS) continue;
        for (int j = 0; j < OP_INPUTS; j++) n += op->in[j] == value;
        n += (op->add == value) + (op->mask == value);
    }
    return n;
}

int maker_of(const Program *p, int value) {
    for (int i = 0; i < p->n_ops; i++) {
        const Op *op = &p->ops[i];
        if (op->kind == OP_KINDS) continue;
        for (int j = 0; j < OP_OUTPUTS; j++)
            if (op->out[j] == value) return i;
        if (op->open == value) return i;
    }
    return -1;
}

/* Op `into` now makes the output of op `gone`. */
static void take_over(Program *p, int into, int gone) {
    p->ops[into].out[0] = p->ops[gone].out[0];
    p->ops[gone].kind = OP_KINDS;
}

/* The op that makes input j of op i, if op i is the only reader; else -1. */
static int sole_maker(const Program *p, int i, int j) {
    int value = p->ops[i].in[j];
    return count_readers(p, value) == 1 ? maker_of(p, value) : -1;
}

/* Removes the marked ops and renumbers twins. */
void close_gaps(Program *p) {
    int n = 0, forward = 0, half = p->n_forward;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_KINDS) continue;
        for (int k = i + 1; k < p->n_ops; k++)
            if (p->ops[k].twin == i) p->ops[k].twin = n;
        forward += i < half;
        p->ops[n++] = p->ops[i];
    }
    p->n_ops = n;
    p->n_forward = forward;
}

/* --- the forward half, for inference --- */

static bool fold_batchnorm(Program *p, int i) {
    int maker = sole_maker(p, i, 0);
    if (maker < 0) return false;
    Op *op = &p->ops[maker];
    if ((op->kind != OP_CONV && op->kind != OP_LINEAR) || op->relu || op->add != NO_VALUE ||
        op->folded >= 0)
        return false;
    op->folded = p->ops[i].layer_index;
    take_over(p, maker, i);
    return true;
}

/* Ops that accept no fused ReLU: those on the image, and those whose gradient reads their plain
 * result. */
static bool keeps_result(OpKind kind) {
    return kind == OP_NORMALIZE || kind == OP_RELU || kind == OP_SOFTMAX || kind == OP_STANDARDIZE;
}

static bool fuse_relu(Program *p, int i) {
    int maker = sole_maker(p, i, 0);
    if (maker < 0 || p->ops[maker].relu || keeps_result(p->ops[maker].kind)) return false;
    p->ops[maker].relu = true;
    p->ops[maker].cap = p->ops[i].cap;
    take_over(p, maker, i);
    return true;
}

/* Fuses a sum into a convolution that then adds the other value in place. Only this sum reads the
 * convolution's result. The other value is made before the convolution, and nothing reads it after
 * the convolution but the sum. */
static bool fuse_sum(Program *p, int i, int j) {
    int conv = sole_maker(p, i, j), other = p->ops[i].in[1 - j], made = maker_of(p, other);
    if (conv < 0 || made < 0 || made >= conv || p->ops[made].kind == OP_NORMALIZE) return false;
    Op *op = &p->ops[conv];
    if (op->kind != OP_CONV || op->relu || op->add != NO_VALUE) return false;
    for (int k = conv; k < p->n_ops; k++)
        if (k != i && reads(&p->ops[k], other)) return false;
    op->add = other;
    take_over(p, conv, i);
    return true;
}

void fuse_forward(Build *b) {
    Program *p = b->program;
    for (int i = 0; i < p->n_ops; i++) {
        switch (p->ops[i].kind) {
        case OP_AFFINE: fold_batchnorm(p, i); break;
        case OP_RELU: fuse_relu(p, i); break;
        case OP_ADD:
            if (!fuse_sum(p, i, 1)) fuse_sum(p, i, 0);
            break;
        default: break;
        }
    }
    close_gaps(p);
}

/* --- rounding to bf16 --- */

/* Every later op that reads `value` reads `rounded` instead. */
static void redirect(Program *p, int from, int value, int rounded) {
    for (int i = from; i < p->n_ops; i++) {
        Op *op = &p->ops[i];
        for (int j = 0; j < OP_INPUTS; j++)
            if (op->in[j] == value) op->in[j] = rounded;
        if (op->add == value) op->add = rounded;
    }
}

/* Whether an op other than the normalisation reads the image. The image is then rounded too. */
static bool image_is_operand(const Program *p) {
    for (int i = 0; i < p->n_ops; i++)
        if (p->ops[i].kind != OP_NORMALIZE && reads(&p->ops[i], VALUE_X)) return true;
    return false;
}

static int insert_round(Build *b, int at, int value, const Op *like, Error *e) {
    Program *p = b->program;
    const Shape shape = p->values[value].shape; /* a copy: adding a value may move the array */
    int rounded = build_shaped(b, VALUE_REAL, &shape, e);
    Op copy = *like;
    if (rounded < 0 || !build_op(b, OP_ROUND, &copy, 1, &value, e)) return -1;
    Op made = p->ops[p->n_ops - 1];
    made.out[0] = rounded;
    redirect(p, at, value, rounded);
    for (int i = p->n_ops - 1; i > at; i--) p->ops[i] = p->ops[i - 1];
    p->ops[at] = made;
    return 0;
}

/* Ops that only move elements: their results are already rounded. */
static bool only_moves(const Op *op) {
    return (op->kind == OP_VIEW || op->kind == OP_MOVE || op->kind == OP_INSERT) && !op->relu;
}

/* Rounds every value but the logits, after the work that is fused into its op. */
int round_forward(Build *b, Error *e) {
    Program *p = b->program;
    int logits = b->value_of[b->graph->n_layers - 1];
    if (image_is_operand(p) && insert_round(b, 0, VALUE_X, &p->ops[0], e)) return -1;
    for (int i = 0; i < p->n_ops; i++) {
        const Op *op = &p->ops[i];
        if (op->kind == OP_KINDS || op->kind == OP_ROUND || op->out[0] == logits) continue;
        if (only_moves(op)) continue;
        if (insert_round(b, i + 1, op->out[0], op, e)) return -1;
    }
    return 0;
}

/* --- the backward half --- */

/* Whether an op makes a contribution to a gradient. A sum or a mask may be fused into such an
 * op. */
static bool contributes(const Op *op) {
    switch (op->kind) {
    case OP_CONV:
    case OP_CONV_DATA:
    case OP_LINEAR_DATA:
    case OP_BATCHNORM_BACK:
    case OP_MAXPOOL_BACK:
    case OP_AVGPOOL_BACK:
    case OP_DROPOUT_BACK:
    case OP_AVGWINDOW_BACK:
    case OP_RESIZE_BACK:
    case OP_VIEW:
    case OP_MOVE:
    case OP_INSERT:
    case OP_MATMUL:
    case OP_SOFTMAX_BACK:
    case OP_STANDARDIZE_BACK:
    case OP_AFFINE: return op->backward;
    default: return false;
    }
}

static bool fuse_accumulation(Program *p, int i, int j) {
    int maker = sole_maker(p, i, j), other = p->ops[i].in[1 - j];
    if (maker < 0 || maker_of(p, other) >= maker) return false;
    Op *op = &p->ops[maker];
    if (!contributes(op) || op->add != NO_VALUE || op->mask != NO_VALUE) return false;
    op->add = other;
    take_over(p, maker, i);
    return true;
}

static void fuse_mask(Program *p, int i) {
    int maker = sole_maker(p, i, 0);
    if (maker < 0) return;
    Op *op = &p->ops[maker];
    if (!(contributes(op) || (op->kind == OP_ADD && op->backward)) || op->mask != NO_VALUE) return;
    op->mask = p->ops[i].in[1];
    take_over(p, maker, i);
}

void fuse_backward(Build *b) {
    Program *p = b->program;
    for (int i = p->n_forward; i < p->n_ops; i++) {
        if (p->ops[i].kind == OP_ADD && !fuse_accumulation(p, i, 1)) fuse_accumulation(p, i, 0);
        if (p->ops[i].kind == OP_MASK) fuse_mask(p, i);
    }
    close_gaps(p);
}

/* --- the end --- */

static void read_by(Program *p, int value, int op) {
    if (value == NO_VALUE) return;
    p->values[value].readers++;
    p->values[value].last = op;
}

static void made_by(Program *p, int value, int op) {
    if (value == NO_VALUE) return;
    p->values[value].made_by = p->values[value].last = op;
}

void finish_program(Build *b) {
    Program *p = b->program;
    for (int i = 0; i < p->n_ops; i++) {
        const Op *op = &p->ops[i];
        for (int j = 0; j < OP_INPUTS; j++) read_by(p, op->in[j], i);
        read_by(p, op->add, i);
        read_by(p, op->mask, i);
        for (int j = 0; j < OP_OUTPUTS; j++) made_by(p, op->out[j], i);
        made_by(p, op->open, i);
    }
}
