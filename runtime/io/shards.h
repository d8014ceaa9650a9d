/* Weights in several files, by the index that Hugging Face's libraries write: {"weight_map":
 * {"name": "file", ...}, ...}. The files lie in the folder of the index. Each file holds exactly
 * the tensors that the index lists for it.
 */
#ifndef ADVRT_IO_SHARDS_H
#define ADVRT_IO_SHARDS_H

#include <stddef.h>

#include "base/error.h"

enum { SHARDS_INDEX = 64 << 20 }; /* limit of an index's size in bytes */

/* A tensor, and the name of its file without the folder. */
typedef struct ShardName {
    const char *tensor, *file;
} ShardName;

typedef struct Shards {
    char *text;       /* the names point into it */
    ShardName *names; /* sorted by file, then by tensor; each tensor occurs once */
    size_t count;
} Shards;

/* Reads an index from a file. Free it with shards_free. */
int shards_open(Shards *out, const char *path, Error *e);
/* The file of names[first], in the folder of `path` (free it with memory_free), and the number of
 * its names. */
int shards_file(const Shards *s, size_t first, const char *path, char **file, size_t *count,
                Error *e);
void shards_free(Shards *s);

#endif
