#include "io/pnm.h"

#include <math.h>
#include <string.h>

enum { DIGITS = 9, MOST = 65535 };

typedef struct Pnm {
    const unsigned char *bytes;
    size_t n, at;
    uint32_t W, H, most;
    int kind, C; /* kind: the digit after the P */
} Pnm;

static bool is_blank(unsigned char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool image_is_pnm(const unsigned char *bytes, size_t n) {
    return n >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' && is_blank(bytes[2]);
}

static int truncated(const Pnm *p, Error *e) {
    return error_set(e, "is truncated: its %zu bytes end before the image does", p->n);
}

/* Moves to the next character that is neither a blank nor in a comment. */
static int skip(Pnm *p, Error *e) {
    bool comment = false;
    for (; p->at < p->n; p->at++) {
        unsigned char c = p->bytes[p->at];
        if (comment)
            comment = c != '\n' && c != '\r';
        else if (c == '#')
            comment = true;
        else if (!is_blank(c))
            return 0;
    }
    return truncated(p, e);
}

static int number(Pnm *p, uint32_t *out, Error *e) {
    if (skip(p, e) != 0) return -1;
    size_t start = p->at;
    *out = 0;
    for (; p->at < p->n && p->bytes[p->at] >= '0' && p->bytes[p->at] <= '9'; p->at++) {
        if (p->at - start == DIGITS) return error_set(e, "is damaged: a number of too many digits");
        *out = *out * 10 + (p->bytes[p->at] - '0');
    }
    if (p->at == start) return error_set(e, "is damaged: a number is missing");
    return 0;
}

static int read_header(Pnm *p, Error *e) {
    p->kind = p->bytes[1] - '0';
    p->C = p->kind % 3 ? 1 : 3;
    p->most = 1;
    p->at = 2;
    if (number(p, &p->W, e) != 0 || number(p, &p->H, e) != 0) return -1;
    if (p->kind % 3 != 1 && number(p, &p->most, e) != 0) return -1;
    if (p->most < 1 || p->most > MOST)
        return error_set(e, "is damaged: a largest value of %u; 1 to %d are supported", p->most,
                         MOST);
    if (image_check_size(p->W, p->H, e) != 0) return -1;
    /* One blank separates the header from the pixels; pixel bytes may look like blanks. */
    if (p->at == p->n) return truncated(p, e);
    if (!is_blank(p->bytes[p->at])) return error_set(e, "is damaged: no blank after its header");
    p->at++;
    uint64_t values = (uint64_t)p->W * p->H * (uint64_t)p->C, least = values;
    if (p->kind == 4) least = (uint64_t)((p->W + 7) / 8) * p->H;
    if (p->kind > 4 && p->most > 255) least = 2 * values;
    return least > p->n - p->at ? truncated(p, e) : 0;
}

/* Reads one bit of an ASCII bitmap: 0 or 1, with or without blanks between. */
static int letter(Pnm *p, uint32_t *out, Error *e) {
    if (skip(p, e) != 0) return -1;
    *out = (uint32_t)p->bytes[p->at++] - '0';
    return *out > 1 ? error_set(e, "is damaged: a bitmap's letter is neither 0 nor 1") : 0;
}

/* The value at column x of a row. */
static int value(Pnm *p, size_t x, uint32_t *out, Error *e) {
    const unsigned char *at = p->bytes + p->at;
    switch (p->kind) {
    case 1: return letter(p, out, e);
    case 2:
    case 3: return number(p, out, e);
    case 4:
        *out = at[0] >> (7 - x % 8) & 1;
        if (x % 8 == 7 || x + 1 == p->W) p->at++;
        return 0;
    default:
        *out = p->most > 255 ? (uint32_t)at[0] << 8 | at[1] : at[0];
        p->at += p->most > 255 ? 2 : 1;
        return 0;
    }
}

static int level(const Pnm *p, uint32_t v, unsigned char *out, Error *e) {
    if (p->kind % 3 == 1) v = 1 - v; /* 1 is black */
    if (v > p->most && p->kind < 4)
        return error_set(e, "is damaged: a value of %u, the largest is %u", v, p->most);
    double exact = (double)v / p->most * 255;
    *out = (unsigned char)rint(exact < 255 ? exact : 255);
    return 0;
}

int image_from_pnm(const unsigned char *bytes, size_t n, Image *out, Error *e) {
    Pnm p = {.bytes = bytes, .n = n};
    *out = (Image){0};
    if (read_header(&p, e) != 0 || image_new(out, p.W, p.H, p.C, e) != 0) return -1;
    size_t row = (size_t)p.W * (size_t)p.C, count = row * p.H;
    uint32_t v;
    for (size_t i = 0; i < count; i++)
        if (value(&p, i % row, &v, e) != 0 || level(&p, v, out->pixels + i, e) != 0) {
            image_free(out);
            return -1;
        }
    return 0;
}

int image_pnm_size(const unsigned char *bytes, size_t n, uint32_t *W, uint32_t *H, int *C,
                   Error *e) {
    Pnm p = {.bytes = bytes, .n = n};
    if (read_header(&p, e) != 0) return -1;
    *W = p.W;
    *H = p.H;
    *C = p.C;
    return 0;
}
