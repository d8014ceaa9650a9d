/* The error record that every fallible function of the core fills in.
 *
 * A fallible function returns int: 0 when it is done, -1 when it failed and the
 * record says why in one line that names the thing, what it got and what was
 * wanted. It never prints, exits, jumps or calls Lua. The caller owns the record;
 * the first failure is the one that counts, so a function that cleans up after a
 * failure does not overwrite it.
 */
#ifndef ADVRT_BASE_ERROR_H
#define ADVRT_BASE_ERROR_H

#define ERROR_TEXT 1024

/* What kind of failure it is, for those who act on it; the text is for people alone. */
typedef enum ErrorCode {
    ERROR_NONE,      /* nothing failed */
    ERROR_OTHER,     /* a failure that the text alone tells of */
    ERROR_NO_MEMORY, /* memory ran out, which is no mistake of the caller's */
} ErrorCode;

typedef struct Error {
    char text[ERROR_TEXT]; /* one line, no newline, empty while nothing failed */
    ErrorCode code;
} Error;

/* Writes the message (truncated with "..." where it is too long; what text_clean
 * replaces becomes '?', so that a hostile name cannot drive a terminal) and
 * returns -1; the code is ERROR_OTHER. e may be NULL: then the message is lost, -1 is not. */
int error_set(Error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Gives the message which is there the code ERROR_NO_MEMORY; returns -1. */
int error_no_memory(Error *e);

/* Puts "prefix: " before a message that is already there; returns -1. */
int error_prefix(Error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
