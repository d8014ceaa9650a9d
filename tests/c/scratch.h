/* For tests that write files: the device, a folder of their own, and files in it. */
#ifndef ADVRT_TESTS_SCRATCH_H
#define ADVRT_TESTS_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tensor/tensor.h"

static Device *device;
static char folder[] = "/tmp/advrt-test-XXXXXX";

static int scratch_setup(void **state) {
    (void)state;
    Error e = {0};
    return cpu_device(1, &device, &e) != 0 || !mkdtemp(folder);
}

static int scratch_teardown(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* FOLDER/name, in one of a few buffers. */
static const char *scratch_path(const char *name) {
    static char paths[4][128];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void scratch_write(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (n) assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* The bytes of a file, to be freed by free(). */
static inline unsigned char *scratch_read(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*n + 1);
    assert_non_null(bytes);
    if (*n) assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

#endif
