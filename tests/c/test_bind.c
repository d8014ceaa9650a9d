/* Running out of memory under a script: each allocation of the core, then each of Lua's own, fails
 * in turn. The script ends in an error, and all that the core took is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lualib.h>

#include "base/memory.h"
#include "bind/bind.h"

static const char script[] =
    "local tensor, loss = require 'advrt.core.tensor', require 'advrt.core.loss'\n"
    "local x = tensor.from{{1, 2, 3}, {4, 5, 6}}\n"
    "local y = (1 / x + x * 2):clamp(0, 3):abs()\n"
    "y = tensor.stack{y[1], y[2]}\n"
    "local z = tensor.concat{y, x:to('f64'):to('f32'), tensor.uniform('z', {1, 3})}\n"
    "local l2, linf, zero = z:norms()\n"
    "local value, dz = loss.evaluate('ce', nil, x, {1, 2})\n"
    "local row = loss.stats(x, {0, 1}, {1, 2})\n"
    "local p = tensor.new({2}, 'u8'):reshape{2, 1}\n"
    "x:clone():step_(dz, tensor.new({2}, 'f64'), x)\n"
    "return x:argmax():totable()[1] + x:rank{0, 0}:get(2) + #tostring(z)\n";

/* Lua's allocator; the block that `left` counts down to is refused, and all after
 * it, since Lua collects its garbage and asks again. */
typedef struct Heap {
    long left; /* 0: none fails */
} Heap;

static void *allocate(void *data, void *block, size_t old, size_t size) {
    Heap *h = data;
    if (size == 0) {
        free(block);
        return NULL;
    }
    if (!block || size > old) {
        if (h->left == 1) return NULL;
        if (h->left) h->left--;
    }
    return realloc(block, size);
}

static int open_all(lua_State *L) {
    luaL_openlibs(L);
    bind_open(L, lua_touserdata(L, 1));
    return 0;
}

/* Runs the script in a new state; 0 where it ran to its end. Its message, if any, in `text`. */
static int run(Heap *h, Device *d, bool fail_core, uint64_t n, char text[200]) {
    lua_State *L = lua_newstate(allocate, h);
    assert_non_null(L);
    lua_pushcfunction(L, open_all);
    lua_pushlightuserdata(L, d);
    assert_int_equal(lua_pcall(L, 1, 0, 0), LUA_OK);
    assert_int_equal(luaL_loadstring(L, script), LUA_OK);
    if (fail_core)
        memory_fail_at(n);
    else
        h->left = (long)n;
    int status = lua_pcall(L, 0, 1, 0);
    memory_fail_at(0);
    h->left = 0;
    text[0] = 0;
    if (status != LUA_OK) strncat(text, luaL_tolstring(L, -1, NULL), 199);
    lua_close(L);
    return status;
}

static void every_failure(bool fail_core) {
    Error e;
    Device *d;
    Heap h = {0};
    char text[200];
    assert_int_equal(cpu_device(1, &d, &e), 0);
    if (run(&h, d, fail_core, 0, text) != LUA_OK) fail_msg("the script failed: %s", text);
    size_t before = memory_count().in_use;
    uint64_t n = 1;
    while (run(&h, d, fail_core, n, text) != LUA_OK) {
        if (!strstr(text, "memory")) fail_msg("allocation %d: '%s'", (int)n, text);
        assert_int_equal(memory_count().in_use, before);
        n++;
    }
    assert_true(n > 20); /* it did fail, and often, before it ran through */
    assert_int_equal(memory_count().in_use, before);
}

static void test_core_runs_out(void **state) {
    (void)state;
    every_failure(true);
}

static void test_lua_runs_out(void **state) {
    (void)state;
    every_failure(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_core_runs_out),
        cmocka_unit_test(test_lua_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
