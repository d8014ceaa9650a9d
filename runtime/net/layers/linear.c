/* A linear layer: weight [K, D], bias [K]. It takes the flattened input; with flags[0] it works
 * along the last dimension. `text` is a prefix of the parameters' names, such as torch's
 * "in_proj_". With flags[1] the parameters belong to attention. */
#include <stdio.h>

#include "net/layer.h"

static bool along_last(const Graph *g, const Layer *l) {
    return l->flags[0] && layer_input_of(g, l, 0)->shape.ndim > 1;
}

static int add(Graph *g, Layer *l, Error *e) {
    const Shape x = layer_input_of(g, l, 0)->shape; /* a copy: adding a layer may move the array */
    char weight[LAYER_TEXT + 8], bias[LAYER_TEXT + 8];
    if (l->C < 1 || l->C > 1 << 24) return layer_fail(l, e, "needs 1 to 2^24 outputs");
    int64_t shape[2] = {l->C, along_last(g, l) ? x.dim[x.ndim - 1] : shape_count(&x)};
    l->shape = (Shape){1, {l->C}};
    if (along_last(g, l)) {
        l->shape = x;
        l->shape.dim[x.ndim - 1] = l->C;
    }
    snprintf(weight, sizeof weight, "%sweight", l->text);
    snprintf(bias, sizeof bias, "%sbias", l->text);
    if (layer_param(g, l, 0, weight, l->flags[1] ? PARAM_ATTENTION_WEIGHT : PARAM_WEIGHT, 2, shape,
                    e))
        return -1;
    return l->bias ? layer_param(g, l, 1, bias, PARAM_BIAS, 1, shape, e) : 0;
}

/* One product over all dimensions before the last. */
static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    if (!along_last(b->graph, l)) return layer_op(b, OP_LINEAR, l, 1, in, e) ? 0 : -1;
    const Shape *x = &layer_input_of(b->graph, l, 0)->shape;
    int64_t D = x->dim[x->ndim - 1], K = l->shape.dim[x->ndim - 1];
    MatmulSpec spec = {.M = shape_count(x) / D,
                       .N = K,
                       .K = D,
                       .n = {1, 1},
                       .a = {.row = D, .column = 1},
                       .b = {.row = 1, .column = D},
                       .out = {.row = K, .column = 1},
                       .scale = 1};
    return emit_matmul(b, l, &l->shape, (int[]){in[0], NO_VALUE}, &spec, e) < 0 ? -1 : 0;
}

const LayerRule layer_linear = {"linear", 1, add, NULL, emit};
