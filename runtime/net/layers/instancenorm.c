/* Instance norm: normalises each channel (dimension 0) separately; weight, bias [C] if `bias` is
 * set. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape x = layer_input_of(g, l, 0)->shape;
    if (shape_count(&x) == x.dim[0])
        return layer_fail(l, e, "needs more than one number in each channel");
    layer_keep_shape(g, l);
    return layer_norm_params(g, l, 1, x.dim, e);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    RowsSpec rows = {l->shape.dim[0], shape_count(&l->shape) / l->shape.dim[0], 1};
    return emit_norm(b, l, in[0], rows, 0, 1, e) < 0 ? -1 : 0;
}

const LayerRule layer_instancenorm = {"instancenorm", 1, add, NULL, emit};
