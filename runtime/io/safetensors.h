/* The safetensors format: 8 bytes of header length (little-endian), a JSON header
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {..}},
 * and the data, row-major and little-endian, which the tensors fill without gaps
 * or overlaps.
 */
#ifndef ADVRT_IO_SAFETENSORS_H
#define ADVRT_IO_SAFETENSORS_H

#include "io/tensors.h"

/* What the format's own readers allow a header to have. */
#define SAFETENSORS_HEADER 100000000

/* Text about a file, as pairs of key and value. */
typedef struct TextPair {
    const char *key, *value;
} TextPair;

/* Reads the open file of `size` bytes and adds its tensors to the list. fd keeps its position.
 * On failure the list holds what was read so far. */
int safetensors_read(int fd, uint64_t size, Device *d, TensorList *list, Error *e);
/* Writes the file under its final name at once, or not at all: a list sorted by name gives the
 * same bytes for the same tensors and pairs. The tensors lie in the order of the list, those with
 * larger elements first, so that each is aligned to its elements. */
int safetensors_write(const char *path, const TensorList *list, const TextPair *pairs,
                      size_t pair_count, Error *e);

/* A file whose values come piece by piece, since they need not be in memory at once. */
typedef struct SafetensorsWriter SafetensorsWriter;

typedef struct SafetensorsEntry {
    const char *name;
    Dtype dtype;
    int ndim;
    int64_t shape[TENSOR_DIMS];
} SafetensorsEntry;

/* Starts a file of n tensors, those with larger elements first. On failure *w is NULL. */
int safetensors_begin(SafetensorsWriter **w, const char *path, const SafetensorsEntry *entries,
                      size_t n, const TextPair *pairs, size_t pair_count, Error *e);
/* Adds bytes of the tensors, which lie in the order of the entries. */
int safetensors_put(SafetensorsWriter *w, const void *bytes, size_t n, Error *e);
/* Gives the file its name where `failed` is 0 and all of its bytes have been put; else removes it
 * and returns -1. Frees w either way; NULL is allowed. */
int safetensors_end(SafetensorsWriter *w, int failed, Error *e);

#endif
