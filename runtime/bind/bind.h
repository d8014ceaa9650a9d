/* The Lua side of the core: main.c calls it to open the modules, and the module files of this
 * folder share it. Only this folder and main.c include lua.h.
 *
 * luaopen_advrt_core_NAME in NAME.c opens each C module as "advrt.core.NAME". The public modules
 * "advrt.NAME" are Lua files in lua/advrt/ that build on them.
 *
 * There are two kinds of error. Misuse by a script raises a string with the caller's position
 * (luaL_argerror, luaL_error) and ends in a traceback. A problem of the outside world raises a
 * failure: a table {message =, status =, code =} with the registered metatable "advrt.failure",
 * which main.c prints as one line. Loaders return nil and a message instead.
 */
#ifndef ADVRT_BIND_BIND_H
#define ADVRT_BIND_BIND_H

#include <lauxlib.h>
#include <lua.h>

#include "bind/operation.h"
#include "tensor/tensor.h"

#define BIND_FAILURE "advrt.failure"

/* Registers every C module in package.preload and stores the device for them. */
void bind_open(lua_State *L, Device *d);
/* Sets the group of processes that this one belongs to. Call it before advrt.core.dist is first
 * required. NULL, or no call, means that the process is alone. */
struct Dist;
void bind_set_dist(lua_State *L, struct Dist *d);
/* These processes as a group on bind_device's device. The first call makes the group, so all
 * processes must make it. NULL if this process is alone. Raises a failure if the device does not
 * support groups. */
Group *bind_group(lua_State *L);
/* luaL_loadfilex for source text only. The error for a compiled file names the file. */
int bind_load_file(lua_State *L, const char *path);
/* From now on, records each loaded file with its SHA-256. It skips advrt's own files, below `root`,
 * and those of the Linux distribution. */
void bind_note_root(lua_State *L, const char *root);
/* Records a file that a run's results may depend on; ignores a file that cannot be read. */
void bind_note_file(lua_State *L, const char *path);
/* Pushes an array of the recorded files, {path, SHA-256} each, in order. */
void bind_push_noted(lua_State *L);
/* Makes load, loadfile, dofile and require reject compiled Lua. Call it once, after
 * luaL_openlibs. */
void bind_text_only(lua_State *L);
/* Makes require look for a Lua module in these folders before all others. Call it once.
 * package.path would suffice, but it treats ';' and '?' in names specially. */
void bind_search_folders(lua_State *L, const char *const folders[], int n);
/* Makes require look next for C modules in this folder if it exists: a bundle carries them. */
void bind_search_carried(lua_State *L, const char *folder);
/* Whether package.path can hold the folder's name. */
bool bind_path_can_hold(const char *folder);
/* The device for new tensors and plans. */
Device *bind_device(lua_State *L);

/* Raises a failure with exit status `status` (1 failed, 2 bad options). If an interrupt ended the
 * work, raises the interrupt. */
int bind_fail(lua_State *L, int status, const Error *e);
/* Raises an error that a script may have caused, with the script's line. Lack of memory, which is
 * not the script's mistake, and an interrupt are raised as by bind_fail. */
int bind_error(lua_State *L, const Error *e);
/* Pushes nil and the message: `return bind_nil(L, &e);` */
int bind_nil(lua_State *L, const Error *e);

/* Makes room for n more values on Lua's stack; raises an error if memory runs out. luaL_checkstack
 * would report that as a stack overflow. */
void bind_room(lua_State *L, int n);

/* Pushes an empty tensor userdata for the caller to fill in. Its metatable is set first, so that
 * Lua always frees what the caller fills in. */
Tensor *bind_new_tensor(lua_State *L);
/* The tensor at an index; NULL for any other value and for an emptied tensor. */
Tensor *bind_test_tensor(lua_State *L, int index);
/* The tensor at an argument; raises an error for any other value and for an emptied tensor. */
Tensor *bind_check_tensor(lua_State *L, int arg);
/* The same for one element type and, if ndim >= 0, that number of dimensions. */
Tensor *bind_check_tensor_of(lua_State *L, int arg, Dtype t, int ndim);
/* Reads a table of integers at argument `arg` as a shape; returns the number of dimensions. */
int bind_check_shape(lua_State *L, int arg, int64_t shape[TENSOR_DIMS]);
/* Turns N classes, counted from 0, at argument `arg` into an i64 tensor [N] on top of the stack.
 * The argument is a table or a tensor. Raises an error unless there are N classes, all in 0 ..
 * K-1. */
Tensor *bind_check_classes(lua_State *L, int arg, int64_t N, int64_t K);

#endif
