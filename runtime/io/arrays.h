/* Files of arrays that hold data: a NumPy array (.npy), several in a zip archive (.npz), or
 * safetensors. The contents decide the format. Nothing in a file is trusted or executed.
 */
#ifndef ADVRT_IO_ARRAYS_H
#define ADVRT_IO_ARRAYS_H

#include "io/tensors.h"

/* Reads the arrays of these names into *out on device d, in the order given. A .npy holds one
 * array: it gets the first name, and the list holds nothing else. Entries of an .npz are stored or
 * compressed by deflate; a compressed one holds at most ARRAYS_PACKED bytes. A missing name is an
 * error that lists the file's names. On failure *out is empty and the message starts with the path.
 */
#define ARRAYS_PACKED ((uint64_t)1 << 32)
int arrays_load(const char *path, const char *const *names, size_t count, Device *d,
                TensorList *out, Error *e);

#endif
