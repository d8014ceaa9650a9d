/* Reads the values of an ONNX model's tensors: raw bytes in the model or in another file, or
 * protobuf numbers. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/onnx.h"
#include "io/tensors.h"

/* An element type: ONNX's number for it, and the field for its numbers if they are not raw. */
typedef struct Kind {
    int number;
    Dtype dtype;
    const char *field;
} Kind;

static const Kind kinds[] = {{1, DTYPE_F32, "float_data"},   {2, DTYPE_U8, "int32_data"},
                             {3, DTYPE_I8, "int32_data"},    {5, DTYPE_I16, "int32_data"},
                             {6, DTYPE_I32, "int32_data"},   {7, DTYPE_I64, "int64_data"},
                             {9, DTYPE_BOOL, "int32_data"},  {10, DTYPE_F16, "int32_data"},
                             {11, DTYPE_F64, "double_data"}, {16, DTYPE_BF16, "int32_data"}};

/* Names of the unsupported types, by number, for messages. */
static const char *const foreign[] = {
    [0] = "UNDEFINED",       [4] = "UINT16",      [8] = "STRING",          [12] = "UINT32",
    [13] = "UINT64",         [14] = "COMPLEX64",  [15] = "COMPLEX128",     [17] = "FLOAT8E4M3FN",
    [18] = "FLOAT8E4M3FNUZ", [19] = "FLOAT8E5M2", [20] = "FLOAT8E5M2FNUZ", [21] = "UINT4",
    [22] = "INT4",           [23] = "FLOAT4E2M1"};

static int find_kind(const Onnx *m, const OnnxItem *item, const Kind **out, Error *e) {
    const OnnxItem *type = onnx_find(m, item, "data_type");
    int64_t number = type ? type->integer : 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].number == number) {
            *out = &kinds[i];
            return 0;
        }
    bool named = number >= 0 && number < (int64_t)(sizeof foreign / sizeof *foreign);
    if (named && foreign[number])
        return error_set(e, "has elements of type %s, which is not supported", foreign[number]);
    return error_set(e, "has elements of the unknown type %lld", (long long)number);
}

static int find_shape(const Onnx *m, const OnnxItem *item, int *ndim, int64_t *shape, Error *e) {
    *ndim = 0;
    for (int i = item->first; i; i = m->items[i].next) {
        if (strcmp(m->items[i].field->name, "dims") != 0) continue;
        if (*ndim == TENSOR_DIMS) return error_set(e, "has more than %d dimensions", TENSOR_DIMS);
        shape[(*ndim)++] = m->items[i].integer;
    }
    return 0;
}

/* Fills a tensor with bytes of a file from a position. */
static int copy_bytes(int fd, uint64_t at, const Tensor *t, uint64_t offset, uint64_t bytes,
                      Error *e) {
    unsigned char *piece = memory_take(TENSORS_PIECE, "a piece of a file", e);
    int failed = piece ? 0 : -1;
    for (uint64_t done = 0; done < bytes && !failed; done += TENSORS_PIECE) {
        size_t n = bytes - done < TENSORS_PIECE ? (size_t)(bytes - done) : TENSORS_PIECE;
        failed = file_read_at(fd, piece, n, at + done, e);
        if (!failed) failed = tensors_put(t, (size_t)(offset + done), piece, n, e);
    }
    memory_free(piece);
    return failed;
}

/* --- protobuf numbers --- */

/* A tensor that is being filled element by element. */
typedef struct Filler {
    const Tensor *tensor;
    size_t width; /* bytes of one element */
    uint64_t filled, count;
    unsigned char *piece;
    size_t held; /* bytes in the buffer, for the elements before `filled` */
} Filler;

static int flush(Filler *f, Error *e) {
    size_t n = f->held;
    f->held = 0;
    return n ? tensors_put(f->tensor, (size_t)(f->filled * f->width) - n, f->piece, n, e) : 0;
}

static int too_many(const Filler *f, Error *e) {
    return error_set(e, "has more numbers than the %llu of its shape",
                     (unsigned long long)f->count);
}

/* Protobuf writes an integer narrower than 32 bits as its value, and f16 and bf16 as their bits. */
static int put_integer(Filler *f, uint64_t value, Error *e) {
    if (f->filled == f->count) return too_many(f, e);
    memcpy(f->piece + f->held, &value, f->width);
    f->held += f->width;
    f->filled++;
    return f->held + f->width > TENSORS_PIECE ? flush(f, e) : 0;
}

/* Reads the varints of one field, in pieces that may split a varint. */
static int fill_varints(int fd, const OnnxItem *data, Filler *f, Error *e) {
    enum { PIECE = 1 << 14 };
    unsigned char bytes[PIECE];
    uint64_t at = data->at, end = data->at + data->bytes, value;
    while (at < end) {
        size_t n = end - at < PIECE ? (size_t)(end - at) : PIECE, used = 0;
        if (file_read_at(fd, bytes, n, at, e) != 0) return -1;
        while (used < n) {
            size_t next = used;
            if (onnx_varint(bytes, n, &next, &value) != 0) break;
            if (put_integer(f, value, e) != 0) return -1;
            used = next;
        }
        if (used == 0)
            return error_set(e, "byte %llu: a number does not end, or has more than 64 bits",
                             (unsigned long long)at);
        at += used;
    }
    return 0;
}

static int fill_fixed(int fd, const OnnxItem *data, Filler *f, Error *e) {
    if (data->bytes % f->width)
        return error_set(e, "has %llu bytes of numbers of %zu bytes",
                         (unsigned long long)data->bytes, f->width);
    if (data->bytes / f->width > f->count - f->filled) return too_many(f, e);
    if (copy_bytes(fd, data->at, f->tensor, f->filled * f->width, data->bytes, e) != 0) return -1;
    f->filled += data->bytes / f->width;
    return 0;
}

static int fill(const Onnx *m, const OnnxItem *item, const Kind *kind, const Tensor *t, Error *e) {
    bool fixed = kind->dtype == DTYPE_F32 || kind->dtype == DTYPE_F64;
    Filler f = {t, dtype_size(kind->dtype), 0, (uint64_t)tensor_count(t), NULL, 0};
    f.piece = memory_take(TENSORS_PIECE, "a piece of a tensor", e);
    int failed = f.piece ? 0 : -1;
    for (int i = item->first; i && !failed; i = m->items[i].next)
        if (strcmp(m->items[i].field->name, kind->field) == 0)
            failed = (fixed ? fill_fixed : fill_varints)(m->fd, &m->items[i], &f, e);
    if (!failed) failed = flush(&f, e);
    memory_free(f.piece);
    if (failed || f.filled == f.count) return failed;
    return error_set(e, "has %llu numbers, its shape has %llu", (unsigned long long)f.filled,
                     (unsigned long long)f.count);
}

/* --- values in another file --- */

static const OnnxItem *entry(const Onnx *m, const OnnxItem *item, const char *key) {
    for (int i = item->first; i; i = m->items[i].next) {
        const OnnxItem *pair = &m->items[i];
        if (strcmp(pair->field->name, "external_data") != 0) continue;
        const OnnxItem *name = onnx_find(m, pair, "key");
        if (name && strcmp(onnx_text(m, name), key) == 0) return onnx_find(m, pair, "value");
    }
    return NULL;
}

/* Whether a path stays inside its folder, without regard to links. */
static bool stays(const char *path) {
    if (*path == '/' || !*path || strchr(path, '\\')) return false;
    for (const char *part = path;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 2 && memcmp(part, "..", 2) == 0)) return false;
        part += n;
        if (!*part) return true;
    }
}

static bool is_external(const Onnx *m, const OnnxItem *item) {
    const OnnxItem *location = onnx_find(m, item, "data_location");
    return location && location->integer == 1;
}

static int find_file(const Onnx *m, const OnnxItem *item, char **path, Error *e) {
    *path = NULL;
    if (!is_external(m, item)) return 0;
    const OnnxItem *location = entry(m, item, "location");
    if (!location) return error_set(e, "is in another file, but does not name it");
    const char *name = onnx_text(m, location), *slash = strrchr(m->path, '/');
    if (!stays(name))
        return error_set(e, "is in the file '%s', which is not inside the model's folder", name);
    size_t folder = slash ? (size_t)(slash + 1 - m->path) : 0;
    *path = memory_take(folder + strlen(name) + 1, "a path", e);
    if (!*path) return -1;
    memcpy(*path, m->path, folder);
    strcpy(*path + folder, name);
    return 0;
}

/* An integer of an entry, or `otherwise` if there is none. */
static int entry_number(const Onnx *m, const OnnxItem *item, const char *key, uint64_t otherwise,
                        uint64_t *out, Error *e) {
    const OnnxItem *text = entry(m, item, key);
    *out = otherwise;
    if (!text) return 0;
    const char *digits = onnx_text(m, text);
    size_t n = strlen(digits);
    if (n == 0 || n > 18 || strspn(digits, "0123456789") != n)
        return error_set(e, "has the %s '%s' in another file, which is not a number of bytes", key,
                         digits);
    *out = strtoull(digits, NULL, 10);
    return 0;
}

/* The position of a tensor's bytes; fd is -1 for protobuf numbers. */
typedef struct Place {
    int fd;
    bool other; /* fd is another file, to be closed */
    uint64_t at;
} Place;

static int find_external(const Onnx *m, const OnnxItem *item, const char *path, uint64_t wanted,
                         Place *out, Error *e) {
    uint64_t length, size;
    if (entry_number(m, item, "offset", 0, &out->at, e) != 0 ||
        entry_number(m, item, "length", wanted, &length, e) != 0)
        return -1;
    if (length != wanted)
        return error_set(e, "has %llu bytes, its shape and type take %llu",
                         (unsigned long long)length, (unsigned long long)wanted);
    if (file_open_read(path, &out->fd, &size, e) != 0) return -1;
    out->other = true;
    if (out->at <= size && length <= size - out->at) return 0;
    return error_set(e, "is at bytes %llu to %llu of %s, which has %llu",
                     (unsigned long long)out->at, (unsigned long long)(out->at + length), path,
                     (unsigned long long)size);
}

/* Each number takes at least one byte. So this check prevents an allocation for a shape that the
 * file only claims. */
static int check_numbers(const Onnx *m, const OnnxItem *item, const Kind *kind, size_t bytes,
                         Error *e) {
    uint64_t count = bytes / dtype_size(kind->dtype), there = 0;
    for (int i = item->first; i; i = m->items[i].next)
        if (strcmp(m->items[i].field->name, kind->field) == 0) there += m->items[i].bytes;
    if (count <= there) return 0;
    return error_set(e, "has %llu bytes of numbers, its shape has %llu elements",
                     (unsigned long long)there, (unsigned long long)count);
}

/* Checks that all `bytes` of a tensor exist, and finds them. */
static int find_place(const Onnx *m, const OnnxItem *item, const Kind *kind, size_t bytes,
                      Place *out, Error *e) {
    const OnnxItem *raw = onnx_find(m, item, "raw_data");
    char *path;
    *out = (Place){.fd = -1};
    if (onnx_find(m, item, "segment"))
        return error_set(e, "is a segment of a tensor, which is not supported");
    if (find_file(m, item, &path, e) != 0) return -1;
    if (path) {
        int failed = find_external(m, item, path, bytes, out, e);
        memory_free(path);
        return failed;
    }
    if (!raw) return check_numbers(m, item, kind, bytes, e);
    *out = (Place){m->fd, false, raw->at};
    if (raw->bytes == bytes) return 0;
    return error_set(e, "has %llu bytes, its shape and type take %zu",
                     (unsigned long long)raw->bytes, bytes);
}

static int name_tensor(const Onnx *m, const OnnxItem *item, Error *e) {
    const OnnxItem *name = onnx_find(m, item, "name");
    return error_prefix(e, "%s: tensor '%s'", m->path, name ? onnx_text(m, name) : "");
}

int onnx_tensor_file(const Onnx *m, const OnnxItem *item, char **path, Error *e) {
    return find_file(m, item, path, e) != 0 ? name_tensor(m, item, e) : 0;
}

int onnx_tensor(const Onnx *m, const OnnxItem *item, Device *d, Tensor *out, Error *e) {
    const Kind *kind = NULL;
    Place place = {.fd = -1};
    int64_t shape[TENSOR_DIMS];
    int ndim;
    size_t bytes;
    *out = (Tensor){0};
    int failed = find_kind(m, item, &kind, e) != 0 || find_shape(m, item, &ndim, shape, e) != 0 ||
                 tensors_bytes_of(kind->dtype, ndim, shape, &bytes, e) != 0 ||
                 find_place(m, item, kind, bytes, &place, e) != 0 ||
                 tensor_new(out, d, kind->dtype, ndim, shape, e) != 0;
    if (!failed)
        failed = place.fd < 0 ? fill(m, item, kind, out, e)
                              : copy_bytes(place.fd, place.at, out, 0, bytes, e);
    if (place.other) close(place.fd);
    if (!failed) return 0;
    tensor_free(out);
    return name_tensor(m, item, e);
}
