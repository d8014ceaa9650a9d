/* The same elements in the shape `sizes`. One size may be -1: it follows from the number of
 * elements. */
#include <stdio.h>

#include "net/layer.h"

static int misfit(const Layer *l, const Shape *x, Error *e) {
    char what[2 * SHAPE_TEXT + 64], from[SHAPE_TEXT], to[SHAPE_TEXT];
    snprintf(what, sizeof what, "cannot make shape %s from %s",
             shape_text(l->n_sizes, l->sizes, to), shape_text(x->ndim, x->dim, from));
    return layer_fail(l, e, what);
}

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    int64_t known = 1, count = shape_count(x);
    int open = -1;
    if (l->n_sizes < 1 || l->n_sizes > SHAPE_DIMS)
        return layer_fail(l, e, "a shape has 1 to 6 dimensions");
    l->shape.ndim = l->n_sizes;
    for (int d = 0; d < l->n_sizes; d++) {
        int64_t size = l->shape.dim[d] = l->sizes[d];
        if (size == -1 && open < 0)
            open = d;
        else if (size < 1 || __builtin_mul_overflow(known, size, &known))
            return misfit(l, x, e);
    }
    if (open >= 0 ? count % known != 0 : count != known) return misfit(l, x, e);
    if (open >= 0) l->shape.dim[open] = count / known;
    return 0;
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    (void)training;
    return shape_same(&l->shape, &layer_input_of(g, l, 0)->shape);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_VIEW, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_reshape = {"reshape", 1, add, vanishes, emit};
