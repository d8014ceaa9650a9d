/* Messages and names made fit for a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

/* What is replaced, and what stays. */
static const struct {
    const char *text, *shown;
} texts[] = {
    {"plain, \xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80",
     "plain, \xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80"},
    {"a\x1b[31m\x07\x7f", "a?[31m??"},
    {"\xc2\x80\xc2\x9b"
     "31m\xc2\x9f\xc2\xa0",
     "??31m?\xc2\xa0"},                               /* C1 ends before U+00A0 */
    {"\xe2\x80\xaagpj.exe\xe2\x80\xae", "?gpj.exe?"}, /* U+202A, U+202E */
    {"\xe2\x80\xa9\xe2\x80\xa7\xe2\x80\xaf", "?\xe2\x80\xa7\xe2\x80\xaf"}, /* U+2029, 2027, 202F */
    {"\xe2\x81\xa6\xe2\x81\xa9\xe2\x81\xa5\xe2\x81\xaa", "??\xe2\x81\xa5\xe2\x81\xaa"},
    {"\xe2\x80\x8e\xe2\x80\x8f\xd8\x9c\xe2\x80\x8d", "???\xe2\x80\x8d"}, /* U+200E, F, 061C, 200D */
    {"\x9b"
     "31m \xff \xc3",
     "?31m ? ?"},                                              /* no UTF-8 */
    {"\xc0\x9b \xed\xa0\x80 \xf4\x90\x80\x80", "?? ??? ????"}, /* overlong, surrogate, too large */
    {"a\tb\nc", "a?b?c"},
};

static void test_clean(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", texts[i].text);
        text[text_clean(text, strlen(text), "")] = 0;
        assert_string_equal(text, texts[i].shown);
        Error e;
        assert_int_equal(error_set(&e, "%s", texts[i].text), -1);
        assert_string_equal(e.text, texts[i].shown);
        error_prefix(&e, "%s", texts[i].text);
        char both[160];
        snprintf(both, sizeof both, "%s: %s", texts[i].shown, texts[i].shown);
        assert_string_equal(e.text, both);
    }
    char text[] = "a\tb\nc\r\0d";
    assert_int_equal(text_clean(text, sizeof text - 1, "\n\t"), sizeof text - 1);
    assert_memory_equal(text, "a\tb\nc??d", 8);
}

/* A message that is too long ends where a character does. */
static void test_cut(void **state) {
    (void)state;
    for (size_t shift = 0; shift < 3; shift++) {
        char long_text[ERROR_TEXT + 64] = "xx";
        Error e;
        while (strlen(long_text) < ERROR_TEXT + 32) strcat(long_text, "\xe6\xbc\xa2");
        error_set(&e, "%s", long_text + shift);
        size_t n = strlen(e.text);
        assert_true(n > ERROR_TEXT - 8 && n < ERROR_TEXT);
        assert_string_equal(e.text + n - 3, "...");
        assert_memory_equal(e.text, long_text + shift, n - 3);
        assert_null(strchr(e.text, '?'));
    }
}

static void test_put(void **state) {
    (void)state;
    char read[64] = "";
    FILE *f = tmpfile();
    assert_non_null(f);
    text_put(f, "x:1: \xc2\x9b"
                "31m\n\tin \x1b\xff\r");
    rewind(f);
    assert_true(fread(read, 1, sizeof read - 1, f) > 0);
    fclose(f);
    assert_string_equal(read, "x:1: ?31m\n\tin ???");
}

/* A code outlives what is put before the message, and no other message. */
static void test_codes(void **state) {
    (void)state;
    Error e = {0};
    assert_int_equal(e.code, ERROR_NONE);
    error_set(&e, "a.png: no room");
    assert_int_equal(e.code, ERROR_OTHER);
    assert_int_equal(error_no_memory(&e), -1);
    error_prefix(&e, "set %d", 3);
    assert_string_equal(e.text, "set 3: a.png: no room");
    assert_int_equal(e.code, ERROR_NO_MEMORY);
    error_set(&e, "another");
    assert_int_equal(e.code, ERROR_OTHER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
