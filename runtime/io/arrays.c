#include "io/arrays.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "io/archive.h"
#include "io/npy.h"
#include "io/safetensors.h"

enum { NAME = 256, SHOWN = 5, HEAD = 9 };

/* --- the file's contents, for messages --- */

typedef struct Names {
    char text[200];
    size_t used, count;
} Names;

static void note(Names *n, const char *name) {
    size_t length = strlen(name);
    if (n->count++ < SHOWN && n->used + length + 4 < sizeof n->text)
        n->used += (size_t)sprintf(n->text + n->used, "%s'%s'", n->used ? ", " : "", name);
}

static int missing(const Names *n, const char *wanted, Error *e) {
    if (n->count == 0) return error_set(e, "holds no array '%s', nor any other", wanted);
    return error_set(e, "holds no array '%s', but %s%s", wanted, n->text,
                     n->count > SHOWN ? " and others" : "");
}

/* --- .npy --- */

typedef struct PlainFile {
    int fd;
    uint64_t at;
} PlainFile;

static int plain_read(void *context, void *out, size_t n, Error *e) {
    PlainFile *f = context;
    f->at += n;
    return file_read_at(f->fd, out, n, f->at - n, e);
}

/* Appends the source's array to the list. */
static int add(const NpySource *s, const char *name, Device *d, TensorList *list, Error *e) {
    Tensor t;
    if (npy_read(s, d, &t, e) != 0) return -1;
    if (tensors_add(list, name, strlen(name), &t, e) == 0) return 0;
    tensor_free(&t);
    return -1;
}

/* --- .npz --- */

static bool is_array(const char *name) {
    size_t n = name ? strlen(name) : 0;
    return n > 4 && strcmp(name + n - 4, ".npy") == 0;
}

static int npz_add(Archive *a, const char *name, Device *d, TensorList *list, Error *e) {
    char path[NAME];
    uint64_t size;
    snprintf(path, sizeof path, "%s.npy", name);
    if (archive_enter(a, path, ARCHIVE_DEFLATED,
                      "encrypted, or packed otherwise than by deflate; numpy.savez and "
                      "numpy.savez_compressed write what is read",
                      &size, e) != 0)
        return -1;
    int failed = 0;
    if (size > ARRAYS_PACKED) {
        zip_stat_t s;
        if (zip_stat(a->zip, path, 0, &s) != 0 || s.comp_method != ZIP_CM_STORE)
            failed = error_set(e,
                               "'%s' in the archive is packed and has %" PRIu64 " bytes, at most "
                               "%" PRIu64 " are read; numpy.savez writes it as it is",
                               path, size, ARRAYS_PACKED);
    }
    NpySource source = {a, archive_exactly, size};
    if (!failed && (failed = add(&source, name, d, list, e)) != 0)
        error_prefix(e, "array '%s'", name);
    archive_leave(a);
    return failed;
}

static int npz_read(int fd, const char *const *names, size_t count, Device *d, TensorList *list,
                    Error *e) {
    Archive a;
    Names found = {0};
    if (archive_open(&a, fd, e) != 0) return -1;
    zip_int64_t entries = zip_get_num_entries(a.zip, 0);
    for (zip_int64_t i = 0; i < entries; i++) {
        char name[NAME];
        const char *entry = zip_get_name(a.zip, (zip_uint64_t)i, 0);
        if (!is_array(entry)) continue;
        snprintf(name, sizeof name, "%.*s", (int)strlen(entry) - 4, entry);
        note(&found, name);
    }
    int failed = 0;
    for (size_t i = 0; i < count && !failed; i++) {
        char path[NAME];
        snprintf(path, sizeof path, "%s.npy", names[i]);
        failed = zip_name_locate(a.zip, path, 0) < 0 ? missing(&found, names[i], e)
                                                     : npz_add(&a, names[i], d, list, e);
    }
    archive_close(&a);
    return failed;
}

/* --- safetensors --- */

static int safetensors_take(int fd, uint64_t size, const char *const *names, size_t count,
                            Device *d, TensorList *list, Error *e) {
    TensorList all = {0};
    Names found = {0};
    int failed = safetensors_read(fd, size, d, &all, e);
    for (size_t i = 0; i < all.count && !failed; i++) note(&found, all.items[i].name);
    for (size_t i = 0; i < count && !failed; i++) {
        const Tensor *t = tensors_find(&all, names[i]);
        if (!t) {
            failed = missing(&found, names[i], e);
        } else {
            Tensor share = tensor_share(t);
            failed = tensors_add(list, names[i], strlen(names[i]), &share, e);
            if (failed) tensor_free(&share);
        }
    }
    tensors_free(&all);
    return failed;
}

/* --- all --- */

static int read_any(int fd, uint64_t size, const char *const *names, size_t count, Device *d,
                    TensorList *list, Error *e) {
    unsigned char head[HEAD] = {0};
    size_t n = size < HEAD ? (size_t)size : HEAD;
    if (n == 0) return error_set(e, "is empty");
    if (file_read_at(fd, head, n, 0, e) != 0) return -1;
    if (memcmp(head, "\x93NUMPY", 6) == 0) {
        PlainFile f = {fd, 0};
        NpySource source = {&f, plain_read, size};
        return add(&source, names[0], d, list, e);
    }
    if (memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0)
        return npz_read(fd, names, count, d, list, e);
    if (head[8] == '{') return safetensors_take(fd, size, names, count, d, list, e);
    return error_set(
        e, "is not a file of arrays: its contents are neither .npy, .npz nor .safetensors");
}

int arrays_load(const char *path, const char *const *names, size_t count, Device *d,
                TensorList *out, Error *e) {
    int fd;
    uint64_t size;
    *out = (TensorList){0};
    if (file_open_read(path, &fd, &size, e) != 0) return -1;
    int failed = read_any(fd, size, names, count, d, out, e);
    close(fd);
    if (!failed) return 0;
    tensors_free(out);
    return error_prefix(e, "%s", path);
}
