/* What main.c tells the Lua module advrt.core.system, and how a run is interrupted. */
#ifndef ADVRT_BIND_SYSTEM_H
#define ADVRT_BIND_SYSTEM_H

#include <lua.h>
#include <stdbool.h>

#include "bind/options.h"

#define SYSTEM_VERSION "0.1.0"

/* What the command line asked for and what was found out at the start. */
typedef struct SystemOptions {
    Options given;          /* its device and threads are those found out, once they are */
    const char *isa;        /* the device's own kernels: "x86-64", "avx2", "avx512" */
    const char *executable; /* absolute path of this program */
    const char *root;       /* the folder that holds lua/, nets/ and experiments/ */
} SystemOptions;

/* Makes the table that scripts see as system.options; before the module is first required. */
void system_set_options(lua_State *L, const SystemOptions *o);

/* From here on the first SIGINT, SIGTERM or SIGHUP makes the running Lua code raise a failure with
 * exit status 130, 143 or 129, and sets the mark that system.interrupted() reads; a later one ends
 * the process. L is the main thread of the state: code inside a coroutine is not interrupted, it
 * asks for the mark. */
void system_watch_interrupts(lua_State *L);

/* Whether such a signal came, and was not forgotten since. */
bool system_interrupt_came(void);

/* Raises the interrupt that native code has given up for, as the hook would have. */
int system_raise_interrupt(lua_State *L);

/* Makes of the message of a mistake on top of the stack, in the handler of the error, what a person
 * is to read: with the calls of the script that led there, where it is not that of the script's own
 * line alone. Calls of advrt's own files are left out, unless the message is of a line of one of
 * them. */
void system_explain(lua_State *L);

/* Pushes a failure, the table {message =, status =} that main.c prints as one line. */
void system_push_failure(lua_State *L, int status, const char *message);

#endif
