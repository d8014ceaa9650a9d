/* advrt.core.batch: training batches; see tensor/batch.h. */
#include "tensor/batch.h"

#include "base/random.h"
#include "bind/bind.h"

/* gather(images u8 or f32 [M,C,H,W], labels i64 [M], order i64 [any], first (from 1), x f32 [N,C,H,W],
 * y i64 [N] [, {flip =, shift =, stream = name}]): fills x and y. */
static int gather(lua_State *L) {
    Tensor *images = bind_check_tensor(L, 1), *labels = bind_check_tensor(L, 2);
    Tensor *order = bind_check_tensor(L, 3);
    lua_Integer first = luaL_checkinteger(L, 4);
    luaL_argcheck(L, first >= 1, 4, "must be 1 or more");
    Tensor *x = bind_check_tensor(L, 5), *y = bind_check_tensor(L, 6);
    Augment a = {0};
    bool augmented = !lua_isnoneornil(L, 7);
    if (augmented) {
        luaL_checktype(L, 7, LUA_TTABLE);
        lua_getfield(L, 7, "flip");
        a.flip = lua_toboolean(L, -1);
        lua_getfield(L, 7, "shift");
        lua_Integer shift = luaL_optinteger(L, -1, 0);
        luaL_argcheck(L, shift >= 0 && shift <= 1024, 7, "shift must be 0 to 1024");
        a.shift = (int)shift;
        lua_getfield(L, 7, "stream");
        size_t n;
        const char *name = luaL_checklstring(L, -1, &n);
        a.key = random_hash(RANDOM_EMPTY, name, n);
    }
    Error e = {{0}};
    if (batch_gather(images, labels, order, first - 1, augmented ? &a : NULL, x, y, &e))
        return luaL_error(L, "%s", e.text);
    return 0;
}

int luaopen_advrt_core_batch(lua_State *L);
int luaopen_advrt_core_batch(lua_State *L) {
    static const luaL_Reg functions[] = {{"gather", gather}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
