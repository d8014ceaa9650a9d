/* Tensors: a shape and an element type over shared device memory. Functions on tensors check
 * their arguments before they call the device.
 *
 * A tensor is always contiguous in row-major order. A view (reshape, narrow) shares the storage of
 * its tensor. The storage lives until its last tensor is freed. The header is a plain struct held
 * by value; tensor_free releases its reference to the storage and leaves the header empty.
 *
 * Out of scope: strides, type promotion.
 */
#ifndef ADVRT_TENSOR_TENSOR_H
#define ADVRT_TENSOR_TENSOR_H

#include "device/device.h"
#include "device/dtype.h"

enum { TENSOR_DIMS = DEVICE_DIMS };

typedef struct Storage Storage;

typedef struct Tensor {
    Storage *storage; /* NULL: an empty tensor */
    void *data;       /* device address of the first element */
    Dtype dtype;
    int ndim; /* 0: a scalar */
    int64_t shape[TENSOR_DIMS];
} Tensor;

/* Number of elements; number of bytes. For an existing tensor neither overflows. */
int64_t tensor_count(const Tensor *t);
size_t tensor_bytes(const Tensor *t);
/* Writes "[2,3,224,224]" to text and returns it. */
char *tensor_shape_text(const Tensor *t, char text[128]);
char *shape_text(int ndim, const int64_t *shape, char text[128]);
bool tensor_same_shape(const Tensor *a, const Tensor *b);
Device *tensor_device(const Tensor *t);
/* Fails unless t has this element type and is on the device of `like`. The message gives the
 * operation and t's role in it. */
int tensor_want(const char *operation, const char *name, const Tensor *t, Dtype type,
                const Tensor *like, Error *e);

/* Makes an uninitialised tensor. Fails on more than TENSOR_DIMS dimensions, a negative size, a size
 * overflow, or lack of memory. On failure *out is empty. */
int tensor_new(Tensor *out, Device *d, Dtype t, int ndim, const int64_t *shape, Error *e);
/* Random f32 numbers: u(name, i) of base/random.h; key is the hash of the name. tensor_normal: mean
 * 0, standard deviation 1. */
int tensor_uniform(Tensor *out, Device *d, uint64_t key, int ndim, const int64_t *shape, Error *e);
int tensor_normal(Tensor *out, Device *d, uint64_t key, int ndim, const int64_t *shape, Error *e);
/* A second tensor header on the same storage. */
Tensor tensor_share(const Tensor *t);
/* Views: the same elements in another shape; rows first .. first+n-1 of dimension 0. */
int tensor_reshape(Tensor *out, const Tensor *t, int ndim, const int64_t *shape, Error *e);
int tensor_narrow(Tensor *out, const Tensor *t, int64_t first, int64_t n, Error *e);
/* A new tensor with permuted dimensions: its dimension d is dimension perm[d] of t. perm must hold
 * each of 0 .. ndim-1 once. Copies through host memory. */
int tensor_permute(Tensor *out, const Tensor *t, const int *perm, Error *e);
void tensor_free(Tensor *t);

/* Copies between tensors of equal type and element count. */
int tensor_copy(const Tensor *to, const Tensor *from, Error *e);
/* Copies all elements to or from host memory of tensor_bytes(t) bytes. */
int tensor_to_host(const Tensor *t, void *host, Error *e);
int tensor_from_host(const Tensor *t, const void *host, Error *e);
/* A new tensor of the same shape and another type. Values are rounded to nearest even. Conversion
 * to an integer truncates towards zero and saturates; NaN becomes 0. */
int tensor_convert(Tensor *out, const Tensor *t, Dtype type, Error *e);

#endif
