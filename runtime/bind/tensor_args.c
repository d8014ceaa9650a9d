/* Tensors as Lua userdata: makes them, and reads tensors, shapes and classes from arguments. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "bind/tensor.h"

static const char collect_key;

/* Lua counts a few bytes per tensor, so it would let gigabytes of garbage accumulate. Therefore run
 * a full collection whenever memory use exceeds its minimum since the last collection by this
 * much. */
enum { COLLECT_EVERY = 64 << 20 };

static void collect_when_due(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &collect_key);
    size_t limit = (size_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    size_t in_use = memory_count().in_use;
    if (in_use <= limit && limit <= in_use + COLLECT_EVERY) return;
    if (limit && in_use > limit) lua_gc(L, LUA_GCCOLLECT);
    lua_pushinteger(L, (lua_Integer)(memory_count().in_use + COLLECT_EVERY));
    lua_rawsetp(L, LUA_REGISTRYINDEX, &collect_key);
}

#define TENSOR "advrt.tensor"

/* The tensor is the first member, so a pointer to it is a pointer to the userdata. */
typedef struct TensorBox {
    Tensor tensor;
    bool closed;
} TensorBox;

Tensor *bind_new_tensor(lua_State *L) {
    collect_when_due(L);
    TensorBox *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (TensorBox){0};
    luaL_setmetatable(L, TENSOR);
    return &b->tensor;
}

void bind_new_tensor_metatable(lua_State *L) {
    luaL_newmetatable(L, TENSOR);
}

int bind_close_tensor(lua_State *L) {
    TensorBox *b = luaL_checkudata(L, 1, TENSOR);
    b->closed = true;
    if (operation_may_free(L)) tensor_free(&b->tensor);
    return 0;
}

Tensor *bind_make_tensor(lua_State *L, Dtype type, int ndim, const int64_t *shape) {
    Error e;
    Tensor *t = bind_new_tensor(L);
    if (tensor_new(t, bind_device(L), type, ndim, shape, &e) != 0) bind_fail(L, 1, &e);
    return t;
}

static bool is_open(const TensorBox *b) {
    return !b->closed && b->tensor.storage;
}

Tensor *bind_test_tensor(lua_State *L, int index) {
    TensorBox *b = luaL_testudata(L, index, TENSOR);
    return b && is_open(b) ? &b->tensor : NULL;
}

Tensor *bind_check_tensor(lua_State *L, int arg) {
    TensorBox *b = luaL_checkudata(L, arg, TENSOR);
    luaL_argcheck(L, is_open(b), arg, "the tensor has been emptied");
    return &b->tensor;
}

Tensor *bind_check_tensor_of(lua_State *L, int arg, Dtype type, int ndim) {
    char text[128];
    Tensor *t = bind_check_tensor(L, arg);
    if (t->dtype != type || (ndim >= 0 && t->ndim != ndim)) {
        const char *got =
            lua_pushfstring(L, "%s %s", dtype_name(t->dtype), tensor_shape_text(t, text));
        if (ndim >= 0)
            lua_pushfstring(L, "wanted a tensor of %s with %d dimensions, got %s", dtype_name(type),
                            ndim, got);
        else
            lua_pushfstring(L, "wanted a tensor of %s, got %s", dtype_name(type), got);
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    return t;
}

Tensor *bind_output(lua_State *L, int arg, Dtype type, int ndim, const int64_t *shape) {
    if (lua_isnoneornil(L, arg)) return bind_make_tensor(L, type, ndim, shape);
    Tensor *t = bind_check_tensor_of(L, arg, type, ndim);
    for (int i = 0; i < ndim; i++)
        if (t->shape[i] != shape[i]) {
            char wanted[128], got[128];
            lua_pushfstring(L, "wanted a tensor of %s %s, got %s", dtype_name(type),
                            shape_text(ndim, shape, wanted), tensor_shape_text(t, got));
            luaL_argerror(L, arg, lua_tostring(L, -1));
        }
    lua_pushvalue(L, arg);
    return t;
}

bool bind_defer(lua_State *L, const char *name) {
    if (!lua_istable(L, 2) || luaL_getmetafield(L, 2, name) == LUA_TNIL) return false;
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    operation_leave();
    lua_call(L, 2, 1);
    return true;
}

Dtype bind_opt_dtype(lua_State *L, int arg, Dtype otherwise) {
    Dtype type = otherwise;
    const char *name = luaL_optstring(L, arg, dtype_name(otherwise));
    if (dtype_of(name, &type) != 0) {
        luaL_Buffer names;
        luaL_buffinit(L, &names);
        for (int t = 0; t < DTYPES; t++) {
            luaL_addchar(&names, ' ');
            luaL_addstring(&names, dtype_name((Dtype)t));
        }
        luaL_pushresult(&names);
        lua_pushfstring(L, "no element type '%s'; there are%s", name, lua_tostring(L, -1));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    return type;
}

int bind_check_shape(lua_State *L, int arg, int64_t shape[TENSOR_DIMS]) {
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Unsigned n = lua_rawlen(L, arg);
    if (n > TENSOR_DIMS) {
        lua_pushfstring(L, "a shape has at most %d dimensions, got %I", TENSOR_DIMS,
                        (lua_Integer)n);
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    for (int i = 0; i < (int)n; i++) {
        int whole;
        lua_rawgeti(L, arg, i + 1);
        shape[i] = lua_tointegerx(L, -1, &whole);
        if (!whole || shape[i] < -1) {
            lua_pushfstring(L, "dimension %d of a shape must be a whole number, got %s", i + 1,
                            luaL_tolstring(L, -1, NULL));
            luaL_argerror(L, arg, lua_tostring(L, -1));
        }
        lua_pop(L, 1);
    }
    return (int)n;
}

static void classes_error(lua_State *L, int arg, int64_t row, int64_t K) {
    lua_pushfstring(L, "class of row %I must be a whole number in 0 .. %I, got %s",
                    (lua_Integer)row + 1, (lua_Integer)K - 1, luaL_tolstring(L, -1, NULL));
    luaL_argerror(L, arg, lua_tostring(L, -1));
}

static void count_error(lua_State *L, int arg, int64_t N, int64_t got) {
    lua_pushfstring(L, "wanted %I classes, got %I", (lua_Integer)N, (lua_Integer)got);
    luaL_argerror(L, arg, lua_tostring(L, -1));
}

static Tensor *classes_of_table(lua_State *L, int arg, int64_t N, int64_t K) {
    Error e;
    int64_t got = (int64_t)lua_rawlen(L, arg);
    if (got != N) count_error(L, arg, N, got);
    int64_t *host = lua_newuserdatauv(L, (size_t)N * sizeof *host + 1, 0);
    for (int64_t i = 0; i < N; i++) {
        int whole;
        lua_rawgeti(L, arg, i + 1);
        host[i] = lua_tointegerx(L, -1, &whole);
        if (!whole || host[i] < 0 || host[i] >= K) classes_error(L, arg, i, K);
        lua_pop(L, 1);
    }
    Tensor *t = bind_make_tensor(L, DTYPE_I64, 1, &N);
    if (tensor_from_host(t, host, &e) != 0) bind_fail(L, 1, &e);
    lua_remove(L, -2);
    return t;
}

Tensor *bind_check_classes(lua_State *L, int arg, int64_t N, int64_t K) {
    arg = lua_absindex(L, arg);
    if (lua_istable(L, arg)) return classes_of_table(L, arg, N, K);
    Error e;
    char text[128];
    Tensor *t = bind_check_tensor(L, arg);
    if (t->ndim != 1) {
        lua_pushfstring(L, "wanted %I classes, got a tensor of shape %s", (lua_Integer)N,
                        tensor_shape_text(t, text));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    if (t->shape[0] != N) count_error(L, arg, N, t->shape[0]);
    if (t->dtype == DTYPE_I64)
        lua_pushvalue(L, arg);
    else {
        bool whole = dtype_size(t->dtype) <= 4 && t->dtype >= DTYPE_I32 && t->dtype != DTYPE_BOOL;
        if (!whole) {
            lua_pushfstring(L, "wanted classes as whole numbers, got a tensor of %s",
                            dtype_name(t->dtype));
            luaL_argerror(L, arg, lua_tostring(L, -1));
        }
        Tensor *converted = bind_new_tensor(L);
        if (tensor_convert(converted, t, DTYPE_I64, &e) != 0) bind_fail(L, 1, &e);
        t = converted;
    }
    int64_t block[512];
    for (int64_t i = 0; i < N; i += 512) {
        int64_t m = N - i < 512 ? N - i : 512;
        Tensor part;
        if (tensor_narrow(&part, t, i, m, &e) != 0) bind_fail(L, 1, &e);
        int failed = tensor_to_host(&part, block, &e);
        tensor_free(&part);
        if (failed) bind_fail(L, 1, &e);
        for (int64_t j = 0; j < m; j++)
            if (block[j] < 0 || block[j] >= K) {
                lua_pushinteger(L, block[j]);
                classes_error(L, arg, i + j, K);
            }
    }
    return t;
}
