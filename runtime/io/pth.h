/* PyTorch's files, zip and legacy: reads the tensors of a state dictionary and
 * executes nothing (io/pickle.h).
 *
 * Understood: what torch.save writes for a dictionary of tensors, or for one with
 * such dictionaries inside, whatever lies beside the tensors; the prefix 'module.'
 * (and '_orig_mod.') where every name has it. Not here: TorchScript, sparse and
 * quantised tensors, compressed archives, big-endian files.
 */
#ifndef ADVRT_IO_PTH_H
#define ADVRT_IO_PTH_H

#include "io/pth_objects.h"
#include "io/tensors.h"

/* Read the open file of `size` bytes and add the tensors of the group `key` (NULL: pth_group's own
 * choice) to the list, in no special order. fd stays open and keeps its position. On failure the
 * list holds what was read so far. */
int pth_read_zip(int fd, uint64_t size, const char *key, Device *d, TensorList *list, Error *e);
int pth_read_legacy(int fd, uint64_t size, const char *key, Device *d, TensorList *list, Error *e);

/* What a file holds, without its numbers: to be freed by pth_contents_free. */
typedef struct PthContents {
    PthObjects objects; /* with groups */
    Pickle *pickle;     /* which the groups point into */
} PthContents;

int pth_list_zip(int fd, uint64_t size, PthContents *out, Error *e);
int pth_list_legacy(int fd, uint64_t size, PthContents *out, Error *e);
void pth_contents_free(PthContents *c);

#endif
