/* WebP, BMP and PNM files: pixels as Pillow 13 makes them, what is refused, and damage. The golden
 * file name.bmp has its expected pixels in name_bmp.png, which is grey where Pillow's mode is. */
#include "images.h"

#define FORMATS "tests/golden/formats/"

static const char *const files[] = {
    "lossy.webp",  "lossless.webp", "alpha.webp",  "alpha_lossy.webp", "grey.webp", "b1.bmp",
    "b4_down.bmp", "b8.bmp",        "b8_grey.bmp", "b24.bmp",          "b32.bmp",   "b555.bmp",
    "b565.bmp",    "masks32.bmp",   "os2.bmp",     "p1.pbm",           "p2.pgm",    "p3.ppm",
    "p4.pbm",      "p5.pgm",        "p6.ppm",      "p6_most.ppm",      "p6_16.ppm"};
enum { FILES = sizeof files / sizeof *files };

static void test_pixels(void **state) {
    (void)state;
    for (int i = 0; i < FILES; i++) {
        char path[128], wanted[128];
        Image image, expected;
        uint32_t W, H;
        int C;
        Error e = {0};
        snprintf(path, sizeof path, FORMATS "%s", files[i]);
        snprintf(wanted, sizeof wanted, FORMATS "%s.png", files[i]);
        *strchr(wanted + strlen(FORMATS), '.') = '_';
        load(path, &as_is, &image);
        load(wanted, &as_is, &expected);
        if (image.W != expected.W || image.H != expected.H || image.C != expected.C)
            fail_msg("%s: %u x %u x %d", path, image.W, image.H, image.C);
        for (size_t k = 0; k < (size_t)image.W * image.H * (size_t)image.C; k++)
            if (image.pixels[k] != expected.pixels[k])
                fail_msg("%s: byte %zu is %d, not %d", path, k, image.pixels[k],
                         expected.pixels[k]);
        assert_int_equal(image_size(path, &W, &H, &C, &e), 0);
        assert_true(W == image.W && H == image.H && C == image.C);
        image_free(&image);
        image_free(&expected);
    }
}

/* Every file is refused wherever it is cut, and survives any byte that is another one. */
static void test_damage(void **state) {
    (void)state;
    const char *path = scratch_path("damaged");
    for (int i = 0; i < FILES; i++) {
        char from[128];
        size_t n, before = memory_count().in_use;
        snprintf(from, sizeof from, FORMATS "%s", files[i]);
        unsigned char *bytes = scratch_read(from, &n);
        bool letters = bytes[0] == 'P' && bytes[1] < '4';
        for (size_t cut = 0; cut < n - (letters ? 20 : 1); cut += 1 + cut / 16) {
            Error e = {0};
            Image image;
            scratch_write(path, bytes, cut);
            if (image_load(path, &as_is, &image, &e) == 0) fail_msg("%s: cut at %zu", from, cut);
            assert_null(image.pixels);
            assert_memory_equal(e.text, path, strlen(path));
        }
        for (size_t k = 0; k < n; k += 1 + k / 16) {
            Error e = {0};
            Image image;
            unsigned char was = bytes[k];
            bytes[k] ^= 0xff;
            scratch_write(path, bytes, n);
            bytes[k] = was;
            if (image_load(path, &as_is, &image, &e) == 0) image_free(&image);
        }
        free(bytes);
        assert_int_equal(memory_count().in_use, before);
    }
}

static void set32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> 8 * i);
}

static void test_bmp_refused(void **state) {
    (void)state;
    size_t n;
    const char *path = scratch_path("bad.bmp");
    unsigned char *bytes = scratch_read(FORMATS "b8.bmp", &n);
    set32(bytes + 10, 54); /* as if there were no palette before the pixels */
    scratch_write(path, bytes, n);
    Image plain, image;
    load(path, &as_is, &image);
    load(FORMATS "b8.bmp", &as_is, &plain);
    assert_memory_equal(image.pixels, plain.pixels, (size_t)3 * plain.W * plain.H);
    image_free(&image);
    image_free(&plain);
    set32(bytes + 14, 16);
    scratch_write(path, bytes, n);
    refused(path, "is a BMP with a header of 16 bytes, which is not supported");
    free(bytes);
    bytes = scratch_read(FORMATS "b4_down.bmp", &n);
    set32(bytes + 30, 2);
    scratch_write(path, bytes, n);
    refused(path, "is a BMP with compression 2; save it without");
    set32(bytes + 30, 0);
    set32(bytes + 46, 15); /* of 16 colours */
    scratch_write(path, bytes, n);
    refused(path, "is damaged: a pixel has colour 15 of a palette of 15");
    set32(bytes + 46, 257);
    scratch_write(path, bytes, n);
    refused(path, "is a BMP with a palette of 257 colours; 256 are supported");
    bytes[28] = 2;
    scratch_write(path, bytes, n);
    refused(path, "is a BMP of 2 bits; 1, 4, 8, 16, 24 and 32 are supported");
    set32(bytes + 18, 70000);
    scratch_write(path, bytes, n);
    refused(path, "an image of 70000 x 13 pixels; sides of 1 to 65535 and at most 134217728 pixels "
                  "are supported");
    free(bytes);
    bytes = scratch_read(FORMATS "b24.bmp", &n);
    set32(bytes + 18, 60000);
    set32(bytes + 22, 2000);
    scratch_write(path, bytes, n);
    char wanted[128];
    snprintf(wanted, sizeof wanted, "is truncated: its %zu bytes end before the image does", n);
    refused(path, wanted);
    free(bytes);
    bytes = scratch_read(FORMATS "b565.bmp", &n);
    set32(bytes + 54, 0xf000);
    scratch_write(path, bytes, n);
    refused(path, "is a BMP whose colour masks are not supported");
    free(bytes);
}

static void test_pnm_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"P5\n3 2 255\nabcde", "is truncated: its 16 bytes end before the image does"},
        {"P5\n30000 4000 255\nabcde", "is truncated: its 23 bytes end before the image does"},
        {"P2\n2 1 9\n3 10 ", "is damaged: a value of 10, the largest is 9"},
        {"P2\n2 1 9\n3 -1 ", "is damaged: a number is missing"},
        {"P1\n2 1\n12", "is damaged: a bitmap's letter is neither 0 nor 1"},
        {"P5\n1 1 65536\nab", "is damaged: a largest value of 65536; 1 to 65535 are supported"},
        {"P5\n1 1 0\na", "is damaged: a largest value of 0; 1 to 65535 are supported"},
        {"P5\n1000000000000 1 9\na", "is damaged: a number of too many digits"},
        {"P5\n1 1 255x", "is damaged: no blank after its header"},
        {"P5 # no end", "is truncated: its 11 bytes end before the image does"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = scratch_path("bad.pgm");
        scratch_write(path, cases[i].text, strlen(cases[i].text));
        refused(path, cases[i].message);
    }
    const char *path = scratch_path("letters.pbm"); /* blanks are not needed between letters */
    Image image;
    scratch_write(path, "P1\n3 1\n011", 10);
    load(path, &as_is, &image);
    assert_memory_equal(image.pixels, "\xff\0\0", 3);
    image_free(&image);
}

static void test_webp_refused(void **state) {
    (void)state;
    size_t n;
    const char *path = scratch_path("bad.webp");
    unsigned char *bytes = scratch_read(FORMATS "alpha_lossy.webp", &n);
    assert_memory_equal(bytes + 12, "VP8X", 4);
    bytes[20] |= 2; /* says that it moves */
    scratch_write(path, bytes, n);
    refused(path, "is an animated WebP; single images are supported");
    bytes[20] &= 0xfd;
    memset(bytes + 24, 0xff, 6); /* a canvas of 2^24 x 2^24 */
    scratch_write(path, bytes, n);
    Error e = {0};
    Image image;
    assert_int_equal(image_load(path, &as_is, &image, &e), -1);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pixels),       cmocka_unit_test(test_damage),
        cmocka_unit_test(test_bmp_refused),  cmocka_unit_test(test_pnm_refused),
        cmocka_unit_test(test_webp_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
