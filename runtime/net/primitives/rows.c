/* The gradients of softmax and standardisation; both read the op's result. */
#include "net/build.h"

int gradient_softmax(Build *b, int i, int g, Error *e) {
    const Op *f = &b->program->ops[i];
    int x = f->in[0];
    if (!gradient_wanted(b, x)) return 0;
    const Op *op = gradient_op(b, OP_SOFTMAX_BACK, i, x, 2, (int[]){g, f->out[0]}, e);
    return op ? gradient_add(b, i, x, op->out[0], e) : -1;
}

int gradient_standardize(Build *b, int i, int g, Error *e) {
    const Op *f = &b->program->ops[i];
    int x = f->in[0], y = f->out[0];
    if (!gradient_wanted(b, x)) return 0;
    const Shape rows = {2, {f->rows.outer, f->rows.inner}};
    int spread = gradient_keep(b, i, 1, VALUE_REAL, &rows, e);
    const Op *op =
        spread < 0 ? NULL : gradient_op(b, OP_STANDARDIZE_BACK, i, x, 3, (int[]){g, y, spread}, e);
    return op ? gradient_add(b, i, x, op->out[0], e) : -1;
}
