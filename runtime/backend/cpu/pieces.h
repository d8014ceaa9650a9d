/* Pieces of a layer's work, in the order in which their results lie in memory. Each thread begins
 * with a stretch of its own, the same part of every layer, so that what it wrote is what it reads
 * next: two cores may have no cache in common, and then a line costs several times as much to fetch
 * from the other's. Where it has finished its stretch it takes pieces of others': on a machine
 * shared with other programs the cores are seldom equally fast.
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
        _Alignas(64) _Atomic int64_t taken; /* alone in its line, which its threads write */
    } stretch[MOST_STRETCHES];
} Pieces;

static inline int64_t pieces_start(const Pieces *p, int stretch) {
    return stretch * p->count / p->stretches;
}

/* Before the threads begin. */
static inline void pieces_share(Pieces *p, int64_t count, int threads) {
    p->count = count;
    p->stretches = threads < MOST_STRETCHES ? threads : MOST_STRETCHES;
    for (int s = 0; s < p->stretches; s++) atomic_init(&p->stretch[s].taken, pieces_start(p, s));
}

/* The calling thread's next piece, or -1; *passed, 0 at first, counts the stretches found empty. */
static inline int64_t pieces_take(Pieces *p, int *passed) {
    for (; *passed < p->stretches; ++*passed) {
        int s = (omp_get_thread_num() + *passed) % p->stretches;
        int64_t i = atomic_fetch_add_explicit(&p->stretch[s].taken, 1, memory_order_relaxed);
        if (i < pieces_start(p, s + 1)) return i;
    }
    return -1;
}

#endif
