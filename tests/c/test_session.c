/* The session as one meets it at a terminal: a pseudo-terminal with advrt on its other side. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "scratch.h"

enum { HEARD = 1 << 16, SECONDS = 20 };

static struct {
    pid_t pid;
    int terminal;
    char heard[HEARD]; /* everything the session wrote, */
    size_t length;
    size_t seen; /* and how much of it has been waited for */
} session;

static char advrt[PATH_MAX + 16];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Starts `advrt WORDS` on a terminal of that kind; its state and settings are in the folder. */
static void start(const char *term, const char *const words[]) {
    struct winsize size = {.ws_row = 40, .ws_col = 100};
    memset(&session, 0, sizeof session);
    session.pid = forkpty(&session.terminal, NULL, NULL, &size);
    if (session.pid < 0) skip();
    if (session.pid == 0) {
        char *argv[8] = {advrt};
        for (int i = 0; words && words[i]; i++) argv[i + 1] = (char *)words[i];
        setenv("TERM", term, 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        setenv("HOME", folder, 1);
        setenv("XDG_CONFIG_HOME", scratch_path("config"), 1);
        if (!getenv("XDG_STATE_HOME")) setenv("XDG_STATE_HOME", scratch_path("other"), 1);
        execv(advrt, argv);
        _exit(127);
    }
}

/* Waits until the session has written the text, from where the last wait ended. */
static void expect_within(double seconds, const char *text) {
    double end = now() + seconds;
    for (;;) {
        char *found = strstr(session.heard + session.seen, text);
        if (found) {
            session.seen = (size_t)(found - session.heard) + strlen(text);
            return;
        }
        struct pollfd ready = {session.terminal, POLLIN, 0};
        ssize_t n = 0;
        if (poll(&ready, 1, 100) > 0)
            n = read(session.terminal, session.heard + session.length, HEARD - 1 - session.length);
        for (ssize_t i = 0; i < n; i++) /* so that the text can be searched */
            if (session.heard[session.length + (size_t)i] == '\0')
                session.heard[session.length + (size_t)i] = '?';
        if (n > 0) session.length += (size_t)n;
        if (n < 0 || now() > end)
            fail_msg("waited for \"%s\", heard:\n%s", text, session.heard + session.seen);
    }
}

static void expect(const char *text) {
    expect_within(SECONDS, text);
}

static void type(const char *keys) {
    size_t n = strlen(keys);
    assert_int_equal(write(session.terminal, keys, n), n);
}

/* Types a line when there is a prompt for it. */
static void enter(const char *line) {
    expect("> ");
    type(line);
    type("\r");
    expect("\n");
}

/* Ends the session as one does, by Ctrl-D at the prompt; its exit status. */
static int leave(void) {
    int status;
    expect("> ");
    type("\004");
    for (double end = now() + SECONDS; waitpid(session.pid, &status, WNOHANG) == 0;) {
        char rest[256];
        struct pollfd ready = {session.terminal, POLLIN, 0};
        if (poll(&ready, 1, 20) > 0 && read(session.terminal, rest, sizeof rest) < 0) usleep(10000);
        if (now() > end) fail_msg("the session does not end, heard:\n%s", session.heard);
    }
    close(session.terminal);
    session.pid = 0;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int teardown(void **state) {
    (void)state;
    if (session.pid > 0) {
        kill(session.pid, SIGKILL);
        waitpid(session.pid, NULL, 0);
        close(session.terminal);
    }
    unsetenv("XDG_STATE_HOME");
    return 0;
}

/* --- tests --- */

static void test_values(void **state) {
    (void)state;
    start("xterm", NULL);
    expect("Ctrl-D ends the session");
    enter("40 + 2");
    expect("42\r\n");
    enter("41 + 2; ");
    enter("tensor.from{{1, 2}, {3, 0/0}}");
    expect("tensor f32 [2,2] in 1 .. 3, 1 NaN");
    expect("3  ");
    enter("tensor.uniform('a', {2, 9, 1000})");
    expect("[1,.,.]");
    expect("...");
    enter("(\"h\u00e9\")");
    expect("h\u00e9\r\n");
    enter("loss.ce, device.threads > 0");
    expect("loss ce\ttrue");
    enter("? tensor.stack");
    expect("[n,...] of n tensors");
    enter(":time");
    enter("'timed'");
    expect("timed\r\n[0.0");
    assert_null(strstr(session.heard, "\n43"));
    assert_int_equal(leave(), 0);
}

/* Who types advrt and nothing else reads three lines, and what they say to type first works. */
static void test_greeting(void **state) {
    (void)state;
    start("xterm", NULL);
    expect("Type demo() to see an attack");
    expect("> ");
    char *end = strstr(session.heard, "> ");
    int lines = 0;
    for (char *at = session.heard; (at = strchr(at, '\n')) != NULL && at < end; at++) lines++;
    assert_int_equal(lines, 3);
    type("demo(2)\r");
    expect("\nM-Logit");
    expect("What to try next:");
    enter("demo.ce.flip_iteration:shape()");
    expect("{2}");
    enter("demo(90)");
    expect("stdin:1: bad argument #1 to 'demo' (a number of images from 1 to 89 expected, got 90)");
    assert_int_equal(leave(), 0);
    assert_null(strstr(session.heard, "demo.lua"));
}

static void test_completion(void **state) {
    (void)state;
    start("xterm", (const char *[]){"-q", NULL});
    expect("> ");
    type("x = tensor.uni\t");
    expect("form");
    type("('a', {2, 3})\r");
    enter("g = assert(net.load 'fashion')");
    expect("> ");
    type("x:ra\t"); /* a method written in C */
    expect("nk");
    type("\025g.cla\t"); /* after Ctrl-U a field, then a method of Lua's */
    expect("sses");
    type("\025g:forg\t");
    expect("et_plans");
    type("\025g:cla\t."); /* a field is no method */
    expect("g:cla");
    expect(".");
    type("\025n\t"); /* keyword, variable and module */
    expect("net   ");
    expect("nil");
    type("\025image.load('nets/fash\t");
    expect("ion");
    type("\t");
    expect("fashion-images/");
    expect("fashion.safetensors");
    type(".l\t).nothing\r");
    expect("stdin:1: attempt to index a nil value");
    enter("x[1]:sum() ");
    assert_int_equal(leave(), 0);
    assert_null(strstr(session.heard, "g:classes"));
}

static void test_history(void **state) {
    (void)state;
    struct stat s;
    setenv("XDG_STATE_HOME", scratch_path("state"), 1);
    start("xterm", NULL);
    enter("answer = 6 * 7");
    enter("other = 1");
    assert_int_equal(leave(), 0);
    static const char kept[] = "answer = 6 * 7\nother = 1\n";
    size_t n;
    unsigned char *file = scratch_read(scratch_path("state/advrt/history"), &n);
    assert_int_equal(n, sizeof kept - 1);
    assert_memory_equal(file, kept, n);
    free(file);
    assert_int_equal(stat(scratch_path("state/advrt/history"), &s), 0);
    assert_int_equal(s.st_mode & 077, 0);
    start("xterm", NULL);
    expect("> ");
    type("\033[A\033[A"); /* up twice */
    expect("answer = 6 * 7");
    type(" + 1\r");
    enter("answer");
    expect("43");
    assert_int_equal(leave(), 0);
    /* A place that cannot be written to is done without. */
    setenv("XDG_STATE_HOME", "/proc/none", 1);
    start("xterm", NULL);
    enter("1 + 1");
    expect("2");
    expect("> ");
    type("\033[A");
    expect("1 + 1");
    type("\r");
    expect("2");
    assert_int_equal(leave(), 0);
    assert_null(strstr(session.heard, "proc"));
}

static void test_many_lines(void **state) {
    (void)state;
    start("xterm", NULL);
    enter("function twice(v)");
    expect(">");
    enter("return 2 * v");
    expect(">");
    enter("end");
    enter("local a, b =");
    expect(">");
    enter("twice(4), [[two");
    expect(">");
    enter("lines]]");
    enter("a, b, 1 +");
    expect(">");
    enter("1");
    expect("8\r\ntwo\r\nlines\r\n2\r\n");
    assert_int_equal(leave(), 0);
}

/* The loss of three lines in docs/own-loss.md, typed as it stands there, is a loss. */
static void test_page_loss(void **state) {
    (void)state;
    size_t n;
    unsigned char *text = scratch_read("docs/own-loss.md", &n);
    text[n] = '\0';
    char *line = strstr((char *)text, "\nloss.define(\"margin\"");
    assert_non_null(line);
    start("xterm", NULL);
    int lines = 0;
    for (line = strtok(line, "\n"); line; line = strtok(NULL, "\n")) {
        enter(line);
        lines++;
        if (strcmp(line, "end)") == 0) break;
        expect(">");
    }
    assert_int_equal(lines, 3);
    free(text);
    enter("z = tensor.from{{1, 5, 2}, {4, 0, 9}}");
    enter("loss.margin:evaluate(z, {1, 0})");
    expect("tensor f32 [2] in -5 .. 3, 0 NaN");
    expect("0   1  -1");
    enter("g = net.load 'fashion'");
    enter(
        "select(2, g:gradient(tensor.uniform('x', {2, 1, 28, 28}), loss.margin, {3, 4})):shape()");
    expect("{2, 1, 28, 28}");
    assert_int_equal(leave(), 0);
}

static void test_errors(void **state) {
    (void)state;
    start("xterm", NULL);
    enter("function deep() local t = nil; return t.x end");
    enter("deep() + 1");
    expect("stdin:1: attempt to index a nil value (local 't')");
    expect("stack traceback:");
    expect("in function 'deep'");
    enter("x = = 1");
    expect("unexpected symbol near '='");
    enter("assert(net.load('none'))");
    expect("no network definition 'none'");
    enter("error({})");
    enter("? nonsense");
    expect("there is no documentation of 'nonsense'");
    enter(":nonsense");
    expect("there is no command ':nonsense'");
    enter("'alive'");
    expect("alive\r\n");
    assert_int_equal(leave(), 0);
    assert_null(strstr(session.heard, "repl.lua"));
}

static void test_init(void **state) {
    (void)state;
    static const char text[] = "mine = 'from init'\nerror 'and a mistake'\n";
    mkdir(scratch_path("config"), 0700);
    mkdir(scratch_path("config/advrt"), 0700);
    scratch_write(scratch_path("config/advrt/init.lua"), text, sizeof text - 1);
    start("xterm", NULL);
    expect("init.lua:2: and a mistake");
    enter("mine");
    expect("from init\r\n");
    assert_int_equal(leave(), 0);
    assert_int_equal(remove(scratch_path("config/advrt/init.lua")), 0);
}

/* A terminal that cannot edit, and one whose window changes. */
static void test_terminals(void **state) {
    (void)state;
    struct winsize size = {.ws_row = 20, .ws_col = 60};
    start("dumb", NULL);
    enter("20 + 3");
    expect("23");
    assert_int_equal(leave(), 0);
    start("xterm", NULL);
    expect("> ");
    type("20 + ");
    expect("20 + ");
    assert_int_equal(ioctl(session.terminal, TIOCSWINSZ, &size), 0);
    usleep(200000);
    type("4\r");
    expect("24");
    assert_int_equal(leave(), 0);
}

static void test_interrupt(void **state) {
    (void)state;
    start("xterm", NULL);
    expect("> ");
    type("half a line");
    expect("half a line");
    type("\003");
    enter("for i = 1, 2 do");
    expect(">> ");
    type("\003");
    enter("'begun anew'");
    expect("begun anew\r\n");
    enter("print 'go' while true do end");
    expect("go\r\n");
    type("\003");
    enter("'alive'");
    expect("alive\r\n");
    /* An impatient second one does not end a session. */
    enter("t = os.clock() pcall(function() print 'go' while true do end end) "
          "while os.clock() < t + 1 do end print 'survived'");
    expect("go\r\n");
    type("\003");
    usleep(300000);
    type("\003");
    expect("survived\r\n");
    assert_int_equal(leave(), 0);
}

#ifdef __SANITIZE_ADDRESS__
enum { SOON = 40 };
#else
enum { SOON = 8 };
#endif

/* A forward of which one step takes a fraction of a second and all of it far longer than SOON: 400
 * convolutions of 7 GFLOP, on one thread. */
static void test_interrupt_of_native_work(void **state) {
    (void)state;
    static const char deep[] =
        "return {classes = 2, input = {3, 224, 224}, build = function(b, x)\n"
        "    for i = 1, 400 do x = b:conv(x, 'c' .. i, {out = 32, kernel = 3, pad = 1}) end\n"
        "    return b:linear(b:adaptive_avgpool(x, 1), 'fc', 2)\n"
        "end}\n";
    scratch_write(scratch_path("deep.lua"), deep, sizeof deep - 1);
    start("xterm", (const char *[]){"--threads", "1", NULL});
    char load[256];
    snprintf(load, sizeof load, "g = assert(net.load('%s', {init = 'he'}))",
             scratch_path("deep.lua"));
    enter(load);
    enter("x = tensor.new{8, 3, 224, 224}; p = g:plan('forward', 8)");
    enter("print 'go' z = p:forward(x)");
    expect("go\r\n");
    sleep(1);
    type("\003");
    expect_within(SOON, "> ");
    type("z, net.load('fashion'):forward(tensor.new{2, 1, 28, 28}):shape()\r");
    expect("nil\t{2, 10}");
    assert_int_equal(leave(), 0);
}

int main(void) {
    ssize_t n = readlink("/proc/self/exe", advrt, PATH_MAX);
    if (n <= 0) return 1;
    advrt[n] = '\0';
    for (int up = 0; up < 2; up++) *strrchr(advrt, '/') = '\0';
    strcat(advrt, "/advrt");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_values, teardown),
        cmocka_unit_test_teardown(test_greeting, teardown),
        cmocka_unit_test_teardown(test_completion, teardown),
        cmocka_unit_test_teardown(test_history, teardown),
        cmocka_unit_test_teardown(test_many_lines, teardown),
        cmocka_unit_test_teardown(test_page_loss, teardown),
        cmocka_unit_test_teardown(test_errors, teardown),
        cmocka_unit_test_teardown(test_init, teardown),
        cmocka_unit_test_teardown(test_terminals, teardown),
        cmocka_unit_test_teardown(test_interrupt, teardown),
        cmocka_unit_test_teardown(test_interrupt_of_native_work, teardown),
    };
    return cmocka_run_group_tests_name("session", tests, scratch_setup, scratch_teardown);
}
