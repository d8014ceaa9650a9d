/* Interpolates an image onto the grid `out`, or, if that is 0, scales it by `factor`. flag: linear
 * interpolation, else nearest. text: how output cells map to input coordinates. sizes[0]: how the
 * nearest cell is rounded. */
#include <math.h>
#include <string.h>

#include "net/layer.h"

static const char *const places[] = {[RESIZE_HALF_PIXEL] = "half_pixel",
                                     [RESIZE_HALF_PIXEL_BUT_ONE] = "pytorch_half_pixel",
                                     [RESIZE_ASYMMETRIC] = "asymmetric",
                                     [RESIZE_CORNERS] = "align_corners"};
enum { PLACES = sizeof places / sizeof *places };

static int place_named(const char *name) {
    int i = 0;
    while (i < PLACES && strcmp(places[i], name)) i++;
    return i;
}

static int add(Graph *g, Layer *l, Error *e) {
    const Layer *x = layer_input_of(g, l, 0);
    int64_t in[2] = {x->H, x->W};
    if (layer_check_image(g, l, 0, e)) return -1;
    if (place_named(l->text) == PLACES || l->sizes[0] < 0 || l->sizes[0] >= RESIZE_ROUNDINGS)
        return layer_fail(l, e,
                          "its coordinates must be half_pixel, pytorch_half_pixel, "
                          "asymmetric or align_corners");
    for (int i = 0; i < 2; i++) {
        if (!(l->factor[i] >= 0) || l->factor[i] > 65536)
            return layer_fail(l, e, "its factors must be greater than 0 and at most 65536");
        if (l->out[i] == 0) l->out[i] = (int64_t)floor((double)in[i] * l->factor[i] + 1e-9);
        if (l->out[i] < 1 || l->out[i] > 65536)
            return layer_fail(l, e, "its output grid needs two sizes from 1 to 65536");
        if (l->factor[i] == 0) l->factor[i] = (double)l->out[i] / (double)in[i];
    }
    l->C = x->C, l->H = l->out[0], l->W = l->out[1];
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    const Value *x = &b->program->values[in[0]];
    ResizeSpec s = {.linear = l->flags[0],
                    .at = (ResizePlace)place_named(l->text),
                    .rounding = (ResizeRounding)l->sizes[0]};
    for (int i = 0; i < 2; i++) {
        int64_t size = i ? x->W : x->H;
        double whole = (double)size / (double)l->out[i], step = 1 / l->factor[i];
        s.step[i] = fabs(step - whole) < 1e-12 * whole ? whole : step;
    }
    const ResizeSpec *spec = build_spec(b, &s, sizeof s, e);
    Op *op = spec ? layer_op(b, OP_RESIZE, l, 1, in, e) : NULL;
    if (!op) return -1;
    op->resize = spec;
    return 0;
}

const LayerRule layer_resize = {"resize", 1, add, NULL, emit};
