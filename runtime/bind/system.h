/* What main.c gives to the Lua module advrt.core.system, and the handling of interrupts. */
#ifndef ADVRT_BIND_SYSTEM_H
#define ADVRT_BIND_SYSTEM_H

#include <lua.h>
#include <stdbool.h>

#include "bind/options.h"

#define SYSTEM_VERSION "0.1.0"

/* The command line and facts found at the start. */
typedef struct SystemOptions {
    Options given;   /* the options given; device and threads are replaced by the actual values once
                        known */
    const char *isa; /* instruction set of the device's own kernels: "x86-64", "avx2", "avx512" */
    const char *executable; /* absolute path of this program */
    const char *root;       /* the folder that holds lua/, nets/ and experiments/ */
} SystemOptions;

/* Makes the table system.options for scripts. Call it before the module is first required. */
void system_set_options(lua_State *L, const SystemOptions *o);

/* From now on the first SIGINT, SIGTERM or SIGHUP makes the running Lua code raise a failure with
 * exit status 130, 143 or 129. It also sets the mark that system.interrupted() reads. A later
 * signal ends the process. L must be the state's main thread. Code inside a coroutine is not
 * interrupted; it must check the mark. */
void system_watch_interrupts(lua_State *L);

/* Whether such a signal came and was not cleared since. */
bool system_interrupt_came(void);

/* Raises the interrupt that made native code stop, as the hook would have. */
int system_raise_interrupt(lua_State *L);

/* Rewrites the error message on top of the stack for a person; call it in the error handler. It
 * adds the script's calls that led to the error, unless the message only concerns the script's own
 * line. Calls of advrt's own files are omitted, unless the message concerns a line of theirs. */
void system_explain(lua_State *L);

/* Pushes a failure: a table {message =, status =}, which main.c prints as one line. */
void system_push_failure(lua_State *L, int status, const char *message);

#endif
