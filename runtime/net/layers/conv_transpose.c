/* A transposed convolution: weight [C, K/groups, R, S], bias [K]. sizes: the output padding, rows
 * added at the bottom and columns added on the right. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    int64_t in[2] = {x->H, x->W}, out[2];
    if (layer_check_image(g, l, 0, e) || layer_check_window(l, e)) return -1;
    if (l->C < 1 || l->C > 1 << 20) return layer_fail(l, e, "needs 1 to 2^20 output channels");
    if (l->groups < 1 || x->C % l->groups || l->C % l->groups)
        return layer_fail(l, e, "groups must divide the input's and the output's channels");
    for (int i = 0; i < 2; i++) {
        if (l->sizes[i] < 0 || l->sizes[i] >= l->stride[i])
            return layer_fail(l, e, "output_padding must be 0 or more and less than the stride");
        out[i] = (in[i] - 1) * l->stride[i] + (l->kernel[i] - 1) * l->dilation[i] + 1 +
                 l->sizes[i] - l->pad[i] - l->pad[i + 2];
        if (out[i] < 1) return layer_fail(l, e, "the padding removes its whole output");
    }
    l->H = out[0], l->W = out[1];
    int64_t shape[4] = {x->C, l->C / l->groups, l->kernel[0], l->kernel[1]};
    if (layer_param(g, l, 0, "weight", PARAM_WEIGHT, 4, shape, e)) return -1;
    return l->bias ? layer_param(g, l, 1, "bias", PARAM_BIAS, 1, &l->C, e) : 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    Op *op = layer_op(b, OP_CONV_DATA, l, 1, in, e);
    if (!op) return -1;
    op->param[1] = -1;
    if (!l->bias) return 0;
    MapInput sum[2] = {{op->out[0], -1, l->shape}, {NO_VALUE, l->param[1], {3, {l->C, 1, 1}}}};
    return build_map(b, "x + y", 2, sum, &l->shape, e) ? 0 : -1;
}

const LayerRule layer_conv_transpose = {"conv_transpose", 1, add, NULL, emit};
