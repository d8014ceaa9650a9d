/* Max pooling; the padding is never the maximum. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    if (layer_check_image(g, l, 0, e) || layer_check_pool(l, e)) return -1;
    int64_t in[2] = {x->H, x->W}, out[2];
    for (int i = 0; i < 2; i++) {
        out[i] = layer_windows(l, i, in[i]);
        if (out[i] < 1) return layer_fail(l, e, "the window is larger than its padded input");
        int64_t beyond =
            (out[i] - 1) * l->stride[i] + l->kernel[i] - in[i] - l->pad[i] - l->pad[i + 2];
        if (beyond > 0) l->pad[i + 2] += beyond;
    }
    l->C = x->C, l->H = out[0], l->W = out[1];
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_MAXPOOL, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_maxpool = {"maxpool", 1, add, NULL, emit};
