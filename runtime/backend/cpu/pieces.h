/* Splits a layer's work into pieces, in the order of their results in memory. Each thread starts
 * with its own range, the same part of every layer. So a thread reads next what it has just
 * written. Two cores may share no cache, and fetching a line from the other core costs several
 * times as much. A thread that has finished its range takes pieces from the others: on a machine
 * shared with other programs, the cores are seldom equally fast.
 */
#ifndef ADVRT_DEVICE_CPU_PIECES_H
#define ADVRT_DEVICE_CPU_PIECES_H

#include <omp.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MOST_STRETCHES = 64 };

typedef struct Pieces {
    int64_t count;
    int stretches;
    struct {
        _Alignas(
            64) _Atomic int64_t taken; /* in its own cache line, because the threads write it */
    } stretch[MOST_STRETCHES];
} Pieces;

static inline int64_t pieces_start(const Pieces *p, int stretch) {
    return stretch * p->count / p->stretches;
}

/* Call this before the threads begin. */
static inline void pieces_share(Pieces *p, int64_t count, int threads) {
    p->count = count;
    p->stretches = threads < MOST_STRETCHES ? threads : MOST_STRETCHES;
    for (int s = 0; s < p->stretches; s++) atomic_init(&p->stretch[s].taken, pieces_start(p, s));
}

/* The next piece of the calling thread, or -1. *passed, 0 at first, counts the ranges found
 * empty. */
static inline int64_t pieces_take(Pieces *p, int *passed) {
    for (; *passed < p->stretches; ++*passed) {
        int s = (omp_get_thread_num() + *passed) % p->stretches;
        int64_t i = atomic_fetch_add_explicit(&p->stretch[s].taken, 1, memory_order_relaxed);
        if (i < pieces_start(p, s + 1)) return i;
    }
    return -1;
}

#endif
