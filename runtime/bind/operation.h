/* Operations: the functions of the core that scripts call.
 *
 * While an operation runs, Lua may run a script's code: a finaliser, whenever the operation makes a
 * value, or a metamethod. That code may close objects that the operation has checked and uses. So
 * every function is registered here, and this module knows whether one is running. Every userdata
 * that owns memory of the core asks before it frees it. If a running operation may be using it, it
 * is only marked as closed: later operations reject it, and the collector frees it.
 *
 * The collector frees at once what no operation holds. So an operation keeps the userdata that it
 * uses on its stack while it makes values.
 */
#ifndef ADVRT_BIND_OPERATION_H
#define ADVRT_BIND_OPERATION_H

#include <stdbool.h>

#include <lauxlib.h>
#include <lua.h>

/* Like luaL_setfuncs without upvalues, for the table on top of the stack; like luaL_newlib, for a
 * new table. */
void operation_set(lua_State *L, const luaL_Reg *functions);
void operation_library(lua_State *L, const luaL_Reg *functions);
/* Like lua_pushcclosure; f's upvalues begin at lua_upvalueindex(OPERATION_UPVALUE). */
enum { OPERATION_UPVALUE = 2 };
void operation_push(lua_State *L, lua_CFunction f, int upvalues);

/* For an operation that has checked nothing yet and only calls a script's function: objects that
 * the function closes are freed at once. */
void operation_leave(void);

/* Whether to free the contents of the userdata at argument 1 now. Finalisers, closing functions
 * that are not registered here, and operations that close their own userdata call this. If the
 * answer is no, the collector asks again. */
bool operation_may_free(lua_State *L);

#endif
