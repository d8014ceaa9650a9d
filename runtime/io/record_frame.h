/* The frames of part files, for io/record.c and io/record_part.c; the layout is in
 * io/record.h.
 */
#ifndef ADVRT_IO_RECORD_FRAME_H
#define ADVRT_IO_RECORD_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { FRAME_MAGIC = 4, FRAME_HEADER = 12 };

extern const unsigned char frame_magic[FRAME_MAGIC];

/* Whether a whole frame starts at `position` of a file of `size` bytes, and its payload's length.
 * Fails only where the file cannot be read. */
int frame_check(int fd, uint64_t position, uint64_t size, bool *whole, uint32_t *length, Error *e);

#endif
