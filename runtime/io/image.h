/* Images: PNG, JPEG, WebP, BMP and PNM files to 8-bit pixels as Pillow's convert("RGB") or
 * convert("L") gives them, resized and cropped as torchvision's Resize and
 * CenterCrop do with Pillow's images, and PNG files from pixels.
 *
 * What a file is, its first bytes say, not its name. Nothing in it is trusted:
 * its sizes are looked at before memory is taken for them, and a file that is cut
 * off or damaged is refused. PNG gives the same pixels as Pillow; JPEG decoders
 * may differ by one level.
 */
#ifndef ADVRT_IO_IMAGE_H
#define ADVRT_IO_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The largest image that is read, resized or cropped to; the largest file. */
#define IMAGE_SIDE 65535u
#define IMAGE_PIXELS (UINT64_C(1) << 27)
#define IMAGE_FILE ((size_t)1 << 30)

typedef struct Image {
    uint32_t W, H;
    int C;                 /* 1: grey, 3: RGB */
    unsigned char *pixels; /* [H,W,C], counted memory; NULL: no image */
} Image;

/* Takes memory for uninitialised pixels, or refuses the size. On failure *out holds none. */
int image_new(Image *out, uint64_t W, uint64_t H, int C, Error *e);
void image_free(Image *image);
/* Whether an image of this size would be read. */
int image_check_size(uint64_t W, uint64_t H, Error *e);

/* What is wanted of an image; 0 everywhere: the image as it is in the file. */
typedef struct ImageWish {
    uint32_t resize; /* the shorter side, the longer one being truncated */
    uint32_t crop;   /* the middle square of this side; what lies outside the image is 0 */
    int channels;    /* 1: grey, 3: RGB */
} ImageWish;

/* Reads an image: channels first, L = (19595 R + 38470 G + 7471 B + 2^15) >> 16, then resize, then
 * crop. Without a wish for channels, a grey image stays grey, any other is RGB. Alpha is dropped,
 * whatever it hides; a 16-bit value v becomes round(v / 257). On failure *out holds no pixels and
 * the message starts with the path. */
int image_load(const char *path, const ImageWish *wish, Image *out, Error *e);
/* Width, height and channels of an image file by its header; a file that is damaged further on
 * passes. */
int image_size(const char *path, uint32_t *W, uint32_t *H, int *C, Error *e);
/* The same pixels as [C,H,W]. */
void image_planes(const Image *image, unsigned char *planes);
/* A number as a pixel: clamped to [0,1], times 255, rounded half to even; NaN is 0. */
unsigned char image_level(float v);
/* Writes [C,H,W] of C = 1 or 3 as an 8-bit PNG, whole or not at all. The same pixels give the same
 * bytes. */
int image_save_png(const char *path, const unsigned char *planes, int C, uint64_t H, uint64_t W,
                   Error *e);

/* Pillow's 8-bit antialiased bilinear: a triangle as wide as the scale, its weights rounded to
 * multiples of 2^-22, each pass rounded to 8 bits. A size that stays is left alone. Rows come
 * first, except where the height shrinks by more than twice the pixels that the width does. Equal
 * to Pillow 13 in every bit; Pillow 12 and earlier always take rows first, which moves some pixels
 * of such tall images by one level. *in is replaced on success and freed on failure. */
int image_resize(Image *in, uint64_t W, uint64_t H, Error *e);
/* The middle H x W, its offset rounded half to even. A larger one has zeros around the image. *in
 * is replaced on success and freed on failure. */
int image_crop(Image *in, uint64_t W, uint64_t H, Error *e);

#endif
