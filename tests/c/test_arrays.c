/* Files of arrays and CIFAR's batches (their messages: tests/lua/arrays_spec.lua): memory that runs
 * out, and damage at every byte. */
#include "scratch.h"
#include "starve.h"

#include "io/arrays.h"
#include "io/cifar.h"

static const char *const names[] = {"x", "y"};
static const char *starved;

static int load_arrays(Error *e) {
    TensorList list;
    int failed = arrays_load(starved, names, 2, device, &list, e);
    if (failed) assert_null(list.items);
    tensors_free(&list);
    return failed;
}

static int load_cifar(Error *e) {
    Tensor x, y;
    int classes;
    int failed = cifar_load(starved, device, &x, &y, &classes, e);
    if (failed) assert_true(!x.storage && !y.storage);
    tensor_free(&x);
    tensor_free(&y);
    return failed;
}

static void test_starved(void **state) {
    (void)state;
    starved = "tests/fuzz/corpus/npy/01";
    starve(load_arrays, 4);
    starved = "tests/fuzz/corpus/npy/05"; /* in Fortran's order, and the other byte order */
    starve(load_arrays, 5);
    starved = "tests/fuzz/corpus/npz/01";
    starve(load_arrays, 8);
    starved = "tests/fuzz/corpus/cifar/01";
    starve(load_cifar, 4);
}

/* Each byte changed in three ways: read or refused, with nothing kept. */
static void damage(const char *path, int (*load)(Error *e)) {
    size_t n;
    unsigned char *bytes = scratch_read(path, &n);
    starved = scratch_path("damaged");
    for (size_t i = 0; i < n; i++)
        for (int way = 0; way < 3; way++) {
            const unsigned char change[] = {0xff, 0x01, 0x80};
            Error e = {0};
            size_t before = memory_count().in_use;
            bytes[i] ^= change[way];
            scratch_write(starved, bytes, n);
            if (load(&e) != 0) assert_int_equal(strncmp(e.text, starved, strlen(starved)), 0);
            assert_int_equal(memory_count().in_use, before);
            bytes[i] ^= change[way];
        }
    free(bytes);
}

static void test_damaged(void **state) {
    (void)state;
    damage("tests/fuzz/corpus/npy/01", load_arrays);
    damage("tests/fuzz/corpus/npz/01", load_arrays);
    damage("tests/fuzz/corpus/npz/02", load_arrays);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starved),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
