/* Makes untrusted text (file names, names in weight files) safe to print. A terminal obeys control
 * characters, and bidirectional controls disguise a name.
 */
#ifndef ADVRT_BASE_TEXT_H
#define ADVRT_BASE_TEXT_H

#include <stddef.h>
#include <stdio.h>

/* Replaces with '?' each byte that is not UTF-8, each control character (U+0000-U+001F,
 * U+007F-U+009F), line or paragraph separator (U+2028, U+2029) and bidirectional control (U+061C,
 * Bytes in `keep` stay. Changes the n bytes in place and returns the number left. */
size_t text_clean(char *text, size_t n, const char *keep);
/* Writes cleaned text to a stream; newlines and tabs stay. Allocates no memory. */
void text_put(FILE *stream, const char *text);

#endif
