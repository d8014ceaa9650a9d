/* Records: msgpack maps from texts to texts, numbers, booleans and series of numbers, one after
 * another in a file. Also the part file, which keeps the records of an unfinished run safe.
 *
 * A part file is a sequence of frames. A frame has the 3 bytes "adv" and its kind; the length of
 * the payload and the CRC-32 of kind, length and payload, both 32 bits little-endian; and the
 * payload. A crash can tear data that was not yet on disk. The file then counts up to its first
 * incomplete frame; the bytes after that are cut off. Only one process at a time may open a part
 * file.
 */
#ifndef ADVRT_IO_RECORD_H
#define ADVRT_IO_RECORD_H

#include "base/buffer.h"
#include "tensor/tensor.h"

enum {
    RECORD_FIELDS = 4096,
    RECORD_KEY = 256,
    RECORD_BYTES = 64 << 20, /* limit of one record when read, and of one frame */
};

/* The contents of a frame's payload. */
typedef enum RecordFrame {
    FRAME_RECORDS = 'p', /* complete records for the finished file */
    FRAME_NOTE = 'n',    /* one record about the run itself */
    FRAME_BYTES = 'b'    /* bytes stored for another file */
} RecordFrame;

/* --- making a record: begin, then the announced number of fields --- */

int record_begin(Buffer *out, size_t fields, Error *e);
int record_text(Buffer *out, const char *key, const char *text, size_t length, Error *e);
int record_integer(Buffer *out, const char *key, int64_t value, Error *e);
int record_real(Buffer *out, const char *key, double value, Error *e);
int record_boolean(Buffer *out, const char *key, bool value, Error *e);
/* n elements in host memory. f32 and f64 keep their bits; integers take as few bytes as they need;
 * f16 and bf16 are written as f32 of equal value, booleans as 0 and 1. */
int record_series(Buffer *out, const char *key, Dtype t, const void *values, int64_t n, Error *e);

/* --- reading --- */

typedef enum RecordKind {
    RECORD_NIL,
    RECORD_BOOLEAN,  /* integer: 0 or 1 */
    RECORD_INTEGER,  /* integer */
    RECORD_REAL,     /* real */
    RECORD_TEXT,     /* text, NUL-terminated, of `count` bytes */
    RECORD_INTEGERS, /* `count` integers; an empty series has this kind */
    RECORD_REALS     /* `count` reals; at least one is not an integer */
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

/* Opens a file of records, or a part file, in which it reads the frames of records. The largest
 * record bounds the memory. */
int record_open(RecordReader **out, const char *path, Error *e);
/* The fields of the next record, valid until the next call. *fields is NULL after the last record
 * and at a part file's torn end. A damaged file is an error that names the path. */
int record_next(RecordReader *r, const RecordField **fields, size_t *count, Error *e);
void record_close(RecordReader *r);

/* --- part files --- */

typedef struct RecordPart RecordPart;

/* Opens a part file for writing: an empty one, or, to append, the existing file after
 * record_recover. Fails if another process has it open. */
int record_part_open(RecordPart **out, const char *path, bool append, Error *e);
/* Adds a frame, which may not be on disk yet. A frame that could not be written is cut off. */
int record_part_add(RecordPart *p, RecordFrame kind, const void *bytes, size_t n, Error *e);
/* Waits until all frames are on disk. */
int record_part_sync(RecordPart *p, Error *e);
/* Both, for a frame of records. */
int record_part_append(RecordPart *p, const void *bytes, size_t n, Error *e);
/* The number of frames; frames count from 0. */
size_t record_part_frames(const RecordPart *p);
RecordFrame record_part_kind(const RecordPart *p, size_t frame);
/* Appends a frame's payload to `out`; fails if its checksum is wrong. */
int record_part_read(const RecordPart *p, size_t frame, Buffer *out, Error *e);
/* Opens one frame, of records or a note, for record_next. */
int record_part_reader(const RecordPart *p, size_t frame, RecordReader **out, Error *e);
/* The same for the fields of the first record before its first series. The checksum is not verified
 * again after opening, so looking at all frames of a large file is fast. */
int record_part_head(const RecordPart *p, size_t frame, RecordReader **out, Error *e);
/* Cuts off all frames after the first `frames`. */
int record_part_cut(RecordPart *p, size_t frames, Error *e);
/* Writes the payloads of `n` frames in this order to final_path, atomically. If order is NULL,
 * writes all frames of records. */
int record_part_write(const RecordPart *p, const size_t *order, size_t n, const char *final_path,
                      Error *e);
/* Writes all frames of records and removes the part file. The caller must still close the part. */
int record_part_finish(RecordPart *p, const char *final_path, Error *e);
void record_part_close(RecordPart *p);

/* Cuts off everything after the last complete frame. Fails if the file does not start like a part
 * file. frames and bytes (of payload) may be NULL. */
int record_recover(const char *path, uint64_t *frames, uint64_t *bytes, Error *e);

#endif
