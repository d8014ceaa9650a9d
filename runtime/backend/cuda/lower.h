/* Lowers a program for CUDA (device/plan.h): what the files lower_*.c, one per primitive, share. A
 * step launches a kernel of the project or calls cuDNN or cuBLAS.
 *
 * A value of three dimensions is an image and channels-last. If products or rows of its last
 * dimensions made it, it is contiguous. All other values are contiguous too. A gradient has the
 * order of its value. A lowering asks for the order that it can read. The caller's image is in
 * planes. All forward values have one Real, and all gradients of backward one.
 */
#ifndef ADVRT_DEVICE_CUDA_LOWER_H
#define ADVRT_DEVICE_CUDA_LOWER_H

#include "backend/cuda/cuda.h"
#include "device/plan.h"

/* The buffers that an op records for the ops of its gradient. */
typedef struct CudaNote {
    int source;        /* the input of a convolution or linear layer, in the order it reads */
    int weights, back; /* the weights that forward and backward multiply by */
} CudaNote;

/* Compiler.own. */
typedef struct CudaLowering {
    CudaNote *notes; /* [n_ops] */
    int image;       /* the image, channels-last, once an op has asked for it */
    int runs;        /* the count of forwards, if there is dropout */
    bool *plain;     /* [n_values] */
} CudaLowering;

static inline CudaDevice *cuda_of_plan(const Plan *p) {
    return (CudaDevice *)p->device;
}
static inline cudaStream_t stream_of(const Plan *p) {
    return cuda_of_plan(p)->stream;
}
static inline CudaDevice *cuda_of_compiler(const Compiler *c) {
    return (CudaDevice *)c->device;
}
static inline const Value *value_of(const Compiler *c, int value) {
    return &c->program->values[value];
}
static inline CudaNote *note_of(const Compiler *c, int op) {
    return &((CudaLowering *)c->own)->notes[op];
}
static inline const Op *twin_of(const Compiler *c, const Op *op) {
    return &c->program->ops[op->twin];
}
/* The element type of forward values; of gradients in backward. */
static inline Real forward_real(const Compiler *c) {
    return c->request->precision == PLAN_BF16 ? REAL_BF16 : REAL_F32;
}
static inline Real backward_real(const Compiler *c) {
    PlanPrecision p = c->request->precision;
    return p == PLAN_BF16 || p == PLAN_MIXED ? REAL_BF16 : REAL_F32;
}
static inline Real op_real(const Compiler *c, const Op *op) {
    return op->backward ? backward_real(c) : forward_real(c);
}

/* The lowerings, one per kind of op that a CUDA program contains. */
typedef int Lower(Compiler *c, const Op *op, Error *e);
Lower cuda_lower_input, cuda_lower_output, cuda_lower_normalize, cuda_lower_affine, cuda_lower_conv,
    cuda_lower_conv_data, cuda_lower_conv_weights, cuda_lower_linear, cuda_lower_linear_data,
    cuda_lower_linear_weights, cuda_lower_batchnorm, cuda_lower_batchnorm_back, cuda_lower_relu,
    cuda_lower_mask, cuda_lower_maxpool, cuda_lower_maxpool_back, cuda_lower_avgpool,
    cuda_lower_avgpool_back, cuda_lower_add, cuda_lower_dropout, cuda_lower_dropout_back,
    cuda_lower_map, cuda_lower_reduce, cuda_lower_reduce_param;
Lower cuda_lower_view;
Lower cuda_lower_move;
Lower cuda_lower_insert;
Lower cuda_lower_avgwindow_back;
Lower cuda_lower_avgwindow;
Lower cuda_lower_matmul, cuda_lower_matmul_param;
Lower cuda_lower_softmax, cuda_lower_softmax_back;
Lower cuda_lower_standardize, cuda_lower_standardize_back;
Lower cuda_lower_resize;
Lower cuda_lower_resize_back;

/* Returns 0, or -1 with an error that names the layer, the step, and the call's message. */
int step_done(const Plan *p, const Step *s, cudaError_t status, Error *e);

/* Copies weights from f32 on the host to the type needed on the device. Returns the buffer, or
 * -1. */
int buffer_weights(Compiler *c, const float *host, size_t count, Real real, Error *e);
/* A new buffer for a value of type `real`. */
int buffer_of(Compiler *c, int value, Real real, Error *e);

/* Whether a value is contiguous. With one channel or one cell, both orders are equal. */
static inline bool value_is_plain(const Compiler *c, int value) {
    return ((CudaLowering *)c->own)->plain[value];
}
static inline bool value_is_image(const Compiler *c, int value) {
    return value_of(c, value)->shape.ndim == 3;
}
/* The element type of a value or a gradient. */
Real value_real(const Compiler *c, int value);
/* value_read: the value in its usual order: an image channels-last, any other contiguous. The
 * others: any value in the named order. -1 with the error set. */
int value_read(Compiler *c, int value, Error *e);
int value_channels(Compiler *c, int value, Error *e);
int value_plain(Compiler *c, int value, Error *e);
static inline int value_ordered(Compiler *c, int value, bool plain, Error *e) {
    return plain ? value_plain(c, value, e) : value_channels(c, value, e);
}
/* The buffer in which an op that can add writes its result; *sum says that it already holds
 * op->add. result_buffer: in the usual order of the value; result_ordered: in a given order. */
int result_buffer(Compiler *c, const Op *op, bool *sum, Error *e);
int result_ordered(Compiler *c, const Op *op, bool plain, bool *sum, Error *e);

int emit_convert(Compiler *c, Real from, int in, Real to, int out, int64_t n, Error *e);
/* From planes [N,C,P] in f32 to channels-last [N,P,C] of type `real`, and back. */
int emit_from_planes(Compiler *c, const char *what, Real real, int in, int out, int64_t N,
                     int64_t C, int64_t P, Error *e);
int emit_to_planes(Compiler *c, const char *what, Real real, int in, int scale, int out, int64_t N,
                   int64_t C, int64_t P, Error *e);
/* The gradient of a bias: the sums of dy [rows,C] over rows. */
int emit_bias_gradient(Compiler *c, int param, int dy, int64_t rows, int64_t C, Error *e);

/* The op's result is in `buffer`, in the value's usual order, or in the order that `plain` gives.
 * If `added`, it includes op->add. Emits the bias (a buffer, or NO_BUFFER) and the remaining fused
 * work, and places out[0]. A bias is per channel, or, in contiguous order, per element of the last
 * dimension. */
int deliver(Compiler *c, const Op *op, int buffer, int bias, bool added, Error *e);
int deliver_as(Compiler *c, const Op *op, bool plain, int buffer, int bias, bool added, Error *e);

#endif
