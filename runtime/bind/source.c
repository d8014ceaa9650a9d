/* Makes load, loadfile, dofile and require reject compiled Lua. Lua does not verify compiled
 * instructions, so a compiled file could read or write any memory. */
#include "bind/bind.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "base/file.h"

/* The kinds of file that Lua may be asked to load. */
typedef enum Contents { SOURCE, COMPILED, BINARY } Contents;

/* Detects the kind from the start of a regular file: BINARY contains bytes that no text has. Lua
 * skips a first line with '#'. */
static Contents contents_of(const char *path) {
    struct stat s;
    unsigned char start[512];
    FILE *f = stat(path, &s) == 0 && S_ISREG(s.st_mode) ? fopen(path, "rb") : NULL;
    if (f == NULL) return SOURCE;
    size_t n = fread(start, 1, sizeof start, f), i = 0;
    fclose(f);
    if (n > 0 && start[0] == '#')
        while (i < n && start[i++] != '\n') continue;
    if (i < n && start[i] == LUA_SIGNATURE[0]) return COMPILED;
    i = 0;
    while (i < n && (start[i] >= ' ' || (start[i] >= '\a' && start[i] <= '\r'))) i++;
    return i < n ? BINARY : SOURCE;
}

/* In the registry: an array of {path, SHA-256} of the recorded files, and a set of "SHA-256 path"
 * keys. */
static const char noted_key, root_key;

/* Whether a file belongs to the installation or to the Linux distribution. A run records their
 * versions instead. */
static bool is_installed(lua_State *L, const char *path) {
    static const char *const parts[] = {"/lua/", "/experiments/"};
    static const char *const folders[] = {"/usr/lib/", "/usr/lib64/", "/usr/share/"};
    char real[PATH_MAX];
    if (realpath(path, real) == NULL) return false;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (strncmp(real, folders[i], strlen(folders[i])) == 0) return true;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &root_key);
    const char *root = lua_tostring(L, -1);
    size_t n = root ? strlen(root) : 0;
    bool found = false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && root; i++)
        found |= strncmp(real, root, n) == 0 && strncmp(real + n, parts[i], strlen(parts[i])) == 0;
    lua_pop(L, 1);
    return found;
}

void bind_note_root(lua_State *L, const char *root) {
    lua_pushstring(L, root);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &root_key);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &noted_key);
}

void bind_note_file(lua_State *L, const char *path) {
    char hex[FILE_SHA256_TEXT];
    Error e = {0};
    if (is_installed(L, path) || file_sha256(path, hex, &e) != 0) return;
    bind_room(L, 4);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &noted_key) != LUA_TTABLE) {
        lua_pop(L, 1);
        return;
    }
    lua_pushfstring(L, "%s %s", hex, path);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) == LUA_TNIL) {
        lua_pushvalue(L, -2);
        lua_pushboolean(L, 1);
        lua_rawset(L, -5);
        lua_createtable(L, 2, 0);
        lua_pushstring(L, path);
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, hex);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -4, (lua_Integer)lua_rawlen(L, -4) + 1);
    }
    lua_pop(L, 3);
}

void bind_push_noted(lua_State *L) {
    lua_newtable(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &noted_key);
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) lua_rawseti(L, -3, i);
    lua_pop(L, 2);
}

/* bind_load_file; *binary tells whether the file is not text. */
static int load_file(lua_State *L, const char *path, bool *binary) {
    int status = luaL_loadfilex(L, path, "t");
    *binary = false;
    if (status == LUA_OK && path) bind_note_file(L, path);
    if (status != LUA_ERRSYNTAX || path == NULL) return status;
    /* Lua's error for compiled code does not name the file; for other files, such as images or
     * weights, it only names a wrong byte. */
    Contents contents = contents_of(path);
    *binary = contents == BINARY;
    if (contents == COMPILED)
        lua_pushfstring(L, "%s: %s", path, lua_tostring(L, -1));
    else if (contents == BINARY)
        lua_pushfstring(L, "%s: is a binary file, not Lua source", path);
    else
        return status;
    lua_replace(L, -2);
    return status;
}

int bind_load_file(lua_State *L, const char *path) {
    bool binary;
    return load_file(L, path, &binary);
}

/* load(chunk[, name[, mode[, env]]]): calls the upvalue with mode "t". Checks the arguments here,
 * where the caller's position is known. */
static int source_load(lua_State *L) {
    enum { MODE = 3 };
    if (lua_tostring(L, 1) == NULL) luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_optstring(L, 2, NULL);
    luaL_optstring(L, MODE, NULL);
    if (lua_gettop(L) < MODE) lua_settop(L, MODE);
    lua_pushliteral(L, "t");
    lua_replace(L, MODE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* An environment becomes the chunk's first upvalue, as in Lua's own function. A file that is not
 * text fails with a third result, "binary". */
static int source_loadfile(lua_State *L) {
    const char *path = luaL_optstring(L, 1, NULL);
    luaL_optstring(L, 2, NULL);
    int has_env = !lua_isnone(L, 3);
    lua_settop(L, 3);
    bool binary;
    if (load_file(L, path, &binary) != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        if (!binary) return 2;
        lua_pushliteral(L, "binary");
        return 3;
    }
    if (has_env) {
        lua_pushvalue(L, 3);
        if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
    }
    return 1;
}

static int all_results(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    return lua_gettop(L) - 1;
}

static int source_dofile(lua_State *L) {
    const char *path = luaL_optstring(L, 1, NULL);
    lua_settop(L, 1);
    if (bind_load_file(L, path) != LUA_OK) return lua_error(L);
    lua_callk(L, 0, LUA_MULTRET, 0, all_results);
    return all_results(L, LUA_OK, 0);
}

/* The searcher of require for Lua modules; its upvalues are `package` and package.searchpath. */
static int source_search(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    if (lua_getfield(L, lua_upvalueindex(1), "path") != LUA_TSTRING)
        return luaL_error(L, "'package.path' must be a string");
    lua_call(L, 2, 2);
    const char *path = lua_tostring(L, -2);
    if (path == NULL) return 1;
    if (luaL_loadfilex(L, path, "t") != LUA_OK)
        return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path,
                          lua_tostring(L, -1));
    bind_note_file(L, path);
    lua_pushstring(L, path);
    return 2;
}

/* If the file can be read, pushes its loader and its path. */
static bool push_loader(lua_State *L, const char *name, const char *path) {
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    fclose(f);
    if (luaL_loadfilex(L, path, "t") != LUA_OK)
        luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name, path,
                   lua_tostring(L, -1));
    bind_note_file(L, path);
    lua_pushstring(L, path);
    return true;
}

/* The first searcher of require for Lua modules: it looks in the folders that are its upvalues. */
static int source_search_folders(lua_State *L) {
    const char *name = luaL_checkstring(L, 1), *file = luaL_gsub(L, name, ".", "/");
    lua_pushliteral(L, "");
    for (int i = 1; !lua_isnone(L, lua_upvalueindex(i)); i++) {
        const char *folder = lua_tostring(L, lua_upvalueindex(i));
        const char *path = lua_pushfstring(L, "%s/%s.lua", folder, file);
        const char *init = lua_pushfstring(L, "%s/%s/init.lua", folder, file);
        if (push_loader(L, name, path) || push_loader(L, name, init)) return 2;
        lua_pop(L, 2);
        if (bind_path_can_hold(folder))
            continue; /* package.path's searcher lists these in its message */
        lua_pushfstring(L, "\n\tno file '%s/%s.lua'\n\tno file '%s/%s/init.lua'", folder, file,
                        folder, file);
        lua_concat(L, 2);
    }
    return 1;
}

bool bind_path_can_hold(const char *folder) {
    return strpbrk(folder, LUA_PATH_SEP LUA_PATH_MARK) == NULL;
}

void bind_search_folders(lua_State *L, const char *const folders[], int n) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = (lua_Integer)luaL_len(L, -1); i >= 2; i--) {
        lua_geti(L, -1, i);
        lua_seti(L, -2, i + 1);
    }
    for (int i = 0; i < n; i++) lua_pushstring(L, folders[i]);
    lua_pushcclosure(L, source_search_folders, n);
    lua_seti(L, -2, 2); /* after the searcher of package.preload */
    lua_pop(L, 2);
}

/* The searcher of require for C modules in the carried folder, which is the upvalue. */
static int source_search_carried(lua_State *L) {
    const char *name = luaL_checkstring(L, 1), *file = luaL_gsub(L, name, ".", "/");
    const char *path = lua_pushfstring(L, "%s/%s.so", lua_tostring(L, lua_upvalueindex(1)), file);
    if (access(path, F_OK) != 0) {
        lua_pushfstring(L, "\n\tno file '%s'", path);
        return 1;
    }
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loadlib");
    lua_pushstring(L, path);
    lua_pushfstring(L, "luaopen_%s", luaL_gsub(L, name, ".", "_"));
    lua_remove(L, -2);
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2)) luaL_error(L, "error loading module '%s': %s", name, lua_tostring(L, -1));
    lua_pop(L, 1);
    lua_pushstring(L, path);
    return 2;
}

void bind_search_carried(lua_State *L, const char *folder) {
    if (access(folder, R_OK) != 0) return;
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_Integer n = (lua_Integer)luaL_len(L, -1);
    for (lua_Integer i = n; i >= 3; i--) {
        lua_geti(L, -1, i);
        lua_seti(L, -2, i + 1);
    }
    lua_pushstring(L, folder);
    lua_pushcclosure(L, source_search_carried, 1);
    lua_seti(L, -2, 3); /* after bind_search_folders' */
    lua_pop(L, 2);
}

/* The searcher of require for C modules, which calls the upvalue and records the file. */
static int source_search_native(lua_State *L) {
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 2);
    if (lua_isfunction(L, 1) && lua_isstring(L, 2)) bind_note_file(L, lua_tostring(L, 2));
    return 2;
}

static void replace_global(lua_State *L, const char *name, lua_CFunction f) {
    lua_getglobal(L, name);
    lua_pushcclosure(L, f, 1);
    lua_setglobal(L, name);
}

void bind_text_only(lua_State *L) {
    replace_global(L, "load", source_load);
    replace_global(L, "loadfile", source_loadfile);
    replace_global(L, "dofile", source_dofile);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_pushvalue(L, -2);
    lua_getfield(L, -1, "searchpath");
    lua_pushcclosure(L, source_search, 2);
    lua_rawseti(L, -2, 2);         /* after the searcher of package.preload */
    for (int i = 3; i <= 4; i++) { /* for a C module, and for the all-in-one loader */
        lua_rawgeti(L, -1, i);
        lua_pushcclosure(L, source_search_native, 1);
        lua_rawseti(L, -2, i);
    }
    lua_pop(L, 2);
}
