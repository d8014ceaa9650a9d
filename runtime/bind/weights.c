/* advrt.core.weights: reads and writes named tensors (io/weights.h), and reads arrays
 * (io/arrays.h). */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "device/dtype.h"
#include "io/arrays.h"
#include "io/weights.h"

#define GUARD "advrt.tensor_list"
#define CONTENTS "advrt.weights_contents"
#define SHARDS "advrt.weights_shards"
#define STREAM "advrt.weights_stream"

/* A list that is freed with its userdata, so that a Lua error does not leak it. */
static TensorList *new_list(lua_State *L) {
    TensorList *list = lua_newuserdatauv(L, sizeof *list, 0);
    *list = (TensorList){0};
    luaL_setmetatable(L, GUARD);
    return list;
}

static int free_list(lua_State *L) {
    tensors_free(luaL_checkudata(L, 1, GUARD));
    return 0;
}

/* Pushes a table of name = tensor, and empties the list. */
static int push_list(lua_State *L, TensorList *list) {
    lua_createtable(L, 0, (int)(list->count < 65536 ? list->count : 65536));
    for (size_t i = 0; i < list->count; i++) {
        Tensor *t = bind_new_tensor(L);
        *t = list->items[i].tensor;
        list->items[i].tensor = (Tensor){0};
        lua_setfield(L, -2, list->items[i].name);
    }
    tensors_free(list);
    return 1;
}

/* load(path[, key]) -> table of name = tensor, or nil and a message. Detects safetensors, .pth (zip
 * and legacy), msgpack, and an index of several files from their contents. key: a key of list(). */
static int load(lua_State *L) {
    const char *path = luaL_checkstring(L, 1), *key = luaL_optstring(L, 2, NULL);
    Error e = {0};
    TensorList *list = new_list(L);
    if (weights_load(path, key, bind_device(L), list, &e) != 0) return bind_nil(L, &e);
    return push_list(L, list);
}

/* arrays(path, name, ...) -> table of name = tensor: the named arrays of an .npz or .safetensors
 * file. An .npy file has no names: its one array gets the first name. Or nil and a message. */
static int arrays(lua_State *L) {
    enum { MOST = 8 };
    const char *path = luaL_checkstring(L, 1), *names[MOST];
    size_t count = 0;
    Error e = {0};
    for (; count < MOST && !lua_isnone(L, (int)count + 2); count++)
        names[count] = luaL_checkstring(L, (int)count + 2);
    luaL_argcheck(L, count > 0 && lua_gettop(L) <= MOST + 1, 2, "wanted 1 to 8 names");
    TensorList *list = new_list(L);
    if (arrays_load(path, names, count, bind_device(L), list, &e) != 0) return bind_nil(L, &e);
    return push_list(L, list);
}

/* The contents of a file, and the entries of the group that is being pushed. */
typedef struct Contents {
    PthContents file;
    PthEntries entries;
} Contents;

static int free_contents(lua_State *L) {
    Contents *c = luaL_checkudata(L, 1, CONTENTS);
    memory_free(c->entries.items);
    pth_contents_free(&c->file);
    c->entries = (PthEntries){0};
    return 0;
}

/* Pushes a name. A file may use one text as a name many times. So Lua makes one string of it,
 * stored by its address in the table at index `kept`. */
static void push_name(lua_State *L, int kept, const char *name) {
    if (lua_rawgetp(L, kept, name) != LUA_TNIL) return;
    lua_pop(L, 1);
    lua_pushstring(L, name);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, kept, name);
}

/* {key =, prefix =, names = {...}, opaque = {name = what made it}} */
static void push_group(lua_State *L, int kept, const PthGroup *g, const PthEntries *all) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, g->key);
    lua_setfield(L, -2, "key");
    lua_pushstring(L, all->prefix);
    lua_setfield(L, -2, "prefix");
    lua_newtable(L);
    for (size_t i = 0; i < all->tensors; i++) {
        push_name(L, kept, all->items[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "names");
    lua_newtable(L);
    for (size_t i = all->tensors; i < all->tensors + all->opaque; i++) {
        const PickleOpaque *o = all->items[i].opaque;
        push_name(L, kept, all->items[i].name);
        if (lua_rawgetp(L, kept, o) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushfstring(L, "%s.%s", o->module, o->name);
            lua_pushvalue(L, -1);
            lua_rawsetp(L, kept, o);
        }
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "opaque");
}

/* list(path) -> array of the dictionaries of tensors in a .pth file: {key = text, prefix = text
 * removed from all names, names = array of texts, opaque = table of entries that are not tensors,
 * by name}. Empty for other formats, which hold one dictionary. Or nil and a message. */
static int list(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    lua_settop(L, 1);
    Contents *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (Contents){0};
    luaL_setmetatable(L, CONTENTS);
    if (weights_list(path, &c->file, &e) != 0) return bind_nil(L, &e);
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < c->file.objects.group_count; i++) {
        const PthGroup *g = &c->file.objects.groups[i];
        int failed = pth_entries(g, &c->entries, &e);
        if (!failed) push_group(L, 3, g, &c->entries);
        memory_free(c->entries.items);
        c->entries = (PthEntries){0};
        if (failed) {
            error_prefix(&e, "%s", path);
            return bind_nil(L, &e);
        }
        lua_rawseti(L, 4, (lua_Integer)i + 1);
    }
    pth_contents_free(&c->file);
    return 1;
}

static int free_shards(lua_State *L) {
    shards_free(luaL_checkudata(L, 1, SHARDS));
    return 0;
}

/* files(path) -> array of the files that hold the weights: the path and, for an index, the files
 * that it names; or nil and a message. */
static int files(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    bool is_index;
    Shards *shards = lua_newuserdatauv(L, sizeof *shards, 0);
    *shards = (Shards){0};
    luaL_setmetatable(L, SHARDS);
    if (weights_shards(path, &is_index, shards, &e) != 0) return bind_nil(L, &e);
    lua_newtable(L);
    lua_pushstring(L, path);
    lua_rawseti(L, -2, 1);
    lua_Integer n = 1;
    for (size_t i = 0, count; i < shards->count; i += count) {
        char *file;
        if (shards_file(shards, i, path, &file, &count, &e) != 0) return bind_nil(L, &e);
        lua_pushstring(L, file);
        memory_free(file);
        lua_rawseti(L, -2, ++n);
    }
    shards_free(shards);
    return 1;
}

/* The key below the top of the stack, during a walk over a table: a text without NUL. Does not
 * convert a number, because that would confuse lua_next. */
static const char *check_key(lua_State *L, int arg, size_t *length) {
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_argerror(L, arg,
                      lua_pushfstring(L, "names must be strings, got a %s", luaL_typename(L, -2)));
    const char *key = lua_tolstring(L, -2, length);
    if (strlen(key) != *length) luaL_argerror(L, arg, "a name holds a NUL byte");
    return key;
}

static void check_tensors(lua_State *L, TensorList *list) {
    luaL_checktype(L, 2, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        Error e = {0};
        size_t length;
        const char *name = check_key(L, 2, &length);
        const Tensor *t = bind_test_tensor(L, -1);
        if (!t)
            luaL_argerror(
                L, 2,
                lua_pushfstring(L, "'%s' must be a tensor, got a %s", name, luaL_typename(L, -1)));
        Tensor share = tensor_share(t);
        if (tensors_add(list, name, length, &share, &e) != 0) {
            tensor_free(&share);
            bind_error(L, &e);
        }
    }
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const TextPair *)a)->key, ((const TextPair *)b)->key);
}

/* The metadata's texts stay in Lua, in the table at argument 3. The pairs are in a userdata on top
 * of the stack. */
static TextPair *check_metadata(lua_State *L, size_t *count) {
    *count = 0;
    if (lua_isnoneornil(L, 3)) return NULL;
    luaL_checktype(L, 3, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) ++*count;
    TextPair *pairs = lua_newuserdatauv(L, (*count + 1) * sizeof *pairs, 0);
    size_t i = 0, length;
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
        const char *key = check_key(L, 3, &length);
        if (lua_type(L, -1) != LUA_TSTRING || strlen(lua_tostring(L, -1)) != lua_rawlen(L, -1))
            luaL_argerror(L, 3, lua_pushfstring(L, "'%s' must be a string without NUL", key));
        pairs[i++] = (TextPair){key, lua_tostring(L, -1)};
    }
    qsort(pairs, *count, sizeof *pairs, by_key);
    return pairs;
}

/* save(path, table[, metadata]) -> true, or nil and a message. The path's suffix selects the
 * format, .safetensors or .msgpack. The file is written atomically; equal tensors give equal
 * bytes. */
static int save(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    size_t count;
    lua_settop(L, 3);
    TextPair *pairs = check_metadata(L, &count);
    TensorList *list = new_list(L);
    check_tensors(L, list);
    int failed = weights_save(path, list, pairs, count, &e);
    tensors_free(list);
    if (failed) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

typedef struct StreamBox {
    SafetensorsWriter *writer; /* NULL: finished */
} StreamBox;

static int free_stream(lua_State *L) {
    StreamBox *b = luaL_checkudata(L, 1, STREAM);
    if (!operation_may_free(L)) return 0;
    safetensors_end(b->writer, -1, NULL);
    b->writer = NULL;
    return 0;
}

/* Reads the entry {name, element type, shape} on top of the stack; its name stays in the table. */
static SafetensorsEntry check_entry(lua_State *L, lua_Integer i) {
    SafetensorsEntry entry = {0};
    if (!lua_istable(L, -1)) luaL_error(L, "entry %I must be {name, type, shape}", (LUAI_UACINT)i);
    int at = lua_gettop(L);
    bind_room(L, 8);
    lua_rawgeti(L, at, 1);
    lua_rawgeti(L, at, 2);
    lua_rawgeti(L, at, 3);
    entry.name = lua_type(L, at + 1) == LUA_TSTRING ? lua_tostring(L, at + 1) : NULL;
    if (!entry.name || strlen(entry.name) != lua_rawlen(L, at + 1) ||
        lua_type(L, at + 2) != LUA_TSTRING || dtype_of(lua_tostring(L, at + 2), &entry.dtype))
        luaL_error(L, "entry %I must be {name, type, shape}", (LUAI_UACINT)i);
    entry.ndim = bind_check_shape(L, at + 3, entry.shape);
    lua_settop(L, at);
    return entry;
}

/* stream(path, entries, metadata) -> a writer of a safetensors file that takes its values piece by
 * piece; or nil and a message. entries: an array of {name, element type, shape}, larger elements
 * first. */
static int stream(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    size_t count;
    lua_settop(L, 3);
    luaL_checktype(L, 2, LUA_TTABLE);
    TextPair *pairs = check_metadata(L, &count);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
    SafetensorsEntry *entries = lua_newuserdatauv(L, (size_t)n * sizeof *entries + 1, 0);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, i);
        entries[i - 1] = check_entry(L, i);
        lua_pop(L, 1);
    }
    StreamBox *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (StreamBox){0};
    luaL_setmetatable(L, STREAM);
    if (safetensors_begin(&b->writer, path, entries, (size_t)n, pairs, count, &e) != 0)
        return bind_nil(L, &e);
    return 1;
}

static StreamBox *check_stream(lua_State *L) {
    StreamBox *b = luaL_checkudata(L, 1, STREAM);
    luaL_argcheck(L, b->writer, 1, "the file is finished");
    return b;
}

/* put(bytes) -> true, or nil and a message. */
static int stream_put(lua_State *L) {
    Error e = {0};
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    if (safetensors_put(check_stream(L)->writer, bytes, n, &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* finish() -> true when the file has its name; or nil and a message, and no file. */
static int stream_finish(lua_State *L) {
    Error e = {0};
    StreamBox *b = check_stream(L);
    SafetensorsWriter *w = b->writer;
    b->writer = NULL;
    if (safetensors_end(w, 0, &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

static void make_stream_class(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"put", stream_put}, {"finish", stream_finish}, {NULL, NULL}};
    luaL_newmetatable(L, STREAM);
    lua_pushcfunction(L, free_stream);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, free_stream);
    lua_setfield(L, -2, "__close");
    operation_library(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

int luaopen_advrt_core_weights(lua_State *L) {
    static const luaL_Reg functions[] = {{"load", load},     {"list", list}, {"files", files},
                                         {"arrays", arrays}, {"save", save}, {"stream", stream},
                                         {NULL, NULL}};
    static const luaL_Reg kinds[] = {
        {GUARD, free_list}, {CONTENTS, free_contents}, {SHARDS, free_shards}, {NULL, NULL}};
    for (const luaL_Reg *kind = kinds; kind->name; kind++) {
        luaL_newmetatable(L, kind->name);
        lua_pushcfunction(L, kind->func);
        lua_setfield(L, -2, "__gc");
        lua_pop(L, 1);
    }
    make_stream_class(L);
    operation_library(L, functions);
    return 1;
}
