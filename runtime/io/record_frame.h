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
    uint64_t position; /* of the frame's header */
    uint32_t length;   /* of the frame's payload */
    RecordFrame kind;
} Frame;

/* Whether a complete frame starts at `position` in a file of `size` bytes; *frame describes it.
 * Fails only if the file cannot be read. */
int frame_check(int fd, uint64_t position, uint64_t size, bool *whole, Frame *frame, Error *e);

/* Opens a reader for one frame. head: read its first record only up to its first series. */
int frame_open(RecordReader **out, const char *path, const Frame *frame, bool head, Error *e);

#endif
