#include "io/bmp.h"

#include <string.h>

/* Sizes: the file header, the shortest and longest image header, and the three masks after it.
 */
enum { FILE_HEADER = 14, SHORTEST = 12, INFO = 40, LONGEST = 124, MASKS = 12 };
enum { PLAIN = 0, BITFIELDS = 3 };

typedef struct Bmp {
    const unsigned char *bytes;
    size_t n;
    uint32_t W, H, bits, compression, colours;
    uint32_t header, entry; /* bytes of the image header and of a palette entry */
    bool top_down, grey;
    const unsigned char *palette;
    size_t pixels, row; /* offset of the pixels; bytes per row */
    /* 16 bits and more: the right shift of each of R, G, B, and its largest value. */
    unsigned shift[3], most[3];
} Bmp;

static uint32_t u16(const unsigned char *p) {
    return (uint32_t)p[1] << 8 | p[0];
}

static uint32_t u32(const unsigned char *p) {
    return u16(p + 2) << 16 | u16(p);
}

bool image_is_bmp(const unsigned char *bytes, size_t n) {
    return n >= FILE_HEADER + 4 && bytes[0] == 'B' && bytes[1] == 'M' &&
           u32(bytes + FILE_HEADER) >= SHORTEST && u32(bytes + FILE_HEADER) <= LONGEST;
}

static int truncated(const Bmp *b, Error *e) {
    return error_set(e, "is truncated: its %zu bytes end before the image does", b->n);
}

static int read_sizes(Bmp *b, Error *e) {
    const unsigned char *h = b->bytes + FILE_HEADER;
    b->header = u32(h);
    if (b->n < FILE_HEADER + (size_t)b->header) return truncated(b, e);
    b->entry = b->header == SHORTEST ? 3 : 4;
    if (b->header != SHORTEST && b->header < INFO)
        return error_set(e, "is a BMP with a header of %u bytes, which is not supported",
                         b->header);
    if (b->header == SHORTEST) {
        b->W = u16(h + 4);
        b->H = u16(h + 6);
        b->bits = u16(h + 10);
    } else {
        b->W = u32(h + 4);
        b->H = u32(h + 8);
        b->top_down = h[11] == 0xff; /* a negative height */
        if (b->top_down) b->H = 0u - b->H;
        b->bits = u16(h + 14);
        b->compression = u32(h + 16);
        b->colours = u32(h + 32);
    }
    return image_check_size(b->W, b->H, e);
}

/* The masks that Pillow reads: all of its 16-bit masks, and 32-bit masks of whole bytes. */
static int set_masks(Bmp *b, Error *e) {
    const unsigned char *p = b->bytes + FILE_HEADER + INFO;
    if (b->n < FILE_HEADER + INFO + MASKS) return truncated(b, e);
    uint32_t mask[3] = {u32(p), u32(p + 4), u32(p + 8)};
    bool none = !mask[0] && !mask[1] && !mask[2];
    if (b->bits == 32 && none) return 0;
    for (int c = 0; c < 3; c++) {
        unsigned shift = 0;
        while (shift < 31 && !(mask[c] >> shift & 1)) shift++;
        b->shift[c] = shift;
        b->most[c] = mask[c] >> shift;
    }
    bool green = b->shift[1] == 5 && b->shift[2] == 0 && b->most[0] == 31 && b->most[2] == 31;
    bool fits = b->bits == 16 ? green && ((b->most[1] == 63 && b->shift[0] == 11) ||
                                          (b->most[1] == 31 && b->shift[0] == 10))
                              : true;
    for (int c = 0; c < 3 && b->bits != 16; c++)
        fits = fits && b->most[c] == 255 && b->shift[c] % 8 == 0 && b->shift[c] < b->bits;
    return fits ? 0 : error_set(e, "is a BMP whose colour masks are not supported");
}

static int set_depth(Bmp *b, Error *e) {
    unsigned most = b->bits == 16 ? 31 : 255, step = b->bits == 16 ? 5 : 8;
    for (unsigned c = 0; c < 3; c++) {
        b->shift[c] = step * (2 - c);
        b->most[c] = most;
    }
    if (b->compression == BITFIELDS && b->bits >= 16 && b->header >= INFO) return set_masks(b, e);
    if (b->compression == PLAIN) return 0;
    return error_set(e, "is a BMP with compression %u; save it without", b->compression);
}

/* Whether the palette is black and white, or all levels of grey in order. */
static bool is_grey(const Bmp *b) {
    for (uint32_t i = 0; i < b->colours; i++)
        for (int c = 0; c < 3; c++)
            if (b->palette[i * b->entry + (uint32_t)c] != (b->colours == 2 ? 255 * i : i))
                return false;
    return true;
}

static int set_palette(Bmp *b, Error *e) {
    size_t start = FILE_HEADER + (size_t)b->header;
    if (b->bits > 8) return 0;
    if (b->colours == 0) b->colours = 1u << b->bits;
    if (b->colours > 256)
        return error_set(e, "is a BMP with a palette of %u colours; 256 are supported", b->colours);
    if (b->n - start < (size_t)b->colours * b->entry) return truncated(b, e);
    b->palette = b->bytes + start;
    b->grey = is_grey(b);
    return 0;
}

static int read_header(Bmp *b, Error *e) {
    if (b->n < FILE_HEADER + SHORTEST) return truncated(b, e);
    if (read_sizes(b, e) != 0) return -1;
    if (b->bits != 1 && b->bits != 4 && b->bits != 8 && b->bits != 16 && b->bits != 24 &&
        b->bits != 32)
        return error_set(e, "is a BMP of %u bits; 1, 4, 8, 16, 24 and 32 are supported", b->bits);
    if (set_depth(b, e) != 0 || set_palette(b, e) != 0) return -1;
    b->pixels = u32(b->bytes + 10);
    if (b->palette && b->pixels == FILE_HEADER + b->header) /* some writers omit the palette */
        b->pixels += (size_t)b->colours * b->entry;
    b->row = ((size_t)b->W * b->bits + 31) / 32 * 4;
    if (b->pixels > b->n || b->row * b->H > b->n - b->pixels) return truncated(b, e);
    return 0;
}

static int set_indexed(const Bmp *b, const unsigned char *row, unsigned char *out, Error *e) {
    unsigned per_byte = 8 / b->bits, most = (1u << b->bits) - 1;
    for (uint32_t x = 0; x < b->W; x++) {
        unsigned i = row[x / per_byte] >> (8 - b->bits - x % per_byte * b->bits) & most;
        if (i >= b->colours)
            return error_set(e, "is damaged: a pixel has colour %u of a palette of %u", i,
                             b->colours);
        const unsigned char *colour = b->palette + (size_t)i * b->entry;
        if (b->grey)
            out[x] = colour[0];
        else
            for (int c = 0; c < 3; c++) out[3 * x + (uint32_t)c] = colour[2 - c];
    }
    return 0;
}

static void set_direct(const Bmp *b, const unsigned char *row, unsigned char *out) {
    size_t size = b->bits / 8;
    for (uint32_t x = 0; x < b->W; x++, row += size) {
        uint32_t pixel = u16(row) | (size > 2 ? (uint32_t)row[2] << 16 : 0) |
                         (size > 3 ? (uint32_t)row[3] << 24 : 0);
        for (int c = 0; c < 3; c++, out++)
            *out = (unsigned char)((pixel >> b->shift[c] & b->most[c]) * 255 / b->most[c]);
    }
}

int image_from_bmp(const unsigned char *bytes, size_t n, Image *out, Error *e) {
    Bmp b = {.bytes = bytes, .n = n};
    *out = (Image){0};
    if (read_header(&b, e) != 0 || image_new(out, b.W, b.H, b.grey ? 1 : 3, e) != 0) return -1;
    int failed = 0;
    for (uint32_t y = 0; y < b.H && !failed; y++) {
        const unsigned char *row = bytes + b.pixels + b.row * (b.top_down ? y : b.H - 1 - y);
        unsigned char *to = out->pixels + (size_t)y * b.W * (size_t)out->C;
        if (b.palette)
            failed = set_indexed(&b, row, to, e);
        else
            set_direct(&b, row, to);
    }
    if (failed) image_free(out);
    return failed;
}

int image_bmp_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e) {
    Bmp b = {.bytes = bytes, .n = n};
    if (read_header(&b, e) != 0) return -1;
    *W = b.W;
    *H = b.H;
    *C = b.grey ? 1 : 3;
    return 0;
}
