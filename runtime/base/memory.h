/* Counted host memory. Everything the core keeps longer than one call is taken
 * here, so that peak use and "no allocation inside a step" can be stated and
 * tested, and so that every allocation can be made to fail.
 *
 * Blocks are aligned to 64 bytes (a cache line and the widest vector). All
 * functions may be called from any thread.
 */
#ifndef ADVRT_BASE_MEMORY_H
#define ADVRT_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Returns `bytes` (1 where 0 is asked for) of uninitialised memory, or NULL with
 * the error set. `what` names the use in the message. */
void *memory_take(size_t bytes, const char *what, Error *e);
/* The same, for count * size bytes set to zero; overflow is an error. */
void *memory_zeroed(size_t count, size_t size, const char *what, Error *e);
/* Makes room for one more element in an array of `count` out of *room elements of `size` bytes,
 * moving it to a larger block where there is none; what is new is zero. Start with NULL and 0. */
int memory_grow(void **array, int count, int *room, size_t size, const char *what, Error *e);
/* Gives a block back; NULL is allowed. */
void memory_free(void *block);

/* Counts memory of another kind (a device's) as if it were taken here, failures for tests included:
 * 0, or -1 with the error set. memory_discharge takes it off the count again. */
int memory_charge(size_t bytes, const char *what, Error *e);
void memory_discharge(size_t bytes);

typedef struct MemoryCount {
    size_t in_use;  /* bytes taken and not given back */
    size_t peak;    /* the most that in_use ever was */
    uint64_t takes; /* calls that returned memory since the start */
} MemoryCount;
MemoryCount memory_count(void);

/* For tests: the n-th call from now (1 is the next) fails; 0 turns it off. */
void memory_fail_at(uint64_t n);

/* Checked arithmetic for sizes that come from outside: 0 and *out set, or -1 on overflow. */
int size_mul(size_t a, size_t b, size_t *out);
int size_add(size_t a, size_t b, size_t *out);

#endif
