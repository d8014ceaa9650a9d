/* base/file.h: files that are whole or absent, and reading within limits. */
#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"

enum { LONG = 300000 }; /* several times what a writer holds back */

static unsigned char pattern[LONG];

static void check_file(const char *path, const void *bytes, size_t n) {
    size_t got;
    unsigned char *have = scratch_read(path, &got);
    assert_int_equal(got, n);
    assert_memory_equal(have, bytes, n);
    free(have);
}

static int entries(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

/* Fails with "PATH: why" and changes neither the number of files nor memory nor descriptors. */
static void refuse_write(const char *path, size_t n, const char *why) {
    Error e = {0};
    char message[256];
    int files = entries(folder), descriptors = entries("/proc/self/fd");
    size_t memory = memory_count().in_use;
    snprintf(message, sizeof message, "%s: %s", path, why);
    assert_int_equal(file_write(path, pattern, n, &e), -1);
    assert_string_equal(e.text, message);
    assert_int_equal(entries(folder), files);
    assert_int_equal(entries("/proc/self/fd"), descriptors);
    assert_int_equal(memory_count().in_use, memory);
}

static void test_write(void **state) {
    (void)state;
    Error e = {0};
    const char *path = scratch_path("whole");
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, LONG};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(file_write(path, pattern, sizes[i], &e), 0);
        check_file(path, pattern, sizes[i]);
        assert_int_equal(entries(folder), 1);
    }
    unlink(path);
}

static void test_pieces(void **state) {
    (void)state;
    Error e = {0};
    FileWriter *w;
    const char *path = scratch_path("pieces");
    assert_int_equal(file_writer_open(&w, path, &e), 0);
    size_t at = 0;
    for (size_t n = 1; at < LONG; n = n * 3 + 1) {
        if (n > LONG - at) n = LONG - at;
        assert_int_equal(file_writer_put(w, pattern + at, n, &e), 0);
        at += n;
    }
    assert_int_equal(access(path, F_OK), -1); /* not under its name before it is whole */
    assert_int_equal(file_writer_close(w, 0, &e), 0);
    check_file(path, pattern, LONG);
    unlink(path);
}

static void test_abort(void **state) {
    (void)state;
    Error e = {.text = "kept"};
    FileWriter *w;
    const char *path = scratch_path("kept");
    scratch_write(path, "before", 6);
    assert_int_equal(file_writer_open(&w, path, &e), 0);
    assert_int_equal(file_writer_put(w, pattern, LONG, &e), 0);
    assert_int_equal(entries(folder), 2);
    assert_int_equal(file_writer_close(w, -1, &e), -1);
    assert_string_equal(e.text, "kept");
    check_file(path, "before", 6);
    assert_int_equal(entries(folder), 1);
    assert_int_equal(file_writer_close(NULL, -1, &e), -1);
    assert_int_equal(file_writer_close(NULL, 0, &e), 0);
    unlink(path);
}

static void test_mode_and_links(void **state) {
    (void)state;
    Error e = {0};
    struct stat s;
    const char *path = scratch_path("target"), *link = scratch_path("link");
    mode_t mask = umask(027);
    assert_int_equal(file_write(path, "a", 1, &e), 0);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0640);
    umask(mask);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(symlink("target", link), 0);
    assert_int_equal(file_write(link, "bc", 2, &e), 0);
    assert_int_equal(lstat(link, &s), 0);
    assert_true(S_ISLNK(s.st_mode));
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    check_file(path, "bc", 2);
    unlink(link);
    unlink(path);
}

static void test_here(void **state) {
    (void)state;
    Error e = {0};
    char *before = getcwd(NULL, 0);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(file_write("bare", "x", 1, &e), 0);
    check_file("bare", "x", 1);
    assert_int_equal(unlink("bare"), 0);
    assert_int_equal(chdir(before), 0);
    free(before);
}

static void test_write_failures(void **state) {
    (void)state;
    const char *full = scratch_path("full"), *dir = scratch_path("dir");
    assert_int_equal(symlink("/dev/full", full), 0);
    refuse_write(full, 1, "No space left on device");
    refuse_write(full, LONG, "No space left on device");
    refuse_write("/dev/full", LONG, "No space left on device");
    assert_int_equal(mkdir(dir, 0700), 0);
    refuse_write(dir, 1, "is a directory");
    refuse_write(scratch_path("none/file"), 1, "No such file or directory");
    refuse_write("", 1, "No such file or directory");
    rmdir(dir);
    unlink(full);
}

/* A limit on the size of files stands for a disk that fills up half-way. */
static void test_disk_fills(void **state) {
    (void)state;
    struct rlimit before, small = {100000, 0};
    const char *path = scratch_path("grows");
    scratch_write(path, "before", 6);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    Error e = {0}, later = {0};
    FileWriter *w;
    refuse_write(path, LONG, "File too large");
    refuse_write(scratch_path("fresh"), LONG, "File too large");
    /* A writer that failed stays failed, whatever its user makes of that. */
    assert_int_equal(file_writer_open(&w, path, &e), 0);
    assert_int_equal(file_writer_put(w, pattern, LONG, &e), -1);
    assert_int_equal(file_writer_put(w, pattern, 1, &later), -1);
    assert_true(strlen(later.text) > 0);
    assert_int_equal(file_writer_close(w, 0, &later), -1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    check_file(path, "before", 6);
    assert_int_equal(entries(folder), 1);
    unlink(path);
}

static void test_out_of_memory(void **state) {
    (void)state;
    const char *path = scratch_path("starved");
    int n = 1;
    for (;; n++) {
        Error e = {0};
        size_t memory = memory_count().in_use;
        int descriptors = entries("/proc/self/fd");
        memory_fail_at((uint64_t)n);
        int failed = file_write(path, pattern, LONG, &e);
        memory_fail_at(0);
        assert_int_equal(memory_count().in_use, memory);
        assert_int_equal(entries("/proc/self/fd"), descriptors);
        if (!failed) break;
        assert_non_null(strstr(e.text, "out of memory"));
        assert_int_equal(entries(folder), 0);
    }
    assert_true(n > 2);
    unlink(path);
}

static void test_replace(void **state) {
    (void)state;
    Error e = {0};
    char from[128], to[128], message[512];
    snprintf(from, sizeof from, "%s", scratch_path("from"));
    snprintf(to, sizeof to, "%s", scratch_path("to"));
    assert_int_equal(file_write(to, "old", 3, &e), 0);
    assert_int_equal(file_replace(from, to, &e), -1);
    snprintf(message, sizeof message, "%s: No such file or directory", from);
    assert_string_equal(e.text, message);
    check_file(to, "old", 3);
    assert_int_equal(file_write(from, pattern, LONG, &e), 0);
    int descriptors = entries("/proc/self/fd");
    assert_int_equal(file_replace(from, to, &e), 0);
    check_file(to, pattern, LONG);
    assert_int_equal(entries(folder), 1);
    assert_int_equal(file_write(from, "new", 3, &e), 0);
    assert_int_equal(file_replace(from, scratch_path("none/to"), &e), -1);
    assert_non_null(strstr(e.text, "cannot give "));
    check_file(from, "new", 3);
    assert_int_equal(entries("/proc/self/fd"), descriptors);
    unlink(from);
    unlink(to);
}

static void test_read(void **state) {
    (void)state;
    Error e = {0};
    int fd;
    uint64_t size;
    unsigned char bytes[16], *whole;
    size_t n;
    const char *path = scratch_path("read");
    scratch_write(path, pattern, 1000);
    assert_int_equal(file_open_read(path, &fd, &size, &e), 0);
    assert_int_equal(size, 1000);
    assert_int_equal(file_read_at(fd, bytes, 16, 984, &e), 0);
    assert_memory_equal(bytes, pattern + 984, 16);
    assert_int_equal(file_read_at(fd, bytes, 0, 5000, &e), 0);
    assert_int_equal(file_read_at(fd, bytes, 16, 985, &e), -1);
    assert_string_equal(e.text, "is truncated: wanted 16 bytes at byte 985, found 15");
    assert_int_equal(file_read_at(fd, bytes, 1, UINT64_MAX, &e), -1);
    close(fd);
    assert_int_equal(file_read_whole(path, 1000, &whole, &n, &e), 0);
    assert_int_equal(n, 1000);
    assert_memory_equal(whole, pattern, 1000);
    memory_free(whole);
    char message[256];
    snprintf(message, sizeof message, "%s: has 1000 bytes, more than the limit of 999", path);
    assert_int_equal(file_read_whole(path, 999, &whole, &n, &e), -1);
    assert_string_equal(e.text, message);
    assert_null(whole);
    unlink(path);
}

static void refuse_read(const char *path, const char *why) {
    Error e = {0};
    int fd, descriptors = entries("/proc/self/fd");
    uint64_t size;
    unsigned char *bytes;
    size_t n;
    char message[256], hex[FILE_SHA256_TEXT];
    snprintf(message, sizeof message, "%s: %s", path, why);
    assert_int_equal(file_open_read(path, &fd, &size, &e), -1);
    assert_string_equal(e.text, message);
    assert_int_equal(file_read_whole(path, LONG, &bytes, &n, &e), -1);
    assert_string_equal(e.text, message);
    assert_int_equal(file_sha256(path, hex, &e), -1);
    assert_string_equal(e.text, message);
    assert_int_equal(entries("/proc/self/fd"), descriptors);
}

static void test_read_failures(void **state) {
    (void)state;
    const char *fifo = scratch_path("fifo");
    refuse_read(folder, "is a directory");
    refuse_read(scratch_path("absent"), "No such file or directory");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    refuse_read(fifo, "is no regular file"); /* and does not wait for a writer */
    refuse_read("/dev/zero", "is no regular file");
    unlink(fifo);
}

static void check_hash(size_t n, const char *hex) {
    Error e = {0};
    char got[FILE_SHA256_TEXT];
    const char *path = scratch_path("hashed");
    unsigned char *a = malloc(n + 1);
    memset(a, 'a', n);
    scratch_write(path, a, n);
    free(a);
    assert_int_equal(file_sha256(path, got, &e), 0);
    assert_string_equal(got, hex);
    unlink(path);
}

/* FIPS 180's examples, and sizes around the piece that is read at once (by sha256sum). */
static void test_sha256(void **state) {
    (void)state;
    check_hash(0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hash(1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    check_hash(65535, "6e1bebca6a8229364a162a72ef064826c4cd7457bf54f190ef782bd9deff3e42");
    check_hash(65536, "bf718b6f653bebc184e1479f1935b8da974d701b893afcf49e701f3e2f9f9c5a");
    check_hash(65537, "008ffc88d3c96a9f307524eb361e47c5222a887fc45fa0c1fb8d429c5c23b430");
}

int main(void) {
    for (size_t i = 0; i < LONG; i++) pattern[i] = (unsigned char)(i * 31 + i / 251);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),      cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_abort),      cmocka_unit_test(test_mode_and_links),
        cmocka_unit_test(test_here),       cmocka_unit_test(test_write_failures),
        cmocka_unit_test(test_disk_fills), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_read),       cmocka_unit_test(test_read_failures),
        cmocka_unit_test(test_sha256),     cmocka_unit_test(test_replace),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
