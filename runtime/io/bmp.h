/* BMP files in memory. Messages do not name the file. */
#ifndef ADVRT_IO_BMP_H
#define ADVRT_IO_BMP_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start as a BMP file. */
bool image_is_bmp(const unsigned char *bytes, size_t n);
/* Uncompressed BMP of 1, 4, 8, 16, 24 or 32 bits with the masks that Pillow reads, and its pixels:
 * an image whose palette is all levels of grey in order is grey, any other is RGB; the fourth byte
 * of 32 bits is dropped. Run-length coding is refused, and so are indexes that the palette does not
 * have. */
int image_from_bmp(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_bmp would give, by the header. */
int image_bmp_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e);

#endif
