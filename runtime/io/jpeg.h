/* JPEG files in memory, by libjpeg. Messages do not name the file. */
#ifndef ADVRT_IO_JPEG_H
#define ADVRT_IO_JPEG_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start with a JPEG's first marker. */
bool image_is_jpeg(const unsigned char *bytes, size_t n);
/* Baseline and progressive, of 8 bits, with the accurate integer inverse DCT and smooth upsampling.
 * Colour becomes RGB; CMYK and YCCK become what Pillow's convert("RGB") makes of them. Arithmetic
 * coding is refused, and so are a file that is cut off, one with a scan missing, and one whose data
 * do not decode, even where libjpeg would only warn. The work is bounded by the file's size. */
int image_from_jpeg(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_jpeg would give, by the header. */
int image_jpeg_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                    Error *e);
/* What writing the image as a baseline JPEG of a quality (1 to 100, 4:2:0 where it has colour) and
 * reading it again makes of it. On failure the image is as it was. */
int image_jpeg_again(Image *image, int quality, Error *e);

#endif
