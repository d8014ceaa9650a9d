/* Where the buffers of a plan lie in its one block of memory: those whose lives do not overlap may
 * share it. */
#ifndef ADVRT_DEVICE_ARENA_H
#define ADVRT_DEVICE_ARENA_H

#include <stddef.h>

#include "base/error.h"

typedef struct ArenaPiece {
    size_t bytes;
    int first, last; /* steps of the plan that use it */
    size_t offset;   /* set by arena_place */
} ArenaPiece;

/* Places the largest first, each at the lowest offset, a multiple of `alignment`, where nothing
 * lies that is alive at the same time. Sizes are rounded up to the alignment. *bytes is the block's
 * size.
 */
int arena_place(ArenaPiece *pieces, int n, size_t alignment, size_t *bytes, Error *e);

#endif
