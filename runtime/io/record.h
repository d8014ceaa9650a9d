/* Records: msgpack maps from text to texts, numbers, booleans and series of
 * numbers, one after another in a file; and the part file in which a run keeps
 * them safe until it is finished.
 *
 * A part file is a row of frames: the 3 bytes "adv" and the frame's kind, the payload's
 * length and the CRC-32 of kind, length and payload, both 32 bits little-endian, and
 * the payload. A crash can tear what was not yet on disk: the file ends where the
 * first frame is not whole, and what follows is cut off. One process at a time has a
 * part file open.
 */
#ifndef ADVRT_IO_RECORD_H
#define ADVRT_IO_RECORD_H

#include "base/buffer.h"
#include "tensor/tensor.h"

enum {
    RECORD_FIELDS = 4096,
    RECORD_KEY = 256,
    RECORD_BYTES = 64 << 20, /* of one record when read, and of one frame */
};

/* What the payload of a frame is. */
typedef enum RecordFrame {
    FRAME_RECORDS = 'p', /* whole records, which the finished file will hold */
    FRAME_NOTE = 'n',    /* one record about the run itself */
    FRAME_BYTES = 'b'    /* bytes that are kept for another file */
} RecordFrame;

/* --- making a record: begin, then as many fields as were announced --- */

int record_begin(Buffer *out, size_t fields, Error *e);
int record_text(Buffer *out, const char *key, const char *text, size_t length, Error *e);
int record_integer(Buffer *out, const char *key, int64_t value, Error *e);
int record_real(Buffer *out, const char *key, double value, Error *e);
int record_boolean(Buffer *out, const char *key, bool value, Error *e);
/* n elements in host memory: f32 and f64 keep their bits, integers take what room they need;
 * f16 and bf16 are written as the f32 of the same value, booleans as 0 and 1. */
int record_series(Buffer *out, const char *key, Dtype t, const void *values, int64_t n, Error *e);

/* --- reading --- */

typedef enum RecordKind {
    RECORD_NIL,
    RECORD_BOOLEAN,  /* integer: 0 or 1 */
    RECORD_INTEGER,  /* integer */
    RECORD_REAL,     /* real */
    RECORD_TEXT,     /* text, NUL-terminated, of `count` bytes */
    RECORD_INTEGERS, /* integers, `count` of them; an empty series is this */
    RECORD_REALS     /* reals, `count` of them: where at least one is no integer */
} RecordKind;

typedef struct RecordField {
    RecordKind kind;
    const char *key;
    int64_t integer;
    double real;
    size_t count;
    union {
        const char *text;
        const int64_t *integers;
        const double *reals;
    };
} RecordField;

typedef struct RecordReader RecordReader;

/* Opens a file of records or a part file, of which the frames of records are read; memory is
 * bounded by the largest record. */
int record_open(RecordReader **out, const char *path, Error *e);
/* The next record's fields, which live until the next call; *fields is NULL behind the last one
 * and at a part file's torn end. A damaged file fails, with the path in the message. */
int record_next(RecordReader *r, const RecordField **fields, size_t *count, Error *e);
void record_close(RecordReader *r);

/* --- part files --- */

typedef struct RecordPart RecordPart;

/* Opens a part file for writing: an empty one, or, to append, what record_recover leaves of the
 * one that is there. Fails where another process has it open. */
int record_part_open(RecordPart **out, const char *path, bool append, Error *e);
/* Adds a frame, which may not yet be on disk. One that could not be written is cut off. */
int record_part_add(RecordPart *p, RecordFrame kind, const void *bytes, size_t n, Error *e);
/* Waits until all frames are on disk. */
int record_part_sync(RecordPart *p, Error *e);
/* Both for a frame of records. */
int record_part_append(RecordPart *p, const void *bytes, size_t n, Error *e);
/* The number of frames; they are counted from 0. */
size_t record_part_frames(const RecordPart *p);
RecordFrame record_part_kind(const RecordPart *p, size_t frame);
/* Reads a frame's payload behind what `out` holds; its checksum must still be right. */
int record_part_read(const RecordPart *p, size_t frame, Buffer *out, Error *e);
/* Opens a frame of records or a note alone, for record_next. */
int record_part_reader(const RecordPart *p, size_t frame, RecordReader **out, Error *e);
/* The same for the fields of the first record that come before its first series. The frame's
 * checksum is the one of the opening: all frames of a large file can be looked at in a moment. */
int record_part_head(const RecordPart *p, size_t frame, RecordReader **out, Error *e);
/* Cuts off all frames behind the first `frames`. */
int record_part_cut(RecordPart *p, size_t frames, Error *e);
/* Writes the payloads of `n` frames in this order, or where it is NULL of all frames of records, to
 * final_path, whole or not at all. */
int record_part_write(const RecordPart *p, const size_t *order, size_t n, const char *final_path,
                      Error *e);
/* Writes all frames of records and removes the part file. The part must still be closed. */
int record_part_finish(RecordPart *p, const char *final_path, Error *e);
void record_part_close(RecordPart *p);

/* Cuts off what follows the last whole frame. Refuses a file that does not start like a part
 * file. frames and bytes (of payload) may be NULL. */
int record_recover(const char *path, uint64_t *frames, uint64_t *bytes, Error *e);

#endif
