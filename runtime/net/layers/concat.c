/* Concatenates values along dimension sizes[0]. All other dimensions must be equal. */
#include <stdio.h>

#include "net/layer.h"

static int differ(const Layer *l, const Shape *a, const Shape *b, int64_t dim, Error *e) {
    char what[2 * SHAPE_TEXT + 64], one[SHAPE_TEXT], other[SHAPE_TEXT];
    snprintf(what, sizeof what, "%s and %s differ in more than dimension %lld",
             shape_text(a->ndim, a->dim, one), shape_text(b->ndim, b->dim, other),
             (long long)dim + 1);
    return layer_fail(l, e, what);
}

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *first = &layer_input_of(g, l, 0)->shape;
    int64_t dim;
    if (layer_check_dim(l, first, l->sizes[0], &dim, e)) return -1;
    l->sizes[0] = dim;
    l->shape = *first;
    for (int i = 1; i < l->inputs; i++) {
        const Shape *x = &layer_input_of(g, l, i)->shape;
        Shape same = *x;
        if (x->ndim == first->ndim) same.dim[dim] = first->dim[dim];
        if (!shape_same(&same, first)) return differ(l, first, x, dim, e);
        l->shape.dim[dim] += x->dim[dim];
    }
    return 0;
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    (void)g, (void)training;
    return l->inputs == 1;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    int64_t from[SHAPE_DIMS], to[SHAPE_DIMS], at = 0;
    int base = NO_VALUE;
    shape_strides(&l->shape, to);
    for (int i = 0; i < l->inputs; i++) {
        const Shape x = b->program->values[in[i]].shape;
        MoveSpec m = {.ndim = x.ndim, .to_at = at * to[l->sizes[0]]};
        shape_strides(&x, from);
        for (int d = 0; d < x.ndim; d++) m.n[d] = x.dim[d], m.from[d] = from[d], m.to[d] = to[d];
        if (layer_move(b, OP_INSERT, l, in[i], base, &m, e)) return -1;
        base = b->program->ops[b->program->n_ops - 1].out[0];
        at += x.dim[l->sizes[0]];
    }
    return 0;
}

const LayerRule layer_concat = {"concat", ANY_INPUTS, add, vanishes, emit};
