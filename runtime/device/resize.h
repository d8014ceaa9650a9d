/* Where the cells of a resized plane come from, along one axis: the same on every device. */
#ifndef ADVRT_DEVICE_RESIZE_H
#define ADVRT_DEVICE_RESIZE_H

#include "device/plan.h"

/* An output cell is (1 - weight) x[low] + weight x[high], or x[low] where the nearest is taken. */
typedef struct ResizeCell {
    int32_t low, high;
    float weight;
} ResizeCell;
/* The output cells first .. end - 1 are made of an input cell, and others that it does not count
 * for may be among them. */
typedef struct ResizeReach {
    int32_t first, end;
} ResizeReach;

/* cells [out], reaches [in]; axis 0 is the height. */
void resize_cells(const ResizeSpec *s, int axis, int64_t in, int64_t out, ResizeCell *cells);
void resize_reaches(const ResizeCell *cells, int64_t in, int64_t out, ResizeReach *reaches);
/* Both of an op's grid as buffers of the plan's memory: cells of rows, then of columns; reaches,
 * which may be NULL, alike. */
int resize_tables(Compiler *c, const Op *op, int *cells, int *reaches, Error *e);

#endif
