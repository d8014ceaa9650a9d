#include "io/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json_read.h"

static int add_name(Shards *s, size_t *room, const char *tensor, const char *file, Error *e) {
    if (!*file || strchr(file, '/') || strchr(file, '\\') || strcmp(file, ".") == 0 ||
        strcmp(file, "..") == 0)
        return error_set(e, "names the file '%s', which is not in its own folder", file);
    if (s->count == *room) {
        size_t more = *room ? 2 * *room : 64;
        ShardName *names = memory_zeroed(more, sizeof *names, "the names of an index", e);
        if (!names) return -1;
        if (s->count) memcpy(names, s->names, s->count * sizeof *names);
        memory_free(s->names);
        s->names = names;
        *room = more;
    }
    s->names[s->count++] = (ShardName){tensor, file};
    return 0;
}

static int read_map(Shards *s, JsonReader *r, Error *e) {
    bool first = true, more;
    const char *tensor, *file;
    size_t room = 0;
    if (s->names) return error_set(e, "has 'weight_map' twice");
    if (json_peek(r) != '{') return error_set(e, "has a 'weight_map' that is not an object");
    r->at++;
    for (;;) {
        if (json_more(r, '}', &first, &more, e) != 0) return -1;
        if (!more) return 0;
        if (json_key(r, &tensor, e) != 0) return -1;
        if (json_peek(r) != '"') return error_set(e, "names no file for the tensor '%s'", tensor);
        if (json_text(r, &file, e) != 0 || add_name(s, &room, tensor, file, e) != 0) return -1;
    }
}

static int read_index(Shards *s, JsonReader *r, Error *e) {
    bool first = true, more;
    const char *key;
    if (json_enter(r, '{', e) != 0) return -1;
    for (;;) {
        if (json_more(r, '}', &first, &more, e) != 0) return -1;
        if (!more) break;
        if (json_key(r, &key, e) != 0) return -1;
        if ((strcmp(key, "weight_map") == 0 ? read_map(s, r, e) : json_skip(r, e)) != 0) return -1;
    }
    if (json_end(r, e) != 0) return -1;
    if (s->count) return 0;
    return error_set(e,
                     "is JSON, but not an index of weights: it has no tensors in a 'weight_map'");
}

static int by_tensor(const void *a, const void *b) {
    return strcmp(((const ShardName *)a)->tensor, ((const ShardName *)b)->tensor);
}

static int by_file(const void *a, const void *b) {
    int order = strcmp(((const ShardName *)a)->file, ((const ShardName *)b)->file);
    return order ? order : by_tensor(a, b);
}

int shards_open(Shards *out, const char *path, Error *e) {
    JsonReader r = {.what = "it"};
    *out = (Shards){0};
    if (file_read_whole(path, SHARDS_INDEX, (unsigned char **)&out->text, &r.length, e) != 0)
        return -1;
    r.text = out->text;
    int failed = read_index(out, &r, e);
    if (!failed) qsort(out->names, out->count, sizeof *out->names, by_tensor);
    for (size_t i = 1; i < out->count && !failed; i++)
        if (by_tensor(&out->names[i - 1], &out->names[i]) == 0)
            failed = error_set(e, "names the tensor '%s' twice", out->names[i].tensor);
    if (!failed) qsort(out->names, out->count, sizeof *out->names, by_file);
    if (!failed) return 0;
    shards_free(out);
    return error_prefix(e, "%s", path);
}

int shards_file(const Shards *s, size_t first, const char *path, char **file, size_t *count,
                Error *e) {
    const char *slash = strrchr(path, '/'), *name = s->names[first].file;
    size_t folder = slash ? (size_t)(slash + 1 - path) : 0;
    *file = memory_take(folder + strlen(name) + 1, "a file's name", e);
    if (!*file) return -1;
    memcpy(*file, path, folder);
    strcpy(*file + folder, name);
    for (*count = 1; first + *count < s->count; ++*count)
        if (strcmp(s->names[first + *count].file, name) != 0) break;
    return 0;
}

void shards_free(Shards *s) {
    memory_free(s->text);
    memory_free(s->names);
    *s = (Shards){0};
}
