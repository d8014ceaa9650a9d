/* kernels.inc for processors with AVX2 and FMA. */
#include <math.h>
#include <string.h>

#include "backend/cpu/kernels.h"

#pragma GCC target("avx2,fma,f16c")

#define KERNELS cpu_kernels_avx2
#define KERNELS_PRODUCT cpu_product_avx2
#define KERNELS_ISA "avx2"
#define KERNELS_CONVOLUTIONS cpu_convolutions_avx2
#include "backend/cpu/kernels.inc"
