/* Dropout: in training, x / (1 - p) for the elements that are kept, else 0. */
#include <string.h>

#include "base/random.h"
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    if (!(l->p >= 0 && l->p < 1)) return layer_fail(l, e, "its probability must be in [0, 1)");
    return layer_keep_shape(g, l);
}

static bool vanishes(const Graph *g, const Layer *l, bool training) {
    (void)g;
    return !training || l->p == 0;
}

/* Each layer has its own random stream, made from its name, the plan's seed, and its index among
 * the layers. */
static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    Op *op = layer_op(b, OP_DROPOUT, l, 1, in, e);
    if (!op) return -1;
    uint64_t key = random_hash(RANDOM_EMPTY, l->name, strlen(l->name));
    op->stream = random_bits(key, b->request->seed + (uint64_t)b->emitted);
    return 0;
}

const LayerRule layer_dropout = {"dropout", 1, add, vanishes, emit};
