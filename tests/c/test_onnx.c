/* ONNX models: what the reader makes of a small one, and every allocation failing in turn. What
 * malformed ones are refused with is in tests/lua/onnx_malformed_spec.lua. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "device/device.h"
#include "io/onnx.h"
#include "starve.h"

#define MODEL "tests/fuzz/corpus/onnx/good"

static Device *device;

static const OnnxItem *first_tensor(const Onnx *m) {
    const OnnxItem *graph = onnx_find(m, &m->items[0], "graph");
    return graph ? onnx_find(m, graph, "initializer") : NULL;
}

static void reads_fields_and_numbers(void **state) {
    (void)state;
    Error e = {0};
    Onnx m;
    Tensor t;
    float values[6];
    assert_int_equal(onnx_open(&m, MODEL, &e), 0);
    assert_int_equal(onnx_find(&m, &m.items[0], "ir_version")->integer, 8);
    const OnnxItem *w = first_tensor(&m);
    assert_string_equal(onnx_text(&m, onnx_find(&m, w, "name")), "w");
    assert_null(onnx_find(&m, w, "float_data"));
    assert_int_equal(onnx_tensor(&m, w, device, &t, &e), 0);
    assert_int_equal(t.ndim, 2);
    assert_int_equal(t.shape[0] * 10 + t.shape[1], 23);
    assert_int_equal(tensor_to_host(&t, values, &e), 0);
    assert_true(values[0] == 0.5f && values[5] == -0.5f);
    tensor_free(&t);
    onnx_close(&m);
    assert_null(m.path);
    onnx_close(&m); /* an empty one */
}

static void reads_varints(void **state) {
    (void)state;
    const struct {
        const char *bytes;
        size_t n;
        int failed;
        uint64_t value;
    } cases[] = {
        {"\x00", 1, 0, 0},
        {"\x96\x01", 2, 0, 150},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, 0, UINT64_MAX},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, -1, 0},
        {"\x96", 1, -1, 0},
        {"", 0, -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t at = 0;
        uint64_t value;
        const unsigned char *bytes = (const unsigned char *)cases[i].bytes;
        assert_int_equal(onnx_varint(bytes, cases[i].n, &at, &value), cases[i].failed);
        if (!cases[i].failed) assert_true(value == cases[i].value && at == cases[i].n);
    }
}

/* Opens the model, reads a tensor, and keeps nothing. */
static int open_and_read(Error *e) {
    Onnx m;
    Tensor t = {0};
    int failed = onnx_open(&m, MODEL, e);
    if (!failed) failed = onnx_tensor(&m, first_tensor(&m), device, &t, e);
    tensor_free(&t);
    onnx_close(&m);
    return failed;
}

static void fails_where_memory_does(void **state) {
    (void)state;
    starve(open_and_read, 5);
}

int main(void) {
    Error e = {0};
    if (cpu_device(1, &device, &e) != 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_fields_and_numbers),
                                       cmocka_unit_test(reads_varints),
                                       cmocka_unit_test(fails_where_memory_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
