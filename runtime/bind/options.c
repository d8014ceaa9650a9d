#include "bind/options.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"

enum { THREADS_MOST = 1024, NAME_MOST = 64, HINT_MOST = 256 };
enum { WIDTH = 96, COLUMN = 30 }; /* of the help */

/* What a value is: any text, one of the choices, a number of threads, code, or nothing at all. */
typedef enum Kind { TEXT, CHOICE, COUNT, CODE, FLAG } Kind;

typedef struct Row {
    const char *name, *brief; /* brief: a shorter name, or NULL */
    Kind kind;
    size_t at;         /* of the value in Options */
    const char *key;   /* its name in system.options and run.json; NULL: it is in neither */
    bool recorded;     /* run.json keeps it */
    const char *value; /* the placeholder; NULL: a flag, or the choices */
    const char *choices[8];
    const char *usual;       /* the default, in words; NULL: there is none */
    const char *environment; /* a variable that sets the default, or NULL */
    const char *help;
} Row;

static const Row rows[] = {
    {.name = "--device",
     .kind = TEXT,
     .at = offsetof(Options, device),
     .key = "device",
     .recorded = true,
     .value = "cpu|cuda[:N]|NAME",
     .choices = {"cpu", "cuda"},
     .usual = "a GPU that answers, else cpu",
     .help = "device of networks; NAME is a plugin advrt_NAME.so beside advrt or in the "
             "folder ADVRT_PLUGINS"},
    {.name = "--threads",
     .kind = COUNT,
     .at = offsetof(Options, threads),
     .key = "threads",
     .recorded = true,
     .value = "N",
     .usual = "the cores available to this process",
     .environment = "OMP_NUM_THREADS",
     .help = "number of CPU threads"},
    {.name = "--precision",
     .kind = CHOICE,
     .at = offsetof(Options, precision),
     .key = "precision",
     .recorded = true,
     .choices = {"f32", "mixed", "bf16", "tf32"},
     .usual = "f32",
     .help = "precision of networks; mixed: forward in f32, backward in bf16; bf16: both in bf16; "
             "tf32 (GPUs only): products with 10-bit mantissas; training is always in f32"},
    {.name = "--plan",
     .kind = CHOICE,
     .at = offsetof(Options, plan),
     .key = "plan",
     .recorded = true,
     .choices = {"fast", "direct"},
     .usual = "fast",
     .help = "convolutions: the fastest algorithm, or direct only, for the smallest rounding "
             "errors"},
    {.name = "-e",
     .kind = CODE,
     .value = "CODE",
     .help = "run CODE, then SCRIPT, or a session with -i, or exit; repeatable; "
             "'-e CODE -- ARGS' passes ARGS to CODE"},
    {.name = "-i",
     .kind = FLAG,
     .at = offsetof(Options, session),
     .help = "start a session after SCRIPT or CODE"},
    {.name = "-q",
     .kind = FLAG,
     .at = offsetof(Options, quiet),
     .key = "quiet",
     .help = "print no greeting"},
    {.name = "--version",
     .kind = FLAG,
     .at = offsetof(Options, version),
     .help = "print the version and exit"},
    {.name = "--help",
     .brief = "-h",
     .kind = FLAG,
     .at = offsetof(Options, help),
     .help = "print this help and exit"},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static const char synopsis[] =
    "usage: advrt [OPTIONS] SCRIPT [ARGS]    run a Lua script; SCRIPT '-' is standard input\n"
    "       advrt [OPTIONS]                  a session: type Lua, see values\n"
    "\n";

static const char rest[] =
    "\n"
    "If SCRIPT does not exist, advrt searches its own files: experiments/NAME.lua, "
    "or\n"
    "NAME. The environment's LUA_PATH, LUA_CPATH and LUA_INIT are as in lua(1).\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 bad options, 130 interrupted, 143 by SIGTERM, 129\n"
    "by SIGHUP.\n";

/* --- reading a command line --- */

const char *options_hint(char *text, size_t room, const char *given, const char *const names[]) {
    size_t n = 0;
    while (names[n] != NULL) n++;
    const char *near = nearest(given, names, n);
    if (near != NULL) {
        snprintf(text, room, "; did you mean '%s'?", near);
        return text;
    }
    size_t used = (size_t)snprintf(text, room, "; there are %s", names[0]);
    for (size_t i = 1; i < n && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%s", i + 1 < n ? ", " : " and ",
                                 names[i]);
    return text;
}

static int read_count(const Row *row, const char *value, int *out, Error *e) {
    char *end;
    errno = 0;
    long n = strtol(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || n < 1 || n > THREADS_MOST)
        return error_set(e, "%s wants a number from 1 to %d, got '%s'", row->name, THREADS_MOST,
                         value);
    *out = (int)n;
    return 0;
}

static int read_choice(const Row *row, const char *value, const char **out, Error *e) {
    char text[HINT_MOST];
    for (int i = 0; row->choices[i] != NULL; i++)
        if (strcmp(value, row->choices[i]) == 0) {
            *out = row->choices[i];
            return 0;
        }
    return error_set(e, "%s has no '%s'%s", row->name, value,
                     options_hint(text, sizeof text, value, row->choices));
}

/* value: NULL for a flag; place: where it stands in argv. */
static int set(Options *o, const Row *row, const char *value, int place, Error *e) {
    void *to = (char *)o + row->at;
    switch (row->kind) {
    case TEXT: *(const char **)to = value; return 0;
    case CHOICE: return read_choice(row, value, to, e);
    case COUNT: return read_count(row, value, to, e);
    case CODE: o->code[o->codes++] = place; return 0;
    case FLAG: *(bool *)to = true; return 0;
    }
    return 0;
}

/* --name=value is read of options with long names. */
static bool joined(const Row *row) {
    return row->kind != FLAG && row->name[1] == '-';
}

/* The row of a word, whose name is its first n bytes; NULL where there is none. */
static const Row *row_of(const char *word, size_t n) {
    for (int i = 0; i < ROWS; i++)
        if ((strlen(rows[i].name) == n && strncmp(rows[i].name, word, n) == 0) ||
            (rows[i].brief != NULL && strcmp(rows[i].brief, word) == 0))
            return &rows[i];
    return NULL;
}

static int unknown(const char *word, size_t n, Error *e) {
    char name[NAME_MOST + 1], text[HINT_MOST];
    const char *names[ROWS + 1] = {NULL};
    for (int i = 0; i < ROWS; i++) names[i] = rows[i].name;
    snprintf(name, sizeof name, "%.*s", (int)(n < NAME_MOST ? n : NAME_MOST), word);
    return error_set(e, "there is no option '%s'%s", name,
                     options_hint(text, sizeof text, name, names));
}

/* The option at argv[*i]; leaves *i on the last word used. */
static int read_option(Options *o, int argc, char **argv, int *i, Error *e) {
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t n = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const Row *row = row_of(word, n);
    if (row == NULL || (equals != NULL && !joined(row))) return unknown(word, n, e);
    if (row->kind == FLAG) return set(o, row, NULL, *i, e);
    if (equals != NULL) return set(o, row, equals + 1, *i, e);
    if (*i + 1 >= argc)
        return error_set(e, "%s wants %s", word, row->kind == CODE ? "Lua code" : "a value");
    *i += 1;
    return set(o, row, argv[*i], *i, e);
}

int options_read(Options *o, int argc, char **argv, int *next, bool *marked, Error *e) {
    int i = 1;
    for (int k = 0; k < ROWS; k++)
        if (rows[k].kind == CHOICE && set(o, &rows[k], rows[k].usual, 0, e) != 0) return -1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        if (strcmp(argv[i], "--") == 0) break;
        if (read_option(o, argc, argv, &i, e) != 0) return -1;
    }
    *marked = i < argc && strcmp(argv[i], "--") == 0;
    *next = *marked ? i + 1 : i;
    return 0;
}

/* --- what follows from the table --- */

/* The placeholder of a row's value; NULL where it takes none. */
static const char *placeholder(const Row *row, char *text, size_t room) {
    if (row->value != NULL || row->choices[0] == NULL) return row->value;
    size_t used = 0;
    for (int i = 0; row->choices[i] != NULL && used < room; i++)
        used +=
            (size_t)snprintf(text + used, room - used, "%s%s", i > 0 ? "|" : "", row->choices[i]);
    return text;
}

/* Writes text from `column` on, in lines of WIDTH. */
static void put_wrapped(FILE *stream, const char *text, int column) {
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        if (column > COLUMN && column + 1 + (int)n > WIDTH) {
            fprintf(stream, "\n%*s", COLUMN, "");
            column = COLUMN;
        }
        if (column > COLUMN) fputc(' ', stream), column++;
        fprintf(stream, "%.*s", (int)n, text);
        column += (int)n;
        text += n + strspn(text + n, " ");
    }
    fputc('\n', stream);
}

void options_help(FILE *stream) {
    fputs(synopsis, stream);
    for (int i = 0; i < ROWS; i++) {
        const Row *row = &rows[i];
        char value[NAME_MOST], head[3 * NAME_MOST], text[1024];
        const char *takes = placeholder(row, value, sizeof value);
        int n = snprintf(head, sizeof head, "  %s%s%s%s%s", row->brief != NULL ? row->brief : "",
                         row->brief != NULL ? ", " : "", row->name, takes != NULL ? " " : "",
                         takes != NULL ? takes : "");
        size_t used = (size_t)snprintf(text, sizeof text, "%s", row->help);
        if (row->usual != NULL)
            used += (size_t)snprintf(text + used, sizeof text - used, " (default: %s%s%s)",
                                     row->usual, row->environment != NULL ? "; environment: " : "",
                                     row->environment != NULL ? row->environment : "");
        fprintf(stream, "%-*s", COLUMN, head);
        if (n > COLUMN - 2) fprintf(stream, "\n%*s", COLUMN, "");
        put_wrapped(stream, text, COLUMN);
    }
    fputs(rest, stream);
}

void options_set(lua_State *L, const Options *o) {
    for (int i = 0; i < ROWS; i++) {
        const void *at = (const char *)o + rows[i].at;
        if (rows[i].key == NULL) continue;
        if (rows[i].kind == FLAG)
            lua_pushboolean(L, *(const bool *)at);
        else if (rows[i].kind == COUNT)
            lua_pushinteger(L, *(const int *)at);
        else
            lua_pushstring(L, *(const char *const *)at);
        lua_setfield(L, -2, rows[i].key);
    }
}

static void push_row(lua_State *L, const Row *row) {
    char value[NAME_MOST];
    const struct {
        const char *field, *text;
    } texts[] = {{"name", row->name},
                 {"short", row->brief},
                 {"key", row->key},
                 {"value", placeholder(row, value, sizeof value)},
                 {"help", row->help},
                 {"usual", row->usual},
                 {"environment", row->environment}};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        lua_pushstring(L, texts[i].text);
        lua_setfield(L, -2, texts[i].field);
    }
    lua_pushboolean(L, row->recorded);
    lua_setfield(L, -2, "recorded");
    lua_pushboolean(L, joined(row));
    lua_setfield(L, -2, "joined");
    if (row->choices[0] == NULL) return;
    lua_newtable(L);
    for (int i = 0; row->choices[i] != NULL; i++) {
        lua_pushstring(L, row->choices[i]);
        lua_seti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "choices");
}

void options_push_rows(lua_State *L) {
    lua_createtable(L, ROWS, 0);
    for (int i = 0; i < ROWS; i++) {
        push_row(L, &rows[i]);
        lua_seti(L, -2, i + 1);
    }
}
