/* The contents of a weight file: a list of named tensors. Also copies bytes between files and
 * tensors on any device, one piece at a time.
 *
 * Names are NUL-terminated UTF-8. The list owns the names and the tensors. A zeroed TensorList is
 * empty.
 */
#ifndef ADVRT_IO_TENSORS_H
#define ADVRT_IO_TENSORS_H

#include "tensor/tensor.h"

/* Bytes that are copied between a file and a tensor at a time. */
enum { TENSORS_PIECE = 1 << 18 };

typedef struct NamedTensor {
    char *name;
    Tensor tensor;
} NamedTensor;

typedef struct TensorList {
    NamedTensor *items;
    size_t count, capacity;
} TensorList;

/* Adds a tensor under a name of `length` bytes without NUL. On success the list owns *t, which
 * becomes empty; on failure the caller still owns it. */
int tensors_add(TensorList *list, const char *name, size_t length, Tensor *t, Error *e);
/* The tensor with a name; NULL if there is none. */
const Tensor *tensors_find(const TensorList *list, const char *name);
/* Sorts by name, bytewise; fails if two names are equal. */
int tensors_sort(TensorList *list, Error *e);
/* Frees the names and tensors and leaves the list empty. */
void tensors_free(TensorList *list);

/* The bytes of a tensor whose shape comes from a file. Negative sizes and overflow are errors. */
int tensors_bytes_of(Dtype t, int ndim, const int64_t *shape, size_t *bytes, Error *e);

/* Copies n > 0 bytes from the host to the tensor's data at byte `offset`, or back. The range must
 * lie inside the tensor. Booleans become 0 or 1 in `host`, even if the file has other bytes. */
int tensors_put(const Tensor *t, size_t offset, void *host, size_t n, Error *e);
int tensors_get(const Tensor *t, size_t offset, void *host, size_t n, Error *e);

#endif
