#include "io/onnx.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/foreign.h"

/* The supported fields of each message; the numbers are ONNX's. */
enum { ONE, MANY };
#define FIELDS(...) ((const OnnxField[]){__VA_ARGS__, {0}})
static const struct {
    const char *name;
    const OnnxField *fields; /* up to number 0 */
} messages[ONNX_MESSAGES] = {
    [ONNX_MODEL] = {"model", FIELDS({1, "ir_version", ONNX_INTEGER, ONE, 0},
                                    {2, "producer_name", ONNX_STRING, ONE, 0},
                                    {3, "producer_version", ONNX_STRING, ONE, 0},
                                    {7, "graph", ONNX_MESSAGE, ONE, ONNX_GRAPH},
                                    {8, "opset_import", ONNX_MESSAGE, MANY, ONNX_OPSET},
                                    {25, "functions", ONNX_MESSAGE, MANY, ONNX_FUNCTION})},
    [ONNX_OPSET] = {"opset", FIELDS({1, "domain", ONNX_STRING, ONE, 0},
                                    {2, "version", ONNX_INTEGER, ONE, 0})},
    [ONNX_GRAPH] = {"graph", FIELDS({1, "node", ONNX_MESSAGE, MANY, ONNX_NODE},
                                    {2, "name", ONNX_STRING, ONE, 0},
                                    {5, "initializer", ONNX_MESSAGE, MANY, ONNX_TENSOR},
                                    {11, "input", ONNX_MESSAGE, MANY, ONNX_VALUE},
                                    {12, "output", ONNX_MESSAGE, MANY, ONNX_VALUE},
                                    {15, "sparse_initializer", ONNX_DATA, MANY, 0})},
    [ONNX_NODE] = {"node",
                   FIELDS({1, "input", ONNX_STRING, MANY, 0}, {2, "output", ONNX_STRING, MANY, 0},
                          {3, "name", ONNX_STRING, ONE, 0}, {4, "op_type", ONNX_STRING, ONE, 0},
                          {5, "attribute", ONNX_MESSAGE, MANY, ONNX_ATTRIBUTE},
                          {7, "domain", ONNX_STRING, ONE, 0})},
    [ONNX_ATTRIBUTE] = {"attribute",
                        FIELDS({1, "name", ONNX_STRING, ONE, 0}, {2, "f", ONNX_REAL, ONE, 0},
                               {3, "i", ONNX_INTEGER, ONE, 0}, {4, "s", ONNX_STRING, ONE, 0},
                               {5, "t", ONNX_MESSAGE, ONE, ONNX_TENSOR},
                               {6, "g", ONNX_DATA, ONE, 0}, {7, "floats", ONNX_REAL, MANY, 0},
                               {8, "ints", ONNX_INTEGER, MANY, 0},
                               {9, "strings", ONNX_STRING, MANY, 0},
                               {20, "type", ONNX_INTEGER, ONE, 0},
                               {21, "ref_attr_name", ONNX_STRING, ONE, 0})},
    [ONNX_VALUE] = {"value", FIELDS({1, "name", ONNX_STRING, ONE, 0},
                                    {2, "type", ONNX_MESSAGE, ONE, ONNX_TYPE})},
    [ONNX_TYPE] = {"type", FIELDS({1, "tensor_type", ONNX_MESSAGE, ONE, ONNX_TENSOR_TYPE})},
    [ONNX_TENSOR_TYPE] = {"tensor type", FIELDS({1, "elem_type", ONNX_INTEGER, ONE, 0},
                                                {2, "shape", ONNX_MESSAGE, ONE, ONNX_SHAPE})},
    [ONNX_SHAPE] = {"shape", FIELDS({1, "dim", ONNX_MESSAGE, MANY, ONNX_DIMENSION})},
    [ONNX_DIMENSION] = {"dimension", FIELDS({1, "dim_value", ONNX_INTEGER, ONE, 0},
                                            {2, "dim_param", ONNX_STRING, ONE, 0})},
    [ONNX_TENSOR] =
        {"tensor",
         FIELDS({1, "dims", ONNX_INTEGER, MANY, 0}, {2, "data_type", ONNX_INTEGER, ONE, 0},
                {3, "segment", ONNX_DATA, ONE, 0}, {4, "float_data", ONNX_DATA, MANY, 0},
                {5, "int32_data", ONNX_DATA, MANY, 0}, {7, "int64_data", ONNX_DATA, MANY, 0},
                {8, "name", ONNX_STRING, ONE, 0}, {9, "raw_data", ONNX_DATA, ONE, 0},
                {10, "double_data", ONNX_DATA, MANY, 0},
                {13, "external_data", ONNX_MESSAGE, MANY, ONNX_ENTRY},
                {14, "data_location", ONNX_INTEGER, ONE, 0})},
    [ONNX_ENTRY] = {"entry",
                    FIELDS({1, "key", ONNX_STRING, ONE, 0}, {2, "value", ONNX_STRING, ONE, 0})},
    [ONNX_FUNCTION] = {"function", FIELDS({1, "name", ONNX_STRING, ONE, 0},
                                          {10, "domain", ONNX_STRING, ONE, 0})},
};

/* The encoding of a field. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

enum { WINDOW = 1 << 17 };

/* The open model, and the window of its file in memory. */
typedef struct Reader {
    Onnx *model;
    unsigned char *window;
    uint64_t start; /* of the window, in the file */
    size_t held;
    uint64_t at;
    uint64_t tag; /* position of the current field */
} Reader;

static int fail_at(const Reader *r, Error *e, const char *what) {
    return error_set(e, "byte %llu: %s", (unsigned long long)r->at, what);
}

/* Points *out to n bytes at r->at; the caller knows that the file has them. */
static int look(Reader *r, size_t n, const unsigned char **out, Error *e) {
    if (r->at < r->start || r->at + n > r->start + r->held) {
        uint64_t left = r->model->size - r->at;
        r->start = r->at;
        r->held = 0;
        size_t wanted = left < WINDOW ? (size_t)left : WINDOW;
        if (file_read_at(r->model->fd, r->window, wanted, r->at, e) != 0) return -1;
        r->held = wanted;
    }
    *out = r->window + (r->at - r->start);
    return 0;
}

int onnx_varint(const unsigned char *bytes, size_t n, size_t *at, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && *at < n; shift += 7) {
        unsigned char byte = bytes[(*at)++];
        if (shift == 63 && byte > 1) return -1;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return 0;
    }
    return -1;
}

static int read_varint(Reader *r, uint64_t end, uint64_t *out, Error *e) {
    enum { LONGEST = 10 };
    const unsigned char *bytes;
    size_t n = end - r->at < LONGEST ? (size_t)(end - r->at) : LONGEST, used = 0;
    if (look(r, n, &bytes, e) != 0) return -1;
    if (onnx_varint(bytes, n, &used, out) != 0)
        return fail_at(r, e, "a number does not end, or has more than 64 bits");
    r->at += used;
    return 0;
}

static int read_fixed(Reader *r, uint64_t end, size_t n, uint64_t *out, Error *e) {
    const unsigned char *bytes;
    if (end - r->at < n) return fail_at(r, e, "a number ends behind its message");
    if (look(r, n, &bytes, e) != 0) return -1;
    *out = 0;
    for (size_t i = n; i-- > 0;) *out = *out << 8 | bytes[i];
    r->at += n;
    return 0;
}

/* The end of the length-prefixed bytes at this position. */
static int read_length(Reader *r, uint64_t end, uint64_t *stop, Error *e) {
    uint64_t n, from = r->at;
    if (read_varint(r, end, &n, e) != 0) return -1;
    if (n > end - r->at)
        return error_set(e, "byte %llu: a field of %llu bytes ends behind its message",
                         (unsigned long long)from, (unsigned long long)n);
    *stop = r->at + n;
    return 0;
}

/* Adds an item after `last` (0: as the first) to a message; returns its number, -1 on failure. */
static int add_item(Reader *r, int message, int last, const OnnxField *field, Error *e) {
    Onnx *m = r->model;
    if (m->count >= ONNX_ITEMS)
        return error_set(e, "its structure has more than %d items", ONNX_ITEMS);
    if (memory_grow((void **)&m->items, m->count, &m->room, sizeof *m->items, "an ONNX model", e))
        return -1;
    int i = m->count++;
    m->items[i] = (OnnxItem){.field = field};
    if (message < 0) return i;
    if (last)
        m->items[last].next = i;
    else
        m->items[message].first = i;
    return i;
}

static int read_text(Reader *r, int item, uint64_t stop, Error *e) {
    Onnx *m = r->model;
    const unsigned char *bytes;
    size_t n = (size_t)(stop - r->at);
    if (stop - r->at > ONNX_TEXT) return fail_at(r, e, "a text has more than 65536 bytes");
    if (m->texts.size + n + 1 > ONNX_TEXTS)
        return error_set(e, "its texts have more than %d bytes", ONNX_TEXTS);
    if (look(r, n, &bytes, e) != 0) return -1;
    if (n && memchr(bytes, 0, n)) return fail_at(r, e, "a text holds a NUL byte");
    m->items[item].at = m->texts.size;
    m->items[item].bytes = n;
    r->at = stop;
    if (n && buffer_append(&m->texts, bytes, n, e) != 0) return -1;
    return buffer_append(&m->texts, "", 1, e);
}

static double real_of(uint64_t bits) {
    uint32_t low = (uint32_t)bits;
    float f;
    memcpy(&f, &low, sizeof f);
    return f;
}

/* One number of a field, in its encoding. */
static int read_number(Reader *r, int item, uint64_t end, Error *e) {
    uint64_t bits = 0;
    OnnxItem *i = &r->model->items[item];
    if (i->field->form == ONNX_REAL) {
        if (read_fixed(r, end, 4, &bits, e) != 0) return -1;
        i->real = real_of(bits);
    } else {
        if (read_varint(r, end, &bits, e) != 0) return -1;
        i->integer = (int64_t)bits;
    }
    return 0;
}

static int read_message(Reader *r, OnnxMessage kind, int item, uint64_t end, Error *e);

/* Bytes of a number in this encoding; for a varint, finds its end. */
static int skip_number(Reader *r, int wire, uint64_t end, Error *e) {
    uint64_t bits;
    if (wire == VARINT) return read_varint(r, end, &bits, e);
    return read_fixed(r, end, wire == FIXED32 ? 4 : 8, &bits, e);
}

/* Reads the items of a field up to `stop`: one item, or one per packed number. Returns the last
 * item's number, or -1. */
static int read_bytes(Reader *r, const OnnxField *f, int message, int last, uint64_t stop,
                      Error *e) {
    if (f->form == ONNX_INTEGER || f->form == ONNX_REAL) {
        while (r->at < stop) {
            last = add_item(r, message, last, f, e);
            if (last < 0 || read_number(r, last, stop, e) != 0) return -1;
        }
        return last;
    }
    int item = add_item(r, message, last, f, e);
    if (item < 0) return -1;
    if (f->form == ONNX_STRING) return read_text(r, item, stop, e) != 0 ? -1 : item;
    if (f->form == ONNX_MESSAGE) return read_message(r, f->message, item, stop, e) != 0 ? -1 : item;
    r->model->items[item].at = r->at;
    r->model->items[item].bytes = stop - r->at;
    r->at = stop;
    return item;
}

/* Reads a field; `wire` is its encoding. */
static int read_known(Reader *r, const OnnxField *f, int wire, int message, int last, uint64_t end,
                      Error *e) {
    bool number = f->form == ONNX_INTEGER || f->form == ONNX_REAL;
    uint64_t stop, from = r->at, tag = r->tag;
    if (wire == BYTES && (!number || f->repeated)) {
        if (read_length(r, end, &stop, e) != 0) return -1;
        return read_bytes(r, f, message, last, stop, e);
    }
    bool fits = f->form == ONNX_INTEGER ? wire == VARINT
                : f->form == ONNX_REAL  ? wire == FIXED32
                                        : f->form == ONNX_DATA && f->repeated;
    if (!fits)
        return error_set(e, "byte %llu: field '%s' is written as wire type %d",
                         (unsigned long long)tag, f->name, wire);
    int item = add_item(r, message, last, f, e);
    if (item < 0) return -1;
    if (number) return read_number(r, item, end, e) != 0 ? -1 : item;
    if (skip_number(r, wire, end, e) != 0) return -1;
    r->model->items[item].at = from;
    r->model->items[item].bytes = r->at - from;
    return item;
}

static int skip_field(Reader *r, int wire, uint64_t end, Error *e) {
    if (wire != BYTES) return skip_number(r, wire, end, e);
    uint64_t stop;
    if (read_length(r, end, &stop, e) != 0) return -1;
    r->at = stop;
    return 0;
}

static const OnnxField *find_field(OnnxMessage kind, uint64_t number) {
    for (const OnnxField *f = messages[kind].fields; f->number; f++)
        if (f->number == number) return f;
    return NULL;
}

/* No message of the table can contain itself, so the table bounds the depth. */
static int read_message(Reader *r, OnnxMessage kind, int item, uint64_t end, Error *e) {
    enum { FIELD_NUMBERS = 64 };
    uint64_t seen = 0, tag;
    for (int last = 0; r->at < end;) {
        uint64_t from = r->at;
        if (read_varint(r, end, &tag, e) != 0) return -1;
        int wire = (int)(tag & 7);
        if (tag >> 3 == 0 || tag >> 3 > INT32_MAX || wire == 3 || wire == 4 || wire > 5)
            return error_set(e, "byte %llu: %llu begins no field of a %s", (unsigned long long)from,
                             (unsigned long long)tag, messages[kind].name);
        const OnnxField *f = find_field(kind, tag >> 3);
        if (f && !f->repeated && seen >> f->number & 1)
            return error_set(e, "byte %llu: a %s has '%s' twice", (unsigned long long)from,
                             messages[kind].name, f->name);
        if (f && f->number < FIELD_NUMBERS) seen |= UINT64_C(1) << f->number;
        r->tag = from;
        if (!f) {
            if (skip_field(r, wire, end, e) != 0) return -1;
        } else if ((last = read_known(r, f, wire, item, last, end, e)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Files that users pass instead of a model: text, folders, other formats. */
static int check_start(const Onnx *m, Error *e) {
    unsigned char start[FOREIGN_START];
    size_t n = m->size < sizeof start ? (size_t)m->size : sizeof start;
    if (n == 0) return error_set(e, "is empty");
    if (file_read_at(m->fd, start, n, 0, e) != 0) return -1;
    if (n > 22 && memcmp(start, "version https://git-lfs", 23) == 0)
        return error_set(e, "is a pointer of Git LFS, not the model; `git lfs pull` in its "
                            "repository gets it");
    if (start[0] != 0x08 && foreign_is_text(start, n))
        return error_set(e, "is text, not an ONNX model");
    return 0;
}

static int read_model(Onnx *m, Error *e) {
    Reader r = {.model = m};
    if (check_start(m, e) != 0) return -1;
    r.window = memory_take(WINDOW, "a window on an ONNX model", e);
    int failed = !r.window || add_item(&r, -1, 0, NULL, e) < 0 ||
                 read_message(&r, ONNX_MODEL, 0, m->size, e) != 0;
    memory_free(r.window);
    if (failed) return -1;
    const OnnxItem *version = onnx_find(m, &m->items[0], "ir_version");
    if (!version || !onnx_find(m, &m->items[0], "graph"))
        return error_set(e, "is no ONNX model: it has no %s", version ? "graph" : "ir_version");
    if (version->integer < 3)
        return error_set(e, "has IR version %lld; versions from 3 on are read",
                         (long long)version->integer);
    return 0;
}

int onnx_open(Onnx *out, const char *path, Error *e) {
    *out = (Onnx){0};
    if (file_open_read(path, &out->fd, &out->size, e) != 0) return -1;
    size_t n = strlen(path) + 1;
    out->path = memory_take(n, "a path", e);
    if (!out->path) {
        close(out->fd);
        return -1;
    }
    memcpy(out->path, path, n);
    if (read_model(out, e) == 0) return 0;
    onnx_close(out);
    return error_prefix(e, "%s", path);
}

void onnx_close(Onnx *m) {
    if (m->path) close(m->fd);
    memory_free(m->items);
    memory_free(m->path);
    buffer_free(&m->texts);
    *m = (Onnx){0};
}

const char *onnx_text(const Onnx *m, const OnnxItem *item) {
    return (const char *)m->texts.bytes + item->at;
}

const OnnxItem *onnx_find(const Onnx *m, const OnnxItem *message, const char *name) {
    for (int i = message->first; i; i = m->items[i].next)
        if (strcmp(m->items[i].field->name, name) == 0) return &m->items[i];
    return NULL;
}
