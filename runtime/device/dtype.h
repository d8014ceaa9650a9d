/* Element types: their facts, and conversion between host arrays. */
#ifndef ADVRT_DEVICE_DTYPE_H
#define ADVRT_DEVICE_DTYPE_H

#include "device/device.h"

/* Facts about element types: bytes of one, short name ("f32"), and the type of a
 * name, -1 where there is none such. */
size_t dtype_size(Dtype t);
const char *dtype_name(Dtype t);
int dtype_of(const char *name, Dtype *out);
/* Converts n elements between host arrays, each rounded to nearest even; integers are truncated
 * towards zero and saturate, NaN becomes 0. */
void dtype_convert(Dtype to, void *out, Dtype from, const void *in, int64_t n);

#endif
