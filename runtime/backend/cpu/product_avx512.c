/* product.h for x86-64 processors with AVX-512. */
#include <string.h>

#include "backend/cpu/product.h"

#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")

#define LANES 16
#define ROWS 12
#define KERNEL cpu_product_avx512
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Bits __attribute__((vector_size(64)));

#include "backend/cpu/product.inc"
