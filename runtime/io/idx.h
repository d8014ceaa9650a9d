/* IDX files (MNIST's format): an array of unsigned bytes, plain or gzip-compressed, told by
 * content.
 *
 *     0 0 TYPE NDIM, then NDIM sizes of 4 bytes, then the elements; all big-endian
 *
 * Only TYPE 8, unsigned bytes, is read. The file must hold exactly the elements that its header
 * promises; more than it can hold are refused before memory is taken for them.
 */
#ifndef ADVRT_IO_IDX_H
#define ADVRT_IO_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The most dimensions and bytes that an array may have. */
enum { IDX_DIMS = 8, IDX_MOST = 1 << 30 };

typedef struct IdxArray {
    int ndim;
    int64_t shape[IDX_DIMS];
    size_t count;
    uint8_t *data; /* row-major */
} IdxArray;

/* Reads an array; the caller frees it. On failure *out is empty; the message starts with the
 * path. */
int idx_load(const char *path, IdxArray *out, Error *e);
void idx_free(IdxArray *a);

#endif
