#include "bind/bind.h"

#include <lualib.h>

#include "base/interrupt.h"
#include "bind/system.h"
#include "bind/tensor.h"

static const char device_key;

#define MODULE(name) int luaopen_advrt_core_##name(lua_State *L);
#include "modules.inc"
#undef MODULE

#define MODULE(name) {"advrt.core." #name, luaopen_advrt_core_##name},
static const luaL_Reg modules[] = {
#include "modules.inc"
    {NULL, NULL},
};
#undef MODULE

static int failure_text(lua_State *L) {
    lua_getfield(L, 1, "message");
    luaL_tolstring(L, -1, NULL);
    return 1;
}

void bind_open(lua_State *L, Device *d) {
    lua_pushlightuserdata(L, d);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &device_key);
    bind_tensor_metatable(L);
    luaL_newmetatable(L, BIND_FAILURE);
    operation_push(L, failure_text, 0);
    lua_setfield(L, -2, "__tostring");
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    luaL_setfuncs(L, modules, 0);
    lua_pop(L, 2);
}

Device *bind_device(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &device_key);
    Device *d = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return d;
}

int bind_fail(lua_State *L, int status, const Error *e) {
    if (interrupt_noted()) return system_raise_interrupt(L);
    system_push_failure(L, status, e->text);
    if (e->code == ERROR_NO_MEMORY) {
        lua_pushliteral(L, "memory");
        lua_setfield(L, -2, "code");
    }
    return lua_error(L);
}

int bind_error(lua_State *L, const Error *e) {
    if (e->code == ERROR_NO_MEMORY || interrupt_noted()) return bind_fail(L, 1, e);
    return luaL_error(L, "%s", e->text);
}

void bind_room(lua_State *L, int n) {
    if (!lua_checkstack(L, n)) luaL_error(L, "not enough memory");
}

int bind_nil(lua_State *L, const Error *e) {
    lua_pushnil(L);
    lua_pushstring(L, e->text);
    return 2;
}
