/* What the modules that take a loss share. */
#ifndef ADVRT_BIND_LOSS_H
#define ADVRT_BIND_LOSS_H

#include <lua.h>

#include "device/loss.h"

/* The loss of a name, with the parameters that the table at `arg` has among its fields; defaults
 * where the table is nil. Raises errors of argument `arg`. */
LossCall bind_loss_call(lua_State *L, const char *name, int arg);

#endif
