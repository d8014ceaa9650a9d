#include "io/archive.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int archive_open(Archive *a, int fd, Error *e) {
    *a = (Archive){0};
    int own = dup(fd), code = 0; /* libzip closes this descriptor */
    if (own < 0) return error_set(e, "%s", strerror(errno));
    errno = 0;
    a->zip = zip_fdopen(own, ZIP_CHECKCONS, &code);
    if (a->zip) return 0;
    zip_error_t why;
    /* libzip also reports this when it has no memory to read the end. */
    if (code == ZIP_ER_NOZIP && errno == ENOMEM) code = ZIP_ER_MEMORY;
    zip_error_init_with_code(&why, code);
    if (code == ZIP_ER_NOZIP)
        error_set(e, "a zip archive without its end: the file is cut off or damaged");
    else if (code == ZIP_ER_EXISTS)
        error_set(e, "its zip archive has two entries of one name");
    else if (code == ZIP_ER_INCONS)
        error_set(e,
                  "its zip archive is damaged: an entry and the archive's list of entries do not "
                  "agree");
    else
        error_set(e, "the zip archive cannot be read (%s)", zip_error_strerror(&why));
    zip_error_fini(&why);
    close(own);
    return -1;
}

void archive_close(Archive *a) {
    archive_leave(a);
    if (a->zip) zip_discard(a->zip);
    a->zip = NULL;
}

static bool is_form(const zip_stat_t *s, ArchiveForm form) {
    const zip_uint64_t wanted =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    return (s->valid & wanted) == wanted && s->encryption_method == ZIP_EM_NONE &&
           (s->comp_method == ZIP_CM_STORE ||
            (form == ARCHIVE_DEFLATED && s->comp_method == ZIP_CM_DEFLATE));
}

int archive_enter(Archive *a, const char *path, ArchiveForm form, const char *other, uint64_t *size,
                  Error *e) {
    enum { MOST = 1032 }; /* deflate packs at most 258 bytes into 2 bits */
    zip_stat_t s;
    if (zip_stat(a->zip, path, 0, &s) != 0) return error_set(e, "the archive has no '%s'", path);
    if (!is_form(&s, form)) return error_set(e, "'%s' in the archive is %s", path, other);
    if (s.size / MOST > s.comp_size)
        return error_set(e,
                         "'%s' in the archive promises %llu bytes, more than deflate can pack into "
                         "its %llu",
                         path, (unsigned long long)s.size, (unsigned long long)s.comp_size);
    a->reading = path;
    zip_error_clear(a->zip); /* of a name that was not found */
    a->entry = zip_fopen(a->zip, path, 0);
    if (!a->entry)
        return error_set(e, "'%s' in the archive cannot be read (%s)", path, zip_strerror(a->zip));
    *size = a->left = s.size;
    return 0;
}

void archive_leave(Archive *a) {
    if (a->entry) zip_fclose(a->entry);
    a->entry = NULL;
}

int archive_next(void *context, void *out, size_t n, size_t *got, Error *e) {
    Archive *a = context;
    zip_int64_t read = zip_fread(a->entry, out, n);
    if (read < 0)
        return error_set(e, "'%s' in the archive is damaged (%s)", a->reading,
                         zip_file_strerror(a->entry));
    *got = (size_t)read;
    a->left -= *got < a->left ? *got : a->left;
    return 0;
}

int archive_drain(Archive *a, Error *e) {
    char waste[4096];
    size_t got = 1;
    /* libzip compares the checksum when it reads the end. */
    while (got > 0)
        if (archive_next(a, waste, sizeof waste, &got, e) != 0) return -1;
    return 0;
}

int archive_exactly(void *context, void *out, size_t n, Error *e) {
    Archive *a = context;
    for (size_t done = 0, got = 0; done < n; done += got) {
        if (archive_next(a, (char *)out + done, n - done, &got, e) != 0) return -1;
        if (got == 0) return error_set(e, "'%s' in the archive is cut off", a->reading);
    }
    return a->left == 0 ? archive_drain(a, e) : 0;
}
