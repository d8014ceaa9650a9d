/* IDX files, plain and compressed: what is read, what is refused, and damage. */
#include "scratch.h"
#include "starve.h"

#include <zlib.h>

#include "io/idx.h"

/* An IDX file of n bytes: a header of this type and these sizes, then elements i * 31. */
static unsigned char *make(int type, int ndim, const uint32_t *sizes, size_t count, size_t *n) {
    *n = 4 + 4 * (size_t)ndim + count;
    unsigned char *bytes = calloc(1, *n), *p = bytes + 4;
    bytes[2] = (unsigned char)type;
    bytes[3] = (unsigned char)ndim;
    for (int i = 0; i < ndim; i++)
        for (int shift = 24; shift >= 0; shift -= 8) *p++ = (unsigned char)(sizes[i] >> shift);
    for (size_t i = 0; i < count; i++) *p++ = (unsigned char)(i * 31);
    return bytes;
}

static size_t pack(const unsigned char *bytes, size_t n, unsigned char *out, size_t room) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)bytes;
    z.avail_in = (unsigned)n;
    z.next_out = out;
    z.avail_out = (unsigned)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

/* Writes the bytes as they are, or compressed; returns the path. */
static const char *put(const unsigned char *bytes, size_t n, bool packed) {
    static unsigned char room[1 << 20];
    const char *path = scratch_path(packed ? "a.gz" : "a.idx");
    if (packed)
        scratch_write(path, room, pack(bytes, n, room, sizeof room));
    else
        scratch_write(path, bytes, n);
    return path;
}

static void check_reads(int ndim, const uint32_t *sizes, size_t count) {
    size_t n, before = memory_count().in_use;
    unsigned char *bytes = make(8, ndim, sizes, count, &n);
    for (int packed = 0; packed < 2; packed++) {
        Error e = {0};
        IdxArray a;
        if (idx_load(put(bytes, n, packed), &a, &e) != 0) fail_msg("%s", e.text);
        assert_int_equal(a.ndim, ndim);
        for (int i = 0; i < ndim; i++) assert_int_equal(a.shape[i], sizes[i]);
        assert_int_equal(a.count, count);
        for (size_t i = 0; i < count; i++) assert_int_equal(a.data[i], (unsigned char)(i * 31));
        idx_free(&a);
        assert_null(a.data);
    }
    free(bytes);
    assert_int_equal(memory_count().in_use, before);
}

static void test_reads(void **state) {
    (void)state;
    check_reads(1, (const uint32_t[]){7}, 7);
    check_reads(3, (const uint32_t[]){2, 3, 5}, 30);
    check_reads(8, (const uint32_t[]){2, 1, 2, 1, 2, 1, 2, 1}, 16);
    check_reads(2, (const uint32_t[]){0, 9}, 0);
    check_reads(3, (const uint32_t[]){300, 28, 28}, 300 * 28 * 28); /* several pieces */
}

/* Refused with "path: message", nothing kept, next to no memory taken. */
static void refused(const char *path, const char *message) {
    enum { SMALL = 1 << 20 };
    Error e = {0};
    IdxArray a;
    char wanted[ERROR_TEXT];
    snprintf(wanted, sizeof wanted, "%s: %s", path, message);
    MemoryCount before = memory_count();
    assert_int_equal(idx_load(path, &a, &e), -1);
    MemoryCount after = memory_count();
    assert_string_equal(e.text, wanted);
    assert_null(a.data);
    assert_int_equal(after.in_use, before.in_use);
    if (after.peak > before.peak) assert_true(after.peak - before.in_use < SMALL);
}

static void refuse_header(int type, int ndim, const uint32_t *sizes, size_t count,
                          const char *message) {
    size_t n;
    unsigned char *bytes = make(type, ndim, sizes, count, &n);
    for (int packed = 0; packed < 2; packed++) refused(put(bytes, n, packed), message);
    free(bytes);
}

static void test_types(void **state) {
    (void)state;
    const uint32_t four[] = {4};
    refuse_header(0x09, 1, four, 4, "holds elements of type i8 (0x09); u8 (0x08) is read");
    refuse_header(0x0b, 1, four, 8, "holds elements of type i16 (0x0b); u8 (0x08) is read");
    refuse_header(0x0c, 1, four, 16, "holds elements of type i32 (0x0c); u8 (0x08) is read");
    refuse_header(0x0d, 1, four, 16, "holds elements of type f32 (0x0d); u8 (0x08) is read");
    refuse_header(0x0e, 1, four, 32, "holds elements of type f64 (0x0e); u8 (0x08) is read");
    refuse_header(0x0a, 1, four, 4, "not an IDX file");
    refuse_header(0xff, 1, four, 4, "not an IDX file");
}

static void test_claims(void **state) {
    (void)state;
    const uint32_t most[] = {~0u, ~0u, ~0u, ~0u, 0, 1, 1, 1, 1};
    refuse_header(8, 0, most, 1, "has 0 dimensions, 1 .. 8 are read");
    refuse_header(8, 9, most, 1, "has 9 dimensions, 1 .. 8 are read");
    refuse_header(8, 1, most, 1, "promises more than the 1073741824 bytes that are read");
    refuse_header(8, 4, most, 1, "promises more than the 1073741824 bytes that are read");
    /* A product that overflows, though the last factor makes it 0. */
    refuse_header(8, 5, most, 1, "promises more than the 1073741824 bytes that are read");
    refuse_header(8, 2, (const uint32_t[]){32768, 32768}, 9,
                  "is truncated: its header promises 1073741824 elements");
}

static void test_ends(void **state) {
    (void)state;
    size_t n;
    const uint32_t sizes[] = {3, 4};
    unsigned char *bytes = make(8, 2, sizes, 13, &n);
    const char *more = "has more bytes than the 12 elements of its header";
    refused(put(bytes, n, false), more);
    refused(put(bytes, n, true), more);
    refused(put(bytes, n - 2, false), "is truncated: its header promises 12 elements");
    refused(put(bytes, n - 2, true), "is truncated: wanted 12 elements, found 11");
    refused(put(bytes, 11, false), "is truncated in its header");
    refused(put(bytes, 11, true), "is truncated in its header");
    refused(put(bytes, 3, false), "not an IDX file");
    refused(put(bytes, 0, false), "is empty");
    refused(put(bytes, 0, true), "not an IDX file");
    free(bytes);
    refused(folder, "is a directory");
    refused(scratch_path("absent"), "No such file or directory");
}

static void test_after_gzip(void **state) {
    (void)state;
    size_t n, m;
    unsigned char *bytes = make(8, 1, (const uint32_t[]){5}, 5, &n);
    const char *path = put(bytes, n, true);
    unsigned char *packed = scratch_read(path, &m);
    packed[m] = 0; /* scratch_read leaves room for one byte more */
    scratch_write(path, packed, m + 1);
    refused(path, "has more bytes than the 5 elements of its header");
    packed[m - 8] ^= 1; /* of the checksum */
    scratch_write(path, packed, m);
    refused(path, "damaged compressed data (incorrect data check)");
    free(packed);
    free(bytes);
}

static const char *starved;

static int load_starved(Error *e) {
    IdxArray a;
    if (idx_load(starved, &a, e) != 0) {
        assert_null(a.data);
        return -1;
    }
    idx_free(&a);
    return 0;
}

static void test_starved(void **state) {
    (void)state;
    size_t n;
    unsigned char *bytes = make(8, 2, (const uint32_t[]){30, 40}, 1200, &n);
    starved = put(bytes, n, false);
    starve(load_starved, 2);
    starved = put(bytes, n, true);
    starve(load_starved, 3);
    free(bytes);
}

static int survives(const unsigned char *bytes, size_t n) {
    const char *path = scratch_path("survives");
    Error e = {0};
    IdxArray a;
    size_t before = memory_count().in_use;
    scratch_write(path, bytes, n);
    int failed = idx_load(path, &a, &e);
    if (failed) assert_int_equal(strncmp(e.text, path, strlen(path)), 0);
    idx_free(&a);
    assert_int_equal(memory_count().in_use, before);
    return failed;
}

/* A file cut anywhere is refused; one changed anywhere is read or refused. */
static void test_damage(void **state) {
    (void)state;
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    size_t n, m;
    unsigned char *made = make(8, 2, (const uint32_t[]){5, 20}, 100, &n);
    for (int packed = 0; packed < 2; packed++) {
        unsigned char *bytes = scratch_read(put(made, n, packed), &m);
        for (size_t cut = 0; cut < m; cut++)
            if (survives(bytes, cut) == 0) fail_msg("read though cut at %zu", cut);
        for (size_t i = 0; i < m; i++)
            for (size_t k = 0; k < sizeof flips; k++) {
                bytes[i] ^= flips[k];
                survives(bytes, m);
                bytes[i] ^= flips[k];
            }
        free(bytes);
    }
    free(made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),      cmocka_unit_test(test_types),
        cmocka_unit_test(test_claims),     cmocka_unit_test(test_ends),
        cmocka_unit_test(test_after_gzip), cmocka_unit_test(test_starved),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
