/* kernels.inc for processors with AVX-512 (F, BW, DQ, VL). */
#include <math.h>
#include <string.h>

#include "backend/cpu/kernels.h"

#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")

#define KERNELS cpu_kernels_avx512
#define KERNELS_PRODUCT cpu_product_avx512
#define KERNELS_ISA "avx512"
#define KERNELS_CONVOLUTIONS cpu_convolutions_avx512
#include "backend/cpu/kernels.inc"
