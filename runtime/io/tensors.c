#include "io/tensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static int list_grow(TensorList *list, Error *e) {
    size_t capacity = list->capacity ? 2 * list->capacity : 16;
    NamedTensor *items = memory_zeroed(capacity, sizeof *items, "a list of tensors", e);
    if (!items) return -1;
    if (list->count) memcpy(items, list->items, list->count * sizeof *items);
    memory_free(list->items);
    list->items = items;
    list->capacity = capacity;
    return 0;
}

int tensors_add(TensorList *list, const char *name, size_t length, Tensor *t, Error *e) {
    if (memchr(name, 0, length)) return error_set(e, "a tensor's name holds a NUL byte");
    if (list->count == list->capacity && list_grow(list, e) != 0) return -1;
    char *copy = memory_take(length + 1, "a tensor's name", e);
    if (!copy) return -1;
    memcpy(copy, name, length);
    copy[length] = 0;
    list->items[list->count++] = (NamedTensor){copy, *t};
    *t = (Tensor){0};
    return 0;
}

const Tensor *tensors_find(const TensorList *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0) return &list->items[i].tensor;
    return NULL;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const NamedTensor *)a)->name, ((const NamedTensor *)b)->name);
}

int tensors_sort(TensorList *list, Error *e) {
    if (list->count) qsort(list->items, list->count, sizeof *list->items, by_name);
    for (size_t i = 1; i < list->count; i++)
        if (by_name(&list->items[i - 1], &list->items[i]) == 0)
            return error_set(e, "holds a tensor '%s' twice", list->items[i].name);
    return 0;
}

void tensors_free(TensorList *list) {
    for (size_t i = 0; i < list->count; i++) {
        memory_free(list->items[i].name);
        tensor_free(&list->items[i].tensor);
    }
    memory_free(list->items);
    *list = (TensorList){0};
}

int tensors_bytes_of(Dtype t, int ndim, const int64_t *shape, size_t *bytes, Error *e) {
    char text[128];
    size_t total = dtype_size(t);
    int empty = 0;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return error_set(e, "has a negative size in its shape %s",
                             shape_text(ndim, shape, text));
        if (shape[i] == 0) {
            empty = 1;
        } else if (size_mul(total, (size_t)shape[i], &total) != 0 || total > INT64_MAX) {
            return error_set(e, "has a shape %s of more bytes than can be counted",
                             shape_text(ndim, shape, text));
        }
    }
    *bytes = empty ? 0 : total;
    return 0;
}

int tensors_put(const Tensor *t, size_t offset, void *host, size_t n, Error *e) {
    if (t->dtype == DTYPE_BOOL) {
        unsigned char *flags = host;
        for (size_t i = 0; i < n; i++) flags[i] = flags[i] != 0;
    }
    Device *d = tensor_device(t);
    return d->copy_in(d, (char *)t->data + offset, host, n, e);
}

int tensors_get(const Tensor *t, size_t offset, void *host, size_t n, Error *e) {
    Device *d = tensor_device(t);
    return d->copy_out(d, host, (const char *)t->data + offset, n, e);
}
