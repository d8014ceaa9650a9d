/* WebP files in memory, by libwebp. Messages do not name the file. */
#ifndef ADVRT_IO_WEBP_H
#define ADVRT_IO_WEBP_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start like a WebP file. */
bool image_is_webp(const unsigned char *bytes, size_t n);
/* Reads lossy and lossless WebP as RGB; alpha is dropped. An animation is an error. */
int image_from_webp(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_webp would return, from the header. */
int image_webp_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                    Error *e);

#endif
