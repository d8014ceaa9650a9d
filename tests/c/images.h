/* For tests that read images: golden files, and what must be read or refused. */
#ifndef ADVRT_TESTS_IMAGES_H
#define ADVRT_TESTS_IMAGES_H

#include "scratch.h"

#include "io/image.h"

#define GOLDEN "tests/golden/images/"

static const ImageWish as_is;

static void load(const char *path, const ImageWish *wish, Image *out) {
    Error e = {0};
    if (image_load(path, wish, out, &e) != 0) fail_msg("%s", e.text);
    assert_string_equal(e.text, "");
}

/* Refused with "path: message", nothing kept, next to no memory taken. */
static void refused(const char *path, const char *message) {
    enum { SMALL = 1 << 20 };
    Error e = {0};
    Image out;
    char wanted[ERROR_TEXT];
    snprintf(wanted, sizeof wanted, "%s: %s", path, message);
    MemoryCount before = memory_count();
    assert_int_equal(image_load(path, &as_is, &out, &e), -1);
    MemoryCount after = memory_count();
    assert_string_equal(e.text, wanted);
    assert_null(out.pixels);
    assert_int_equal(after.in_use, before.in_use);
    if (after.peak > before.peak) assert_true(after.peak - before.in_use < SMALL);
}

#endif
