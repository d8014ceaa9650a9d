/* A slice of the input: in dimension sizes[0], sizes[2] elements from index sizes[1], in steps of
 * sizes[3]. */
#include <stdio.h>

#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    int64_t dim, start = l->sizes[1], count = l->sizes[2], step = l->sizes[3], last;
    if (l->n_sizes != 4 || layer_check_dim(l, x, l->sizes[0], &dim, e)) return -1;
    l->sizes[0] = dim;
    if (start < 0 || count < 1 || step < 1 || __builtin_mul_overflow(count - 1, step, &last) ||
        start >= x->dim[dim] || last >= x->dim[dim] - start) {
        char what[160], shape[SHAPE_TEXT];
        snprintf(what, sizeof what,
                 "%lld elements from element %lld in steps of %lld exceed dimension %lld of %s",
                 (long long)count, (long long)start + 1, (long long)step, (long long)dim + 1,
                 shape_text(x->ndim, x->dim, shape));
        return layer_fail(l, e, what);
    }
    l->shape = *x;
    l->shape.dim[dim] = count;
    return 0;
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    (void)training;
    return shape_same(&l->shape, &layer_input_of(g, l, 0)->shape);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    const Shape x = b->program->values[in[0]].shape;
    int64_t from[SHAPE_DIMS], to[SHAPE_DIMS], dim = l->sizes[0];
    MoveSpec m = {.ndim = x.ndim, .whole = true};
    shape_strides(&x, from);
    shape_strides(&l->shape, to);
    m.from_at = l->sizes[1] * from[dim];
    from[dim] *= l->sizes[3];
    for (int d = 0; d < x.ndim; d++) m.n[d] = l->shape.dim[d], m.from[d] = from[d], m.to[d] = to[d];
    return layer_move(b, OP_MOVE, l, in[0], NO_VALUE, &m, e);
}

const LayerRule layer_slice = {"slice", 1, add, vanishes, emit};
