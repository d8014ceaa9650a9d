/* A transposed convolution: weight [C, K/groups, R, S], bias [K]; sizes: rows and columns more at
 * the bottom and on the right. */
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
        if (out[i] < 1) return layer_fail(l, e, "the padding leaves nothing of its output");
    }
    l->H = out[0], l->W = out[1];
    int64_t shape[4] = {x->C, l->C / l->groups, l->kernel[0], l->kernel[1]};
    if (layer_param(g, l, 0, "weight", PARAM_WEIGHT, 4, shape, e)) return -1;
    return l->bias ? layer_param(g, l, 1, "bias", PARAM_BIAS, 1, &l->C, e) : 0;
}

/* x + bias. */
static int add_bias(Build *b, const Layer *l, int x, Error *e) {
    MapSpec m = {.formula = {.operands = 2,
                             .n = 3,
                             .step = {{.code = FORMULA_OPERAND},
                                      {.code = FORMULA_OPERAND, .a = 1},
                                      {.code = FORMULA_ADD, .a = 0, .b = 1}}},
                 .operand = {{.input = 0, .param = -1}, {.input = -1, .param = 0, .stride = {1}}},
                 .shape = l->shape};
    shape_strides(&l->shape, m.operand[0].stride);
    const MapSpec *spec = build_spec(b, &m, sizeof m, e);
    Op *op = spec ? layer_op(b, OP_MAP, l, 1, &x, e) : NULL;
    if (!op) return -1;
    op->map = spec;
    op->param[0] = l->param[1];
    op->param[1] = -1;
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    Op *op = layer_op(b, OP_CONV_DATA, l, 1, in, e);
    if (!op) return -1;
    op->param[1] = -1;
    return l->bias ? add_bias(b, l, op->out[0], e) : 0;
}

const LayerRule layer_conv_transpose = {"conv_transpose", 1, add, NULL, emit};
