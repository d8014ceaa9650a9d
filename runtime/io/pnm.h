/* PBM, PGM and PPM files in memory, binary and ASCII (P1 to P6). Messages do not name the file. */
#ifndef ADVRT_IO_PNM_H
#define ADVRT_IO_PNM_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start like a PNM file. */
bool image_is_pnm(const unsigned char *bytes, size_t n);
/* Bitmaps and PGM become grey, PPM becomes RGB. A value v with maximum M becomes 255 v / M, rounded
 * half to even. Pillow does the same, except that it clips 16-bit PGM. */
int image_from_pnm(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_pnm would return, from the header. */
int image_pnm_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e);

#endif
