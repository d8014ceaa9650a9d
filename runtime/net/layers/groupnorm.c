/* Group norm: splits the channels (dimension 0) into groups and normalises each group over all its
 * elements; weight, bias [C]. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape x = layer_input_of(g, l, 0)->shape;
    if (l->groups < 1 || x.dim[0] % l->groups)
        return layer_fail(l, e, "groups must divide the input's channels");
    layer_keep_shape(g, l);
    return layer_norm_params(g, l, 1, x.dim, e);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    RowsSpec rows = {l->groups, shape_count(&l->shape) / l->groups, 1};
    return emit_norm(b, l, in[0], rows, 0, 1, e) < 0 ? -1 : 0;
}

const LayerRule layer_groupnorm = {"groupnorm", 1, add, NULL, emit};
