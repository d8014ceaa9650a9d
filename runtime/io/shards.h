/* Weights in several files: the index that Hugging Face's libraries write beside
 * them, {"weight_map": {"name": "file", ...}, ...}. The files lie in the folder of
 * the index, and each holds the tensors that the index names for it and no others.
 */
#ifndef ADVRT_IO_SHARDS_H
#define ADVRT_IO_SHARDS_H

#include <stddef.h>

#include "base/error.h"

enum { SHARDS_INDEX = 64 << 20 }; /* bytes of an index */

/* A tensor and the file that it is in, without a folder. */
typedef struct ShardName {
    const char *tensor, *file;
} ShardName;

typedef struct Shards {
    char *text;       /* which the names point into */
    ShardName *names; /* sorted by file, then by tensor; each tensor once */
    size_t count;
} Shards;

/* Reads the index in a file; to be freed by shards_free. */
int shards_open(Shards *out, const char *path, Error *e);
/* The file of names[first], in the folder of `path`, to be freed by memory_free, and the number of
 * names that it has. */
int shards_file(const Shards *s, size_t first, const char *path, char **file, size_t *count,
                Error *e);
void shards_free(Shards *s);

#endif
