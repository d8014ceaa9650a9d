/* The project's own convolutions and their gradients, over activations in blocks of channels. 1x1:
 * a matrix product that reads the image in place. Stride above 1: products of gathered pixels. 3x3,
 * 4x4 and 5x5 of stride 1: Winograd's minimal filtering in tiles of 6x6 inputs, with a quarter of
 * the products (9 of 25 for 5x5). 3x3 of stride 2: the same in phases, with 9 of 16 products.
 *
 * Each kernel holds the sums of a group of pixels (or tiles) and of two blocks of output channels
 * in registers. It sums over the input channels in order. So a result depends neither on the
 * grouping, nor on the threads, nor on the image's index in the batch. Unlike the functions of
 * kernels.h, these contract products and sums (FMA), as oneDNN's do. Plain x86-64 has none.
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
    int64_t taps;      /* rows and columns of the filter, 1 to 5 */
    int64_t top, left; /* padding; the grids determine the other two sides */
    int64_t stride;    /* distance between the inputs of neighbouring outputs */
    int64_t spread;    /* distance between inputs, with zeros between them; stride or spread is 1 */
    bool sum, relu;    /* y = relu(y_before + result), each part where set */
    float cap;         /* of the ReLU; may be infinite */
    bool backward;     /* the weights were packed for the forward convolution, and this run is its
                          gradient: K and C exchanged, the filter rotated, the bias unused */
    int threads;
} Convolution;

/* x [N, C/B, H, W, B] and y [N, K/B, OH, OW, B] are in blocks of B = lanes channels. Channels of x
 * from C on must be zero; those of y from K on become zero. y is not x. Memory is aligned to 64
 * bytes. */
typedef struct ConvolutionBuffers {
    const float *x, *weights; /* packed weights */
    float *y, *scratch;
    /* Bits as of relu_mask (kernels.h), or NULL. opened receives the bits of y. Where a bit of
     * `open` is clear, y becomes +0. */
    void *opened;
    const void *open;
} ConvolutionBuffers;

typedef struct ConvolutionKernel {
    int lanes;
    int64_t backward_taps; /* the largest filter for which a run may be `backward`; that takes more
                              time but needs no second copy of the weights */
    /* Outputs of a tile in each direction, for filters of that many taps. Only kernels in tiles
     * have this. */
    int64_t (*tile)(int64_t taps);
    /* Floats of the packed weights; floats of a run's scratch memory (may be 0). */
    size_t (*weights)(const Convolution *c);
    size_t (*scratch)(const Convolution *c);
    /* Packs w [K,C,taps,taps] and bias [K] (may be NULL) into the kernel's own form. turned: this
     * convolution is the gradient of another one, and w is the other's, [C,K,taps,taps]. Writes all
     * of packed. */
    void (*pack)(const Convolution *c, const float *w, bool turned, const float *bias,
                 float *packed);
    void (*run)(const Convolution *c, const ConvolutionBuffers *b);
    /* Computes the gradients dw [K,C,taps,taps] and dbias [K] (may be NULL) from x and dy, which
     * have the layout of x and y of a run. NULL if the kernel has no gradient. */
    size_t (*gradient_scratch)(const Convolution *c);
    void (*gradient)(const Convolution *c, const float *x, const float *dy, float *scratch,
                     float *dw, float *dbias);
} ConvolutionKernel;

typedef struct ConvolutionKernels {
    ConvolutionKernel pointwise; /* 1 tap, stride and spread 1, as many outputs as inputs */
    ConvolutionKernel strided;   /* up to 5 taps, any stride or spread */
    ConvolutionKernel phased;    /* 3 taps; stride 2, or spread 2 with padding 1 */
    ConvolutionKernel winograd;  /* 3 to 5 taps, stride and spread 1 */
} ConvolutionKernels;

extern const ConvolutionKernels cpu_convolutions_avx2, cpu_convolutions_avx512;

#endif
