/* The gradient of average pooling. */
#include "net/build.h"

int gradient_avgwindow(Build *b, int i, int g, Error *e) {
    int x = b->program->ops[i].in[0];
    if (!gradient_wanted(b, x)) return 0;
    const Op *op = gradient_op(b, OP_AVGWINDOW_BACK, i, x, 1, &g, e);
    return op ? gradient_add(b, i, x, op->out[0], e) : -1;
}
