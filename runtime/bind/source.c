/* Lua source is text: load, loadfile, dofile and require refuse compiled code, whose instructions
 * Lua does not check, so that a file of it could do to memory what it likes. */
#include "bind/bind.h"

/* load(chunk[, name[, mode[, env]]]) and loadfile([path[, mode[, env]]]), the upvalue, with "t" for
 * the mode. Arguments are checked here, where the caller's position is known. */
static int load_as_text(lua_State *L, int mode) {
    luaL_optstring(L, mode, NULL);
    if (lua_gettop(L) < mode) lua_settop(L, mode);
    lua_pushliteral(L, "t");
    lua_replace(L, mode);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int source_load(lua_State *L) {
    if (lua_tostring(L, 1) == NULL) luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_optstring(L, 2, NULL);
    return load_as_text(L, 3);
}

static int source_loadfile(lua_State *L) {
    luaL_optstring(L, 1, NULL);
    return load_as_text(L, 2);
}

static int all_results(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    return lua_gettop(L) - 1;
}

static int source_dofile(lua_State *L) {
    const char *path = luaL_optstring(L, 1, NULL);
    lua_settop(L, 1);
    if (luaL_loadfilex(L, path, "t") != LUA_OK) return lua_error(L);
    lua_callk(L, 0, LUA_MULTRET, 0, all_results);
    return all_results(L, LUA_OK, 0);
}

/* What require asks for a module in Lua; the upvalues are `package` and package.searchpath. */
static int source_search(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    if (lua_getfield(L, lua_upvalueindex(1), "path") != LUA_TSTRING)
        return luaL_error(L, "'package.path' must be a string");
    lua_call(L, 2, 2);
    const char *path = lua_tostring(L, -2);
    if (path == NULL) return 1;
    if (luaL_loadfilex(L, path, "t") != LUA_OK)
        return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path,
                          lua_tostring(L, -1));
    lua_pushstring(L, path);
    return 2;
}

static void replace_global(lua_State *L, const char *name, lua_CFunction f) {
    lua_getglobal(L, name);
    lua_pushcclosure(L, f, 1);
    lua_setglobal(L, name);
}

void bind_text_only(lua_State *L) {
    replace_global(L, "load", source_load);
    replace_global(L, "loadfile", source_loadfile);
    replace_global(L, "dofile", source_dofile);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_pushvalue(L, -2);
    lua_getfield(L, -1, "searchpath");
    lua_pushcclosure(L, source_search, 2);
    lua_rawseti(L, -2, 2); /* after package.preload's */
    lua_pop(L, 2);
}
