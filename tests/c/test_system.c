/* The width of the terminal, where standard output and standard error are two of them. */
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>
#include <lualib.h>

#include "bind/bind.h"

/* A terminal of that width, 0 being an unknown one, or where it is -1 no terminal. */
static int terminal(int columns, int *master) {
    int fd;
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    *master = -1;
    if (columns < 0) return open("/dev/null", O_RDWR);
    return openpty(master, &fd, NULL, NULL, &size) == 0 ? fd : -1;
}

/* What columns() says with standard output and standard error of these widths. */
static lua_Integer columns_of(Device *d, int out_columns, int err_columns) {
    int masters[2], kept[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    int out = terminal(out_columns, &masters[0]), err = terminal(err_columns, &masters[1]);
    if (out < 0 || err < 0) skip();
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_openlibs(L);
    bind_open(L, d);
    assert_int_equal(luaL_loadstring(L, "return require 'advrt.core.system'.columns()"), LUA_OK);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    int status = lua_pcall(L, 0, 1, 0);
    dup2(kept[0], STDOUT_FILENO);
    dup2(kept[1], STDERR_FILENO);
    assert_int_equal(status, LUA_OK);
    lua_Integer columns = lua_tointeger(L, -1);
    lua_close(L);
    int used[] = {out, err, kept[0], kept[1], masters[0], masters[1]};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        if (used[i] >= 0) close(used[i]);
    return columns;
}

static void test_columns(void **state) {
    (void)state;
    Error e;
    Device *d;
    assert_int_equal(cpu_device(1, &d, &e), 0);
    assert_int_equal(columns_of(d, 60, 100), 100);
    assert_int_equal(columns_of(d, 60, -1), 60);
    assert_int_equal(columns_of(d, -1, 100), 100);
    assert_int_equal(columns_of(d, 60, 0), 60);
    assert_int_equal(columns_of(d, -1, -1), 80);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_columns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
