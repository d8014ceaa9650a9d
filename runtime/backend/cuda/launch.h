/* How kernels are launched and share memory: CUDA's syntax under nvcc, a function under a compiler
 * without it (tests/cuda_standin). Only .cu files include this. Blocks are one-dimensional. LAUNCH
 * gives a cudaError_t. */
#ifndef ADVRT_DEVICE_CUDA_LAUNCH_H
#define ADVRT_DEVICE_CUDA_LAUNCH_H

#ifdef __CUDACC__
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#define LAUNCH(kernel, grid, block, stream, ...)                                                   \
    (kernel<<<(grid), (block), 0, (stream)>>>(__VA_ARGS__), cudaGetLastError())
#define SHARED(type, name, count) __shared__ type name[count]
#else
#include "kernel.h"
#endif

#include "backend/cuda/kernels.h"

enum { THREADS = 256, WARP = 32 };
#define ALL_LANES 0xffffffffU

/* Blocks of THREADS threads for n elements. If n is very large, each thread takes several. */
static inline dim3 blocks_for(int64_t n) {
    int64_t blocks = (n + THREADS - 1) / THREADS;
    return dim3((unsigned)(blocks < 1 ? 1 : blocks > 8192 ? 8192 : blocks));
}

/* Loops i over this thread's elements of 0 .. n-1. */
#define EACH(i, n)                                                                                 \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                      \
         i += (int64_t)gridDim.x * blockDim.x)

/* Sums and maxima over a warp, always in the same order. */
template <typename T> static __device__ inline T warp_sum(T v) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) v += __shfl_xor_sync(ALL_LANES, v, lanes);
    return v;
}

template <typename T> static __device__ inline T warp_max(T v) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        T other = __shfl_xor_sync(ALL_LANES, v, lanes);
        v = other > v ? other : v;
    }
    return v;
}

/* Activations and gradients are float or bfloat16 in memory, and float in registers. */
struct Bf16 {
    uint16_t bits;
};

static __device__ inline float real_get(const float *p) {
    return *p;
}

static __device__ inline float real_get(const Bf16 *p) {
    union {
        uint32_t bits;
        float value;
    } u;
    u.bits = (uint32_t)p->bits << 16;
    return u.value;
}

static __device__ inline void real_put(float *p, float v) {
    *p = v;
}

/* Rounds to nearest even; NaN stays NaN. */
static __device__ inline void real_put(Bf16 *p, float v) {
    union {
        float value;
        uint32_t bits;
    } u;
    u.value = v;
    uint32_t rounded = u.bits + 0x7fff + (u.bits >> 16 & 1);
    p->bits = (uint16_t)((v != v ? u.bits | 0x400000 : rounded) >> 16);
}

/* Runs `call` with T as the type of `real`. */
#define WITH_REAL(real, call)                                                                      \
    do {                                                                                           \
        if ((real) == REAL_F32) {                                                                  \
            typedef float T;                                                                       \
            return call;                                                                           \
        }                                                                                          \
        typedef Bf16 T;                                                                            \
        return call;                                                                               \
    } while (0)

#endif
