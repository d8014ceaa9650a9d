/* Zip archives, as PyTorch's and NumPy's files are: entries are read one at a time, front to back,
 * and each checksum is compared. Nothing in an archive is trusted.
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
    zip_file_t *entry;   /* the one being read */
    const char *reading; /* its name in messages; whoever enters it keeps the text */
    uint64_t left;       /* of its bytes */
} Archive;

/* Opens the archive of an open file, which keeps its position. Archives with two entries of one
 * name, or whose entries and list of entries do not agree, are refused. */
int archive_open(Archive *a, int fd, Error *e);
/* Closes the archive and the entry in it; a zeroed Archive is allowed. */
void archive_close(Archive *a);

/* What an entry may be: stored as it is, or packed by deflate too. */
typedef enum ArchiveForm { ARCHIVE_STORED, ARCHIVE_DEFLATED } ArchiveForm;

/* Opens the entry `path`, which has *size bytes unpacked. `form`: what is allowed; `other`: what is
 * said of another form, behind the entry's name. Refuses an entry that promises more than deflate
 * can pack into its bytes. archive_leave comes after it. */
int archive_enter(Archive *a, const char *path, ArchiveForm form, const char *other, uint64_t *size,
                  Error *e);
void archive_leave(Archive *a);

/* Reads up to n bytes of the entry: fewer, and 0 at its end. context: the Archive. */
int archive_next(void *context, void *out, size_t n, size_t *got, Error *e);
/* Reads exactly n bytes; where they are the entry's last, its checksum is compared. */
int archive_exactly(void *context, void *out, size_t n, Error *e);
/* Reads the rest of the entry, and compares its checksum. */
int archive_drain(Archive *a, Error *e);

#endif
