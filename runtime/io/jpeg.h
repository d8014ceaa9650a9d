/* JPEG files in memory, by libjpeg. Messages do not name the file. */
#ifndef ADVRT_IO_JPEG_H
#define ADVRT_IO_JPEG_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start with a JPEG's first marker. */
bool image_is_jpeg(const unsigned char *bytes, size_t n);
/* Decodes baseline and progressive JPEG of 8 bits with the accurate integer inverse DCT and smooth
 * upsampling. Colour becomes RGB; CMYK and YCCK convert as in Pillow's convert("RGB"). Errors:
 * arithmetic coding, a truncated file, a missing scan, and data that do not decode, even where
 * libjpeg only warns. The file's size bounds the work. */
int image_from_jpeg(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_jpeg would return, from the header. */
int image_jpeg_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                    Error *e);
/* Encodes the image as a baseline JPEG of a quality (1 to 100, 4:2:0 for colour) and decodes it
 * again. On failure the image is unchanged. */
int image_jpeg_again(Image *image, int quality, Error *e);

#endif
