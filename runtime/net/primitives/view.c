/* The gradient of a view: the same elements in the original shape. */
#include "net/build.h"

int gradient_view(Build *b, int i, int g, Error *e) {
    int x = b->program->ops[i].in[0];
    if (!gradient_wanted(b, x)) return 0;
    const Op *op = gradient_op(b, OP_VIEW, i, x, 1, &g, e);
    return op ? gradient_add(b, i, x, op->out[0], e) : -1;
}
