/* Element types: their size and name, and conversion between host arrays. */
#ifndef ADVRT_DEVICE_DTYPE_H
#define ADVRT_DEVICE_DTYPE_H

#include "device/device.h"

/* Bytes of one element; short name ("f32"); the type with a name, -1 if there is none. */
size_t dtype_size(Dtype t);
const char *dtype_name(Dtype t);
int dtype_of(const char *name, Dtype *out);
/* Converts n elements between host arrays. Floating point is rounded to nearest even. Conversion to
 * an integer truncates towards zero and saturates; NaN becomes 0. */
void dtype_convert(Dtype to, void *out, Dtype from, const void *in, int64_t n);

#endif
