/* Own convolutions, and their gradients, over activations in blocks of channels: 1x1 as a
 * matrix product that reads the image where it lies, those of a stride above 1 as products
 * of gathered pixels, 3x3, 4x4 and 5x5 of stride 1 by Winograd's minimal filtering in
 * tiles of 6x6 inputs, which needs a quarter of the products (9 of 25 for 5x5), and 3x3 of
 * stride 2 by the same in phases, with 9 of 16.
 *
 * All gather a group of pixels (of tiles) and two blocks of output channels in
 * registers and sum over the input channels in order, so a figure depends neither on
 * the grouping nor on the threads nor on the image's place in the batch. Unlike
 * kernels.h's functions these contract products and sums, as oneDNN's do, and there
 * is none for plain x86-64.
 *
 * Letters: N images, C and K input and output channels, H W and OH OW the grids.
 */
#ifndef ADVRT_DEVICE_CPU_CONVOLVE_H
#define ADVRT_DEVICE_CPU_CONVOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Convolution {
    int64_t N, C, K, H, W, OH, OW;
    int64_t taps;      /* rows and columns of the filter: 1 to 5 */
    int64_t top, left; /* padding; what the other sides have follows from the grids */
    int64_t stride;    /* inputs from an output's to the next one's */
    int64_t spread;    /* inputs lie so far apart, zeros between; stride or spread is 1 */
    bool sum, relu;    /* y = relu(y_before + result), each where set */
    float cap;         /* of the ReLU; may be infinite */
    bool backward;     /* the weights are those packed for the convolution whose gradient this is:
                          K and C exchanged, the filter rotated; its bias is not used */
    int threads;
} Convolution;

/* x [N, C/B, H, W, B] and y [N, K/B, OH, OW, B] in blocks of B = lanes channels, of which those
 * past C hold zeros and those past K are given zeros. y is not x. Memory is aligned to 64 bytes. */
typedef struct ConvolutionBuffers {
    const float *x, *weights; /* packed ones */
    float *y, *scratch;
    /* Bits as relu_mask (kernels.h) has them, or NULL: opened is given those of y, y becomes +0
     * where open has none. */
    void *opened;
    const void *open;
} ConvolutionBuffers;

typedef struct ConvolutionKernel {
    int lanes;
    int64_t backward_taps; /* up to how many a run may be `backward`: it costs a little time, and
                              saves the memory of weights of its own */
    /* Outputs of a tile, in each direction, for filters of that many taps; of those in tiles. */
    int64_t (*tile)(int64_t taps);
    /* Floats of the packed weights, and of a run's scratch (which may be 0). */
    size_t (*weights)(const Convolution *c);
    size_t (*scratch)(const Convolution *c);
    /* w [K,C,taps,taps] and bias [K], which may be NULL, become the kernel's own form. turned: w is
     * [C,K,taps,taps] of the convolution whose gradient this is. All of packed is written. */
    void (*pack)(const Convolution *c, const float *w, bool turned, const float *bias,
                 float *packed);
    void (*run)(const Convolution *c, const ConvolutionBuffers *b);
    /* The gradients dw [K,C,taps,taps] and dbias [K], which may be NULL, from x and dy, in blocks
     * as x and y of a run; NULL where there is none. */
    size_t (*gradient_scratch)(const Convolution *c);
    void (*gradient)(const Convolution *c, const float *x, const float *dy, float *scratch,
                     float *dw, float *dbias);
} ConvolutionKernel;

typedef struct ConvolutionKernels {
    ConvolutionKernel pointwise; /* 1 tap, stride and spread 1, as many outputs as inputs */
    ConvolutionKernel strided;   /* up to 5 taps, any stride or spread */
    ConvolutionKernel phased;    /* 3 taps, stride 2, or spread 2 with padding of 1 */
    ConvolutionKernel winograd;  /* 3 to 5 taps, stride and spread 1 */
} ConvolutionKernels;

extern const ConvolutionKernels cpu_convolutions_avx2, cpu_convolutions_avx512;

#endif
