/* advrt.core.system: what scripts need from the machine and the command line. */
#include "bind/system.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <utf8proc.h>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/memory.h"
#include "base/nearest.h"
#include "base/text.h"
#include "bind/bind.h"
#include "bind/spawn.h"
#include "device/device.h"

static const char options_key;
int luaopen_advrt_core_system(lua_State *L);

/* --- interrupts: a signal handler writes them, so they belong to the process, not to Lua --- */

static volatile sig_atomic_t interrupt_mark; /* the first signal received, or 0 */
static volatile sig_atomic_t interrupts_held;
static double interrupt_time;           /* time of the first signal; only the handler uses it */
static double interrupt_patience = 0.2; /* seconds before another signal ends the process */
static lua_State *interrupt_state;

/* The signals that end a run: from the user, from an administrator, or when the terminal closes.
 * The exit status is the shell's for each: 128 + the signal's number. */
static const struct {
    int number;
    const char *message;
} asking[] = {{SIGINT, "interrupted"}, {SIGTERM, "ended by SIGTERM"}, {SIGHUP, "ended by SIGHUP"}};
enum { ASKING = sizeof asking / sizeof *asking };

static int push_interrupt(lua_State *L) {
    int number = interrupt_mark ? interrupt_mark : SIGINT, i = 0;
    while (i < ASKING - 1 && asking[i].number != number) i++;
    system_push_failure(L, 128 + number, asking[i].message);
    return 1;
}

bool system_interrupt_came(void) {
    return interrupt_mark != 0;
}

int system_raise_interrupt(lua_State *L) {
    lua_sethook(interrupt_state, NULL, 0, 0);
    interrupt_forget();
    push_interrupt(L);
    return lua_error(L);
}

static void interrupt_hook(lua_State *L, lua_Debug *ar) {
    (void)ar;
    system_raise_interrupt(L);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void raise_soon(void) {
    interrupt_note();
    lua_sethook(interrupt_state, interrupt_hook,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* lua_sethook is the only function of Lua that a signal handler may call. timeout(1) sends its
 * signal to the process and to its group, so two signals at once count as one. */
static void on_interrupt(int signal_number) {
    if (interrupt_mark == 0) {
        interrupt_mark = signal_number;
        interrupt_time = now();
        interrupt_ask(true);
        if (!interrupts_held) raise_soon();
    } else if (now() - interrupt_time > interrupt_patience) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
}

void system_watch_interrupts(lua_State *L) {
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_interrupt; /* no SA_RESTART: a signal ends a read from the terminal */
    sigemptyset(&act.sa_mask);
    interrupt_state = L;
    interrupt_mark = 0;
    interrupts_held = 0;
    interrupt_ask(false);
    interrupt_forget();
    lua_sethook(L, NULL, 0, 0);
    signal(SIGXFSZ, SIG_IGN); /* at the limit of file size a write fails with an error */
    for (int i = 0; i < ASKING; i++) {
        struct sigaction before;
        int number = asking[i].number;
        /* A signal that nohup(1) ignores stays ignored. SIGINT is handled even after a shell's
         * `&`. */
        bool ignored = sigaction(number, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
        if (number == SIGINT || !ignored) sigaction(number, &act, NULL);
    }
}

/* interrupted([again]) -> whether a signal asked to stop. With a true argument it also clears the
 * signal, and the next one counts as the first. */
static int system_interrupted(lua_State *L) {
    bool was = interrupt_mark != 0;
    if (lua_toboolean(L, 1)) system_watch_interrupts(interrupt_state);
    lua_pushboolean(L, was);
    return 1;
}

/* Called when hold_interrupts ends: raises an interrupt that came meanwhile, unless an error is
 * already being raised. */
static int release_interrupts(lua_State *L) {
    interrupts_held = 0;
    if (interrupt_mark && lua_isnoneornil(L, 2)) raise_soon();
    return 0;
}

/* hold_interrupts() -> a value for a to-be-closed variable. Until it is closed, an interrupt raises
 * no error. Work that must not be torn checks interrupted() where it can stop. */
static int hold_interrupts(lua_State *L) {
    interrupts_held = 1;
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, release_interrupts);
    lua_setfield(L, -2, "__close");
    lua_setmetatable(L, -2);
    return 1;
}

/* patience(seconds): for this long after the first SIGINT, a second one does not end the
 * process. */
static int system_patience(lua_State *L) {
    interrupt_patience = luaL_checknumber(L, 1);
    return 0;
}

/* --- failures --- */

void system_push_failure(lua_State *L, int status, const char *message) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    lua_pushinteger(L, status);
    lua_setfield(L, -2, "status");
    luaL_setmetatable(L, BIND_FAILURE);
}

/* --- mistakes --- */

enum { CALLS_SHOWN = 20, LEVELS = 1000 };

/* Whether a function is in C or in a file of advrt's own lua/ folder. */
static bool is_own(const lua_Debug *ar, const char *lua) {
    return *ar->what == 'C' || (*ar->source == '@' && !strncmp(ar->source + 1, lua, strlen(lua)));
}

/* Whether a message begins with the function's current line; if `any`, with any line of its
 * file. */
static bool is_of(const char *message, const lua_Debug *ar, bool any) {
    size_t n = strlen(ar->short_src);
    if (strncmp(message, ar->short_src, n) != 0 || message[n] != ':') return false;
    return any || strtol(message + n + 1, NULL, 10) == ar->currentline;
}

/* Appends a line about a call to the text on top of the stack. */
static void add_call(lua_State *L, const lua_Debug *ar) {
    lua_pushfstring(L, "\n\t%s:%d: in ", ar->short_src, ar->currentline);
    if (*ar->what == 'm')
        lua_pushliteral(L, "main chunk");
    else if (*ar->namewhat != '\0')
        lua_pushfstring(L, "%s '%s'", strcmp(ar->namewhat, "global") ? ar->namewhat : "function",
                        ar->name);
    else
        lua_pushfstring(L, "function <%s:%d>", ar->short_src, ar->linedefined);
    lua_concat(L, 3);
}

void system_explain(lua_State *L) {
    lua_Debug ar;
    int message = lua_gettop(L), calls = 0;
    const char *text = lua_tostring(L, message);
    bool alone = true;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &options_key);
    lua_getfield(L, -1, "root");
    const char *lua = lua_pushfstring(L, "%s/lua/", lua_tostring(L, -1));
    lua_pushfstring(L, "%s\nstack traceback:", text);
    for (int level = 0; level < LEVELS && calls <= CALLS_SHOWN && lua_getstack(L, level, &ar);
         level++) {
        lua_getinfo(L, "Slnt", &ar);
        if (*ar.what != 'C' && is_own(&ar, lua) && is_of(text, &ar, true)) {
            luaL_traceback(L, L, text, 1);
            calls = 0, alone = false;
            break;
        }
        if (is_own(&ar, lua)) continue;
        alone = calls == 0 && is_of(text, &ar, false);
        if (++calls <= CALLS_SHOWN) add_call(L, &ar);
    }
    if (calls > CALLS_SHOWN) {
        lua_pushliteral(L, "\n\t...");
        lua_concat(L, 2);
    }
    if (alone) lua_pushvalue(L, message);
    lua_replace(L, message);
    lua_settop(L, message);
}

/* explain(message) -> the text of system_explain. */
static int system_explain_text(lua_State *L) {
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    system_explain(L);
    return 1;
}

/* failure(message, status) -> a failure, without raising it. */
static int system_failure(lua_State *L) {
    system_push_failure(L, (int)luaL_checkinteger(L, 2), luaL_checkstring(L, 1));
    return 1;
}

/* interrupt() -> the failure for the received signal (SIGINT if there was none), without raising
 * it. */
static int system_interrupt(lua_State *L) {
    return push_interrupt(L);
}

/* nearest(name, names) -> the entry of the array `names` that `name` probably means, or nil. */
static int system_nearest(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t n = lua_rawlen(L, 2);
    const char **names = lua_newuserdatauv(L, (n + 1) * sizeof *names, 0);
    luaL_checkstack(L, (int)n, "too many names");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING) return luaL_argerror(L, 2, "names are strings");
        names[i] = lua_tostring(L, -1);
    }
    lua_pushstring(L, nearest(name, names, n));
    return 1;
}

/* --- the machine --- */

/* clock() -> seconds on a clock that never goes back; its origin is arbitrary. */
static int system_clock(lua_State *L) {
    lua_pushnumber(L, now());
    return 1;
}

/* isatty(fd) -> whether file descriptor 0, 1 or 2 is a terminal. */
static int system_isatty(lua_State *L) {
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* columns() -> the width of the terminal on standard error, which shows progress; else of the one
 * on standard output; 80 if neither is a terminal. */
static int system_columns(lua_State *L) {
    struct winsize size;
    int columns = 0;
    for (int fd = STDERR_FILENO; fd >= STDOUT_FILENO && columns == 0; fd--)
        if (ioctl(fd, TIOCGWINSZ, &size) == 0) columns = size.ws_col;
    lua_pushinteger(L, columns ? columns : 80);
    return 1;
}

/* memory() -> {in_use =, peak =, takes =}: bytes, bytes and number of allocations in the core's
 * counted memory. */
static int system_memory(lua_State *L) {
    MemoryCount count = memory_count();
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)count.in_use);
    lua_setfield(L, -2, "in_use");
    lua_pushinteger(L, (lua_Integer)count.peak);
    lua_setfield(L, -2, "peak");
    lua_pushinteger(L, (lua_Integer)count.takes);
    lua_setfield(L, -2, "takes");
    return 1;
}

/* --- text --- */

/* printable(text[, lines]) -> the text made safe to print (text_clean). With lines, newlines and
 * tabs stay. */
static int system_printable(lua_State *L) {
    size_t n;
    const char *text = luaL_checklstring(L, 1, &n);
    const char *keep = lua_toboolean(L, 2) ? "\n\t" : "";
    luaL_Buffer b;
    char *copy = luaL_buffinitsize(L, &b, n);
    memcpy(copy, text, n);
    luaL_pushresultsize(&b, text_clean(copy, n, keep));
    return 1;
}

/* compose(text) -> the text in Unicode's normal form NFC; unchanged if it is not UTF-8. */
static int system_compose(lua_State *L) {
    const utf8proc_option_t nfc = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    size_t n;
    const uint8_t *text = (const uint8_t *)luaL_checklstring(L, 1, &n);
    utf8proc_ssize_t count = utf8proc_decompose(text, (utf8proc_ssize_t)n, NULL, 0, nfc);
    lua_settop(L, 1);
    if (count <= 0) return 1;
    /* The library needs room for one more than it counted, and writes the bytes over the
     * numbers. */
    int32_t *room = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *room, 0);
    count = utf8proc_decompose(text, (utf8proc_ssize_t)n, room, count, nfc);
    if (count > 0) count = utf8proc_reencode(room, count, nfc);
    if (count > 0)
        lua_pushlstring(L, (const char *)room, (size_t)count);
    else
        lua_settop(L, 1);
    return 1;
}

/* --- files --- */

/* sha256(path) -> 64 hexadecimal digits, or nil and a message. */
static int system_sha256(lua_State *L) {
    Error e = {0};
    char hex[FILE_SHA256_TEXT];
    if (file_sha256(luaL_checkstring(L, 1), hex, &e) != 0) return bind_nil(L, &e);
    lua_pushstring(L, hex);
    return 1;
}

/* digest(bytes) -> the SHA-256 of a string, 64 hexadecimal digits. */
static int system_digest(lua_State *L) {
    char hex[FILE_SHA256_TEXT];
    size_t n;
    const char *bytes = luaL_checklstring(L, 1, &n);
    file_digest(bytes, n, hex);
    lua_pushstring(L, hex);
    return 1;
}

/* write(path, bytes) -> true, or nil and a message. Writes atomically: on failure the previous file
 * stays. */
static int system_write(lua_State *L) {
    Error e = {0};
    size_t n;
    const char *path = luaL_checkstring(L, 1), *bytes = luaL_checklstring(L, 2, &n);
    if (file_write(path, bytes, n, &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* replace(from, to) -> true, or nil and a message: syncs a complete file to disk, then renames it
 * atomically within its file system. */
static int system_replace(lua_State *L) {
    Error e = {0};
    const char *from = luaL_checkstring(L, 1), *to = luaL_checkstring(L, 2);
    if (file_replace(from, to, &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* note_file(path): records that the run depends on this file too. */
static int system_note_file(lua_State *L) {
    bind_note_file(L, luaL_checkstring(L, 1));
    return 0;
}

/* noted() -> array of {path, SHA-256 at loading} of the loaded files, without those of the
 * installation. A file that changed between two loads occurs twice. */
static int system_noted(lua_State *L) {
    bind_push_noted(L);
    return 1;
}

/* room(path) -> the bytes that this user may still write to the disk of a file or folder; or nil
 * and a message. */
static int system_room(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    struct statvfs disk;
    Error e = {0};
    if (statvfs(path, &disk) != 0) {
        error_set(&e, "%s: %s", path, strerror(errno));
        return bind_nil(L, &e);
    }
    lua_pushnumber(L, (double)disk.f_bavail * (double)disk.f_frsize);
    return 1;
}

/* --- the module --- */

void system_set_options(lua_State *L, const SystemOptions *o) {
    lua_createtable(L, 0, 10);
    options_set(L, &o->given);
    lua_pushstring(L, o->isa);
    lua_setfield(L, -2, "isa");
    lua_pushstring(L, o->executable);
    lua_setfield(L, -2, "executable");
    lua_pushstring(L, o->root);
    lua_setfield(L, -2, "root");
    lua_pushliteral(L, SYSTEM_VERSION);
    lua_setfield(L, -2, "version");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &options_key);
}

static const luaL_Reg functions[] = {
    {"clock", system_clock},
    {"columns", system_columns},
    {"compose", system_compose},
    {"digest", system_digest},
    {"explain", system_explain_text},
    {"failure", system_failure},
    {"hold_interrupts", hold_interrupts},
    {"interrupt", system_interrupt},
    {"interrupted", system_interrupted},
    {"isatty", system_isatty},
    {"memory", system_memory},
    {"nearest", system_nearest},
    {"note_file", system_note_file},
    {"noted", system_noted},
    {"patience", system_patience},
    {"printable", system_printable},
    {"replace", system_replace},
    {"room", system_room},
    {"sha256", system_sha256},
    {"spawn", system_spawn},
    {"write", system_write},
    {NULL, NULL},
};

int luaopen_advrt_core_system(lua_State *L) {
    operation_library(L, functions);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &options_key);
    lua_setfield(L, -2, "options");
    options_push_rows(L);
    lua_setfield(L, -2, "program_options");
    lua_pushstring(L, cpu_onednn_version());
    lua_setfield(L, -2, "onednn_version");
    return 1;
}
