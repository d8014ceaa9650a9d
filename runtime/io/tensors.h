/* What a weight file holds: a list of named tensors, and the movement of bytes
 * between files and tensors on any device, a piece at a time.
 *
 * Names are NUL-terminated UTF-8 and belong to the list, as the tensors do. A
 * zeroed TensorList is an empty one.
 */
#ifndef ADVRT_IO_TENSORS_H
#define ADVRT_IO_TENSORS_H

#include "tensor/tensor.h"

/* Bytes that go between a file and a tensor at once. */
enum { TENSORS_PIECE = 1 << 18 };

typedef struct NamedTensor {
    char *name;
    Tensor tensor;
} NamedTensor;

typedef struct TensorList {
    NamedTensor *items;
    size_t count, capacity;
} TensorList;

/* Adds a tensor under a name of `length` bytes, which must hold no NUL. On success the list owns
 * *t, which is left empty; on failure the caller still does. */
int tensors_add(TensorList *list, const char *name, size_t length, Tensor *t, Error *e);
/* The tensor of a name, NULL where there is none. */
const Tensor *tensors_find(const TensorList *list, const char *name);
/* Sorts by name, bytewise; fails where two names are equal. */
int tensors_sort(TensorList *list, Error *e);
/* Frees names and tensors and leaves the list empty. */
void tensors_free(TensorList *list);

/* Bytes of a tensor of this shape, the shape coming from a file: refuses negative sizes and
 * products that cannot be counted. */
int tensors_bytes_of(Dtype t, int ndim, const int64_t *shape, size_t *bytes, Error *e);

/* Copies n > 0 host bytes into the tensor's data at byte `offset`, or out of it. The range must lie
 * inside the tensor. Booleans become 0 or 1 in `host`, whatever the file says. */
int tensors_put(const Tensor *t, size_t offset, void *host, size_t n, Error *e);
int tensors_get(const Tensor *t, size_t offset, void *host, size_t n, Error *e);

#endif
