/* Records: made, kept in a part file through crashes, and read back (io/record.h). */
#include "scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "io/record.h"
#include "io/record_frame.h"

static Error e;

/* A record of every kind of field, told apart by a number. */
static void make(Buffer *b, int64_t number) {
    const float f32[] = {0.1f, -2.5f};
    const double f64[] = {1e-30, 2};
    const int64_t i64[] = {-1, 0, 300};
    const unsigned char u8[] = {1, 2, 255};
    assert_int_equal(record_begin(b, 9, &e), 0);
    assert_int_equal(record_text(b, "file", "a.png", 5, &e), 0);
    assert_int_equal(record_integer(b, "number", number, &e), 0);
    assert_int_equal(record_real(b, "l2", 0.1, &e), 0);
    assert_int_equal(record_boolean(b, "survives", true, &e), 0);
    assert_int_equal(record_series(b, "f32", DTYPE_F32, f32, 2, &e), 0);
    assert_int_equal(record_series(b, "f64", DTYPE_F64, f64, 2, &e), 0);
    assert_int_equal(record_series(b, "i64", DTYPE_I64, i64, 3, &e), 0);
    assert_int_equal(record_series(b, "u8", DTYPE_U8, u8, 3, &e), 0);
    assert_int_equal(record_series(b, "none", DTYPE_F64, f64, 0, &e), 0);
}

static void check(const RecordField *f, size_t count, int64_t number) {
    assert_int_equal(count, 9);
    assert_string_equal(f[0].key, "file");
    assert_int_equal(f[0].kind, RECORD_TEXT);
    assert_string_equal(f[0].text, "a.png");
    assert_string_equal(f[1].key, "number");
    assert_true(f[1].kind == RECORD_INTEGER && f[1].integer == number);
    assert_true(f[2].kind == RECORD_REAL && f[2].real == 0.1);
    assert_true(f[3].kind == RECORD_BOOLEAN && f[3].integer == 1);
    assert_true(f[4].kind == RECORD_REALS && f[4].count == 2);
    assert_true(f[4].reals[0] == (double)0.1f && f[4].reals[1] == -2.5);
    assert_true(f[5].kind == RECORD_REALS && f[5].reals[0] == 1e-30 && f[5].reals[1] == 2);
    assert_true(f[6].kind == RECORD_INTEGERS && f[6].count == 3);
    assert_true(f[6].integers[0] == -1 && f[6].integers[2] == 300);
    assert_true(f[7].kind == RECORD_INTEGERS && f[7].integers[2] == 255);
    assert_string_equal(f[8].key, "none");
    assert_int_equal(f[8].count, 0);
}

/* The file holds records first .. first+n-1 and no more. */
static void check_file(const char *path, int n) {
    RecordReader *r;
    const RecordField *fields;
    size_t count;
    if (record_open(&r, path, &e) != 0) fail_msg("%s", e.text);
    for (int i = 0; i < n; i++) {
        if (record_next(r, &fields, &count, &e) != 0) fail_msg("%s", e.text);
        assert_non_null(fields);
        check(fields, count, i);
    }
    assert_int_equal(record_next(r, &fields, &count, &e), 0);
    assert_null(fields);
    record_close(r);
}

/* A part file of n frames of one record each; the end of each frame in ends. */
static RecordPart *make_part(const char *path, int n, size_t *ends) {
    RecordPart *p;
    assert_int_equal(record_part_open(&p, path, false, &e), 0);
    for (int i = 0; i < n; i++) {
        Buffer b = {0};
        make(&b, i);
        assert_int_equal(record_part_append(p, b.bytes, b.size, &e), 0);
        if (ends) ends[i] = (i ? ends[i - 1] : 0) + FRAME_HEADER + b.size;
        buffer_free(&b);
    }
    return p;
}

static void test_bytes(void **state) {
    (void)state;
    Buffer b = {0};
    const float f32[] = {0.5f};
    const double f64[] = {0.5};
    const int64_t i64[] = {200};
    static const unsigned char wanted[] = "\x84\xa1"
                                          "a\xa2hi\xa1"
                                          "b\x91\xca\x3f\0\0\0\xa1"
                                          "c\x91\xcb\x3f\xe0\0\0\0\0\0\0\xa1"
                                          "d\x91\xcc\xc8";
    record_begin(&b, 4, &e);
    record_text(&b, "a", "hi", 2, &e);
    record_series(&b, "b", DTYPE_F32, f32, 1, &e);
    record_series(&b, "c", DTYPE_F64, f64, 1, &e);
    record_series(&b, "d", DTYPE_I64, i64, 1, &e);
    assert_int_equal(b.size, sizeof wanted - 1);
    assert_memory_equal(b.bytes, wanted, b.size);
    buffer_free(&b);
}

static void test_part(void **state) {
    (void)state;
    const char *path = scratch_path("records.part"), *final_path = scratch_path("records.msgpack");
    RecordPart *p = make_part(path, 3, NULL);
    check_file(path, 3);
    Buffer b = {0};
    make(&b, 3);
    make(&b, 4);
    record_part_close(p);
    assert_int_equal(record_part_open(&p, path, true, &e), 0);
    assert_int_equal(record_part_append(p, b.bytes, b.size, &e), 0);
    check_file(path, 5);
    assert_int_equal(record_part_finish(p, final_path, &e), 0);
    record_part_close(p);
    buffer_free(&b);
    check_file(final_path, 5);
    assert_int_equal(access(path, F_OK), -1);
    Buffer all = {0};
    for (int i = 0; i < 5; i++) make(&all, i);
    size_t n;
    unsigned char *bytes = scratch_read(final_path, &n);
    assert_int_equal(n, all.size);
    assert_memory_equal(bytes, all.bytes, n);
    free(bytes);
    buffer_free(&all);
}

static uint64_t file_size(const char *path) {
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    return (uint64_t)s.st_size;
}

/* Cut anywhere, or torn by zeros or by another byte, the file goes back to its whole frames, and
 * what is appended then is read behind them. */
static void test_recovery(void **state) {
    (void)state;
    enum { FRAMES = 3 };
    const char *path = scratch_path("torn.part");
    size_t ends[FRAMES], n;
    record_part_close(make_part(path, FRAMES, ends));
    unsigned char *bytes = scratch_read(path, &n);
    assert_int_equal(n, ends[FRAMES - 1]);
    for (size_t cut = 0; cut <= n; cut++)
        for (int torn = 0; torn < 3; torn++) {
            uint64_t frames, payload;
            size_t length = cut, whole = 0;
            unsigned char *copy = malloc(n);
            memcpy(copy, bytes, n);
            if (torn == 1) memset(copy + cut, 0, n - cut), length = n;
            if (torn == 2 && cut >= FRAME_MAGIC && cut < n) copy[cut] ^= 0x10, length = n;
            while (whole < FRAMES && ends[whole] <= cut) whole++;
            scratch_write(path, copy, length);
            free(copy);
            if (cut >= FRAME_MAGIC) check_file(path, (int)whole);
            if (record_recover(path, &frames, &payload, &e) != 0) fail_msg("%s", e.text);
            assert_int_equal(frames, whole);
            assert_int_equal(file_size(path), whole ? ends[whole - 1] : 0);
            assert_int_equal(payload, file_size(path) - whole * FRAME_HEADER);
        }
    free(bytes);
    RecordPart *p;
    Buffer b = {0};
    uint64_t frames;
    assert_int_equal(truncate(path, (off_t)ends[1] + 5), 0);
    assert_int_equal(record_part_open(&p, path, true, &e), 0);
    make(&b, 2);
    assert_int_equal(record_part_append(p, b.bytes, b.size, &e), 0);
    record_part_close(p);
    buffer_free(&b);
    check_file(path, FRAMES);
    assert_int_equal(record_recover(path, &frames, NULL, &e), 0);
    assert_int_equal(frames, FRAMES);
}

/* Frames of each kind, read alone, cut, and written in an order. */
static void test_frames(void **state) {
    (void)state;
    const char *path = scratch_path("frames.part"), *final_path = scratch_path("frames.msgpack");
    size_t ends[2], n;
    RecordPart *p = make_part(path, 2, ends);
    Buffer note = {0}, got = {0};
    RecordReader *r;
    const RecordField *f;
    size_t count;
    record_begin(&note, 1, &e);
    record_integer(&note, "next", 7, &e);
    assert_int_equal(record_part_add(p, FRAME_BYTES, "pixels", 6, &e), 0);
    assert_int_equal(record_part_add(p, FRAME_BYTES, "", 0, &e), 0);
    assert_int_equal(record_part_add(p, FRAME_NOTE, note.bytes, note.size, &e), 0);
    assert_int_equal(record_part_sync(p, &e), 0);
    check_file(path, 2);
    record_part_close(p);
    assert_int_equal(record_part_open(&p, path, true, &e), 0);
    assert_int_equal(record_part_frames(p), 5);
    assert_int_equal(record_part_kind(p, 0), FRAME_RECORDS);
    assert_int_equal(record_part_kind(p, 3), FRAME_BYTES);
    assert_int_equal(record_part_kind(p, 4), FRAME_NOTE);
    assert_int_equal(record_part_read(p, 2, &got, &e), 0);
    assert_int_equal(record_part_read(p, 3, &got, &e), 0);
    assert_int_equal(got.size, 6);
    assert_memory_equal(got.bytes, "pixels", 6);
    assert_int_equal(record_part_reader(p, 4, &r, &e), 0);
    assert_int_equal(record_next(r, &f, &count, &e), 0);
    assert_int_equal(count, 1);
    assert_int_equal(f->integer, 7);
    record_close(r);
    assert_int_equal(record_part_reader(p, 1, &r, &e), 0);
    assert_int_equal(record_next(r, &f, &count, &e), 0);
    check(f, count, 1);
    assert_int_equal(record_next(r, &f, &count, &e), 0);
    assert_null(f);
    record_close(r);
    const size_t order[] = {1, 0};
    Buffer wanted = {0};
    make(&wanted, 1);
    make(&wanted, 0);
    assert_int_equal(record_part_write(p, order, 2, final_path, &e), 0);
    unsigned char *bytes = scratch_read(final_path, &n);
    assert_int_equal(n, wanted.size);
    assert_memory_equal(bytes, wanted.bytes, n);
    free(bytes);
    assert_int_equal(record_part_write(p, order, 0, final_path, &e), 0);
    assert_int_equal(file_size(final_path), 0);
    /* The kind is under the checksum, too. */
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "p", 1, (off_t)ends[1] + FRAME_MAGIC), 1);
    close(fd);
    assert_int_equal(record_part_read(p, 2, &got, &e), -1);
    assert_non_null(strstr(e.text, "is damaged"));
    assert_int_equal(record_part_cut(p, 9, &e), 0);
    assert_int_equal(record_part_frames(p), 5);
    assert_int_equal(record_part_cut(p, 1, &e), 0);
    assert_int_equal(file_size(path), ends[0]);
    record_part_close(p);
    check_file(path, 1);
    buffer_free(&note);
    buffer_free(&got);
    buffer_free(&wanted);
}

/* A second writer of the same file is refused while the first is there, whatever it wants. */
static void test_one_writer(void **state) {
    (void)state;
    const char *path = scratch_path("locked.part");
    RecordPart *p = make_part(path, 1, NULL), *other;
    for (int append = 0; append < 2; append++) {
        assert_int_equal(record_part_open(&other, path, append, &e), -1);
        assert_null(other);
        assert_non_null(strstr(e.text, "locked.part: another process is using it"));
    }
    check_file(path, 1);
    record_part_close(p);
    assert_int_equal(record_part_open(&other, path, true, &e), 0);
    record_part_close(other);
}

static void test_not_a_part(void **state) {
    (void)state;
    const char *path = scratch_path("letter.txt");
    char message[256];
    RecordPart *p;
    scratch_write(path, "Dear reader", 11);
    snprintf(message, sizeof message, "%s: is not a file of unfinished records", path);
    assert_int_equal(record_recover(path, NULL, NULL, &e), -1);
    assert_string_equal(e.text, message);
    assert_int_equal(record_part_open(&p, path, true, &e), -1);
    assert_string_equal(e.text, message);
    assert_int_equal(file_size(path), 11);
    snprintf(message, sizeof message, "%s: No such file or directory", scratch_path("absent"));
    assert_int_equal(record_recover(scratch_path("absent"), NULL, NULL, &e), -1);
    assert_string_equal(e.text, message);
}

/* Where the finished file cannot be written, or a frame went bad, nothing is lost or half there. */
static void test_finish_fails(void **state) {
    (void)state;
    const char *path = scratch_path("kept.part"), *final_path = scratch_path("kept.msgpack");
    size_t ends[2];
    RecordPart *p = make_part(path, 2, ends);
    assert_int_equal(symlink("/dev/full", scratch_path("full")), 0);
    assert_int_equal(record_part_finish(p, scratch_path("full"), &e), -1);
    assert_non_null(strstr(e.text, "No space left on device"));
    check_file(path, 2);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "!", 1, (off_t)ends[0] + 20), 1);
    close(fd);
    assert_int_equal(record_part_finish(p, final_path, &e), -1);
    assert_non_null(strstr(e.text, "is damaged"));
    assert_int_equal(access(final_path, F_OK), -1);
    assert_int_equal(access(path, F_OK), 0);
    record_part_close(p);
}

/* A frame in whose place another one lies meanwhile, whole as well, is not taken for it. */
static void test_exchanged(void **state) {
    (void)state;
    const char *path = scratch_path("mine.part"), *other_path = scratch_path("other.part");
    Buffer payload = {0}, again = {0};
    RecordPart *p = make_part(path, 1, NULL), *other;
    memory_fail_at(1);
    assert_int_equal(record_part_read(p, 0, &payload, &e), -1);
    memory_fail_at(0);
    assert_non_null(strstr(e.text, "out of memory"));
    assert_int_equal(record_part_read(p, 0, &payload, &e), 0);
    for (int shorter = 0; shorter < 2; shorter++) {
        size_t n;
        assert_int_equal(record_part_open(&other, other_path, false, &e), 0);
        assert_int_equal(record_part_add(other, shorter ? FRAME_RECORDS : FRAME_NOTE, payload.bytes,
                                         payload.size - (size_t)shorter, &e),
                         0);
        record_part_close(other);
        unsigned char *bytes = scratch_read(other_path, &n);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, bytes, n, 0), n);
        close(fd);
        free(bytes);
        assert_int_equal(record_part_read(p, 0, &again, &e), -1);
        assert_non_null(strstr(e.text, "the frame at byte 0 is damaged"));
        assert_null(again.bytes);
    }
    buffer_free(&payload);
    record_part_close(p);
    assert_int_equal(record_recover(other_path, NULL, NULL, &e), 0);
}

/* A frame for which there is no room leaves no trace, and the next one that fits is whole. */
static void test_full_disk(void **state) {
    (void)state;
    const char *path = scratch_path("tight.part");
    size_t end;
    RecordPart *p = make_part(path, 1, &end);
    Buffer b = {0};
    make(&b, 1);
    struct rlimit whole, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &whole), 0);
    tight = whole;
    tight.rlim_cur = end + FRAME_HEADER + 20;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    int failed = record_part_append(p, b.bytes, b.size, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &whole), 0);
    assert_int_equal(failed, -1);
    assert_non_null(strstr(e.text, "tight.part: File too large"));
    assert_int_equal(file_size(path), end);
    assert_int_equal(record_part_append(p, b.bytes, b.size, &e), 0);
    record_part_close(p);
    buffer_free(&b);
    check_file(path, 2);
}

static void refuse(const void *bytes, size_t n, const char *message) {
    const char *path = scratch_path("bad.msgpack");
    char wanted[256];
    RecordReader *r;
    const RecordField *fields;
    size_t count, before = memory_count().in_use;
    scratch_write(path, bytes, n);
    snprintf(wanted, sizeof wanted, "%s: %s", path, message);
    assert_int_equal(record_open(&r, path, &e), 0);
    assert_int_equal(record_next(r, &fields, &count, &e), -1);
    assert_null(fields);
    assert_string_equal(e.text, wanted);
    assert_true(memory_count().in_use - before < 1 << 20);
    record_close(r);
    assert_int_equal(memory_count().in_use, before);
}

#define REFUSE(bytes, message) refuse(bytes, sizeof(bytes) - 1, message)

static void test_refusals(void **state) {
    (void)state;
    REFUSE("\x01", "a record is an integer, wants a map");
    REFUSE("\xdf\xff\xff\xff\xff", "is cut off or damaged: a value claims 4294967295 elements, 0 "
                                   "bytes are left");
    REFUSE("\x81\xa1"
           "a\xdd\xff\xff\xff\xff",
           "is cut off or damaged: a value claims 4294967295 "
           "elements, 0 bytes are left");
    REFUSE("\x81\xa1"
           "a\xdb\xff\xff\xff\xff",
           "is cut off or damaged: a value claims 4294967295 "
           "bytes, 0 bytes are left");
    REFUSE("\x81\xa1"
           "a\x91\x91\x01",
           "has a series of something other than numbers");
    REFUSE("\x81\xa1"
           "a\x81\xa1"
           "b\x01",
           "has a value that is not a text, number, boolean or series");
    REFUSE("\x81\x01\x01", "a record's key is an integer, wants a text");
    REFUSE("\x81\xa1"
           "a",
           "is cut off inside a value");
    REFUSE("\x81\xa1"
           "a\xc1",
           "holds the byte 0xc1, which is not msgpack");
    REFUSE("\x81\xa1"
           "a\xcf\x80\0\0\0\0\0\0\0",
           "holds the integer 9223372036854775808, beyond 63 "
           "bits");
    char many[3 + 8192] = "\xde\x10\x01";
    refuse(many, sizeof many,
           "is cut off or damaged: a value claims 4097 elements, 8192 bytes are "
           "left");
    char more[3 + 9000] = "\xde\x10\x01";
    refuse(more, sizeof more, "has a record of 4097 fields, at most 4096 are allowed");
}

/* Numbers in every width msgpack has. */
static void test_numbers(void **state) {
    (void)state;
    static const char bytes[] =
        "\x81\xa1"
        "a\x9c\x7f\xe0\xcc\xff\xcd\xff\xff\xce\xff\xff\xff\xff\xcf\x7f\xff\xff\xff\xff"
        "\xff\xff\xff\xd0\x80\xd1\x80\0\xd2\x80\0\0\0\xd3\x80\0\0\0\0\0\0\0\x00\xff";
    static const int64_t wanted[] = {127,  -32,    255,           65535,     4294967295, INT64_MAX,
                                     -128, -32768, -2147483648LL, INT64_MIN, 0,          -1};
    const char *path = scratch_path("numbers.msgpack");
    RecordReader *r;
    const RecordField *f;
    size_t count;
    scratch_write(path, bytes, sizeof bytes - 1);
    assert_int_equal(record_open(&r, path, &e), 0);
    if (record_next(r, &f, &count, &e) != 0) fail_msg("%s", e.text);
    assert_int_equal(f[0].kind, RECORD_INTEGERS);
    assert_int_equal(f[0].count, 12);
    assert_memory_equal(f[0].integers, wanted, sizeof wanted);
    record_close(r);
}

/* Records without a field, and with more than there was room for, one behind the other. */
static void test_widths(void **state) {
    (void)state;
    static const size_t widths[] = {0, 1, RECORD_FIELDS, 0, 200};
    enum { WIDTHS = sizeof widths / sizeof *widths };
    const char *path = scratch_path("widths.msgpack");
    Buffer b = {0};
    RecordReader *r;
    const RecordField *f;
    size_t count;
    char key[24];
    for (size_t i = 0; i < WIDTHS; i++) {
        assert_int_equal(record_begin(&b, widths[i], &e), 0);
        for (size_t k = 0; k < widths[i]; k++) {
            snprintf(key, sizeof key, "%zu", k);
            assert_int_equal(record_integer(&b, key, (int64_t)(i + k), &e), 0);
        }
    }
    scratch_write(path, b.bytes, b.size);
    buffer_free(&b);
    assert_int_equal(record_open(&r, path, &e), 0);
    for (size_t i = 0; i < WIDTHS; i++) {
        assert_int_equal(record_next(r, &f, &count, &e), 0);
        assert_non_null(f);
        assert_int_equal(count, widths[i]);
        for (size_t k = 0; k < count; k++) {
            snprintf(key, sizeof key, "%zu", k);
            assert_string_equal(f[k].key, key);
            assert_int_equal(f[k].integer, i + k);
        }
    }
    assert_int_equal(record_next(r, &f, &count, &e), 0);
    assert_null(f);
    record_close(r);
}

static void test_starved(void **state) {
    (void)state;
    const char *path = scratch_path("starved.part"), *final_path = scratch_path("starved.msgpack");
    size_t before = memory_count().in_use;
    for (int n = 1, failed = 1; failed; n++) {
        RecordPart *p = NULL;
        Buffer b = {0};
        e.text[0] = 0;
        memory_fail_at((uint64_t)n);
        failed = record_begin(&b, 1, &e) || record_integer(&b, "a", 1, &e) ||
                 record_part_open(&p, path, false, &e) ||
                 record_part_append(p, b.bytes, b.size, &e) ||
                 record_part_finish(p, final_path, &e);
        memory_fail_at(0);
        assert_true(!failed || strstr(e.text, "out of memory"));
        assert_int_equal(access(final_path, F_OK), failed ? -1 : 0);
        record_part_close(p);
        buffer_free(&b);
        assert_int_equal(memory_count().in_use, before);
    }
    for (int n = 1, failed = 1; failed; n++) {
        RecordReader *r = NULL;
        const RecordField *fields;
        size_t count;
        memory_fail_at((uint64_t)n);
        failed = record_open(&r, final_path, &e) || record_next(r, &fields, &count, &e);
        memory_fail_at(0);
        record_close(r);
        assert_int_equal(memory_count().in_use, before);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),      cmocka_unit_test(test_part),
        cmocka_unit_test(test_recovery),   cmocka_unit_test(test_not_a_part),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_finish_fails),
        cmocka_unit_test(test_numbers),    cmocka_unit_test(test_starved),
        cmocka_unit_test(test_full_disk),  cmocka_unit_test(test_frames),
        cmocka_unit_test(test_one_writer), cmocka_unit_test(test_widths),
        cmocka_unit_test(test_exchanged),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
