/* convolve.h for processors with AVX-512. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "device/cpu/convolve.h"

#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq")

#define LANES 16
#define ROWS 12
#define POINTWISE cpu_pointwise_avx512
#define WINOGRAD cpu_winograd_avx512
#include "device/cpu/convolve.inc"
