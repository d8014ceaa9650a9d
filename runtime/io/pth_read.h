/* Makes tensors from their descriptions in a PyTorch file. Each storage is read once, from start to
 * end, into the tensors that view it.
 */
#ifndef ADVRT_IO_PTH_READ_H
#define ADVRT_IO_PTH_READ_H

#include "io/pth_objects.h"
#include "io/tensors.h"

/* The source of the storages; one is open at a time. */
typedef struct PthSource {
    void *context;
    /* Fails if the file has no storage of that key and size. */
    int (*open)(void *context, const PthStorage *s, size_t bytes, Error *e);
    /* Reads exactly the next n bytes. */
    int (*read)(void *context, void *out, size_t n, Error *e);
    void (*close)(void *context);
} PthSource;

/* Adds the tensors of the entries to the list, contiguous and on device d. Besides the tensors it
 * allocates one piece, or one storage if a view of it is not contiguous. Fails if tensors need far
 * more bytes than the file has (views that repeat its elements). */
int pth_read_tensors(const PthObjects *o, const PthEntries *entries, const PthSource *source,
                     uint64_t file_size, Device *d, TensorList *list, Error *e);

#endif
