/* A feed of training images: its own threads read, decode, augment and lay out the next batches
 * while the device computes.
 *
 * A feed is a list of labelled images of one shape [C,H,W], counted from 0 in the order of
 * addition. They come from image files, from ranges of raw images in larger files, and from memory.
 * A pass delivers them in a given order, batch by batch. A batch depends only on the feed, the
 * order and the augmentation, not on threads. Memory holds a few batches, regardless of the number
 * of images on disk.
 *
 * One thread at a time calls these functions for a feed.
 */
#ifndef ADVRT_IO_FEED_H
#define ADVRT_IO_FEED_H

#include "io/image.h"
#include "tensor/tensor.h"

typedef struct Feed Feed;

typedef struct FeedSpec {
    int64_t C, H, W;
    ImageWish wish;  /* resizing and cropping of image files */
    bool round;      /* round every value to the nearest 8-bit level */
    float low, high; /* range of float values; both 0: from 0 to 1 */
} FeedSpec;

typedef struct Augment {
    bool flip; /* mirror horizontally with probability one half */
    int shift; /* shift the image by -shift .. shift pixels in both directions, filled with black.
                  At most 1024 */
    uint64_t
        key; /* the random stream; an image's augmentation depends on it and on its number alone */
    const int64_t *numbers; /* the number of each image in the order; NULL: its index in the feed */
} Augment;

int feed_new(Feed **out, const FeedSpec *spec, Error *e);
/* Ends a running pass; NULL is allowed. */
void feed_free(Feed *f);
int64_t feed_count(const Feed *f);

/* Adds an image file. A pass reads it when needed. */
int feed_add_file(Feed *f, const char *path, int64_t label, Error *e);
/* Adds `count` consecutive images at byte `offset` of a file: u8 [C,H,W], or little-endian f32
 * [C,H,W]; labels: one each. */
int feed_add_raw(Feed *f, const char *path, Dtype type, uint64_t offset, int64_t count,
                 const int64_t *labels, Error *e);
/* Adds copies of the images [M,C,H,W] of a tensor, u8 or f32; labels: one each. */
int feed_add_pixels(Feed *f, const Tensor *images, const int64_t *labels, Error *e);

/* Begins a pass over the images order[0 .. n-1] in batches of `batch`; an incomplete last batch is
 * dropped. a: the augmentation, NULL: none. Ends a running pass. An index outside the feed is an
 * error. */
int feed_start(Feed *f, const int64_t *order, int64_t n, int64_t batch, const Augment *a,
               int threads, Error *e);
/* Waits for the next batch and copies it: x [batch,C,H,W] f32 in [0,1], y [batch] i64. After the
 * last batch, *more is false and nothing is copied. An image that is unreadable, of another size,
 * or has values outside low .. high is an error that names the file. */
int feed_next(Feed *f, const Tensor *x, const Tensor *y, bool *more, Error *e);
/* Seconds that feed_next has waited for images since feed_start. */
double feed_waited(const Feed *f);

#endif
