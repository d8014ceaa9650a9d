/* The one door to weight files of every format: safetensors, PyTorch's .pth (zip
 * and legacy) and msgpack, told apart by what they hold, never by their names.
 * Nothing in a file is trusted, and nothing is executed.
 */
#ifndef ADVRT_IO_WEIGHTS_H
#define ADVRT_IO_WEIGHTS_H

#include "io/safetensors.h"

/* Reads every tensor of a file into *out, sorted by name, on device d. On failure *out is empty
 * and the message starts with the path. Refused at once: what is no regular file, an empty one,
 * text, and every format but these. */
int weights_load(const char *path, Device *d, TensorList *out, Error *e);
/* Writes safetensors or msgpack, as the path's suffix (.safetensors, .msgpack) says, whole or not
 * at all. Sorts the list; two tensors of one name are refused. pairs, text about the file, may be
 * NULL where pair_count is 0. */
int weights_save(const char *path, TensorList *list, const TextPair *pairs, size_t pair_count,
                 Error *e);

#endif
