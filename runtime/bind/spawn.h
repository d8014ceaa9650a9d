/* Starts other programs for the Lua module advrt.core.system. */
#ifndef ADVRT_BIND_SPAWN_H
#define ADVRT_BIND_SPAWN_H

#include <lua.h>

/* spawn(words[, changes]) -> a file, or nil, a message and the number of the error. Starts the
 * program words[1], found by PATH where it has no slash, with the other words as its arguments. No
 * shell reads them, and none is needed. changes: {NAME = text, or false to remove the variable}.
 * The file holds what the program prints, errors too. Closing it waits for the program and returns
 * what os.execute returns. */
int system_spawn(lua_State *L);

#endif
