/* The error record that every fallible function of the core fills in.
 *
 * A fallible function returns int: 0 for success, -1 for failure. On failure the record holds one
 * line: the thing, the value met, and what was wanted. The function never prints, exits, jumps or
 * calls Lua. The caller owns the record. The first failure counts: a function that cleans up after
 * a failure does not overwrite the record.
 */
#ifndef ADVRT_BASE_ERROR_H
#define ADVRT_BASE_ERROR_H

#define ERROR_TEXT 1024

/* The kind of failure, for code that handles it; the text is for people. */
typedef enum ErrorCode {
    ERROR_NONE,      /* no failure */
    ERROR_OTHER,     /* described by the text alone */
    ERROR_NO_MEMORY, /* out of memory; not a mistake of the caller */
} ErrorCode;

typedef struct Error {
    char text[ERROR_TEXT]; /* one line without a newline; empty: no failure */
    ErrorCode code;
} Error;

/* Writes the message and returns -1; sets the code ERROR_OTHER. A message that is too long ends
 * with "...". Bytes that text_clean replaces become '?', so that a hostile name cannot control the
 * terminal. e may be NULL: the message is dropped, and -1 is still returned. */
int error_set(Error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sets the code of the present message to ERROR_NO_MEMORY; returns -1. */
int error_no_memory(Error *e);

/* Puts "prefix: " before the present message; returns -1. */
int error_prefix(Error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
