#include "device/arena.h"

#include <stdbool.h>

#include "base/memory.h"

static bool lives_overlap(const ArenaPiece *a, const ArenaPiece *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Places piece id at the lowest free offset and returns its end. order: the pieces placed so far,
 * sorted by offset. */
static size_t place(ArenaPiece *all, int *order, int placed, int id) {
    ArenaPiece *p = &all[id];
    size_t at = 0;
    int insert = placed;
    for (int i = 0; i < placed; i++) {
        const ArenaPiece *other = &all[order[i]];
        if (!lives_overlap(p, other)) continue;
        if (at + p->bytes <= other->offset) break;
        if (other->offset + other->bytes > at) at = other->offset + other->bytes;
    }
    p->offset = at;
    while (insert > 0 && all[order[insert - 1]].offset > at) {
        order[insert] = order[insert - 1];
        insert--;
    }
    order[insert] = id;
    return at + p->bytes;
}

int arena_place(ArenaPiece *pieces, int n, size_t alignment, size_t *bytes, Error *e) {
    int *ids = memory_zeroed((size_t)n * 2 + 1, sizeof *ids, "plan", e);
    if (!ids) return -1;
    for (int i = 0; i < n; i++) {
        ArenaPiece *p = &pieces[i];
        p->bytes = (p->bytes + alignment - 1) / alignment * alignment;
        int k = i;
        for (; k > 0 && pieces[ids[k - 1]].bytes < p->bytes; k--) ids[k] = ids[k - 1];
        ids[k] = i;
    }
    *bytes = 0;
    for (int i = 0; i < n; i++) {
        size_t end = place(pieces, ids + n, i, ids[i]);
        if (end > *bytes) *bytes = end;
    }
    memory_free(ids);
    return 0;
}
