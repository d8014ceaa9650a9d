/* The gradients of a transposed convolution. The data gradient is the plain convolution. The weight
 * gradient is the convolution's, which reads the output's gradient as its input. */
#include "net/build.h"

int gradient_conv_data(Build *b, int i, int g, Error *e) {
    int x = b->program->ops[i].in[0];
    if (b->training && !gradient_to_params(b, OP_CONV_WEIGHTS, i, 2, (int[]){g, x}, e)) return -1;
    if (!gradient_wanted(b, x)) return 0;
    const Op *op = gradient_op(b, OP_CONV, i, x, 1, &g, e);
    return op ? gradient_add(b, i, x, op->out[0], e) : -1;
}
