/* Repeats dimensions of size 1, so that the shape becomes `sizes`. A size of -1 keeps a
 * dimension. */
#include <stdio.h>

#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    bool fits = l->n_sizes >= x->ndim && l->n_sizes <= SHAPE_DIMS;
    l->shape.ndim = l->n_sizes;
    for (int d = 0; fits && d < l->n_sizes; d++) {
        int own = d - (l->n_sizes - x->ndim);
        l->shape.dim[d] = l->sizes[d] == -1 && own >= 0 ? x->dim[own] : l->sizes[d];
        fits = l->shape.dim[d] >= 1;
    }
    if (fits && shape_repeats(x, &l->shape)) return 0;
    char what[2 * SHAPE_TEXT + 64], from[SHAPE_TEXT], to[SHAPE_TEXT];
    snprintf(what, sizeof what, "cannot repeat %s to %s", shape_text(x->ndim, x->dim, from),
             shape_text(l->n_sizes > TENSOR_DIMS ? TENSOR_DIMS : l->n_sizes, l->sizes, to));
    return layer_fail(l, e, what);
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    (void)training;
    return shape_same(&l->shape, &layer_input_of(g, l, 0)->shape);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    MapInput x = {in[0], -1, b->program->values[in[0]].shape};
    return build_map(b, "x", 1, &x, &l->shape, e) ? 0 : -1;
}

const LayerRule layer_expand = {"expand", 1, add, vanishes, emit};
