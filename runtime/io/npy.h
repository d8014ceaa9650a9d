/* NumPy's array format (.npy): a magic text and a version, the length of a header, the header, and
 * the values.
 *
 * The header is a Python dictionary of three entries, descr, fortran_order and shape. It is parsed
 * strictly, and nothing is executed. Arrays of bool, of integers and of floats of 16, 32 and 64
 * bits are read, in either byte order and in C's or Fortran's order of dimensions. Unsigned
 * integers of 16 and 32 bits become i32 and i64; those of 64 bits must fit an i64. Python objects,
 * texts, records, complex numbers and times are refused by name.
 */
#ifndef ADVRT_IO_NPY_H
#define ADVRT_IO_NPY_H

#include "tensor/tensor.h"

/* Where the bytes of an array come from. */
typedef struct NpySource {
    void *context;
    /* The next n bytes, all of them. */
    int (*read)(void *context, void *out, size_t n, Error *e);
    uint64_t size; /* bytes that there are */
} NpySource;

/* Reads an array on device d. All bytes of the source must be the array's. The values take no more
 * memory than the source promises bytes, or for unsigned integers and Fortran's order twice as
 * much. On failure *out is empty; the message has no path. */
int npy_read(const NpySource *s, Device *d, Tensor *out, Error *e);

#endif
