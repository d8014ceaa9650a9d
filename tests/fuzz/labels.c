/* labels.csv is read in Lua, so this target drives a Lua state that has the modules. libFuzzer sees
 * no Lua; a hook tells it which lines ran. */
#include "targets.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"

static const char script[] =
    "local dir = ...\n"
    "package.path = 'lua/?.lua;' .. package.path\n"
    "local data, fail = require 'advrt.data', require 'advrt.support.fail'\n"
    "return function()\n"
    "    local ok, folder = pcall(data.folder, dir, {classes = 10, input = {1, 28, 28}})\n"
    "    if not ok then return assert(fail.is(folder) and folder.message, folder) end\n"
    "    for i = 1, #folder do\n"
    "        local class = folder:label(i)\n"
    "        assert(math.type(class) == 'integer' and class >= 0 and class < 10)\n"
    "    end\n"
    "end\n";

static const char *const images[] = {"a.png", "b,\"c.png", "d/e f.jpg"};

static char folder[64], labels[96];

static void on_line(lua_State *L, lua_Debug *where) {
    /* A file's last letters tell it from the others; this runs at each line, so it is short. */
    enum { LETTERS = 5 };
    lua_getinfo(L, "S", where);
    size_t skip = where->srclen > LETTERS ? where->srclen - LETTERS : 0;
    fuzz_seen(where->source + skip, (unsigned)where->currentline);
}

static void remove_folder(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    fuzz_check(system(command) == 0, "a folder", folder);
}

static void make_folder(void) {
    char path[128];
    strcpy(folder, "/tmp/advrt-fuzz-XXXXXX");
    fuzz_check(mkdtemp(folder) != NULL, "a folder", folder);
    atexit(remove_folder);
    snprintf(path, sizeof path, "mkdir %s/d", folder);
    fuzz_check(system(path) == 0, "a folder", path);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, images[i]);
        FILE *f = fopen(path, "wb");
        fuzz_check(f && fclose(f) == 0, "an image", path);
    }
    snprintf(labels, sizeof labels, "%s/labels.csv", folder);
}

static lua_State *make_state(const char *path) {
    make_folder();
    fuzz_check(symlink(path, labels) == 0, "a link", labels);
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    bind_open(L, fuzz_device());
    int failed = luaL_loadstring(L, script);
    if (!failed) {
        lua_pushstring(L, folder);
        failed = lua_pcall(L, 1, 1, 0);
    }
    if (failed) fuzz_check(0, "the script", luaL_tolstring(L, -1, NULL));
    lua_sethook(L, on_line, LUA_MASKLINE, 0);
    return L;
}

void fuzz_labels(const char *path, const uint8_t *bytes, size_t n) {
    static lua_State *L;
    (void)bytes, (void)n;
    if (!L) L = make_state(path);
    lua_pushvalue(L, -1);
    if (lua_pcall(L, 0, 1, 0) != LUA_OK) fuzz_check(0, "an error", luaL_tolstring(L, -1, NULL));
    if (lua_isstring(L, -1)) fuzz_check_message(labels, lua_tostring(L, -1));
    lua_pop(L, 1);
}
