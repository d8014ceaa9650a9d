/* advrt.core.weights: reading and writing named tensors (io/weights.h). */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "io/weights.h"

#define GUARD "advrt.tensor_list"

/* A list that is freed with its userdata, so that a Lua error on the way loses nothing. */
static TensorList *new_list(lua_State *L) {
    TensorList *list = lua_newuserdatauv(L, sizeof *list, 0);
    *list = (TensorList){0};
    luaL_setmetatable(L, GUARD);
    return list;
}

static int free_list(lua_State *L) {
    tensors_free(luaL_checkudata(L, 1, GUARD));
    return 0;
}

/* load(path) -> table of name = tensor, or nil and a message. Safetensors, .pth (zip and legacy)
 * and msgpack, by content. */
static int load(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    TensorList *list = new_list(L);
    if (weights_load(path, bind_device(L), list, &e) != 0) return bind_nil(L, &e);
    lua_createtable(L, 0, (int)(list->count < 65536 ? list->count : 65536));
    for (size_t i = 0; i < list->count; i++) {
        Tensor *t = bind_new_tensor(L);
        *t = list->items[i].tensor;
        list->items[i].tensor = (Tensor){0};
        lua_setfield(L, -2, list->items[i].name);
    }
    tensors_free(list);
    return 1;
}

/* The key on the stack below the top, which is looked at while a table is walked: a text without
 * NUL. A number is left as it is, for lua_next's sake. */
static const char *check_key(lua_State *L, int arg, size_t *length) {
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_argerror(L, arg,
                      lua_pushfstring(L, "names must be strings, got a %s", luaL_typename(L, -2)));
    const char *key = lua_tolstring(L, -2, length);
    if (strlen(key) != *length) luaL_argerror(L, arg, "a name holds a NUL byte");
    return key;
}

static void check_tensors(lua_State *L, TensorList *list) {
    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        Error e = {0};
        size_t length;
        const char *name = check_key(L, 2, &length);
        const Tensor *t = luaL_testudata(L, -1, BIND_TENSOR);
        if (!t || !t->storage)
            luaL_argerror(
                L, 2,
                lua_pushfstring(L, "'%s' must be a tensor, got a %s", name, luaL_typename(L, -1)));
        Tensor share = tensor_share(t);
        if (tensors_add(list, name, length, &share, &e) != 0) {
            tensor_free(&share);
            bind_error(L, &e);
        }
    }
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const TextPair *)a)->key, ((const TextPair *)b)->key);
}

/* The metadata's texts stay on the Lua side, which its table at argument 3 keeps alive; the pairs
 * are in a userdata on top of the stack. */
static TextPair *check_metadata(lua_State *L, size_t *count) {
    *count = 0;
    if (lua_isnoneornil(L, 3)) return NULL;
    luaL_checktype(L, 3, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) ++*count;
    TextPair *pairs = lua_newuserdatauv(L, (*count + 1) * sizeof *pairs, 0);
    size_t i = 0, length;
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
        const char *key = check_key(L, 3, &length);
        if (lua_type(L, -1) != LUA_TSTRING || strlen(lua_tostring(L, -1)) != lua_rawlen(L, -1))
            luaL_argerror(L, 3, lua_pushfstring(L, "'%s' must be a string without NUL", key));
        pairs[i++] = (TextPair){key, lua_tostring(L, -1)};
    }
    qsort(pairs, *count, sizeof *pairs, by_key);
    return pairs;
}

/* save(path, table[, metadata]) -> true, or nil and a message. The path's suffix says the format,
 * .safetensors or .msgpack; the file is whole or absent; the same tensors give the same bytes. */
static int save(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    size_t count;
    lua_settop(L, 3);
    TextPair *pairs = check_metadata(L, &count);
    TensorList *list = new_list(L);
    check_tensors(L, list);
    int failed = weights_save(path, list, pairs, count, &e);
    tensors_free(list);
    if (failed) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

int luaopen_advrt_core_weights(lua_State *L) {
    static const luaL_Reg functions[] = {{"load", load}, {"save", save}, {NULL, NULL}};
    luaL_newmetatable(L, GUARD);
    lua_pushcfunction(L, free_list);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
