/* PyTorch's files, zip and legacy: reads the tensors of a state dictionary and
 * executes nothing (io/pickle.h).
 *
 * Understood: what torch.save writes for a dictionary of tensors, or for one with
 * such a dictionary under 'state_dict', 'model_state_dict' or 'model'; the prefix
 * 'module.' (and '_orig_mod.') where every name has it. Whatever else the file
 * holds is passed over, unless it calls for code: that is refused. Not here:
 * TorchScript, sparse and quantised tensors, compressed archives, big-endian files.
 */
#ifndef ADVRT_IO_PTH_H
#define ADVRT_IO_PTH_H

#include "io/tensors.h"

/* Read the open file of `size` bytes and add its tensors to the list, in no special order. fd
 * stays open and keeps its position. On failure the list holds what was read so far. */
int pth_read_zip(int fd, uint64_t size, Device *d, TensorList *list, Error *e);
int pth_read_legacy(int fd, uint64_t size, Device *d, TensorList *list, Error *e);

#endif
