/* The input cells that each output cell of a resized plane reads, along one axis. Equal on every
 * device. */
#ifndef ADVRT_DEVICE_RESIZE_H
#define ADVRT_DEVICE_RESIZE_H

#include "device/plan.h"

/* An output cell is (1 - weight) x[low] + weight x[high]; in nearest mode it is x[low]. */
typedef struct ResizeCell {
    int32_t low, high;
    float weight;
} ResizeCell;
/* Output cells first .. end - 1 include all that read an input cell. Cells between them may not
 * read it. */
typedef struct ResizeReach {
    int32_t first, end;
} ResizeReach;

/* Fills cells [out] and reaches [in]; axis 0 is the height. */
void resize_cells(const ResizeSpec *s, int axis, int64_t in, int64_t out, ResizeCell *cells);
void resize_reaches(const ResizeCell *cells, int64_t in, int64_t out, ResizeReach *reaches);
/* Puts the cells of both axes into buffers that the plan owns: those of the rows, then of the
 * columns. The same for reaches, which may be NULL. */
int resize_tables(Compiler *c, const Op *op, int *cells, int *reaches, Error *e);

#endif
