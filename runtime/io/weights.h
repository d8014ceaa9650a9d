/* The one door to weight files of every format: safetensors, PyTorch's .pth (zip
 * and legacy) and msgpack, told apart by what they hold, never by their names; and
 * the index of weights in several files. Nothing in a file is trusted, and nothing
 * is executed.
 */
#ifndef ADVRT_IO_WEIGHTS_H
#define ADVRT_IO_WEIGHTS_H

#include "io/pth.h"
#include "io/safetensors.h"
#include "io/shards.h"

/* Reads the tensors of a file into *out, sorted by name, on device d: all of them, or those of one
 * dictionary of a .pth that has several: of the one that `key` names, or for NULL of pth_group's
 * choice. Any key but "" is unknown to other formats. On failure *out is empty and the message
 * starts with the path. Refused at once: what is no regular file, an empty one, text, and every
 * format but these. */
int weights_load(const char *path, const char *key, Device *d, TensorList *out, Error *e);
/* What the dictionaries of a .pth hold; of another format, which has only one, no group. To be
 * freed by pth_contents_free. */
int weights_list(const char *path, PthContents *out, Error *e);
/* Whether a file is an index, which is then read: to be freed by shards_free. */
int weights_shards(const char *path, bool *is_index, Shards *out, Error *e);
/* Writes safetensors or msgpack, as the path's suffix (.safetensors, .msgpack) says, whole or not
 * at all. Sorts the list; two tensors of one name are refused. pairs, text about the file, may be
 * NULL where pair_count is 0. */
int weights_save(const char *path, TensorList *list, const TextPair *pairs, size_t pair_count,
                 Error *e);

#endif
