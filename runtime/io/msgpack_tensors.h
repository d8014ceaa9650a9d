/* Tensors in msgpack, this project's own layout: one map
 *
 *     {"format": "advrt.tensors", "version": 1, "metadata": {text: text, ...},
 *      "tensors": {name: {"dtype": text, "shape": [n, ...], "data": binary}, ...}}
 *
 * with the keys in this order. "metadata" is optional; a reader skips unknown keys. dtype is f32,
 * f64, f16, bf16, i64, i32, i16, i8, u8 or bool. data is row-major and little-endian, with the
 * bytes of the dtype times the product of the shape. msgpack limits data to 4 GiB - 1.
 */
#ifndef ADVRT_IO_MSGPACK_TENSORS_H
#define ADVRT_IO_MSGPACK_TENSORS_H

#include "io/safetensors.h"

/* Reading and writing work as in io/safetensors.h. */
int msgpack_tensors_read(int fd, uint64_t size, Device *d, TensorList *list, Error *e);
int msgpack_tensors_write(const char *path, const TensorList *list, const TextPair *pairs,
                          size_t pair_count, Error *e);

#endif
