#define _GNU_SOURCE /* TEMP_FAILURE_RETRY: a handled signal interrupts system calls */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

/* Bytes per read or write of the disk. */
enum { PIECE = 1 << 16, TEMPORARY_NAME = 40, ATTEMPTS = 16 };

struct FileWriter {
    char *path;      /* as the caller wrote it, for messages */
    char *target;    /* the file to replace, with links resolved */
    char *temporary; /* NULL: the target is not a regular file and is written directly */
    int fd, failed;
    size_t held; /* bytes in the buffer */
    unsigned char buffer[PIECE];
};

static int system_error(Error *e, const char *path) {
    return error_set(e, "%s: %s", path, strerror(errno));
}

/* --- writing --- */

static char *copy_text(const char *text, size_t extra, Error *e) {
    size_t n = strlen(text) + 1;
    char *copy = memory_take(n + extra, "a path", e);
    if (copy) memcpy(copy, text, n);
    return copy;
}

static void writer_free(FileWriter *w) {
    if (w->fd >= 0) close(w->fd);
    memory_free(w->path);
    memory_free(w->target);
    memory_free(w->temporary);
    memory_free(w);
}

/* The file that the path refers to. A link to an existing file is resolved; any other path is
 * returned unchanged.
 */
static char *resolve(const char *path, Error *e) {
    char *real = realpath(path, NULL);
    char *target = copy_text(real ? real : path, 0, e);
    free(real);
    return target;
}

/* Opens a new file with an unpredictable name in the target's folder. O_EXCL: the file belongs to
 * nobody else, and no link is followed. */
static int open_temporary(FileWriter *w, mode_t mode, Error *e) {
    w->temporary = copy_text(w->target, TEMPORARY_NAME, e);
    if (!w->temporary) return -1;
    char *slash = strrchr(w->temporary, '/');
    char *name = slash ? slash + 1 : w->temporary;
    for (int i = 0; i < ATTEMPTS; i++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random) return system_error(e, w->path);
        snprintf(name, TEMPORARY_NAME, ".advrt-%016llx.tmp", (unsigned long long)random);
        w->fd =
            TEMP_FAILURE_RETRY(open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
        if (w->fd >= 0) return 0;
        if (errno != EEXIST) break;
    }
    return system_error(e, w->path);
}

static int writer_start(FileWriter *w, const char *path, Error *e) {
    w->path = copy_text(path, 0, e);
    w->target = w->path ? resolve(path, e) : NULL;
    if (!w->target) return -1;
    struct stat s;
    mode_t mode = 0666;
    if (stat(w->target, &s) == 0) {
        if (S_ISDIR(s.st_mode)) return error_set(e, "%s: is a directory", path);
        if (!S_ISREG(s.st_mode)) {
            w->fd = open(w->target, O_WRONLY | O_CLOEXEC);
            return w->fd >= 0 ? 0 : system_error(e, path);
        }
        mode = s.st_mode & 0777;
    }
    return open_temporary(w, mode, e);
}

int file_writer_open(FileWriter **w, const char *path, Error *e) {
    FileWriter *made = *w = memory_zeroed(1, sizeof *made, "a file writer", e);
    if (!made) return error_prefix(e, "%s", path);
    made->fd = -1;
    if (writer_start(made, path, e) == 0) return 0;
    writer_free(made);
    *w = NULL;
    return -1;
}

static int write_bytes(FileWriter *w, const unsigned char *bytes, size_t n, Error *e) {
    while (n > 0) {
        ssize_t wrote = write(w->fd, bytes, n);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            if (wrote == 0) errno = EIO;
            return w->failed = system_error(e, w->path);
        }
        bytes += wrote;
        n -= (size_t)wrote;
    }
    return 0;
}

static int flush(FileWriter *w, Error *e) {
    size_t n = w->held;
    w->held = 0;
    return write_bytes(w, w->buffer, n, e);
}

int file_writer_put(FileWriter *w, const void *bytes, size_t n, Error *e) {
    if (w->failed) return error_set(e, "%s: an earlier part could not be written", w->path);
    if (n > PIECE - w->held && flush(w, e) != 0) return -1;
    if (n >= PIECE) return write_bytes(w, bytes, n, e);
    if (n) memcpy(w->buffer + w->held, bytes, n);
    w->held += n;
    return 0;
}

/* Syncs a new name in a folder to disk. Failure is harmless: the file is complete under its name or
 * absent. */
static void sync_folder(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = '\0';
    int fd = TEMP_FAILURE_RETRY(open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) return;
    TEMP_FAILURE_RETRY(fsync(fd));
    close(fd);
}

static int writer_finish(FileWriter *w, Error *e) {
    if (flush(w, e) != 0) return -1;
    if (w->temporary && TEMP_FAILURE_RETRY(fsync(w->fd)) != 0) return system_error(e, w->path);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) return system_error(e, w->path);
    if (!w->temporary) return 0;
    if (rename(w->temporary, w->target) != 0) return system_error(e, w->path);
    sync_folder(w->target);
    return 0;
}

int file_writer_close(FileWriter *w, int failed, Error *e) {
    if (!w) return failed ? -1 : 0;
    if (!failed) failed = w->failed ? -1 : writer_finish(w, e);
    if (failed && w->temporary) unlink(w->temporary);
    writer_free(w);
    return failed ? -1 : 0;
}

int file_write(const char *path, const void *bytes, size_t n, Error *e) {
    FileWriter *w;
    if (file_writer_open(&w, path, e) != 0) return -1;
    return file_writer_close(w, file_writer_put(w, bytes, n, e), e);
}

int file_replace(const char *from, const char *to, Error *e) {
    char *copy = copy_text(to, 0, e);
    int fd =
        copy ? TEMP_FAILURE_RETRY(open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) : -1;
    int failed = !copy                                          ? -1
                 : fd < 0 || TEMP_FAILURE_RETRY(fsync(fd)) != 0 ? system_error(e, from)
                                                                : 0;
    if (fd >= 0) close(fd);
    if (!failed && rename(from, to) != 0)
        failed = error_set(e, "cannot give %s the name %s: %s", from, to, strerror(errno));
    if (!failed) sync_folder(copy);
    memory_free(copy);
    return failed;
}

/* --- reading --- */

int file_open_read(const char *path, int *fd, uint64_t *size, Error *e) {
    struct stat s;
    /* O_NONBLOCK: opening a FIFO without a writer would block forever. */
    *fd = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (*fd < 0) return system_error(e, path);
    int failed = fstat(*fd, &s) != 0 ? system_error(e, path) : 0;
    if (!failed && !S_ISREG(s.st_mode))
        failed = error_set(e, "%s: %s", path,
                           S_ISDIR(s.st_mode) ? "is a directory" : "is no regular file");
    if (failed) {
        close(*fd);
        *fd = -1;
        return -1;
    }
    *size = (uint64_t)s.st_size;
    return 0;
}

/* Reads up to n bytes; returns fewer only at the end of the file. */
static int read_up_to(int fd, unsigned char *out, size_t n, uint64_t position, size_t *got,
                      Error *e) {
    *got = 0;
    while (*got < n) {
        if (position + *got > INT64_MAX) return 0;
        ssize_t m = pread(fd, out + *got, n - *got, (off_t)(position + *got));
        if (m < 0 && errno == EINTR) continue;
        if (m < 0) return error_set(e, "cannot be read: %s", strerror(errno));
        if (m == 0) return 0;
        *got += (size_t)m;
    }
    return 0;
}

int file_read_at(int fd, void *out, size_t n, uint64_t position, Error *e) {
    size_t got;
    if (read_up_to(fd, out, n, position, &got, e) != 0) return -1;
    if (got == n) return 0;
    return error_set(e, "is truncated: wanted %zu bytes at byte %llu, found %zu", n,
                     (unsigned long long)position, got);
}

int file_read_whole(const char *path, size_t most, unsigned char **bytes, size_t *n, Error *e) {
    int fd;
    uint64_t size;
    *bytes = NULL;
    if (file_open_read(path, &fd, &size, e) != 0) return -1;
    int failed = 0;
    if (size > most) {
        failed = error_set(e, "has %llu bytes, more than the limit of %zu",
                           (unsigned long long)size, most);
    } else {
        *n = (size_t)size;
        *bytes = memory_take(*n, "a file", e);
        failed = *bytes ? file_read_at(fd, *bytes, *n, 0, e) : -1;
    }
    close(fd);
    if (!failed) return 0;
    memory_free(*bytes);
    *bytes = NULL;
    return error_prefix(e, "%s", path);
}

static void finish_digest(SHA2_CTX *context, char hex[FILE_SHA256_TEXT]) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256Final(digest, context);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void file_digest(const void *bytes, size_t n, char hex[FILE_SHA256_TEXT]) {
    SHA2_CTX context;
    SHA256Init(&context);
    SHA256Update(&context, bytes, n);
    finish_digest(&context, hex);
}

int file_sha256(const char *path, char hex[FILE_SHA256_TEXT], Error *e) {
    int fd;
    uint64_t size;
    size_t got = PIECE;
    unsigned char piece[PIECE];
    SHA2_CTX context;
    if (file_open_read(path, &fd, &size, e) != 0) return -1;
    SHA256Init(&context);
    int failed = 0;
    for (uint64_t at = 0; got == PIECE && !failed; at += got) {
        failed = read_up_to(fd, piece, PIECE, at, &got, e);
        if (!failed) SHA256Update(&context, piece, got);
    }
    close(fd);
    if (failed) return error_prefix(e, "%s", path);
    finish_digest(&context, hex);
    return 0;
}

int file_program(const char *name, char *path) {
    /* The kernel gives a loader's address unless it was the loader that was run. */
    if (getauxval(AT_BASE) == 0) return realpath(name, path) != NULL ? 0 : -1;
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (n > 0) path[n] = '\0';
    return n > 0 ? 0 : -1;
}
