/* Tensor operations that autograd is made of, and that scripts compose: functions, broadcasting,
 * reductions, selections and products. Each checks types, shapes and ranges, then calls the device
 * that holds the data; see device.h for what is computed. All tensors are f32 but for indices,
 * which are i64 and count from 0, and results are overwritten. Dimensions count from 0 here. */
#ifndef ADVRT_TENSOR_ALGEBRA_H
#define ADVRT_TENSOR_ALGEBRA_H

#include "tensor/tensor.h"

/* out and a of one shape; out may be a. */
int tensor_map(MapOp op, const Tensor *a, const Tensor *out, Error *e);

/* The shape of a OP b: shapes are lined up at their last dimensions, and where they differ one of
 * the sizes is 1 or missing. Fails where they do not fit. */
int tensor_broadcast_shape(const Tensor *a, const Tensor *b, int *ndim, int64_t shape[TENSOR_DIMS],
                           Error *e);
/* out, of that shape, = a OP b; it may be an operand of the same shape. */
int tensor_broadcast(BinaryOp op, const Tensor *a, const Tensor *b, const Tensor *out, Error *e);

/* The tensor seen around dimension `dim`. */
RowShape tensor_rows(const Tensor *t, int dim);
/* out has an element for each row of a, in their order. */
int tensor_reduce(ReduceOp op, const Tensor *a, RowShape r, const Tensor *out, Error *e);
/* out is of a's shape. */
int tensor_softmax(SoftmaxKind kind, const Tensor *a, int dim, const Tensor *out, Error *e);
/* value and index have a's shape but for k, 1 .. K, in dimension dim. */
int tensor_top(const Tensor *a, int dim, int64_t k, const Tensor *value, const Tensor *index,
               Error *e);
/* out [outer,J,inner] and index [outer,J,inner], or [outer,inner] where J is 1; with `others`
 * index is [outer,inner] and J is K - 1. Fails where an index is not in 0 .. K-1. */
int tensor_gather(bool others, const Tensor *a, int dim, const Tensor *index, const Tensor *out,
                  Error *e);
/* The adjoint: da [outer,K,inner] from dy [outer,J,inner]. */
int tensor_scatter(bool others, const Tensor *dy, int dim, const Tensor *index, const Tensor *da,
                   Error *e);

/* The shape [M,N] of a product; fails where the matrices do not fit. */
int tensor_matmul_shape(MatmulKind kind, const Tensor *a, const Tensor *b, int64_t shape[2],
                        Error *e);
int tensor_matmul(MatmulKind kind, const Tensor *a, const Tensor *b, const Tensor *out, Error *e);

#endif
