/* Permutes the dimensions: dimension i of the output is dimension sizes[i] of the input. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    bool taken[SHAPE_DIMS] = {false};
    if (l->n_sizes != x->ndim)
        return layer_fail(l, e, "its order must name every dimension of its input once");
    l->shape.ndim = x->ndim;
    for (int i = 0; i < x->ndim; i++) {
        if (layer_check_dim(l, x, l->sizes[i], &l->sizes[i], e)) return -1;
        if (taken[l->sizes[i]])
            return layer_fail(l, e, "its order must name every dimension of its input once");
        taken[l->sizes[i]] = true;
        l->shape.dim[i] = x->dim[l->sizes[i]];
    }
    return 0;
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    (void)g, (void)training;
    for (int i = 0; i < l->n_sizes; i++)
        if (l->sizes[i] != i) return false;
    return true;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    const Shape x = b->program->values[in[0]].shape;
    int64_t from[SHAPE_DIMS], to[SHAPE_DIMS];
    MoveSpec m = {.ndim = x.ndim, .whole = true};
    shape_strides(&x, from);
    shape_strides(&l->shape, to);
    for (int d = 0; d < x.ndim; d++) {
        m.n[d] = l->shape.dim[d];
        m.from[d] = from[l->sizes[d]];
        m.to[d] = to[d];
    }
    return layer_move(b, OP_MOVE, l, in[0], NO_VALUE, &m, e);
}

const LayerRule layer_permute = {"permute", 1, add, vanishes, emit};
