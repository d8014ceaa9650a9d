#include "io/image.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/bmp.h"
#include "io/jpeg.h"
#include "io/png.h"
#include "io/pnm.h"
#include "io/webp.h"

int image_check_size(uint64_t W, uint64_t H, Error *e) {
    if (W > 0 && H > 0 && W <= IMAGE_SIDE && H <= IMAGE_SIDE && W * H <= IMAGE_PIXELS) return 0;
    return error_set(e,
                     "an image of %llu x %llu pixels; sides of 1 to %u and at most %llu pixels are "
                     "supported",
                     (unsigned long long)W, (unsigned long long)H, IMAGE_SIDE,
                     (unsigned long long)IMAGE_PIXELS);
}

int image_new(Image *out, uint64_t W, uint64_t H, int C, Error *e) {
    *out = (Image){0};
    if (image_check_size(W, H, e) != 0) return -1;
    out->pixels = memory_take((size_t)W * (size_t)H * (size_t)C, "an image", e);
    if (!out->pixels) return -1;
    out->W = (uint32_t)W;
    out->H = (uint32_t)H;
    out->C = C;
    return 0;
}

void image_free(Image *image) {
    memory_free(image->pixels);
    *image = (Image){0};
}

static void replace(Image *image, const Image *by) {
    image_free(image);
    *image = *by;
}

/* --- channels --- */

/* In place: the result is the first third of the memory. */
static void make_grey(Image *image) {
    const unsigned char *rgb = image->pixels;
    size_t n = (size_t)image->W * image->H;
    if (image->C == 1) return;
    for (size_t i = 0; i < n; i++, rgb += 3)
        image->pixels[i] =
            (unsigned char)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
    image->C = 1;
}

static int make_rgb(Image *image, Error *e) {
    Image rgb;
    size_t n = (size_t)image->W * image->H;
    if (image->C == 3) return 0;
    if (image_new(&rgb, image->W, image->H, 3, e) != 0) return -1;
    for (size_t i = 0; i < n; i++) memset(rgb.pixels + 3 * i, image->pixels[i], 3);
    replace(image, &rgb);
    return 0;
}

void image_planes(const Image *image, unsigned char *planes) {
    size_t n = (size_t)image->W * image->H, C = (size_t)image->C;
    for (size_t c = 0; c < C; c++)
        for (size_t i = 0; i < n; i++) planes[c * n + i] = image->pixels[i * C + c];
}

/* --- the middle --- */

/* Half of n, rounded half to even. */
static uint64_t half(uint64_t n) {
    return n / 2 + (n % 2 && n / 2 % 2);
}

/* One direction: where the copied part starts in input and output, and its length. */
typedef struct Span {
    size_t from, to, n;
} Span;

static Span middle(uint32_t size, uint64_t wanted) {
    if (wanted > size) return (Span){0, (size_t)(wanted - size) / 2, size};
    return (Span){(size_t)half(size - wanted), 0, (size_t)wanted};
}

int image_crop(Image *in, uint64_t W, uint64_t H, Error *e) {
    Image out;
    if (W == in->W && H == in->H) return 0;
    if (image_new(&out, W, H, in->C, e) != 0) {
        image_free(in);
        return -1;
    }
    Span x = middle(in->W, W), y = middle(in->H, H);
    size_t C = (size_t)in->C;
    memset(out.pixels, 0, out.W * (size_t)out.H * C);
    for (size_t i = 0; i < y.n; i++)
        memcpy(out.pixels + ((y.to + i) * out.W + x.to) * C,
               in->pixels + ((y.from + i) * in->W + x.from) * C, x.n * C);
    replace(in, &out);
    return 0;
}

unsigned char image_level(float v) {
    if (!(v > 0)) return 0; /* NaN too */
    return (unsigned char)rintf((v < 1 ? v : 1) * 255);
}

/* --- files --- */

/* Recognises formats by a file's first bytes, and names their readers. */
typedef struct Format {
    bool (*fits)(const unsigned char *bytes, size_t n);
    int (*decode)(const unsigned char *bytes, size_t n, Image *out, Error *e);
    int (*size)(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C, Error *e);
} Format;

static const Format formats[] = {
    {image_is_png, image_from_png, image_png_size},
    {image_is_jpeg, image_from_jpeg, image_jpeg_size},
    {image_is_webp, image_from_webp, image_webp_size},
    {image_is_bmp, image_from_bmp, image_bmp_size},
    {image_is_pnm, image_from_pnm, image_pnm_size},
};

/* Reads the file at path; on failure *bytes is NULL. */
static int read_file(const char *path, unsigned char **bytes, size_t *n, const Format **format,
                     Error *e) {
    if (file_read_whole(path, IMAGE_FILE, bytes, n, e) != 0) return -1;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        *format = &formats[i];
        if (formats[i].fits(*bytes, *n)) return 0;
    }
    memory_free(*bytes);
    *bytes = NULL;
    return error_set(e, "%s: %s", path, *n ? "not a PNG, JPEG, WebP, BMP or PNM file" : "is empty");
}

static int decode(const char *path, Image *out, Error *e) {
    unsigned char *bytes;
    size_t n;
    const Format *format;
    if (read_file(path, &bytes, &n, &format, e) != 0) return -1;
    int failed = format->decode(bytes, n, out, e);
    memory_free(bytes);
    return failed ? error_prefix(e, "%s", path) : 0;
}

static int resize_shorter(Image *image, uint64_t side, Error *e) {
    uint64_t W = image->W, H = image->H;
    return W <= H ? image_resize(image, side, side * H / W, e)
                  : image_resize(image, side * W / H, side, e);
}

/* Grey becomes RGB last: the pixels are the same as if it were first. */
static int fulfil(Image *image, const ImageWish *wish, Error *e) {
    if (wish->channels == 1) make_grey(image);
    if (wish->resize && resize_shorter(image, wish->resize, e) != 0) return -1;
    if (wish->crop && image_crop(image, wish->crop, wish->crop, e) != 0) return -1;
    return wish->channels == 3 ? make_rgb(image, e) : 0;
}

int image_load(const char *path, const ImageWish *wish, Image *out, Error *e) {
    *out = (Image){0};
    if (decode(path, out, e) != 0) return -1;
    if (fulfil(out, wish, e) == 0) return 0;
    image_free(out);
    return error_prefix(e, "%s", path);
}

int image_size(const char *path, uint32_t *W, uint32_t *H, int *C, Error *e) {
    unsigned char *bytes;
    size_t n;
    const Format *format;
    if (read_file(path, &bytes, &n, &format, e) != 0) return -1;
    int failed = format->size(bytes, n, W, H, C, e);
    memory_free(bytes);
    return failed ? error_prefix(e, "%s", path) : 0;
}
