/* The program's options: a table with one row per option, and functions that read it.
 *
 * Parsing, --help, the manual page, the shell's completion, system.options and run.json all read
 * the table. To add an option, add a row in options.c and, if C reads the value, a field of
 * Options.
 */
#ifndef ADVRT_BIND_OPTIONS_H
#define ADVRT_BIND_OPTIONS_H

#include <lua.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

/* The values of the command line, or the defaults. */
typedef struct Options {
    const char *device; /* NULL: not given */
    const char *precision, *plan;
    int threads; /* 0: not given */
    bool quiet, session, help, version;
    int *code, codes; /* indices in argv of the code of each -e; the caller's array */
} Options;

/* Reads the options of argv[1 ..] into o; o->code must have room for argc indices. *next is the
 * index of the first word that is not an option. *marked: whether "--" precedes it. Returns 0, or
 * -1 with the error set. */
int options_read(Options *o, int argc, char **argv, int *next, bool *marked, Error *e);

/* Writes "; did you mean 'x'?" if one of a NULL-ended list of names is near, else all names. */
const char *options_hint(char *text, size_t room, const char *given, const char *const names[]);

/* The text of --help. */
void options_help(FILE *stream);

/* Stores the values in the table on top of the stack, each under its row's key. */
void options_set(lua_State *L, const Options *o);

/* Pushes the rows: an array of {name =, short = (or nil), key =, value = (placeholder; nil: the
 * option takes no value), choices = (array or nil), help =, usual =, environment = (or nil),
 * recorded =, joined = (whether --name=value is read)}. */
void options_push_rows(lua_State *L);

#endif
