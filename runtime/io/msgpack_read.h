/* msgpack as a stream of tokens from a range of a file. Claimed sizes allocate nothing: a string,
 * array or map with more bytes or elements than the range has left is an error.
 *
 * (msgpack-c's unpacker allocates an array's claimed count before it sees an element, so it is used
 * for writing only.)
 */
#ifndef ADVRT_IO_MSGPACK_READ_H
#define ADVRT_IO_MSGPACK_READ_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { MSGPACK_INPUT = 1 << 15 };

typedef enum MsgpackKind {
    MSGPACK_NIL,
    MSGPACK_BOOLEAN,  /* integer: 0 or 1 */
    MSGPACK_INTEGER,  /* integer; beyond int64_t is an error */
    MSGPACK_REAL,     /* real, from 32 or 64 bits */
    MSGPACK_TEXT,     /* size bytes follow; read or skip them */
    MSGPACK_BINARY,   /* the same */
    MSGPACK_ARRAY,    /* size values follow */
    MSGPACK_MAP,      /* size pairs of values follow */
    MSGPACK_EXTENSION /* size bytes follow; the type byte has been read */
} MsgpackKind;

typedef struct MsgpackToken {
    MsgpackKind kind;
    int64_t integer;
    double real;
    uint64_t size;
} MsgpackToken;

typedef struct MsgpackReader {
    int fd;
    uint64_t next, end; /* of the file: the next byte to fetch, and the range's end */
    size_t at, filled;
    unsigned char input[MSGPACK_INPUT];
} MsgpackReader;

/* The range is bytes begin .. end-1 of the file. */
void msgpack_start(MsgpackReader *r, int fd, uint64_t begin, uint64_t end);
/* Bytes of the range still to read. */
uint64_t msgpack_left(const MsgpackReader *r);
int msgpack_token(MsgpackReader *r, MsgpackToken *out, Error *e);
/* A token of one kind; `what` names it in the message. */
int msgpack_expect(MsgpackReader *r, MsgpackKind kind, const char *what, MsgpackToken *out,
                   Error *e);
/* The n bytes that a text, binary or extension token announced. */
int msgpack_bytes(MsgpackReader *r, void *out, size_t n, Error *e);
/* A text of less than `room` bytes, NUL-terminated, without NUL inside. */
int msgpack_text(MsgpackReader *r, const char *what, char *out, size_t room, Error *e);
/* Skips one complete value, of any depth. */
int msgpack_skip(MsgpackReader *r, Error *e);

#endif
