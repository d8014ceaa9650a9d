#include "device/resize.h"

#include <math.h>

#include "base/memory.h"

/* The input coordinate of output cell i. A coordinate within rounding error of an integer becomes
 * that integer.
 */
static double place_of(const ResizeSpec *s, int axis, int64_t in, int64_t out, int64_t i) {
    double x = (double)i * s->step[axis];
    if (s->at == RESIZE_HALF_PIXEL || (s->at == RESIZE_HALF_PIXEL_BUT_ONE && out > 1))
        x = ((double)i + 0.5) * s->step[axis] - 0.5;
    if (s->at == RESIZE_HALF_PIXEL_BUT_ONE && out == 1) x = 0;
    if (s->at == RESIZE_CORNERS) x = out > 1 ? (double)(i * (in - 1)) / (double)(out - 1) : 0;
    double whole = round(x);
    return fabs(x - whole) < 1e-9 * fmax(1, fabs(whole)) ? whole : x;
}

static double nearest(ResizeRounding rounding, double x) {
    switch (rounding) {
    case RESIZE_FLOOR: return floor(x);
    case RESIZE_CEIL: return ceil(x);
    case RESIZE_HALF_DOWN: return ceil(x - 0.5);
    default: return floor(x + 0.5);
    }
}

static double within(double x, double most) {
    return x < 0 ? 0 : x > most ? most : x;
}

void resize_cells(const ResizeSpec *s, int axis, int64_t in, int64_t out, ResizeCell *cells) {
    double most = (double)(in - 1);
    for (int64_t i = 0; i < out; i++) {
        double x = within(place_of(s, axis, in, out, i), most);
        double low = s->linear ? floor(x) : within(nearest(s->rounding, x), most);
        cells[i].low = cells[i].high = (int32_t)low;
        cells[i].weight = s->linear ? (float)(x - low) : 0;
        if (s->linear && low < most) cells[i].high++;
    }
}

/* Relies on this: low never decreases from one cell to the next. */
void resize_reaches(const ResizeCell *cells, int64_t in, int64_t out, ResizeReach *reaches) {
    int64_t first = 0, end = 0;
    for (int64_t h = 0; h < in; h++) {
        while (first < out && cells[first].high < h) first++;
        while (end < out && cells[end].low <= h) end++;
        reaches[h] = (ResizeReach){(int32_t)first, (int32_t)end};
    }
}

int resize_tables(Compiler *c, const Op *op, int *cells, int *reaches, Error *e) {
    const Value *x = &c->program->values[op->in[0]], *y = &c->program->values[op->out[0]];
    size_t out = (size_t)(y->H + y->W), in = (size_t)(x->H + x->W);
    ResizeCell *cell = memory_take(out * sizeof *cell, "resizing", e);
    ResizeReach *reach = cell ? memory_take(in * sizeof *reach, "resizing", e) : NULL;
    int failed = !reach;
    if (reach) {
        resize_cells(op->resize, 0, x->H, y->H, cell);
        resize_cells(op->resize, 1, x->W, y->W, cell + y->H);
        resize_reaches(cell, x->H, y->H, reach);
        resize_reaches(cell + y->H, x->W, y->W, reach + x->H);
        *cells = buffer_filled(c, cell, out * sizeof *cell, "resizing", e);
        if (reaches) *reaches = buffer_filled(c, reach, in * sizeof *reach, "resizing", e);
        failed = *cells < 0 || (reaches && *reaches < 0);
    }
    memory_free(cell);
    memory_free(reach);
    return failed ? -1 : 0;
}
