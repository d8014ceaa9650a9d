/* What the files on convolutions share: lower_conv.c, lower_image.c, lower_convolve.c. */
#ifndef ADVRT_DEVICE_CPU_LOWER_CONV_H
#define ADVRT_DEVICE_CPU_LOWER_CONV_H

#include "backend/cpu/lower.h"

/* The convolution that an op is, or is a gradient of, as a forward op. A transposed convolution,
 * which is a gradient's op in the forward half, is that of the convolution from its output to its
 * input. */
Op conv_forward_of(const Compiler *c, const Op *op);
/* Inputs from the first that a kernel reads to the last. */
static inline int64_t conv_reach(const Op *op, int axis) {
    return (op->kernel[axis] - 1) * op->dilation[axis];
}
static inline bool conv_is_dilated(const Op *op) {
    return op->dilation[0] > 1 || op->dilation[1] > 1;
}

/* Host weights in the graph's layout, batch norm folded in: [G][K][C][R][S], K and C those of one
 * group. The bias is that of all groups. Rounded as `op`, whose forward op `forward` is, asks. */
typedef struct HostWeights {
    float *weight, *bias;
    int64_t G, K, C, R, S;
} HostWeights;
int conv_host_weights(const Compiler *c, const Op *op, const Op *forward, HostWeights *w, Error *e);
void conv_free_host_weights(HostWeights *w);
/* The weights become [G][C][K][R][S], rotated by half a turn: those of the convolution that is the
 * gradient of one with stride 1. */
int conv_rotate(HostWeights *w, Error *e);

/* Host weights in the layout `from` become a fixed buffer in the layout that pd wants; the bias
 * becomes one as it is. */
int conv_keep_weights(Compiler *c, const Layout *from, const float *host, dnnl_primitive_desc_t pd,
                      int *buffer, Error *e);
int conv_keep_bias(Compiler *c, const float *host, int64_t K, int *buffer, Error *e);

/* The op as oneDNN's forward sees it, from its input's own layout to blocks of channels. */
ConvShape conv_forward_shape(const Compiler *c, const Op *forward);

/* A oneDNN convolution of dy [in the layout `from`], which is put into pd's layout first. */
int conv_emit_data(Compiler *c, const char *what, dnnl_primitive_desc_t pd, const Layout *from,
                   int dy, int weights, int out, Error *e);

/* The device's own kernels (lower_convolve.c). conv_own decides, once for a step, which kernel
 * computes the shape (whose N and threads it fills in) between these layouts; NULL where none does.
 * conv_emit_own then emits it, with weights w [K,C,taps,taps] and bias [K] or NULL, and with it
 * what it can of the work fused into `op`, which may be NULL: *done says what. */
typedef struct OwnConvolution {
    const ConvolutionKernel *kernel;
    Convolution shape;
} OwnConvolution;
OwnConvolution conv_own(const Compiler *c, const Convolution *shape, const Layout *x,
                        const Layout *y);
int conv_emit_own(Compiler *c, const Op *op, bool backward, const OwnConvolution *own,
                  const float *w, const float *bias, int x, int y, Done *done, Error *e);
/* An op on them. *taken is false, and nothing is emitted, where there is none; of a layer's ops
 * they take none or all. */
int conv_own_forward(Compiler *c, const Op *op, bool *taken, Error *e);
int conv_own_data(Compiler *c, const Op *op, bool *taken, Error *e);
int conv_own_weights(Compiler *c, const Op *op, bool *taken, Error *e);

/* The convolution reads the image, normalised or not, and nothing else does. */
bool conv_reads_image(const Compiler *c, const Op *forward);
/* Inference in phase form; *taken is false, and nothing is emitted, where it does not serve. The
 * gradient goes straight to the caller's dx. */
int conv_image_forward(Compiler *c, const Op *op, bool *taken, Error *e);
int conv_image_data(Compiler *c, const Op *op, bool *taken, Error *e);

#endif
