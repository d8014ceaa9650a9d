#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

/* Device memory and the number of tensors that share it. */
struct Storage {
    atomic_int shares;
    Device *device;
    void *memory;
};

int64_t tensor_count(const Tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

size_t tensor_bytes(const Tensor *t) {
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

char *shape_text(int ndim, const int64_t *shape, char text[128]) {
    size_t used = 0, room = 128;
    text[used++] = '[';
    for (int i = 0; i < ndim && used < room - 24; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%" PRId64, i ? "," : "", shape[i]);
    snprintf(text + used, room - used, "]");
    return text;
}

char *tensor_shape_text(const Tensor *t, char text[128]) {
    return shape_text(t->ndim, t->shape, text);
}

bool tensor_same_shape(const Tensor *a, const Tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

Device *tensor_device(const Tensor *t) {
    return t->storage->device;
}

int tensor_want(const char *operation, const char *name, const Tensor *t, Dtype type,
                const Tensor *like, Error *e) {
    if (!t->storage) return error_set(e, "%s: %s is an emptied tensor", operation, name);
    if (t->dtype != type)
        return error_set(e, "%s: %s must be %s, got %s", operation, name, dtype_name(type),
                         dtype_name(t->dtype));
    if (tensor_device(t) != tensor_device(like))
        return error_set(e, "%s: %s is on device %s, the others on %s", operation, name,
                         tensor_device(t)->name, tensor_device(like)->name);
    return 0;
}

/* Checks an untrusted shape and computes its bytes. */
static int shape_bytes(Dtype t, int ndim, const int64_t *shape, size_t *bytes, Error *e) {
    char text[128];
    if (ndim < 0 || ndim > TENSOR_DIMS)
        return error_set(e, "a tensor has at most %d dimensions, got %d", TENSOR_DIMS, ndim);
    size_t all = dtype_size(t);
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0)
            return error_set(e, "a tensor of shape %s has a negative size",
                             shape_text(ndim, shape, text));
    bool fits = true, empty = false;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] == 0) empty = true;
        /* Skip zeros, so that an overflow is found whether the zero comes before or after it. Later
         * code may multiply the dimensions in any order. */
        if (shape[i] != 0 && size_mul(all, (size_t)shape[i], &all) != 0) fits = false;
    }
    if (!fits || all > (size_t)INT64_MAX)
        return error_set(e, "a tensor of shape %s is too large", shape_text(ndim, shape, text));
    *bytes = empty ? 0 : all;
    return 0;
}

int tensor_new(Tensor *out, Device *d, Dtype t, int ndim, const int64_t *shape, Error *e) {
    *out = (Tensor){0};
    size_t bytes;
    if (shape_bytes(t, ndim, shape, &bytes, e) != 0) return -1;
    Storage *s = memory_take(sizeof *s, "tensor", e);
    if (!s) return -1;
    *s = (Storage){.device = d};
    atomic_init(&s->shares, 1);
    if (d->take(d, bytes, "tensor", &s->memory, e) != 0) {
        memory_free(s);
        return -1;
    }
    *out = (Tensor){.storage = s, .data = s->memory, .dtype = t, .ndim = ndim};
    for (int i = 0; i < ndim; i++) out->shape[i] = shape[i];
    return 0;
}

typedef double Draw(uint64_t key, uint64_t i);

static int draw(Tensor *out, Device *d, Draw *number, uint64_t key, int ndim, const int64_t *shape,
                Error *e) {
    enum { BLOCK = 4096 };
    float block[BLOCK];
    if (tensor_new(out, d, DTYPE_F32, ndim, shape, e) != 0) return -1;
    int64_t n = tensor_count(out);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        for (int64_t j = 0; j < m; j++) block[j] = (float)number(key, (uint64_t)(i + j));
        if (d->copy_in(d, (float *)out->data + i, block, (size_t)m * sizeof *block, e) != 0) {
            tensor_free(out);
            return -1;
        }
    }
    return 0;
}

static double standard_normal(uint64_t key, uint64_t i) {
    return random_normal(key, i, 1);
}

int tensor_uniform(Tensor *out, Device *d, uint64_t key, int ndim, const int64_t *shape, Error *e) {
    return draw(out, d, random_uniform, key, ndim, shape, e);
}

int tensor_normal(Tensor *out, Device *d, uint64_t key, int ndim, const int64_t *shape, Error *e) {
    return draw(out, d, standard_normal, key, ndim, shape, e);
}

Tensor tensor_share(const Tensor *t) {
    if (t->storage) atomic_fetch_add_explicit(&t->storage->shares, 1, memory_order_relaxed);
    return *t;
}

int tensor_reshape(Tensor *out, const Tensor *t, int ndim, const int64_t *shape, Error *e) {
    size_t bytes;
    char from[128], to[128];
    if (shape_bytes(t->dtype, ndim, shape, &bytes, e) != 0) return -1;
    if (bytes != tensor_bytes(t))
        return error_set(e, "%s cannot be reshaped to %s: the numbers of elements differ",
                         tensor_shape_text(t, from), shape_text(ndim, shape, to));
    Tensor view = tensor_share(t);
    view.ndim = ndim;
    for (int i = 0; i < ndim; i++) view.shape[i] = shape[i];
    *out = view;
    return 0;
}

int tensor_narrow(Tensor *out, const Tensor *t, int64_t first, int64_t n, Error *e) {
    char text[128];
    if (t->ndim == 0) return error_set(e, "a tensor without dimensions has no rows to narrow");
    if (first < 0 || n < 0 || first > t->shape[0] || n > t->shape[0] - first)
        return error_set(e,
                         "%" PRId64 " rows from row %" PRId64 " (counted from 0) are not all in %s",
                         n, first, tensor_shape_text(t, text));
    Tensor view = tensor_share(t);
    size_t row = t->shape[0] ? tensor_bytes(t) / (size_t)t->shape[0] : 0;
    view.data = (char *)t->data + row * (size_t)first;
    view.shape[0] = n;
    *out = view;
    return 0;
}

void tensor_free(Tensor *t) {
    Storage *s = t->storage;
    *t = (Tensor){0};
    if (!s || atomic_fetch_sub_explicit(&s->shares, 1, memory_order_acq_rel) != 1) return;
    s->device->release(s->device, s->memory);
    memory_free(s);
}

int tensor_copy(const Tensor *to, const Tensor *from, Error *e) {
    char a[128], b[128];
    if (to->dtype != from->dtype || tensor_count(to) != tensor_count(from))
        return error_set(e, "copy: wanted %s %s, got %s %s", dtype_name(to->dtype),
                         tensor_shape_text(to, a), dtype_name(from->dtype),
                         tensor_shape_text(from, b));
    Device *d = tensor_device(to), *source = tensor_device(from);
    if (d == source) return d->copy(d, to->data, from->data, tensor_bytes(to), e);
    void *host = memory_take(tensor_bytes(to), "copy between devices", e);
    if (!host) return -1;
    int failed = tensor_to_host(from, host, e) || tensor_from_host(to, host, e);
    memory_free(host);
    return failed ? -1 : 0;
}

int tensor_to_host(const Tensor *t, void *host, Error *e) {
    Device *d = tensor_device(t);
    return d->copy_out(d, host, t->data, tensor_bytes(t), e);
}

int tensor_from_host(const Tensor *t, const void *host, Error *e) {
    Device *d = tensor_device(t);
    return d->copy_in(d, t->data, host, tensor_bytes(t), e);
}

int tensor_convert(Tensor *out, const Tensor *t, Dtype type, Error *e) {
    enum { BLOCK = 1024 };
    double in[BLOCK], converted[BLOCK]; /* blocks of the widest type */
    Device *d = tensor_device(t);
    size_t from_size = dtype_size(t->dtype), to_size = dtype_size(type);
    if (tensor_new(out, d, type, t->ndim, t->shape, e) != 0) return -1;
    int64_t n = tensor_count(t);
    for (int64_t i = 0; i < n; i += BLOCK) {
        size_t m = (size_t)(n - i < BLOCK ? n - i : BLOCK);
        const char *from = (const char *)t->data + (size_t)i * from_size;
        char *to = (char *)out->data + (size_t)i * to_size;
        int failed = d->copy_out(d, in, from, m * from_size, e);
        if (!failed) {
            dtype_convert(type, converted, t->dtype, in, (int64_t)m);
            failed = d->copy_in(d, to, converted, m * to_size, e);
        }
        if (failed) {
            tensor_free(out);
            return -1;
        }
    }
    return 0;
}

/* Copies elements of `width` bytes in the order of out's indices. steps[d] is the stride in `from`,
 * in elements, of dimension d of out. */
static void copy_strided(const Tensor *out, const int64_t *steps, size_t width, char *to,
                         const char *from) {
    int64_t index[TENSOR_DIMS] = {0}, at = 0;
    for (int64_t n = tensor_count(out); n > 0; n--) {
        memcpy(to, from + (size_t)at * width, width);
        to += width;
        for (int d = out->ndim; d-- > 0;) {
            at += steps[d];
            if (++index[d] < out->shape[d]) break;
            at -= steps[d] * out->shape[d];
            index[d] = 0;
        }
    }
}

int tensor_permute(Tensor *out, const Tensor *t, const int *perm, Error *e) {
    int64_t shape[TENSOR_DIMS], strides[TENSOR_DIMS], steps[TENSOR_DIMS], step = 1;
    for (int d = t->ndim; d-- > 0; step *= t->shape[d]) strides[d] = step;
    for (int d = 0; d < t->ndim; d++) shape[d] = t->shape[perm[d]], steps[d] = strides[perm[d]];
    if (tensor_new(out, tensor_device(t), t->dtype, t->ndim, shape, e) != 0) return -1;
    size_t bytes = tensor_bytes(t);
    char *from = memory_take(bytes, "a tensor on the host", e);
    char *to = from ? memory_take(bytes, "a tensor on the host", e) : NULL;
    int failed = !to || tensor_to_host(t, from, e) != 0;
    if (!failed) {
        copy_strided(out, steps, dtype_size(t->dtype), to, from);
        failed = tensor_from_host(out, to, e) != 0;
    }
    memory_free(from);
    memory_free(to);
    if (failed) tensor_free(out);
    return failed ? -1 : 0;
}
