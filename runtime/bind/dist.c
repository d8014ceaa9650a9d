/* advrt.core.dist: the processes of one run (dist/dist.h). A single process is a group of one. */
#include <stdio.h>
#include <string.h>

#include "bind/bind.h"
#include "dist/dist.h"

static const char dist_key;
int luaopen_advrt_core_dist(lua_State *L);

void bind_set_dist(lua_State *L, struct Dist *d) {
    lua_pushlightuserdata(L, d);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &dist_key);
}

/* NULL if this process is alone. */
static Dist *get_dist(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &dist_key);
    Dist *d = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return d;
}

/* --- sums --- */

#define GROUP "advrt.group"
static const char group_key;

static int free_group(lua_State *L) {
    Group **g = luaL_checkudata(L, 1, GROUP);
    if (*g && (*g)->free) (*g)->free(*g);
    *g = NULL;
    return 0;
}

/* Makes a group on the device; rank 0 makes its name. Lua keeps it and frees it with L. */
static Group *new_group(lua_State *L, Dist *d, Device *device) {
    char id[GROUP_ID] = "";
    Error e = {0};
    Group **g = lua_newuserdatauv(L, sizeof *g, 0);
    *g = NULL;
    if (luaL_newmetatable(L, GROUP)) {
        lua_pushcfunction(L, free_group);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    if ((d->rank == 0 && device->group_id(device, id, &e)) || d->broadcast(d, id, sizeof id, &e) ||
        device->group_new(device, d->rank, d->size, id, g, &e))
        bind_fail(L, 1, &e);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &group_key);
    return *g;
}

Group *bind_group(lua_State *L) {
    Dist *d = get_dist(L);
    Device *device = bind_device(L);
    if (!d) return NULL;
    if (strcmp(device->name, "cpu") == 0) return &d->group;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &group_key);
    Group **g = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (g) return *g;
    if (!device->group_new) {
        Error e;
        error_set(&e, "device %s cannot join several processes; use --device cpu", device->name);
        bind_fail(L, 1, &e);
    }
    return new_group(L, d, device);
}

/* sum(x) -> x: replaces each element of the f32 tensor by its sum over all ranks, with the same
 * bits on each rank. */
static int dist_sum(lua_State *L) {
    Tensor *x = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    Error e = {0};
    lua_settop(L, 1);
    Group *g = bind_group(L);
    if (g && g->sum(g, x->data, tensor_count(x), &e)) return bind_fail(L, 1, &e);
    return 1;
}

/* --- texts --- */

/* wait() returns when all ranks have called it. */
static int dist_wait(lua_State *L) {
    Dist *d = get_dist(L);
    Error e = {0};
    return d && d->wait(d, &e) ? bind_fail(L, 1, &e) : 0;
}

/* broadcast(text) -> rank 0's text, on every rank. */
static int dist_broadcast(lua_State *L) {
    Dist *d = get_dist(L);
    size_t n;
    Error e = {0};
    luaL_Buffer b;
    const char *text = luaL_checklstring(L, 1, &n);
    lua_settop(L, 1);
    if (!d) return 1;
    if (d->broadcast(d, &n, sizeof n, &e)) return bind_fail(L, 1, &e);
    char *bytes = luaL_buffinitsize(L, &b, n);
    if (d->rank == 0) memcpy(bytes, text, n);
    if (d->broadcast(d, bytes, n, &e)) return bind_fail(L, 1, &e);
    luaL_pushresultsize(&b, n);
    return 1;
}

/* gather(text) -> on rank 0, an array of every rank's text, rank 0's first; nothing on other
 * ranks. */
static int dist_gather(lua_State *L) {
    Dist *d = get_dist(L);
    size_t n, total = 0;
    Error e = {0};
    luaL_Buffer b;
    const char *text = luaL_checklstring(L, 1, &n);
    lua_settop(L, 1);
    if (!d) {
        lua_createtable(L, 1, 0);
        lua_insert(L, 1);
        lua_rawseti(L, 1, 1);
        return 1;
    }
    size_t *ones = lua_newuserdatauv(L, 2 * (size_t)d->size * sizeof *ones, 0);
    size_t *sizes = ones + d->size;
    for (int i = 0; i < d->size; i++) ones[i] = sizeof n;
    if (d->gather(d, &n, sizeof n, ones, sizes, &e)) return bind_fail(L, 1, &e);
    for (int i = 0; i < d->size && d->rank == 0; i++) total += sizes[i];
    char *all = luaL_buffinitsize(L, &b, total);
    if (d->gather(d, text, n, sizes, all, &e)) return bind_fail(L, 1, &e);
    luaL_pushresultsize(&b, total);
    if (d->rank != 0) return 0;
    const char *at = lua_tostring(L, -1);
    lua_createtable(L, d->size, 0);
    for (int i = 0; i < d->size; i++) {
        lua_pushlstring(L, at, sizes[i]);
        lua_rawseti(L, -2, i + 1);
        at += sizes[i];
    }
    return 1;
}

/* mute() discards the standard output of ranks other than 0; their errors still appear. */
static int dist_mute(lua_State *L) {
    const Dist *d = get_dist(L);
    if (d && d->rank != 0 && !freopen("/dev/null", "w", stdout))
        return luaL_error(L, "/dev/null cannot be opened");
    return 0;
}

static const luaL_Reg functions[] = {
    {"sum", dist_sum},       {"wait", dist_wait}, {"broadcast", dist_broadcast},
    {"gather", dist_gather}, {"mute", dist_mute}, {NULL, NULL},
};

int luaopen_advrt_core_dist(lua_State *L) {
    const Dist *d = get_dist(L);
    operation_library(L, functions);
    lua_pushinteger(L, d ? d->rank : 0);
    lua_setfield(L, -2, "rank");
    lua_pushinteger(L, d ? d->size : 1);
    lua_setfield(L, -2, "size");
    return 1;
}
