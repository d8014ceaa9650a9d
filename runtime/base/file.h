/* Files: writing so that a name holds all of a file or nothing of it, and
 * reading what is not trusted.
 *
 * A FileWriter collects bytes in a temporary file beside the target and gives it
 * the target's name when all is on disk; until then whatever had the name keeps
 * it. A link is followed first, so that the file it points to is replaced. What is
 * no regular file (a device, a pipe) is written directly. Only a crash in between
 * leaves a temporary file behind (.advrt-*.tmp).
 *
 * Messages start with the path, but for file_read_at, which does not know it.
 */
#ifndef ADVRT_BASE_FILE_H
#define ADVRT_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct FileWriter FileWriter;

/* Starts a file; on failure *w is NULL. */
int file_writer_open(FileWriter **w, const char *path, Error *e);
/* Adds n bytes. They are buffered: an error may show at a later call. */
int file_writer_put(FileWriter *w, const void *bytes, size_t n, Error *e);
/* Where `failed` is 0 and every put succeeded: writes what is left, waits for the disk and gives
 * the file its name. Otherwise removes it and returns -1, the error as it is. Frees w either way;
 * NULL is allowed: `failed = file_writer_close(w, failed, &e);` */
int file_writer_close(FileWriter *w, int failed, Error *e);

/* Writes a file of n bytes, whole or not at all. */
int file_write(const char *path, const void *bytes, size_t n, Error *e);

/* Gives a file that another program wrote, in the same file system, another name at once, all of it
 * on disk before. Where it fails, what had the name keeps it. */
int file_replace(const char *from, const char *to, Error *e);

/* Opens a regular file for reading and says how many bytes it has; refuses anything else without
 * waiting for it. The caller closes *fd. */
int file_open_read(const char *path, int *fd, uint64_t *size, Error *e);
/* Reads exactly n bytes at a position; a file that ends before is an error. The message has no
 * path: "is truncated: ...". */
int file_read_at(int fd, void *out, size_t n, uint64_t position, Error *e);
/* Reads a regular file of at most `most` bytes into *bytes, to be freed by memory_free; on failure
 * *bytes is NULL. */
int file_read_whole(const char *path, size_t most, unsigned char **bytes, size_t *n, Error *e);

/* SHA-256 of a regular file as 64 lower-case hexadecimal digits and a NUL. */
enum { FILE_SHA256_TEXT = 65 };
int file_sha256(const char *path, char hex[FILE_SHA256_TEXT], Error *e);
/* The same of n bytes in memory. */
void file_digest(const void *bytes, size_t n, char hex[FILE_SHA256_TEXT]);

#endif
