/* Images: the golden files against what Pillow and torchvision make of them, every kind of PNG,
 * resizing and cropping by hand, what is refused, and damage. */
#include "images.h"
#include "starve.h"

#include <math.h>
#include <png.h>
#include <zlib.h>

#include "io/jpeg.h"
#include "io/png.h"
#include "io/weights.h"

/* --- golden files --- */

static void test_golden(void **state) {
    (void)state;
    Error e = {0};
    TensorList list;
    const ImageWish wish = {.resize = 64, .crop = 56, .channels = 3};
    size_t before = memory_count().in_use;
    assert_int_equal(weights_load(GOLDEN "expected.safetensors", NULL, device, &list, &e), 0);
    assert_int_equal(list.count, 14);
    for (size_t i = 0; i < list.count; i++) {
        char path[128];
        unsigned char planes[3 * 56 * 56];
        const unsigned char *wanted = list.items[i].tensor.data;
        Image image;
        snprintf(path, sizeof path, GOLDEN "%s", list.items[i].name);
        load(path, &wish, &image);
        assert_true(image.W == 56 && image.H == 56 && image.C == 3);
        image_planes(&image, planes);
        image_free(&image);
        int allowed = strstr(path, ".png") ? 0 : 1;
        for (size_t k = 0; k < sizeof planes; k++)
            if (abs(planes[k] - wanted[k]) > allowed)
                fail_msg("%s: byte %zu is %d, not %d", path, k, planes[k], wanted[k]);
    }
    tensors_free(&list);
    assert_int_equal(memory_count().in_use, before);
}

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *path;
        uint32_t W, H;
        int C;
    } files[] = {
        {GOLDEN "rgb.png", 113, 75, 3},        {GOLDEN "tall.png", 75, 113, 3},
        {GOLDEN "grey_alpha.png", 113, 75, 1}, {GOLDEN "bilevel.png", 113, 75, 1},
        {GOLDEN "palette.png", 113, 75, 3},    {GOLDEN "rgba.png", 113, 75, 3},
        {GOLDEN "grey.jpg", 113, 75, 1},       {GOLDEN "progressive.jpg", 113, 75, 3},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        Error e = {0};
        Image image;
        uint32_t W, H;
        int C;
        assert_int_equal(image_size(files[i].path, &W, &H, &C, &e), 0);
        load(files[i].path, &as_is, &image);
        assert_true(W == files[i].W && H == files[i].H && C == files[i].C);
        assert_true(image.W == W && image.H == H && image.C == C);
        image_free(&image);
    }
    Error e = {0};
    uint32_t W, H;
    int C;
    assert_int_equal(image_size(GOLDEN "bad_text.png", &W, &H, &C, &e), -1);
    assert_string_equal(e.text, GOLDEN "bad_text.png: not a PNG, JPEG, WebP, BMP or PNM file");
    assert_int_equal(image_size(GOLDEN "bad_huge.png", &W, &H, &C, &e), -1);
}

static void test_bad_files(void **state) {
    (void)state;
    refused(GOLDEN "bad_huge.png", "an image of 2147483647 x 2147483647 pixels; sides of 1 to "
                                   "65535 and at most 134217728 pixels are supported");
    refused(GOLDEN "bad_crc.png", "is damaged: IDAT: invalid literal/lengths set");
    refused(GOLDEN "bad_empty.jpg", "is empty");
    refused(GOLDEN "bad_text.png", "not a PNG, JPEG, WebP, BMP or PNM file");
    refused(GOLDEN "bad_truncated.png", "is truncated: its 3806 bytes end before the image does");
    refused(GOLDEN "bad_truncated.jpg", "is truncated: its 3634 bytes end before the image does");
    refused(GOLDEN, "is a directory");
    refused(GOLDEN "absent.png", "No such file or directory");
}

/* --- PNG files made here --- */

typedef struct Made {
    int bits, type, interlace;
    int colours;         /* of the palette, i is (i, 255 - i, 7 i mod 256) */
    int transparent;     /* with a tRNS chunk */
    png_byte rows[8192]; /* as they are in the file */
} Made;

static void set_extras(png_structp png, png_infop info, const Made *made) {
    png_color palette[256];
    png_byte alpha[256] = {0};
    png_color_16 key = {0};
    for (int i = 0; i < made->colours; i++)
        palette[i] = (png_color){(png_byte)i, (png_byte)(255 - i), (png_byte)(7 * i)};
    if (made->colours) png_set_PLTE(png, info, palette, made->colours);
    if (made->transparent) png_set_tRNS(png, info, alpha, made->colours, &key);
}

/* Writes the rows, `stride` bytes each, as W x H; returns a path. */
static const char *make_png(const Made *made, const unsigned char *rows, uint32_t W, uint32_t H,
                            size_t stride) {
    const char *path = scratch_path("made.png");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_bytep *lines = malloc(H * sizeof *lines);
    FILE *f = fopen(path, "wb");
    for (uint32_t y = 0; y < H; y++) lines[y] = (png_bytep)rows + y * stride;
    png_init_io(png, f);
    png_set_IHDR(png, info, W, H, made->bits, made->type, made->interlace,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    set_extras(png, info, made);
    png_write_info(png, info);
    png_write_image(png, lines);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(lines);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* All 65536 values of 16 bits become round(v / 257), in grey and in each channel of RGBA. */
static void test_png_16_bits(void **state) {
    (void)state;
    enum { N = 65536 };
    unsigned char *grey = malloc(2 * N), *rgba = malloc(8 * N);
    for (size_t v = 0; v < N; v++)
        for (size_t c = 0; c < 5; c++) {
            unsigned char *to = c == 4 ? grey + 2 * v : rgba + 8 * v + 2 * c;
            to[0] = (unsigned char)(v >> 8);
            to[1] = (unsigned char)v;
        }
    Image image;
    const Made of_grey = {.bits = 16, .type = PNG_COLOR_TYPE_GRAY};
    load(make_png(&of_grey, grey, 256, 256, 512), &as_is, &image);
    assert_int_equal(image.C, 1);
    for (int v = 0; v < N; v++) assert_int_equal(image.pixels[v], (v + 128) / 257);
    image_free(&image);
    const Made of_rgba = {.bits = 16, .type = PNG_COLOR_TYPE_RGB_ALPHA};
    load(make_png(&of_rgba, rgba, 256, 256, 2048), &as_is, &image);
    assert_int_equal(image.C, 3);
    for (int v = 0; v < 3 * N; v++) assert_int_equal(image.pixels[v], (v / 3 + 128) / 257);
    image_free(&image);
    free(grey);
    free(rgba);
}

/* Grey of 1, 2 and 4 bits is spread over 0 .. 255, with a transparent value or without. */
static void test_png_few_bits(void **state) {
    (void)state;
    for (int bits = 1; bits <= 4; bits *= 2)
        for (int transparent = 0; transparent < 2; transparent++) {
            Made made = {.bits = bits, .type = PNG_COLOR_TYPE_GRAY, .transparent = transparent};
            int per = 8 / bits, levels = (1 << bits) - 1;
            for (int i = 0; i < 256; i++) made.rows[i] = (png_byte)i;
            Image image;
            load(make_png(&made, made.rows, 16 * (uint32_t)per, 16, 16), &as_is, &image);
            assert_int_equal(image.C, 1);
            for (int i = 0; i < 256 * per; i++) {
                int v = (i / per >> (8 - bits * (i % per + 1))) & levels;
                assert_int_equal(image.pixels[i], v * 255 / levels);
            }
            image_free(&image);
        }
}

/* Palettes of every depth, alpha or not, are looked up; in grey too. */
static void test_png_palettes(void **state) {
    (void)state;
    for (int bits = 1; bits <= 8; bits *= 2)
        for (int transparent = 0; transparent < 2; transparent++) {
            Made made = {.bits = bits,
                         .type = PNG_COLOR_TYPE_PALETTE,
                         .colours = 1 << bits,
                         .transparent = transparent};
            int per = 8 / bits;
            for (int i = 0; i < 256; i++) made.rows[i] = (png_byte)i;
            Image image, grey;
            const char *path = make_png(&made, made.rows, 16 * (uint32_t)per, 16, 16);
            load(path, &as_is, &image);
            load(path, &(ImageWish){.channels = 1}, &grey);
            assert_true(image.C == 3 && grey.C == 1);
            for (int i = 0; i < 256 * per; i++) {
                int v = (i / per >> (8 - bits * (i % per + 1))) & ((1 << bits) - 1);
                int r = v, g = 255 - v, b = 7 * v & 255;
                const unsigned char wanted[] = {(unsigned char)r, (unsigned char)g,
                                                (unsigned char)b};
                assert_memory_equal(image.pixels + 3 * i, wanted, 3);
                assert_int_equal(grey.pixels[i],
                                 (19595 * r + 38470 * g + 7471 * b + 32768) / 65536);
            }
            image_free(&image);
            image_free(&grey);
        }
}

/* Interlaced files of sizes that leave passes empty or short hold the same pixels. */
static void test_png_interlaced(void **state) {
    (void)state;
    for (uint32_t side = 1; side <= 19; side++) {
        Made made = {.bits = 8, .type = PNG_COLOR_TYPE_RGB, .interlace = PNG_INTERLACE_ADAM7};
        uint32_t W = side, H = 20 - side;
        for (size_t i = 0; i < 3 * W * H; i++) made.rows[i] = (png_byte)(i * 37);
        Image image;
        load(make_png(&made, made.rows, W, H, 3 * W), &as_is, &image);
        assert_true(image.W == W && image.H == H && image.C == 3);
        assert_memory_equal(image.pixels, made.rows, 3 * W * H);
        image_free(&image);
    }
}

/* A colour that is transparent in an RGB file without alpha stays as it is. */
static void test_png_transparent_rgb(void **state) {
    (void)state;
    Made made = {.bits = 8, .type = PNG_COLOR_TYPE_RGB, .transparent = 1};
    for (int i = 6; i < 12; i++) made.rows[i] = (png_byte)i;
    Image image;
    load(make_png(&made, made.rows, 2, 2, 6), &as_is, &image);
    assert_int_equal(image.C, 3);
    assert_memory_equal(image.pixels, made.rows, 12);
    image_free(&image);
}

/* The bytes of a PNG file whose header claims W x H, with the right checksum. */
static const char *claim_png(uint32_t W, uint32_t H) {
    size_t n;
    const char *path = scratch_path("claim.png");
    unsigned char *bytes = scratch_read(GOLDEN "rgb.png", &n);
    for (int i = 0; i < 4; i++) {
        bytes[16 + i] = (unsigned char)(W >> (24 - 8 * i));
        bytes[20 + i] = (unsigned char)(H >> (24 - 8 * i));
    }
    uLong crc = crc32(0, bytes + 12, 17);
    for (int i = 0; i < 4; i++) bytes[29 + i] = (unsigned char)(crc >> (24 - 8 * i));
    scratch_write(path, bytes, n);
    free(bytes);
    return path;
}

static void test_png_claims(void **state) {
    (void)state;
    refused(claim_png(0, 75), "an image of 0 x 75 pixels; sides of 1 to 65535 and at most "
                              "134217728 pixels are supported");
    refused(claim_png(65536, 1), "an image of 65536 x 1 pixels; sides of 1 to 65535 and at most "
                                 "134217728 pixels are supported");
    refused(claim_png(11586, 11586), "an image of 11586 x 11586 pixels; sides of 1 to 65535 and "
                                     "at most 134217728 pixels are supported");
    refused(claim_png(11585, 11585), "is truncated: 7613 bytes cannot hold 11585 x 11585 pixels");
    refused(claim_png(113, 76), "is damaged: Not enough image data");
}

/* A checksum that is wrong where nothing else is, in a chunk that is needed and in one that is
 * not. */
static void test_png_checksums(void **state) {
    (void)state;
    static const char comment[] = "\0\0\0\5tEXta\0b\0c\0\0\0\0";
    size_t n;
    const char *path = scratch_path("checksum.png");
    unsigned char *bytes = scratch_read(GOLDEN "rgb.png", &n), more[16384];
    bytes[n - 13] ^= 1; /* the last byte of IDAT's checksum, before IEND */
    scratch_write(path, bytes, n);
    refused(path, "is damaged: IDAT: CRC error");
    bytes[n - 13] ^= 1;
    memcpy(more, bytes, 33);
    memcpy(more + 33, comment, 17);
    memcpy(more + 50, bytes + 33, n - 33);
    free(bytes);
    scratch_write(path, more, n + 17);
    refused(path, "is damaged: tEXt: CRC error");
}

/* --- channels, resize, crop --- */

static void test_channels(void **state) {
    (void)state;
    /* The last three tell each weight from its neighbours. */
    static const unsigned char rgb[] = {255, 0,   0,   0,   255, 0, 0,   0,   255, 255, 255,
                                        255, 195, 110, 216, 244, 8, 218, 251, 190, 166};
    static const unsigned char grey[] = {76, 150, 29, 255, 147, 103, 206};
    const Made made = {.bits = 8, .type = PNG_COLOR_TYPE_RGB};
    Image image;
    const char *path = make_png(&made, rgb, 7, 1, 21);
    load(path, &(ImageWish){.channels = 1}, &image);
    assert_int_equal(image.C, 1);
    assert_memory_equal(image.pixels, grey, 7);
    image_free(&image);
    const Made of_grey = {.bits = 8, .type = PNG_COLOR_TYPE_GRAY};
    load(make_png(&of_grey, grey, 7, 1, 7), &(ImageWish){.channels = 3}, &image);
    assert_int_equal(image.C, 3);
    for (int i = 0; i < 21; i++) assert_int_equal(image.pixels[i], grey[i / 3]);
    image_free(&image);
}

/* A grey image of one row, or of one column, with these pixels. */
static void line(Image *out, const unsigned char *pixels, uint32_t n, bool column) {
    Error e;
    assert_int_equal(image_new(out, column ? 1 : n, column ? n : 1, 1, &e), 0);
    memcpy(out->pixels, pixels, n);
}

static void check_resize(const unsigned char *in, uint32_t n, const unsigned char *wanted,
                         uint32_t m) {
    for (int column = 0; column < 2; column++) {
        Error e;
        Image image;
        line(&image, in, n, column);
        assert_int_equal(image_resize(&image, column ? 1 : m, column ? m : 1, &e), 0);
        assert_int_equal((column ? image.H : image.W), m);
        assert_memory_equal(image.pixels, wanted, m);
        image_free(&image);
    }
}

/* 4 to 2: weights 3/7 3/7 1/7; 2 to 4: 1, then 3/4 1/4; worked out from the triangle. */
static void test_resize_by_hand(void **state) {
    (void)state;
    check_resize((const unsigned char[]){0, 0, 255, 255}, 4, (const unsigned char[]){36, 219}, 2);
    check_resize((const unsigned char[]){70, 0, 0, 7}, 4, (const unsigned char[]){30, 3}, 2);
    check_resize((const unsigned char[]){0, 200}, 2, (const unsigned char[]){0, 50, 150, 200}, 4);
    check_resize((const unsigned char[]){9, 8, 7}, 3, (const unsigned char[]){9, 8, 7}, 3);
    check_resize((const unsigned char[]){255, 255, 255, 255, 255}, 5,
                 (const unsigned char[]){255, 255, 255}, 3);
    check_resize((const unsigned char[]){10, 250}, 2, (const unsigned char[]){130}, 1);
}

/* The shorter side becomes the wish, the longer one is truncated: 64 * 113 / 75 = 96.4 */
static void test_resize_shape(void **state) {
    (void)state;
    Image image;
    load(GOLDEN "rgb.png", &(ImageWish){.resize = 64}, &image);
    assert_true(image.W == 96 && image.H == 64);
    image_free(&image);
    load(GOLDEN "tall.png", &(ImageWish){.resize = 64}, &image);
    assert_true(image.W == 64 && image.H == 96);
    image_free(&image);
    load(GOLDEN "tall.png", &(ImageWish){.resize = 75}, &image);
    Image same;
    load(GOLDEN "tall.png", &as_is, &same);
    assert_true(image.W == 75 && image.H == 113);
    assert_memory_equal(image.pixels, same.pixels, 3 * 75 * 113);
    image_free(&image);
    image_free(&same);
}

/* Pillow 13.0.0 on the same pixels, which takes the columns of so tall an image first. */
static void resize_tall(uint32_t W, uint32_t H, int C, uint32_t w, uint32_t h, const char *golden) {
    Error e = {0};
    Image image, wanted;
    assert_int_equal(image_new(&image, W, H, C, &e), 0);
    unsigned char *pixel = image.pixels;
    for (unsigned y = 0; y < H; y++)
        for (unsigned x = 0; x < W; x++)
            for (unsigned c = 0; c < (unsigned)C; c++)
                *pixel++ = (unsigned char)((x * x * 7 + y * y * 3 + x * y * 5) / 16 + c * 85);
    assert_int_equal(image_resize(&image, w, h, &e), 0);
    load(golden, &as_is, &wanted);
    assert_true(wanted.W == w && wanted.H == h && wanted.C == C);
    assert_memory_equal(image.pixels, wanted.pixels, (size_t)C * w * h);
    image_free(&image);
    image_free(&wanted);
}

static void test_resize_tall(void **state) {
    (void)state;
    resize_tall(223, 500, 1, 40, 89, GOLDEN "tall_resized.png");
    resize_tall(60, 120, 1, 20, 40, GOLDEN "tall_resized_twice.png"); /* not more than twice */
    resize_tall(60, 121, 3, 20, 40, GOLDEN "tall_resized_rgb.png");
}

static void test_resize_refused(void **state) {
    (void)state;
    Error e = {0};
    Image image;
    const ImageWish wish = {.resize = 60000};
    assert_int_equal(image_load(GOLDEN "rgb.png", &wish, &image, &e), -1);
    assert_string_equal(e.text, GOLDEN "rgb.png: an image of 90400 x 60000 pixels; sides of 1 to "
                                       "65535 and at most 134217728 pixels are supported");
    assert_null(image.pixels);
}

/* Pixel i of a line of n, cropped to m: i + offset, the offset rounded half to even. */
static void check_crop(uint32_t n, uint32_t m, uint32_t offset) {
    unsigned char pixels[32];
    for (unsigned i = 0; i < sizeof pixels; i++) pixels[i] = (unsigned char)(i + 1);
    for (int column = 0; column < 2; column++) {
        Error e;
        Image image;
        line(&image, pixels, n, column);
        assert_int_equal(image_crop(&image, column ? 1 : m, column ? m : 1, &e), 0);
        assert_memory_equal(image.pixels, pixels + offset, m);
        image_free(&image);
    }
}

static void test_crop(void **state) {
    (void)state;
    check_crop(8, 8, 0);
    check_crop(9, 8, 0);  /* 0.5 */
    check_crop(10, 8, 1); /* 1 */
    check_crop(11, 8, 2); /* 1.5 */
    check_crop(13, 8, 2); /* 2.5 */
    check_crop(15, 8, 4); /* 3.5 */
    check_crop(17, 8, 4); /* 4.5 */
}

/* A crop larger than the image: the odd zero comes after it; one direction may be cut while the
 * other is filled up. */
static void test_crop_pads(void **state) {
    (void)state;
    static const unsigned char row[] = {1, 2, 3};
    static const unsigned char wanted[4][6] = {{0}, {0, 1, 2, 3, 0, 0}, {0}, {0}};
    Error e;
    Image image;
    line(&image, row, 3, false);
    assert_int_equal(image_crop(&image, 6, 4, &e), 0);
    assert_memory_equal(image.pixels, wanted, sizeof wanted);
    image_free(&image);
    line(&image, row, 3, false);
    assert_int_equal(image_crop(&image, 1, 2, &e), 0);
    assert_memory_equal(image.pixels, ((const unsigned char[]){2, 0}), 2);
    image_free(&image);
}

/* --- saving --- */

static void fill(unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(i * 89 + i / 7);
}

static void test_save(void **state) {
    (void)state;
    enum { H = 5, W = 300 };
    unsigned char planes[3 * H * W], back[3 * H * W];
    fill(planes, sizeof planes);
    for (int C = 1; C <= 3; C += 2) {
        Error e = {0};
        Image image;
        size_t n, m;
        const char *path = scratch_path("saved.png");
        assert_int_equal(image_save_png(path, planes, C, H, W, &e), 0);
        unsigned char *first = scratch_read(path, &n);
        load(path, &as_is, &image);
        assert_true(image.W == W && image.H == H && image.C == C);
        image_planes(&image, back);
        image_free(&image);
        assert_memory_equal(back, planes, (size_t)C * H * W);
        assert_int_equal(image_save_png(path, planes, C, H, W, &e), 0);
        unsigned char *second = scratch_read(path, &m);
        assert_int_equal(n, m);
        assert_memory_equal(first, second, n);
        free(first);
        free(second);
    }
}

static void save_refused(const char *path, int C, uint64_t H, uint64_t W, const char *message) {
    Error e = {0};
    char wanted[ERROR_TEXT];
    unsigned char planes[4] = {0};
    size_t before = memory_count().in_use;
    snprintf(wanted, sizeof wanted, "%s: %s", path, message);
    assert_int_equal(image_save_png(path, planes, C, H, W, &e), -1);
    assert_string_equal(e.text, wanted);
    assert_int_equal(memory_count().in_use, before);
}

static void test_save_refused(void **state) {
    (void)state;
    const char *path = scratch_path("refused.png");
    save_refused(path, 2, 1, 1, "an image has 1 or 3 channels, this one has 2");
    save_refused(path, 1, 0, 1,
                 "an image of 1 x 0 pixels; sides of 1 to 65535 and at most "
                 "134217728 pixels are supported");
    save_refused(path, 1, 1, 70000,
                 "an image of 70000 x 1 pixels; sides of 1 to 65535 and at "
                 "most 134217728 pixels are supported");
    assert_int_equal(access(path, F_OK), -1);
    save_refused("/dev/full", 1, 1, 1, "No space left on device");
    save_refused(folder, 1, 1, 1, "is a directory");
    save_refused(scratch_path("absent/a.png"), 1, 1, 1, "No such file or directory");
}

/* An image too large for the writer's buffer, so that libpng's own call meets the full disk. */
static void test_save_full_disk(void **state) {
    (void)state;
    enum { SIDE = 512 };
    Error e = {0};
    unsigned char *planes = malloc(SIDE * SIDE);
    uint32_t bits = 1;
    size_t before = memory_count().in_use;
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        bits = bits * 1664525 + 1013904223;
        planes[i] = (unsigned char)(bits >> 24);
    }
    assert_int_equal(image_save_png("/dev/full", planes, 1, SIDE, SIDE, &e), -1);
    assert_string_equal(e.text, "/dev/full: No space left on device");
    assert_int_equal(memory_count().in_use, before);
    free(planes);
}

/* --- memory and damage --- */

static const char *starved;

static int load_starved(Error *e) {
    Image image;
    const ImageWish wish = {.resize = 64, .crop = 70, .channels = 3};
    if (image_load(starved, &wish, &image, e) != 0) {
        assert_null(image.pixels);
        return -1;
    }
    image_free(&image);
    return 0;
}

static int save_starved(Error *e) {
    unsigned char planes[3 * 20 * 20];
    fill(planes, sizeof planes);
    int failed = image_save_png(scratch_path("starved.png"), planes, 3, 20, 20, e);
    /* Nothing lies in the folder but what is asked for. */
    assert_int_equal(access(scratch_path("starved.png"), F_OK), failed);
    if (!failed) assert_int_equal(unlink(scratch_path("starved.png")), 0);
    return failed;
}

static void test_starved(void **state) {
    (void)state;
    static const char *const paths[] = {GOLDEN "rgb.png", GOLDEN "palette4_transparent.png",
                                        GOLDEN "grey.png", GOLDEN "base420.jpg", GOLDEN "grey.jpg"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        starved = paths[i];
        starve(load_starved, 10);
    }
    starve(save_starved, 8);
}

/* Any outcome but a crash, a leak or an empty message. */
static int survives(const unsigned char *bytes, size_t n) {
    Error e = {0};
    Image image = {0};
    size_t before = memory_count().in_use;
    int failed = image_is_png(bytes, n)    ? image_from_png(bytes, n, &image, &e)
                 : image_is_jpeg(bytes, n) ? image_from_jpeg(bytes, n, &image, &e)
                                           : error_set(&e, "neither");
    if (failed) assert_true(strlen(e.text) > 0);
    image_free(&image);
    assert_int_equal(memory_count().in_use, before);
    return failed;
}

static void damage(const char *path, size_t step) {
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    size_t n;
    unsigned char *bytes = scratch_read(path, &n);
    for (size_t cut = 0; cut < n; cut += cut + 40 < n ? step : 1) {
        unsigned char *copy =
            malloc(cut + 1); /* its own block, so that the sanitizer sees its end */
        memcpy(copy, bytes, cut);
        if (survives(copy, cut) == 0) fail_msg("%s is read though cut at %zu", path, cut);
        free(copy);
    }
    for (size_t i = 0; i < n; i += i < 256 ? 1 : step)
        for (size_t k = 0; k < sizeof flips; k++) {
            bytes[i] ^= flips[k];
            /* Every byte of a PNG file is under a checksum, or a checksum. */
            if (survives(bytes, n) == 0 && strstr(path, ".png"))
                fail_msg("%s is read though byte %zu is changed", path, i);
            bytes[i] ^= flips[k];
        }
    free(bytes);
}

static void test_damage(void **state) {
    (void)state;
    damage(GOLDEN "upscaled.png", 1);
    damage(GOLDEN "palette4_transparent.png", 1);
    damage(GOLDEN "grey.jpg", 7);
    damage(GOLDEN "base420.jpg", 7);
    damage(GOLDEN "progressive.jpg", 7);
}

static void test_level(void **state) {
    (void)state;
    for (int level = 0; level <= 255; level++)
        assert_int_equal(image_level((float)level / 255.0f), level);
    assert_int_equal(image_level(0.5f), 128); /* 127.5, to even */
    assert_int_equal(image_level(2.5f / 255), 2);
    assert_int_equal(image_level(-1), 0);
    assert_int_equal(image_level(-INFINITY), 0);
    assert_int_equal(image_level(INFINITY), 255);
    assert_int_equal(image_level(NAN), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_png_claims),
        cmocka_unit_test(test_png_16_bits),
        cmocka_unit_test(test_png_few_bits),
        cmocka_unit_test(test_png_palettes),
        cmocka_unit_test(test_png_interlaced),
        cmocka_unit_test(test_png_transparent_rgb),
        cmocka_unit_test(test_png_checksums),

        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_resize_by_hand),
        cmocka_unit_test(test_resize_shape),
        cmocka_unit_test(test_resize_tall),
        cmocka_unit_test(test_resize_refused),
        cmocka_unit_test(test_crop),
        cmocka_unit_test(test_crop_pads),
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_save_refused),
        cmocka_unit_test(test_save_full_disk),
        cmocka_unit_test(test_starved),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_level),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
