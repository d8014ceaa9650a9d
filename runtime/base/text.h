/* Text that others chose (file names, names in weight files) made fit to be shown. A terminal obeys
 * control characters, and bidirectional controls make a name read as another one.
 */
#ifndef ADVRT_BASE_TEXT_H
#define ADVRT_BASE_TEXT_H

#include <stddef.h>
#include <stdio.h>

/* Replaces with '?' each byte that is not UTF-8, each control character (U+0000-U+001F,
 * U+007F-U+009F), line or paragraph separator (U+2028, U+2029) and bidirectional control (U+061C,
 * U+200E, U+200F, U+202A-U+202E, U+2066-U+2069). Bytes in `keep` stay. The n bytes change in place;
 * returns how many are left. */
size_t text_clean(char *text, size_t n, const char *keep);
/* Writes the same to a stream; lines and tabs stay. Takes no memory. */
void text_put(FILE *stream, const char *text);

#endif
