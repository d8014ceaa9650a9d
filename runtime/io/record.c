#include "io/record.h"

#include <msgpack/pack.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/msgpack_read.h"
#include "io/record_frame.h"

/* --- making a record --- */

typedef struct Output {
    Buffer *buffer;
    Error *error;
} Output;

static int put(void *context, const char *bytes, size_t n) {
    Output *out = context;
    return buffer_append(out->buffer, bytes, n, out->error);
}

static msgpack_packer packer(Output *out) {
    msgpack_packer pk;
    msgpack_packer_init(&pk, out, put);
    return pk;
}

static int pack_text(msgpack_packer *pk, const char *text, size_t n) {
    return msgpack_pack_str(pk, n) || msgpack_pack_str_body(pk, text, n) ? -1 : 0;
}

static int pack_key(msgpack_packer *pk, const char *key) {
    return pack_text(pk, key, strlen(key));
}

int record_begin(Buffer *out, size_t fields, Error *e) {
    Output o = {out, e};
    msgpack_packer pk = packer(&o);
    return msgpack_pack_map(&pk, fields) ? -1 : 0;
}

int record_text(Buffer *out, const char *key, const char *text, size_t length, Error *e) {
    Output o = {out, e};
    msgpack_packer pk = packer(&o);
    return pack_key(&pk, key) || pack_text(&pk, text, length) ? -1 : 0;
}

int record_integer(Buffer *out, const char *key, int64_t value, Error *e) {
    Output o = {out, e};
    msgpack_packer pk = packer(&o);
    return pack_key(&pk, key) || msgpack_pack_int64(&pk, value) ? -1 : 0;
}

int record_real(Buffer *out, const char *key, double value, Error *e) {
    Output o = {out, e};
    msgpack_packer pk = packer(&o);
    return pack_key(&pk, key) || msgpack_pack_double(&pk, value) ? -1 : 0;
}

int record_boolean(Buffer *out, const char *key, bool value, Error *e) {
    Output o = {out, e};
    msgpack_packer pk = packer(&o);
    return pack_key(&pk, key) || (value ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk)) ? -1
                                                                                            : 0;
}

static int pack_element(msgpack_packer *pk, Dtype t, const char *at) {
    float f;
    double d;
    int64_t i;
    switch (t) {
    case DTYPE_F32:
    case DTYPE_F16:
    case DTYPE_BF16: dtype_convert(DTYPE_F32, &f, t, at, 1); return msgpack_pack_float(pk, f);
    case DTYPE_F64: memcpy(&d, at, sizeof d); return msgpack_pack_double(pk, d);
    default: dtype_convert(DTYPE_I64, &i, t, at, 1); return msgpack_pack_int64(pk, i);
    }
}

int record_series(Buffer *out, const char *key, Dtype t, const void *values, int64_t n, Error *e) {
    Output o = {out, e};
    msgpack_packer pk = packer(&o);
    int failed = pack_key(&pk, key) || msgpack_pack_array(&pk, (size_t)n);
    const char *at = values;
    for (int64_t i = 0; i < n && !failed; i++, at += dtype_size(t))
        failed = pack_element(&pk, t, at);
    return failed ? -1 : 0;
}

/* --- reading --- */

/* The positions of a field's key and value in `held`, which moves when it grows. */
typedef struct Place {
    size_t key, value;
} Place;

struct RecordReader {
    char *path;
    int fd;
    bool framed, heads;  /* heads: read each record only up to its first series */
    uint64_t size, next; /* size of the file; position of a part file's next frame */
    RecordField *fields;
    Place *places;
    int fields_room, places_room;
    Buffer held;
    MsgpackReader input;
};

int record_open(RecordReader **out, const char *path, Error *e) {
    unsigned char magic[FRAME_MAGIC];
    RecordReader *r = memory_zeroed(1, sizeof *r, "a reader of records", e);
    *out = r;
    if (!r) return -1;
    r->fd = -1;
    size_t n = strlen(path) + 1;
    r->path = memory_take(n, "a path", e);
    int failed = !r->path;
    if (!failed) memcpy(r->path, path, n);
    if (!failed) failed = file_open_read(path, &r->fd, &r->size, e) != 0;
    if (!failed && r->size >= sizeof magic) {
        failed = file_read_at(r->fd, magic, sizeof magic, 0, e) != 0;
        if (failed) error_prefix(e, "%s", path);
        r->framed = !failed && memcmp(magic, frame_magic, sizeof magic) == 0;
    }
    if (failed) {
        record_close(r);
        *out = NULL;
        return -1;
    }
    msgpack_start(&r->input, r->fd, 0, r->framed ? 0 : r->size);
    return 0;
}

int frame_open(RecordReader **out, const char *path, const Frame *frame, bool head, Error *e) {
    if (record_open(out, path, e) != 0) return -1;
    (*out)->framed = false;
    (*out)->heads = head;
    uint64_t begin = frame->position + FRAME_HEADER;
    msgpack_start(&(*out)->input, (*out)->fd, begin, begin + frame->length);
    return 0;
}

void record_close(RecordReader *r) {
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    buffer_free(&r->held);
    memory_free(r->path);
    memory_free(r->fields);
    memory_free(r->places);
    memory_free(r);
}

/* Stores n bytes aligned to 8 (if bytes is NULL, only makes room); *place is their position. */
static int hold(RecordReader *r, const void *bytes, size_t n, size_t *place, Error *e) {
    size_t gap = (8 - r->held.size % 8) % 8;
    if (n > RECORD_BYTES || r->held.size + gap + n > RECORD_BYTES)
        return error_set(e, "has a record of more than %d MiB", RECORD_BYTES >> 20);
    if (buffer_reserve(&r->held, gap + n, e) != 0) return -1;
    memset(r->held.bytes + r->held.size, 0, gap);
    *place = r->held.size + gap;
    if (bytes) memcpy(r->held.bytes + *place, bytes, n);
    r->held.size = *place + n;
    return 0;
}

static int read_text(RecordReader *r, size_t n, size_t *place, Error *e) {
    if (hold(r, NULL, n + 1, place, e) != 0) return -1;
    if (msgpack_bytes(&r->input, r->held.bytes + *place, n, e) != 0) return -1;
    r->held.bytes[*place + n] = 0;
    return 0;
}

/* Integers stay integers until the first real number. */
static int read_series(RecordReader *r, uint64_t n, RecordField *f, size_t *place, Error *e) {
    f->kind = RECORD_INTEGERS;
    f->count = (size_t)n;
    if (n > RECORD_BYTES / 8)
        return error_set(e, "has a series of more than %d elements", RECORD_BYTES / 8);
    if (hold(r, NULL, (size_t)n * 8, place, e) != 0) return -1;
    int64_t *integers = (int64_t *)(void *)(r->held.bytes + *place);
    double *reals = (double *)(void *)(r->held.bytes + *place);
    for (size_t i = 0; i < f->count; i++) {
        MsgpackToken t;
        if (msgpack_token(&r->input, &t, e) != 0) return -1;
        if (t.kind != MSGPACK_INTEGER && t.kind != MSGPACK_REAL)
            return error_set(e, "has a series of something other than numbers");
        if (t.kind == MSGPACK_REAL && f->kind == RECORD_INTEGERS) {
            f->kind = RECORD_REALS;
            for (size_t k = 0; k < i; k++) {
                double d = (double)integers[k];
                memcpy(&reals[k], &d, sizeof d);
            }
        }
        double d = t.kind == MSGPACK_REAL ? t.real : (double)t.integer;
        if (f->kind == RECORD_REALS)
            memcpy(&reals[i], &d, sizeof d);
        else
            memcpy(&integers[i], &t.integer, sizeof t.integer);
    }
    return 0;
}

static int read_value(RecordReader *r, RecordField *f, size_t *place, bool *last, Error *e) {
    MsgpackToken t;
    *last = false;
    if (msgpack_token(&r->input, &t, e) != 0) return -1;
    f->integer = t.integer;
    f->real = t.real;
    switch (t.kind) {
    case MSGPACK_NIL: f->kind = RECORD_NIL; return 0;
    case MSGPACK_BOOLEAN: f->kind = RECORD_BOOLEAN; return 0;
    case MSGPACK_INTEGER: f->kind = RECORD_INTEGER; return 0;
    case MSGPACK_REAL: f->kind = RECORD_REAL; return 0;
    case MSGPACK_TEXT:
        f->kind = RECORD_TEXT;
        f->count = (size_t)t.size;
        return read_text(r, f->count, place, e);
    case MSGPACK_ARRAY: *last = r->heads; return r->heads ? 0 : read_series(r, t.size, f, place, e);
    default: return error_set(e, "has a value that is not a text, number, boolean or series");
    }
}

/* Makes room for field i. A reader allocates as its records need, not for the largest record
 * allowed. */
static int make_room(RecordReader *r, int i, Error *e) {
    return memory_grow((void **)&r->fields, i, &r->fields_room, sizeof *r->fields, "a record", e) ||
                   memory_grow((void **)&r->places, i, &r->places_room, sizeof *r->places,
                               "a record", e)
               ? -1
               : 0;
}

static int read_record(RecordReader *r, size_t *count, Error *e) {
    MsgpackToken map;
    char key[RECORD_KEY];
    r->held.size = 0;
    if (msgpack_expect(&r->input, MSGPACK_MAP, "a record", &map, e) != 0) return -1;
    if (map.size > RECORD_FIELDS)
        return error_set(e, "has a record of %llu fields, at most %d are allowed",
                         (unsigned long long)map.size, RECORD_FIELDS);
    *count = (size_t)map.size;
    if (make_room(r, 0, e) != 0) return -1; /* a record may have no fields */
    for (size_t i = 0; i < *count; i++) {
        bool last;
        if (make_room(r, (int)i, e) != 0) return -1;
        r->fields[i] = (RecordField){.kind = RECORD_NIL};
        if (msgpack_text(&r->input, "a record's key", key, sizeof key, e) != 0 ||
            hold(r, key, strlen(key) + 1, &r->places[i].key, e) != 0 ||
            read_value(r, &r->fields[i], &r->places[i].value, &last, e) != 0)
            return -1;
        if (last) *count = i;
    }
    for (size_t i = 0; i < *count; i++) {
        RecordField *f = &r->fields[i];
        f->key = (const char *)r->held.bytes + r->places[i].key;
        if (f->kind >= RECORD_TEXT) f->text = (const char *)r->held.bytes + r->places[i].value;
    }
    return 0;
}

/* Moves to the records of the next complete frame of a part file. At the end of the file, and for a
 * frame without records, the range stays empty. */
static int next_frame(RecordReader *r, Error *e) {
    bool whole;
    Frame f;
    if (frame_check(r->fd, r->next, r->size, &whole, &f, e) != 0) return -1;
    if (!whole) {
        r->next = r->size;
        return 0;
    }
    r->next += FRAME_HEADER + f.length;
    if (f.kind == FRAME_RECORDS) msgpack_start(&r->input, r->fd, r->next - f.length, r->next);
    return 0;
}

int record_next(RecordReader *r, const RecordField **fields, size_t *count, Error *e) {
    *fields = NULL;
    *count = 0;
    while (r->framed && msgpack_left(&r->input) == 0 && r->next < r->size)
        if (next_frame(r, e) != 0) return error_prefix(e, "%s", r->path);
    if (msgpack_left(&r->input) == 0) return 0;
    if (read_record(r, count, e) != 0) return error_prefix(e, "%s", r->path);
    *fields = r->fields;
    return 0;
}
