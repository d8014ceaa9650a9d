/* BMP files in memory. Messages do not name the file. */
#ifndef ADVRT_IO_BMP_H
#define ADVRT_IO_BMP_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start as a BMP file. */
bool image_is_bmp(const unsigned char *bytes, size_t n);
/* Decodes uncompressed BMP of 1, 4, 8, 16, 24 or 32 bits with the masks that Pillow reads. An image
 * with the grey levels in order as its palette is grey; any other is RGB. The fourth byte of 32
 * bits is dropped. Run-length coding, or an index outside the palette, is an error. */
int image_from_bmp(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_bmp would return, from the header. */
int image_bmp_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e);

#endif
