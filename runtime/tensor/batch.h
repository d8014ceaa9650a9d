/* Training batches: images picked from a set in a given order, optionally mirrored and shifted, as
 * the f32 input of a net. */
#ifndef ADVRT_TENSOR_BATCH_H
#define ADVRT_TENSOR_BATCH_H

#include "tensor/tensor.h"

typedef struct Augment {
    bool flip;    /* mirror left and right, every second image on average */
    int shift;    /* move by -shift .. shift pixels each way; what comes in is black */
    uint64_t key; /* the random stream; an image's change depends on it and its index alone */
} Augment;

/* Row n of x [N,C,H,W] f32 becomes image order[first + n] of images [M,C,H,W], u8, each value
 * over 255, or f32, changed as `a` says (NULL: as it is); y [N] i64 gets its label from labels
 * [M] i64.
 * order [any] i64. Fails where shapes or types differ from these, where order has no N rows
 * from `first` on, and where it names an image that is not there. */
int batch_gather(const Tensor *images, const Tensor *labels, const Tensor *order, int64_t first,
                 const Augment *a, const Tensor *x, const Tensor *y, Error *e);

#endif
