/* Places the buffers of a plan in one block of memory. Buffers that are never in use at the same
 * step may share memory. */
#ifndef ADVRT_DEVICE_ARENA_H
#define ADVRT_DEVICE_ARENA_H

#include <stddef.h>

#include "base/error.h"

typedef struct ArenaPiece {
    size_t bytes;
    int first, last; /* the steps of the plan that use the buffer */
    size_t offset;   /* set by arena_place */
} ArenaPiece;

/* Places the largest piece first. Each piece gets the lowest free offset that is a multiple of
 * `alignment`. Two pieces overlap only if no step lies in both their intervals. Rounds sizes up to
 * the alignment. *bytes is the size of the block.
 */
int arena_place(ArenaPiece *pieces, int n, size_t alignment, size_t *bytes, Error *e);

#endif
