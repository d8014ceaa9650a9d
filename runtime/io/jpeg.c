#include "io/jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "base/memory.h"

/* A small file can hold many scans, and each costs a pass over the image. */
enum { SCANS = 500, PIXELS_PER_BYTE = 1 << 14 };
/* Each block of 8 x 8 pixels has at least one bit in its DC scan. */
enum { MOST_PIXELS_PER_BYTE = 8 * DCTSIZE2 };

/* State of libjpeg's callbacks. Data used after a longjmp is not in local variables. */
typedef struct Reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    Error *e;
    jmp_buf jump;
    const unsigned char *bytes;
    size_t n;
    Image *out; /* NULL: read the header only */
    uint32_t W, H;
    int C;
    unsigned char *inks; /* a row of CMYK */
} Reader;

/* --- libjpeg's callbacks --- */

static _Noreturn void on_error(j_common_ptr jpeg) {
    Reader *r = jpeg->client_data;
    char text[JMSG_LENGTH_MAX];
    int code = jpeg->err->msg_code;
    jpeg->err->format_message(jpeg, text);
    if (code == JERR_OUT_OF_MEMORY) {
        error_set(r->e, "libjpeg: out of memory");
        error_no_memory(r->e);
    } else if (code == JWRN_JPEG_EOF)
        error_set(r->e, "is truncated: its %zu bytes end before the image does", r->n);
    else if (code == JERR_BAD_PRECISION)
        error_set(r->e, "is a JPEG of %d bits; 8 are supported", jpeg->err->msg_parm.i[0]);
    else
        error_set(r->e, "is damaged: %s", text);
    longjmp(r->jump, 1);
}

/* Whether a warning means lost pixels. Other warnings concern bytes between markers and fields that
 * decoding does not need. */
static bool loses_pixels(int code) {
    switch (code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_NOT_SEQUENTIAL: return true;
    default: return false;
    }
}

static void on_message(j_common_ptr jpeg, int level) {
    if (level < 0 && loses_pixels(jpeg->err->msg_code)) on_error(jpeg);
}

static void on_progress(j_common_ptr jpeg) {
    Reader *r = jpeg->client_data;
    uint64_t scans = (uint64_t)r->jpeg.input_scan_number;
    if (scans > SCANS)
        error_set(r->e, "is a JPEG of more than %d scans", SCANS);
    else if (scans * r->W * r->H / PIXELS_PER_BYTE > r->n)
        error_set(r->e, "is damaged: %zu bytes with %d scans of %u x %u pixels", r->n, (int)scans,
                  r->W, r->H);
    else
        return;
    longjmp(r->jump, 1);
}

/* --- reading --- */

static _Noreturn void refuse(Reader *r, const char *why) {
    error_set(r->e, "%s", why);
    longjmp(r->jump, 1);
}

static void read_header(Reader *r) {
    jpeg_create_decompress(&r->jpeg);
    r->jpeg.progress = &r->progress;
    jpeg_mem_src(&r->jpeg, r->bytes, r->n);
    jpeg_read_header(&r->jpeg, TRUE);
    r->W = r->jpeg.image_width;
    r->H = r->jpeg.image_height;
    if (image_check_size(r->W, r->H, r->e) != 0) longjmp(r->jump, 1);
    switch (r->jpeg.jpeg_color_space) {
    case JCS_GRAYSCALE: r->C = 1; break;
    case JCS_YCbCr:
    case JCS_RGB:
    case JCS_CMYK:
    case JCS_YCCK: r->C = 3; break;
    default:
        refuse(r, "is a JPEG of an unknown colour space; grey, YCbCr, RGB, CMYK and YCCK are "
                  "supported");
    }
    /* libjpeg treats missing and damaged arithmetic data as zeros without a warning. */
    if (r->jpeg.arith_code)
        refuse(r, "is a JPEG with arithmetic coding, which cannot be checked for damage; save it "
                  "as an ordinary JPEG");
    if ((uint64_t)r->W * r->H / MOST_PIXELS_PER_BYTE > r->n) {
        error_set(r->e, "is truncated: %zu bytes cannot hold %u x %u pixels", r->n, r->W, r->H);
        longjmp(r->jump, 1);
    }
}

/* libjpeg treats coefficients that no scan contains as zeros. */
static void check_scans(Reader *r) {
    for (int c = 0; c < r->jpeg.num_components; c++) {
        bool whole = r->jpeg.comp_info[c].quant_table != NULL; /* set by a component's first scan */
        for (int k = 0; k < DCTSIZE2 && r->jpeg.coef_bits;
             k++) /* progressive: bits still missing */
            whole = whole && r->jpeg.coef_bits[c][k] == 0;
        if (!whole) refuse(r, "is truncated: its last scans are missing");
    }
}

/* a b / 255, rounded as in Pillow. */
static unsigned times(unsigned a, unsigned b) {
    unsigned product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

/* Adobe's files store inks inverted: 255 is no ink. */
static void set_rgb(const unsigned char *inks, unsigned char *rgb, size_t n) {
    for (size_t i = 0; i < n; i++, inks += 4, rgb += 3)
        for (int c = 0; c < 3; c++)
            rgb[c] = (unsigned char)(inks[3] - times(255u - inks[c], inks[3]));
}

static void read_pixels(Reader *r) {
    bool inks = r->jpeg.num_components == 4;
    r->jpeg.out_color_space = inks ? JCS_CMYK : r->C == 1 ? JCS_GRAYSCALE : JCS_RGB;
    r->jpeg.dct_method = JDCT_ISLOW;
    r->jpeg.do_fancy_upsampling = TRUE;
    if (image_new(r->out, r->W, r->H, r->C, r->e) != 0) longjmp(r->jump, 1);
    if (inks) r->inks = memory_take((size_t)r->W * 4, "a row of an image", r->e);
    if (inks && !r->inks) longjmp(r->jump, 1);
    jpeg_start_decompress(&r->jpeg);
    if (jpeg_has_multiple_scans(&r->jpeg)) check_scans(r);
    while (r->jpeg.output_scanline < r->jpeg.output_height) {
        unsigned char *out = r->out->pixels + (size_t)r->jpeg.output_scanline * r->W * (size_t)r->C;
        JSAMPROW row = inks ? r->inks : out;
        jpeg_read_scanlines(&r->jpeg, &row, 1);
        if (inks) set_rgb(r->inks, out, r->W);
    }
    jpeg_finish_decompress(&r->jpeg);
}

static int read_file(Reader *r) {
    if (setjmp(r->jump)) return -1;
    read_header(r);
    if (r->out) read_pixels(r);
    return 0;
}

static int run(Reader *r) {
    r->jpeg.err = jpeg_std_error(&r->errors);
    r->jpeg.client_data = r;
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->progress.progress_monitor = on_progress;
    int failed = read_file(r);
    jpeg_destroy_decompress(&r->jpeg);
    memory_free(r->inks);
    return failed;
}

bool image_is_jpeg(const unsigned char *bytes, size_t n) {
    return n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0;
}

int image_from_jpeg(const unsigned char *bytes, size_t n, Image *out, Error *e) {
    Reader r = {.e = e, .bytes = bytes, .n = n, .out = out};
    *out = (Image){0};
    if (run(&r) == 0) return 0;
    image_free(out);
    return -1;
}

int image_jpeg_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                    Error *e) {
    Reader r = {.e = e, .bytes = bytes, .n = n};
    if (run(&r) != 0) return -1;
    *W = r.W;
    *H = r.H;
    *C = r.C;
    return 0;
}

/* --- writing --- */

/* Data used after a longjmp is not in local variables. */
typedef struct Writer {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    Error *e;
    jmp_buf jump;
    const Image *image;
    int quality;
    unsigned char *bytes; /* libjpeg's, by malloc */
    unsigned long n;
} Writer;

static _Noreturn void on_write_error(j_common_ptr jpeg) {
    Writer *w = jpeg->client_data;
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    error_set(w->e, "cannot be written as a JPEG: %s", text);
    longjmp(w->jump, 1);
}

static int write_jpeg(Writer *w) {
    if (setjmp(w->jump)) return -1;
    jpeg_create_compress(&w->jpeg);
    jpeg_mem_dest(&w->jpeg, &w->bytes, &w->n);
    w->jpeg.image_width = w->image->W;
    w->jpeg.image_height = w->image->H;
    w->jpeg.input_components = w->image->C;
    w->jpeg.in_color_space = w->image->C == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&w->jpeg);
    jpeg_set_quality(&w->jpeg, w->quality, TRUE);
    w->jpeg.dct_method = JDCT_ISLOW;
    jpeg_start_compress(&w->jpeg, TRUE);
    while (w->jpeg.next_scanline < w->jpeg.image_height) {
        JSAMPROW row =
            w->image->pixels + (size_t)w->jpeg.next_scanline * w->image->W * (size_t)w->image->C;
        jpeg_write_scanlines(&w->jpeg, &row, 1);
    }
    jpeg_finish_compress(&w->jpeg);
    return 0;
}

int image_jpeg_again(Image *image, int quality, Error *e) {
    Writer w = {.e = e, .image = image, .quality = quality};
    Image again;
    w.jpeg.err = jpeg_std_error(&w.errors);
    w.jpeg.client_data = &w;
    w.errors.error_exit = on_write_error;
    int failed = write_jpeg(&w);
    jpeg_destroy_compress(&w.jpeg);
    failed = failed || image_from_jpeg(w.bytes, w.n, &again, e);
    free(w.bytes);
    if (failed) return -1;
    image_free(image);
    *image = again;
    return 0;
}
