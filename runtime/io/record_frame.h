/* The frames of part files, for io/record.c and io/record_part.c; the layout is in
 * io/record.h.
 */
#ifndef ADVRT_IO_RECORD_FRAME_H
#define ADVRT_IO_RECORD_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "io/record.h"

enum { FRAME_MAGIC = 3, FRAME_HEADER = 12 };

extern const unsigned char frame_magic[FRAME_MAGIC];

typedef struct Frame {
    uint64_t position; /* of its header */
    uint32_t length;   /* of its payload */
    RecordFrame kind;
} Frame;

/* Whether a whole frame starts at `position` of a file of `size` bytes, and what it is. Fails only
 * where the file cannot be read. */
int frame_check(int fd, uint64_t position, uint64_t size, bool *whole, Frame *frame, Error *e);

/* Opens a reader that sees one frame alone; head: of its first record only what comes before the
 * first series. */
int frame_open(RecordReader **out, const char *path, const Frame *frame, bool head, Error *e);

#endif
