/* kernels.inc for any x86-64 processor. */
#include <math.h>
#include <string.h>

#include "backend/cpu/kernels.h"

#define KERNELS cpu_kernels_x86_64
#define KERNELS_PRODUCT cpu_product_x86_64
#define KERNELS_ISA "x86-64"
#include "backend/cpu/kernels.inc"
