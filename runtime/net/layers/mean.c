/* The mean, or with `flag` the sum, over the dimensions in `sizes`, counted from 0. With
 * `second_flag` these dimensions stay, with size 1. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    bool over[SHAPE_DIMS] = {false};
    if (l->n_sizes < 1) return layer_fail(l, e, "needs dimensions");
    for (int i = 0; i < l->n_sizes; i++) {
        if (l->sizes[i] < 0 || l->sizes[i] >= x->ndim || over[l->sizes[i]])
            return layer_fail(l, e, "needs different dimensions of its input");
        over[l->sizes[i]] = true;
    }
    for (int i = 0; i < x->ndim; i++) {
        if (over[i] && !l->flags[1]) continue;
        l->shape.dim[l->shape.ndim++] = over[i] ? 1 : x->dim[i];
    }
    if (!l->shape.ndim) l->shape = (Shape){1, {1}};
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    ReduceSpec spec = {.shape = b->graph->layers[l->input[0]].shape, .scale = 1};
    for (int i = 0; i < l->n_sizes; i++) {
        spec.over[l->sizes[i]] = true;
        if (!l->flags[0]) spec.scale /= (double)spec.shape.dim[l->sizes[i]];
    }
    Op *op = layer_op(b, OP_REDUCE, l, 1, in, e);
    if (!op) return -1;
    const ReduceSpec *kept = build_spec(b, &spec, sizeof spec, e);
    if (!kept) return -1;
    op->reduce = kept;
    return 0;
}

const LayerRule layer_mean = {"mean", 1, add, NULL, emit};
