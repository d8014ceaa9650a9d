/* What the globals in a PyTorch file mean, as hooks for io/pickle.h: storages and
 * tensors are described, nothing is read or run. Names outside the list in
 * pth_objects.c make opaque values; calling a name that is known to run things
 * (os.system) is refused, as the file is an attack on other readers.
 */
#ifndef ADVRT_IO_PTH_OBJECTS_H
#define ADVRT_IO_PTH_OBJECTS_H

#include "io/pickle.h"
#include "tensor/tensor.h"

/* Elements that tensors share; `elements` of `size` bytes in the file under `key`. The dtype is
 * DTYPES, and no tensor is read from it, where `type` is one that is not supported. */
typedef struct PthStorage {
    const char *key; /* of less than PICKLE_NAME bytes */
    const char *type;
    Dtype dtype;
    size_t size; /* 0 where nobody knows */
    int64_t elements;
    uint64_t position; /* legacy files: of its first byte; set by io/pth.c */
} PthStorage;

/* A strided view of a supported storage. Its strides are not negative, its count and bytes fit, and
 * every element it reaches lies inside the storage. */
typedef struct PthTensor {
    PthStorage *storage;
    int64_t offset; /* element of the storage that the first element of the tensor is */
    int ndim;
    int64_t shape[TENSOR_DIMS], stride[TENSOR_DIMS];
} PthTensor;

/* A dictionary of named tensors in the file, and the keys that lead to it with dots between: "" is
 * the whole file, "checkpoint.model" one in two others. */
typedef struct PthGroup {
    char key[PICKLE_NAME];
    const PickleList *dict;
    size_t tensors, opaque; /* entries of both kinds */
} PthGroup;

/* What a group has under a name: a tensor, or an opaque value where that is NULL. */
typedef struct PthEntry {
    const char *name; /* without the prefix of a wrapper */
    const PthTensor *tensor;
    const PickleOpaque *opaque;
} PthEntry;

enum { PTH_GROUPS = 256 }; /* the nearest to the root, in the order of the file */

/* What an interpreted file refers to. The storages are unique by key, sorted by it, and belong to
 * the pickle's arena; the arrays are freed by pth_objects_free. Start from zero. */
typedef struct PthObjects {
    PthStorage **storages;
    size_t storage_count, storage_capacity;
    PthGroup *groups;
    size_t group_count;
} PthObjects;

/* The entries of a group, those that are tensors first, and what was left off their names. */
typedef struct PthEntries {
    PthEntry *items; /* freed by memory_free */
    size_t tensors, opaque;
    char prefix[PICKLE_NAME];
} PthEntries;

/* Hooks whose context starts with a PthObjects; the caller adds read and context. */
PickleHooks pth_hooks(void);

/* After the object has been read: sorts the storages; fails where two of one key disagree. */
int pth_sort_storages(PthObjects *o, Error *e);
/* The storage of a key, NULL where no tensor has it; after pth_sort_storages. */
PthStorage *pth_find_storage(const PthObjects *o, const char *key);
/* Lists the dictionaries of tensors, in the object itself and up to three keys below it; fails
 * where there is none. */
int pth_find_groups(PthObjects *o, const PickleValue *root, Error *e);
/* The group of a key, or for NULL the one that is taken for want of a key: under 'state_dict',
 * 'model_state_dict' or 'model', else that with most tensors. NULL where there is none. */
const PthGroup *pth_group(const PthObjects *o, const char *key);
/* Lists what a group has under its names, each of less than PTH_NAME bytes and there once. */
int pth_entries(const PthGroup *g, PthEntries *out, Error *e);
void pth_objects_free(PthObjects *o);

enum { PTH_NAME = 4096 };

#endif
