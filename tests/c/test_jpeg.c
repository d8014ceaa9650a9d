/* JPEG files: CMYK, what a file claims to be, scans that are missing or too many, and damage. */
#include "images.h"

#include <jpeglib.h>

#include "base/buffer.h"

/* --- CMYK --- */

/* The pixels of `path` are those of `wanted` (Pillow 13's convert("RGB")), and grey follows RGB. */
static void check_inks(const char *path, const char *wanted) {
    Image image, rgb;
    uint32_t W, H;
    int C;
    Error e = {0};
    load(path, &as_is, &image);
    load(wanted, &as_is, &rgb);
    assert_true(image.W == rgb.W && image.H == rgb.H && image.C == 3 && rgb.C == 3);
    assert_memory_equal(image.pixels, rgb.pixels, (size_t)3 * rgb.W * rgb.H);
    assert_int_equal(image_size(path, &W, &H, &C, &e), 0);
    assert_true(W == rgb.W && H == rgb.H && C == 3);
    image_free(&image);
    image_free(&rgb);
    load(path, &(ImageWish){.channels = 1}, &image);
    load(wanted, &(ImageWish){.channels = 1}, &rgb);
    assert_true(image.C == 1);
    assert_memory_equal(image.pixels, rgb.pixels, (size_t)rgb.W * rgb.H);
    image_free(&image);
    image_free(&rgb);
}

static void test_cmyk(void **state) {
    (void)state;
    size_t n;
    check_inks(GOLDEN "cmyk.jpg", GOLDEN "cmyk_rgb.png");
    check_inks(GOLDEN "ycck.jpg", GOLDEN "ycck_rgb.png");
    /* Without Adobe's marker the inks are taken for inverted all the same. */
    const char *path = scratch_path("plain.jpg");
    unsigned char *bytes = scratch_read(GOLDEN "cmyk.jpg", &n);
    assert_memory_equal(bytes + 2,
                        "\xff\xee\0\x0e"
                        "Adobe",
                        9);
    memmove(bytes + 2, bytes + 18, n - 18);
    scratch_write(path, bytes, n - 16);
    free(bytes);
    check_inks(path, GOLDEN "cmyk_rgb.png");
}

/* --- files made here --- */

/* How a file is coded. */
typedef struct Form {
    int C;
    bool progressive, arithmetic;
    const jpeg_scan_info *scans; /* NULL: libjpeg's own */
    int n_scans, level;          /* level: of every pixel; -1: a pattern */
} Form;

static const char *make_jpeg(const char *name, uint32_t side, Form form) {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    const char *path = scratch_path(name);
    unsigned char *row = malloc((size_t)side * (size_t)form.C);
    FILE *f = fopen(path, "wb");
    assert_true(f && row);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, f);
    jpeg.image_width = jpeg.image_height = side;
    jpeg.input_components = form.C;
    jpeg.in_color_space = form.C == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg.optimize_coding = !form.arithmetic;
    jpeg.arith_code = form.arithmetic;
    if (form.progressive) jpeg_simple_progression(&jpeg);
    if (form.scans) {
        jpeg.scan_info = form.scans;
        jpeg.num_scans = form.n_scans;
    }
    jpeg_start_compress(&jpeg, TRUE);
    for (uint32_t y = 0; y < side; y++) {
        for (uint32_t i = 0; i < side * (uint32_t)form.C; i++)
            row[i] = (unsigned char)(form.level >= 0 ? (unsigned)form.level : i * 7 + y * y);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(f);
    free(row);
    return path;
}

static void test_arithmetic(void **state) {
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++)
        refused(
            make_jpeg("arith.jpg", 32,
                      (Form){.C = 3, .arithmetic = true, .progressive = progressive, .level = -1}),
            "is a JPEG with arithmetic coding, which cannot be checked for damage; save it as "
            "an ordinary JPEG");
}

/* The place of the n-th marker 0xff, `code` in the bytes, from 1. */
static size_t marker(const unsigned char *bytes, size_t n, unsigned char code, int which) {
    for (size_t i = 0; i + 1 < n; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == code && --which == 0) return i;
    fail_msg("no marker");
    return 0;
}

static void test_jpeg_claims(void **state) {
    (void)state;
    size_t n;
    const char *path = scratch_path("claim.jpg");
    unsigned char *bytes = scratch_read(GOLDEN "base420.jpg", &n);
    size_t frame = marker(bytes, n, 0xc0, 1); /* then length (2), bits, height (2), width (2) */
    memset(bytes + frame + 5, 0x80, 4);
    scratch_write(path, bytes, n);
    refused(path, "an image of 32896 x 32896 pixels; sides of 1 to 65535 and at most 134217728 "
                  "pixels are supported");
    bytes[frame + 4] = 12;
    scratch_write(path, bytes, n);
    refused(path, "is a JPEG of 12 bits; 8 are supported");
    free(bytes);
}

/* The first scan, which sets coefficients, said over and over: each costs a pass over the image. */
static void test_jpeg_scans(void **state) {
    (void)state;
    enum { COPIES = 600 };
    size_t n;
    Buffer b = {0};
    Error e = {0};
    Image image;
    const char *path = scratch_path("scans.jpg");
    unsigned char *bytes = scratch_read(GOLDEN "progressive.jpg", &n);
    size_t scan = marker(bytes, n, 0xda, 1), end = marker(bytes, n, 0xc4, 3);
    assert_true(end > scan);
    buffer_append(&b, bytes, scan, &e);
    for (int i = 0; i < COPIES; i++) buffer_append(&b, bytes + scan, end - scan, &e);
    buffer_append(&b, bytes + end, n - end, &e);
    free(bytes);
    scratch_write(path, b.bytes, b.size);
    buffer_free(&b);
    assert_int_equal(image_load(path, &as_is, &image, &e), -1);
    assert_non_null(strstr(e.text, ": is a JPEG of more than 500 scans"));
}

/* Pixels that are lost are an error even where the file has a proper end. */
static void test_jpeg_lost(void **state) {
    (void)state;
    size_t n;
    const char *path = scratch_path("lost.jpg");
    unsigned char *bytes = scratch_read(GOLDEN "grey.jpg", &n);
    /* No code consists of ones alone. libjpeg looks only near the end of a file. */
    for (size_t i = n - 300; i < n - 200; i += 2) memcpy(bytes + i, "\xff\0", 2);
    scratch_write(path, bytes, n);
    refused(path, "is damaged: Corrupt JPEG data: bad Huffman code");
    memcpy(bytes + n / 2, "\xff\xd9", 2);
    scratch_write(path, bytes, n / 2 + 2);
    refused(path, "is damaged: Corrupt JPEG data: premature end of data segment");
    free(bytes);
}

/* Bytes between markers and after the end are passed over, as every reader does. */
static void test_jpeg_harmless(void **state) {
    (void)state;
    size_t n;
    const char *path = scratch_path("harmless.jpg");
    unsigned char *bytes = scratch_read(GOLDEN "base444.jpg", &n), more[32768];
    Image plain, image;
    size_t frame = marker(bytes, n, 0xc0, 1);
    memcpy(more, bytes, frame);
    memcpy(more + frame, "xyz", 3);
    memcpy(more + frame + 3, bytes + frame, n - frame);
    memcpy(more + n + 3, "after", 5);
    free(bytes);
    scratch_write(path, more, n + 8);
    load(path, &as_is, &image);
    load(GOLDEN "base444.jpg", &as_is, &plain);
    assert_memory_equal(image.pixels, plain.pixels, 3 * 113 * 75);
    image_free(&image);
    image_free(&plain);
}

/* A file that ends well, but before all of its scans came. */
static void test_jpeg_missing_scans(void **state) {
    (void)state;
    static const jpeg_scan_info of_each[] = {
        {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    const Form forms[] = {{.C = 3, .progressive = true, .level = -1},
                          {.C = 1, .progressive = true, .level = -1},
                          {.C = 3, .scans = of_each, .n_scans = 3, .level = -1}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n;
        Image image;
        const char *path = make_jpeg("scans.jpg", 40, forms[i]);
        load(path, &as_is, &image);
        image_free(&image);
        unsigned char *bytes = scratch_read(path, &n);
        int scans = 0;
        for (size_t k = 0; k + 1 < n; k++) scans += bytes[k] == 0xff && bytes[k + 1] == 0xda;
        assert_true(scans >= 3);
        for (int last = 2; last <= scans; last++) {
            size_t at = marker(bytes, n, 0xda, last);
            unsigned char kept[2];
            memcpy(kept, bytes + at, 2);
            memcpy(bytes + at, "\xff\xd9", 2);
            scratch_write(path, bytes, at + 2);
            memcpy(bytes + at, kept, 2);
            refused(path, "is truncated: its last scans are missing");
        }
        free(bytes);
    }
}

/* An image of one level takes next to no bytes, and is whole. */
static void test_jpeg_plain(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        Image image;
        load(make_jpeg("plain.jpg", 1600,
                       (Form){.C = i % 2 ? 3 : 1, .progressive = i / 2, .level = 255}),
             &as_is, &image);
        assert_true(image.pixels[0] == 255 && image.W == 1600);
        image_free(&image);
    }
}

/* The work for one byte has a bound: scans that say nothing of a large image are few bytes each. */
static void test_jpeg_work(void **state) {
    (void)state;
    enum { COPIES = 400 };
    size_t n;
    Buffer b = {0};
    Error e = {0};
    Image image;
    const char *path =
        make_jpeg("work.jpg", 3000, (Form){.C = 1, .progressive = true, .level = 128});
    unsigned char *bytes = scratch_read(path, &n);
    size_t tables = marker(bytes, n, 0xc4, 2), end = marker(bytes, n, 0xc4, 3);
    buffer_append(&b, bytes, tables, &e);
    for (int i = 0; i < COPIES; i++) buffer_append(&b, bytes + tables, end - tables, &e);
    buffer_append(&b, bytes + end, n - end, &e);
    free(bytes);
    scratch_write(path, b.bytes, b.size);
    buffer_free(&b);
    assert_int_equal(image_load(path, &as_is, &image, &e), -1);
    assert_non_null(strstr(e.text, ": is damaged: "));
    assert_non_null(strstr(e.text, " scans of 3000 x 3000 pixels"));
}

/* A file too small for its pixels is refused before memory is taken for them. */
static void test_jpeg_bytes(void **state) {
    (void)state;
    size_t n;
    const char *path = scratch_path("large.jpg");
    unsigned char *bytes = scratch_read(GOLDEN "grey.jpg", &n);
    size_t frame = marker(bytes, n, 0xc0, 1);
    memcpy(bytes + frame + 5, "\x20\0\x20\0", 4);
    scratch_write(path, bytes, n);
    free(bytes);
    refused(path, "is truncated: 5870 bytes cannot hold 8192 x 8192 pixels");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmyk),
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_jpeg_claims),
        cmocka_unit_test(test_jpeg_scans),
        cmocka_unit_test(test_jpeg_lost),
        cmocka_unit_test(test_jpeg_harmless),
        cmocka_unit_test(test_jpeg_missing_scans),
        cmocka_unit_test(test_jpeg_plain),
        cmocka_unit_test(test_jpeg_work),
        cmocka_unit_test(test_jpeg_bytes),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
