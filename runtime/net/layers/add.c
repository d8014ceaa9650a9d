/* The sum of two values of one shape. */
#include <stdio.h>

#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *a = layer_input_of(g, l, 0), *b = layer_input_of(g, l, 1);
    char what[160];
    if (a->C == b->C && a->H == b->H && a->W == b->W) return layer_keep_shape(g, l);
    snprintf(what, sizeof what, "[%lld,%lld,%lld] and [%lld,%lld,%lld] differ in shape",
             (long long)a->C, (long long)a->H, (long long)a->W, (long long)b->C, (long long)b->H,
             (long long)b->W);
    return layer_fail(l, e, what);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_ADD, l, 2, in, e) ? 0 : -1;
}

const LayerRule layer_add = {"add", 2, add, NULL, emit};
