/* PBM, PGM and PPM files in memory, packed and in letters (P1 to P6). Messages do not name the
 * file.
 */
#ifndef ADVRT_IO_PNM_H
#define ADVRT_IO_PNM_H

#include <stdbool.h>

#include "io/image.h"

/* Whether the bytes start as a PNM file. */
bool image_is_pnm(const unsigned char *bytes, size_t n);
/* Bitmaps and PGM become grey, PPM RGB; a value v of at most M becomes 255 v / M, rounded half to
 * even, as in Pillow (which clips a PGM of 16 bits instead). */
int image_from_pnm(const unsigned char *bytes, size_t n, Image *out, Error *e);
/* The size and channels that image_from_pnm would give, by the header. */
int image_pnm_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e);

#endif
