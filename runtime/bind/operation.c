#include "bind/operation.h"

#include <string.h>

/* The C stack addresses of the outermost running operation and of the last one that began; NULL if
 * none runs. The stack grows downwards. An error skips the end of an operation, so a frame below
 * the present one is known to be gone. Coroutines run on the same C stack. */
static const char *outermost, *latest;

static int run(lua_State *L) {
    const char *frame = __builtin_frame_address(0), *before = latest;
    bool alone = !outermost || frame >= outermost;
    if (alone) outermost = frame;
    latest = frame;
    int results = lua_tocfunction(L, lua_upvalueindex(1))(L);
    latest = before;
    if (alone) outermost = NULL;
    return results;
}

void operation_push(lua_State *L, lua_CFunction f, int upvalues) {
    lua_pushcfunction(L, f);
    lua_insert(L, -1 - upvalues);
    lua_pushcclosure(L, run, upvalues + 1);
}

void operation_set(lua_State *L, const luaL_Reg *functions) {
    for (; functions->name; functions++) {
        operation_push(L, functions->func, 0);
        lua_setfield(L, -2, functions->name);
    }
}

void operation_library(lua_State *L, const luaL_Reg *functions) {
    lua_newtable(L);
    operation_set(L, functions);
}

void operation_leave(void) {
    if (outermost == latest) outermost = NULL;
}

static bool is_operation(lua_State *L, lua_Debug *ar) {
    lua_getinfo(L, "f", ar);
    bool is = lua_tocfunction(L, -1) == run;
    lua_pop(L, 1);
    return is;
}

static bool on_stack_of(lua_State *L, const lua_Debug *ar) {
    bool found = false;
    for (int i = 1; !found && lua_getlocal(L, ar, i); i++) {
        found = lua_rawequal(L, 1, -1);
        lua_pop(L, 1);
    }
    return found;
}

/* Whether the collector called the function at level 0. */
static bool collected(lua_State *L) {
    lua_Debug ar;
    return lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name &&
           !strcmp(ar.namewhat, "metamethod") && !strcmp(ar.name, "__gc");
}

static bool is_main(lua_State *L) {
    bool is = lua_pushthread(L);
    lua_pop(L, 1);
    return is;
}

/* Whether a running operation may be using the userdata. A collected userdata is on no operation's
 * stack, unless another finaliser has revived it. */
static bool held(lua_State *L, bool by_collector) {
    lua_Debug ar;
    if (by_collector && outermost == latest && lua_getstack(L, 1, &ar) && is_operation(L, &ar))
        return on_stack_of(L, &ar);
    for (int level = 1; lua_getstack(L, level, &ar); level++)
        if (is_operation(L, &ar) && (!by_collector || on_stack_of(L, &ar))) return true;
    return !is_main(L); /* the stack that resumed a coroutine is not visible */
}

bool operation_may_free(lua_State *L) {
    lua_Debug ar;
    if (!outermost) return true;
    if ((const char *)__builtin_frame_address(0) > outermost) {
        outermost = NULL;
        return true;
    }
    if (outermost == latest && lua_getstack(L, 0, &ar) && is_operation(L, &ar)) return true;
    bool by_collector = collected(L);
    if (!held(L, by_collector)) {
        if (!by_collector) outermost = NULL;
        return true;
    }
    if (by_collector) { /* set the metatable again, or the collector would not call the finaliser
                           again */
        lua_getmetatable(L, 1);
        lua_setmetatable(L, 1);
    }
    return false;
}
