/* Views, moves and inserts. Between two values in this device's blocks of channels a move stays
 * there where it takes whole blocks to whole blocks: so concatenations and slices of channels, and
 * padding, of nets with convolutions cost a copy and no reorder. All others are in plain order. */
#include <string.h>

#include "backend/cpu/lower.h"

/* --- between layouts --- */

static MoveShape start(int64_t N, int64_t from, int64_t to) {
    return (MoveShape){.ndim = 1, .n = {N}, .from = {from}, .to = {to}};
}

static void append(MoveShape *s, int64_t n, int64_t from, int64_t to) {
    if (n == 1) return;
    s->n[s->ndim] = n, s->from[s->ndim] = from, s->to[s->ndim] = to;
    s->ndim++;
}

static int64_t elements(const Value *v) {
    return v->C * v->H * v->W;
}

static MoveShape in_plain_order(const MoveSpec *m, const Value *x, const Value *y, int64_t N) {
    MoveShape s = start(N, elements(x), elements(y));
    s.from_at = m->from_at, s.to_at = m->to_at;
    for (int d = 0; d < m->ndim; d++) append(&s, m->n[d], m->from[d], m->to[d]);
    return s;
}

/* One side of a move of images: where its dimensions that are not the channels lie in a plane. */
static bool stays_in_plane(const MoveSpec *m, const int64_t *stride, int64_t at, int64_t cells,
                           int channels) {
    int64_t least = at % cells, most = least;
    for (int d = 0; d < m->ndim; d++) {
        if (d == channels) continue;
        *(stride[d] < 0 ? &least : &most) += (m->n[d] - 1) * stride[d];
    }
    return least >= 0 && most < cells;
}

/* The dimension of a move that is a range of channels on both sides; -1 where there is none, or
 * another moves between planes. */
static int channels_of(const MoveSpec *m, int64_t cells_x, int64_t cells_y) {
    int found = -1;
    for (int d = 0; d < m->ndim; d++)
        if (m->n[d] > 1 && m->from[d] == cells_x && m->to[d] == cells_y && found < 0) found = d;
    if (found < 0 || !stays_in_plane(m, m->from, m->from_at, cells_x, found) ||
        !stays_in_plane(m, m->to, m->to_at, cells_y, found))
        return -1;
    return found;
}

/* The move between values in blocks of B channels; false where it cuts through blocks. */
static bool in_blocks(const MoveSpec *m, const Value *x, const Value *y, int64_t N, int64_t B,
                      MoveShape *out) {
    int64_t cells_x = x->H * x->W, cells_y = y->H * y->W;
    int channels = channels_of(m, cells_x, cells_y);
    if (channels < 0) return false;
    int64_t n = m->n[channels], first_x = m->from_at / cells_x, first_y = m->to_at / cells_y;
    bool to_the_end = first_x + n == x->C && first_y + n == y->C;
    if (first_x % B || first_y % B || (n % B && !to_the_end)) return false;
    int64_t blocks_x = (x->C + B - 1) / B, blocks_y = (y->C + B - 1) / B;
    *out = start(N, blocks_x * B * cells_x, blocks_y * B * cells_y);
    out->from_at = first_x * cells_x + m->from_at % cells_x * B;
    out->to_at = first_y * cells_y + m->to_at % cells_y * B;
    append(out, (n + B - 1) / B, B * cells_x, B * cells_y);
    for (int d = 0; d < m->ndim; d++)
        if (d != channels) append(out, m->n[d], m->from[d] * B, m->to[d] * B);
    append(out, B, 1, 1);
    return true;
}

static int64_t size(int64_t v) {
    return v < 0 ? -v : v;
}

static void swap(MoveShape *s, int i, int j) {
    int64_t n = s->n[i], from = s->from[i], to = s->to[i];
    s->n[i] = s->n[j], s->from[i] = s->from[j], s->to[i] = s->to[j];
    s->n[j] = n, s->from[j] = from, s->to[j] = to;
}

static void erase(MoveShape *s, int i) {
    for (s->ndim--; i < s->ndim; i++) swap(s, i, i + 1);
}

/* As the kernel wants it: in the order of what is written, dimensions that are one in memory
 * joined, at least two of them, and of the two inner ones, where the last does not read one element
 * after another, the other does, if one of them can. */
static void settle(MoveShape *s) {
    for (int i = 1; i < s->ndim; i++)
        for (int j = i; j > 0 && size(s->to[j]) > size(s->to[j - 1]); j--) swap(s, j, j - 1);
    for (int i = s->ndim - 2; i >= 0; i--) {
        int64_t n = s->n[i + 1];
        if (s->from[i] != n * s->from[i + 1] || s->to[i] != n * s->to[i + 1]) continue;
        s->n[i + 1] *= s->n[i];
        erase(s, i);
    }
    while (s->ndim < 2) {
        s->n[s->ndim] = 1, s->from[s->ndim] = s->to[s->ndim] = 0;
        swap(s, s->ndim, s->ndim - 1);
        s->ndim++;
    }
    for (int i = 0; i < s->ndim - 1 && s->from[s->ndim - 1] != 1; i++)
        if (s->from[i] == 1) swap(s, i, s->ndim - 2);
}

/* --- steps --- */

typedef struct MoveJob {
    MoveShape shape;
    bool sum;
} MoveJob;

/* at: x, y. */
static int run_move(Plan *p, const Step *s, Error *e) {
    const MoveJob *job = s->job;
    (void)e;
    kernels_of(p)->move(&job->shape, (const float *)s->at[0] + job->shape.from_at,
                        (float *)s->at[1] + job->shape.to_at, job->sum);
    return 0;
}

static int run_zeros(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->fill(s->at[0], 0, *(const int64_t *)s->job);
    return 0;
}

static int emit_move(Compiler *c, const MoveShape *shape, int x, int y, bool sum, Error *e) {
    MoveJob job = {.shape = *shape, .sum = sum};
    settle(&job.shape);
    return step_new(c, "move", run_move, 2, (int[]){x, y}, &job, sizeof job, e) ? 0 : -1;
}

/* --- views --- */

static Layout plain_of(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    return layout_plain(c->request->N, v->C, v->H, v->W);
}

/* Work that is fused into the view is done in place, which the value may not see. */
int cpu_lower_view(Compiler *c, const Op *op, Error *e) {
    Layout in = plain_of(c, op->in[0]), out = plain_of(c, op->out[0]);
    bool changes = op->add != NO_VALUE || op->relu || op->mask != NO_VALUE;
    int x = changes ? value_to_overwrite(c, op->in[0], &in, e) : value_as(c, op->in[0], &in, e);
    return x < 0 ? -1 : deliver(c, op, &out, x, (Done){0}, e);
}

/* --- moves and inserts --- */

/* How a move is done: between which layouts, and which elements of memory. */
typedef struct Way {
    Layout in, out;
    MoveShape shape;
} Way;

static Way way_of(const Compiler *c, const Op *op, int64_t block) {
    const Value *x = value_of(c, op->in[0]), *y = value_of(c, op->out[0]);
    int64_t N = c->request->N;
    Way w;
    if (block > 1 && in_blocks(op->move, x, y, N, block, &w.shape)) {
        w.in = layout_blocked((int)block, N, x->C, x->H, x->W);
        w.out = layout_blocked((int)block, N, y->C, y->H, y->W);
        return w;
    }
    w.shape = in_plain_order(op->move, x, y, N);
    w.in = plain_of(c, op->in[0]);
    w.out = plain_of(c, op->out[0]);
    return w;
}

/* The insert that goes on from what `op` makes; NULL where there is none. */
static const Op *next_insert(const Compiler *c, const Op *op) {
    int next = value_only_reader(c, op->out[0], OP_INSERT);
    if (next < 0 || c->program->ops[next].in[1] != op->out[0]) return NULL;
    return &c->program->ops[next];
}

/* The blocks that the value is made in: those of its first operand in blocks, where all that is put
 * into it keeps to them; 1 where there are none. */
static int64_t block_for(const Compiler *c, const Op *op) {
    MoveShape shape;
    int64_t block = 1;
    for (const Op *o = op; o && block < 2; o = next_insert(c, o))
        block = layout_block(layout_of(c, o->in[0]));
    for (const Op *o = op; o && block > 1; o = next_insert(c, o))
        if (!in_blocks(o->move, value_of(c, o->in[0]), value_of(c, o->out[0]), c->request->N, block,
                       &shape))
            block = 1;
    return block;
}

static int64_t moved(const MoveSpec *m) {
    int64_t n = 1;
    for (int d = 0; d < m->ndim; d++) n *= m->n[d];
    return n;
}

/* Whether the inserts from this one on, none of which writes where another does, leave nothing out.
 */
static bool covers(const Compiler *c, const Op *op) {
    int64_t n = 0;
    for (const Op *o = op; o; o = next_insert(c, o)) n += moved(o->move);
    return n == elements(value_of(c, op->out[0]));
}

/* Where the move writes: over the value that is added or built on, or into a new buffer. */
static int destination(Compiler *c, const Op *op, const Layout *out, bool sum, Error *e) {
    bool insert = op->kind == OP_INSERT;
    if (sum) return value_to_overwrite(c, op->add, out, e);
    if (insert && op->in[1] != NO_VALUE) return value_to_overwrite(c, op->in[1], out, e);
    int made = buffer_of(c, out, e);
    if (made < 0 || !insert || covers(c, op)) return made;
    int64_t n = layout_elements(out);
    return step_new(c, "zeros", run_zeros, 1, &made, &n, sizeof n, e) ? made : -1;
}

/* A gradient has the layout of the value that it is of; else an insert goes on as it began. */
static int lower_move(Compiler *c, const Op *op, Error *e) {
    int of = value_of(c, op->out[0])->gradient_of;
    bool goes_on = op->kind == OP_INSERT && op->in[1] != NO_VALUE;
    int64_t block = of != NO_VALUE ? layout_block(layout_of(c, of))
                    : goes_on      ? layout_block(layout_of(c, op->in[1]))
                                   : block_for(c, op);
    Way w = way_of(c, op, block);
    bool sum =
        op->add != NO_VALUE && !goes_on && of != NO_VALUE && layout_same(&w.out, layout_of(c, of));
    int x = value_as(c, op->in[0], &w.in, e), y = x < 0 ? -1 : destination(c, op, &w.out, sum, e);
    if (y < 0 || emit_move(c, &w.shape, x, y, sum, e)) return -1;
    return deliver(c, op, &w.out, y, (Done){.added = sum}, e);
}

int cpu_lower_move(Compiler *c, const Op *op, Error *e) {
    return lower_move(c, op, e);
}

int cpu_lower_insert(Compiler *c, const Op *op, Error *e) {
    return lower_move(c, op, e);
}
