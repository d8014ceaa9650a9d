/* Local response normalisation: x / (k + alpha m)^beta. m is the mean of x^2 over the sizes[0]
 * nearest channels; k is `scale`, alpha `eps`, beta `p`. */
#include <math.h>
#include <stdio.h>

#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    if (layer_check_image(g, l, 0, e)) return -1;
    if (l->n_sizes != 1 || l->sizes[0] < 1 || l->sizes[0] > 1024)
        return layer_fail(l, e, "size must be 1 to 1024 channels");
    if (!isfinite(l->scale) || !isfinite(l->eps) || !isfinite(l->p))
        return layer_fail(l, e, "alpha, beta and k must be finite");
    return layer_keep_shape(g, l);
}

/* The value that an op makes; -1 if the op could not be made. */
static int value_made(const Op *op) {
    return op ? op->out[0] : -1;
}

/* The mean over neighbouring channels. A plane holds the channels as rows and the pixels as
 * columns. */
static int mean_around(Build *b, const Layer *l, int square, Error *e) {
    const Shape plane = {3, {1, l->C, l->H * l->W}};
    int64_t n = l->sizes[0];
    int x = value_made(layer_op_shaped(b, OP_VIEW, l, &plane, 1, &square, e));
    Op *op = x < 0 ? NULL : layer_op_shaped(b, OP_AVGWINDOW, l, &plane, 1, &x, e);
    if (!op) return -1;
    op->kernel[0] = n, op->pad[0] = n / 2, op->pad[2] = (n - 1) / 2;
    op->kernel[1] = op->stride[0] = op->stride[1] = 1;
    op->pad[1] = op->pad[3] = 0;
    op->count_pad = true;
    int mean = op->out[0];
    return value_made(layer_op_shaped(b, OP_VIEW, l, &l->shape, 1, &mean, e));
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    char text[160];
    MapInput x[2] = {{in[0], -1, l->shape}, {0, -1, l->shape}};
    int square = value_made(build_map(b, "x * x", 1, x, &l->shape, e));
    if (square < 0 || (x[1].value = mean_around(b, l, square, e)) < 0) return -1;
    snprintf(text, sizeof text, "x * (%.17g + %.17g * y)^(%.17g)", l->scale, l->eps, -l->p);
    return build_map(b, text, 2, x, &l->shape, e) ? 0 : -1;
}

const LayerRule layer_lrn = {"lrn", 1, add, NULL, emit};
