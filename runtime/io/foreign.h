/* What a file is that is no weight file: one line for each kind of file that people
 * give for one, told by its first bytes, with the way to weights.
 */
#ifndef ADVRT_IO_FOREIGN_H
#define ADVRT_IO_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Bytes of a file's start that tell it. */
enum { FOREIGN_START = 64 };

/* Whether a file that starts with these n > 0 bytes is text. */
bool foreign_is_text(const unsigned char *bytes, size_t n);
/* Refuses the text file that starts with them; returns -1. */
int foreign_refuse_text(const char *path, const unsigned char *bytes, size_t n, Error *e);
/* Refuses what starts with these bytes and is none of the formats of io/weights.h; returns -1. */
int foreign_refuse(const unsigned char *bytes, size_t n, Error *e);
/* Refuses a folder, and says where in it weights may be; returns -1. */
int foreign_refuse_folder(const char *path, Error *e);

#endif
