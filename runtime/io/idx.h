/* IDX files (MNIST's format): an array of unsigned bytes, plain or gzip-compressed. The contents
 * decide which.
 *
 *     0 0 TYPE NDIM, then NDIM sizes of 4 bytes, then the elements; all big-endian
 *
 * Only TYPE 8, unsigned bytes, is supported. The file must hold exactly the elements that its
 * header promises. A header that promises more than the file can hold is an error before memory is
 * allocated.
 */
#ifndef ADVRT_IO_IDX_H
#define ADVRT_IO_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Limits on an array's dimensions and bytes. */
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
