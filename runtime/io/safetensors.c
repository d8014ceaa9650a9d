#include "io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json_read.h"

#define METADATA "__metadata__"

/* The format's names, in the order of Dtype. */
static const char *const names[DTYPES] = {"F32", "F64", "F16", "BF16", "I64",
                                          "I32", "I16", "I8",  "U8",   "BOOL"};

typedef struct Entry {
    const char *name;
    Dtype dtype;
    int ndim;
    int64_t shape[TENSOR_DIMS];
    uint64_t begin, end; /* the range of its bytes in the data */
} Entry;

/* --- reading --- */

/* A tensor as the header describes it, before any check. */
typedef struct Description {
    const char *dtype; /* NULL: missing */
    bool shaped, natural, placed;
    size_t ndim;
    int64_t shape[TENSOR_DIMS], offsets[2];
} Description;

static int find_dtype(const char *name, Dtype *out, Error *e) {
    if (!name) return error_set(e, "has no dtype");
    for (int t = 0; t < DTYPES; t++)
        if (strcmp(name, names[t]) == 0) {
            *out = (Dtype)t;
            return 0;
        }
    return error_set(e,
                     "has dtype '%s'; F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL are "
                     "supported",
                     name);
}

/* Reads an array of numbers: its length, the first `most` of them, and whether all are natural
 * numbers. */
static int read_numbers(JsonReader *r, int64_t *out, size_t most, size_t *n, bool *natural,
                        Error *e) {
    bool first = true, more, whole;
    *n = 0;
    *natural = true;
    if (json_enter(r, '[', e) != 0) return -1;
    for (;;) {
        int64_t number = -1;
        if (json_more(r, ']', &first, &more, e) != 0) return -1;
        if (!more) return 0;
        char c = json_peek(r);
        bool is_number = c == '-' || (c >= '0' && c <= '9');
        if ((is_number ? json_number(r, &number, &whole, e) : json_skip(r, e)) != 0) return -1;
        if (!is_number || !whole || number < 0) *natural = false;
        if (*n < most) out[*n] = number;
        ++*n;
    }
}

static int read_field(JsonReader *r, const char *key, Description *out, Error *e) {
    char c = json_peek(r);
    bool natural, fits;
    size_t n;
    if (strcmp(key, "dtype") == 0 && c == '"') {
        if (out->dtype) return error_set(e, "has its dtype twice");
        return json_text(r, &out->dtype, e);
    }
    if (strcmp(key, "shape") == 0 && c == '[') {
        if (out->shaped) return error_set(e, "has its shape twice");
        out->shaped = true;
        return read_numbers(r, out->shape, TENSOR_DIMS, &out->ndim, &out->natural, e);
    }
    if (strcmp(key, "data_offsets") == 0 && c == '[') {
        fits = !out->placed;
        if (read_numbers(r, out->offsets, 2, &n, &natural, e) != 0) return -1;
        if (!fits) return error_set(e, "has its data_offsets twice");
        out->placed = natural && n == 2 && out->offsets[0] <= out->offsets[1];
        return 0;
    }
    return json_skip(r, e);
}

static int describe_entry(JsonReader *r, Description *out, Error *e) {
    bool first = true, more;
    const char *key;
    *out = (Description){0};
    if (json_peek(r) != '{') return error_set(e, "has a description that is not an object");
    r->at++;
    for (;;) {
        if (json_more(r, '}', &first, &more, e) != 0) return -1;
        if (!more) return 0;
        if (json_key(r, &key, e) != 0 || read_field(r, key, out, e) != 0) return -1;
    }
}

/* `data`: number of bytes after the header. */
static int check_entry(const Description *d, uint64_t data, Entry *out, Error *e) {
    char text[128];
    size_t bytes;
    if (find_dtype(d->dtype, &out->dtype, e) != 0) return -1;
    if (!d->shaped) return error_set(e, "has no shape");
    if (d->ndim > TENSOR_DIMS)
        return error_set(e, "has %zu dimensions, at most %d are supported", d->ndim, TENSOR_DIMS);
    if (!d->natural) return error_set(e, "has a shape of something other than natural numbers");
    out->ndim = (int)d->ndim;
    memcpy(out->shape, d->shape, sizeof out->shape);
    if (tensors_bytes_of(out->dtype, out->ndim, out->shape, &bytes, e) != 0) return -1;
    if (!d->placed) return error_set(e, "has data_offsets that are not [begin, end]");
    out->begin = (uint64_t)d->offsets[0];
    out->end = (uint64_t)d->offsets[1];
    if (out->end > data)
        return error_set(e, "ends at byte %llu of the data, of which the file has %llu",
                         (unsigned long long)out->end, (unsigned long long)data);
    if (bytes == out->end - out->begin) return 0;
    return error_set(e, "is %s %s, which takes %zu bytes, but has %llu", names[out->dtype],
                     shape_text(out->ndim, out->shape, text), bytes,
                     (unsigned long long)(out->end - out->begin));
}

/* Skips the metadata, which maps names to texts. */
static int skip_metadata(JsonReader *r, Error *e) {
    bool first = true, more;
    const char *text;
    if (json_peek(r) != '{') return error_set(e, "its " METADATA " is not a map of texts");
    r->at++;
    for (;;) {
        if (json_more(r, '}', &first, &more, e) != 0) return -1;
        if (!more) return 0;
        if (json_key(r, &text, e) != 0) return -1;
        if (json_peek(r) != '"')
            return error_set(e, "its " METADATA " has '%s', which is not text", text);
        if (json_text(r, &text, e) != 0) return -1;
    }
}

static int by_place(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Checks that the tensors, in the order of their data, fill it. */
static int check_cover(const Entry *entries, size_t n, uint64_t data, Error *e) {
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (entries[i].begin < at)
            return error_set(e, "tensors '%s' and '%s' overlap", entries[i - 1].name,
                             entries[i].name);
        if (entries[i].begin > at)
            return error_set(e, "%llu bytes before tensor '%s' belong to no tensor",
                             (unsigned long long)(entries[i].begin - at), entries[i].name);
        at = entries[i].end;
    }
    if (at == data) return 0;
    return error_set(e, "the last %llu bytes belong to no tensor", (unsigned long long)(data - at));
}

static int read_tensor(int fd, uint64_t position, const Entry *entry, Device *d,
                       unsigned char *piece, TensorList *list, Error *e) {
    Tensor t;
    if (tensor_new(&t, d, entry->dtype, entry->ndim, entry->shape, e) != 0) return -1;
    uint64_t bytes = entry->end - entry->begin;
    int failed = 0;
    for (uint64_t at = 0; at < bytes && !failed; at += TENSORS_PIECE) {
        size_t n = bytes - at < TENSORS_PIECE ? (size_t)(bytes - at) : TENSORS_PIECE;
        failed = file_read_at(fd, piece, n, position + entry->begin + at, e);
        if (!failed) failed = tensors_put(&t, (size_t)at, piece, n, e);
    }
    if (!failed) failed = tensors_add(list, entry->name, strlen(entry->name), &t, e);
    if (failed) tensor_free(&t);
    return failed;
}

typedef struct Entries {
    Entry *items;
    size_t count, room;
} Entries;

static Entry *new_entry(Entries *all, Error *e) {
    if (all->count == all->room) {
        size_t room = all->room ? 2 * all->room : 16;
        Entry *items = memory_zeroed(room, sizeof *items, "a list of tensors", e);
        if (!items) return NULL;
        if (all->count) memcpy(items, all->items, all->count * sizeof *items);
        memory_free(all->items);
        all->items = items;
        all->room = room;
    }
    return &all->items[all->count++];
}

/* The names stay in the reader's text. */
static int read_header(JsonReader *r, uint64_t data, Entries *all, Error *e) {
    bool first = true, more;
    Description d;
    if (!json_peek(r)) return error_set(e, "its header is empty");
    if (json_peek(r) != '{') return error_set(e, "its header is not a JSON object");
    r->at++;
    for (;;) {
        const char *name;
        if (json_more(r, '}', &first, &more, e) != 0) return -1;
        if (!more) return json_end(r, e);
        if (json_key(r, &name, e) != 0) return -1;
        if (strcmp(name, METADATA) == 0) {
            if (skip_metadata(r, e) != 0) return -1;
            continue;
        }
        Entry *entry = new_entry(all, e);
        if (!entry) return -1;
        entry->name = name;
        if (describe_entry(r, &d, e) != 0 || check_entry(&d, data, entry, e) != 0)
            return r->broken ? -1 : error_prefix(e, "tensor '%s'", name);
    }
}

/* `data` bytes of the file start at `position`. */
static int read_all(int fd, uint64_t position, uint64_t data, Entries *all, Device *d,
                    TensorList *list, Error *e) {
    size_t n = all->count;
    if (n) qsort(all->items, n, sizeof *all->items, by_place);
    if (check_cover(all->items, n, data, e) != 0) return -1;
    unsigned char *piece = memory_take(TENSORS_PIECE, "a piece of a file", e);
    int failed = piece ? 0 : -1;
    for (size_t i = 0; i < n && !failed; i++)
        failed = read_tensor(fd, position, &all->items[i], d, piece, list, e);
    memory_free(piece);
    return failed;
}

int safetensors_read(int fd, uint64_t size, Device *d, TensorList *list, Error *e) {
    unsigned char prefix[8];
    uint64_t length = 0;
    if (size < 8) return error_set(e, "too short for a safetensors file");
    if (file_read_at(fd, prefix, 8, 0, e) != 0) return -1;
    for (int i = 8; i-- > 0;) length = length << 8 | prefix[i];
    if (length > size - 8)
        return error_set(e, "its header of %llu bytes does not fit the file of %llu bytes",
                         (unsigned long long)length, (unsigned long long)size);
    if (length > SAFETENSORS_HEADER)
        return error_set(e, "its header of %llu bytes is longer than the %d that the format allows",
                         (unsigned long long)length, SAFETENSORS_HEADER);
    Entries all = {0};
    JsonReader r = {.length = (size_t)length, .what = "its header"};
    r.text = memory_take(r.length, "a safetensors header", e);
    int failed = r.text ? file_read_at(fd, r.text, r.length, 8, e) : -1;
    if (!failed) failed = read_header(&r, size - 8 - length, &all, e);
    if (!failed) failed = read_all(fd, 8 + length, size - 8 - length, &all, d, list, e);
    memory_free(all.items);
    memory_free(r.text);
    return failed;
}

/* --- writing --- */

/* jansson reports lack of memory as a mistake in the text. */
static _Thread_local Error starved;

static void *take_json(size_t bytes) {
    return memory_take(bytes, "a safetensors header", &starved);
}

static void begin_json(void) {
    starved = (Error){0};
    json_set_alloc_funcs(take_json, memory_free);
}

static int by_size_then_place(const void *a, const void *b) {
    const NamedTensor *x = *(const NamedTensor *const *)a, *y = *(const NamedTensor *const *)b;
    size_t m = dtype_size(x->tensor.dtype), n = dtype_size(y->tensor.dtype);
    if (m != n) return m > n ? -1 : 1;
    return (x > y) - (x < y);
}

/* Returns NULL if memory ran out. */
static json_t *describe(const SafetensorsEntry *t, uint64_t begin, uint64_t end) {
    json_t *shape = json_array();
    int failed = shape == NULL;
    for (int i = 0; i < t->ndim && !failed; i++)
        failed = json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    if (failed) {
        json_decref(shape);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", names[t->dtype], "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

/* Adds the entries to a header; *total is the bytes of all entries. */
static int describe_all(json_t *header, const char *path, const SafetensorsEntry *entries, size_t n,
                        uint64_t *total, Error *e) {
    *total = 0;
    for (size_t i = 0; i < n; i++) {
        const SafetensorsEntry *t = &entries[i];
        size_t bytes;
        if (strcmp(t->name, METADATA) == 0)
            return error_set(e, "%s: safetensors reserves the name '%s'; no tensor can have it",
                             path, METADATA);
        if (i > 0 && dtype_size(t->dtype) > dtype_size(t[-1].dtype))
            return error_set(e, "%s: '%s' has larger elements than '%s' before it", path, t->name,
                             t[-1].name);
        if (tensors_bytes_of(t->dtype, t->ndim, t->shape, &bytes, e) != 0)
            return error_prefix(e, "%s: '%s'", path, t->name);
        json_object_set_new(header, t->name, describe(t, *total, *total + bytes));
        *total += bytes;
    }
    return 0;
}

/* The text of a header, padded with spaces so that the data starts at a multiple of 8 bytes. Free
 * it with memory_free. */
static char *text_of_header(json_t *header, const char *path, size_t *length, Error *e) {
    size_t bytes = starved.code == ERROR_NONE ? json_dumpb(header, NULL, 0, JSON_COMPACT) : 0;
    *length = (bytes + 7) / 8 * 8;
    char *text = bytes ? memory_take(*length, "a safetensors header", &starved) : NULL;
    if (text && json_dumpb(header, text, bytes, JSON_COMPACT) == bytes &&
        starved.code == ERROR_NONE) {
        memset(text + bytes, ' ', *length - bytes);
        return text;
    }
    bool short_of_memory = starved.code != ERROR_NONE;
    error_set(e, "%s: its header cannot be made: %s", path,
              short_of_memory ? starved.text : "a name is not UTF-8");
    if (short_of_memory) error_no_memory(e);
    memory_free(text);
    return NULL;
}

static char *make_header(const char *path, const SafetensorsEntry *entries, size_t n,
                         const TextPair *pairs, size_t pair_count, size_t *length, uint64_t *total,
                         Error *e) {
    begin_json();
    json_t *header = json_object();
    if (pair_count > 0) {
        json_t *about = json_object();
        for (size_t i = 0; i < pair_count; i++)
            json_object_set_new(about, pairs[i].key, json_string(pairs[i].value));
        json_object_set_new(header, METADATA, about);
    }
    char *text = NULL;
    if (describe_all(header, path, entries, n, total, e) == 0) {
        bool whole = json_object_size(header) == n + (pair_count > 0);
        text = whole || starved.code != ERROR_NONE ? text_of_header(header, path, length, e) : NULL;
        if (!whole && starved.code == ERROR_NONE)
            error_set(e, "%s: its header cannot be made: a name is not UTF-8, or there twice",
                      path);
    }
    json_decref(header);
    return text;
}

struct SafetensorsWriter {
    FileWriter *file;
    uint64_t left; /* bytes that are still missing */
    char *path;
};

int safetensors_begin(SafetensorsWriter **w, const char *path, const SafetensorsEntry *entries,
                      size_t n, const TextPair *pairs, size_t pair_count, Error *e) {
    size_t length = 0, named = strlen(path) + 1;
    uint64_t total = 0;
    unsigned char prefix[8];
    *w = NULL;
    char *header = make_header(path, entries, n, pairs, pair_count, &length, &total, e);
    if (!header) return -1;
    SafetensorsWriter *made = memory_zeroed(1, sizeof *made + named, "a file's writer", e);
    int failed = made ? 0 : -1;
    if (!failed) {
        made->left = total;
        made->path = memcpy(made + 1, path, named);
        failed = file_writer_open(&made->file, path, e);
    }
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)length >> (8 * i));
    if (!failed) failed = file_writer_put(made->file, prefix, 8, e);
    if (!failed) failed = file_writer_put(made->file, header, length, e);
    memory_free(header);
    if (!failed) {
        *w = made;
        return 0;
    }
    if (made) file_writer_close(made->file, failed, e);
    memory_free(made);
    return -1;
}

int safetensors_put(SafetensorsWriter *w, const void *bytes, size_t n, Error *e) {
    if (n > w->left)
        return error_set(e, "%s: is given %zu bytes more than its tensors have", w->path,
                         (size_t)(n - w->left));
    w->left -= n;
    return file_writer_put(w->file, bytes, n, e);
}

int safetensors_end(SafetensorsWriter *w, int failed, Error *e) {
    if (!w) return failed;
    if (!failed && w->left > 0)
        failed = error_set(e, "%s: %zu bytes of its tensors are missing", w->path, (size_t)w->left);
    failed = file_writer_close(w->file, failed, e);
    memory_free(w);
    return failed;
}

static int put_tensor(SafetensorsWriter *w, const Tensor *t, unsigned char *piece, Error *e) {
    size_t bytes = tensor_bytes(t);
    int failed = 0;
    for (size_t at = 0; at < bytes && !failed; at += TENSORS_PIECE) {
        size_t m = bytes - at < TENSORS_PIECE ? bytes - at : TENSORS_PIECE;
        failed = tensors_get(t, at, piece, m, e);
        if (!failed) failed = safetensors_put(w, piece, m, e);
    }
    return failed;
}

static int write_sorted(const char *path, const NamedTensor *const *order,
                        SafetensorsEntry *entries, size_t n, const TextPair *pairs,
                        size_t pair_count, Error *e) {
    SafetensorsWriter *w;
    for (size_t i = 0; i < n; i++) {
        const Tensor *t = &order[i]->tensor;
        entries[i] = (SafetensorsEntry){order[i]->name, t->dtype, t->ndim, {0}};
        memcpy(entries[i].shape, t->shape, sizeof entries[i].shape);
    }
    unsigned char *piece = memory_take(TENSORS_PIECE, "a piece of a file", e);
    if (!piece) return -1;
    int failed = safetensors_begin(&w, path, entries, n, pairs, pair_count, e);
    for (size_t i = 0; i < n && !failed; i++) failed = put_tensor(w, &order[i]->tensor, piece, e);
    failed = safetensors_end(w, failed, e);
    memory_free(piece);
    return failed;
}

int safetensors_write(const char *path, const TensorList *list, const TextPair *pairs,
                      size_t pair_count, Error *e) {
    size_t n = list->count;
    const NamedTensor **order = memory_zeroed(n, sizeof *order, "a list of tensors", e);
    SafetensorsEntry *entries =
        order ? memory_zeroed(n, sizeof *entries, "a list of tensors", e) : NULL;
    int failed = entries ? 0 : -1;
    for (size_t i = 0; i < n && !failed; i++) order[i] = &list->items[i];
    if (n && !failed) qsort(order, n, sizeof *order, by_size_then_place);
    if (!failed) failed = write_sorted(path, order, entries, n, pairs, pair_count, e);
    memory_free(entries);
    memory_free(order);
    return failed;
}
