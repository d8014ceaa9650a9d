#include "io/msgpack_tensors.h"

#include <msgpack/pack.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/msgpack_read.h"

#define FORMAT "advrt.tensors"

enum { VERSION = 1, NAME = 4096, KEY = 64 };

/* --- reading --- */

typedef struct Input {
    MsgpackReader reader;
    Device *device;
    TensorList *list;
    char name[NAME];
    unsigned char piece[TENSORS_PIECE];
} Input;

static int read_shape(MsgpackReader *r, int *ndim, int64_t shape[TENSOR_DIMS], Error *e) {
    MsgpackToken t;
    if (msgpack_expect(r, MSGPACK_ARRAY, "its shape", &t, e) != 0) return -1;
    if (t.size > TENSOR_DIMS)
        return error_set(e, "has %llu dimensions, at most %d are supported",
                         (unsigned long long)t.size, TENSOR_DIMS);
    *ndim = (int)t.size;
    for (int i = 0; i < *ndim; i++) {
        if (msgpack_expect(r, MSGPACK_INTEGER, "a size of its shape", &t, e) != 0) return -1;
        shape[i] = t.integer;
    }
    return 0;
}

/* Reads the binary into a new tensor of the type and shape already in *t. */
static int read_data(Input *in, Tensor *t, Error *e) {
    MsgpackToken data;
    char text[128];
    size_t bytes;
    if (msgpack_expect(&in->reader, MSGPACK_BINARY, "its data", &data, e) != 0 ||
        tensors_bytes_of(t->dtype, t->ndim, t->shape, &bytes, e) != 0)
        return -1;
    if (data.size != bytes)
        return error_set(e, "is %s %s, which takes %zu bytes, but has %llu", dtype_name(t->dtype),
                         tensor_shape_text(t, text), bytes, (unsigned long long)data.size);
    Tensor made;
    if (tensor_new(&made, in->device, t->dtype, t->ndim, t->shape, e) != 0) return -1;
    *t = made;
    for (size_t at = 0; at < bytes; at += TENSORS_PIECE) {
        size_t n = bytes - at < TENSORS_PIECE ? bytes - at : TENSORS_PIECE;
        if (msgpack_bytes(&in->reader, in->piece, n, e) != 0 ||
            tensors_put(t, at, in->piece, n, e) != 0)
            return -1;
    }
    return 0;
}

/* The description and data of one tensor. On failure *t is empty, or the caller must free it. */
static int read_tensor(Input *in, Tensor *t, Error *e) {
    MsgpackToken map;
    char key[KEY], name[KEY];
    bool typed = false, shaped = false;
    *t = (Tensor){0};
    if (msgpack_expect(&in->reader, MSGPACK_MAP, "its description", &map, e) != 0) return -1;
    for (uint64_t i = 0; i < map.size; i++) {
        if (msgpack_text(&in->reader, "a key of its description", key, KEY, e) != 0) return -1;
        int failed = 0;
        if (t->storage) {
            failed = msgpack_skip(&in->reader, e);
        } else if (strcmp(key, "dtype") == 0) {
            failed = msgpack_text(&in->reader, "its dtype", name, KEY, e);
            if (!failed && dtype_of(name, &t->dtype) != 0)
                failed = error_set(e,
                                   "has dtype '%s'; f64, f32, f16, bf16, i64, i32, i16, i8, u8 "
                                   "and bool are supported",
                                   name);
            typed = true;
        } else if (strcmp(key, "shape") == 0) {
            failed = read_shape(&in->reader, &t->ndim, t->shape, e);
            shaped = true;
        } else if (strcmp(key, "data") == 0) {
            if (!typed || !shaped) return error_set(e, "has its data before its dtype and shape");
            failed = read_data(in, t, e);
        } else {
            failed = msgpack_skip(&in->reader, e);
        }
        if (failed) return -1;
    }
    return t->storage ? 0 : error_set(e, "has no data");
}

static int read_tensors(Input *in, Error *e) {
    MsgpackToken map;
    if (msgpack_expect(&in->reader, MSGPACK_MAP, "'tensors'", &map, e) != 0) return -1;
    for (uint64_t i = 0; i < map.size; i++) {
        Tensor t = {0};
        if (msgpack_text(&in->reader, "a tensor's name", in->name, NAME, e) != 0) return -1;
        int failed = read_tensor(in, &t, e);
        if (failed)
            error_prefix(e, "tensor '%s'", in->name);
        else
            failed = tensors_add(in->list, in->name, strlen(in->name), &t, e);
        if (failed) {
            tensor_free(&t);
            return -1;
        }
    }
    return 0;
}

static int read_file(Input *in, Error *e) {
    MsgpackReader *r = &in->reader;
    MsgpackToken map, version;
    char key[KEY], format[KEY];
    bool found = false;
    if (msgpack_expect(r, MSGPACK_MAP, "it", &map, e) != 0) return -1;
    for (uint64_t i = 0; i < map.size; i++) {
        if (msgpack_text(r, "a key", key, KEY, e) != 0) return -1;
        if (i == 0) {
            if (strcmp(key, "format") != 0 || msgpack_text(r, "its format", format, KEY, e) != 0 ||
                strcmp(format, FORMAT) != 0)
                return error_set(e, "a msgpack file that does not start with format = '%s'",
                                 FORMAT);
        } else if (i == 1) {
            if (strcmp(key, "version") != 0) return error_set(e, "has no version after its format");
            if (msgpack_expect(r, MSGPACK_INTEGER, "its version", &version, e) != 0) return -1;
            if (version.integer != VERSION)
                return error_set(e, "has version %lld of its format, %d is supported",
                                 (long long)version.integer, VERSION);
        } else if (strcmp(key, "tensors") == 0 && !found) {
            found = true;
            if (read_tensors(in, e) != 0) return -1;
        } else if (msgpack_skip(r, e) != 0) {
            return -1;
        }
    }
    if (!found) return error_set(e, "holds no 'tensors'");
    if (msgpack_left(r) == 0) return 0;
    return error_set(e, "has %llu bytes after its end", (unsigned long long)msgpack_left(r));
}

int msgpack_tensors_read(int fd, uint64_t size, Device *d, TensorList *list, Error *e) {
    Input *in = memory_take(sizeof *in, "a msgpack reader", e);
    if (!in) return -1;
    in->device = d;
    in->list = list;
    msgpack_start(&in->reader, fd, 0, size);
    int failed = read_file(in, e);
    memory_free(in);
    return failed;
}

/* --- writing --- */

typedef struct Output {
    FileWriter *file;
    Error *error;
} Output;

static int put(void *context, const char *bytes, size_t n) {
    Output *out = context;
    return file_writer_put(out->file, bytes, n, out->error);
}

static int pack_text(msgpack_packer *pk, const char *text) {
    size_t n = strlen(text);
    return msgpack_pack_str(pk, n) || msgpack_pack_str_body(pk, text, n) ? -1 : 0;
}

static int pack_tensor(msgpack_packer *pk, const NamedTensor *named, unsigned char *piece,
                       Error *e) {
    const Tensor *t = &named->tensor;
    size_t bytes = tensor_bytes(t);
    if (bytes > UINT32_MAX)
        return error_set(e,
                         "tensor '%s' takes %zu bytes, a msgpack file holds at most %u of one "
                         "tensor (use .safetensors)",
                         named->name, bytes, UINT32_MAX);
    int failed = msgpack_pack_map(pk, 3) || pack_text(pk, "dtype") ||
                 pack_text(pk, dtype_name(t->dtype)) || pack_text(pk, "shape") ||
                 msgpack_pack_array(pk, (size_t)t->ndim);
    for (int i = 0; i < t->ndim && !failed; i++) failed = msgpack_pack_int64(pk, t->shape[i]);
    failed = failed || pack_text(pk, "data") || msgpack_pack_bin(pk, bytes);
    for (size_t at = 0; at < bytes && !failed; at += TENSORS_PIECE) {
        size_t n = bytes - at < TENSORS_PIECE ? bytes - at : TENSORS_PIECE;
        failed = tensors_get(t, at, piece, n, e) || msgpack_pack_bin_body(pk, piece, n);
    }
    return failed ? -1 : 0;
}

static int pack_all(msgpack_packer *pk, const TensorList *list, const TextPair *pairs,
                    size_t pair_count, unsigned char *piece, Error *e) {
    int failed = msgpack_pack_map(pk, pair_count ? 4 : 3) || pack_text(pk, "format") ||
                 pack_text(pk, FORMAT) || pack_text(pk, "version") || msgpack_pack_int(pk, VERSION);
    if (pair_count)
        failed = failed || pack_text(pk, "metadata") || msgpack_pack_map(pk, pair_count);
    for (size_t i = 0; i < pair_count && !failed; i++)
        failed = pack_text(pk, pairs[i].key) || pack_text(pk, pairs[i].value);
    failed = failed || pack_text(pk, "tensors") || msgpack_pack_map(pk, list->count);
    for (size_t i = 0; i < list->count && !failed; i++) {
        failed = pack_text(pk, list->items[i].name) || pack_tensor(pk, &list->items[i], piece, e);
    }
    return failed ? -1 : 0;
}

int msgpack_tensors_write(const char *path, const TensorList *list, const TextPair *pairs,
                          size_t pair_count, Error *e) {
    msgpack_packer pk;
    Output out = {NULL, e};
    unsigned char *piece = memory_take(TENSORS_PIECE, "a piece of a file", e);
    int failed = piece ? file_writer_open(&out.file, path, e) : -1;
    if (!failed) {
        msgpack_packer_init(&pk, &out, put);
        failed = pack_all(&pk, list, pairs, pair_count, piece, e);
        failed = file_writer_close(out.file, failed, e);
    }
    memory_free(piece);
    return failed;
}
