/* Operations: the functions of the core that scripts call.
 *
 * While one runs, Lua may run a script's own code: a finaliser, wherever the
 * operation makes a value, or a metamethod. That code may close what the operation has
 * checked and works with. So every function is registered here, which knows whether
 * one is under way, and every userdata that holds memory of the core asks before
 * it frees that: where an operation may be at work with it, it is marked as closed,
 * which later operations refuse, and the collector frees it.
 *
 * The collector itself frees at once what no operation holds. An operation therefore
 * keeps the userdata that it works with on its stack for as long as it makes values.
 */
#ifndef ADVRT_BIND_OPERATION_H
#define ADVRT_BIND_OPERATION_H

#include <stdbool.h>

#include <lauxlib.h>
#include <lua.h>

/* As luaL_setfuncs without upvalues, and luaL_newlib: into the table on top, and into a new one. */
void operation_set(lua_State *L, const luaL_Reg *functions);
void operation_library(lua_State *L, const luaL_Reg *functions);
/* As lua_pushcclosure; f's upvalues begin at lua_upvalueindex(OPERATION_UPVALUE). */
enum { OPERATION_UPVALUE = 2 };
void operation_push(lua_State *L, lua_CFunction f, int upvalues);

/* For an operation that has checked nothing yet and leaves all to a script's function: what that
 * closes is freed at once. */
void operation_leave(void);

/* Whether what the userdata at argument 1 holds is to be freed now. Asked by functions that close
 * or finalise it, which are not registered here, and by operations that close their own. Where it
 * is not, the collector asks again. */
bool operation_may_free(lua_State *L);

#endif
