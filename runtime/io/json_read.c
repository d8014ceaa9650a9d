#include "io/json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Messages give the offending byte, counted from 1. */
static int wrong(JsonReader *r, const char *problem, Error *e) {
    unsigned char c = r->at < r->length ? (unsigned char)r->text[r->at] : 0;
    r->broken = true;
    if (r->at >= r->length)
        return error_set(e, "%s is not valid JSON (byte %zu: %s near end of file)", r->what,
                         r->length, problem);
    if (c < 0x20 || c >= 0x7f)
        return error_set(e, "%s is not valid JSON (byte %zu: %s near byte 0x%02x)", r->what,
                         r->at + 1, problem, c);
    return error_set(e, "%s is not valid JSON (byte %zu: %s near '%c')", r->what, r->at + 1,
                     problem, c);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

char json_peek(JsonReader *r) {
    while (r->at < r->length && is_blank(r->text[r->at])) r->at++;
    return r->at < r->length ? r->text[r->at] : 0;
}

int json_enter(JsonReader *r, char open, Error *e) {
    if (json_peek(r) != open) return wrong(r, open == '{' ? "'{' expected" : "'[' expected", e);
    r->at++;
    return 0;
}

int json_more(JsonReader *r, char close, bool *first, bool *more, Error *e) {
    char c = json_peek(r);
    bool object = close == '}', begun = !*first;
    *first = false;
    *more = c != close;
    if (!*more) {
        r->at++;
        return 0;
    }
    if (begun && c != ',') return wrong(r, object ? "'}' expected" : "']' expected", e);
    if (begun) r->at++;
    if (object && json_peek(r) != '"') return wrong(r, "string or '}' expected", e);
    return 0;
}

/* Four hexadecimal digits. */
static int hex4(JsonReader *r, unsigned *out, Error *e) {
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = r->at < r->length ? r->text[r->at] : 0;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16) return wrong(r, "invalid escape", e);
        *out = *out << 4 | digit;
    }
    return 0;
}

static size_t put_utf8(char *to, unsigned c) {
    if (c < 0x80) return to[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6) to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)(lead[n] | c);
    return n;
}

/* Decodes an escape after a backslash. The result is never longer, so it is written in place. */
static int escape(JsonReader *r, char *to, size_t *n, Error *e) {
    static const char from[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
    unsigned c, low;
    const char *found = r->at < r->length && r->text[r->at] ? strchr(from, r->text[r->at]) : NULL;
    if (found) {
        to[0] = plain[found - from];
        *n = 1;
        r->at++;
        return 0;
    }
    if (r->at >= r->length || r->text[r->at] != 'u') return wrong(r, "invalid escape", e);
    r->at++;
    if (hex4(r, &c, e) != 0) return -1;
    if (c >= 0xd800 && c < 0xdc00) {
        if (r->at + 2 > r->length || memcmp(r->text + r->at, "\\u", 2) != 0)
            return wrong(r, "invalid escape", e);
        r->at += 2;
        if (hex4(r, &low, e) != 0) return -1;
        if (low < 0xdc00 || low > 0xdfff) return wrong(r, "invalid escape", e);
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        return wrong(r, "invalid escape", e);
    }
    if (c == 0) return wrong(r, "a NUL byte in a string", e);
    *n = put_utf8(to, c);
    return 0;
}

/* Length of the UTF-8 sequence at p, with `left` bytes available; 0 if invalid. */
static size_t sequence(const unsigned char *p, size_t left) {
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (n == 0 || p[0] < 0xc2 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

int json_text(JsonReader *r, const char **out, Error *e) {
    if (json_peek(r) != '"') return wrong(r, "string expected", e);
    char *to = r->text + ++r->at;
    *out = to;
    for (;;) {
        if (r->at >= r->length) return wrong(r, "premature end of a string", e);
        unsigned char c = (unsigned char)r->text[r->at];
        size_t n = 0;
        if (c == '"') break;
        if (c < 0x20) return wrong(r, "control character in a string", e);
        if (c == '\\') {
            r->at++;
            if (escape(r, to, &n, e) != 0) return -1;
        } else {
            n = sequence((const unsigned char *)r->text + r->at, r->length - r->at);
            if (n == 0) return wrong(r, "invalid UTF-8", e);
            memmove(to, r->text + r->at, n);
            r->at += n;
        }
        to += n;
    }
    r->at++;
    *to = 0;
    return 0;
}

int json_key(JsonReader *r, const char **out, Error *e) {
    if (json_text(r, out, e) != 0) return -1;
    if (json_peek(r) != ':') return wrong(r, "':' expected", e);
    r->at++;
    return 0;
}

static bool is_digit(const JsonReader *r) {
    return r->at < r->length && r->text[r->at] >= '0' && r->text[r->at] <= '9';
}

static bool take(JsonReader *r, const char *any) {
    if (r->at >= r->length || !r->text[r->at] || !strchr(any, r->text[r->at])) return false;
    r->at++;
    return true;
}

static int digits(JsonReader *r, Error *e) {
    if (!is_digit(r)) return wrong(r, "invalid number", e);
    while (is_digit(r)) r->at++;
    return 0;
}

int json_number(JsonReader *r, int64_t *out, bool *whole, Error *e) {
    json_peek(r);
    size_t from = r->at;
    take(r, "-");
    if (take(r, "0") ? is_digit(r) && wrong(r, "invalid number", e) : digits(r, e)) return -1;
    *whole = true;
    if (take(r, ".")) {
        *whole = false;
        if (digits(r, e) != 0) return -1;
    }
    if (take(r, "eE")) {
        *whole = false;
        take(r, "+-");
        if (digits(r, e) != 0) return -1;
    }
    if (!*whole) return 0;
    char text[24];
    size_t n = r->at - from;
    *whole = n < sizeof text;
    if (!*whole) return 0;
    memcpy(text, r->text + from, n);
    text[n] = 0;
    errno = 0;
    *out = strtoll(text, NULL, 10);
    *whole = errno == 0;
    return 0;
}

/* A value that is neither object nor array. */
static int skip_plain(JsonReader *r, Error *e) {
    static const char *const words[] = {"true", "false", "null"};
    const char *text;
    int64_t number;
    bool whole;
    char c = json_peek(r);
    if (c == '"') return json_text(r, &text, e);
    if (c == '-' || is_digit(r)) return json_number(r, &number, &whole, e);
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if (r->length - r->at >= n && memcmp(r->text + r->at, words[i], n) == 0) {
            r->at += n;
            return 0;
        }
    }
    return wrong(r, "unexpected token", e);
}

int json_skip(JsonReader *r, Error *e) {
    char closes[JSON_DEPTH];
    bool first[JSON_DEPTH], more;
    const char *key;
    int depth = 0;
    do {
        char c = json_peek(r);
        if (c == '{' || c == '[') {
            if (depth == JSON_DEPTH) return wrong(r, "nested too deeply", e);
            closes[depth] = c == '{' ? '}' : ']';
            first[depth++] = true;
            r->at++;
        } else if (skip_plain(r, e) != 0) {
            return -1;
        }
        for (more = false; depth > 0 && !more; depth -= !more)
            if (json_more(r, closes[depth - 1], &first[depth - 1], &more, e) != 0) return -1;
        if (depth > 0 && closes[depth - 1] == '}' && json_key(r, &key, e) != 0) return -1;
    } while (depth > 0);
    return 0;
}

int json_end(JsonReader *r, Error *e) {
    return json_peek(r) ? wrong(r, "end of file expected", e) : 0;
}
