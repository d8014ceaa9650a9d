/* Operations on tensors: each checks types, shapes and ranges, then calls the
 * device that holds the data. f32 unless a type is given. All tensors of a call
 * are on one device. Results are overwritten. */
#ifndef ADVRT_TENSOR_OPS_H
#define ADVRT_TENSOR_OPS_H

#include "tensor/tensor.h"

/* Elementwise, all of one shape; out may be a or b. */
int tensor_fill(const Tensor *out, float value, Error *e);
int tensor_binary(BinaryOp op, const Tensor *a, const Tensor *b, const Tensor *out, Error *e);
int tensor_binary_scalar(BinaryOp op, const Tensor *a, float b, const Tensor *out, Error *e);
int tensor_clamp(const Tensor *a, float low, float high, const Tensor *out, Error *e);
int tensor_quantize(const Tensor *a, float levels, const Tensor *out, Error *e);
int tensor_sign(const Tensor *a, const Tensor *out, Error *e);

/* Losses: z [N,K], target [N] i64 with every class in 0 .. K-1; value [N], dz [N,K]. */
int tensor_loss(const LossCall *call, const Tensor *z, const Tensor *target, const Tensor *value,
                const Tensor *dz, Error *e);
/* initial, target [N] i64. The outputs are [N]: four f32, prediction i64, subspace u8. */
int tensor_logit_stats(const Tensor *z, const Tensor *initial, const Tensor *target,
                       const Tensor out[6], Error *e);
/* label [N] i64; dz [N,K]. */
int tensor_cross_entropy(const Tensor *z, const Tensor *label, double *loss, int64_t *correct,
                         const Tensor *dz, Error *e);

/* q [N,...]; l2, linf, zero_share [N] f64. */
int tensor_norms(const Tensor *q, const Tensor *l2, const Tensor *linf, const Tensor *zero_share,
                 Error *e);
/* The box of images: low and high, f32 of the elements of one image each; NULL: from 0 to 1. */
typedef struct TensorBox {
    const Tensor *low, *high;
} TensorBox;
/* x, q, x0 [N,...] of one shape; a, l2, linf [N] f64: Eq. 11-16, see device.h. */
int tensor_step(const Tensor *x, const Tensor *q, const Tensor *a, const Tensor *x0, TensorBox box,
                const Tensor *l2, const Tensor *linf, Error *e);

/* x, x0 [N,...] of one shape; scale, radius [N] f64, not negative: see device.h. */
int tensor_project(const Tensor *x, const Tensor *x0, const Tensor *scale, const Tensor *radius,
                   Error *e);
/* Adam in the space of w: see device.h. x, w, m, v, q, x0 [N,...] of one
 * shape; c, l2 [N] f64; t [N] i64. */
typedef struct TanhTensors {
    Tensor x, w, m, v, q, x0, c, t, l2;
    TensorBox box;
} TanhTensors;
int tensor_tanh_step(const AdamStep *s, const TanhTensors *a, Error *e);
/* x, one image, is drawn in from the box's sides by `hair` of its width, and w = atanh(2u - 1), of
 * the same shape, made in double, u being x's place from low, 0, to high, 1; x becomes the point of
 * (tanh w + 1) / 2. hair in (0, 0.5). NaN stays NaN, in both. A side of no width gives w = 0. */
int tensor_tanh_enter(const Tensor *x, const Tensor *w, TensorBox box, double hair, Error *e);

/* p, g and the optimiser's state of one shape. */
int tensor_sgd(const SgdStep *s, const Tensor *p, const Tensor *g, const Tensor *m, Error *e);
int tensor_adam(const AdamStep *s, const Tensor *p, const Tensor *g, const Tensor *m,
                const Tensor *v, Error *e);

#endif
