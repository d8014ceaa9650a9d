#include "base/buffer.h"

#include <string.h>

#include "base/memory.h"

enum { SMALLEST = 256 };

int buffer_reserve(Buffer *b, size_t n, Error *e) {
    size_t wanted, doubled;
    if (size_add(b->size, n, &wanted) != 0)
        return error_set(e, "a buffer of %zu and %zu bytes cannot be allocated", b->size, n);
    if (wanted <= b->capacity) return 0;
    if (size_mul(b->capacity, 2, &doubled) != 0 || doubled < wanted) doubled = wanted;
    if (doubled < SMALLEST) doubled = SMALLEST;
    unsigned char *bytes = memory_take(doubled, "a buffer", e);
    if (!bytes) return -1;
    if (b->size) memcpy(bytes, b->bytes, b->size);
    memory_free(b->bytes);
    b->bytes = bytes;
    b->capacity = doubled;
    return 0;
}

int buffer_append(Buffer *b, const void *bytes, size_t n, Error *e) {
    if (buffer_reserve(b, n, e) != 0) return -1;
    if (n) memcpy(b->bytes + b->size, bytes, n);
    b->size += n;
    return 0;
}

void buffer_free(Buffer *b) {
    memory_free(b->bytes);
    *b = (Buffer){0};
}
