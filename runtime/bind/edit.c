/* advrt.core.edit: reads lines from a terminal, with libedit's editing and history.
 * lua/advrt/session/repl.lua runs the lines and completes words. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "base/interrupt.h"
#include "bind/bind.h"
#include "bind/system.h"

#define EDITOR "advrt.editor"
enum { HISTORY_LINES = 1000 };

/* libedit is loaded when a session begins. Loading it at each start would take a tenth of every
 * script's start time. */
#define EACH(F)                                                                                    \
    F(el_init);                                                                                    \
    F(el_end);                                                                                     \
    F(el_set);                                                                                     \
    F(el_wset);                                                                                    \
    F(el_get);                                                                                     \
    F(el_gets);                                                                                    \
    F(el_line);                                                                                    \
    F(el_insertstr);                                                                               \
    F(el_resize);                                                                                  \
    F(el_source);                                                                                  \
    F(history_init);                                                                               \
    F(history_end);                                                                                \
    F(history)

static struct {
#define POINTER(name) __typeof__(name) *name
    EACH(POINTER);
} libedit;

/* Loads libedit and all functions needed from it; false if one is missing. */
static bool load_libedit(void) {
    void *library = dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    bool whole = true;
#define FIND(name) whole &= (*(void **)&libedit.name = dlsym(library, #name)) != NULL
    EACH(FIND);
    return whole;
}

/* Its user value is the completion function. */
typedef struct Editor {
    EditLine *line;
    History *history;
    locale_t locale; /* decodes the terminal's bytes; the rest of advrt uses the C locale */
    lua_State *L;    /* the state that reads now; the editor is at index 1 of its stack */
    const char *prompt;
    bool closed;
} Editor;

static Editor *check_editor(lua_State *L) {
    Editor *e = luaL_checkudata(L, 1, EDITOR);
    luaL_argcheck(L, e->line && !e->closed, 1, "the editor is closed");
    return e;
}

static Editor *editor_of(EditLine *line) {
    void *e = NULL;
    libedit.el_get(line, EL_CLIENTDATA, &e);
    return e;
}

static char *prompt_of(EditLine *line) {
    return (char *)editor_of(line)->prompt;
}

/* --- characters --- */

static volatile sig_atomic_t
    stale; /* the window was resized, or another program used the terminal */

static void on_change(int signal_number) {
    (void)signal_number;
    stale = 1;
}

static void draw_anew(EditLine *line) {
    stale = 0;
    libedit.el_resize(line);
    libedit.el_set(line, EL_PREP_TERM, 0);
    libedit.el_set(line, EL_PREP_TERM, 1);
    libedit.el_set(line, EL_REFRESH);
}

/* Reads the next character. libedit's own function continues after a signal; here an interrupt ends
 * the line. Bytes that form no character are skipped. */
static int next_character(EditLine *line, wchar_t *out) {
    mbstate_t state = {0};
    for (;;) {
        char byte;
        if (interrupt_noted()) return -1;
        if (stale) draw_anew(line);
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n == 0) return 0;
        if (n < 0) {
            if (errno == EINTR) continue;
            return -1;
        }
        size_t made = mbrtowc(out, &byte, 1, &state);
        if (made == (size_t)-1)
            state = (mbstate_t){0};
        else if (made != (size_t)-2)
            return 1;
    }
}

/* --- completion --- */

/* The Tab key: complete(before) -> the text to insert at the cursor, or "", and lines to show, or
 * nil. */
static unsigned char on_tab(EditLine *line, int key) {
    (void)key;
    Editor *e = editor_of(line);
    lua_State *L = e->L;
    const LineInfo *info = libedit.el_line(line);
    unsigned char result = CC_ERROR;
    if (!lua_checkstack(L, 4)) return result;
    lua_getiuservalue(L, 1, 1);
    lua_pushlstring(L, info->buffer, (size_t)(info->cursor - info->buffer));
    if (lua_pcall(L, 1, 2, 0) != LUA_OK) {
        lua_pop(L, 1);
        if (system_interrupt_came())
            interrupt_note(); /* do not raise it here: it applies to the whole line */
        return result;
    }
    const char *more = lua_tostring(L, -2), *shown = lua_tostring(L, -1);
    if (more != NULL && more[0] != '\0' && libedit.el_insertstr(line, more) == 0)
        result = CC_REFRESH;
    if (shown != NULL) {
        printf("\n%s\n", shown);
        fflush(stdout);
        result = CC_REDISPLAY;
    }
    lua_pop(L, 2);
    return result;
}

/* --- the editor --- */

static int editor_close(lua_State *L) {
    Editor *e = luaL_checkudata(L, 1, EDITOR);
    e->closed = true;
    if (!operation_may_free(L)) return 0;
    if (e->line) libedit.el_end(e->line);
    if (e->history) libedit.history_end(e->history);
    if (e->locale) freelocale(e->locale);
    *e = (Editor){0};
    return 0;
}

/* open(complete) -> an editor on standard input and output; nil if these are not a usable terminal.
 * It reads the user's ~/.editrc. */
static int editor_open(lua_State *L) {
    HistEvent event;
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (!load_libedit()) return 0;
    lua_settop(L, 1);
    Editor *e = lua_newuserdatauv(L, sizeof *e, 1);
    *e = (Editor){.prompt = ""};
    luaL_setmetatable(L, EDITOR);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 1);
    e->locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    locale_t before = e->locale ? uselocale(e->locale) : (locale_t)0;
    e->history = libedit.history_init();
    e->line = libedit.el_init("advrt", stdin, stdout, stderr);
    bool made = e->history && e->line;
    if (made) {
        libedit.history(e->history, &event, H_SETSIZE, HISTORY_LINES);
        libedit.history(e->history, &event, H_SETUNIQUE, 1);
        libedit.el_set(e->line, EL_CLIENTDATA, e);
        libedit.el_set(e->line, EL_PROMPT, prompt_of);
        libedit.el_set(e->line, EL_EDITOR, "emacs");
        libedit.el_set(e->line, EL_HIST, libedit.history, e->history);
        libedit.el_set(e->line, EL_GETCFN, next_character);
        /* Use the wide call: the narrow one leaks its copies of the texts. */
        libedit.el_wset(e->line, EL_ADDFN, L"complete", L"Complete the word before the cursor",
                        on_tab);
        libedit.el_set(e->line, EL_BIND, "^I", "complete", NULL);
        libedit.el_set(e->line, EL_BIND, "^R", "em-inc-search-prev", NULL);
        libedit.el_source(e->line, NULL);
    }
    if (before) uselocale(before);
    return made ? 1 : 0;
}

/* read(prompt) -> the line with its newline; nil at the end of the input and after an interrupt
 * (see system.interrupted). */
static int editor_read(lua_State *L) {
    Editor *e = check_editor(L);
    struct sigaction act = {.sa_handler = on_change}, window, resume;
    int length = 0;
    e->prompt = luaL_checkstring(L, 2);
    e->L = L;
    sigaction(SIGWINCH, &act, &window); /* no SA_RESTART, so that the read below notices */
    sigaction(SIGCONT, &act, &resume);
    locale_t before = e->locale ? uselocale(e->locale) : (locale_t)0;
    libedit.el_set(e->line, EL_PREP_TERM, 1); /* set up the terminal before the prompt appears */
    const char *line = libedit.el_gets(e->line, &length);
    if (before) uselocale(before);
    sigaction(SIGWINCH, &window, NULL);
    sigaction(SIGCONT, &resume, NULL);
    if (line == NULL || length <= 0) return 0;
    lua_pushlstring(L, line, (size_t)length);
    return 1;
}

/* remember(line): adds the newest line to the history. */
static int editor_remember(lua_State *L) {
    HistEvent event;
    Editor *e = check_editor(L);
    libedit.history(e->history, &event, H_ENTER, luaL_checkstring(L, 2));
    return 0;
}

/* --- the history's file --- */

/* keep(path, line): appends a line to a file that only its owner may read. Returns true, or nil and
 * a message. */
static int keep(lua_State *L) {
    const char *path = luaL_checkstring(L, 1), *line = luaL_checkstring(L, 2);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return luaL_fileresult(L, 0, path);
    lua_pushfstring(L, "%s\n", line);
    size_t n = strlen(line) + 1;
    bool whole = write(fd, lua_tostring(L, -1), n) == (ssize_t)n;
    return luaL_fileresult(L, (close(fd) == 0) & whole, path);
}

static const luaL_Reg methods[] = {
    {"read", editor_read}, {"remember", editor_remember}, {NULL, NULL}};

static const luaL_Reg functions[] = {{"open", editor_open}, {"keep", keep}, {NULL, NULL}};

int luaopen_advrt_core_edit(lua_State *L);
int luaopen_advrt_core_edit(lua_State *L) {
    luaL_newmetatable(L, EDITOR);
    lua_pushcfunction(L, editor_close);
    lua_setfield(L, -2, "__gc");
    operation_library(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    operation_library(L, functions);
    return 1;
}
