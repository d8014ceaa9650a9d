/* Matrix products with any strides: linear layers on tokens, attention, and their gradients.
 *
 * Pieces of both factors are copied into the order in which the innermost loop reads them. Every
 * sum runs over K in order, in sections of a fixed length. So a result depends neither on its row
 * or column nor on the threads. AVX2 and AVX-512 contract products and sums, with equal bits; plain
 * x86-64 cannot.
 */
#ifndef ADVRT_DEVICE_CPU_PRODUCT_H
#define ADVRT_DEVICE_CPU_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Element (r, s) of a factor of product (i, j, k) is at i step[0] + j step[1] + k step[2] + r row +
 * s column. */
enum { PRODUCT_DIMS = 3 };
typedef struct ProductFactor {
    int64_t step[PRODUCT_DIMS], row, column;
} ProductFactor;

/* out[i] = a formula of the operands' elements i, for i < n; out may be an operand. */
typedef void FormulaLoop(const float *const *operand, float *out, int n);

/* out [M,N] = scale a [M,K] b [K,N] + bias [N], for i below n[0], j below n[1], k below n[2]. If a
 * step of out is 0, the products are summed. */
typedef struct MatrixProduct {
    int64_t M, N, K, n[PRODUCT_DIMS];
    ProductFactor a, b, out;
    float scale;
    bool add; /* adds to out */
    int threads;
    /* NULL, or a formula of a's elements, whose results are multiplied; a.column is 1. */
    FormulaLoop *of_a;
    /* NULL, or a formula of the finished product and of the array `beside`, which has out's order.
     * The product is operand number out_operand of the two. out.column is 1. */
    FormulaLoop *of_out;
    int out_operand;
} MatrixProduct;

/* A thread reads a once per this many columns of out; of_a is computed again each time. */
enum { PRODUCT_COLUMNS = 256 };

typedef struct ProductKernel {
    /* Floats of scratch memory for a run. */
    size_t (*scratch)(const MatrixProduct *p);
    /* bias and beside may be NULL. out overlaps no other argument. scratch is aligned to 64 B. */
    void (*run)(const MatrixProduct *p, const float *a, const float *b, const float *bias,
                const float *beside, float *out, float *scratch);
} ProductKernel;

extern const ProductKernel cpu_product_x86_64, cpu_product_avx2, cpu_product_avx512;

#endif
