/* What a feed refuses, and a pass without memory (tests/lua/feed_spec.lua has the rest). */
#include "scratch.h"

#include "io/feed.h"
#include "starve.h"

static Error e;

static Feed *make(void) {
    Feed *f;
    const FeedSpec spec = {.C = 1, .H = 2, .W = 2};
    if (feed_new(&f, &spec, &e) != 0) fail_msg("%s", e.text);
    return f;
}

static Tensor tensor_of(Dtype t, int ndim, const int64_t *shape) {
    Tensor x;
    if (tensor_new(&x, device, t, ndim, shape, &e) != 0) fail_msg("%s", e.text);
    memset(x.data, 0, tensor_bytes(&x));
    return x;
}

/* Three images, the bytes 0 .. 11, of classes 5, 6, 7. */
static void fill(Feed *f) {
    const int64_t labels[] = {5, 6, 7};
    Tensor x = tensor_of(DTYPE_U8, 4, (const int64_t[]){3, 1, 2, 2});
    for (int i = 0; i < 12; i++) ((unsigned char *)x.data)[i] = (unsigned char)i;
    if (feed_add_pixels(f, &x, labels, &e) != 0) fail_msg("%s", e.text);
    tensor_free(&x);
}

#define REFUSED(call, message)                                                                     \
    do {                                                                                           \
        assert_int_equal(call, -1);                                                                \
        assert_string_equal(e.text, message);                                                      \
    } while (0)

static void test_shapes(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{0, 2, 2},
                                        {1, 0, 2},
                                        {1, 2, -2},
                                        {1LL << 40, 1LL << 40, 1},
                                        {1, 1LL << 32, 1LL << 32},
                                        {1, 1LL << 31, 1LL << 31}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        Feed *f;
        const FeedSpec spec = {.C = shapes[i][0], .H = shapes[i][1], .W = shapes[i][2]};
        assert_int_equal(feed_new(&f, &spec, &e), -1);
        assert_null(f);
        assert_non_null(strstr(e.text, "a feed's images cannot be ["));
    }
}

static void test_lists(void **state) {
    (void)state;
    Feed *f = make();
    const int64_t none[1] = {0}, order[] = {0, 1, 2};
    REFUSED(feed_add_raw(f, "x", DTYPE_I64, 0, 1, none, &e), "raw images are u8 or f32, not i64");
    REFUSED(feed_add_raw(f, "x", DTYPE_U8, 0, 0, none, &e), "a feed cannot take 0 images more");
    REFUSED(feed_add_raw(f, "x", DTYPE_U8, 0, INT64_MAX / 2, none, &e),
            "a feed cannot take 4611686018427387903 images more");
    static const int64_t shapes[][4] = {{1, 2, 2, 2}, {1, 1, 3, 2}, {1, 1, 2, 3}};
    for (int i = 0; i < 5; i++) {
        Tensor x = i < 3    ? tensor_of(DTYPE_F32, 4, shapes[i])
                   : i == 3 ? tensor_of(DTYPE_F32, 3, (const int64_t[]){1, 2, 2})
                            : tensor_of(DTYPE_F64, 4, (const int64_t[]){1, 1, 2, 2});
        assert_int_equal(feed_add_pixels(f, &x, none, &e), -1);
        assert_non_null(strstr(e.text, "the images must be u8 or f32 [M,1,2,2], got "));
        tensor_free(&x);
    }
    fill(f);
    if (feed_start(f, order, 3, 1, NULL, 1, &e) != 0) fail_msg("%s", e.text);
    REFUSED(feed_add_file(f, "x", 0, &e), "cannot add images to a feed during a pass");
    feed_free(f);
    feed_free(NULL);
}

static void test_starts(void **state) {
    (void)state;
    Feed *f = make();
    const int64_t order[] = {0, 1, 3}, before[] = {-1};
    const Augment left = {.shift = -1}, right = {.shift = 1025};
    fill(f);
    static const int64_t bad[][3] = {{0, 1, 1}, {1, -1, 1}, {1, 1, 0}, {1, 1, 65}};
    for (int i = 0; i < 4; i++)
        REFUSED(feed_start(f, order, bad[i][1], bad[i][0], NULL, (int)bad[i][2], &e),
                "a pass needs a batch of 1 or more and 1 to 64 threads");
    REFUSED(feed_start(f, order, 1, 1, &left, 1, &e), "the shift must be 0 to 1024, got -1");
    REFUSED(feed_start(f, order, 1, 1, &right, 1, &e), "the shift must be 0 to 1024, got 1025");
    REFUSED(feed_start(f, order, 3, 1, NULL, 1, &e), "the order names image 3 of 3");
    REFUSED(feed_start(f, before, 1, 1, NULL, 1, &e), "the order names image -1 of 3");
    REFUSED(feed_start(f, order, 1, INT64_MAX / 2, NULL, 1, &e),
            "a batch of 4611686018427387903 images is too large");
    REFUSED(feed_start(f, order, 1, INT64_MAX / 4, NULL, 1, &e),
            "a batch of 2305843009213693951 images is too large");
    feed_free(f);
}

static void test_batches(void **state) {
    (void)state;
    Feed *f = make();
    bool more;
    const int64_t order[] = {2, 0};
    static const int64_t shapes[][4] = {{1, 1, 2, 2}, {2, 2, 1, 2}, {2, 1, 1, 4}, {2, 1, 2, 3}};
    Tensor x = tensor_of(DTYPE_F32, 4, (const int64_t[]){2, 1, 2, 2});
    Tensor y = tensor_of(DTYPE_I64, 1, (const int64_t[]){2});
    fill(f);
    if (feed_start(f, order, 2, 2, NULL, 2, &e) != 0) fail_msg("%s", e.text);
    for (int i = 0; i < 6; i++) {
        Tensor bad = i < 4    ? tensor_of(DTYPE_F32, 4, shapes[i])
                     : i == 4 ? tensor_of(DTYPE_F64, 4, x.shape)
                              : tensor_of(DTYPE_F32, 2, (const int64_t[]){2, 4});
        assert_int_equal(feed_next(f, &bad, &y, &more, &e), -1);
        assert_non_null(strstr(e.text, "the batch of images must be f32 [2,1,2,2], got "));
        tensor_free(&bad);
    }
    for (int i = 0; i < 3; i++) {
        Tensor bad = i == 0   ? tensor_of(DTYPE_F32, 1, (const int64_t[]){2})
                     : i == 1 ? tensor_of(DTYPE_I64, 2, (const int64_t[]){2, 1})
                              : tensor_of(DTYPE_I64, 1, (const int64_t[]){3});
        assert_int_equal(feed_next(f, &x, &bad, &more, &e), -1);
        tensor_free(&bad);
    }
    if (feed_next(f, &x, &y, &more, &e) != 0) fail_msg("%s", e.text);
    assert_true(more && ((float *)x.data)[0] == 8.0f / 255 && ((int64_t *)y.data)[1] == 5);
    assert_int_equal(feed_next(f, &x, &y, &more, &e), 0);
    assert_false(more);
    tensor_free(&x);
    tensor_free(&y);
    feed_free(f);
}

/* The first of a pass's bad images is named, whoever met another one before. */
static void test_bad_files(void **state) {
    (void)state;
    bool more;
    static int64_t order[64], labels[64];
    Tensor x = tensor_of(DTYPE_F32, 4, (const int64_t[]){1, 1, 2, 2});
    Tensor y = tensor_of(DTYPE_I64, 1, (const int64_t[]){1});
    char wanted[256];
    const char *wide = scratch_path("wide.png"), *high = scratch_path("high.png");
    assert_int_equal(image_save_png(wide, (const unsigned char[6]){0}, 1, 2, 3, &e), 0);
    assert_int_equal(image_save_png(high, (const unsigned char[6]){0}, 1, 3, 2, &e), 0);
    for (int i = 0; i < 2; i++) {
        Feed *f = make();
        assert_int_equal(feed_add_file(f, i ? high : wide, 1, &e), 0);
        assert_int_equal(feed_start(f, order, 1, 1, NULL, 1, &e), 0);
        snprintf(wanted, sizeof wanted, "%s: the image is %s (width x height), wanted 2 x 2",
                 i ? high : wide, i ? "2 x 3" : "3 x 2");
        REFUSED(feed_next(f, &x, &y, &more, &e), wanted);
        feed_free(f);
    }
    Feed *f = make();
    snprintf(wanted, sizeof wanted, "%s: No such file or directory", scratch_path("absent"));
    assert_int_equal(feed_add_raw(f, scratch_path("absent"), DTYPE_F32, 0, 64, labels, &e), 0);
    for (int i = 0; i < 64; i++) order[i] = i;
    assert_int_equal(feed_start(f, order, 64, 1, NULL, 8, &e), 0);
    for (int i = 0; i < 3; i++) REFUSED(feed_next(f, &x, &y, &more, &e), wanted);
    feed_free(f);
    tensor_free(&x);
    tensor_free(&y);
}

/* A feed of one image of each kind, and a pass over them. */
static int pass(Error *error) {
    Feed *f = NULL;
    bool more = true;
    const FeedSpec spec = {.C = 1, .H = 2, .W = 2};
    const int64_t order[] = {0, 1}, shape[] = {1, 1, 2, 2};
    Tensor x = {0}, y = {0}, pixels = {0};
    const char *raw = scratch_path("raw");
    int failed = tensor_new(&x, device, DTYPE_F32, 4, shape, error) ||
                 tensor_new(&y, device, DTYPE_I64, 1, shape, error) ||
                 tensor_new(&pixels, device, DTYPE_U8, 4, shape, error) ||
                 feed_new(&f, &spec, error) || feed_add_raw(f, raw, DTYPE_U8, 0, 1, order, error) ||
                 feed_add_pixels(f, &pixels, order, error) ||
                 feed_start(f, order, 2, 1, NULL, 2, error);
    while (!failed && more) failed = feed_next(f, &x, &y, &more, error);
    feed_free(f);
    tensor_free(&x);
    tensor_free(&y);
    tensor_free(&pixels);
    return failed ? -1 : 0;
}

static void test_starved(void **state) {
    (void)state;
    scratch_write(scratch_path("raw"), "1234", 4);
    starve(pass, 20);
}

/* More images than the first rooms for labels and sources have. */
static void test_many(void **state) {
    (void)state;
    enum { MANY = 700 };
    static int64_t labels[MANY];
    Feed *f = make();
    const char *raw = scratch_path("many");
    for (int i = 0; i < MANY; i++) labels[i] = i;
    assert_int_equal(feed_add_raw(f, raw, DTYPE_U8, 0, MANY, labels, &e), 0);
    for (int i = 0; i < MANY; i++) assert_int_equal(feed_add_file(f, raw, i, &e), 0);
    assert_int_equal(feed_count(f), 2 * MANY);
    feed_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),    cmocka_unit_test(test_lists),
        cmocka_unit_test(test_starts),    cmocka_unit_test(test_batches),
        cmocka_unit_test(test_bad_files), cmocka_unit_test(test_starved),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
