#include "base/memory.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The header stores the block's size. Its length equals the alignment, so the memory after it is
 * aligned. */
enum { ALIGNMENT = 64 };

static atomic_size_t in_use, peak;
static atomic_uint_fast64_t takes, fail_at;

static int fails_now(void) {
    uint_fast64_t left = atomic_load(&fail_at);
    while (left && !atomic_compare_exchange_weak(&fail_at, &left, left - 1)) {
    }
    return left == 1;
}

static void count(size_t bytes) {
    size_t now = atomic_fetch_add(&in_use, bytes) + bytes, high = atomic_load(&peak);
    while (now > high && !atomic_compare_exchange_weak(&peak, &high, now)) {
    }
    atomic_fetch_add(&takes, 1);
}

static int out_of_memory(size_t bytes, const char *what, Error *e) {
    error_set(e, "%s: out of memory (%zu bytes asked for, %zu in use)", what, bytes,
              atomic_load(&in_use));
    return error_no_memory(e);
}

/* Kernels read weights and activations in strides that the TLB cannot cover with small pages.
 * ResNet-50's step takes a fifteenth less time with huge pages. Only whole huge pages inside the
 * block are advised, so no memory beyond the block is used. A kernel without huge pages is not an
 * error. Unlike aligned_alloc, posix_memalign accepts a size that is not a multiple of the
 * alignment, so a sanitizer knows where the block ends. */
static void *allocate(size_t whole) {
    enum { HUGE_PAGE = 2 << 20 };
    const bool huge = whole >= 2 * HUGE_PAGE;
    void *block;
    if (posix_memalign(&block, huge ? HUGE_PAGE : ALIGNMENT, whole) != 0) return NULL;
    if (huge) madvise(block, whole - whole % HUGE_PAGE, MADV_HUGEPAGE);
    return block;
}

void *memory_take(size_t bytes, const char *what, Error *e) {
    size_t whole;
    if (bytes == 0) bytes = 1;
    void *block;
    if (size_add(bytes, ALIGNMENT, &whole) != 0) {
        error_set(e, "%s: cannot allocate %zu bytes", what, bytes);
        return NULL;
    }
    if (fails_now() || !(block = allocate(whole))) {
        out_of_memory(bytes, what, e);
        return NULL;
    }
    memcpy(block, &bytes, sizeof bytes);
    count(bytes);
    return (char *)block + ALIGNMENT;
}

void *memory_zeroed(size_t count, size_t size, const char *what, Error *e) {
    size_t bytes;
    if (size_mul(count, size, &bytes) != 0) {
        error_set(e, "%s: cannot allocate %zu elements of %zu bytes", what, count, size);
        return NULL;
    }
    void *block = memory_take(bytes, what, e);
    if (block) memset(block, 0, bytes);
    return block;
}

int memory_grow(void **array, int count, int *room, size_t size, const char *what, Error *e) {
    if (count < *room) return 0;
    int wanted = *room ? 2 * *room : 64;
    void *larger = memory_zeroed((size_t)wanted, size, what, e);
    if (!larger) return -1;
    if (count) memcpy(larger, *array, (size_t)count * size);
    memory_free(*array);
    *array = larger;
    *room = wanted;
    return 0;
}

void memory_free(void *block) {
    if (!block) return;
    char *start = (char *)block - ALIGNMENT;
    size_t bytes;
    memcpy(&bytes, start, sizeof bytes);
    atomic_fetch_sub(&in_use, bytes);
    free(start);
}

int memory_charge(size_t bytes, const char *what, Error *e) {
    if (fails_now()) return out_of_memory(bytes, what, e);
    count(bytes);
    return 0;
}

void memory_discharge(size_t bytes) {
    atomic_fetch_sub(&in_use, bytes);
}

MemoryCount memory_count(void) {
    return (MemoryCount){atomic_load(&in_use), atomic_load(&peak), atomic_load(&takes)};
}

void memory_fail_at(uint64_t n) {
    atomic_store(&fail_at, n);
}

int size_mul(size_t a, size_t b, size_t *out) {
    return __builtin_mul_overflow(a, b, out) ? -1 : 0;
}

int size_add(size_t a, size_t b, size_t *out) {
    return __builtin_add_overflow(a, b, out) ? -1 : 0;
}
