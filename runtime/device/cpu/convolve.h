/* Own convolutions of stride 1 for inference, over activations in blocks of channels:
 * 1x1 as a matrix product that reads the image where it lies, and 3x3 by Winograd's
 * minimal filtering F(4x4, 3x3), which needs a quarter of the products.
 *
 * Both gather a group of pixels (of tiles) and two blocks of output channels in
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
    int64_t top, left; /* padding; what the other sides have follows from the grids */
    bool sum, relu;    /* y = relu(y_before + result), each where set */
    float cap;         /* of the ReLU; may be infinite */
    int threads;
} Convolution;

/* x [N, C/B, H, W, B] and y [N, K/B, OH, OW, B] in blocks of B = lanes channels, of which those
 * past C hold zeros and those past K are given zeros. y is not x. Memory is aligned to 64 bytes. */
typedef struct ConvolutionKernel {
    int lanes;
    /* Floats of the packed weights, and of a run's scratch (which may be 0). */
    size_t (*weights)(int64_t C, int64_t K);
    size_t (*scratch)(const Convolution *c);
    /* w [K,C,R,S] and bias [K], which may be NULL, become the kernel's own form; packed is zeroed
     * memory. */
    void (*pack)(const float *w, const float *bias, int64_t C, int64_t K, float *packed);
    void (*run)(const Convolution *c, const float *x, const float *packed, float *y,
                float *scratch);
} ConvolutionKernel;

extern const ConvolutionKernel cpu_pointwise_avx2, cpu_winograd_avx2, cpu_pointwise_avx512,
    cpu_winograd_avx512;

#endif
