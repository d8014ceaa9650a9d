#include "io/weights.h"

#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "io/msgpack_tensors.h"
#include "io/pth.h"

enum { START = 48 };

typedef int Reader(int fd, uint64_t size, Device *d, TensorList *list, Error *e);

/* The start of a file, and its length in full. */
typedef struct Head {
    unsigned char bytes[START];
    size_t n;
    uint64_t size;
} Head;

static bool starts(const Head *h, size_t at, const char *bytes, size_t n) {
    return h->n >= at + n && memcmp(h->bytes + at, bytes, n) == 0;
}

static bool is_text(const Head *h) {
    for (size_t i = 0; i < h->n; i++)
        if (!isprint(h->bytes[i]) && !isspace(h->bytes[i]) && h->bytes[i] < 0x80) return false;
    return h->bytes[0] < 0x80;
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

/* A map whose first key is "format". */
static bool is_msgpack(const Head *h) {
    size_t key = h->bytes[0] == 0xde ? 3 : h->bytes[0] == 0xdf ? 5 : 1;
    return (key > 1 || (h->bytes[0] & 0xf0) == 0x80) && starts(h, key,
                                                               "\xa6"
                                                               "format",
                                                               7);
}

/* In an order in which none takes what is another's. */
static const struct {
    bool (*is)(const Head *h);
    Reader *read;
} formats[] = {
    {is_zip, pth_read_zip},
    {is_safetensors, safetensors_read},
    {is_msgpack, msgpack_tensors_read},
    {is_pickle, pth_read_legacy},
};

static int refuse_text(const Head *h, Error *e) {
    char line[33];
    size_t n = 0;
    while (n < h->n && n < sizeof line - 1 && h->bytes[n] != '\n' && h->bytes[n] != '\r') n++;
    memcpy(line, h->bytes, n);
    line[n] = 0;
    return error_set(e, "is text, not weights: it starts with '%s' (a failed download?)", line);
}

static int choose(const Head *h, Reader **out, Error *e) {
    if (h->size == 0) return error_set(e, "is empty");
    if (is_text(h)) return refuse_text(h, e);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].is(h)) {
            *out = formats[i].read;
            return 0;
        }
    return error_set(e,
                     "is no weight file: neither safetensors nor PyTorch's .pth nor msgpack with "
                     "format = 'advrt.tensors'");
}

int weights_load(const char *path, Device *d, TensorList *out, Error *e) {
    int fd;
    Head head = {.n = START};
    Reader *reader = NULL;
    *out = (TensorList){0};
    if (file_open_read(path, &fd, &head.size, e) != 0) return -1;
    if (head.size < START) head.n = (size_t)head.size;
    int failed = head.n ? file_read_at(fd, head.bytes, head.n, 0, e) : 0;
    if (!failed) failed = choose(&head, &reader, e);
    if (!failed) failed = reader(fd, head.size, d, out, e);
    if (!failed) failed = tensors_sort(out, e);
    close(fd);
    if (!failed) return 0;
    tensors_free(out);
    return error_prefix(e, "%s", path);
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
    return error_set(e, "%s: weights are written to names that end in .safetensors or .msgpack",
                     path);
}
