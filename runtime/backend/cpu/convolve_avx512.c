/* convolve.h for processors with AVX-512. */
#include <immintrin.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "backend/cpu/convolve.h"

#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")

#define LANES 16
#define ROWS 12
#define CONVOLUTIONS cpu_convolutions_avx512
#define HOLD(vector) __asm__("" : "+v"(vector))

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Bits __attribute__((vector_size(64)));
typedef uint16_t Open;

static inline Open open_of(Bits lanes) {
    return _mm512_movepi32_mask((__m512i)lanes);
}

static inline Bits lanes_of(Open open) {
    return (Bits)_mm512_movm_epi32(open);
}

#include "backend/cpu/convolve.inc"
