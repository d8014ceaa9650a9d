/* A parameter as a value, equal for every image. Its name is the layer's, its shape is `sizes`, its
 * role (graph.h) is `text`. With `flag` the parameter's own shape omits trailing sizes of 1. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    ParamRole role = param_role_named(l->text);
    if (role == PARAM_ROLES || role == PARAM_RUNNING_MEAN || role == PARAM_RUNNING_VAR)
        return layer_fail(l, e,
                          "its role must be weight, bias, norm_weight, norm_bias, "
                          "attention_weight, token, layer_scale, "
                          "logit_scale, slope or constant");
    if (l->n_sizes < 1 || l->n_sizes > SHAPE_DIMS)
        return layer_fail(l, e, "needs a shape of 1 to 6 sizes");
    l->shape.ndim = l->n_sizes;
    for (int i = 0; i < l->n_sizes; i++) {
        if (l->sizes[i] < 1) return layer_fail(l, e, "its sizes must be 1 or more");
        l->shape.dim[i] = l->sizes[i];
    }
    int ndim = l->n_sizes;
    while (l->flags[0] && ndim > 1 && l->sizes[ndim - 1] == 1) ndim--;
    return layer_param(g, l, 0, "", role, ndim, l->sizes, e);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    MapInput self = {NO_VALUE, l->param[0], l->shape};
    (void)in;
    return build_map(b, "x", 1, &self, &l->shape, e) ? 0 : -1;
}

const LayerRule layer_parameter = {"parameter", 0, add, NULL, emit};
