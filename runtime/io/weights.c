#include "io/weights.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/foreign.h"
#include "io/msgpack_tensors.h"

typedef int Reader(int fd, uint64_t size, const char *key, Device *d, TensorList *list, Error *e);
typedef int Lister(int fd, uint64_t size, PthContents *out, Error *e);

/* The first bytes of a file, and its full length. */
typedef struct Head {
    unsigned char bytes[FOREIGN_START];
    size_t n;
    uint64_t size;
} Head;

static bool starts(const Head *h, size_t at, const char *bytes, size_t n) {
    return h->n >= at + n && memcmp(h->bytes + at, bytes, n) == 0;
}

static bool is_zip(const Head *h) {
    return starts(h, 0, "PK\3\4", 4) || starts(h, 0, "PK\5\6", 4);
}

static bool is_safetensors(const Head *h) {
    return starts(h, 8, "{", 1);
}

static bool is_pickle(const Head *h) {
    return h->n >= 2 && h->bytes[0] == 0x80 && h->bytes[1] >= 2 && h->bytes[1] <= 5;
}

/* Whether it starts with a map whose first key is "format". */
static bool is_msgpack(const Head *h) {
    size_t key = h->bytes[0] == 0xde ? 3 : h->bytes[0] == 0xdf ? 5 : 1;
    return (key > 1 || (h->bytes[0] & 0xf0) == 0x80) && starts(h, key,
                                                               "\xa6"
                                                               "format",
                                                               7);
}

/* Whether it starts like a JSON object: an index, or no weights at all. */
static bool is_json(const Head *h) {
    size_t at = 0;
    while (at < h->n && strchr(" \t\r\n", h->bytes[at] ? h->bytes[at] : 'x')) at++;
    if (at == h->n || h->bytes[at++] != '{') return false;
    while (at < h->n && strchr(" \t\r\n", h->bytes[at] ? h->bytes[at] : 'x')) at++;
    return at < h->n && h->bytes[at] == '"';
}

static int no_key(const char *key, Error *e) {
    if (!key || !*key) return 0;
    return error_set(e, "has no dictionary of tensors '%s'", key);
}

static int read_safetensors(int fd, uint64_t size, const char *key, Device *d, TensorList *list,
                            Error *e) {
    return no_key(key, e) != 0 ? -1 : safetensors_read(fd, size, d, list, e);
}

static int read_msgpack(int fd, uint64_t size, const char *key, Device *d, TensorList *list,
                        Error *e) {
    return no_key(key, e) != 0 ? -1 : msgpack_tensors_read(fd, size, d, list, e);
}

typedef struct Format {
    bool (*is)(const Head *h);
    Reader *read;
    Lister *list; /* NULL: the format has only one dictionary */
} Format;

/* In this order, no format's test accepts a file of another format. */
static const Format formats[] = {
    {is_zip, pth_read_zip, pth_list_zip},
    {is_safetensors, read_safetensors, NULL},
    {is_msgpack, read_msgpack, NULL},
    {is_pickle, pth_read_legacy, pth_list_legacy},
};

/* Opens a file and finds its format; *out is NULL for an index. The caller closes *fd. */
static int open_file(const char *path, int *fd, Head *head, const Format **out, Error *e) {
    struct stat s;
    *head = (Head){.n = FOREIGN_START};
    *out = NULL;
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
        foreign_refuse_folder(path, e);
        return error_prefix(e, "%s", path);
    }
    if (file_open_read(path, fd, &head->size, e) != 0) return -1;
    if (head->size < head->n) head->n = (size_t)head->size;
    int failed = head->n ? file_read_at(*fd, head->bytes, head->n, 0, e) : error_set(e, "is empty");
    if (!failed && foreign_is_text(head->bytes, head->n)) {
        if (is_json(head)) return 0;
        failed = foreign_refuse_text(path, head->bytes, head->n, e);
    }
    for (size_t i = 0; i < sizeof formats / sizeof *formats && !failed && !*out; i++)
        if (formats[i].is(head)) *out = &formats[i];
    if (!failed && !*out) failed = foreign_refuse(head->bytes, head->n, e);
    if (!failed) return 0;
    close(*fd);
    return error_prefix(e, "%s", path);
}

/* Reads one file that is not an index, and adds its tensors to the list. */
static int load_file(const char *path, const char *key, Device *d, TensorList *list, Error *e) {
    int fd;
    Head head;
    const Format *format;
    if (open_file(path, &fd, &head, &format, e) != 0) return -1;
    int failed = format ? format->read(fd, head.size, key, d, list, e)
                        : error_set(e, "is JSON, but wanted is a file of weights");
    if (!failed) failed = tensors_sort(list, e);
    close(fd);
    return failed ? error_prefix(e, "%s", path) : 0;
}

/* Checks that a file of an index holds exactly the tensors that the index lists. Both are
 * sorted. */
static int check_shard(const TensorList *list, const ShardName *names, size_t count, Error *e) {
    for (size_t i = 0; i < list->count || i < count; i++) {
        const char *has = i < list->count ? list->items[i].name : NULL;
        const char *wanted = i < count ? names[i].tensor : NULL;
        int order = !has ? 1 : !wanted ? -1 : strcmp(has, wanted);
        if (order > 0)
            return error_set(e, "has no tensor '%s', which its index says is in it", wanted);
        if (order < 0) return error_set(e, "has a tensor '%s', which its index does not name", has);
    }
    return 0;
}

static int move_tensors(TensorList *to, TensorList *from, Error *e) {
    for (size_t i = 0; i < from->count; i++) {
        NamedTensor *one = &from->items[i];
        if (tensors_add(to, one->name, strlen(one->name), &one->tensor, e) != 0) return -1;
    }
    return 0;
}

static int load_shards(const Shards *s, const char *path, Device *d, TensorList *out, Error *e) {
    int failed = 0;
    for (size_t i = 0, count; i < s->count && !failed; i += count) {
        TensorList one = {0};
        char *file = NULL;
        failed = shards_file(s, i, path, &file, &count, e);
        if (!failed) failed = load_file(file, NULL, d, &one, e);
        if (!failed && (failed = check_shard(&one, s->names + i, count, e)) != 0)
            error_prefix(e, "%s", file);
        if (!failed) failed = move_tensors(out, &one, e);
        tensors_free(&one);
        memory_free(file);
    }
    if (!failed) failed = tensors_sort(out, e);
    return failed;
}

int weights_shards(const char *path, bool *is_index, Shards *out, Error *e) {
    int fd;
    Head head;
    const Format *format;
    *out = (Shards){0};
    *is_index = false;
    if (open_file(path, &fd, &head, &format, e) != 0) return -1;
    close(fd);
    *is_index = !format;
    return format ? 0 : shards_open(out, path, e);
}

int weights_load(const char *path, const char *key, Device *d, TensorList *out, Error *e) {
    bool is_index;
    Shards shards;
    *out = (TensorList){0};
    if (weights_shards(path, &is_index, &shards, e) != 0) return -1;
    int failed;
    if (!is_index)
        failed = load_file(path, key, d, out, e);
    else if ((failed = no_key(key, e)) != 0)
        error_prefix(e, "%s", path);
    else
        failed = load_shards(&shards, path, d, out, e);
    shards_free(&shards);
    if (failed) tensors_free(out);
    return failed;
}

int weights_list(const char *path, PthContents *out, Error *e) {
    int fd, failed = 0;
    Head head;
    const Format *format;
    *out = (PthContents){0};
    if (open_file(path, &fd, &head, &format, e) != 0) return -1;
    if (format && format->list) failed = format->list(fd, head.size, out, e);
    close(fd);
    return failed ? error_prefix(e, "%s", path) : 0;
}

static bool has_suffix(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

int weights_save(const char *path, TensorList *list, const TextPair *pairs, size_t pair_count,
                 Error *e) {
    if (tensors_sort(list, e) != 0) return error_prefix(e, "%s", path);
    if (has_suffix(path, ".safetensors"))
        return safetensors_write(path, list, pairs, pair_count, e);
    if (has_suffix(path, ".msgpack"))
        return msgpack_tensors_write(path, list, pairs, pair_count, e);
    return error_set(e, "%s: the name of a weight file must end in .safetensors or .msgpack", path);
}
