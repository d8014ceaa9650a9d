#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* Truncates the text to `most` bytes, at the end of a character, and ends it with "...". */
static void cut(char *text, size_t most) {
    while (most > 0 && ((unsigned char)text[most] & 0xc0) == 0x80) most--;
    memcpy(text + most, "...", 4);
}

static void finish(char *text, int length) {
    if (length >= ERROR_TEXT) cut(text, ERROR_TEXT - 4);
    text[text_clean(text, strlen(text), "")] = 0;
}

int error_set(Error *e, const char *format, ...) {
    if (!e) return -1;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(e->text, ERROR_TEXT, format, args);
    va_end(args);
    finish(e->text, length);
    e->code = ERROR_OTHER;
    return -1;
}

int error_no_memory(Error *e) {
    if (e) e->code = ERROR_NO_MEMORY;
    return -1;
}

int error_prefix(Error *e, const char *format, ...) {
    if (!e) return -1;
    char text[ERROR_TEXT], prefix[ERROR_TEXT / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    int length = snprintf(text, sizeof text, "%s: %s", prefix, e->text);
    memcpy(e->text, text, sizeof text);
    finish(e->text, length);
    return -1;
}
