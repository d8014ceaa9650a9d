/* Counted host memory. All memory that outlives one call is allocated here. So tests can measure
 * peak use, check that a step allocates nothing, and make any allocation fail.
 *
 * Blocks are aligned to 64 bytes (a cache line and the widest vector). All
 * functions may be called from any thread.
 */
#ifndef ADVRT_BASE_MEMORY_H
#define ADVRT_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Returns `bytes` of uninitialised memory (1 byte for 0), or NULL with the error set. `what` names
 * the use in the message. */
void *memory_take(size_t bytes, const char *what, Error *e);
/* The same for count * size bytes set to zero; an overflow is an error. */
void *memory_zeroed(size_t count, size_t size, const char *what, Error *e);
/* Makes room for one more element in an array. *room is the capacity, in elements of `size` bytes.
 * A full array moves to a larger block; new elements are zero. Start with NULL and 0. */
int memory_grow(void **array, int count, int *room, size_t size, const char *what, Error *e);
/* Frees a block; NULL is allowed. */
void memory_free(void *block);

/* Counts memory of another kind (a device's) as if allocated here, including failures for tests.
 * Returns 0, or -1 with the error set. memory_discharge subtracts it again. */
int memory_charge(size_t bytes, const char *what, Error *e);
void memory_discharge(size_t bytes);

typedef struct MemoryCount {
    size_t in_use;  /* bytes allocated now */
    size_t peak;    /* the maximum of in_use */
    uint64_t takes; /* successful allocations since the start */
} MemoryCount;
MemoryCount memory_count(void);

/* For tests: the n-th allocation from now (1: the next) fails; 0 turns this off. */
void memory_fail_at(uint64_t n);

/* Checked arithmetic for untrusted sizes: returns 0 and sets *out, or returns -1 on overflow. */
int size_mul(size_t a, size_t b, size_t *out);
int size_add(size_t a, size_t b, size_t *out);

#endif
