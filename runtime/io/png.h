/* PNG files in memory, by libpng. Messages do not name the file. */
#ifndef ADVRT_IO_PNG_H
#define ADVRT_IO_PNG_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start with the PNG signature. */
bool image_is_png(const unsigned char *bytes, size_t n);
/* Every kind of PNG: grey images and grey with alpha become grey, all others RGB, of 8 bits. Gamma
 * and colour profiles are not applied. Damage is refused, wherever it is. */
int image_from_png(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_png would give, by the header. */
int image_png_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e);

#endif
