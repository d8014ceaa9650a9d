/* product.h for any x86-64 processor. */
#include <string.h>

#include "backend/cpu/product.h"

#define LANES 4
#define ROWS 6
#define KERNEL cpu_product_x86_64
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Bits __attribute__((vector_size(16)));

#include "backend/cpu/product.inc"
