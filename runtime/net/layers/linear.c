/* A linear layer on the flattened input: weight [K, C*H*W], bias [K]. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    if (l->C < 1 || l->C > 1 << 24) return layer_fail(l, e, "needs 1 to 2^24 outputs");
    int64_t shape[2] = {l->C, x->C * x->H * x->W};
    l->shape = (Shape){1, {l->C}};
    if (layer_param(g, l, 0, "weight", PARAM_WEIGHT, 2, shape, e)) return -1;
    return l->bias ? layer_param(g, l, 1, "bias", PARAM_BIAS, 1, shape, e) : 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_LINEAR, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_linear = {"linear", 1, add, NULL, emit};
