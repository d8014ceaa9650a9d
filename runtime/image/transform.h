/* Transformations of images that adversarial perturbations may or may not survive. */
#ifndef ADVRT_IO_TRANSFORM_H
#define ADVRT_IO_TRANSFORM_H

#include "tensor/tensor.h"

typedef enum TransformKind {
    TRANSFORM_TV,       /* total variation: minimises ||u - x||^2 / 2 + strength TV(u) over u, per
                           channel, by 100 steps of Chambolle's projection (2004) */
    TRANSFORM_MEDIAN,   /* the median of a square of odd side `strength` around each pixel */
    TRANSFORM_GAUSSIAN, /* convolution with a Gaussian; `strength` is its standard deviation in
                           pixels, truncated at three deviations */
    TRANSFORM_BITS,     /* to the nearest of 2^strength levels from 0 to 1 */
    TRANSFORM_JPEG, /* rounds to 8 bits, then encodes and decodes a JPEG of quality `strength` */
    TRANSFORM_PAD,  /* rounds to 8 bits, resizes both sides by `strength` (below 1), and places the
                       result at random in a black image of the old size */
    TRANSFORM_KINDS
} TransformKind;

const char *transform_name(TransformKind kind);
/* Transforms the images x [N,C,H,W] in place, f32 in [0,1]; C is 1 or 3 for JPEG and resizing.
 * Filters repeat the edge's pixels. keys: N random streams for the position of TRANSFORM_PAD. A
 * strength outside its range is an error: tv >= 0, median odd in 1 .. 15, gaussian in (0, 16], bits
 * 1 .. 16, jpeg 1 .. 100, pad in (0, 1]. */
int transform_apply(TransformKind kind, double strength, const Tensor *x, const uint64_t *keys,
                    Error *e);

#endif
