/* What the tests of weight files share: the tensors that golden/weights/state.json lists, and the
 * checks that every reader must pass. */
#ifndef ADVRT_TESTS_STATE_H
#define ADVRT_TESTS_STATE_H

#include "scratch.h"

#include <jansson.h>

#include "io/weights.h"

#define GOLDEN "tests/golden/weights/"

static Dtype state_dtype(const char *name) {
    return strcmp(name, "half") == 0                     ? DTYPE_F16
           : strcmp(name, "brain") == 0                  ? DTYPE_BF16
           : strcmp(name, "bn.running_var") == 0         ? DTYPE_F64
           : strcmp(name, "bn.num_batches_tracked") == 0 ? DTYPE_I64
                                                         : DTYPE_F32;
}

/* Every tensor of state.json and no other, equal in type, shape and every value. */
static inline void state_check(const TensorList *list) {
    json_error_t why;
    json_t *all = json_load_file(GOLDEN "state.json", 0, &why), *one;
    const char *name;
    assert_non_null(all);
    assert_int_equal(list->count, json_object_size(all));
    json_object_foreach(all, name, one) {
        const Tensor *t = tensors_find(list, name);
        json_t *shape = json_object_get(one, "shape"), *values = json_object_get(one, "values");
        double got[64];
        if (!t) fail_msg("no tensor '%s'", name);
        assert_int_equal(t->dtype, state_dtype(name));
        assert_int_equal(t->ndim, json_array_size(shape));
        for (int i = 0; i < t->ndim; i++)
            assert_int_equal(t->shape[i], json_integer_value(json_array_get(shape, (size_t)i)));
        assert_int_equal(tensor_count(t), json_array_size(values));
        assert_true(tensor_count(t) <= 64);
        dtype_convert(DTYPE_F64, got, t->dtype, t->data, tensor_count(t));
        for (size_t i = 0; i < json_array_size(values); i++)
            if (got[i] != json_number_value(json_array_get(values, i)))
                fail_msg("%s[%zu] is %.17g", name, i, got[i]);
    }
    json_decref(all);
}

static inline void state_load(const char *path, TensorList *list) {
    Error e = {0};
    if (weights_load(path, NULL, device, list, &e) != 0) fail_msg("%s", e.text);
    assert_string_equal(e.text, "");
}

/* The file is refused with "path: message", one line, nothing kept, and next to no memory. */
static inline void state_refused(const char *path, const char *message) {
    enum { SMALL = 1 << 20 };
    Error e = {0};
    TensorList list;
    char wanted[ERROR_TEXT];
    snprintf(wanted, sizeof wanted, "%s: %s", path, message);
    MemoryCount before = memory_count();
    assert_int_equal(weights_load(path, NULL, device, &list, &e), -1);
    MemoryCount after = memory_count();
    assert_string_equal(e.text, wanted);
    assert_null(list.items);
    assert_int_equal(after.in_use, before.in_use);
    if (after.peak > before.peak) assert_true(after.peak - before.in_use < SMALL);
}

/* Any outcome but a crash, a leak or an empty message. */
static inline void state_survives(const void *bytes, size_t n) {
    const char *path = scratch_path("survives");
    Error e = {0};
    TensorList list;
    size_t before = memory_count().in_use;
    scratch_write(path, bytes, n);
    if (weights_load(path, NULL, device, &list, &e) == 0)
        tensors_free(&list);
    else
        assert_true(strlen(e.text) > strlen(path) + 2);
    assert_int_equal(memory_count().in_use, before);
}

/* The file cut at most lengths, and with each byte changed in one of a few ways. */
static inline void state_damaged(const char *path) {
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    size_t n;
    unsigned char *bytes = scratch_read(path, &n);
    for (size_t cut = 0; cut < n; cut += cut < 256 ? 1 : 7) state_survives(bytes, cut);
    for (size_t i = 0; i < n; i++) {
        unsigned char flip = flips[i % sizeof flips];
        bytes[i] ^= flip;
        state_survives(bytes, n);
        bytes[i] ^= flip;
    }
    free(bytes);
}

/* A load in which every allocation fails in turn says so and keeps nothing. */
static inline void state_starved(const char *path) {
    size_t before = memory_count().in_use;
    for (uint64_t n = 1;; n++) {
        Error e = {0};
        TensorList list;
        memory_fail_at(n);
        int failed = weights_load(path, NULL, device, &list, &e);
        memory_fail_at(0);
        if (!failed) {
            assert_true(n > 10);
            tensors_free(&list);
            assert_int_equal(memory_count().in_use, before);
            return;
        }
        assert_non_null(strstr(e.text, "out of memory"));
        assert_int_equal(memory_count().in_use, before);
    }
}

#endif
