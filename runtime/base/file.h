/* Files: atomic writing (a name holds a complete file or none) and reading of untrusted files.
 *
 * A FileWriter collects bytes in a temporary file beside the target. When all bytes are on disk, it
 * renames that file to the target. Until then an existing target stays unchanged. A link is
 * followed first, so the file it points to is replaced. A target that is not a regular file (a
 * device, a pipe) is written directly. Only a crash leaves a temporary file behind (.advrt-*.tmp).
 *
 * Messages start with the path; file_read_at is the exception: it does not know the path.
 */
#ifndef ADVRT_BASE_FILE_H
#define ADVRT_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct FileWriter FileWriter;

/* Starts a file; on failure *w is NULL. */
int file_writer_open(FileWriter **w, const char *path, Error *e);
/* Adds n bytes. Writes are buffered: an error may appear at a later call. */
int file_writer_put(FileWriter *w, const void *bytes, size_t n, Error *e);
/* If `failed` is 0 and every put succeeded: writes the remaining bytes, syncs the disk and renames
 * the file. Otherwise removes the temporary file and returns -1; the error stays. Frees w in both
 * cases. w may be NULL: `failed = file_writer_close(w, failed, &e);` */
int file_writer_close(FileWriter *w, int failed, Error *e);

/* Writes a file of n bytes atomically. */
int file_write(const char *path, const void *bytes, size_t n, Error *e);

/* Syncs a file that another program wrote, then renames it atomically within its file system. On
 * failure an existing file of the new name stays. */
int file_replace(const char *from, const char *to, Error *e);

/* Opens a regular file for reading and returns its size in bytes. Any other kind of file is an
 * error, without blocking. The caller closes *fd. */
int file_open_read(const char *path, int *fd, uint64_t *size, Error *e);
/* Reads exactly n bytes at a position. An earlier end of the file is an error, whose message has no
 * path: "is truncated: ...". */
int file_read_at(int fd, void *out, size_t n, uint64_t position, Error *e);
/* Reads a regular file of at most `most` bytes into *bytes. The caller frees *bytes with
 * memory_free; on failure *bytes is NULL. */
int file_read_whole(const char *path, size_t most, unsigned char **bytes, size_t *n, Error *e);

/* SHA-256 of a regular file as 64 lower-case hexadecimal digits and a NUL. */
enum { FILE_SHA256_TEXT = 65 };
int file_sha256(const char *path, char hex[FILE_SHA256_TEXT], Error *e);
/* SHA-256 of n bytes in memory, in the same form. */
void file_digest(const void *bytes, size_t n, char hex[FILE_SHA256_TEXT]);

/* Finds the file that starts this program anew and writes its path [PATH_MAX]. `name` is argv[0]:
 * where a loader was run with the program as its argument, as in a bundle, /proc/self/exe is the
 * loader and argv[0] the file. Returns -1 if there is none. */
int file_program(const char *name, char *path);

#endif
