/* Reads the table that describes an attack for a device to run without Lua. */
#ifndef ADVRT_BIND_ASCENT_H
#define ADVRT_BIND_ASCENT_H

#include <lua.h>

#include "device/device.h"

/* The attack on a plan that the table at argument 2 describes. The Lua stack keeps the table's
 * tensors. The caller must check the plan afterwards, because a field's metamethod may close it. */
Ascent bind_check_ascent(lua_State *L, Plan *p);

#endif
