/* Where the readers and writers of runtime/io meet what is not in a file's bytes: files that end
 * under them, full disks, limits on sizes, and no memory at any place of a row. */
#define _GNU_SOURCE /* memfd_create, file seals */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <jpeglib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "io/feed.h"
#include "io/jpeg.h"
#include "io/msgpack_tensors.h"
#include "io/pickle.h"
#include "io/pth.h"
#include "io/record_frame.h"
#include "image/transform.h"
#include "io/webp.h"
#include "starve.h"

static Error e;

#define REFUSED(call, message)                                                                     \
    do {                                                                                           \
        assert_int_equal(call, -1);                                                                \
        assert_string_equal(e.text, message);                                                      \
    } while (0)

/* The disk that does not keep what it was given, where a test says so. */
static bool no_sync, interrupts;

/* Where a test says so, every second call is interrupted by a signal. */
static bool interrupted(void) {
    static bool now;
    now = interrupts && !now;
    if (now) errno = EINTR;
    return now;
}

int ftruncate(int fd, off_t size) {
    return interrupted() ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int fsync(int fd) {
    if (interrupted()) return -1;
    if (no_sync) return errno = EIO, -1;
    return (int)syscall(SYS_fsync, fd);
}

static bool no_locks;
int flock(int fd, int operation) {
    if (no_locks) return errno = ENOLCK, -1;
    return (int)syscall(SYS_flock, fd, operation);
}

/* Leaves the process `room` bytes of addresses more than it has; back to before where it is 0. */
static inline void tighten(rlim_t room) {
    static struct rlimit whole;
    struct rlimit tight;
    unsigned long pages;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    if (room) assert_int_equal(getrlimit(RLIMIT_AS, &whole), 0);
    tight = whole;
    if (room) tight.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + room;
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
}

/* --- weights --- */

typedef int Reader(int fd, uint64_t size, Device *d, TensorList *list, Error *e);

static int legacy_reader(int fd, uint64_t size, Device *d, TensorList *list, Error *error) {
    return pth_read_legacy(fd, size, NULL, d, list, error);
}

/* A sparse file of `size` bytes that starts with these; open. */
static int sparse(const void *bytes, size_t n, uint64_t size) {
    const char *path = scratch_path("sparse");
    scratch_write(path, bytes, n);
    assert_int_equal(truncate(path, (off_t)size), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

static void refuse_open(Reader *read, int fd, uint64_t size, const char *message) {
    TensorList list = {0};
    assert_int_equal(read(fd, size, device, &list, &e), -1);
    if (message) assert_string_equal(e.text, message);
    if (!message) assert_non_null(strstr(e.text, "is truncated"));
    tensors_free(&list);
    close(fd);
}

/* The file's end comes before its size says so, wherever the reader is. */
static void shrink(Reader *read, const char *path, size_t from) {
    size_t n;
    unsigned char *bytes = scratch_read(path, &n);
    for (size_t cut = from; cut < n; cut++) refuse_open(read, sparse(bytes, cut, cut), n, NULL);
    free(bytes);
}

static void test_shrinking_weights(void **state) {
    (void)state;
    TensorList list;
    state_load(GOLDEN "state.safetensors", &list);
    assert_int_equal(weights_save(scratch_path("s.msgpack"), &list, NULL, 0, &e), 0);
    tensors_free(&list);
    shrink(safetensors_read, GOLDEN "state.safetensors", 0);
    shrink(msgpack_tensors_read, scratch_path("s.msgpack"), 0);
    shrink(legacy_reader, GOLDEN "state_legacy.pth", 0);
    /* Of what is larger than the reader's buffer it has some. */
    const int64_t shape[] = {100000};
    Tensor t;
    list = (TensorList){0};
    assert_int_equal(tensor_new(&t, device, DTYPE_U8, 1, shape, &e), 0);
    memset(t.data, 0, tensor_bytes(&t));
    assert_int_equal(tensors_add(&list, "a", 1, &t, &e), 0);
    assert_int_equal(weights_save(scratch_path("l.msgpack"), &list, NULL, 0, &e), 0);
    tensors_free(&list);
    size_t n;
    unsigned char *bytes = scratch_read(scratch_path("l.msgpack"), &n);
    refuse_open(msgpack_tensors_read, sparse(bytes, 60000, 60000), n, NULL);
    free(bytes);
}

static void test_safetensors_limits(void **state) {
    (void)state;
    refuse_open(safetensors_read, sparse("1234567", 7, 7), 7, "too short for a safetensors file");
    refuse_open(safetensors_read, sparse("\2\0\0\0\0\0\0\0[]", 10, 10), 10,
                "its header is not a JSON object");
    refuse_open(
        safetensors_read, sparse("\1\xe1\xf5\5\0\0\0\0{", 9, 100000009), 100000009,
        "its header of 100000001 bytes is longer than the 100000000 that the format allows");
}

static void test_no_descriptor(void **state) {
    (void)state;
    TensorList list;
    struct rlimit all, few;
    int next = open("/dev/null", O_RDONLY);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    few = all;
    few.rlim_cur = (rlim_t)next + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int failed = weights_load(GOLDEN "state.pth", NULL, device, &list, &e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    REFUSED(failed, GOLDEN "state.pth: Too many open files");
}

/* Every place of a file at which the writer's buffer can be full when the disk is. */
static void test_full_disk_everywhere(void **state) {
    (void)state;
    enum { BUFFER = 1 << 16, ROOM = 700 };
    static char text[BUFFER + 1];
    static const char *const names[] = {"f.safetensors", "f.msgpack"};
    const TextPair pairs[] = {{"about", text}, {"more", "text"}};
    TensorList list = {0};
    const int64_t shape[] = {2, 1, 3};
    for (int i = 0; i < 3; i++) {
        Tensor t;
        char name[2] = {(char)('a' + i), 0};
        assert_int_equal(tensor_new(&t, device, DTYPE_F32, 3, shape, &e), 0);
        memset(t.data, 0, tensor_bytes(&t));
        assert_int_equal(tensors_add(&list, name, 1, &t, &e), 0);
    }
    memset(text, 'x', BUFFER);
    for (int f = 0; f < 2; f++) {
        const char *path = scratch_path(names[f]);
        assert_int_equal(symlink("/dev/full", path), 0);
        for (size_t n = BUFFER - ROOM; n <= BUFFER; n++) {
            text[n] = 0;
            assert_int_equal(weights_save(path, &list, pairs, 2, &e), -1);
            assert_non_null(strstr(e.text, "No space left on device"));
            text[n] = 'x';
        }
    }
    tensors_free(&list);
}

static void test_unwritable_weights(void **state) {
    (void)state;
    TensorList list = {0};
    Tensor t;
    assert_int_equal(tensor_new(&t, device, DTYPE_U8, 0, NULL, &e), 0);
    assert_int_equal(tensors_add(&list, "\xff", 1, &t, &e), 0);
    assert_int_equal(weights_save(scratch_path("u.safetensors"), &list, NULL, 0, &e), -1);
    if (!strstr(e.text, "a name is not UTF-8")) fail_msg("%s", e.text);
    tensors_free(&list);
    /* Larger than memory here may be: its bytes are never looked at. */
    Tensor large = {.dtype = DTYPE_F32, .ndim = 1, .shape = {INT64_C(1) << 31}};
    assert_int_equal(tensors_add(&list, "a", 1, &large, &e), 0);
    assert_int_equal(weights_save(scratch_path("u.msgpack"), &list, NULL, 0, &e), -1);
    assert_non_null(strstr(e.text, "a msgpack file holds at most 4294967295 of one tensor"));
    tensors_free(&list);
}

/* --- pickles --- */

#define MAGIC                                                                                      \
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."

static void test_pickle_limits(void **state) {
    (void)state;
    enum { STRING = PICKLE_STRING, STRINGS = 1025, VALUES = (1 << 20) + 9 };
    const size_t start = sizeof MAGIC - 1;
    int fd = sparse(MAGIC "\x80\x02", start + 2, start + 2);
    off_t at = (off_t)start + 2;
    for (int i = 0; i < STRINGS; i++, at += 6 + STRING) {
        assert_int_equal(pwrite(fd, "X\0\0\1\0", 5, at), 5);
        assert_int_equal(pwrite(fd, "0", 1, at + 5 + STRING), 1);
    }
    refuse_open(legacy_reader, fd, (uint64_t)at,
                "its pickle is longer than the 64 MiB that a list of tensors may be");
    char *nones = malloc(start + VALUES);
    memcpy(nones, MAGIC, start);
    memset(nones + start, 'N', VALUES);
    fd = sparse(nones, start + VALUES, start + VALUES);
    TensorList list = {0};
    assert_int_equal(pth_read_legacy(fd, start + VALUES, NULL, device, &list, &e), -1);
    assert_non_null(strstr(e.text, ": more values at once than a list of tensors may have"));
    close(fd);
    free(nones);
}

/* --- records --- */

static void test_records_under_which_the_file_ends(void **state) {
    (void)state;
    const char *path = scratch_path("short.part");
    Buffer b = {0};
    RecordPart *p;
    assert_int_equal(record_part_open(&p, path, false, &e), 0);
    record_begin(&b, 1, &e);
    record_text(&b, "text", "some text", 9, &e);
    assert_int_equal(record_part_append(p, b.bytes, b.size, &e), 0);
    size_t n;
    unsigned char *bytes = scratch_read(path, &n);
    for (size_t cut = 0; cut < n; cut++) {
        RecordReader *r;
        const RecordField *fields;
        size_t count, kept = b.size;
        scratch_write(path, bytes, n);
        assert_int_equal(record_open(&r, path, &e), 0);
        assert_int_equal(truncate(path, (off_t)cut), 0);
        assert_int_equal(record_next(r, &fields, &count, &e), -1);
        assert_non_null(strstr(e.text, "is truncated"));
        record_close(r);
        assert_int_equal(record_part_read(p, 0, &b, &e), -1);
        assert_int_equal(b.size, kept);
        assert_int_equal(record_part_reader(p, 0, &r, &e), -1);
        assert_non_null(strstr(e.text, "short.part: is truncated"));
    }
    free(bytes);
    buffer_free(&b);
    record_part_close(p);
}

static void refuse_record(const void *bytes, size_t n, uint64_t size, const char *message) {
    RecordReader *r;
    const RecordField *fields;
    size_t count;
    char wanted[256];
    close(sparse(bytes, n, size));
    snprintf(wanted, sizeof wanted, "%s: %s", scratch_path("sparse"), message);
    assert_int_equal(record_open(&r, scratch_path("sparse"), &e), 0);
    REFUSED(record_next(r, &fields, &count, &e), wanted);
    record_close(r);
}

static void test_record_limits(void **state) {
    (void)state;
    refuse_record("\x81\xa1"
                  "a\xdb\x04\0\0\0",
                  8, (64u << 20) + 8, "has a record of more than 64 MiB");
    refuse_record("\x82\xa1"
                  "a\xdb\x03\0\0\0",
                  8, (100u << 20), "a record's key is an integer, wants a text");
    refuse_record("\x81\xa1"
                  "a\xdd\0\x80\0\1",
                  8, 8 + (8u << 20) + 1, "has a series of more than 8388608 elements");
    refuse_record("\x81\xa1"
                  "a\xdd\0\x80\0\0",
                  8, 8 + (8u << 20), "has a record of more than 64 MiB");
    RecordPart *p;
    char wanted[256];
    assert_int_equal(record_part_open(&p, scratch_path("big.part"), false, &e), 0);
    snprintf(wanted, sizeof wanted, "%s: a frame of 67108865 bytes, at most 67108864 are allowed",
             scratch_path("big.part"));
    REFUSED(record_part_add(p, FRAME_RECORDS, NULL, RECORD_BYTES + 1, &e), wanted);
    record_part_close(p);
}

/* A record made where a buffer has `left` bytes of room and memory has run out. */
static int make_in(size_t left) {
    const double reals[] = {1, 2, 3};
    const float floats[] = {1};
    Buffer b = {0};
    assert_int_equal(buffer_reserve(&b, 1, &e), 0);
    b.size = b.capacity - left;
    memory_fail_at(1);
    int failed = record_begin(&b, 6, &e) || record_text(&b, "text", "abc", 3, &e) ||
                 record_integer(&b, "integer", 300, &e) || record_real(&b, "real", 0.5, &e) ||
                 record_boolean(&b, "true", true, &e) || record_boolean(&b, "false", false, &e) ||
                 record_series(&b, "series", DTYPE_F64, reals, 3, &e) ||
                 record_series(&b, "floats", DTYPE_F32, floats, 1, &e);
    memory_fail_at(0);
    buffer_free(&b);
    return failed;
}

static void test_no_room_for_a_record(void **state) {
    (void)state;
    size_t left = 0;
    for (e.text[0] = 0; make_in(left) != 0; left++) {
        assert_non_null(strstr(e.text, "out of memory"));
        e.text[0] = 0;
    }
    assert_true(left > 60);
}

/* --- part files --- */

static void test_no_part_file(void **state) {
    (void)state;
    RecordPart *p;
    REFUSED(record_part_open(&p, "/dev/null", true, &e), "/dev/null: is no regular file");
    REFUSED(record_part_open(&p, "/dev/null", false, &e), "/dev/null: Invalid argument");
    REFUSED(record_part_open(&p, "tests", false, &e), "tests: Is a directory");
    char wanted[128];
    snprintf(wanted, sizeof wanted, "%s: No locks available", scratch_path("unlocked.part"));
    no_locks = true;
    REFUSED(record_part_open(&p, scratch_path("unlocked.part"), false, &e), wanted);
    no_locks = false;
}

/* A file in memory that cannot be made smaller, with two frames and a torn one. */
static void test_uncuttable(void **state) {
    (void)state;
    RecordPart *p;
    char path[64], wanted[128];
    int fd = memfd_create("part", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    assert_int_equal(record_part_open(&p, path, false, &e), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(record_part_add(p, FRAME_NOTE, "\x80", 1, &e), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    snprintf(wanted, sizeof wanted, "%s: Operation not permitted", path);
    REFUSED(record_part_cut(p, 1, &e), wanted);
    assert_int_equal(record_part_frames(p), 2);
    /* What has no name cannot be removed. */
    assert_int_equal(record_part_finish(p, scratch_path("finished"), &e), -1);
    assert_int_equal(strncmp(e.text, path, strlen(path)), 0);
    record_part_close(p);
    assert_int_equal(ftruncate(fd, 27), 0);
    snprintf(wanted, sizeof wanted,
             "%s: cannot be cut to its whole frames: Operation not permitted", path);
    REFUSED(record_part_open(&p, path, true, &e), wanted);
    close(fd);
}

/* What does not reach the disk is not in the file. */
static void test_unsynced(void **state) {
    (void)state;
    RecordPart *p;
    char wanted[128];
    const char *path = scratch_path("sync.part");
    assert_int_equal(record_part_open(&p, path, false, &e), 0);
    snprintf(wanted, sizeof wanted, "%s: Input/output error", path);
    no_sync = true;
    REFUSED(record_part_append(p, "\x80", 1, &e), wanted);
    REFUSED(record_part_sync(p, &e), wanted);
    no_sync = false;
    assert_int_equal(record_part_frames(p), 0);
    assert_int_equal(record_part_append(p, "\x80", 1, &e), 0);
    record_part_close(p);
    uint64_t frames, bytes;
    assert_int_equal(truncate(path, 20), 0);
    no_sync = true;
    assert_int_equal(record_recover(path, NULL, NULL, &e), -1);
    no_sync = false;
    assert_int_equal(record_recover(path, &frames, &bytes, &e), 0);
    assert_true(frames == 1 && bytes == 1);
}

static void test_interrupted(void **state) {
    (void)state;
    const char *path = scratch_path("signals.part");
    RecordPart *p;
    uint64_t frames;
    interrupts = true;
    assert_int_equal(record_part_open(&p, path, false, &e), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(record_part_append(p, "\x80", 1, &e), 0);
    assert_int_equal(record_part_cut(p, 2, &e), 0);
    record_part_close(p);
    assert_int_equal(truncate(path, 20), 0);
    int failed = record_recover(path, &frames, NULL, &e);
    interrupts = false;
    if (failed) fail_msg("%s", e.text);
    assert_int_equal(frames, 1);
}

/* --- images --- */

/* A JPEG of this many grey or unknown components, 8 x 8; *n bytes, to be freed. */
static unsigned char *make_jpeg(int components, bool progressive, unsigned long *n) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL, row[32] = {0}, *rows[1] = {row};
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, n);
    jpeg.image_width = jpeg.image_height = 8;
    jpeg.input_components = components;
    jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : JCS_UNKNOWN;
    jpeg_set_defaults(&jpeg);
    if (progressive) jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < 8) jpeg_write_scanlines(&jpeg, rows, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return bytes;
}

static void test_jpeg_limits(void **state) {
    (void)state;
    unsigned long n;
    Image image;
    unsigned char *bytes = make_jpeg(2, false, &n);
    REFUSED(image_from_jpeg(bytes, n, &image, &e),
            "is a JPEG of an unknown colour space; grey, YCbCr, RGB, CMYK and YCCK are supported");
    free(bytes);
    assert_int_equal(image_new(&image, 65535, 1, 1, &e), 0);
    memset(image.pixels, 0, 65535);
    REFUSED(image_jpeg_again(&image, 90, &e),
            "cannot be written as a JPEG: Maximum supported image "
            "dimension is 65500 pixels");
    assert_int_equal(image.W, 65535);
    image_free(&image);
}

static int jpeg_again(Error *error) {
    Image image;
    if (image_new(&image, 16, 16, 3, error) != 0) return -1;
    memset(image.pixels, 0, 16 * 16 * 3);
    int failed = image_jpeg_again(&image, 90, error);
    image_free(&image);
    return failed;
}

/* libjpeg takes its memory by itself. A sanitizer's own needs more than any limit. */
static void test_jpeg_starved(void **state) {
    (void)state;
    starve(jpeg_again, 1);
#ifndef __SANITIZE_ADDRESS__
    unsigned long n;
    Image image;
    enum { ENOUGH = 1 << 18 }; /* bytes for so many pixels */
    unsigned char *bytes = make_jpeg(1, true, &n), *frame = memmem(bytes, n, "\xff\xc2", 2);
    memcpy(frame + 5, "\x08\x00\xf0\x00", 4); /* 2048 x 61440: 126 MB, and twice of coefficients */
    bytes = realloc(bytes, ENOUGH);
    memset(bytes + n, 0, ENOUGH - n);
    tighten(200 << 20);
    int failed = image_from_jpeg(bytes, ENOUGH, &image, &e);
    tighten(0);
    REFUSED(failed, "libjpeg: out of memory");
    assert_int_equal(e.code, ERROR_NO_MEMORY);
    free(bytes);
#endif
}

/* libwebp too takes its memory by itself. */
static void test_webp_starved(void **state) {
    (void)state;
#ifndef __SANITIZE_ADDRESS__
    size_t n;
    Image image;
    unsigned char *bytes = scratch_read("tests/golden/formats/lossless.webp", &n);
    memcpy(bytes + 21, "\xfe\xbf\xff\x07", 4); /* 16383 x 8191: 403 MB, and 537 of libwebp's */
    tighten(500 << 20);
    int failed = image_from_webp(bytes, n, &image, &e);
    tighten(0);
    REFUSED(failed, "libwebp: out of memory");
    assert_int_equal(e.code, ERROR_NO_MEMORY);
    free(bytes);
#endif
}

/* A feed whose threads find no room for their stacks starts none, and can be started later. */
static void test_feed_without_threads(void **state) {
    (void)state;
#ifndef __SANITIZE_ADDRESS__
    enum { THREADS = 64 };
    Feed *f;
    const FeedSpec spec = {.C = 1, .H = 1, .W = 1};
    const int64_t order[] = {0};
    assert_int_equal(feed_new(&f, &spec, &e), 0);
    assert_int_equal(feed_add_raw(f, "x", DTYPE_U8, 0, 1, order, &e), 0);
    tighten(64 << 20);
    int failed = feed_start(f, order, 1, 1, NULL, THREADS, &e);
    tighten(0);
    REFUSED(failed, "a thread that reads images cannot be started");
    assert_int_equal(feed_start(f, order, 1, 1, NULL, 1, &e), 0);
    feed_free(f);
#endif
}

static TransformKind kind;
static double strength;

static int transform(Error *error) {
    const int64_t shape[] = {1, 1, 5, 4};
    const uint64_t key = 7;
    Tensor x;
    if (tensor_new(&x, device, DTYPE_F32, 4, shape, error) != 0) return -1;
    memset(x.data, 0, tensor_bytes(&x));
    int failed = transform_apply(kind, strength, &x, &key, error);
    tensor_free(&x);
    return failed;
}

static void test_transforms_starved(void **state) {
    (void)state;
    static const double strengths[TRANSFORM_KINDS] = {0.1, 3, 1, 4, 80, 0.1};
    for (int k = 0; k < TRANSFORM_KINDS; k++) {
        kind = (TransformKind)k;
        strength = strengths[k];
        starve(transform, 2);
    }
    static const int64_t shapes[][4] = {{1, 1, 1, 1}, {0, 1, 2, 2}, {2, 3, 4, 5}};
    for (int i = 0; i < 4; i++) {
        Tensor x;
        const uint64_t keys[2] = {0};
        assert_int_equal(tensor_new(&x, device, i == 3 ? DTYPE_U8 : DTYPE_F32, i == 2 ? 3 : 4,
                                    shapes[i % 3], &e),
                         0);
        memset(x.data, 0, tensor_bytes(&x));
        int failed = transform_apply(TRANSFORM_TV, 0.1, &x, keys, &e);
        assert_int_equal(failed, i == 0 ? 0 : -1);
        if (i) assert_non_null(strstr(e.text, "tv wants images f32 [N,C,H,W], got "));
        tensor_free(&x);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shrinking_weights),
        cmocka_unit_test(test_safetensors_limits),
        cmocka_unit_test(test_no_descriptor),
        cmocka_unit_test(test_full_disk_everywhere),
        cmocka_unit_test(test_unwritable_weights),
        cmocka_unit_test(test_pickle_limits),
        cmocka_unit_test(test_records_under_which_the_file_ends),
        cmocka_unit_test(test_record_limits),
        cmocka_unit_test(test_no_room_for_a_record),
        cmocka_unit_test(test_no_part_file),
        cmocka_unit_test(test_uncuttable),
        cmocka_unit_test(test_unsynced),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_jpeg_limits),
        cmocka_unit_test(test_jpeg_starved),
        cmocka_unit_test(test_webp_starved),
        cmocka_unit_test(test_feed_without_threads),
        cmocka_unit_test(test_transforms_starved),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
