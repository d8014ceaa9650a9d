/* The safetensors format: 8 bytes of header length (little-endian), a JSON header {"name":
 * {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {..}}, and the data, row-major
 * and little-endian. The tensors fill the data without gaps or overlaps.
 */
#ifndef ADVRT_IO_SAFETENSORS_H
#define ADVRT_IO_SAFETENSORS_H

#include "io/tensors.h"

/* The longest header that the format's own readers accept, in bytes. */
#define SAFETENSORS_HEADER 100000000

/* Text about a file, as a pair of key and value. */
typedef struct TextPair {
    const char *key, *value;
} TextPair;

/* Reads the open file of `size` bytes and adds its tensors to the list. fd keeps its position. On
 * failure the list holds the tensors read so far. */
int safetensors_read(int fd, uint64_t size, Device *d, TensorList *list, Error *e);
/* Writes the file atomically. A list sorted by name gives equal bytes for equal tensors and pairs.
 * The file stores the tensors in the order of the list; those with larger elements must come first,
 * so that all are aligned. */
int safetensors_write(const char *path, const TensorList *list, const TextPair *pairs,
                      size_t pair_count, Error *e);

/* A writer for values that arrive piece by piece, because they may not fit into memory together. */
typedef struct SafetensorsWriter SafetensorsWriter;

typedef struct SafetensorsEntry {
    const char *name;
    Dtype dtype;
    int ndim;
    int64_t shape[TENSOR_DIMS];
} SafetensorsEntry;

/* Starts a file of n tensors; those with larger elements must come first. On failure *w is NULL. */
int safetensors_begin(SafetensorsWriter **w, const char *path, const SafetensorsEntry *entries,
                      size_t n, const TextPair *pairs, size_t pair_count, Error *e);
/* Appends bytes of the tensors, in the order of the entries. */
int safetensors_put(SafetensorsWriter *w, const void *bytes, size_t n, Error *e);
/* If `failed` is 0 and all bytes were put, gives the file its name; else removes it and returns -1.
 * Frees w in both cases; NULL is allowed. */
int safetensors_end(SafetensorsWriter *w, int failed, Error *e);

#endif
