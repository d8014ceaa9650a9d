/* PyTorch files: real ones, and pickles made by hand, hostile and unusual. */
#include "state.h"

#include <zip.h>

#include "io/pickle.h"

/* --- making files --- */

/* A pickle's code as a C string may hold NULs, so pieces carry their length. */
#define PIECE(text) text, sizeof(text) - 1

#define MAGIC "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
#define VERSION "\x80\x02M\xe9\x03."
#define INFO "\x80\x02}."

/* What follows `storage` on the stack: the call of _rebuild_tensor_v2 with offset, shape and
 * strides in between. */
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("
#define STORAGE(key, count)                                                                        \
    "(X\x07\0\0\0storagectorch\nFloatStorage\nU\x01" key "U\x03"                                   \
    "cpuK" count "tQ"
#define REST "\x89}tR"
#define NAME(c) "U\x01" c

static void add(Buffer *b, const void *bytes, size_t n) {
    Error e;
    assert_int_equal(buffer_append(b, bytes, n, &e), 0);
}

/* A legacy file whose object is this pickle, with `count` floats 0, 1, 2 .. in storage '0' where
 * count >= 0. */
static const char *legacy(const void *object, size_t n, int64_t count) {
    const char *path = scratch_path("legacy.pth");
    Buffer b = {0};
    add(&b, PIECE(MAGIC VERSION INFO));
    add(&b, object, n);
    if (count < 0) {
        add(&b, PIECE("\x80\x02]."));
    } else {
        add(&b, PIECE("\x80\x02]U\x01"
                      "0a."));
        add(&b, &count, sizeof count);
        for (int64_t i = 0; i < count; i++) {
            float f = (float)i;
            add(&b, &f, sizeof f);
        }
    }
    scratch_write(path, b.bytes, b.size);
    buffer_free(&b);
    return path;
}

#define LEGACY(object, count) legacy(object, sizeof(object) - 1, count)
#define REFUSED(object, message) state_refused(LEGACY("\x80\x02" object ".", -1), message)

/* The one tensor 'a' of a legacy file, as floats. */
static void check_values(const char *path, size_t n, const float *wanted) {
    TensorList list;
    state_load(path, &list);
    assert_int_equal(list.count, 1);
    assert_string_equal(list.items[0].name, "a");
    assert_int_equal(tensor_count(&list.items[0].tensor), n);
    assert_memory_equal(list.items[0].tensor.data, wanted, n * sizeof *wanted);
    tensors_free(&list);
}

typedef struct Member {
    const char *name;
    const void *bytes;
    size_t n;
    int compressed;
} Member;

static const char *archive(const Member *members, size_t n) {
    const char *path = scratch_path("made.pth");
    unlink(path);
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, NULL);
    assert_non_null(z);
    for (size_t i = 0; i < n; i++) {
        zip_source_t *s = zip_source_buffer(z, members[i].bytes, members[i].n, 0);
        zip_int64_t at = zip_file_add(z, members[i].name, s, 0);
        assert_true(at >= 0);
        zip_set_file_compression(z, (zip_uint64_t)at,
                                 members[i].compressed ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    }
    assert_int_equal(zip_close(z), 0);
    return path;
}

/* --- files that PyTorch wrote --- */

static const char *const good[] = {GOLDEN "state.pth", GOLDEN "state_legacy.pth",
                                   GOLDEN "checkpoint.pth"};

static void test_good_files(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        TensorList list;
        state_load(good[i], &list);
        state_check(&list);
        tensors_free(&list);
    }
}

static void test_damaged(void **state) {
    (void)state;
    state_damaged(GOLDEN "state.pth");
    state_damaged(GOLDEN "state_legacy.pth");
}

static void test_starved(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) state_starved(good[i]);
}

/* --- what may be in a state dictionary --- */

#define VECTOR REBUILD STORAGE("0", "\x03") "K\0K\x03\x85K\x01\x85" REST
static const float three[] = {0, 1, 2};

static void test_dictionaries(void **state) {
    (void)state;
    /* Attributes of an ordered dictionary, and pairs as Python 2 wrote them. */
    check_values(LEGACY("\x80\x02"
                        "ccollections\nOrderedDict\n)R" NAME("a") VECTOR "s}U\x09_metadata}sb.",
                        3),
                 3, three);
    check_values(LEGACY("\x80\x02"
                        "ccollections\nOrderedDict\n]]" NAME("a") "a" VECTOR "aa\x85R.",
                        3),
                 3, three);
    /* A parameter; numbers beside it; a key that is no text. */
    check_values(
        LEGACY("\x80\x02}" NAME("a") "ctorch._utils\n_rebuild_parameter\n" VECTOR
                                     "\x88}\x87Rs" NAME("b") "G?\xf0\0\0\0\0\0\0sK\x01" VECTOR "s.",
               3),
        3, three);
    /* What is neither is kept aside: objects of any class, with arguments, state and items, NumPy's
     * scalars and arrays, sets, functions, a string too long for a name. */
    check_values(
        LEGACY(
            "\x80\x02}" NAME("a") VECTOR "s" NAME("n") "cargparse\nNamespace\n)\x81}" NAME(
                "x") "K\x01sb"
                     "s" NAME("s") "c__builtin__\nset\n]K\x01"
                                   "a\x85R"
                                   "s" NAME(
                                       "d") "ctorch\ndevice\nU\x03"
                                            "cpu\x85R"
                                            "s" NAME("i") "(cm\nOld\nK\x01o}bs" NAME(
                                                "j") "(K\x01im\nOld\ns" NAME("k") "cm\nK\n)}"
                                                                                  "\x92s" NAME(
                                                                                      "f") "cm\nf"
                                                                                           "\ns.",
            3),
        3, three);
    /* Another class of dictionary is read as one; a default dictionary's factory is no part of it.
     */
    check_values(LEGACY("\x80\x02"
                        "cm\nDict\n)R" NAME("a") VECTOR "s}b.",
                        3),
                 3, three);
    check_values(LEGACY("\x80\x02"
                        "ccollections\ndefaultdict\nc__builtin__\nint\n\x85R" NAME("a") VECTOR "s.",
                        3),
                 3, three);
    /* A parameter with attributes, and a tensor of a subclass. */
    check_values(
        LEGACY("\x80\x02}" NAME("a") "ctorch._utils\n_rebuild_parameter_with_state\n(" VECTOR
                                     "\x88}}tRs.",
               3),
        3, three);
    check_values(LEGACY("\x80\x02}" NAME("a") "ctorch._tensor\n_rebuild_from_type_v2\n("
                                              "ctorch._utils\n_rebuild_tensor_v2\ncm\nT\n(" STORAGE(
                                                  "0", "\x03") "K\0K\x03\x85K\x01\x85\x89}t}tRs.",
                        3),
                 3, three);
    /* One level down, past a tensor beside it. */
    check_values(LEGACY("\x80\x02}" NAME("r") VECTOR "sU\x05model}" NAME("a") VECTOR "ss.", 3), 3,
                 three);
    check_values(LEGACY("\x80\x02}U\x10model_state_dict}" NAME("a") VECTOR "ss.", 3), 3, three);
    check_values(LEGACY("\x80\x02}U\x03net}" NAME("a") VECTOR "ss.", 3), 3, three);
    check_values(
        LEGACY("\x80\x02K\x01}" NAME("x") "}" NAME("y") "}" NAME("a") VECTOR "sss\x86.", 3), 3,
        three);
    /* Prefixes of wrappers around wrappers. */
    check_values(LEGACY("\x80\x02}U\x12module._orig_mod.a" VECTOR "s.", 3), 3, three);
    /* A list that holds itself, a counter, a torch.Size and a dtype are passed over. */
    check_values(
        LEGACY(
            "\x80\x02}" NAME("l") "]q\0h\0as" NAME("c") "ccollections\nCounter\n}\x85Rs" NAME(
                "s") "ctorch\nSize\nK\x02K\x03\x86\x85Rs" NAME("d") "ctorch\nfloat32\ns" NAME("a")
                VECTOR "s.",
            3),
        3, three);
}

static void test_views(void **state) {
    (void)state;
    const float transposed[] = {1, 4, 2, 5, 3, 6}, repeated[] = {2, 2, 2}, one[] = {4};
    const float viewed[] = {3, 4};
    check_values(LEGACY("\x80\x02}" NAME("a") REBUILD STORAGE(
                            "0", "\x07") "K\x01K\x03K\x02\x86K\x01K\x03\x86" REST "s.",
                        7),
                 6, transposed);
    check_values(LEGACY("\x80\x02}" NAME("a")
                            REBUILD STORAGE("0", "\x07") "K\x02K\x03\x85K\0\x85" REST "s.",
                        7),
                 3, repeated);
    check_values(LEGACY("\x80\x02}" NAME("a") REBUILD STORAGE("0", "\x07") "K\x04))" REST "s.", 7),
                 1, one);
    /* A dimension of one may have any stride. */
    check_values(
        LEGACY("\x80\x02}" NAME("a") REBUILD STORAGE(
                   "0", "\x07") "K\x04K\x01\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85" REST
                                "s.",
               7),
        1, one);
    /* The view of a storage that the oldest files have. */
    check_values(LEGACY("\x80\x02}" NAME("a") REBUILD "(U\x07storagectorch\nFloatStorage\nU\x01"
                                                      "0U\x03"
                                                      "cpuK\x07(U\x01vK\x02K\x05ttQ"
                                                      "K\x01K\x02\x85K\x01\x85" REST "s.",
                        7),
                 2, viewed);
}

/* A storage of several pieces, viewed whole, in part, and across. */
static void test_large_storage(void **state) {
    (void)state;
    enum { ROWS = 300, COLUMNS = 1000 };
#define LARGE                                                                                      \
    "(U\x07storagectorch\nFloatStorage\nU\x01"                                                     \
    "0U\x03"                                                                                       \
    "cpuJ\xe0\x93\x04\0tQ"
    static const char contiguous[] = "\x80\x02}" NAME("w") REBUILD LARGE
        "K\0M\x2c\x01M\xe8\x03\x86M\xe8\x03K\x01\x86" REST "s" NAME("p") REBUILD LARGE
        "J\x01\0\x01\0J\0\0\x03\0\x85K\x01\x85" REST "s.";
    static const char across[] = "\x80\x02}" NAME("w") REBUILD LARGE
        "K\0M\x2c\x01M\xe8\x03\x86M\xe8\x03K\x01\x86" REST "s" NAME("p") REBUILD LARGE
        "J\x01\0\x01\0J\0\0\x03\0\x85K\x01\x85" REST "s" NAME("t") REBUILD LARGE
        "K\0M\xe8\x03M\x2c\x01\x86K\x01M\xe8\x03\x86" REST "s.";
    for (int k = 0; k < 2; k++) {
        TensorList list;
        state_load(k ? LEGACY(across, ROWS * COLUMNS) : LEGACY(contiguous, ROWS * COLUMNS), &list);
        assert_int_equal(list.count, 2 + k);
        const float *w = tensors_find(&list, "w")->data, *p = tensors_find(&list, "p")->data;
        for (int i = 0; i < ROWS * COLUMNS; i++) assert_true(w[i] == (float)i);
        for (int i = 0; i < 0x30000; i++) assert_true(p[i] == (float)(i + 0x10001));
        const float *t = k ? tensors_find(&list, "t")->data : NULL;
        for (int i = 0; t && i < COLUMNS; i++)
            for (int j = 0; j < ROWS; j++) assert_true(t[i * ROWS + j] == (float)(j * COLUMNS + i));
        tensors_free(&list);
    }
}

/* --- refusals --- */

#define ONLY " (only tensors are read from a .pth file)"
#define WAY_OUT                                                                                    \
    "in PyTorch, save the weights by torch.save({\"state_dict\": model.state_dict()}, FILE)"
#define DAMAGED "its pickle is damaged near byte "

static void test_refuses_to_run(void **state) {
    (void)state;
    REFUSED("cos\nsystem\nU\x02ls\x85R", "refuses to run 'os.system'" ONLY);
    REFUSED("U\x08"
            "builtinsU\x04"
            "eval\x93)R",
            "refuses to run 'builtins.eval'" ONLY);
    REFUSED("ctorch\nload\n)R", "refuses to run 'torch.load'" ONLY);
    REFUSED(
        "ctorch.serialization\n_get_layout\n)R",
        "holds an object of 'torch.serialization._get_layout' instead of named tensors;  " WAY_OUT);
    REFUSED("(U\x02lsios\nsystem\n", "refuses to run 'os.system'" ONLY);
    REFUSED("ctorch\nFloatStorage\n)R", "refuses to run 'torch.FloatStorage'" ONLY);
    REFUSED("ctorch\nComplexFloatStorage\n",
            "holds a tensor of type 'torch.ComplexFloatStorage', which is not supported");
    REFUSED("ccollections\nOrderedDict\n)\x82",
            "its pickle has opcode 0x82 at byte 53, which no tensor needs");
    REFUSED("c\x1b[2J\nx\n", "holds an object of '?[2J.x' instead of named tensors;  " WAY_OUT);
    /* However deep, and whatever else there is. */
    REFUSED("}" NAME("a") "}" NAME("b") "]cposix\nsystem\nU\x02ls\x85Rass",
            "refuses to run 'posix.system'" ONLY);
}

static void test_refuses_damage(void **state) {
    (void)state;
    REFUSED("0", DAMAGED "28: it takes a value where there is none");
    REFUSED("t", DAMAGED "28: it ends a list that was never begun");
    REFUSED("K\x01(s", DAMAGED "31: it fills a container with nothing");
    REFUSED("K\x01K\x01"
            "a",
            DAMAGED "32: it fills a value that is not a container of that kind");
    REFUSED("}(K\x01u", DAMAGED "32: a key has no value");
    REFUSED("h\x05", DAMAGED "29: it recalls a value that it never stored");
    REFUSED("Nr\xff\xff\x0f\0", DAMAGED "33: it numbers its memory out of order");
    REFUSED("K\x01)R", DAMAGED "31: it calls a value that is not a function");
    REFUSED("X\xff\xff\xff\x7f", "is cut off: it ends inside its pickle");
    REFUSED("X\xff\xff\x0f\0", "is cut off: it ends inside its pickle");
    REFUSED("\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "is cut off: it ends inside its pickle");
    REFUSED("\x80\x09", "its pickle has protocol 9, 2 to 5 are supported");
    REFUSED("NQ", "refers to something stored outside its pickle that is not a storage");
    REFUSED("K\x05", "holds no named tensors; " WAY_OUT);
    REFUSED("}", "holds no named tensors; " WAY_OUT);
    char deep[1000];
    memset(deep, '(', sizeof deep);
    state_refused(legacy(deep, sizeof deep, -1),
                  DAMAGED "282: containers are nested more deeply than a list of tensors is");
    const char *other = scratch_path("other.pth");
    scratch_write(other, PIECE("\x80\x02K\x01.\x80\x02K\x01."));
    state_refused(other, "a pickle that torch.save did not write");
}

/* A small file whose values would take gigabytes: copies of a dictionary, one after another. */
static void test_refuses_bombs(void **state) {
    (void)state;
    enum { PAIRS = 2000, COPIES = 4000 };
    Buffer b = {0};
    add(&b, PIECE("\x80\x02"
                  "ccollections\nCounter\nq\0}("));
    for (int i = 0; i < PAIRS; i++) add(&b, PIECE("NN"));
    add(&b, PIECE("uq\1"));
    for (int i = 0; i < COPIES; i++) add(&b, PIECE("h\0h\1\x85R"));
    add(&b, PIECE("."));
    const char *path = legacy(b.bytes, b.size, -1);
    Error e = {0};
    TensorList list;
    size_t before = memory_count().in_use;
    assert_int_equal(weights_load(path, NULL, device, &list, &e), -1);
    assert_non_null(strstr(e.text,
                           "the values of its pickle need more than 128 bytes of memory for "
                           "each of its"));
    assert_int_equal(memory_count().in_use, before);
    assert_true(memory_count().peak - before < PICKLE_PER_BYTE * b.size + (2 << 20));
    buffer_free(&b);
}

#define TENSOR(offset, shape, strides)                                                             \
    "\x80\x02}" NAME("a") REBUILD STORAGE("0", "\x03") offset shape strides REST "s."

static void test_refuses_tensors(void **state) {
    (void)state;
    state_refused(LEGACY(TENSOR("K\x01", "K\x03\x85", "K\x01\x85"), 3),
                  "a tensor [3] reaches outside its storage '0' of 3 elements");
    state_refused(LEGACY(TENSOR("K\0", "K\x02K\x02\x86", "K\x02K\x01\x86"), 3),
                  "a tensor [2,2] reaches outside its storage '0' of 3 elements");
    state_refused(
        LEGACY(TENSOR("K\0", "K\x02\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"), 3),
        "a tensor [2] reaches outside its storage '0' of 3 elements");
    state_refused(LEGACY(TENSOR("J\xff\xff\xff\xff", "K\x01\x85", "K\x01\x85"), 3),
                  "holds a tensor that is not made from a storage");
    state_refused(LEGACY(TENSOR("K\0", "K\x02\x85", "J\xff\xff\xff\xff\x85"), 3),
                  "holds a tensor whose shape or strides are not natural numbers");
    state_refused(LEGACY(TENSOR("K\0", "K\x02\x85", ")"), 3),
                  "holds a tensor of 1 dimensions with 0 strides");
    state_refused(LEGACY(TENSOR("K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", ")"), 3),
                  "holds a tensor of 9 dimensions, at most 8 are supported");
    /* One element, seen many times. */
    state_refused(LEGACY(TENSOR("K\0", "J\0\0\0\x7f\x85", "K\0\x85"), 3),
                  "its tensors would take far more than the 155 bytes of the file");
    state_refused(
        LEGACY(TENSOR("K\0", "J\0\0\0\x7fJ\0\0\0\x7fJ\0\0\0\x7f\x87", "K\0K\0K\0\x87"), 3),
        "a tensor of storage '0': has a shape [2130706432,2130706432,2130706432] of more "
        "bytes than can be counted");
    state_refused(LEGACY(TENSOR("K\0", "K\x03\x85", "K\x01\x85"), 2),
                  "storage '0' has 2 elements, its tensors say 3");
    state_refused(LEGACY(TENSOR("K\0", "K\x03\x85", "K\x01\x85"), -1),
                  "storage '0' is not in the file");
}

static void test_archives(void **state) {
    (void)state;
    static const char pickle[] = "\x80\x02}" NAME("a") VECTOR "s.";
    Member m[] = {{"x/data.pkl", pickle, sizeof pickle - 1, 0},
                  {"x/data/0", three, sizeof three, 0},
                  {"x/byteorder", "little", 6, 0}};
    check_values(archive(m, 3), 3, three);
    check_values(archive(m, 2), 3, three);
    m[0].name = "data.pkl", m[1].name = "data/0";
    check_values(archive(m, 2), 3, three);
    state_refused(archive(m, 1), "the archive has no 'data/0'");
    m[1].n = 8;
    state_refused(archive(m, 2), "storage '0' has 8 bytes, 3 elements of f32 want 12");
    m[1].n = 12, m[2] = (Member){"byteorder", "big", 3, 0};
    state_refused(archive(m, 3), "its byte order is not 'little', the only one supported");
    m[2] = (Member){"y/data.pkl", pickle, sizeof pickle - 1, 0};
    state_refused(archive(m, 3), "the archive has more than one data.pkl");
    char *zeros = calloc(1 << 20, 1);
    m[0] = (Member){"data.pkl", zeros, 1 << 20, 1};
    state_refused(archive(m, 2), "'data.pkl' in the archive is compressed or encrypted; torch.save "
                                 "writes entries as they are");
    free(zeros);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_to_run),  cmocka_unit_test(test_refuses_damage),
        cmocka_unit_test(test_refuses_tensors), cmocka_unit_test(test_good_files),
        cmocka_unit_test(test_dictionaries),    cmocka_unit_test(test_views),
        cmocka_unit_test(test_archives),        cmocka_unit_test(test_large_storage),
        cmocka_unit_test(test_damaged),         cmocka_unit_test(test_starved),
        cmocka_unit_test(test_refuses_bombs),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
