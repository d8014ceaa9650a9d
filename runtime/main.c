/* The program advrt: reads options, starts Lua, runs the script or the session, and sets the exit
 * status. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"
#include "base/text.h"
#include "bind/bind.h"
#include "bind/options.h"
#include "bind/system.h"
#include "backend/open.h"
#include "dist/dist.h"

enum {
    DONE = 0,
    FAILED = 1,
    BAD_OPTIONS = 2,
    SIGNALS = 128
}; /* above it: 128 + a signal's number */
enum { NAME_MOST = 64, SCRIPTS_MOST = 64, SCRIPTS_HINT_MOST = 700 };

typedef struct Command {
    SystemOptions system;
    Dist *dist;         /* NULL: this process is alone */
    const char *script; /* NULL: none; "-": standard input */
    const char *file;   /* the path where the script was found */
    char **argv;        /* the whole command line */
    int argc, args;     /* args: index of the script's first argument */
} Command;

/* Reads the command line up to the script. */
static int parse(Command *c, Error *e) {
    bool marked;
    int i;
    if (options_read(&c->system.given, c->argc, c->argv, &i, &marked, e) != 0) return -1;
    if (i < c->argc && !(marked && c->system.given.codes > 0)) c->script = c->argv[i++];
    c->args = i;
    return 0;
}

/* --- paths --- */

/* Finds this program and the folder that holds lua/: share/advrt of the installation, or the source
 * tree above build/ (or build/NAME/). */
static int find_root(const char *name, char executable[PATH_MAX], char root[PATH_MAX], Error *e) {
    static const char *const places[] = {"../share/advrt", "..", "../.."};
    if (file_program(name, executable) != 0)
        return error_set(e,
                         "cannot find the program's own file: neither /proc/self/exe nor '%s' can "
                         "be read; mount /proc",
                         name);
    int folder = (int)(strrchr(executable, '/') - executable);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char path[2 * PATH_MAX];
        snprintf(path, sizeof path, "%.*s/%s/lua/advrt/support/fail.lua", folder, executable,
                 places[i]);
        if (access(path, R_OK) != 0) continue;
        snprintf(path, sizeof path, "%.*s/%s", folder, executable, places[i]);
        if (realpath(path, root) != NULL) return 0;
    }
    return error_set(e,
                     "cannot find advrt's own Lua files beside %s; install it with 'make install'",
                     executable);
}

static int is_script(const struct dirent *entry) {
    size_t n = strlen(entry->d_name), end = strlen(".lua");
    return n > end && strcmp(entry->d_name + n - end, ".lua") == 0;
}

/* The error for a missing script. It suggests advrt's own script with a similar name, or lists them
 * all if a bare name was given. */
static int no_script(const char *script, const char *root, Error *e) {
    char folder[2 * PATH_MAX], name[NAME_MOST + 1], text[SCRIPTS_HINT_MOST] = "";
    const char *names[SCRIPTS_MOST + 1] = {NULL}, *base = strrchr(script, '/');
    struct dirent **entries = NULL;
    snprintf(folder, sizeof folder, "%s/experiments", root);
    int n = scandir(folder, &entries, is_script, alphasort), k = 0;
    for (; k < n && k < SCRIPTS_MOST; k++) {
        *strrchr(entries[k]->d_name, '.') = '\0';
        names[k] = entries[k]->d_name;
    }
    snprintf(name, sizeof name, "%s", base != NULL ? base + 1 : script);
    char *suffix = strstr(name, ".lua");
    if (suffix != NULL) *suffix = '\0';
    bool bare = base == NULL && suffix == NULL;
    if (k > 0 && (bare || nearest(name, names, (size_t)k) != NULL))
        options_hint(text, sizeof text, name, names);
    error_set(e, "cannot open '%s': %s%s", script, strerror(ENOENT), text);
    for (k = 0; k < n; k++) free(entries[k]);
    free(entries);
    return -1;
}

/* Finds the script's file: the path as given, else advrt's own script. So `experiments/NAME.lua`,
 * or NAME alone, runs from any folder. */
static int find_script(Command *c, const char *root, char path[2 * PATH_MAX], Error *e) {
    static const char *const places[] = {"%s/%s", "%s/experiments/%s", "%s/experiments/%s.lua"};
    struct stat s;
    c->file = c->script;
    if (c->script == NULL || strcmp(c->script, "-") == 0) return 0;
    if (stat(c->script, &s) == 0 || errno != ENOENT) return 0; /* loading reports any other error */
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int n = snprintf(path, 2 * PATH_MAX, places[i], root, c->script);
        if (n >= 2 * PATH_MAX || stat(path, &s) != 0 || !S_ISREG(s.st_mode)) continue;
        c->file = path;
        return 0;
    }
    return no_script(c->script, root, e);
}

/* --- Lua --- */

/* Leaves failures unchanged; adds the calls that led to it to a script's mistake. */
static int message_handler(lua_State *L) {
    if (lua_getmetatable(L, 1)) {
        luaL_getmetatable(L, BIND_FAILURE);
        if (lua_rawequal(L, -1, -2)) {
            lua_settop(L, 1);
            return 1;
        }
        lua_settop(L, 1);
    }
    const char *message = lua_tostring(L, 1);
    if (message == NULL) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
            message = lua_tostring(L, -1);
        else
            message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    }
    lua_pushstring(L, message);
    system_explain(L);
    return 1;
}

/* A script's error may contain any bytes; its newlines stay. */
static void say(const char *where, const char *message) {
    fprintf(stderr, "advrt: %s", where);
    text_put(stderr, message);
    fputc('\n', stderr);
}

/* Prints why the run ends. An error of one process usually hits all processes: rank 0 prints it,
 * and its exit ends the others. Another rank prints only if it still runs after a second. The
 * launcher's end of the others is not reported as well. */
static void complain(Dist *d, const char *message) {
    const struct timespec grace = {1, 0};
    char host[64] = "", where[128];
    fflush(stdout);
    if (d == NULL || d->rank == 0) {
        if (d != NULL) d->speak(d);
        say("", message);
        return;
    }
    signal(SIGTERM, SIG_DFL);
    nanosleep(&grace, NULL);
    d->speak(d);
    gethostname(host, sizeof host - 1);
    snprintf(where, sizeof where, "rank %d of %d on %s: ", d->rank, d->size, host);
    say(where, message);
}

/* Prints the error at 1 and returns the exit status; the light userdata at 2 is d. */
static int print_error(lua_State *L) {
    Dist *d = lua_touserdata(L, 2);
    int status = FAILED;
    lua_settop(L, 1);
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "status");
        if (lua_isinteger(L, -1)) status = (int)lua_tointeger(L, -1);
        lua_getfield(L, 1, "message");
    }
    const char *message = lua_tostring(L, -1);
    lua_pushinteger(L, status);
    if (d == NULL || status < SIGNALS)
        complain(d, message != NULL ? message : "an error without a message");
    else if (d->speak(
                 d)) /* the launcher sends a signal to all processes, and ends all when one fails */
        say("", message);
    return 1;
}

/* The same for the error on top of the stack. Reading the error needs memory, which may be missing.
 * A signal that came with the error raises its own error, which replaces it. */
static int report(lua_State *L, Dist *d) {
    for (int status = LUA_ERRRUN; status == LUA_ERRRUN;) {
        lua_pushcfunction(L, print_error);
        lua_insert(L, -2);
        lua_pushlightuserdata(L, d);
        status = lua_pcall(L, 2, 1, 0);
        if (status == LUA_OK) return (int)lua_tointeger(L, -1);
    }
    complain(d, "not enough memory");
    return FAILED;
}

/* Calls the function below its nargs arguments. Raises its error again, with a traceback. */
static void call(lua_State *L, int nargs) {
    int function = lua_gettop(L) - nargs;
    lua_pushcfunction(L, message_handler);
    lua_insert(L, function);
    if (lua_pcall(L, nargs, 0, function) != LUA_OK) lua_error(L);
    lua_remove(L, function);
}

static int push_args(lua_State *L, const Command *c) {
    int n = c->argc - c->args;
    luaL_checkstack(L, n, "too many arguments");
    for (int i = 0; i < n; i++) lua_pushstring(L, c->argv[c->args + i]);
    return n;
}

/* Sets the table `arg`, as in lua(1): the script at 0, its arguments from 1, all other words below
 * 0. */
static void set_arg(lua_State *L, const Command *c) {
    int zero = c->script != NULL ? c->args - 1 : 0;
    int first = c->args;
    lua_createtable(L, c->argc - first, zero + 1);
    for (int i = 0; i <= zero; i++) {
        lua_pushstring(L, c->argv[i]);
        lua_rawseti(L, -2, i - zero);
    }
    for (int i = first; i < c->argc; i++) {
        lua_pushstring(L, c->argv[i]);
        lua_rawseti(L, -2, i - first + 1);
    }
    lua_setglobal(L, "arg");
}

/* Appends Lua's own paths to those of LUA_PATH or LUA_CPATH if they are missing there: advrt's own
 * modules need some of them. */
static void add_default(lua_State *L, int package, const char *name, const char *defaults) {
    lua_getfield(L, package, name);
    const char *path = luaL_optstring(L, -1, "");
    if (strstr(path, defaults) == NULL) {
        lua_pushfstring(L, "%s;%s", path, defaults);
        lua_setfield(L, package, name);
    }
    lua_pop(L, 1);
}

/* advrt's own modules come first, so that no folder near a script can replace them. */
static void set_path(lua_State *L, const Command *c) {
    const char *folders[2];
    int top = lua_gettop(L), n = 0;
    folders[n++] = lua_pushfstring(L, "%s/lua", c->system.root);
    if (c->script != NULL && strcmp(c->script, "-") != 0) {
        const char *end = strrchr(c->file, '/');
        folders[n++] = end == NULL ? "." : lua_pushlstring(L, c->file, (size_t)(end - c->file));
    }
    bind_search_folders(L, folders, n);
    bind_search_carried(L, lua_pushfstring(L, "%s/../../lib/advrt/lua", c->system.root));
    lua_getglobal(L, "package");
    int package = lua_gettop(L);
    add_default(L, package, "path", LUA_PATH_DEFAULT);
    add_default(L, package, "cpath", LUA_CPATH_DEFAULT);
    lua_pushliteral(L, "");
    for (int i = 0; i < n; i++) {
        if (!bind_path_can_hold(folders[i])) continue;
        lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;", folders[i], folders[i]);
        lua_concat(L, 2);
    }
    lua_getfield(L, package, "path");
    lua_concat(L, 2);
    lua_setfield(L, package, "path");
    lua_settop(L, top);
}

/* Runs the code that the environment asks for, as lua(1) does: code, or @ and the path of a
 * file. */
static void run_init(lua_State *L) {
    const char *name = "LUA_INIT" LUA_VERSUFFIX, *text = getenv(name);
    if (text == NULL) text = getenv(name = "LUA_INIT");
    if (text == NULL) return;
    int status = text[0] == '@' ? bind_load_file(L, text + 1)
                                : luaL_loadbufferx(L, text, strlen(text),
                                                   lua_pushfstring(L, "=%s", name), "t");
    if (status != LUA_OK) lua_error(L);
    call(L, 0);
}

static void run_session(lua_State *L, const Command *c) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "advrt.session.repl");
    lua_call(L, 1, 1);
    lua_pushboolean(L, c->system.given.quiet);
    call(L, 1);
}

/* Everything that may raise an error. The command is a light userdata at 1, the device at 2. */
static int run(lua_State *L) {
    const Command *c = lua_touserdata(L, 1);
    luaL_openlibs(L);
    bind_text_only(L);
    bind_note_root(L, c->system.root);
    lua_warning(L, "@on", 0);
    bind_open(L, lua_touserdata(L, 2));
    bind_set_dist(L, c->dist);
    system_set_options(L, &c->system);
    set_path(L, c);
    set_arg(L, c);
    system_watch_interrupts(L);
    run_init(L);
    const Options *o = &c->system.given;
    for (int i = 0; i < o->codes; i++) {
        const char *code = c->argv[o->code[i]];
        if (luaL_loadbufferx(L, code, strlen(code), "=(command line)", "t") != LUA_OK) lua_error(L);
        call(L, push_args(L, c));
    }
    if (c->script != NULL) {
        const char *name = strcmp(c->script, "-") == 0 ? NULL : c->file;
        if (bind_load_file(L, name) != LUA_OK) lua_error(L);
        call(L, push_args(L, c));
    }
    if (o->session || (c->script == NULL && o->codes == 0)) run_session(L, c);
    return 0;
}

/* Divides the machine's cores among its processes, unless the launcher has done so. */
static int default_threads(const Dist *d) {
    int threads = cpu_threads_default();
    if (d == NULL || getenv("OMP_NUM_THREADS") != NULL) return threads;
    return threads > d->sharers ? threads / d->sharers : 1;
}

static int open_device(Command *c, const char *folder, Device **device, Error *e) {
    Options *o = &c->system.given;
    if (dist_open(folder, &c->dist, e)) return -1;
    if (o->threads == 0) o->threads = default_threads(c->dist);
    if (device_open(o->device, o->threads, folder, device, e)) return -1;
    o->device = (*device)->name;
    return 0;
}

/* Reports how this device computes bf16, if bf16 was requested; -1 if it cannot. */
static int say_precision(const Options *o, const Device *d, Error *e) {
    if (strcmp(o->precision, "f32") == 0) return 0;
    bool tf32 = strcmp(o->precision, "tf32") == 0;
    if (!(tf32 ? d->tf32 : d->bf16))
        return error_set(e, "--precision %s: device %s does not compute in %s; use --precision f32",
                         o->precision, d->name, tf32 ? "tf32" : "bf16");
    if (strcmp(d->name, "cpu") != 0) return 0;
    fprintf(stderr,
            "advrt: --precision %s: %s; bf16 is emulated in f32 and takes up to an eighth longer "
            "than --precision f32\n",
            o->precision,
            cpu_has_bf16() ? "the processor's bf16 instructions are not used"
                           : "this processor has no bf16 instructions");
    return 0;
}

static int run_lua(Command *c) {
    char executable[PATH_MAX], folder[PATH_MAX], root[PATH_MAX], script[2 * PATH_MAX];
    Device *device = NULL;
    Error e = {0};
    int failed = find_root(c->argv[0], executable, root, &e) ? FAILED : 0;
    snprintf(folder, sizeof folder, "%s", executable);
    if (!failed) *strrchr(folder, '/') = '\0';
    if (!failed && device_known(c->system.given.device, folder, &e)) failed = BAD_OPTIONS;
    if (!failed &&
        (open_device(c, folder, &device, &e) != 0 ||
         say_precision(&c->system.given, device, &e) != 0 || find_script(c, root, script, &e) != 0))
        failed = FAILED;
    if (failed) {
        complain(c->dist, e.text);
        device_close(device);
        return failed;
    }
    c->system.executable = executable;
    c->system.root = root;
    c->system.isa = device->isa;
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fprintf(stderr, "advrt: not enough memory to start Lua\n");
        return FAILED;
    }
    int status = DONE;
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, c);
    lua_pushlightuserdata(L, device);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
        status = report(L, c->dist);
        lua_warning(L, "@off",
                    0); /* the failure is printed; warnings from closing the state are not */
    }
    lua_close(L);
    device_close(device);
    return status;
}

/* A full disk behind standard output must not look like success. This runs at every exit, also at
 * os.exit's. It uses _exit, because exit may not be called again here. */
static void close_stdout(void) {
    errno = 0;
    int failed = fflush(stdout) != 0;
    if (!failed && !ferror(stdout)) return;
    fprintf(stderr, "advrt: cannot write standard output: %s\n",
            failed ? strerror(errno) : "some of it is lost (a full disk?)");
    _exit(FAILED);
}

/* A thread that waits at a barrier spins. By default it spins as long as another process may occupy
 * its core. A small net then takes twenty times as long beside one busy process. A few microseconds
 * of spinning cost nothing on an idle machine. libgomp reads the variable when it is loaded. So the
 * program restarts itself once with the variable; if that fails, it continues without. */
static void bound_spinning(char **argv) {
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL) return;
    char self[PATH_MAX]; /* the program's real path, so that ps shows its name */
    if (file_program(argv[0], self) != 0 || setenv("GOMP_SPINCOUNT", "1000", 1) != 0) return;
    execv(self, argv);
}

/* If a standard stream is closed, the next opened file gets its number, and output would go into
 * that file. */
static int open_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return -1;
    return 0;
}

int main(int argc, char **argv) {
    if (open_standard_streams() != 0) return FAILED; /* no stream may exist for a message */
    Command c = {0};
    Options *o = &c.system.given;
    Error e = {0};
    c.argv = argv;
    c.argc = argc;
    o->code = calloc((size_t)argc + 1, sizeof *o->code);
    if (o->code == NULL) {
        fprintf(stderr, "advrt: not enough memory\n");
        return FAILED;
    }
    atexit(close_stdout);
    /* If a reader stops early, end this program as in any pipe. */
    signal(SIGPIPE, SIG_DFL);
    int status = parse(&c, &e) != 0 ? BAD_OPTIONS : DONE;
    if (status != DONE)
        fprintf(stderr, "advrt: %s\n", e.text);
    else if (o->help)
        options_help(stdout);
    else if (o->version)
        printf("advrt %s (%s, oneDNN %s)\n", SYSTEM_VERSION, LUA_RELEASE, cpu_onednn_version());
    else {
        bound_spinning(argv);
        status = run_lua(&c);
    }
    free(o->code);
    return status;
}
