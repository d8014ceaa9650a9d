/* Files of arrays that are data: one array of NumPy's (.npy), several in a zip archive (.npz), and
 * safetensors, told apart by what they hold. Nothing in a file is trusted, and nothing is executed.
 */
#ifndef ADVRT_IO_ARRAYS_H
#define ADVRT_IO_ARRAYS_H

#include "io/tensors.h"

/* Reads the arrays of these names into *out on device d, in their order. A .npy holds one array,
 * which stands for the first name: the list then has it alone. Entries of an .npz are stored or
 * packed by deflate; a packed one holds at most ARRAYS_PACKED bytes. A file without one of the
 * names is refused with what it holds. On failure *out is empty and the message starts with the
 * path. */
#define ARRAYS_PACKED ((uint64_t)1 << 32)
int arrays_load(const char *path, const char *const *names, size_t count, Device *d,
                TensorList *out, Error *e);

#endif
