/* advrt.core.transform: transformations of images; see image/transform.h. */
#include "image/transform.h"

#include "base/random.h"
#include "bind/bind.h"

/* apply(kind, strength, x [N,C,H,W][, names]) -> x, changed in place. kind: "tv", "median",
 * "gaussian", "bits", "jpeg" or "pad". names: N texts, the random streams from which "pad"
 * draws. */
static int apply(lua_State *L) {
    Error e = {0};
    const char *names[TRANSFORM_KINDS + 1] = {NULL};
    for (int k = 0; k < TRANSFORM_KINDS; k++) names[k] = transform_name((TransformKind)k);
    lua_settop(L, 4);
    TransformKind kind = (TransformKind)luaL_checkoption(L, 1, NULL, names);
    double strength = luaL_checknumber(L, 2);
    const Tensor *x = bind_check_tensor_of(L, 3, DTYPE_F32, 4);
    int64_t N = x->shape[0];
    uint64_t *keys = lua_newuserdatauv(L, (size_t)N * sizeof *keys + 1, 0);
    for (int64_t i = 0; i < N; i++) {
        keys[i] = RANDOM_EMPTY;
        if (lua_isnoneornil(L, 4)) continue;
        luaL_checktype(L, 4, LUA_TTABLE);
        lua_geti(L, 4, i + 1);
        size_t n;
        const char *name = lua_tolstring(L, -1, &n);
        luaL_argcheck(L, name, 4, "wanted one text for each image");
        keys[i] = random_hash(RANDOM_EMPTY, name, n);
        lua_pop(L, 1);
    }
    if (transform_apply(kind, strength, x, keys, &e)) return bind_error(L, &e);
    lua_pushvalue(L, 3);
    return 1;
}

int luaopen_advrt_core_transform(lua_State *L);
int luaopen_advrt_core_transform(lua_State *L) {
    static const luaL_Reg functions[] = {{"apply", apply}, {NULL, NULL}};
    operation_library(L, functions);
    return 1;
}
