#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <utf8proc.h>

static bool is_between(int32_t c, int32_t low, int32_t high) {
    return c >= low && c <= high;
}

static bool is_harmless(int32_t c) {
    return !(c < 0x20 || is_between(c, 0x7f, 0x9f) || c == 0x061c ||
             is_between(c, 0x200e, 0x200f) || is_between(c, 0x2028, 0x202e) ||
             is_between(c, 0x2066, 0x2069));
}

/* The length in bytes of the first character, 1 if it is not UTF-8. *fine: whether it is safe to
 * print. */
static size_t character(const char *text, size_t n, const char *keep, bool *fine) {
    int32_t c;
    ptrdiff_t length = utf8proc_iterate((const uint8_t *)text, (ptrdiff_t)n, &c);
    *fine = length > 0 && (is_harmless(c) || (c > 0 && c < 0x80 && strchr(keep, (int)c)));
    return length > 0 ? (size_t)length : 1;
}

size_t text_clean(char *text, size_t n, const char *keep) {
    size_t to = 0;
    for (size_t i = 0, length; i < n; i += length) {
        bool fine;
        length = character(text + i, n - i, keep, &fine);
        if (fine)
            memmove(text + to, text + i, length);
        else
            text[to] = '?';
        to += fine ? length : 1;
    }
    return to;
}

void text_put(FILE *stream, const char *text) {
    for (size_t n = strlen(text), length; n > 0; text += length, n -= length) {
        bool fine;
        length = character(text, n, "\n\t", &fine);
        fwrite(fine ? text : "?", 1, fine ? length : 1, stream);
    }
}
