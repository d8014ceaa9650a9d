/* The sum of two values of equal shape. */
#include <stdio.h>

#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *a = layer_input_of(g, l, 0), *b = layer_input_of(g, l, 1);
    char what[2 * SHAPE_TEXT + 32], one[SHAPE_TEXT], other[SHAPE_TEXT];
    if (shape_same(&a->shape, &b->shape)) return layer_keep_shape(g, l);
    snprintf(what, sizeof what, "%s and %s differ in shape",
             shape_text(a->shape.ndim, a->shape.dim, one),
             shape_text(b->shape.ndim, b->shape.dim, other));
    return layer_fail(l, e, what);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_ADD, l, 2, in, e) ? 0 : -1;
}

const LayerRule layer_add = {"add", 2, add, NULL, emit};
