/* An elementwise formula of one to four values. Smaller values are broadcast. */
#include <stdio.h>

#include "device/formula.h"
#include "net/layer.h"

enum { MOST_VALUES = 4 };

static int add(Graph *g, Layer *l, Error *e) {
    Formula f;
    Error why;
    if (l->inputs > MOST_VALUES) return layer_fail(l, e, "takes at most 4 values");
    if (formula_read(&f, l->text, l->inputs, &why)) return layer_fail(l, e, why.text);
    l->shape = layer_input_of(g, l, 0)->shape;
    for (int i = 1; i < l->inputs; i++) {
        const Shape whole = l->shape, *s = &layer_input_of(g, l, i)->shape;
        char what[2 * SHAPE_TEXT + 64], one[SHAPE_TEXT], other[SHAPE_TEXT];
        if (shape_join(&whole, s, &l->shape)) continue;
        snprintf(what, sizeof what, "%s and %s cannot be broadcast together",
                 shape_text(whole.ndim, whole.dim, one), shape_text(s->ndim, s->dim, other));
        return layer_fail(l, e, what);
    }
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    MapInput operand[MOST_VALUES];
    for (int i = 0; i < l->inputs; i++)
        operand[i] = (MapInput){in[i], -1, b->graph->layers[l->input[i]].shape};
    return build_map(b, l->text, l->inputs, operand, &l->shape, e) ? 0 : -1;
}

const LayerRule layer_map = {"map", ANY_INPUTS, add, NULL, emit};
