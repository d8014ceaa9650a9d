/* convolve.h for processors with AVX2 and FMA. */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "backend/cpu/convolve.h"

#pragma GCC target("avx2,fma")

#define LANES 8
#define ROWS 6
#define CONVOLUTIONS cpu_convolutions_avx2
#define HOLD(vector) __asm__("" : "+v"(vector))

typedef float Vec __attribute__((vector_size(32)));
typedef int32_t Bits __attribute__((vector_size(32)));
typedef uint8_t Open;

static inline Open open_of(Bits lanes) {
    return (Open)_mm256_movemask_ps((__m256)lanes);
}

static inline Bits lanes_of(Open open) {
    const Bits each = {1, 2, 4, 8, 16, 32, 64, 128};
    return (each & (int32_t)open) == each;
}

#include "backend/cpu/convolve.inc"
