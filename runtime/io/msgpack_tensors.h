/* Tensors in msgpack, this project's own layout: one map
 *
 *     {"format": "advrt.tensors", "version": 1, "metadata": {text: text, ...},
 *      "tensors": {name: {"dtype": text, "shape": [n, ...], "data": binary}, ...}}
 *
 * with the keys in this order ("metadata" may be missing; keys unknown to a reader
 * are passed over). dtype is f32, f64, f16, bf16, i64, i32, i16, i8, u8 or bool;
 * data is row-major and little-endian, so of the product of the shape times the
 * bytes of the dtype, at most 4 GiB - 1, which is what a msgpack binary can hold.
 */
#ifndef ADVRT_IO_MSGPACK_TENSORS_H
#define ADVRT_IO_MSGPACK_TENSORS_H

#include "io/safetensors.h"

/* Read and write as the functions of io/safetensors.h do. */
int msgpack_tensors_read(int fd, uint64_t size, Device *d, TensorList *list, Error *e);
int msgpack_tensors_write(const char *path, const TensorList *list, const TextPair *pairs,
                          size_t pair_count, Error *e);

#endif
