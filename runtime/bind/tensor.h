/* Functions that the files of "advrt.core.tensor" share. */
#ifndef ADVRT_BIND_TENSOR_H
#define ADVRT_BIND_TENSOR_H

#include "bind/bind.h"

/* bind_tensor_metatable registers the metatable of tensors, so that any module can make tensors;
 * bind_new_tensor_metatable pushes it empty. bind_close_tensor is its finaliser, which also
 * closes. */
void bind_tensor_metatable(lua_State *L);
void bind_new_tensor_metatable(lua_State *L);
int bind_close_tensor(lua_State *L);
/* Pushes a new, uninitialised tensor; raises a failure if it cannot be made. */
Tensor *bind_make_tensor(lua_State *L, Dtype t, int ndim, const int64_t *shape);
/* An optional output argument: pushes the given tensor after checking its type and shape, or a new
 * one. */
Tensor *bind_output(lua_State *L, int arg, Dtype t, int ndim, const int64_t *shape);
/* The element type named at `arg`. */
Dtype bind_opt_dtype(lua_State *L, int arg, Dtype otherwise);

/* If argument 2 is a table whose metatable has `name`, such as a tracked tensor: calls that
 * function with arguments 1 and 2, and returns true with the result on top. */
bool bind_defer(lua_State *L, const char *name);
/* sum(dim[, keep]), mean, and minimum or maximum of tensor_algebra.c. With keep, dim stays with
 * size 1. */
int bind_tensor_sum(lua_State *L);
int bind_tensor_mean(lua_State *L);
int bind_tensor_extreme(lua_State *L, bool least);

/* Tensor methods, operators and functions of the module, from tensor_ops.c and tensor_algebra.c. */
extern const luaL_Reg bind_tensor_operations[], bind_tensor_operators[], bind_tensor_functions[];
extern const luaL_Reg bind_tensor_algebra[];

#endif
