/* Weight files: the door (io/weights.h), safetensors and the msgpack layout. */
#include "state.h"

#include <sys/stat.h>

static void test_bad_files(void **state) {
    (void)state;
    state_refused(GOLDEN "bad_empty.pth", "is empty");
    state_refused(GOLDEN "bad_text.pth", "is text, not weights: it starts with '<!DOCTYPE "
                                         "html><title>404</title' (a failed download?)");
    state_refused(GOLDEN "bad_executes.pth",
                  "refuses to run 'posix.system' (only tensors are read from a .pth file)");
    assert_int_equal(access("pwned.txt", F_OK), -1);
    state_refused(GOLDEN "bad_truncated.pth",
                  "a zip archive without its end: the file is cut off or damaged");
    state_refused(GOLDEN "bad_no_pickle.pth",
                  "a zip archive without data.pkl, so not one that torch.save wrote");
    state_refused(GOLDEN "bad_header.safetensors",
                  "its header of 1152921504606846976 bytes does not fit the file of 10 bytes");
    state_refused(
        GOLDEN "bad_json.safetensors",
        "its header is not valid JSON (byte 37: string or '}' expected near end of file)");
    state_refused(GOLDEN "bad_offsets.safetensors",
                  "tensor 'a': ends at byte 16 of the data, of which the file has 8");
    state_refused(GOLDEN "bad_overlap.safetensors", "tensors 'a' and 'b' overlap");
    state_refused(GOLDEN "bad_overflow.safetensors",
                  "tensor 'a': has a shape [4294967296,4294967296,4] of more bytes than can be "
                  "counted");
    state_refused(GOLDEN "bad_shape.safetensors",
                  "tensor 'a': is F32 [3], which takes 12 bytes, but has 16");
}

static void test_no_files(void **state) {
    (void)state;
    state_refused("tests/golden", "is a directory");
    state_refused("tests/golden/weights/absent.pth", "No such file or directory");
    const char *fifo = scratch_path("fifo.safetensors");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    state_refused(fifo, "is no regular file");
    const char *other = scratch_path("other.pth");
    scratch_write(other, "\x89PXG\r\n\x1a\n, and more", 18);
    state_refused(other, "is no weight file: neither safetensors nor PyTorch's .pth nor msgpack "
                         "with format = 'advrt.tensors'");
}

static void test_good_files(void **state) {
    (void)state;
    TensorList list;
    state_load(GOLDEN "state.safetensors", &list);
    state_check(&list);
    for (size_t i = 1; i < list.count; i++)
        assert_true(strcmp(list.items[i - 1].name, list.items[i].name) < 0);
    tensors_free(&list);
}

/* A safetensors file of this header and n bytes of zeros, refused with this message. */
static void refuse_header(const char *header, size_t n, const char *message) {
    Buffer b = {0};
    Error e;
    unsigned char length[8] = {(unsigned char)strlen(header), (unsigned char)(strlen(header) >> 8)};
    static const unsigned char zeros[64];
    buffer_append(&b, length, 8, &e);
    buffer_append(&b, header, strlen(header), &e);
    buffer_append(&b, zeros, n, &e);
    const char *path = scratch_path("header.safetensors");
    scratch_write(path, b.bytes, b.size);
    buffer_free(&b);
    state_refused(path, message);
}

static void test_safetensors_refusals(void **state) {
    (void)state;
    refuse_header("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                  "tensor 'a': has dtype 'F8_E4M3'; F64, F32, F16, BF16, I64, I32, I16, I8, U8 and "
                  "BOOL are supported");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2,
                  "1 bytes before tensor 'a' belong to no tensor");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 3,
                  "the last 2 bytes belong to no tensor");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1,
                  "tensor 'a': has a shape of something other than natural numbers");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1,
                  "tensor 'a': has a shape of something other than natural numbers");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
                  1, "tensor 'a': has 9 dimensions, at most 8 are supported");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1,
                  "tensor 'a': has data_offsets that are not [begin, end]");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1,
                  "tensor 'a': has data_offsets that are not [begin, end]");
    refuse_header("{\"a\":7}", 0, "tensor 'a': has a description that is not an object");
    refuse_header("{\"a\":{},\"a\":{}}", 0, "tensor 'a': has no dtype");
    refuse_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
                  "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                  0, "holds a tensor 'a' twice");
}

/* A header may be padded with spaces to any length. */
static void test_padded_header(void **state) {
    (void)state;
    enum { LENGTH = 4096 };
    const char *path = scratch_path("long.safetensors");
    unsigned char bytes[8 + LENGTH] = {[1] = LENGTH >> 8, [8] = '{', [9] = '}'};
    TensorList list;
    memset(bytes + 10, ' ', LENGTH - 2);
    scratch_write(path, bytes, sizeof bytes);
    state_load(path, &list);
    assert_int_equal(list.count, 0);
    tensors_free(&list);
}

static void test_round_trip(void **state) {
    (void)state;
    static const char *const names[] = {"a.safetensors", "b.safetensors", "a.msgpack", "b.msgpack"};
    const TextPair about[] = {{"epoch", "3"}, {"who", "a \"test\""}};
    TensorList list;
    state_load(GOLDEN "state.safetensors", &list);
    for (int i = 0; i < 4; i++) {
        Error e = {0};
        TensorList again;
        if (weights_save(scratch_path(names[i]), &list, about, 2, &e) != 0) fail_msg("%s", e.text);
        state_load(scratch_path(names[i]), &again);
        state_check(&again);
        tensors_free(&again);
    }
    for (int i = 0; i < 4; i += 2) {
        size_t m, n;
        unsigned char *x = scratch_read(scratch_path(names[i]), &m);
        unsigned char *y = scratch_read(scratch_path(names[i + 1]), &n);
        assert_int_equal(m, n);
        assert_memory_equal(x, y, n);
        if (i == 0) {
            size_t header = x[0] | (size_t)x[1] << 8;
            assert_int_equal(header % 8, 0);
            assert_non_null(strstr((char *)x + 8, "\"__metadata__\":{\"epoch\":\"3\",\"who\":"
                                                  "\"a \\\"test\\\"\"}"));
        }
        free(x);
        free(y);
    }
    tensors_free(&list);
}

/* Every element type goes out and comes back; booleans from outside become 0 and 1. */
static void test_every_type(void **state) {
    (void)state;
    static const char *const names[] = {"types.safetensors", "types.msgpack"};
    for (int f = 0; f < 2; f++) {
        TensorList list = {0}, again;
        Error e = {0};
        for (int t = 0; t < DTYPES; t++) {
            int64_t shape[] = {3};
            double values[] = {0, 1, 1};
            Tensor one;
            assert_int_equal(tensor_new(&one, device, (Dtype)t, 1, shape, &e), 0);
            dtype_convert((Dtype)t, one.data, DTYPE_F64, values, 3);
            if (t == DTYPE_BOOL) ((unsigned char *)one.data)[2] = 7;
            assert_int_equal(
                tensors_add(&list, dtype_name((Dtype)t), strlen(dtype_name((Dtype)t)), &one, &e),
                0);
        }
        if (weights_save(scratch_path(names[f]), &list, NULL, 0, &e) != 0) fail_msg("%s", e.text);
        state_load(scratch_path(names[f]), &again);
        assert_int_equal(again.count, DTYPES);
        for (size_t i = 0; i < again.count; i++) {
            const Tensor *t = &again.items[i].tensor;
            double got[3];
            assert_string_equal(again.items[i].name, dtype_name(t->dtype));
            dtype_convert(DTYPE_F64, got, t->dtype, t->data, 3);
            assert_true(got[0] == 0 && got[1] == 1 && got[2] == 1);
        }
        tensors_free(&list);
        tensors_free(&again);
    }
}

static void refuse_msgpack(const char *bytes, size_t n, const char *message) {
    const char *path = scratch_path("bad.msgpack");
    scratch_write(path, bytes, n);
    state_refused(path, message);
}

#define MSGPACK(bytes, message) refuse_msgpack(bytes, sizeof(bytes) - 1, message)
#define START                                                                                      \
    "\x83\xa6"                                                                                     \
    "format\xad"                                                                                   \
    "advrt.tensors\xa7"                                                                            \
    "version\x01\xa7"                                                                              \
    "tensors"

static void test_msgpack_refusals(void **state) {
    (void)state;
    MSGPACK("\x81\xa6"
            "format\xa5"
            "other",
            "a msgpack file that does not start with format = 'advrt.tensors'");
    MSGPACK("\x82\xa6"
            "format\xad"
            "advrt.tensors\xa7"
            "version\x02",
            "has version 2 of its format, 1 is supported");
    MSGPACK(START "\xdf\xff\xff\xff\xff",
            "is cut off or damaged: a value claims 4294967295 elements, 0 bytes are left");
    MSGPACK(START "\x81\xa1"
                  "a\x83\xa5"
                  "dtype\xa3"
                  "f32\xa5"
                  "shape\x91\x02\xa4"
                  "data\xc4\x04"
                  "1234",
            "tensor 'a': is f32 [2], which takes 8 bytes, but has 4");
    MSGPACK(START "\x81\xa1"
                  "a\x83\xa5"
                  "dtype\xa3"
                  "f32\xa5"
                  "shape\x91\x02\xa4"
                  "data\xc4\x08"
                  "1234",
            "tensor 'a': is cut off or damaged: a value claims 8 bytes, 4 bytes are left");
    MSGPACK(START "\x81\xa1"
                  "a\x83\xa5"
                  "dtype\xa3"
                  "f99",
            "tensor 'a': has dtype 'f99'; f64, f32, f16, bf16, i64, i32, i16, i8, u8 and bool are "
            "supported");
    MSGPACK(START "\x81\xa1"
                  "a\x81\xa4"
                  "data\xc4\x01"
                  "1",
            "tensor 'a': has its data before its dtype and shape");
    MSGPACK(START "\x81\xa1"
                  "a\x83\xa5"
                  "dtype\xa3"
                  "f32\xa5"
                  "shape\x92\xcf\x40\0\0\0\0\0\0\0"
                  "\xcf\x40\0\0\0\0\0\0\0\xa4"
                  "data\xc4\0",
            "tensor 'a': has a shape [4611686018427387904,4611686018427387904] of more bytes than "
            "can be counted");
    MSGPACK(START "\x82\xa1"
                  "a\x83\xa5"
                  "dtype\xa2"
                  "u8\xa5"
                  "shape\x90\xa4"
                  "data\xc4\x01"
                  "1"
                  "\xa1"
                  "a\x83\xa5"
                  "dtype\xa2"
                  "u8\xa5"
                  "shape\x90\xa4"
                  "data\xc4\x01"
                  "1",
            "holds a tensor 'a' twice");
    MSGPACK(START "\x80\x00", "has 1 bytes after its end");
}

static void test_damaged(void **state) {
    (void)state;
    TensorList list;
    Error e = {0};
    state_load(GOLDEN "state.safetensors", &list);
    assert_int_equal(weights_save(scratch_path("whole.msgpack"), &list, NULL, 0, &e), 0);
    tensors_free(&list);
    state_damaged(GOLDEN "state.safetensors");
    state_damaged(scratch_path("whole.msgpack"));
}

static void test_starved(void **state) {
    (void)state;
    TensorList list;
    Error e = {0};
    state_load(GOLDEN "state.safetensors", &list);
    assert_int_equal(weights_save(scratch_path("fed.msgpack"), &list, NULL, 0, &e), 0);
    state_starved(GOLDEN "state.safetensors");
    state_starved(scratch_path("fed.msgpack"));
    static const char *const names[] = {"starved.safetensors", "starved.msgpack"};
    for (int f = 0; f < 2; f++) {
        size_t before = memory_count().in_use;
        int failed = -1;
        for (uint64_t n = 1; failed; n++) {
            e.text[0] = 0;
            memory_fail_at(n);
            failed = weights_save(scratch_path(names[f]), &list, NULL, 0, &e);
            memory_fail_at(0);
            assert_int_equal(memory_count().in_use, before);
            assert_int_equal(access(scratch_path(names[f]), F_OK), failed ? -1 : 0);
            if (failed) assert_non_null(strstr(e.text, "out of memory"));
        }
    }
    tensors_free(&list);
}

static void refuse_save(const char *path, TensorList *list, const char *message) {
    Error e = {0};
    assert_int_equal(weights_save(path, list, NULL, 0, &e), -1);
    assert_string_equal(e.text, message);
}

static void test_save_refusals(void **state) {
    (void)state;
    TensorList list;
    Error e = {0};
    state_load(GOLDEN "state.safetensors", &list);
    refuse_save("x.pth", &list,
                "x.pth: the name of a weight file must end in .safetensors or .msgpack");
    symlink("/dev/full", scratch_path("full.safetensors"));
    symlink("/dev/full", scratch_path("full.msgpack"));
    char message[256];
    for (int f = 0; f < 2; f++) {
        const char *path = scratch_path(f ? "full.msgpack" : "full.safetensors");
        snprintf(message, sizeof message, "%s: No space left on device", path);
        refuse_save(path, &list, message);
    }
    const char *nowhere = scratch_path("absent/x.safetensors");
    snprintf(message, sizeof message, "%s: No such file or directory", nowhere);
    refuse_save(nowhere, &list, message);
    Tensor twin = tensor_share(&list.items[0].tensor);
    assert_int_equal(tensors_add(&list, "half", 4, &twin, &e), 0);
    refuse_save("x.safetensors", &list, "x.safetensors: holds a tensor 'half' twice");
    assert_int_equal(access("x.safetensors", F_OK), -1);
    tensors_free(&list);
}

static void test_reserved_name(void **state) {
    (void)state;
    TensorList list = {0};
    Tensor t;
    Error e = {0};
    assert_int_equal(tensor_new(&t, device, DTYPE_F32, 0, NULL, &e), 0);
    assert_int_equal(tensors_add(&list, "__metadata__", 12, &t, &e), 0);
    const char *path = scratch_path("reserved.safetensors");
    char message[256];
    snprintf(message, sizeof message,
             "%s: safetensors reserves the name '__metadata__'; no tensor can have it", path);
    refuse_save(path, &list, message);
    tensors_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),     cmocka_unit_test(test_no_files),
        cmocka_unit_test(test_good_files),    cmocka_unit_test(test_safetensors_refusals),
        cmocka_unit_test(test_padded_header), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_type),    cmocka_unit_test(test_msgpack_refusals),
        cmocka_unit_test(test_damaged),       cmocka_unit_test(test_starved),
        cmocka_unit_test(test_save_refusals), cmocka_unit_test(test_reserved_name),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
