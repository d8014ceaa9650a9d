/* Layer norm over the last sizes[0] dimensions; with 0 over the first dimension, as in ConvNeXt
 * (its channels). weight and bias have the normalised shape. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape x = layer_input_of(g, l, 0)->shape;
    int n = l->n_sizes == 1 && l->sizes[0] <= x.ndim ? (int)l->sizes[0] : -1;
    if (n < 0) return layer_fail(l, e, "its input has fewer dimensions than it normalises");
    layer_keep_shape(g, l);
    return layer_norm_params(g, l, n ? n : 1, n ? x.dim + x.ndim - n : x.dim, e);
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    int n = (int)l->sizes[0], first = n ? l->shape.ndim - n : 0, end = n ? l->shape.ndim : 1;
    return emit_norm(b, l, in[0], rows_along(&l->shape, first, end), first, end, e) < 0 ? -1 : 0;
}

const LayerRule layer_layernorm = {"layernorm", 1, add, NULL, emit};
