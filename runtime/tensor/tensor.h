/* Tensors: a shape and an element type over shared device memory, and the
 * checked front door to a device's operations.
 *
 * A tensor is always contiguous in row-major order. Views (reshape, narrow) share
 * the storage of what they were made from; the storage lives until its last
 * tensor is freed. The header is a plain struct held by value: tensor_free gives
 * its share of the storage back and leaves it empty.
 *
 * Not here: strides, type promotion.
 */
#ifndef ADVRT_TENSOR_TENSOR_H
#define ADVRT_TENSOR_TENSOR_H

#include "device/device.h"
#include "device/dtype.h"

enum { TENSOR_DIMS = DEVICE_DIMS };

typedef struct Storage Storage;

typedef struct Tensor {
    Storage *storage; /* NULL: empty, holds nothing */
    void *data;       /* device memory of the first element */
    Dtype dtype;
    int ndim; /* 0: one number */
    int64_t shape[TENSOR_DIMS];
} Tensor;

/* Number of elements; bytes. A made tensor's are known to fit. */
int64_t tensor_count(const Tensor *t);
size_t tensor_bytes(const Tensor *t);
/* Writes "[2,3,224,224]" to text and returns it. */
char *tensor_shape_text(const Tensor *t, char text[128]);
char *shape_text(int ndim, const int64_t *shape, char text[128]);
bool tensor_same_shape(const Tensor *a, const Tensor *b);
Device *tensor_device(const Tensor *t);
/* Fails, naming the operation and what the tensor is to it, unless t holds elements of the type on
 * the device of `like`. */
int tensor_want(const char *operation, const char *name, const Tensor *t, Dtype type,
                const Tensor *like, Error *e);

/* Makes an uninitialised tensor. Fails on more than TENSOR_DIMS dimensions, a
 * negative size, a product that overflows, and when memory runs out. On failure
 * *out is empty. */
int tensor_new(Tensor *out, Device *d, Dtype t, int ndim, const int64_t *shape, Error *e);
/* u(name, i) of base/random.h, f32; key is the hash of the name. normal: mean 0, deviation 1. */
int tensor_uniform(Tensor *out, Device *d, uint64_t key, int ndim, const int64_t *shape, Error *e);
int tensor_normal(Tensor *out, Device *d, uint64_t key, int ndim, const int64_t *shape, Error *e);
/* A second tensor on the same storage. */
Tensor tensor_share(const Tensor *t);
/* Views: the same elements in another shape; rows first .. first+n-1 of dimension 0. */
int tensor_reshape(Tensor *out, const Tensor *t, int ndim, const int64_t *shape, Error *e);
int tensor_narrow(Tensor *out, const Tensor *t, int64_t first, int64_t n, Error *e);
/* A new tensor of the same elements with the dimensions in another order: dimension d of it is
 * dimension perm[d] of t. perm must hold each of 0 .. ndim-1 once. Goes through host memory. */
int tensor_permute(Tensor *out, const Tensor *t, const int *perm, Error *e);
void tensor_free(Tensor *t);

/* Copies between tensors of one type and element count. */
int tensor_copy(const Tensor *to, const Tensor *from, Error *e);
/* Copies all elements to or from host memory of tensor_bytes(t). */
int tensor_to_host(const Tensor *t, void *host, Error *e);
int tensor_from_host(const Tensor *t, const void *host, Error *e);
/* A new tensor of the same shape and another type, each value rounded to nearest
 * even; integers are truncated towards zero and saturate, NaN becomes 0. */
int tensor_convert(Tensor *out, const Tensor *t, Dtype type, Error *e);

#endif
