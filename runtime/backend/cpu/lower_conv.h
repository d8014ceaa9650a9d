/* Functions that the files on convolutions share: lower_conv.c, lower_image.c, lower_convolve.c. */
#ifndef ADVRT_DEVICE_CPU_LOWER_CONV_H
#define ADVRT_DEVICE_CPU_LOWER_CONV_H

#include "backend/cpu/lower.h"

/* The forward convolution of an op that is a convolution or a gradient of one. A transposed
 * convolution counts as the gradient of the convolution from its output to its input. */
Op conv_forward_of(const Compiler *c, const Op *op);
/* The distance from the first to the last input that a kernel reads. */
static inline int64_t conv_reach(const Op *op, int axis) {
    return (op->kernel[axis] - 1) * op->dilation[axis];
}
static inline bool conv_is_dilated(const Op *op) {
    return op->dilation[0] > 1 || op->dilation[1] > 1;
}

/* Host weights in the graph's layout with batch norm folded in: [G][K][C][R][S], K and C per group.
 * The bias is that of all groups. They are rounded if `op` requires it; `forward` is its forward
 * op. */
typedef struct HostWeights {
    float *weight, *bias;
    int64_t G, K, C, R, S;
} HostWeights;
int conv_host_weights(const Compiler *c, const Op *op, const Op *forward, HostWeights *w, Error *e);
void conv_free_host_weights(HostWeights *w);
/* Turns the weights into [G][C][K][R][S], rotated by 180 degrees. They then belong to the
 * convolution that is the gradient of a stride-1 convolution. */
int conv_rotate(HostWeights *w, Error *e);

/* Puts host weights in the layout `from` into a fixed buffer in pd's layout. The bias goes into a
 * fixed buffer unchanged. */
int conv_keep_weights(Compiler *c, const Layout *from, const float *host, dnnl_primitive_desc_t pd,
                      int *buffer, Error *e);
int conv_keep_bias(Compiler *c, const float *host, int64_t K, int *buffer, Error *e);

/* The op as oneDNN's forward convolution, from its input's present layout to blocks of channels. */
ConvShape conv_forward_shape(const Compiler *c, const Op *forward);

/* A oneDNN convolution of dy in the layout `from`; a reorder puts dy into pd's layout first. */
int conv_emit_data(Compiler *c, const char *what, dnnl_primitive_desc_t pd, const Layout *from,
                   int dy, int weights, int out, Error *e);

/* The device's own kernels (lower_convolve.c). conv_own decides, once per step, which kernel
 * computes the shape between these layouts; it fills in N and the threads. NULL if no kernel does.
 * conv_emit_own emits the kernel, with weights w [K,C,taps,taps] and bias [K] or NULL. It includes
 * what it can of the work fused into `op` (may be NULL); *done records that. */
typedef struct OwnConvolution {
    const ConvolutionKernel *kernel;
    Convolution shape;
} OwnConvolution;
OwnConvolution conv_own(const Compiler *c, const Convolution *shape, const Layout *x,
                        const Layout *y);
int conv_emit_own(Compiler *c, const Op *op, bool backward, const OwnConvolution *own,
                  const float *w, const float *bias, int x, int y, Done *done, Error *e);
/* Lowers an op to these kernels. *taken is false, and nothing is emitted, if no kernel fits. They
 * take all ops of a layer or none. */
int conv_own_forward(Compiler *c, const Op *op, bool *taken, Error *e);
int conv_own_data(Compiler *c, const Op *op, bool *taken, Error *e);
int conv_own_weights(Compiler *c, const Op *op, bool *taken, Error *e);

/* Whether the convolution reads the image (normalised or not) as its only reader. */
bool conv_reads_image(const Compiler *c, const Op *forward);
/* Inference in phase form. *taken is false, and nothing is emitted, if the form does not fit. The
 * gradient goes straight into the caller's dx. */
int conv_image_forward(Compiler *c, const Op *op, bool *taken, Error *e);
int conv_image_data(Compiler *c, const Op *op, bool *taken, Error *e);

#endif
