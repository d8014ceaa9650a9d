/* The image [C,H,W]. It is the caller's x, so there is no primitive. */
#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    (void)g;
    if (l->C < 1 || l->H < 1 || l->W < 1 || l->C > INT32_MAX || l->H > 65536 || l->W > 65536)
        return layer_fail(
            l, e, "an input shape needs three positive sizes, height and width up to 65536");
    return 0;
}

const LayerRule layer_input = {"input", 0, add, NULL, NULL};
