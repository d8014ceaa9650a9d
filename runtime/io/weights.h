/* Reads and writes weight files of every format: safetensors, PyTorch's .pth (zip and legacy),
 * msgpack, and the index of weights in several files. The contents decide the format, never the
 * name. Nothing in a file is trusted, and nothing is executed.
 */
#ifndef ADVRT_IO_WEIGHTS_H
#define ADVRT_IO_WEIGHTS_H

#include "io/pth.h"
#include "io/safetensors.h"
#include "io/shards.h"

/* Reads the tensors of a file into *out, sorted by name, on device d. For a .pth with several
 * dictionaries, it reads one: the one that `key` names, or the default of pth_group for NULL. Other
 * formats know only the key "". On failure *out is empty and the message starts with the path. It
 * rejects at once a file that is not regular, is empty, is text, or has any other format. */
int weights_load(const char *path, const char *key, Device *d, TensorList *out, Error *e);
/* The dictionaries of a .pth; for other formats, which have only one, no group. Free it with
 * pth_contents_free. */
int weights_list(const char *path, PthContents *out, Error *e);
/* Whether a file is an index; if so, reads it. Free it with shards_free. */
int weights_shards(const char *path, bool *is_index, Shards *out, Error *e);
/* Writes safetensors or msgpack, by the path's suffix (.safetensors, .msgpack), atomically. Sorts
 * the list; two tensors with one name are an error. pairs, texts about the file, may be NULL if
 * pair_count is 0. */
int weights_save(const char *path, TensorList *list, const TextPair *pairs, size_t pair_count,
                 Error *e);

#endif
