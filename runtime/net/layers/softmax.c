/* Softmax over dimension sizes[0], counted from 0. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    if (l->n_sizes != 1 || l->sizes[0] < 0 || l->sizes[0] >= x->ndim)
        return layer_fail(l, e, "its input has no such dimension");
    return layer_keep_shape(g, l);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    int at = (int)l->sizes[0];
    return emit_rows(b, OP_SOFTMAX, l, in[0], rows_along(&l->shape, at, at + 1), e) < 0 ? -1 : 0;
}

const LayerRule layer_softmax = {"softmax", 1, add, NULL, emit};
