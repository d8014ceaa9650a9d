/* Average pooling as in torch. It averages the image's elements in a window. With flags[0] the
 * zeros of the padding count too, up to the end of the padded image. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    if (layer_check_image(g, l, 0, e) || layer_check_pool(l, e)) return -1;
    l->C = x->C;
    l->H = layer_windows(l, 0, x->H);
    l->W = layer_windows(l, 1, x->W);
    if (l->H < 1 || l->W < 1) return layer_fail(l, e, "the window is larger than its padded input");
    return 0;
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    const Layer *x = layer_input_of(g, l, 0);
    (void)training;
    return l->kernel[0] * l->kernel[1] == 1 && l->H == x->H && l->W == x->W;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    Op *op = layer_op(b, OP_AVGWINDOW, l, 1, in, e);
    if (!op) return -1;
    op->count_pad = l->flags[0];
    return 0;
}

const LayerRule layer_avgpool = {"avgpool", 1, add, vanishes, emit};
