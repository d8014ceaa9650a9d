/* Making every allocation of a piece of work fail in turn. */
#ifndef ADVRT_TESTS_STARVE_H
#define ADVRT_TESTS_STARVE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/memory.h"

/* Runs the work, which takes memory at least `least` times and keeps none, until nothing failed:
 * before that it must say that memory ran out, and keep none either. */
static void starve(int (*work)(Error *e), uint64_t least) {
    size_t before = memory_count().in_use;
    for (uint64_t n = 1;; n++) {
        Error e = {0};
        memory_fail_at(n);
        int failed = work(&e);
        memory_fail_at(0);
        assert_int_equal(memory_count().in_use, before);
        if (!failed) {
            assert_true(n > least);
            return;
        }
        if (!strstr(e.text, "out of memory")) fail_msg("allocation %d: '%s'", (int)n, e.text);
    }
}

#endif
