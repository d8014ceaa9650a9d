/* JSON as a stream of values from a text in memory, with nothing allocated: texts
 * are decoded where they stand. The caller knows the shape that it wants and asks
 * for one value after the other; what it does not want is passed over.
 *
 * (jansson builds a tree of some hundred bytes for each `{}` of a file before
 * anybody can look at it, so it is used for writing only.)
 */
#ifndef ADVRT_IO_JSON_READ_H
#define ADVRT_IO_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { JSON_DEPTH = 64 }; /* of what is passed over */

/* The text is overwritten as it is read. `what` names it in messages: "its header". */
typedef struct JsonReader {
    char *text;
    size_t length, at;
    const char *what;
    bool broken; /* what failed was the JSON, not what the caller wanted of it */
} JsonReader;

/* The first byte of the next value: one of {["-tfn or a digit; 0 where the text ends. */
char json_peek(JsonReader *r);
/* Enters an object or array. */
int json_enter(JsonReader *r, char open, Error *e);
/* Whether another element comes in the object or array that `close` ends, or its end, which is then
 * read. *first starts true. */
int json_more(JsonReader *r, char close, bool *first, bool *more, Error *e);
/* A key and its colon; a text. UTF-8, ended by a NUL, none inside, until the text is freed. */
int json_key(JsonReader *r, const char **out, Error *e);
int json_text(JsonReader *r, const char **out, Error *e);
/* A number; *whole tells whether it is an integer of 64 bits, which *out then is. */
int json_number(JsonReader *r, int64_t *out, bool *whole, Error *e);
/* Passes over one value. */
int json_skip(JsonReader *r, Error *e);
/* Fails where something other than blanks is left. */
int json_end(JsonReader *r, Error *e);

#endif
