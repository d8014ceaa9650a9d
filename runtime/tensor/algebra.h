/* Tensor operations for autograd and for scripts: functions, broadcasting, reductions, selections
 * and products. Each one checks types, shapes and ranges, then calls the device that holds the
 * data; device.h defines the results. All tensors are f32, except indices, which are i64 and count
 * from 0. Results are overwritten. Dimensions count from 0. */
#ifndef ADVRT_TENSOR_ALGEBRA_H
#define ADVRT_TENSOR_ALGEBRA_H

#include "tensor/tensor.h"

/* out has a's shape; out may be a. */
int tensor_map(MapOp op, const Tensor *a, const Tensor *out, Error *e);

/* The shape of a OP b. Shapes are aligned at the last dimension. Where sizes differ, one must be 1
 * or missing; else this fails. */
int tensor_broadcast_shape(const Tensor *a, const Tensor *b, int *ndim, int64_t shape[TENSOR_DIMS],
                           Error *e);
/* out, of that shape, = a OP b. out may be an operand of the same shape. */
int tensor_broadcast(BinaryOp op, const Tensor *a, const Tensor *b, const Tensor *out, Error *e);

/* The rows of the tensor along dimension `dim`. */
RowShape tensor_rows(const Tensor *t, int dim);
/* out has one element per row of a, in the same order. */
int tensor_reduce(ReduceOp op, const Tensor *a, RowShape r, const Tensor *out, Error *e);
/* out has a's shape. */
int tensor_softmax(SoftmaxKind kind, const Tensor *a, int dim, const Tensor *out, Error *e);
/* value and index have a's shape, except that dimension dim has size k, 1 .. K. */
int tensor_top(const Tensor *a, int dim, int64_t k, const Tensor *value, const Tensor *index,
               Error *e);
/* out and index are [outer,J,inner]; with J = 1, [outer,inner] is allowed. With `others`, index is
 * [outer,inner] and J is K - 1. Fails if an index is not in 0 .. K-1. */
int tensor_gather(bool others, const Tensor *a, int dim, const Tensor *index, const Tensor *out,
                  Error *e);
/* The adjoint of gather: da [outer,K,inner] from dy [outer,J,inner]. */
int tensor_scatter(bool others, const Tensor *dy, int dim, const Tensor *index, const Tensor *da,
                   Error *e);

/* The shape [M,N] of a product; fails if the matrices do not fit. */
int tensor_matmul_shape(MatmulKind kind, const Tensor *a, const Tensor *b, int64_t shape[2],
                        Error *e);
int tensor_matmul(MatmulKind kind, const Tensor *a, const Tensor *b, const Tensor *out, Error *e);

#endif
