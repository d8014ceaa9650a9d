/* NumPy's array format (.npy): a magic text and a version, the length of a header, the header, and
 * the values.
 *
 * The header is a Python dictionary with three entries: descr, fortran_order and shape. A strict
 * parser reads it; nothing is executed. Supported: bool, integers, and floats of 16, 32 and 64
 * bits, in either byte order, in C or Fortran order. Unsigned integers of 16 and 32 bits become i32
 * and i64; 64-bit ones must fit an i64. Python objects, strings, records, complex numbers and times
 * are errors that name the type.
 */
#ifndef ADVRT_IO_NPY_H
#define ADVRT_IO_NPY_H

#include "tensor/tensor.h"

/* The source of an array's bytes. */
typedef struct NpySource {
    void *context;
    /* Reads exactly n bytes. */
    int (*read)(void *context, void *out, size_t n, Error *e);
    uint64_t size; /* total number of bytes */
} NpySource;

/* Reads an array on device d. The array must use all bytes of the source. The values take at most
 * as much memory as the source has bytes; unsigned integers and Fortran order take twice as much.
 * On failure *out is empty; the message has no path. */
int npy_read(const NpySource *s, Device *d, Tensor *out, Error *e);

#endif
