/* Pads the input with zeros: sizes[2 d] before and sizes[2 d + 1] after dimension d. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    if (l->n_sizes != 2 * x->ndim)
        return layer_fail(l, e, "needs the padding before and behind each dimension of its input");
    l->shape = *x;
    for (int i = 0; i < l->n_sizes; i++) {
        if (l->sizes[i] < 0 || l->sizes[i] > 65536)
            return layer_fail(l, e, "padding must be 0 to 65536; use slice to crop");
        l->shape.dim[i / 2] += l->sizes[i];
    }
    return 0;
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    (void)training;
    return shape_same(&l->shape, &layer_input_of(g, l, 0)->shape);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    const Shape x = b->program->values[in[0]].shape;
    int64_t from[SHAPE_DIMS], to[SHAPE_DIMS];
    MoveSpec m = {.ndim = x.ndim};
    shape_strides(&x, from);
    shape_strides(&l->shape, to);
    for (int d = 0; d < x.ndim; d++) {
        m.n[d] = x.dim[d], m.from[d] = from[d], m.to[d] = to[d];
        m.to_at += l->sizes[2 * d] * to[d];
    }
    return layer_move(b, OP_INSERT, l, in[0], NO_VALUE, &m, e);
}

const LayerRule layer_pad = {"pad", 1, add, vanishes, emit};
