/* The gradients of moves and inserts: moves in the opposite direction. */
#include "net/build.h"
#include "net/graph.h"

static int64_t moved(const MoveSpec *m) {
    int64_t n = 1;
    for (int d = 0; d < m->ndim; d++) n *= m->n[d];
    return n;
}

/* The opposite move, into a value of `count` elements. The move must read no element twice. */
static MoveSpec reversed(const MoveSpec *m, int64_t count) {
    MoveSpec back = *m;
    for (int d = 0; d < m->ndim; d++) back.from[d] = m->to[d], back.to[d] = m->from[d];
    back.from_at = m->to_at;
    back.to_at = m->from_at;
    back.whole = moved(m) == count;
    return back;
}

/* Moves the gradient of out to the gradient of x. Elements that the move did not read get 0. */
static int move_back(Build *b, int i, int g, Error *e) {
    int x = b->program->ops[i].in[0];
    if (!gradient_wanted(b, x)) return 0;
    MoveSpec back = reversed(b->program->ops[i].move, shape_count(&b->program->values[x].shape));
    const MoveSpec *spec = build_spec(b, &back, sizeof back, e);
    Op *op = spec ? gradient_op(b, back.whole ? OP_MOVE : OP_INSERT, i, x, 1, &g, e) : NULL;
    if (!op) return -1;
    op->move = spec;
    return gradient_add(b, i, x, op->out[0], e);
}

int gradient_move(Build *b, int i, int g, Error *e) {
    return move_back(b, i, g, e);
}

/* The base's elements under x have no effect: they are 0 or were not written (program.h). So the
 * base's gradient is the gradient of out; nothing reads its elements under x. */
int gradient_insert(Build *b, int i, int g, Error *e) {
    int base = b->program->ops[i].in[1];
    if (move_back(b, i, g, e)) return -1;
    return base == NO_VALUE ? 0 : gradient_add(b, i, base, g, e);
}
