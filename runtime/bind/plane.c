/* "advrt.core.plane": the nearest points of hyperplanes within the box; see solve/plane.h. */
#include "solve/plane.h"

#include <string.h>

#include "bind/bind.h"
#include "bind/operation.h"

/* project(x, w, at, c, norm, z, distance[, low, high]): sets z to the points nearest to x, in norm
 * 2 or "inf", on the planes c + <w, z - at> = 0. c, distance are f64 [N], the others f32 [N,...].
 * low, high: the box, f32 with the elements of one image; default 0 to 1. */
static int project(lua_State *L) {
    Error e;
    PlaneBatch b = {.x = bind_check_tensor(L, 1),
                    .w = bind_check_tensor(L, 2),
                    .at = bind_check_tensor(L, 3),
                    .c = bind_check_tensor(L, 4),
                    .z = bind_check_tensor(L, 6),
                    .distance = bind_check_tensor(L, 7)};
    if (!lua_isnoneornil(L, 8)) {
        b.low = bind_check_tensor(L, 8);
        b.high = bind_check_tensor(L, 9);
    }
    bool two = lua_type(L, 5) == LUA_TNUMBER && lua_tonumber(L, 5) == 2;
    luaL_argcheck(L, two || strcmp(luaL_checkstring(L, 5), "inf") == 0, 5, "wanted 2 or \"inf\"");
    if (plane_project(&b, two ? PLANE_L2 : PLANE_LINF, &e) != 0) return bind_error(L, &e);
    return 0;
}

static const luaL_Reg functions[] = {{"project", project}, {NULL, NULL}};

int luaopen_advrt_core_plane(lua_State *L);
int luaopen_advrt_core_plane(lua_State *L) {
    operation_library(L, functions);
    return 1;
}
