/* "advrt.core.tensor": the operations of autograd, as methods of f32 tensors. A dimension counts
 * from 1. An index within a dimension counts from 0, as classes do. */
#include <string.h>

#include "bind/tensor.h"
#include "tensor/algebra.h"
#include "tensor/ops.h"

static void want_done(lua_State *L, int failed, const Error *e) {
    if (failed) bind_error(L, e);
}

static Tensor *check_f32(lua_State *L, int arg) {
    return bind_check_tensor_of(L, arg, DTYPE_F32, -1);
}

/* The dimension at an argument, converted to count from 0. */
static int check_dim(lua_State *L, int arg, const Tensor *t) {
    char text[128];
    lua_Integer dim = luaL_checkinteger(L, arg);
    if (dim < 1 || dim > t->ndim) {
        lua_pushfstring(L, "no dimension %I in a tensor of shape %s", dim,
                        tensor_shape_text(t, text));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    return (int)dim - 1;
}

/* t's shape with size n in dimension dim, or without that dimension if n < 0. Returns the number of
 * dimensions. */
static int shape_with(const Tensor *t, int dim, int64_t n, int64_t shape[TENSOR_DIMS]) {
    int ndim = 0;
    for (int i = 0; i < t->ndim; i++) {
        if (i != dim)
            shape[ndim++] = t->shape[i];
        else if (n >= 0)
            shape[ndim++] = n;
    }
    return ndim;
}

/* Functions of one operand ------------------------------------------------------------------ */

static int map(lua_State *L, MapOp op) {
    Error e;
    Tensor *a = check_f32(L, 1);
    want_done(L, tensor_map(op, a, bind_make_tensor(L, DTYPE_F32, a->ndim, a->shape), &e), &e);
    return 1;
}

#define MAP(name, op)                                                                              \
    static int name(lua_State *L) {                                                                \
        return map(L, op);                                                                         \
    }
MAP(exponential, MAP_EXP)
MAP(logarithm, MAP_LOG)
MAP(logarithm1p, MAP_LOG1P)
MAP(tangent, MAP_TANH)
MAP(square_root, MAP_SQRT)

/* Reductions -------------------------------------------------------------------------------- */

/* The rows that the arguments (dim[, keep]) from `first` select; pushes the tensor for the result.
 * Without a dimension, each image of [N,...] is a row. */
static const Tensor *row_results(lua_State *L, int first, const Tensor *a, RowShape *r) {
    int64_t shape[TENSOR_DIMS];
    if (lua_isnoneornil(L, first)) {
        luaL_argcheck(L, a->ndim > 0, 1, "wanted images [N,...]");
        *r = (RowShape){a->shape[0], 1, 1};
        for (int i = 1; i < a->ndim; i++) r->K *= a->shape[i];
        return bind_make_tensor(L, DTYPE_F32, 1, a->shape);
    }
    int dim = check_dim(L, first, a);
    int ndim = shape_with(a, dim, lua_toboolean(L, first + 1) ? 1 : -1, shape);
    *r = tensor_rows(a, dim);
    return bind_make_tensor(L, DTYPE_F32, ndim, shape);
}

static int reduce(lua_State *L, ReduceOp op, int first) {
    Error e;
    RowShape r;
    Tensor *a = check_f32(L, 1);
    const Tensor *out = row_results(L, first, a, &r);
    want_done(L, tensor_reduce(op, a, r, out, &e), &e);
    return 1;
}

int bind_tensor_sum(lua_State *L) {
    return reduce(L, REDUCE_SUM, 2);
}

int bind_tensor_mean(lua_State *L) {
    Error e;
    Tensor *a = check_f32(L, 1);
    float K = (float)a->shape[check_dim(L, 2, a)];
    reduce(L, REDUCE_SUM, 2);
    Tensor *out = lua_touserdata(L, -1);
    want_done(L, tensor_binary_scalar(BINARY_DIV, out, K, out, &e), &e);
    return 1;
}

int bind_tensor_extreme(lua_State *L, bool least) {
    Error e;
    RowShape r;
    Tensor *a = check_f32(L, 1);
    int dim = check_dim(L, 2, a);
    luaL_argcheck(L, a->shape[dim] > 0, 1, "the rows have no elements");
    const Tensor *out = row_results(L, 2, a, &r);
    Tensor *index = bind_make_tensor(L, DTYPE_I64, out->ndim, out->shape);
    if (least) {
        Tensor *turned = bind_make_tensor(L, DTYPE_F32, a->ndim, a->shape);
        want_done(L, tensor_binary_scalar(BINARY_MUL, a, -1, turned, &e), &e);
        a = turned;
    }
    want_done(L, tensor_top(a, dim, 1, out, index, &e), &e);
    if (least) want_done(L, tensor_binary_scalar(BINARY_MUL, out, -1, out, &e), &e);
    lua_pushvalue(L, least ? -3 : -2);
    return 1;
}

/* logsumexp(dim[, keep]) -> log sum exp along dim. */
static int logsumexp(lua_State *L) {
    luaL_checkinteger(L, 2);
    return reduce(L, REDUCE_LOGSUMEXP, 2);
}

/* norm(p[, dim[, keep]]) -> the p-norm along dim; p is 1, 2 or "inf". Without dim: the norm of each
 * image of [N,...]. */
static int norm(lua_State *L) {
    lua_Number p = lua_tonumber(L, 2); /* 0 if it is not a number */
    if (p == 1) return reduce(L, REDUCE_ABS_SUM, 3);
    if (p == 2) return reduce(L, REDUCE_NORM, 3);
    luaL_argcheck(L, !strcmp(luaL_checkstring(L, 2), "inf"), 2, "a norm is 1, 2 or \"inf\"");
    return reduce(L, REDUCE_ABS_MAX, 3);
}

static int soft(lua_State *L, SoftmaxKind kind) {
    Error e;
    Tensor *a = check_f32(L, 1);
    int dim = check_dim(L, 2, a);
    Tensor *out = bind_make_tensor(L, DTYPE_F32, a->ndim, a->shape);
    want_done(L, tensor_softmax(kind, a, dim, out, &e), &e);
    return 1;
}

/* softmax(dim[, float]) and log_softmax(dim), along dim. */
static int softmax(lua_State *L) {
    return soft(L, lua_toboolean(L, 3) ? SOFTMAX_FLOAT : SOFTMAX);
}

static int log_softmax(lua_State *L) {
    return soft(L, SOFTMAX_LOG);
}

/* Selections -------------------------------------------------------------------------------- */

/* topk(k, dim) -> values, indices i64: the k largest elements along dim in falling order. */
static int topk(lua_State *L) {
    Error e;
    int64_t shape[TENSOR_DIMS];
    Tensor *a = check_f32(L, 1);
    int dim = check_dim(L, 3, a);
    lua_Integer k = luaL_checkinteger(L, 2);
    if (k < 1 || k > a->shape[dim]) {
        lua_pushfstring(L, "k must be 1 to %I, got %I", (lua_Integer)a->shape[dim], k);
        luaL_argerror(L, 2, lua_tostring(L, -1));
    }
    int ndim = shape_with(a, dim, k, shape);
    Tensor *value = bind_make_tensor(L, DTYPE_F32, ndim, shape);
    Tensor *index = bind_make_tensor(L, DTYPE_I64, ndim, shape);
    want_done(L, tensor_top(a, dim, k, value, index, &e), &e);
    return 2;
}

/* Reads the indices at `arg` into dimension dim of `whole`, whose rows have K elements. They are
 * classes, in a table or tensor, one per row of a matrix (returns -1). Or they are i64 of whole's
 * shape without dim; if `many`, also with another size J there. Returns J. */
static int64_t check_index(lua_State *L, int arg, const Tensor *whole, int dim, int64_t K,
                           bool many, Tensor **index) {
    int64_t shape[TENSOR_DIMS];
    char wanted[128], got[128];
    int ndim = shape_with(whole, dim, -1, shape);
    bool table = lua_istable(L, arg);
    Tensor *t = table ? NULL : bind_check_tensor(L, arg);
    if (ndim == 1 && (table || t->ndim == 1)) {
        *index = bind_check_classes(L, arg, shape[0], K);
        lua_replace(L, arg);
        return -1;
    }
    *index = t = bind_check_tensor_of(L, arg, DTYPE_I64, -1);
    int64_t J = many && t->ndim == whole->ndim ? t->shape[dim] : -1;
    if (J >= 0) ndim = shape_with(whole, dim, J, shape);
    if (t->ndim != ndim || memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) != 0) {
        lua_pushfstring(L, "wanted indices of shape %s, got %s", shape_text(ndim, shape, wanted),
                        tensor_shape_text(t, got));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    return J;
}

/* gather(dim, index) -> the elements at the indices along dim. The result has the indices' shape:
 * one per row, or several if index has as many dimensions as the tensor. */
static int gather(lua_State *L) {
    Error e;
    Tensor *a = check_f32(L, 1), *index;
    int dim = check_dim(L, 2, a);
    check_index(L, 3, a, dim, a->shape[dim], true, &index);
    Tensor *out = bind_make_tensor(L, DTYPE_F32, index->ndim, index->shape);
    want_done(L, tensor_gather(false, a, dim, index, out, &e), &e);
    return 1;
}

/* others(dim, index) -> each row without the element at its index. */
static int others(lua_State *L) {
    Error e;
    int64_t shape[TENSOR_DIMS];
    Tensor *a = check_f32(L, 1), *index;
    int dim = check_dim(L, 2, a);
    luaL_argcheck(L, a->shape[dim] > 0, 1, "the rows have no elements");
    check_index(L, 3, a, dim, a->shape[dim], false, &index);
    int ndim = shape_with(a, dim, a->shape[dim] - 1, shape);
    Tensor *out = bind_make_tensor(L, DTYPE_F32, ndim, shape);
    want_done(L, tensor_gather(true, a, dim, index, out, &e), &e);
    return 1;
}

/* scatter(dim, index, K) -> the adjoint of gather: a tensor with size K along dim. Each element is
 * added at its index; all other elements are 0. */
static int scatter(lua_State *L) {
    Error e;
    int64_t shape[TENSOR_DIMS];
    Tensor *dy = check_f32(L, 1);
    Tensor *index = bind_check_tensor(L, 3);
    lua_Integer dim = luaL_checkinteger(L, 2), K = luaL_checkinteger(L, 4);
    bool single = lua_toboolean(L, 5);
    int ndim = dy->ndim + single;
    luaL_argcheck(L, K >= 0, 4, "a size cannot be negative");
    luaL_argcheck(L, dim >= 1 && dim <= ndim && ndim <= TENSOR_DIMS, 2, "no such dimension");
    luaL_argcheck(L, tensor_same_shape(dy, index), 3, "wanted an index for each element");
    for (int i = 0, j = 0; i < ndim; i++)
        shape[i] = i == dim - 1 ? (j += !single, K) : dy->shape[j++];
    Tensor *out = bind_make_tensor(L, DTYPE_F32, ndim, shape);
    want_done(L, tensor_scatter(false, dy, (int)dim - 1, index, out, &e), &e);
    return 1;
}

/* scatter_others(dim, index) -> the adjoint of others. */
static int scatter_others(lua_State *L) {
    Error e;
    int64_t shape[TENSOR_DIMS];
    Tensor *dy = check_f32(L, 1), *index;
    int dim = check_dim(L, 2, dy);
    check_index(L, 3, dy, dim, dy->shape[dim] + 1, false, &index);
    int ndim = shape_with(dy, dim, dy->shape[dim] + 1, shape);
    Tensor *out = bind_make_tensor(L, DTYPE_F32, ndim, shape);
    want_done(L, tensor_scatter(true, dy, dim, index, out, &e), &e);
    return 1;
}

/* Products ---------------------------------------------------------------------------------- */

/* matmul(b[, kind]) -> a matrix product: "nn" a b, "nt" a b', "tn" a' b. */
static int matmul(lua_State *L) {
    static const char *const kinds[] = {"nn", "nt", "tn", NULL};
    Error e;
    int64_t shape[2];
    if (bind_defer(L, "matmul")) return 1;
    Tensor *a = check_f32(L, 1), *b = check_f32(L, 2);
    MatmulKind kind = (MatmulKind)luaL_checkoption(L, 3, "nn", kinds);
    if (tensor_matmul_shape(kind, a, b, shape, &e) != 0) return luaL_argerror(L, 2, e.text);
    Tensor *out = bind_make_tensor(L, DTYPE_F32, 2, shape);
    want_done(L, tensor_matmul(kind, a, b, out, &e), &e);
    return 1;
}

const luaL_Reg bind_tensor_algebra[] = {
    {"exp", exponential},
    {"log", logarithm},
    {"log1p", logarithm1p},
    {"tanh", tangent},
    {"sqrt", square_root},
    {"logsumexp", logsumexp},
    {"norm", norm},
    {"softmax", softmax},
    {"log_softmax", log_softmax},
    {"topk", topk},
    {"gather", gather},
    {"others", others},
    {"scatter", scatter},
    {"scatter_others", scatter_others},
    {"matmul", matmul},
    {NULL, NULL},
};
