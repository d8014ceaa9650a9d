#include "io/pth.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/archive.h"
#include "io/pth_read.h"

/* --- zip --- */

typedef struct ZipFile {
    PthObjects objects; /* first, because it is the hooks' context */
    Archive archive;
    char prefix[PICKLE_NAME], path[2 * PICKLE_NAME + 8]; /* path: of the open entry */
} ZipFile;

static int zip_next(void *context, void *out, size_t n, size_t *got, Error *e) {
    ZipFile *z = context;
    return archive_next(&z->archive, out, n, got, e);
}

static int zip_exactly(void *context, void *out, size_t n, Error *e) {
    ZipFile *z = context;
    return archive_exactly(&z->archive, out, n, e);
}

static void zip_done(void *context) {
    ZipFile *z = context;
    archive_leave(&z->archive);
}

/* Opens the entry PREFIX + name and returns its size. A compressed entry is an error: torch.save
 * writes none. So no entry is larger than the file. `called`: the entry's name in messages about
 * its contents. */
static int zip_enter(ZipFile *z, const char *name, const char *called, uint64_t *size, Error *e) {
    snprintf(z->path, sizeof z->path, "%s%s", z->prefix, name);
    if (archive_enter(&z->archive, z->path, ARCHIVE_STORED,
                      "compressed or encrypted; torch.save writes entries as they are", size,
                      e) != 0)
        return -1;
    z->archive.reading = called;
    return 0;
}

static int zip_storage(void *context, const PthStorage *s, size_t bytes, Error *e) {
    ZipFile *z = context;
    char name[PICKLE_NAME + 8];
    uint64_t size;
    snprintf(name, sizeof name, "data/%s", s->key);
    if (zip_enter(z, name, s->key, &size, e) != 0) return -1;
    if (size == bytes) return 0;
    zip_done(z);
    return error_set(e, "storage '%s' has %" PRIu64 " bytes, %" PRId64 " elements of %s want %zu",
                     s->key, size, s->elements, dtype_name(s->dtype), bytes);
}

#define WANTED "wanted is .safetensors, .pth or .msgpack"

/* The error for an archive without data.pkl. */
static int zip_refuse_other(ZipFile *z, Error *e) {
    zip_int64_t n = zip_get_num_entries(z->archive.zip, 0), arrays = 0;
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(z->archive.zip, (zip_uint64_t)i, 0);
        size_t length = name ? strlen(name) : 0;
        arrays += length > 4 && strcmp(name + length - 4, ".npy") == 0;
    }
    if (zip_name_locate(z->archive.zip, "model.weights.h5", 0) >= 0)
        return error_set(e, "is a Keras model, which is not supported; " WANTED);
    if (n > 0 && arrays == n)
        return error_set(e, "is a NumPy archive (.npz), which is not supported; " WANTED);
    return error_set(e, "a zip archive without data.pkl, so not one that torch.save wrote");
}

static int zip_refuse_script(ZipFile *z, Error *e) {
    char path[PICKLE_NAME + 16];
    snprintf(path, sizeof path, "%sconstants.pkl", z->prefix);
    if (zip_name_locate(z->archive.zip, path, 0) < 0) return 0;
    return error_set(e, "is a TorchScript program, which is code; in PyTorch, save the weights by "
                        "torch.save({\"state_dict\": model.state_dict()}, FILE)");
}

/* torch.save puts all entries into one folder with any name. */
static int zip_find_prefix(ZipFile *z, Error *e) {
    zip_int64_t n = zip_get_num_entries(z->archive.zip, 0);
    int found = 0;
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(z->archive.zip, (zip_uint64_t)i, 0);
        const char *slash = name ? strchr(name, '/') : NULL;
        if (!name || strcmp(slash ? slash + 1 : name, "data.pkl") != 0) continue;
        size_t length = slash ? (size_t)(slash + 1 - name) : 0;
        if (found++) return error_set(e, "the archive has more than one data.pkl");
        if (length >= sizeof z->prefix)
            return error_set(e, "the archive's folder has a name longer than %d bytes",
                             PICKLE_NAME - 1);
        memcpy(z->prefix, name, length);
        z->prefix[length] = 0;
    }
    return found ? zip_refuse_script(z, e) : zip_refuse_other(z, e);
}

static int zip_check_order(ZipFile *z, Error *e) {
    char path[PICKLE_NAME + 16], order[8] = "";
    uint64_t size;
    snprintf(path, sizeof path, "%sbyteorder", z->prefix);
    if (zip_name_locate(z->archive.zip, path, 0) < 0) return 0; /* older files have no such entry */
    if (zip_enter(z, "byteorder", "byteorder", &size, e) != 0) return -1;
    int failed = size >= sizeof order ? 0 : zip_exactly(z, order, (size_t)size, e);
    zip_done(z);
    if (failed || strcmp(order, "little") == 0) return failed;
    return error_set(e, "its byte order is not 'little', the only one supported");
}

/* --- zip and legacy --- */

/* Reads the group of a key as a list of tensors. */
static int read_group(const PthObjects *o, const char *key, const PthSource *source, uint64_t size,
                      Device *d, TensorList *list, Error *e) {
    PthEntries entries = {0};
    const PthGroup *group = pth_group(o, key);
    if (!group) return error_set(e, "has no dictionary of tensors '%s'", key);
    int failed = pth_entries(group, &entries, e);
    if (!failed) failed = pth_read_tensors(o, &entries, source, size, d, list, e);
    memory_free(entries.items);
    return failed;
}

void pth_contents_free(PthContents *c) {
    pth_objects_free(&c->objects);
    pickle_close(c->pickle);
    *c = (PthContents){0};
}

/* --- zip --- */

/* Opens the archive and interprets its pickle. The caller closes *p and frees the objects, also on
 * failure. */
static int zip_interpret(ZipFile *z, Pickle **p, Error *e) {
    PickleHooks hooks = pth_hooks();
    PickleValue root;
    uint64_t size;
    hooks.context = z;
    hooks.read = zip_next;
    if (zip_find_prefix(z, e) != 0 || zip_check_order(z, e) != 0 ||
        zip_enter(z, "data.pkl", "data.pkl", &size, e) != 0)
        return -1;
    int failed = pickle_open(p, &hooks, e);
    if (!failed) failed = pickle_next(*p, &root, e);
    if (!failed) failed = archive_drain(&z->archive, e);
    zip_done(z);
    if (!failed) failed = pth_sort_storages(&z->objects, e);
    if (!failed) failed = pth_find_groups(&z->objects, &root, e);
    return failed;
}

int pth_read_zip(int fd, uint64_t size, const char *key, Device *d, TensorList *list, Error *e) {
    ZipFile z = {0};
    Pickle *p = NULL;
    PthSource source = {&z, zip_storage, zip_exactly, zip_done};
    if (archive_open(&z.archive, fd, e) != 0) return -1;
    int failed = zip_interpret(&z, &p, e);
    if (!failed) failed = read_group(&z.objects, key, &source, size, d, list, e);
    pth_objects_free(&z.objects);
    pickle_close(p);
    archive_close(&z.archive);
    return failed;
}

int pth_list_zip(int fd, uint64_t size, PthContents *out, Error *e) {
    ZipFile z = {0};
    (void)size;
    *out = (PthContents){0};
    if (archive_open(&z.archive, fd, e) != 0) return -1;
    int failed = zip_interpret(&z, &out->pickle, e);
    archive_close(&z.archive);
    out->objects = z.objects;
    if (failed) pth_contents_free(out);
    return failed;
}

/* --- legacy --- */

typedef struct LegacyFile {
    PthObjects objects; /* first, because it is the hooks' context */
    int fd;
    uint64_t size, position; /* size of the file; position of the next byte to read */
} LegacyFile;

static int legacy_next(void *context, void *out, size_t n, size_t *got, Error *e) {
    LegacyFile *f = context;
    *got = f->size - f->position < n ? (size_t)(f->size - f->position) : n;
    if (*got && file_read_at(f->fd, out, *got, f->position, e) != 0) return -1;
    f->position += *got;
    return 0;
}

static int legacy_exactly(void *context, void *out, size_t n, Error *e) {
    size_t got;
    if (legacy_next(context, out, n, &got, e) != 0) return -1;
    return got == n ? 0 : error_set(e, "is cut off inside its storages");
}

static int legacy_storage(void *context, const PthStorage *s, size_t bytes, Error *e) {
    LegacyFile *f = context;
    (void)bytes;
    if (s->position == 0) return error_set(e, "storage '%s' is not in the file", s->key);
    f->position = s->position;
    return 0;
}

static void legacy_done(void *context) {
    (void)context;
}

/* Checks the magic number 0x1950a86a20f9469cfc6c and the version of the format. */
static int legacy_check(const PickleValue *magic, const PickleValue *version, Error *e) {
    static const unsigned char wanted[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                           0x20, 0x6a, 0xa8, 0x50, 0x19};
    if (magic->kind != PICKLE_LONG || magic->text->length != sizeof wanted ||
        memcmp(magic->text->bytes, wanted, sizeof wanted) != 0)
        return error_set(e, "a pickle that torch.save did not write");
    if (version->kind != PICKLE_INTEGER || version->integer != 1001)
        return error_set(e, "its legacy format is not version 1001, the only one supported");
    return 0;
}

static int legacy_check_order(const PickleValue *info, Error *e) {
    const PickleValue *little =
        info->kind == PICKLE_DICT ? pickle_find(info->list, "little_endian") : NULL;
    if (!little || little->kind != PICKLE_BOOLEAN || little->integer) return 0;
    return error_set(e, "its byte order is not 'little', the only one supported");
}

/* The storages follow the pickles in the order of their keys. An element count precedes each. */
static int legacy_place(LegacyFile *f, const PickleValue *keys, Error *e) {
    if (keys->kind != PICKLE_LIST) return error_set(e, "has no list of storages after its tensors");
    for (size_t i = 0; i < keys->list->count; i++) {
        const PickleValue *key = &keys->list->items[i];
        PthStorage *s =
            key->kind == PICKLE_TEXT ? pth_find_storage(&f->objects, key->text->bytes) : NULL;
        int64_t elements;
        size_t bytes;
        if (!s || s->position)
            return error_set(e, "lists a storage that no tensor uses, or lists one twice");
        if (legacy_exactly(f, &elements, sizeof elements, e) != 0) return -1;
        if (elements != s->elements)
            return error_set(e, "storage '%s' has %" PRId64 " elements, its tensors say %" PRId64,
                             s->key, elements, s->elements);
        if (s->size == 0)
            return error_set(e, "has a storage of type '%s', which is not supported", s->type);
        if (size_mul((size_t)elements, s->size, &bytes) != 0 || bytes > f->size - f->position)
            return error_set(e,
                             "is cut off: storage '%s' of %" PRId64 " elements of %s does not "
                             "fit the %" PRIu64 " bytes left",
                             s->key, elements, s->dtype == DTYPES ? s->type : dtype_name(s->dtype),
                             f->size - f->position);
        s->position = f->position;
        f->position += bytes;
    }
    return 0;
}

static int legacy_interpret(LegacyFile *f, Pickle **p, Error *e) {
    PickleValue magic, version, info, root, keys;
    PickleHooks hooks = pth_hooks();
    hooks.context = f;
    hooks.read = legacy_next;
    if (pickle_open(p, &hooks, e) != 0 || pickle_next(*p, &magic, e) != 0 ||
        pickle_next(*p, &version, e) != 0 || legacy_check(&magic, &version, e) != 0)
        return -1;
    if (pickle_next(*p, &info, e) != 0 || legacy_check_order(&info, e) != 0 ||
        pickle_next(*p, &root, e) != 0 || pickle_next(*p, &keys, e) != 0)
        return -1;
    f->position = pickle_position(*p);
    if (pth_sort_storages(&f->objects, e) != 0 || legacy_place(f, &keys, e) != 0) return -1;
    return pth_find_groups(&f->objects, &root, e);
}

int pth_read_legacy(int fd, uint64_t size, const char *key, Device *d, TensorList *list, Error *e) {
    LegacyFile f = {.fd = fd, .size = size};
    PthSource source = {&f, legacy_storage, legacy_exactly, legacy_done};
    Pickle *p = NULL;
    int failed = legacy_interpret(&f, &p, e);
    if (!failed) failed = read_group(&f.objects, key, &source, size, d, list, e);
    pth_objects_free(&f.objects);
    pickle_close(p);
    return failed;
}

int pth_list_legacy(int fd, uint64_t size, PthContents *out, Error *e) {
    LegacyFile f = {.fd = fd, .size = size};
    *out = (PthContents){0};
    int failed = legacy_interpret(&f, &out->pickle, e);
    out->objects = f.objects;
    if (failed) pth_contents_free(out);
    return failed;
}
