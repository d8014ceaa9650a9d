/* The meaning of the globals in a PyTorch file, as hooks for io/pickle.h. It describes storages and
 * tensors; it reads no data and runs nothing. Names outside the list in pth_objects.c make opaque
 * values. A call of a name that is known to run code (os.system) is an error, because such a file
 * attacks other readers.
 */
#ifndef ADVRT_IO_PTH_OBJECTS_H
#define ADVRT_IO_PTH_OBJECTS_H

#include "io/pickle.h"
#include "tensor/tensor.h"

/* Elements that tensors share: `elements` of `size` bytes, stored in the file under `key`. If
 * `type` is not supported, dtype is DTYPES and no tensor uses the storage. */
typedef struct PthStorage {
    const char *key; /* less than PICKLE_NAME bytes */
    const char *type;
    Dtype dtype;
    size_t size; /* 0: unknown */
    int64_t elements;
    uint64_t position; /* legacy files: of its first byte; io/pth.c sets it */
} PthStorage;

/* A strided view of a supported storage. Its strides are not negative, its element count and bytes
 * do not overflow, and all its elements lie inside the storage. */
typedef struct PthTensor {
    PthStorage *storage;
    int64_t offset; /* index in the storage of the tensor's first element */
    int ndim;
    int64_t shape[TENSOR_DIMS], stride[TENSOR_DIMS];
} PthTensor;

/* A dictionary of named tensors in the file, and the keys that lead to it, joined by dots. "" is
 * the whole file; "checkpoint.model" lies in two other dictionaries. */
typedef struct PthGroup {
    char key[PICKLE_NAME];
    const PickleList *dict;
    size_t tensors, opaque; /* numbers of entries of each kind */
} PthGroup;

/* An entry of a group: a tensor, or, if that is NULL, an opaque value. */
typedef struct PthEntry {
    const char *name; /* without the prefix of a wrapper */
    const PthTensor *tensor;
    const PickleOpaque *opaque;
} PthEntry;

enum { PTH_GROUPS = 256 }; /* at most; those nearest to the root, in the file's order */

/* The objects that an interpreted file refers to. Storages are unique by key, sorted by key, and
 * belong to the pickle's arena. pth_objects_free frees the arrays. Start from zero. */
typedef struct PthObjects {
    PthStorage **storages;
    size_t storage_count, storage_capacity;
    PthGroup *groups;
    size_t group_count;
} PthObjects;

/* The entries of a group, tensors first, and the prefix that was removed from their names. */
typedef struct PthEntries {
    PthEntry *items; /* free it with memory_free */
    size_t tensors, opaque;
    char prefix[PICKLE_NAME];
} PthEntries;

/* Hooks whose context starts with a PthObjects; the caller adds read and context. */
PickleHooks pth_hooks(void);

/* Call it after the object was read: sorts the storages. Fails if two storages with one key
 * differ. */
int pth_sort_storages(PthObjects *o, Error *e);
/* The storage with a key; NULL if no tensor uses it. Call it after pth_sort_storages. */
PthStorage *pth_find_storage(const PthObjects *o, const char *key);
/* Lists the dictionaries of tensors in the object itself and up to three keys below it; fails if
 * there is none. */
int pth_find_groups(PthObjects *o, const PickleValue *root, Error *e);
/* The group with a key. For NULL: the one under 'state_dict', 'model_state_dict' or 'model', else
 * the one with most tensors. Returns NULL if there is none. */
const PthGroup *pth_group(const PthObjects *o, const char *key);
/* Lists the entries of a group. Each name has less than PTH_NAME bytes and occurs once. */
int pth_entries(const PthGroup *g, PthEntries *out, Error *e);
void pth_objects_free(PthObjects *o);

enum { PTH_NAME = 4096 };

#endif
