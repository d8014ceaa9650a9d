/* convolve.h for processors with AVX2 and FMA. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "device/cpu/convolve.h"

#pragma GCC target("avx2,fma")

#define LANES 8
#define ROWS 6
#define POINTWISE cpu_pointwise_avx2
#define WINOGRAD cpu_winograd_avx2
#include "device/cpu/convolve.inc"
