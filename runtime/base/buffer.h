/* A byte buffer that grows, in counted memory. Its bytes may move when it grows. A zeroed Buffer is
 * empty. A failed append leaves the buffer unchanged.
 */
#ifndef ADVRT_BASE_BUFFER_H
#define ADVRT_BASE_BUFFER_H

#include <stddef.h>

#include "base/error.h"

typedef struct Buffer {
    unsigned char *bytes; /* NULL while nothing was appended */
    size_t size, capacity;
} Buffer;

/* Makes room for n more bytes. */
int buffer_reserve(Buffer *b, size_t n, Error *e);
/* Adds n bytes at the end. */
int buffer_append(Buffer *b, const void *bytes, size_t n, Error *e);
/* Frees the memory and leaves the buffer empty. */
void buffer_free(Buffer *b);

#endif
