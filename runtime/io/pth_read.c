#include "io/pth_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Tensors may share elements, such as tied weights. So together they may be larger than the file,
 * within these limits. */
enum { REPEATS = 4, REPEATS_SMALL = 16 << 20 };

typedef struct View {
    const PthEntry *entry;
    PthStorage *storage;
    size_t item;  /* index in the list */
    size_t first; /* first byte in the storage, for a contiguous view */
    size_t bytes;
    bool contiguous;
} View;

static bool is_contiguous(const PthTensor *t) {
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != stride) return false;
        stride *= t->shape[i];
    }
    return true;
}

static int by_storage(const void *a, const void *b) {
    const View *v = a, *w = b;
    if (v->storage != w->storage) return strcmp(v->storage->key, w->storage->key);
    return (v->first > w->first) - (v->first < w->first);
}

static int describe(const PthObjects *o, const PthEntries *entries, uint64_t file_size, View *views,
                    Error *e) {
    size_t total = 0;
    for (size_t i = 0; i < entries->tensors; i++) {
        const PthTensor *t = entries->items[i].tensor;
        View *v = &views[i];
        *v = (View){.entry = &entries->items[i], .storage = pth_find_storage(o, t->storage->key)};
        if (tensors_bytes_of(v->storage->dtype, t->ndim, t->shape, &v->bytes, e) != 0)
            return error_prefix(e, "tensor '%s'", entries->items[i].name);
        v->contiguous = v->bytes == 0 || is_contiguous(t);
        v->first = (size_t)t->offset * dtype_size(v->storage->dtype);
        total +=
            v->bytes; /* no overflow: each tensor, and the sum so far, has less than 2^63 bytes */
        if (total > REPEATS_SMALL && (total - REPEATS_SMALL) / REPEATS > file_size)
            return error_set(e, "its tensors would take far more than the %llu bytes of the file",
                             (unsigned long long)file_size);
    }
    qsort(views, entries->tensors, sizeof *views, by_storage);
    return 0;
}

/* Gathers a strided view, in row-major order, from the whole storage. */
static int gather(const View *v, const unsigned char *storage, unsigned char *piece,
                  const Tensor *to, Error *e) {
    const PthTensor *t = v->entry->tensor;
    size_t size = dtype_size(v->storage->dtype), filled = 0, done = 0;
    int64_t index[TENSOR_DIMS] = {0}, at = t->offset, n = tensor_count(to);
    for (int64_t k = 0; k < n; k++) {
        memcpy(piece + filled, storage + (size_t)at * size, size);
        filled += size;
        if (filled == TENSORS_PIECE || k == n - 1) {
            if (tensors_put(to, done, piece, filled, e) != 0) return -1;
            done += filled;
            filled = 0;
        }
        for (int i = t->ndim - 1; i >= 0; i--) {
            at += t->stride[i];
            if (++index[i] < t->shape[i]) break;
            at -= t->stride[i] * t->shape[i];
            index[i] = 0;
        }
    }
    return 0;
}

/* Copies to a contiguous view its part of the storage's bytes first .. first+n-1. */
static int hand(const View *v, TensorList *list, size_t first, unsigned char *bytes, size_t n,
                Error *e) {
    size_t low = v->first > first ? v->first : first;
    size_t high = v->first + v->bytes < first + n ? v->first + v->bytes : first + n;
    if (!v->contiguous || low >= high) return 0;
    return tensors_put(&list->items[v->item].tensor, low - v->first, bytes + (low - first),
                       high - low, e);
}

static int read_whole(const View *views, size_t count, const PthSource *source, size_t bytes,
                      unsigned char *piece, TensorList *list, Error *e) {
    unsigned char *storage = memory_take(bytes, "a storage", e);
    if (!storage) return -1;
    int failed = source->read(source->context, storage, bytes, e);
    for (size_t i = 0; i < count && !failed; i++)
        if (views[i].contiguous)
            failed = hand(&views[i], list, 0, storage, bytes, e);
        else
            failed = gather(&views[i], storage, piece, &list->items[views[i].item].tensor, e);
    memory_free(storage);
    return failed;
}

/* Views are sorted by their first byte. `open` views have begun and not ended at the present piece,
 * so that each piece is compared only with those. */
static int read_pieces(const View *views, size_t count, const PthSource *source, size_t bytes,
                       unsigned char *piece, TensorList *list, Error *e) {
    const View **open = memory_zeroed(count, sizeof(const View *), "a list of tensors", e);
    size_t opened = 0, next = 0;
    int failed = open ? 0 : -1;
    for (size_t at = 0, n; at < bytes && !failed; at += n) {
        n = bytes - at < TENSORS_PIECE ? bytes - at : TENSORS_PIECE;
        failed = source->read(source->context, piece, n, e);
        while (next < count && views[next].first < at + n) open[opened++] = &views[next++];
        size_t kept = 0;
        for (size_t i = 0; i < opened && !failed; i++) {
            failed = hand(open[i], list, at, piece, n, e);
            if (open[i]->first + open[i]->bytes > at + n) open[kept++] = open[i];
        }
        opened = kept;
    }
    memory_free(open);
    return failed;
}

/* Makes and fills the tensors of one storage. */
static int read_storage(View *views, size_t count, const PthSource *source, Device *d,
                        unsigned char *piece, TensorList *list, Error *e) {
    const PthStorage *s = views[0].storage;
    size_t bytes, needed = 0;
    bool strided = false;
    if (size_mul((size_t)s->elements, dtype_size(s->dtype), &bytes) != 0)
        return error_set(e, "storage '%s' has more bytes than can be counted", s->key);
    if (source->open(source->context, s, bytes, e) != 0) return -1;
    int failed = 0;
    for (size_t i = 0; i < count && !failed; i++) {
        const PthTensor *t = views[i].entry->tensor;
        const char *name = views[i].entry->name;
        Tensor made;
        failed = tensor_new(&made, d, s->dtype, t->ndim, t->shape, e);
        if (!failed && (failed = tensors_add(list, name, strlen(name), &made, e)) != 0)
            tensor_free(&made);
        views[i].item = list->count - 1;
        needed += views[i].bytes;
        strided |= !views[i].contiguous;
    }
    if (!failed && needed > 0)
        failed = (strided ? read_whole : read_pieces)(views, count, source, bytes, piece, list, e);
    source->close(source->context);
    return failed;
}

int pth_read_tensors(const PthObjects *o, const PthEntries *entries, const PthSource *source,
                     uint64_t file_size, Device *d, TensorList *list, Error *e) {
    size_t count = entries->tensors;
    View *views = memory_zeroed(count, sizeof *views, "a list of tensors", e);
    unsigned char *piece = memory_take(TENSORS_PIECE, "a piece of a file", e);
    int failed = !views || !piece ? -1 : describe(o, entries, file_size, views, e);
    for (size_t i = 0, n; i < count && !failed; i += n) {
        for (n = 1; i + n < count && views[i + n].storage == views[i].storage;) n++;
        failed = read_storage(views + i, n, source, d, piece, list, e);
    }
    memory_free(views);
    memory_free(piece);
    return failed;
}
