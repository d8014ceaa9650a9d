/* "advrt.core.lbfgsb": one solver per image of a batch; see solve/lbfgsb.h. */
#include "solve/lbfgsb.h"

#include <limits.h>
#include <math.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "bind/fields.h"

#define SOLVERS "advrt.lbfgsb"

typedef struct Solvers {
    int64_t N, D;
    LbfgsbOptions options;
    Lbfgsb **each; /* [N]; NULL until an image starts */
    bool closed;
} Solvers;

/* new(N, D, {memory =, tolerance =, gradient =}): solvers for N images of D numbers each. */
static int new (lua_State *L) {
    static const char *const known[] = {"memory", "tolerance", "gradient", NULL};
    Error e;
    lua_Integer N = luaL_checkinteger(L, 1), D = luaL_checkinteger(L, 2);
    luaL_argcheck(L, N > 0 && N <= 65536, 1, "wanted 1 .. 65536 images");
    Fields f = fields_of(L, 3, known);
    LbfgsbOptions options = {
        .memory = (int)fields_integer(&f, "memory", FIELDS_NO_INTEGER, 1, INT_MAX),
        .tolerance = fields_number(&f, "tolerance", FIELDS_NONE, -HUGE_VAL, HUGE_VAL),
        .gradient = fields_number(&f, "gradient", FIELDS_NONE, -HUGE_VAL, HUGE_VAL)};
    Solvers *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (Solvers){.N = N, .D = D, .options = options};
    luaL_setmetatable(L, SOLVERS);
    s->each = memory_zeroed((size_t)N, sizeof *s->each, "L-BFGS", &e);
    if (!s->each) return bind_fail(L, 1, &e);
    return 1;
}

static int collect(lua_State *L) {
    Solvers *s = luaL_checkudata(L, 1, SOLVERS);
    s->closed = true;
    if (!operation_may_free(L)) return 0;
    for (int64_t n = 0; s->each && n < s->N; n++) lbfgsb_free(s->each[n]);
    memory_free(s->each);
    s->each = NULL;
    return 0;
}

/* start(n, x0[, low, high]): starts solver n (counted from 1) at the image x0. low and high are the
 * sides of the box; default 0 to 1. */
static int start(lua_State *L) {
    Error e;
    Solvers *s = luaL_checkudata(L, 1, SOLVERS);
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, s->each && !s->closed && n >= 1 && n <= s->N, 2, "no such solver");
    Tensor *x0 = bind_check_tensor_of(L, 3, DTYPE_F32, -1);
    bool boxed = !lua_isnoneornil(L, 4);
    Tensor *low = boxed ? bind_check_tensor_of(L, 4, DTYPE_F32, -1) : NULL;
    Tensor *high = boxed ? bind_check_tensor_of(L, 5, DTYPE_F32, -1) : NULL;
    if (!s->each[n - 1] && lbfgsb_new(&s->each[n - 1], s->D, &s->options, &e) != 0)
        return bind_fail(L, 1, &e);
    if (lbfgsb_start(s->each[n - 1], x0, low, high, &e) != 0) return bind_error(L, &e);
    return 0;
}

/* advance(x, q, value, c, l2, state): see LbfgsbBatch. The states are 0 idle, 1 running, 2
 * converged, 3 stopped. */
static int advance(lua_State *L) {
    Error e;
    Solvers *s = luaL_checkudata(L, 1, SOLVERS);
    Tensor *x = bind_check_tensor(L, 2);
    luaL_argcheck(L, s->each && !s->closed && x->ndim > 0 && x->shape[0] == s->N, 2,
                  "wanted one image for each solver");
    LbfgsbBatch b = {.x = x,
                     .q = bind_check_tensor(L, 3),
                     .value = bind_check_tensor(L, 4),
                     .c = bind_check_tensor(L, 5),
                     .l2 = bind_check_tensor(L, 6),
                     .state = bind_check_tensor(L, 7)};
    if (lbfgsb_advance(s->each, &b, &e) != 0) return bind_error(L, &e);
    return 0;
}

static const luaL_Reg methods[] = {{"start", start}, {"advance", advance}, {NULL, NULL}};

int luaopen_advrt_core_lbfgsb(lua_State *L);
int luaopen_advrt_core_lbfgsb(lua_State *L) {
    luaL_newmetatable(L, SOLVERS);
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    operation_library(L, methods);
    lua_setfield(L, -2, "__index");
    lua_createtable(L, 0, 1);
    operation_push(L, new, 0);
    lua_setfield(L, -2, "new");
    return 1;
}
