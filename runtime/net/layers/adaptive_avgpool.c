/* torch's adaptive average pooling to a grid of a given size. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    if (layer_check_image(g, l, 0, e)) return -1;
    if (l->out[0] < 1 || l->out[1] < 1 || l->out[0] > 65536 || l->out[1] > 65536)
        return layer_fail(l, e, "its output grid needs two sizes from 1 to 65536");
    l->C = x->C, l->H = l->out[0], l->W = l->out[1];
    return 0;
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    const Layer *x = layer_input_of(g, l, 0);
    (void)training;
    return l->H == x->H && l->W == x->W;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_AVGPOOL, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_adaptive_avgpool = {"adaptive_avgpool", 1, add, vanishes, emit};
