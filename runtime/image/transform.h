/* Transformations of images that adversarial perturbations may or may not survive. */
#ifndef ADVRT_IO_TRANSFORM_H
#define ADVRT_IO_TRANSFORM_H

#include "tensor/tensor.h"

typedef enum TransformKind {
    TRANSFORM_TV,     /* total variation: the minimiser u of ||u - x||^2 / 2 + strength TV(u), each
                       * channel by itself, by 100 steps of Chambolle's projection (2004) */
    TRANSFORM_MEDIAN, /* of a square of odd side `strength` around each pixel */
    TRANSFORM_GAUSSIAN, /* convolution with a Gaussian of deviation `strength` in pixels, cut off at
                         * three deviations */
    TRANSFORM_BITS,     /* to the nearest of 2^strength levels from 0 to 1 */
    TRANSFORM_JPEG,     /* 8 bits, then written as a JPEG of quality `strength` and read again */
    TRANSFORM_PAD, /* 8 bits, resized to `strength` of both sides (below 1), and put at a random
                    * place into black of the old size */
    TRANSFORM_KINDS
} TransformKind;

const char *transform_name(TransformKind kind);
/* Changes the images x [N,C,H,W], f32 in [0,1], C 1 or 3 for JPEG and resizing, in place. Beyond
 * the edge filters see the edge's pixels. keys: N random streams, of which TRANSFORM_PAD draws the
 * place. Fails for strengths outside a kind's range: tv 0 or more, median odd from 1 to 15,
 * gaussian above 0 to 16, bits 1 to 16, jpeg 1 to 100, pad above 0 to 1. */
int transform_apply(TransformKind kind, double strength, const Tensor *x, const uint64_t *keys,
                    Error *e);

#endif
