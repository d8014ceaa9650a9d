/* product.h for x86-64 processors with AVX2 and FMA. */
#include <string.h>

#include "backend/cpu/product.h"

#pragma GCC target("avx2,fma")

#define LANES 8
#define ROWS 6
#define KERNEL cpu_product_avx2
typedef float Vec __attribute__((vector_size(32)));
typedef int32_t Bits __attribute__((vector_size(32)));

#include "backend/cpu/product.inc"
