/* PyTorch's files, zip and legacy: reads the tensors of a state dictionary and executes nothing
 * (io/pickle.h).
 *
 * It reads a dictionary of tensors as torch.save writes it, or one that contains such dictionaries;
 * it ignores other contents. It removes the prefix 'module.' (and '_orig_mod.') if every name has
 * it. Not supported: TorchScript, sparse and quantised tensors, compressed archives, big-endian
 * files.
 */
#ifndef ADVRT_IO_PTH_H
#define ADVRT_IO_PTH_H

#include "io/pth_objects.h"
#include "io/tensors.h"

/* Read the open file of `size` bytes and add the tensors of the group `key` (NULL: the default of
 * pth_group) to the list, in no particular order. fd stays open and keeps its position. On failure
 * the list holds the tensors read so far. */
int pth_read_zip(int fd, uint64_t size, const char *key, Device *d, TensorList *list, Error *e);
int pth_read_legacy(int fd, uint64_t size, const char *key, Device *d, TensorList *list, Error *e);

/* The contents of a file without the numbers. Free it with pth_contents_free. */
typedef struct PthContents {
    PthObjects objects; /* including the groups */
    Pickle *pickle;     /* the groups point into it */
} PthContents;

int pth_list_zip(int fd, uint64_t size, PthContents *out, Error *e);
int pth_list_legacy(int fd, uint64_t size, PthContents *out, Error *e);
void pth_contents_free(PthContents *c);

#endif
