/* What the globals in a PyTorch file mean, as hooks for io/pickle.h: storages and
 * tensors are described, nothing is read or run. Everything but the names listed
 * in pth_objects.c is refused by name.
 */
#ifndef ADVRT_IO_PTH_OBJECTS_H
#define ADVRT_IO_PTH_OBJECTS_H

#include "io/pickle.h"
#include "tensor/tensor.h"

/* Elements that tensors share; `elements` of `dtype` in the file under `key`. */
typedef struct PthStorage {
    const char *key;
    Dtype dtype;
    int64_t elements;
    uint64_t position; /* legacy files: of its first byte; set by io/pth.c */
} PthStorage;

/* A strided view of a storage. Its strides are not negative, its count and bytes fit, and every
 * element it reaches lies inside the storage. */
typedef struct PthTensor {
    PthStorage *storage;
    int64_t offset; /* element of the storage that the first element of the tensor is */
    int ndim;
    int64_t shape[TENSOR_DIMS], stride[TENSOR_DIMS];
} PthTensor;

/* A tensor of the state dictionary, whose name is without the prefix of a wrapper. */
typedef struct PthEntry {
    const char *name;
    const PthTensor *tensor;
} PthEntry;

/* What an interpreted file refers to. The storages are unique by key, sorted by it, and belong to
 * the pickle's arena; the two arrays are freed by pth_objects_free. Start from zero. */
typedef struct PthObjects {
    PthStorage **storages;
    size_t storage_count, storage_capacity;
    PthEntry *entries;
    size_t entry_count;
} PthObjects;

/* Hooks whose context starts with a PthObjects; the caller adds read and context. */
PickleHooks pth_hooks(void);

/* After the object has been read: sorts the storages; fails where two of one key disagree. */
int pth_sort_storages(PthObjects *o, Error *e);
/* The storage of a key, NULL where no tensor has it; after pth_sort_storages. */
PthStorage *pth_find_storage(const PthObjects *o, const char *key);
/* Finds the state dictionary, in the object itself or under one of its usual keys, and lists its
 * tensors. What is no tensor is passed over. */
int pth_find_entries(PthObjects *o, const PickleValue *root, Error *e);
void pth_objects_free(PthObjects *o);

#endif
