/* Reverses the order of the input's elements along the dimensions `sizes`. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    bool taken[SHAPE_DIMS] = {false};
    if (l->n_sizes < 1) return layer_fail(l, e, "needs the dimensions to flip");
    for (int i = 0; i < l->n_sizes; i++) {
        if (layer_check_dim(l, x, l->sizes[i], &l->sizes[i], e)) return -1;
        if (taken[l->sizes[i]]) return layer_fail(l, e, "a dimension is named twice");
        taken[l->sizes[i]] = true;
    }
    return layer_keep_shape(g, l);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    const Shape x = b->program->values[in[0]].shape;
    int64_t stride[SHAPE_DIMS];
    MoveSpec m = {.ndim = x.ndim, .whole = true};
    shape_strides(&x, stride);
    for (int d = 0; d < x.ndim; d++) m.n[d] = x.dim[d], m.from[d] = m.to[d] = stride[d];
    for (int i = 0; i < l->n_sizes; i++) {
        int64_t d = l->sizes[i];
        m.from_at += (x.dim[d] - 1) * stride[d];
        m.from[d] = -stride[d];
    }
    return layer_move(b, OP_MOVE, l, in[0], NO_VALUE, &m, e);
}

const LayerRule layer_flip = {"flip", 1, add, NULL, emit};
