/* Batch norm: weight, bias, running_mean, running_var [C]. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    layer_keep_shape(g, l);
    if (!(l->eps > 0) || !(l->momentum >= 0 && l->momentum <= 1))
        return layer_fail(l, e, "eps must be greater than 0 and momentum in 0 to 1");
    if (layer_param(g, l, 0, "weight", PARAM_NORM_WEIGHT, 1, &l->C, e) ||
        layer_param(g, l, 1, "bias", PARAM_NORM_BIAS, 1, &l->C, e) ||
        layer_param(g, l, 2, "running_mean", PARAM_RUNNING_MEAN, 1, &l->C, e))
        return -1;
    return layer_param(g, l, 3, "running_var", PARAM_RUNNING_VAR, 1, &l->C, e);
}

/* In training: uses the batch's statistics. Else: an affine map from the running statistics. */
static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    Op *op = layer_op(b, b->training ? OP_BATCHNORM : OP_AFFINE, l, 1, in, e);
    if (!op) return -1;
    op->shift = !b->training;
    for (int i = 1; i <= 2 && b->training; i++) {
        int statistic = build_value(b, VALUE_CHANNELS, l->C, 1, 1, e);
        if (statistic < 0) return -1;
        b->program->ops[b->program->n_ops - 1].out[i] = statistic;
    }
    return 0;
}

const LayerRule layer_batchnorm = {"batchnorm", 1, add, NULL, emit};
