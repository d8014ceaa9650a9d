/* (x - mean) / std per channel. */
#include <math.h>

#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    layer_keep_shape(g, l);
    if (!l->mean || !l->std) return layer_fail(l, e, "needs a mean and a std for each channel");
    for (int64_t c = 0; c < l->C; c++)
        if (!isfinite(l->mean[c]) || !isfinite(l->std[c]) || l->std[c] <= 0)
            return layer_fail(l, e, "mean must be finite and std greater than 0");
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    return layer_op(b, OP_NORMALIZE, l, 1, in, e) ? 0 : -1;
}

const LayerRule layer_normalize = {"normalize", 1, add, NULL, emit};
