/* The table that describes an attack which a device runs by itself. */
#ifndef ADVRT_BIND_ASCENT_H
#define ADVRT_BIND_ASCENT_H

#include <lua.h>

#include "device/device.h"

/* The attack on a plan that the table at argument 2 describes; the stack keeps its tensors. The
 * plan stays to be checked: a field's metamethod may close it. */
Ascent bind_check_ascent(lua_State *L, Plan *p);

#endif
