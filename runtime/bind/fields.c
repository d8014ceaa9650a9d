#include "bind/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "device/dtype.h"

static bool is_known(const char *name, const char *const known[]) {
    for (int i = 0; known[i]; i++)
        if (!strcmp(known[i], name)) return true;
    return false;
}

/* Pushes the NULL-ended names, separated by commas, with the word `last` before the last one. */
static const char *push_list(lua_State *L, const char *const names[], const char *last) {
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 0; names[i]; i++) {
        if (i > 0) luaL_addstring(&b, names[i + 1] ? ", " : last);
        luaL_addstring(&b, names[i]);
    }
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

/* Raises the error for an unknown field, whose name is at index `key`. */
static void refuse_unknown(lua_State *L, int arg, int key, const char *const known[]) {
    size_t n = 0;
    while (known[n]) n++;
    const char *near =
        lua_type(L, key) == LUA_TSTRING ? nearest(lua_tostring(L, key), known, n) : NULL;
    const char *hint = near ? lua_pushfstring(L, "did you mean '%s'?", near)
                            : lua_pushfstring(L, "there are %s", push_list(L, known, " and "));
    const char *name = luaL_tolstring(L, key, NULL);
    luaL_argerror(L, arg, lua_pushfstring(L, "there is no field '%s'; %s", name, hint));
}

Fields fields_of(lua_State *L, int arg, const char *const known[]) {
    luaL_checktype(L, arg, LUA_TTABLE);
    bind_room(L, 12);
    Fields f = {L, arg, lua_absindex(L, arg)};
    if (!known) return f;
    for (lua_pushnil(L); lua_next(L, f.table); lua_pop(L, 1))
        if (lua_type(L, -2) != LUA_TSTRING || !is_known(lua_tostring(L, -2), known))
            refuse_unknown(L, arg, lua_gettop(L) - 1, known);
    return f;
}

int fields_refuse(const Fields *f, const char *name, const char *wanted) {
    lua_State *L = f->L;
    const char *quote = lua_type(L, -1) == LUA_TSTRING ? "'" : "";
    const char *got = luaL_tolstring(L, -1, NULL);
    return luaL_argerror(
        L, f->arg,
        lua_pushfstring(L, "'%s' must be %s, got %s%s%s", name, wanted, quote, got, quote));
}

/* Raises the error for a field with a wrong value; the text of the wanted value is on top of the
 * stack, the value below it. */
static int refuse_value(const Fields *f, const char *name, const char *wanted) {
    lua_pushvalue(f->L, -2);
    return fields_refuse(f, name, wanted);
}

/* Pushes "a number from 0 to 1", with the bounds that are finite. */
static const char *wanted_number(lua_State *L, double least, double most) {
    char text[80] = "a number";
    if (isinf(most) && !isinf(least))
        snprintf(text, sizeof text, "a number of at least %g", least);
    else if (!isinf(least))
        snprintf(text, sizeof text, "a number from %g to %g", least, most);
    return lua_pushstring(L, text);
}

/* Whether `name` has a value; pushes the value. */
static bool get(const Fields *f, const char *name) {
    bind_room(f->L, 6);
    if (lua_getfield(f->L, f->table, name) != LUA_TNIL) return true;
    lua_pop(f->L, 1);
    return false;
}

/* The same for a required field: raises an error if it is missing. */
static void want(const Fields *f, const char *name) {
    bind_room(f->L, 6);
    lua_getfield(f->L, f->table, name);
}

double fields_number(const Fields *f, const char *name, double usual, double least, double most) {
    lua_State *L = f->L;
    int is_number;
    if (isnan(usual))
        want(f, name);
    else if (!get(f, name))
        return usual;
    double v = lua_tonumberx(L, -1, &is_number);
    if (!is_number || !(v >= least && v <= most))
        refuse_value(f, name, wanted_number(L, least, most));
    lua_pop(L, 1);
    return v;
}

static const char *wanted_integer(lua_State *L, int64_t least, int64_t most) {
    if (most == INT64_MAX && least == INT64_MIN) return lua_pushliteral(L, "an integer");
    if (most == INT64_MAX)
        return lua_pushfstring(L, "an integer of at least %I", (LUAI_UACINT)least);
    return lua_pushfstring(L, "an integer from %I to %I", (LUAI_UACINT)least, (LUAI_UACINT)most);
}

int64_t fields_integer(const Fields *f, const char *name, int64_t usual, int64_t least,
                       int64_t most) {
    lua_State *L = f->L;
    int is_integer;
    if (usual == FIELDS_NO_INTEGER)
        want(f, name);
    else if (!get(f, name))
        return usual;
    int64_t v = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || v < least || v > most) refuse_value(f, name, wanted_integer(L, least, most));
    lua_pop(L, 1);
    return v;
}

bool fields_flag(const Fields *f, const char *name) {
    want(f, name);
    bool v = lua_toboolean(f->L, -1);
    lua_pop(f->L, 1);
    return v;
}

int fields_choice(const Fields *f, const char *name, int usual, const char *const names[]) {
    lua_State *L = f->L;
    if (usual < 0)
        want(f, name);
    else if (!get(f, name))
        return usual;
    for (int i = 0; lua_type(L, -1) == LUA_TSTRING && names[i]; i++)
        if (!strcmp(lua_tostring(L, -1), names[i])) {
            lua_pop(L, 1);
            return i;
        }
    return refuse_value(f, name, push_list(L, names, " or "));
}

const char *fields_text(const Fields *f, const char *name, bool needed, size_t *length) {
    want(f, name);
    if (!needed && lua_isnil(f->L, -1)) return NULL;
    if (lua_type(f->L, -1) != LUA_TSTRING) fields_refuse(f, name, "text");
    return lua_tolstring(f->L, -1, length);
}

int fields_integers(const Fields *f, const char *name, int n, int64_t *out) {
    lua_State *L = f->L;
    if (!get(f, name)) return 0;
    const char *wanted = "a table of integers";
    if (!lua_istable(L, -1)) fields_refuse(f, name, wanted);
    int count = (int)luaL_len(L, -1);
    if (count > n)
        return luaL_argerror(
            L, f->arg,
            lua_pushfstring(L, "'%s' takes at most %d integers, got %d", name, n, count));
    for (int i = 0; i < count; i++) {
        int is_integer;
        lua_geti(L, -1, i + 1);
        out[i] = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer) fields_refuse(f, name, wanted);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return count;
}

double *fields_numbers(const Fields *f, const char *name, int64_t n) {
    lua_State *L = f->L;
    want(f, name);
    int list = lua_gettop(L);
    if (!lua_istable(L, list) || (int64_t)luaL_len(L, list) != n)
        refuse_value(f, name, lua_pushfstring(L, "a table of %I numbers", (LUAI_UACINT)n));
    double *out = lua_newuserdatauv(L, (size_t)n * sizeof *out + 1, 0);
    for (int64_t i = 0; i < n; i++) {
        int is_number;
        lua_geti(L, list, i + 1);
        out[i] = lua_tonumberx(L, -1, &is_number);
        if (!is_number) fields_refuse(f, name, "a table of numbers");
        lua_pop(L, 1);
    }
    lua_replace(L, list);
    return out;
}

Tensor *fields_tensor(const Fields *f, const char *name, Dtype type, int64_t n) {
    lua_State *L = f->L;
    want(f, name);
    Tensor *t = bind_test_tensor(L, -1);
    if (t && t->dtype == type && (n < 0 || tensor_count(t) == n)) return t;
    refuse_value(f, name,
                 n < 0 ? lua_pushfstring(L, "a tensor of %s", dtype_name(type))
                       : lua_pushfstring(L, "a tensor of %s with %I elements", dtype_name(type),
                                         (LUAI_UACINT)n));
    return NULL;
}
