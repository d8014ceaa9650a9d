/* JSON as a stream of values from a text in memory, without allocation: strings are decoded in
 * place. The caller knows the expected structure, reads one value after another, and skips the
 * rest.
 *
 * (jansson builds a tree of some hundred bytes per `{}` before the caller sees anything, so it is
 * used for writing only.)
 */
#ifndef ADVRT_IO_JSON_READ_H
#define ADVRT_IO_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { JSON_DEPTH = 64 }; /* nesting of skipped values */

/* The text is overwritten as it is read. `what` names it in messages: "its header". */
typedef struct JsonReader {
    char *text;
    size_t length, at;
    const char *what;
    bool broken; /* the JSON itself was invalid */
} JsonReader;

/* The first byte of the next value: one of {["-tfn or a digit; 0 at the end of the text. */
char json_peek(JsonReader *r);
/* Enters an object or array. */
int json_enter(JsonReader *r, char open, Error *e);
/* Whether another element follows in the object or array that `close` ends; otherwise reads its
 * end. *first starts true. */
int json_more(JsonReader *r, char close, bool *first, bool *more, Error *e);
/* Reads a key and its colon; reads a string. Both are UTF-8, NUL-terminated without NUL inside, and
 * live in the text. */
int json_key(JsonReader *r, const char **out, Error *e);
int json_text(JsonReader *r, const char **out, Error *e);
/* Reads a number; *whole: it is an integer of 64 bits, stored in *out. */
int json_number(JsonReader *r, int64_t *out, bool *whole, Error *e);
/* Skips one value. */
int json_skip(JsonReader *r, Error *e);
/* Fails unless only blanks are left. */
int json_end(JsonReader *r, Error *e);

#endif
