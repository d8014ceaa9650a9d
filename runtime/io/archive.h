/* Zip archives, as PyTorch and NumPy write them. Reads one entry at a time, front to back, and
 * compares each checksum. Nothing in an archive is trusted.
 */
#ifndef ADVRT_IO_ARCHIVE_H
#define ADVRT_IO_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zip.h>

#include "base/error.h"

typedef struct Archive {
    zip_t *zip;
    zip_file_t *entry;   /* the open entry */
    const char *reading; /* its name in messages; the caller keeps the text alive */
    uint64_t left;       /* its bytes still to read */
} Archive;

/* Opens the archive of an open file; the file's position stays. An archive with a repeated name, or
 * whose entries contradict its list, is an error. */
int archive_open(Archive *a, int fd, Error *e);
/* Closes the archive and the entry in it; a zeroed Archive is allowed. */
void archive_close(Archive *a);

/* Allowed forms of an entry: stored only, or compressed by deflate too. */
typedef enum ArchiveForm { ARCHIVE_STORED, ARCHIVE_DEFLATED } ArchiveForm;

/* Opens the entry `path` and returns its unpacked *size in bytes. `form`: the allowed forms;
 * `other`: the message for another form, after the entry's name. An entry that claims more than
 * deflate can pack into its bytes is an error. Call archive_leave afterwards. */
int archive_enter(Archive *a, const char *path, ArchiveForm form, const char *other, uint64_t *size,
                  Error *e);
void archive_leave(Archive *a);

/* Reads up to n bytes of the entry; 0 at its end. context: the Archive. */
int archive_next(void *context, void *out, size_t n, size_t *got, Error *e);
/* Reads exactly n bytes; the last ones compare the entry's checksum. */
int archive_exactly(void *context, void *out, size_t n, Error *e);
/* Reads the rest of the entry, and compares its checksum. */
int archive_drain(Archive *a, Error *e);

#endif
