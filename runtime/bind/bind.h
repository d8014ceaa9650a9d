/* The Lua side of the core: what main.c calls to open the modules, and what the
 * module files in this folder share. Only this folder and main.c include lua.h.
 *
 * Each C module is opened as "advrt.core.NAME" by luaopen_advrt_core_NAME of NAME.c; the
 * public modules "advrt.NAME" are Lua files in lua/advrt/ that build on them.
 *
 * Two kinds of error: misuse by a script raises a string with the caller's
 * position (luaL_argerror, luaL_error) and ends in a traceback; what depends on
 * the outside world raises a failure, a table {message =, status =, code =} with the
 * registered metatable "advrt.failure", which main.c prints as one line. Loaders
 * return nil, message instead.
 */
#ifndef ADVRT_BIND_BIND_H
#define ADVRT_BIND_BIND_H

#include <lauxlib.h>
#include <lua.h>

#include "bind/operation.h"
#include "tensor/tensor.h"

#define BIND_FAILURE "advrt.failure"

/* Registers every C module in package.preload and keeps the device for them. */
void bind_open(lua_State *L, Device *d);
/* The processes that this one is one of; before advrt.core.dist is first required, NULL or not at
 * all where it is alone. */
struct Dist;
void bind_set_dist(lua_State *L, struct Dist *d);
/* They as a group on bind_device's device, made at the first call, for which all of them must make
 * it; NULL where this process is alone. Raises a failure where the device knows no groups. */
Group *bind_group(lua_State *L);
/* luaL_loadfilex for text alone; what it says of a compiled file names the file. */
int bind_load_file(lua_State *L, const char *path);
/* From here on the files that are loaded are noted with their SHA-256, except those of advrt
 * itself, below `root`, and of the distribution. */
void bind_note_root(lua_State *L, const char *root);
/* Notes a file that a run's numbers may depend on; one that cannot be read is passed over. */
void bind_note_file(lua_State *L, const char *path);
/* Pushes an array of the files noted, {path, SHA-256} each, in their order. */
void bind_push_noted(lua_State *L);
/* Makes load, loadfile, dofile and require refuse compiled Lua; once, after luaL_openlibs. */
void bind_text_only(lua_State *L);
/* Makes require look for a module in Lua in these folders before all others; once. package.path
 * would do but for names with ';' or '?', which it takes for its own. */
void bind_search_folders(lua_State *L, const char *const folders[], int n);
/* Whether a folder can stand in package.path. */
bool bind_path_can_hold(const char *folder);
/* The device that new tensors and plans are made on. */
Device *bind_device(lua_State *L);

/* Raises a failure with exit status `status` (1 failed, 2 bad options); the interrupt where
 * that is what ended the work. */
int bind_fail(lua_State *L, int status, const Error *e);
/* Raises what a script may have brought about as an error with the line that it stands at; memory
 * that ran out, which is none of its mistakes, and the interrupt as bind_fail does. */
int bind_error(lua_State *L, const Error *e);
/* Pushes nil and the message: `return bind_nil(L, &e);` */
int bind_nil(lua_State *L, const Error *e);

/* Makes room for n more values on Lua's stack; raises where memory runs out. luaL_checkstack
 * reports that as a stack overflow. */
void bind_room(lua_State *L, int n);

/* An empty tensor userdata on top of the stack, to be filled in by the caller:
 * the metatable is there first, so that whatever is filled in is also freed. */
Tensor *bind_new_tensor(lua_State *L);
/* The tensor at an index; NULL for another value and for an emptied tensor. */
Tensor *bind_test_tensor(lua_State *L, int index);
/* The tensor at an argument; raises for another type and for an emptied tensor. */
Tensor *bind_check_tensor(lua_State *L, int arg);
/* The same, of one element type and, where ndim >= 0, that many dimensions. */
Tensor *bind_check_tensor_of(lua_State *L, int arg, Dtype t, int ndim);
/* Reads a table of integers at `arg` as a shape; returns the number of dimensions. */
int bind_check_shape(lua_State *L, int arg, int64_t shape[TENSOR_DIMS]);
/* A table or tensor of N classes counted from 0 at `arg` becomes an i64 tensor [N] on top of the
 * stack; raises unless there are N of them, all in 0 .. K-1. */
Tensor *bind_check_classes(lua_State *L, int arg, int64_t N, int64_t K);

#endif
