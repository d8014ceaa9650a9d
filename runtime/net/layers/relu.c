/* min(max(x, 0), cap): ReLU, or ReLU6 with a cap of 6. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    if (!(l->cap > 0)) return layer_fail(l, e, "its cap must be greater than 0");
    return layer_keep_shape(g, l);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_RELU, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_relu = {"relu", 1, add, NULL, emit};
