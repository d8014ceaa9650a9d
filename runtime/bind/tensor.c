/* "advrt.core.tensor": makes tensors; their shapes, views and elements. Arithmetic is in
 * tensor_ops.c. Indices and dimensions count from 1, as in Lua. */
#include "bind/tensor.h"

#include <inttypes.h>
#include <string.h>

#include "base/random.h"
#include "io/image.h"

static void want_made(lua_State *L, int failed, const Error *e) {
    if (failed) bind_fail(L, 1, e);
}

static void want_done(lua_State *L, int failed, const Error *e) {
    if (failed) bind_error(L, e);
}

static void push_element(lua_State *L, Dtype t, const void *at) {
    if (t == DTYPE_F32 || t == DTYPE_F64 || t == DTYPE_F16 || t == DTYPE_BF16) {
        double v;
        dtype_convert(DTYPE_F64, &v, t, at, 1);
        lua_pushnumber(L, v);
        return;
    }
    int64_t v;
    dtype_convert(DTYPE_I64, &v, t, at, 1);
    if (t == DTYPE_BOOL)
        lua_pushboolean(L, v != 0);
    else
        lua_pushinteger(L, v);
}

/* Stores the Lua value at idx as an element; raises an error of argument `arg` if it is not a valid
 * element. */
static void read_element(lua_State *L, int idx, int arg, Dtype t, void *at) {
    const char *wanted = "a number";
    if (t == DTYPE_BOOL && lua_isboolean(L, idx)) {
        uint8_t v = (uint8_t)lua_toboolean(L, idx);
        memcpy(at, &v, 1);
        return;
    }
    int done = 0;
    if (t == DTYPE_F32 || t == DTYPE_F64 || t == DTYPE_F16 || t == DTYPE_BF16) {
        double v = lua_tonumberx(L, idx, &done);
        if (done) dtype_convert(t, at, DTYPE_F64, &v, 1);
    } else {
        wanted = "a whole number in range";
        int64_t v = lua_tointegerx(L, idx, &done), back;
        if (done) {
            dtype_convert(t, at, DTYPE_I64, &v, 1);
            dtype_convert(DTYPE_I64, &back, t, at, 1);
            done = back == v;
        }
    }
    if (!done) {
        lua_pushfstring(L, "an element of %s must be %s, got %s", dtype_name(t), wanted,
                        luaL_tolstring(L, idx, NULL));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
}

/* new(shape[, dtype]) -> a tensor of zeros. */
static int make(lua_State *L) {
    static const char zeros[sizeof(float)];
    Error e;
    int64_t shape[TENSOR_DIMS];
    int ndim = bind_check_shape(L, 1, shape);
    for (int i = 0; i < ndim; i++)
        luaL_argcheck(L, shape[i] >= 0, 1, "a dimension cannot be negative");
    Tensor *t = bind_make_tensor(L, bind_opt_dtype(L, 2, DTYPE_F32), ndim, shape);
    Device *d = tensor_device(t);
    size_t bytes = tensor_bytes(t), whole = bytes / sizeof(float) * sizeof(float);
    want_made(L, d->fill(d, t->data, 0, (int64_t)(bytes / sizeof(float)), &e), &e);
    want_made(L, d->copy_in(d, (char *)t->data + whole, zeros, bytes - whole, &e), &e);
    return 1;
}

/* The shape of a nested table: the sizes of the first table at each depth. */
static int nested_shape(lua_State *L, int arg, int64_t shape[TENSOR_DIMS]) {
    int ndim = 0;
    lua_pushvalue(L, arg);
    while (lua_istable(L, -1)) {
        if (ndim == TENSOR_DIMS)
            luaL_argerror(L, arg, "the table is nested more deeply than a tensor has dimensions");
        shape[ndim++] = (int64_t)lua_rawlen(L, -1);
        lua_rawgeti(L, -1, 1);
        lua_remove(L, -2);
    }
    lua_pop(L, 1);
    return ndim;
}

/* Reads the table on top of the stack, dimension `dim` of the shape, into *at and advances *at. */
static void read_nested(lua_State *L, int arg, const Tensor *t, int dim, char **at) {
    int64_t got = (int64_t)lua_rawlen(L, -1);
    if (got != t->shape[dim]) {
        lua_pushfstring(L, "rows differ in length: %I and %I at depth %d",
                        (lua_Integer)t->shape[dim], (lua_Integer)got, dim + 1);
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    for (int64_t i = 1; i <= got; i++) {
        lua_rawgeti(L, -1, i);
        if (dim + 1 < t->ndim) {
            if (!lua_istable(L, -1))
                luaL_argerror(L, arg, "tables and numbers are mixed at one depth");
            read_nested(L, arg, t, dim + 1, at);
        } else {
            read_element(L, -1, arg, t->dtype, *at);
            *at += dtype_size(t->dtype);
        }
        lua_pop(L, 1);
    }
}

static void reshape_to(lua_State *L, int arg, Tensor *out, const Tensor *t) {
    Error e;
    int64_t shape[TENSOR_DIMS], known = 1, open = -1;
    int ndim = bind_check_shape(L, arg, shape);
    for (int i = 0; i < ndim; i++) {
        if (shape[i] != -1) {
            if (__builtin_mul_overflow(known, shape[i], &known)) known = 0;
        } else {
            luaL_argcheck(L, open < 0, arg, "only one dimension can be -1");
            open = i;
        }
    }
    if (open >= 0) {
        luaL_argcheck(L, known > 0 && tensor_count(t) % known == 0, arg,
                      "the number of elements does not divide evenly for -1");
        shape[open] = tensor_count(t) / known;
    }
    if (tensor_reshape(out, t, ndim, shape, &e) != 0) luaL_argerror(L, arg, e.text);
}

/* from(table[, dtype[, shape]]) -> a tensor from a nested table, or, with a shape, from a flat
 * table. */
static int from(lua_State *L) {
    Error e;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 3);
    int64_t shape[TENSOR_DIMS];
    int ndim = nested_shape(L, 1, shape);
    Tensor *t = bind_make_tensor(L, bind_opt_dtype(L, 2, DTYPE_F32), ndim, shape);
    char *host = lua_newuserdatauv(L, tensor_bytes(t) + 1, 0), *at = host;
    lua_pushvalue(L, 1);
    read_nested(L, 1, t, 0, &at);
    lua_pop(L, 1);
    want_made(L, tensor_from_host(t, host, &e), &e);
    lua_pop(L, 1);
    if (lua_isnil(L, 3)) return 1;
    reshape_to(L, 3, bind_new_tensor(L), t);
    return 1;
}

typedef int Random(Tensor *out, Device *d, uint64_t key, int ndim, const int64_t *shape, Error *e);

static int random_tensor(lua_State *L, Random *make_random) {
    Error e;
    size_t length;
    int64_t shape[TENSOR_DIMS];
    const char *name = luaL_checklstring(L, 1, &length);
    int ndim = bind_check_shape(L, 2, shape);
    for (int i = 0; i < ndim; i++)
        luaL_argcheck(L, shape[i] >= 0, 2, "a dimension cannot be negative");
    uint64_t key = random_hash(RANDOM_EMPTY, name, length);
    want_made(L, make_random(bind_new_tensor(L), bind_device(L), key, ndim, shape, &e), &e);
    return 1;
}

/* uniform(name, shape) -> f32 tensor of u(name, i) from the project's random stream, in [0,1). */
static int uniform(lua_State *L) {
    return random_tensor(L, tensor_uniform);
}

/* normal(name, shape) -> f32 tensor of numbers with mean 0 and standard deviation 1 from the same
 * stream. */
static int normal(lua_State *L) {
    return random_tensor(L, tensor_normal);
}

/* The tensor at index i of the list at argument 1. The list keeps it alive while no value is
 * made. */
static Tensor *listed(lua_State *L, lua_Integer i) {
    lua_rawgeti(L, 1, i);
    Tensor *t = bind_test_tensor(L, -1);
    lua_pop(L, 1);
    if (!t) {
        lua_pushfstring(L, "item %I of the list is not a tensor", i);
        luaL_argerror(L, 1, lua_tostring(L, -1));
    }
    return t;
}

static int join(lua_State *L, bool stacked) {
    Error e;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    luaL_argcheck(L, n > 0, 1, "wanted a list of tensors, got an empty one");
    Tensor shape = *listed(L, 1);
    int drop =
        stacked ? 0 : 1; /* dimensions of the items that the result's first dimension replaces */
    luaL_argcheck(L, shape.ndim - drop >= 0 && shape.ndim - drop < TENSOR_DIMS, 1,
                  "the tensors have too many or too few dimensions");
    int64_t rows = 0, sizes[TENSOR_DIMS];
    for (lua_Integer i = 1; i <= n; i++) {
        const Tensor *t = listed(L, i);
        Tensor like = shape;
        if (!stacked && t->ndim > 0) like.shape[0] = t->shape[0];
        if (t->dtype != shape.dtype || !tensor_same_shape(t, &like)) {
            char a[128], b[128];
            lua_pushfstring(L, "item %I is %s %s, the first is %s %s", i, dtype_name(t->dtype),
                            tensor_shape_text(t, a), dtype_name(shape.dtype),
                            tensor_shape_text(&shape, b));
            luaL_argerror(L, 1, lua_tostring(L, -1));
        }
        rows += stacked ? 1 : t->shape[0];
    }
    sizes[0] = rows;
    for (int i = drop; i < shape.ndim; i++) sizes[i + 1 - drop] = shape.shape[i];
    Tensor *out = bind_make_tensor(L, shape.dtype, shape.ndim + 1 - drop, sizes);
    int64_t row = 0;
    for (lua_Integer i = 1; i <= n; i++) {
        const Tensor *t = listed(L, i);
        int64_t height = stacked ? 1 : t->shape[0];
        Tensor view;
        want_done(L, tensor_narrow(&view, out, row, height, &e), &e);
        int failed = tensor_copy(&view, t, &e);
        tensor_free(&view);
        want_done(L, failed, &e);
        row += height;
    }
    return 1;
}

/* stack(list) -> [n,...] from n tensors of equal shape and type. */
static int stack(lua_State *L) {
    return join(L, true);
}

/* concat(list) -> the tensors joined along the first dimension. */
static int concat(lua_State *L) {
    return join(L, false);
}

static int size(lua_State *L) {
    Tensor *t = bind_check_tensor(L, 1);
    lua_Integer d = luaL_checkinteger(L, 2);
    if (d < 1 || d > t->ndim) {
        lua_pushfstring(L, "the tensor has dimensions 1 .. %d, got %I", t->ndim, d);
        luaL_argerror(L, 2, lua_tostring(L, -1));
    }
    lua_pushinteger(L, t->shape[d - 1]);
    return 1;
}

static int shape(lua_State *L) {
    Tensor *t = bind_check_tensor(L, 1);
    lua_createtable(L, t->ndim, 0);
    for (int i = 0; i < t->ndim; i++) {
        lua_pushinteger(L, t->shape[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int dim(lua_State *L) {
    lua_pushinteger(L, bind_check_tensor(L, 1)->ndim);
    return 1;
}

static int numel(lua_State *L) {
    lua_pushinteger(L, tensor_count(bind_check_tensor(L, 1)));
    return 1;
}

static int dtype(lua_State *L) {
    lua_pushstring(L, dtype_name(bind_check_tensor(L, 1)->dtype));
    return 1;
}

static void push_nested(lua_State *L, const Tensor *t, int dimension, const char **at) {
    if (dimension == t->ndim) {
        push_element(L, t->dtype, *at);
        *at += dtype_size(t->dtype);
        return;
    }
    bind_room(L, 4);
    int64_t n = t->shape[dimension];
    lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
    for (int64_t i = 1; i <= n; i++) {
        push_nested(L, t, dimension + 1, at);
        lua_rawseti(L, -2, i);
    }
}

/* totable() -> nested tables; a number if there are no dimensions. */
static int totable(lua_State *L) {
    Error e;
    Tensor *t = bind_check_tensor(L, 1);
    char *host = lua_newuserdatauv(L, tensor_bytes(t) + 1, 0);
    want_done(L, tensor_to_host(t, host, &e), &e);
    const char *at = host;
    push_nested(L, t, 0, &at);
    return 1;
}

/* Pushes one element of the tensor; `element` counts from 0 in memory order. */
static int push_at(lua_State *L, const Tensor *t, int64_t element) {
    Error e;
    char host[8];
    Device *d = tensor_device(t);
    size_t bytes = dtype_size(t->dtype);
    const char *at = (const char *)t->data + (size_t)element * bytes;
    want_done(L, d->copy_out(d, host, at, bytes, &e), &e);
    push_element(L, t->dtype, host);
    return 1;
}

static int item(lua_State *L) {
    Tensor *t = bind_check_tensor(L, 1);
    luaL_argcheck(L, tensor_count(t) == 1, 1, "wanted a tensor with exactly one element");
    return push_at(L, t, 0);
}

/* The element at the indices that begin at argument `first`. */
static int64_t check_indices(lua_State *L, const Tensor *t, int first) {
    int64_t element = 0;
    int given = lua_gettop(L) - first + 1;
    if (given != t->ndim)
        luaL_error(L, "the tensor has %d dimensions, got %d indices", t->ndim, given);
    for (int i = 0; i < t->ndim; i++) {
        lua_Integer index = luaL_checkinteger(L, first + i);
        if (index < 1 || index > t->shape[i]) {
            lua_pushfstring(L, "index must be in 1 .. %I, got %I", (lua_Integer)t->shape[i], index);
            luaL_argerror(L, first + i, lua_tostring(L, -1));
        }
        element = element * t->shape[i] + index - 1;
    }
    return element;
}

/* get(i, j, ...) -> one element. */
static int get(lua_State *L) {
    Tensor *t = bind_check_tensor(L, 1);
    return push_at(L, t, check_indices(L, t, 2));
}

/* set(v, i, j, ...): sets one element; returns the tensor. */
static int set(lua_State *L) {
    Error e;
    char host[8];
    Tensor *t = bind_check_tensor(L, 1);
    int64_t element = check_indices(L, t, 3);
    read_element(L, 2, 2, t->dtype, host);
    Device *d = tensor_device(t);
    size_t bytes = dtype_size(t->dtype);
    want_done(L, d->copy_in(d, (char *)t->data + (size_t)element * bytes, host, bytes, &e), &e);
    lua_settop(L, 1);
    return 1;
}

/* narrow(first, n) -> a view of rows first .. first+n-1, sharing storage. */
static int narrow(lua_State *L) {
    Error e;
    Tensor *t = bind_check_tensor(L, 1);
    lua_Integer first = luaL_checkinteger(L, 2), n = luaL_checkinteger(L, 3);
    if (t->ndim < 1 || first < 1 || n < 0 || first - 1 > t->shape[0] ||
        n > t->shape[0] - (first - 1)) {
        char text[128];
        lua_pushfstring(L, "%I rows from row %I are not all in %s", n, first,
                        tensor_shape_text(t, text));
        luaL_argerror(L, 2, lua_tostring(L, -1));
    }
    want_done(L, tensor_narrow(bind_new_tensor(L), t, first - 1, n, &e), &e);
    return 1;
}

/* Makes `row`, on top of the stack, a view of row i of t, counted from 1, without the first
 * dimension. */
static void fill_row(lua_State *L, Tensor *row, const Tensor *t, int arg, lua_Integer i) {
    Error e;
    char text[128];
    if (t->ndim < 1 || i < 1 || i > t->shape[0]) {
        lua_pushfstring(L, "no row %I in a tensor of shape %s", i, tensor_shape_text(t, text));
        luaL_argerror(L, arg, lua_tostring(L, -1));
    }
    want_done(L, tensor_narrow(row, t, i - 1, 1, &e), &e);
    row->ndim--;
    memmove(row->shape, row->shape + 1, (size_t)row->ndim * sizeof *row->shape);
}

static void push_row(lua_State *L, const Tensor *t, int arg, lua_Integer i) {
    fill_row(L, bind_new_tensor(L), t, arg, i);
}

static int reshape(lua_State *L) {
    Tensor *t = bind_check_tensor(L, 1);
    reshape_to(L, 2, bind_new_tensor(L), t);
    return 1;
}

/* permute{d, ...} -> a new tensor; its dimension i is dimension d_i, counted from 1. */
static int permute(lua_State *L) {
    Error e;
    const Tensor *t = bind_check_tensor(L, 1);
    int64_t order[TENSOR_DIMS];
    int perm[TENSOR_DIMS], n = bind_check_shape(L, 2, order);
    bool seen[TENSOR_DIMS] = {false};
    luaL_argcheck(L, n == t->ndim, 2, "wanted each of the dimensions once");
    for (int i = 0; i < n; i++) {
        luaL_argcheck(L, order[i] >= 1 && order[i] <= n && !seen[order[i] - 1], 2,
                      "wanted each of the dimensions once");
        seen[order[i] - 1] = true;
        perm[i] = (int)order[i] - 1;
    }
    want_done(L, tensor_permute(bind_new_tensor(L), t, perm, &e), &e);
    return 1;
}

static int clone(lua_State *L) {
    Error e;
    Tensor *t = bind_check_tensor(L, 1);
    want_done(L, tensor_copy(bind_make_tensor(L, t->dtype, t->ndim, t->shape), t, &e), &e);
    return 1;
}

/* copy(from): copies all elements from a tensor of equal type and shape; returns the tensor. */
static int copy(lua_State *L) {
    Error e;
    Tensor *t = bind_check_tensor(L, 1), *source = bind_check_tensor(L, 2);
    if (t->dtype != source->dtype || !tensor_same_shape(t, source)) {
        char a[128], b[128];
        lua_pushfstring(L, "wanted %s %s, got %s %s", dtype_name(t->dtype), tensor_shape_text(t, a),
                        dtype_name(source->dtype), tensor_shape_text(source, b));
        luaL_argerror(L, 2, lua_tostring(L, -1));
    }
    want_done(L, tensor_copy(t, source, &e), &e);
    lua_settop(L, 1);
    return 1;
}

/* to(dtype) -> a copy with another element type. */
static int to(lua_State *L) {
    Error e;
    Tensor *t = bind_check_tensor(L, 1);
    luaL_checkstring(L, 2);
    Dtype type = bind_opt_dtype(L, 2, t->dtype);
    want_made(L, tensor_convert(bind_new_tensor(L), t, type, &e), &e);
    return 1;
}

/* set_image(i, img): sets row i of f32 [N,...] from an image [...] of f32, or of u8 (divided by
 * 255). */
static int set_image(lua_State *L) {
    enum { BLOCK = 4096 };
    Error e;
    Tensor *t = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    Tensor *img = bind_check_tensor(L, 3);
    push_row(L, t, 2, luaL_checkinteger(L, 2));
    Tensor *row = lua_touserdata(L, -1);
    if ((img->dtype != DTYPE_F32 && img->dtype != DTYPE_U8) || !tensor_same_shape(row, img)) {
        char a[128], b[128];
        lua_pushfstring(L, "wanted an image of u8 or f32 %s, got %s %s", tensor_shape_text(row, a),
                        dtype_name(img->dtype), tensor_shape_text(img, b));
        luaL_argerror(L, 3, lua_tostring(L, -1));
    }
    lua_settop(L, 4);
    if (img->dtype == DTYPE_F32) {
        want_done(L, tensor_copy(row, img, &e), &e);
    } else {
        Device *d = tensor_device(t);
        int64_t n = tensor_count(img);
        uint8_t levels[BLOCK];
        float values[BLOCK];
        for (int64_t i = 0; i < n; i += BLOCK) {
            size_t m = (size_t)(n - i < BLOCK ? n - i : BLOCK);
            want_done(L, d->copy_out(d, levels, (uint8_t *)img->data + i, m, &e), &e);
            for (size_t j = 0; j < m; j++) values[j] = (float)levels[j] / 255.0f;
            want_done(L, d->copy_in(d, (float *)row->data + i, values, m * sizeof *values, &e), &e);
        }
    }
    lua_settop(L, 1);
    return 1;
}

/* image_u8(i) -> row i of f32 [N,...] in [0,1] as u8 [...], rounded half to even; NaN becomes 0. */
static int image_u8(lua_State *L) {
    enum { BLOCK = 4096 };
    Error e;
    Tensor *t = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    push_row(L, t, 2, luaL_checkinteger(L, 2));
    Tensor *row = lua_touserdata(L, -1);
    Tensor *out = bind_make_tensor(L, DTYPE_U8, row->ndim, row->shape);
    Device *d = tensor_device(t);
    int64_t n = tensor_count(row);
    uint8_t levels[BLOCK];
    float values[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        size_t m = (size_t)(n - i < BLOCK ? n - i : BLOCK);
        want_done(L, d->copy_out(d, values, (float *)row->data + i, m * sizeof *values, &e), &e);
        for (size_t j = 0; j < m; j++) levels[j] = image_level(values[j]);
        want_done(L, d->copy_in(d, (uint8_t *)out->data + i, levels, m, &e), &e);
    }
    return 1;
}

/* bytes() -> a string of the elements in memory order, row-major and little-endian, for a script
 * that writes its own files. */
static int bytes_of(lua_State *L) {
    Error e;
    luaL_Buffer b;
    Tensor *t = bind_check_tensor(L, 1);
    size_t bytes = tensor_bytes(t);
    char *host = luaL_buffinitsize(L, &b, bytes);
    want_done(L, tensor_to_host(t, host, &e), &e);
    luaL_pushresultsize(&b, bytes);
    return 1;
}

/* x[i]: a view of row i; x.name: a method. Every method call passes here, so it is not registered
 * as an operation. It makes the row before it checks the tensor. */
static int row_or_method(lua_State *L) {
    if (lua_type(L, 2) == LUA_TNUMBER) {
        lua_Integer i = luaL_checkinteger(L, 2);
        Tensor *row = bind_new_tensor(L);
        fill_row(L, row, bind_check_tensor(L, 1), 2, i);
        return 1;
    }
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

static int length(lua_State *L) {
    Tensor *t = bind_check_tensor(L, 1);
    luaL_argcheck(L, t->ndim > 0, 1, "a tensor without dimensions has no length");
    lua_pushinteger(L, t->shape[0]);
    return 1;
}

static const luaL_Reg methods[] = {
    {"size", size},         {"shape", shape},     {"dim", dim},         {"numel", numel},
    {"dtype", dtype},       {"totable", totable}, {"item", item},       {"get", get},
    {"set", set},           {"narrow", narrow},   {"reshape", reshape}, {"clone", clone},
    {"permute", permute},   {"copy", copy},       {"to", to},           {"set_image", set_image},
    {"image_u8", image_u8}, {"bytes", bytes_of},  {NULL, NULL},
};

static const luaL_Reg metamethods[] = {{"__len", length}, {NULL, NULL}};
static const luaL_Reg endings[] = {
    {"__gc", bind_close_tensor}, {"__close", bind_close_tensor}, {NULL, NULL}};

void bind_tensor_metatable(lua_State *L) {
    bind_new_tensor_metatable(L);
    luaL_setfuncs(L, endings, 0);
    operation_set(L, metamethods);
    operation_set(L, bind_tensor_operators);
    operation_library(L, methods);
    operation_set(L, bind_tensor_operations);
    operation_set(L, bind_tensor_algebra);
    lua_pushcclosure(L, row_or_method, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

static const luaL_Reg functions[] = {
    {"new", make},    {"from", from},     {"uniform", uniform}, {"normal", normal},
    {"stack", stack}, {"concat", concat}, {NULL, NULL},
};

int luaopen_advrt_core_tensor(lua_State *L) {
    operation_library(L, functions);
    operation_set(L, bind_tensor_functions);
    return 1;
}
