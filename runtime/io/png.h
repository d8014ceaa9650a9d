/* PNG files in memory, by libpng. Messages do not name the file. */
#ifndef ADVRT_IO_PNG_H
#define ADVRT_IO_PNG_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start with the PNG signature. */
bool image_is_png(const unsigned char *bytes, size_t n);
/* Reads every kind of PNG as 8 bits: grey, with or without alpha, becomes grey; all others become
 * RGB. Gamma and colour profiles are ignored. Any damage is an error. */
int image_from_png(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_png would return, from the header. */
int image_png_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e);

#endif
