/* Images: reads PNG, JPEG, WebP, BMP and PNM files as 8-bit pixels, equal to Pillow's
 * convert("RGB") or convert("L"). Resizes and crops as torchvision's Resize and CenterCrop do with
 * Pillow images. Writes PNG files.
 *
 * The first bytes of a file decide its format, not its name. Nothing in a file is trusted: sizes
 * are checked before memory is allocated, and a truncated or damaged file is an error. PNG pixels
 * equal Pillow's; JPEG decoders may differ by one level.
 */
#ifndef ADVRT_IO_IMAGE_H
#define ADVRT_IO_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Limits on images read or produced, and on files. */
#define IMAGE_SIDE 65535u
#define IMAGE_PIXELS (UINT64_C(1) << 27)
#define IMAGE_FILE ((size_t)1 << 30)

typedef struct Image {
    uint32_t W, H;
    int C;                 /* 1: grey, 3: RGB */
    unsigned char *pixels; /* [H,W,C], counted memory; NULL: no image */
} Image;

/* Allocates uninitialised pixels; an unsupported size is an error. On failure *out has no pixels.
 */
int image_new(Image *out, uint64_t W, uint64_t H, int C, Error *e);
void image_free(Image *image);
/* Whether an image of this size is supported. */
int image_check_size(uint64_t W, uint64_t H, Error *e);

/* How to convert an image; all 0: keep the image of the file. */
typedef struct ImageWish {
    uint32_t
        resize;    /* new length of the shorter side; the longer side is truncated to an integer */
    uint32_t crop; /* side of the central square; outside the image it is 0 */
    int channels;  /* 1: grey, 3: RGB */
} ImageWish;

/* Reads an image. Order: channels, L = (19595 R + 38470 G + 7471 B + 2^15) >> 16, then resize, then
 * crop. If channels is 0, a grey image stays grey and any other becomes RGB. Alpha is dropped; a
 * 16-bit value v becomes round(v / 257). On failure *out has no pixels and the message starts with
 * the path. */
int image_load(const char *path, const ImageWish *wish, Image *out, Error *e);
/* Width, height and channels of an image file from its header; the pixels are not checked. */
int image_size(const char *path, uint32_t *W, uint32_t *H, int *C, Error *e);
/* The same pixels as [C,H,W]. */
void image_planes(const Image *image, unsigned char *planes);
/* Converts a number to a pixel: clamp to [0,1], times 255, rounded half to even; NaN is 0. */
unsigned char image_level(float v);
/* Writes [C,H,W] with C = 1 or 3 as an 8-bit PNG, atomically. Equal pixels give equal bytes. */
int image_save_png(const char *path, const unsigned char *planes, int C, uint64_t H, uint64_t W,
                   Error *e);

/* Pillow's 8-bit antialiased bilinear resize: a triangle filter as wide as the scale, weights
 * rounded to multiples of 2^-22, each pass rounded to 8 bits. An unchanged size is skipped. Rows
 * are resized first, unless the height shrinks by more than twice as many pixels as the width. All
 * bits equal Pillow 13's. Pillow 12 and earlier always resize rows first: some pixels of such tall
 * images differ by one level. *in is replaced on success and freed on failure. */
int image_resize(Image *in, uint64_t W, uint64_t H, Error *e);
/* Crops to the central H x W, offset rounded half to even. A larger size is padded with zeros. *in
 * is replaced on success and freed on failure. */
int image_crop(Image *in, uint64_t W, uint64_t H, Error *e);

#endif
