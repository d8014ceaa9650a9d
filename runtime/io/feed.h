/* A feed of training images: threads of its own read, decode, change and lay out the batches that
 * come next while the device computes on this one.
 *
 * A feed is a list of images with labels, counted from 0 in the order in which they were added, all
 * of one shape [C,H,W]: image files, runs of raw images inside larger files, and images in memory.
 * A pass delivers them in a given order, batch by batch. What a batch holds depends on the feed,
 * the order and the change alone, not on the threads. Memory is that of a few batches, however many
 * images there are (but for those in memory).
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
    ImageWish wish;  /* resize and crop of image files */
    bool round;      /* every value to the nearest 8-bit level */
    float low, high; /* what floats may be; both 0: from 0 to 1 */
} FeedSpec;

typedef struct Augment {
    bool flip;    /* mirror left and right, every second image on average */
    int shift;    /* a crop of the image with this border: moved by -shift .. shift pixels each way;
                   * what comes in is black. At most 1024 */
    uint64_t key; /* the random stream; an image's change depends on it and its number alone, */
    const int64_t *numbers; /* which these are, for each place of the order; NULL: the feed's own */
} Augment;

int feed_new(Feed **out, const FeedSpec *spec, Error *e);
/* Ends a pass that is under way; NULL is allowed. */
void feed_free(Feed *f);
int64_t feed_count(const Feed *f);

/* Adds an image file. It is read when its turn comes. */
int feed_add_file(Feed *f, const char *path, int64_t label, Error *e);
/* Adds `count` images that lie one behind the other at byte `offset` of a file: u8 [C,H,W], or
 * little-endian f32 [C,H,W]; labels: one each. */
int feed_add_raw(Feed *f, const char *path, Dtype type, uint64_t offset, int64_t count,
                 const int64_t *labels, Error *e);
/* Adds the images [M,C,H,W] of a tensor, u8 or f32, which are copied; labels:
 * one each. */
int feed_add_pixels(Feed *f, const Tensor *images, const int64_t *labels, Error *e);

/* Begins a pass over the images order[0 .. n-1], of which `batch` at a time are delivered and what
 * is left behind the last whole batch is not. a: how they are changed, NULL: not at all. Ends a
 * pass that is under way. Fails where the order names an image that is not there. */
int feed_start(Feed *f, const int64_t *order, int64_t n, int64_t batch, const Augment *a,
               int threads, Error *e);
/* Waits for the next batch and copies it: x [batch,C,H,W] f32 in [0,1], y [batch] i64; *more is
 * false, and nothing is copied, behind the last one. Fails where one of its images cannot be read,
 * has another size, or values outside low .. high; the message names the file. */
int feed_next(Feed *f, const Tensor *x, const Tensor *y, bool *more, Error *e);
/* Seconds that feed_next has waited for images since feed_start. */
double feed_waited(const Feed *f);

#endif
