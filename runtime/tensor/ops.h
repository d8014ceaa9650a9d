/* Operations on tensors: each one checks types, shapes and ranges, then calls the device that holds
 * the data. Tensors are f32 unless a type is given. All tensors of a call are on one device.
 * Results are overwritten. */
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

/* Losses: z [N,K]; target [N] i64, every class in 0 .. K-1; value [N]; dz [N,K]. */
int tensor_loss(const LossCall *call, const Tensor *z, const Tensor *target, const Tensor *value,
                const Tensor *dz, Error *e);
/* initial, target [N] i64. The outputs are [N]: four f32, prediction i64, subspace u8. */
int tensor_logit_stats(const Tensor *z, const Tensor *initial, const Tensor *target,
                       const Tensor out[6], Error *e);
/* label [N] i64; dz [N,K]. */
int tensor_cross_entropy(const Tensor *z, const Tensor *label, double *loss, int64_t *correct,
                         const Tensor *dz, Error *e);

/* q [N,...]; l2, linf, zero_share (fraction of exact zeros) [N] f64. */
int tensor_norms(const Tensor *q, const Tensor *l2, const Tensor *linf, const Tensor *zero_share,
                 Error *e);
/* The box that images are clipped to. low and high are f32 with the elements of one image; NULL: 0
 * to 1. */
typedef struct TensorBox {
    const Tensor *low, *high;
} TensorBox;
/* x, q, x0 [N,...] of one shape; a, l2, linf [N] f64: Eq. 11-16, see device.h. */
int tensor_step(const Tensor *x, const Tensor *q, const Tensor *a, const Tensor *x0, TensorBox box,
                const Tensor *l2, const Tensor *linf, Error *e);

/* x, x0 [N,...] of one shape; scale, radius [N] f64, at least 0: see device.h. */
int tensor_project(const Tensor *x, const Tensor *x0, const Tensor *scale, const Tensor *radius,
                   Error *e);
/* Adam in the space of w: see device.h. x, w, m, v, q, x0 [N,...] of one shape; c, l2 [N] f64; t
 * [N] i64. */
typedef struct TanhTensors {
    Tensor x, w, m, v, q, x0, c, t, l2;
    TensorBox box;
} TanhTensors;
int tensor_tanh_step(const AdamStep *s, const TanhTensors *a, Error *e);
/* Moves one image into the tanh space. u = (x - low) / (high - low) is clamped to [hair, 1 - hair],
 * hair in (0, 0.5). w = atanh(2u - 1), of x's shape, is computed in double. x becomes low + (high -
 * low) (tanh w + 1) / 2. NaN stays NaN in both. If low = high, w = 0. */
int tensor_tanh_enter(const Tensor *x, const Tensor *w, TensorBox box, double hair, Error *e);

/* p, g and the optimiser's state have one shape. */
int tensor_sgd(const SgdStep *s, const Tensor *p, const Tensor *g, const Tensor *m, Error *e);
int tensor_adam(const AdamStep *s, const Tensor *p, const Tensor *g, const Tensor *m,
                const Tensor *v, Error *e);

#endif
