/* The program's options: a table with a row for each, and what follows from it.
 *
 * Parsing, --help, the manual page, the shell's completion, system.options and run.json all read
 * the table. To add an option is to add a row in options.c and, for a value that C reads, a field
 * of Options.
 */
#ifndef ADVRT_BIND_OPTIONS_H
#define ADVRT_BIND_OPTIONS_H

#include <lua.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

/* What the command line says; defaults where it says nothing. */
typedef struct Options {
    const char *device; /* NULL: none was asked for */
    const char *precision, *plan;
    int threads; /* 0: none were asked for */
    bool quiet, session, help, version;
    int *code, codes; /* places in argv of the code of each -e; the caller's array */
} Options;

/* Reads the options of argv[1 ..] into o, whose `code` has room for argc places. *next is the place
 * of the first word that is no option; *marked: whether "--" stands before it. Returns 0, or -1 and
 * the error. */
int options_read(Options *o, int argc, char **argv, int *next, bool *marked, Error *e);

/* Writes "; did you mean 'x'?" where one of a NULL-ended list of names is near, else all of them.
 */
const char *options_hint(char *text, size_t room, const char *given, const char *const names[]);

/* The text of --help. */
void options_help(FILE *stream);

/* Puts the values into the table on top, each under its row's key. */
void options_set(lua_State *L, const Options *o);

/* Pushes the rows: an array of {name =, short = (or nil), key =, value = (its placeholder, nil: it
 * takes none), choices = (array or nil), help =, usual =, environment = (or nil), recorded =,
 * joined = (whether --name=value is read)}. */
void options_push_rows(lua_State *L);

#endif
