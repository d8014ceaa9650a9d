/* Messages for files that are not weight files: one line for each common kind, recognised by its
 * first bytes, with the way to get weights.
 */
#ifndef ADVRT_IO_FOREIGN_H
#define ADVRT_IO_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Bytes of a file's start needed to recognise it. */
enum { FOREIGN_START = 64 };

/* Whether a file that starts with these n > 0 bytes is text. */
bool foreign_is_text(const unsigned char *bytes, size_t n);
/* Sets the error for a text file with this start; returns -1. */
int foreign_refuse_text(const char *path, const unsigned char *bytes, size_t n, Error *e);
/* Sets the error for a file that is no format of io/weights.h; returns -1. */
int foreign_refuse(const unsigned char *bytes, size_t n, Error *e);
/* Sets the error for a folder, and says where in it weights may be; returns -1. */
int foreign_refuse_folder(const char *path, Error *e);

#endif
