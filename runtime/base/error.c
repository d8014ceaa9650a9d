#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void finish(char *text, int length) {
    if (length >= ERROR_TEXT) memcpy(text + ERROR_TEXT - 4, "...", 4);
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f) *p = '?';
}

int error_set(Error *e, const char *format, ...) {
    if (!e) return -1;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(e->text, ERROR_TEXT, format, args);
    va_end(args);
    finish(e->text, length);
    e->no_memory = false;
    return -1;
}

int error_no_memory(Error *e) {
    if (e) e->no_memory = true;
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
