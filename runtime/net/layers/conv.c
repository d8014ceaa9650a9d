/* A convolution: weight [K, C/groups, R, S], bias [K]. */
#include "net/layer.h"

/* Output size of a window that slides over `in` padded elements; -1 if it does not fit. */
static int64_t slide(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t stride) {
    int64_t room = in + before + after - kernel;
    return room < 0 ? -1 : room / stride + 1;
}

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    if (layer_check_image(g, l, 0, e)) return -1;
    if (layer_check_window(l, e)) return -1;
    if (l->C < 1 || l->C > 1 << 20) return layer_fail(l, e, "needs 1 to 2^20 output channels");
    if (l->groups < 1 || x->C % l->groups || l->C % l->groups)
        return layer_fail(l, e, "groups must divide the input's and the output's channels");
    int64_t reach[2];
    for (int i = 0; i < 2; i++) reach[i] = (l->kernel[i] - 1) * l->dilation[i] + 1;
    l->H = slide(x->H, l->pad[0], l->pad[2], reach[0], l->stride[0]);
    l->W = slide(x->W, l->pad[1], l->pad[3], reach[1], l->stride[1]);
    if (l->H < 1 || l->W < 1) return layer_fail(l, e, "the kernel is larger than its padded input");
    int64_t shape[4] = {l->C, x->C / l->groups, l->kernel[0], l->kernel[1]};
    if (layer_param(g, l, 0, "weight", PARAM_WEIGHT, 4, shape, e)) return -1;
    return l->bias ? layer_param(g, l, 1, "bias", PARAM_BIAS, 1, shape, e) : 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_CONV, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_conv = {"conv", 1, add, NULL, emit};
