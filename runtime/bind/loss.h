/* Reads a loss and its parameters, for the modules that take a loss. */
#ifndef ADVRT_BIND_LOSS_H
#define ADVRT_BIND_LOSS_H

#include <lua.h>

#include "device/loss.h"

/* The loss with this name. Its parameters are fields of the table at `arg`; defaults if the table
 * is nil. Raises errors of argument `arg`. */
LossCall bind_loss_call(lua_State *L, const char *name, int arg);

#endif
