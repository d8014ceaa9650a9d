#include "io/png.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* Signature and header chunk: length, "IHDR", W, H, bits, colour type, compression, filter,
 * interlace, CRC. */
enum { SIGNATURE = 8, HEADER = 33 };
/* The largest ratio of a deflate stream's output to its input. */
enum { DEFLATE_RATIO = 1032 };

/* The state for libpng's callbacks. No variable that is read after a longjmp is local. */
typedef struct Codec {
    png_structp png;
    png_infop info;
    Error *e;
    jmp_buf jump;
    /* for reading */
    const unsigned char *bytes;
    size_t n, at;
    Image *out;
    png_bytep *rows;
    /* for writing */
    FileWriter *writer;
    const unsigned char *planes;
    uint32_t W, H;
    int C;
    unsigned char *row;
} Codec;

static _Noreturn void on_error(png_structp png, png_const_charp message) {
    Codec *c = png_get_error_ptr(png);
    if (c->e->code == ERROR_NONE)
        error_set(c->e, c->writer ? "cannot be written: %s" : "is damaged: %s", message);
    longjmp(c->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

static png_voidp on_take(png_structp png, png_alloc_size_t n) {
    Codec *c = png_get_mem_ptr(png);
    return memory_take(n, "libpng", c->e);
}

static void on_give(png_structp png, png_voidp block) {
    (void)png;
    memory_free(block);
}

/* Calls work; returns -1 if libpng reports an error by a jump. */
static int guard(Codec *c, void (*work)(Codec *)) {
    if (setjmp(c->jump)) return -1;
    work(c);
    return 0;
}

/* --- reading --- */

static uint32_t big_endian(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool image_is_png(const unsigned char *bytes, size_t n) {
    return n >= SIGNATURE && memcmp(bytes, "\x89PNG\r\n\x1a\n", SIGNATURE) == 0;
}

int image_png_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e) {
    if (n < HEADER) return error_set(e, "is truncated: a PNG file of %zu bytes", n);
    if (big_endian(bytes + 8) != 13 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return error_set(e, "is damaged: a PNG file that does not start with its header");
    *W = big_endian(bytes + 16);
    *H = big_endian(bytes + 20);
    *C = bytes[25] & PNG_COLOR_MASK_COLOR ? 3 : 1;
    return image_check_size(*W, *H, e);
}

static void on_read(png_structp png, png_bytep out, size_t n) {
    Codec *c = png_get_io_ptr(png);
    if (n > c->n - c->at) {
        error_set(c->e, "is truncated: its %zu bytes end before the image does", c->n);
        longjmp(c->jump, 1);
    }
    memcpy(out, c->bytes + c->at, n);
    c->at += n;
}

/* Converts to 8-bit grey or RGB. */
static void set_conversions(Codec *c) {
    int type = png_get_color_type(c->png, c->info), bits = png_get_bit_depth(c->png, c->info);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(c->png);
    if (type == PNG_COLOR_TYPE_GRAY && bits < 8) png_set_expand_gray_1_2_4_to_8(c->png);
    if (bits == 16) png_set_scale_16(c->png);
    png_set_strip_alpha(c->png);
    png_set_interlace_handling(c->png);
    png_read_update_info(c->png, c->info);
}

static void read_pixels(Codec *c) {
    png_set_read_fn(c->png, c, on_read);
    png_set_user_limits(c->png, IMAGE_SIDE, IMAGE_SIDE);
    png_set_crc_action(c->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_keep_unknown_chunks(c->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(c->png, c->info);
    uint32_t W = png_get_image_width(c->png, c->info), H = png_get_image_height(c->png, c->info);
    if (png_get_rowbytes(c->png, c->info) * H / DEFLATE_RATIO > c->n) {
        error_set(c->e, "is truncated: %zu bytes cannot hold %u x %u pixels", c->n, W, H);
        longjmp(c->jump, 1);
    }
    set_conversions(c);
    int C = png_get_channels(c->png, c->info);
    size_t row = (size_t)W * (size_t)C;
    if (image_new(c->out, W, H, C, c->e) != 0) longjmp(c->jump, 1);
    c->rows = memory_take(H * sizeof *c->rows, "the rows of an image", c->e);
    if (!c->rows) longjmp(c->jump, 1);
    for (uint32_t y = 0; y < H; y++) c->rows[y] = c->out->pixels + y * row;
    png_read_image(c->png, c->rows);
    png_read_end(c->png, NULL);
}

int image_from_png(const unsigned char *bytes, size_t n, Image *out, Error *e) {
    uint32_t W, H;
    int C;
    *out = (Image){0};
    if (image_png_size(bytes, n, &W, &H, &C, e) != 0) return -1;
    Error why = {0};
    Codec c = {.e = &why, .bytes = bytes, .n = n, .out = out};
    int failed = -1;
    if (setjmp(c.jump) == 0)
        c.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning, &c,
                                         on_take, on_give);
    if (c.png) c.info = png_create_info_struct(c.png);
    if (c.info) failed = guard(&c, read_pixels);
    png_destroy_read_struct(&c.png, &c.info, NULL);
    memory_free(c.rows);
    if (!failed) return 0;
    image_free(out);
    error_set(e, "%s", why.text);
    return why.code == ERROR_NO_MEMORY ? error_no_memory(e) : -1;
}

/* --- writing --- */

static void on_write(png_structp png, png_bytep bytes, size_t n) {
    Codec *c = png_get_io_ptr(png);
    if (file_writer_put(c->writer, bytes, n, c->e) != 0) longjmp(c->jump, 1);
}

static void write_pixels(Codec *c) {
    size_t plane = (size_t)c->H * c->W;
    png_set_write_fn(c->png, c, on_write, NULL);
    png_set_IHDR(c->png, c->info, c->W, c->H, 8,
                 c->C == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(c->png, c->info);
    for (size_t y = 0; y < c->H; y++) {
        for (size_t x = 0; x < c->W; x++)
            for (size_t k = 0; k < (size_t)c->C; k++)
                c->row[x * (size_t)c->C + k] = c->planes[k * plane + y * c->W + x];
        png_write_row(c->png, c->row);
    }
    png_write_end(c->png, c->info);
}

static int write_file(Codec *c) {
    if (setjmp(c->jump) == 0)
        c->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, c, on_error, on_warning, c,
                                           on_take, on_give);
    if (c->png) c->info = png_create_info_struct(c->png);
    int failed = c->info ? guard(c, write_pixels) : -1;
    png_destroy_write_struct(&c->png, &c->info);
    return failed;
}

int image_save_png(const char *path, const unsigned char *planes, int C, uint64_t H, uint64_t W,
                   Error *e) {
    if (C != 1 && C != 3)
        return error_set(e, "%s: an image has 1 or 3 channels, this one has %d", path, C);
    if (image_check_size(W, H, e) != 0) return error_prefix(e, "%s", path);
    Error why = {0};
    Codec c = {.e = &why, .planes = planes, .W = (uint32_t)W, .H = (uint32_t)H, .C = C};
    if (file_writer_open(&c.writer, path, e) != 0) return -1;
    c.row = memory_take((size_t)W * (size_t)C, "a row of an image", &why);
    int failed = c.row ? write_file(&c) : -1;
    memory_free(c.row);
    if (!failed) return file_writer_close(c.writer, 0, e);
    file_writer_close(c.writer, failed, NULL);
    size_t length = strlen(path);
    /* The writer's own messages already start with the path. */
    if (strncmp(why.text, path, length) == 0 && why.text[length] == ':')
        return error_set(e, "%s", why.text);
    return error_set(e, "%s: %s", path, why.text);
}
