/* spawn: another program, started without a shell, and what it prints as a file to read. */
#define _GNU_SOURCE
#include "bind/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct Child {
    luaL_Stream stream; /* first: Lua's file methods take a Child for one */
    pid_t pid;
} Child;

/* The file's close: waits for the program; returns what os.execute does. */
static int child_close(lua_State *L) {
    Child *c = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    int status = 0;
    fclose(c->stream.f);
    while (waitpid(c->pid, &status, 0) < 0)
        if (errno != EINTR) return luaL_execresult(L, -1);
    errno = 0; /* luaL_execresult reports it otherwise */
    return luaL_execresult(L, status);
}

/* Pushes an array of C strings that ends with NULL, of the table of words at `table`. */
static char **push_words(lua_State *L, int table) {
    lua_Integer n = luaL_len(L, table);
    luaL_argcheck(L, n > 0, table, "holds no program");
    char **words = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *words, 0);
    for (lua_Integer i = 0; i < n; i++) {
        if (lua_geti(L, table, i + 1) != LUA_TSTRING)
            luaL_argerror(L, table, "an array of strings is expected");
        words[i] = (char *)lua_tostring(L, -1);
        lua_pop(L, 1); /* the table keeps it */
    }
    words[n] = NULL;
    return words;
}

/* Whether the table of changes at `table` has a value for the variable NAME=VALUE. */
static bool is_changed(lua_State *L, int table, const char *variable) {
    lua_pushlstring(L, variable, strcspn(variable, "="));
    bool changed = lua_rawget(L, table) != LUA_TNIL;
    lua_pop(L, 1);
    return changed;
}

/* Pushes this program's environment with the changes at `table`, {NAME = text, or false for none}.
 */
static char **push_environment(lua_State *L, int table) {
    size_t n = 0, k = 0;
    while (environ[n] != NULL) n++;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) n++;
    lua_newtable(L); /* keeps the new strings */
    int kept = lua_gettop(L);
    char **variables = lua_newuserdatauv(L, (n + 1) * sizeof *variables, 0);
    for (char **v = environ; *v != NULL; v++)
        if (!is_changed(L, table, *v)) variables[k++] = *v;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -1) != LUA_TSTRING) continue;
        const char *name = lua_tostring(L, -2), *text = lua_tostring(L, -1);
        variables[k++] = (char *)lua_pushfstring(L, "%s=%s", name, text);
        lua_rawseti(L, kept, (lua_Integer)k);
    }
    variables[k] = NULL;
    return variables;
}

static int start(Child *c, char **words, char **variables) {
    int ends[2];
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    int problem = posix_spawn_file_actions_init(&actions);
    if (problem == 0) {
        problem = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        if (problem == 0)
            problem = posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
        if (problem == 0)
            problem = posix_spawnp(&c->pid, words[0], &actions, NULL, words, variables);
        posix_spawn_file_actions_destroy(&actions);
    }
    close(ends[1]);
    if (problem == 0 && (c->stream.f = fdopen(ends[0], "r")) != NULL) {
        c->stream.closef = child_close;
        return 0;
    }
    if (problem == 0) { /* it ends at its first line, which nobody reads */
        problem = errno;
        close(ends[0]);
        waitpid(c->pid, NULL, 0);
        return problem;
    }
    close(ends[0]);
    return problem;
}

int system_spawn(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_newtable(L);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    char **words = push_words(L, 1), **variables = push_environment(L, 2);
    Child *c = lua_newuserdatauv(L, sizeof *c, 0);
    c->stream.closef = NULL; /* to Lua a closed file, until it is open */
    luaL_setmetatable(L, LUA_FILEHANDLE);
    int problem = start(c, words, variables);
    if (problem == 0) return 1;
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", words[0], strerror(problem));
    lua_pushinteger(L, problem);
    return 3;
}
