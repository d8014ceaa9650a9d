/* The maximum of a window; padding never wins. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    if (layer_check_image(g, l, 0, e)) return -1;
    if (layer_check_window(l, e)) return -1;
    for (int i = 0; i < 4; i++)
        if (2 * l->pad[i] > l->kernel[i % 2])
            return layer_fail(l, e, "padding is at most half the kernel");
    int64_t in[2] = {x->H, x->W}, out[2];
    for (int i = 0; i < 2; i++) {
        int64_t room = in[i] + l->pad[i] + l->pad[i + 2] - l->kernel[i];
        if (room < 0) return layer_fail(l, e, "the window is larger than its padded input");
        out[i] = room / l->stride[i] + 1;
        /* torch's rule: rounding up adds a window only where it starts inside the padded input */
        if (l->ceil_mode && room % l->stride[i] && out[i] * l->stride[i] < in[i] + l->pad[i]) {
            out[i]++;
            l->pad[i + 2] += l->stride[i] - room % l->stride[i];
        }
    }
    l->C = x->C, l->H = out[0], l->W = out[1];
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_MAXPOOL, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_maxpool = {"maxpool", 1, add, NULL, emit};
