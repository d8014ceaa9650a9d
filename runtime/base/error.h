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

#include <stdbool.h>

#define ERROR_TEXT 1024

typedef struct Error {
    char text[ERROR_TEXT]; /* one line, no newline, empty while nothing failed */
    bool no_memory;        /* memory ran out, which is no mistake of the caller's */
} Error;

/* Writes the message (truncated with "..." where it is too long; what text_clean
 * replaces becomes '?', so that a hostile name cannot drive a terminal) and
 * returns -1. e may be NULL: then the message is lost, -1 is not. */
int error_set(Error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Notes that the message which is there tells of memory that ran out; returns -1. */
int error_no_memory(Error *e);

/* Puts "prefix: " before a message that is already there; returns -1. */
int error_prefix(Error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
