/* Views, moves and inserts. A move between values in this device's blocks of channels keeps them if
 * it maps whole blocks to whole blocks. So concatenating, slicing or padding channels costs one
 * copy and no reorder. A move between an image's channels and tokens reads or writes the image's
 * blocks. All other moves use contiguous layout. */
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

/* One side of a move, x or y, as an image. */
typedef struct Side {
    const Value *v;
    const int64_t *stride; /* of the move's dimensions */
    int64_t at, cells;     /* cells: of a plane */
} Side;

static Side side_of(const Compiler *c, int value, const int64_t *stride, int64_t at) {
    const Value *v = value_of(c, value);
    return (Side){v, stride, at, v->H * v->W};
}

static Side read_side(const Compiler *c, const Op *op) {
    return side_of(c, op->in[0], op->move->from, op->move->from_at);
}

static Side written_side(const Compiler *c, const Op *op) {
    return side_of(c, op->out[0], op->move->to, op->move->to_at);
}

/* Whether the dimensions that are not channels stay in a plane. */
static bool stays_in_plane(const MoveSpec *m, const Side *s, int channels) {
    int64_t least = s->at % s->cells, most = least;
    for (int d = 0; d < m->ndim; d++) {
        if (d == channels) continue;
        *(s->stride[d] < 0 ? &least : &most) += (m->n[d] - 1) * s->stride[d];
    }
    return least >= 0 && most < s->cells;
}

/* The dimension of a move that is a range of channels on side a, and on side b unless that is NULL.
 * -1 if there is none, or if another dimension crosses planes. */
static int channels_of(const MoveSpec *m, const Side *a, const Side *b) {
    int found = -1;
    for (int d = 0; d < m->ndim && found < 0; d++)
        if (m->n[d] > 1 && a->stride[d] == a->cells && (!b || b->stride[d] == b->cells)) found = d;
    if (found < 0 || !stays_in_plane(m, a, found) || (b && !stays_in_plane(m, b, found))) return -1;
    return found;
}

/* The move between values in blocks of B channels; false if it would split a block. */
static bool in_blocks(const MoveSpec *m, const Side *x, const Side *y, int64_t N, int64_t B,
                      MoveShape *out) {
    int channels = channels_of(m, x, y);
    if (channels < 0) return false;
    int64_t n = m->n[channels], first_x = x->at / x->cells, first_y = y->at / y->cells;
    bool to_the_end = first_x + n == x->v->C && first_y + n == y->v->C;
    if (first_x % B || first_y % B || (n % B && !to_the_end)) return false;
    int64_t blocks_x = (x->v->C + B - 1) / B, blocks_y = (y->v->C + B - 1) / B;
    *out = start(N, blocks_x * B * x->cells, blocks_y * B * y->cells);
    out->from_at = first_x * x->cells + x->at % x->cells * B;
    out->to_at = first_y * y->cells + y->at % y->cells * B;
    append(out, (n + B - 1) / B, B * x->cells, B * y->cells);
    for (int d = 0; d < m->ndim; d++)
        if (d != channels) append(out, m->n[d], m->from[d] * B, m->to[d] * B);
    append(out, B, 1, 1);
    return true;
}

/* The move's dimension that is a range of whole blocks of B channels on this side; -1 if there is
 * none. */
static int blocks_of(const MoveSpec *m, const Side *s, int64_t B) {
    int found = channels_of(m, s, NULL);
    bool whole = found >= 0 && s->cells > 1 && m->n[found] % B == 0 && s->at / s->cells % B == 0;
    return whole ? found : -1;
}

/* The move between `image` in blocks of B channels and a contiguous value on the other side. */
static bool between_orders(const MoveSpec *m, const Side *image, const Side *plain, int64_t N,
                           int64_t B, MoveShape *out) {
    int channels = blocks_of(m, image, B);
    if (channels < 0) return false;
    int64_t cells = image->cells, blocks = (image->v->C + B - 1) / B;
    int64_t at[2] = {image->at / cells * cells + image->at % cells * B, plain->at};
    int64_t whole[2] = {blocks * B * cells, elements(plain->v)};
    bool reads = image->stride == m->from; /* reads the image, and writes contiguously */
    *out = start(N, whole[!reads], whole[reads]);
    out->from_at = at[!reads], out->to_at = at[reads];
    for (int d = 0; d < m->ndim; d++) {
        bool blocked = d == channels;
        int64_t n = blocked ? m->n[d] / B : m->n[d];
        int64_t step[2] = {B * image->stride[d], blocked ? B * plain->stride[d] : plain->stride[d]};
        append(out, n, step[!reads], step[reads]);
    }
    int64_t step[2] = {1, plain->stride[channels]};
    append(out, B, step[!reads], step[reads]);
    return true;
}

/* The number of channels that are adjacent in an image's layout: those of a block, or all with
 * channels last; 1 for contiguous layout, 0 if unknown. */
static int64_t together(const Layout *l) {
    int64_t block = layout_block(l);
    if (block || l->ndims != 4) return block;
    Layout last = layout_channels_last(l->dims[0], l->dims[1], l->dims[2], l->dims[3]);
    return layout_same(l, &last) ? l->dims[1] : 0;
}

/* Whether so many channels together are a block of a layout in blocks. */
static bool is_block(int64_t B) {
    return B == 8 || B == 16;
}

/* The layout of an image with B channels together. */
static Layout layout_together(int64_t B, int64_t N, const Value *v) {
    return B == 1 || is_block(B) ? layout_blocked((int)B, N, v->C, v->H, v->W)
                                 : layout_channels_last(N, v->C, v->H, v->W);
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

/* Prepares a move for the kernel. It orders dimensions as they are written and merges contiguous
 * ones, keeping at least two. If the last dimension does not read contiguously, it puts one that
 * does among the two inner ones, if any. */
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

/* `shape` must have passed settle. */
static int emit_move(Compiler *c, const MoveShape *shape, int x, int y, bool sum, Error *e) {
    MoveJob job = {.shape = *shape, .sum = sum};
    return step_new(c, "move", run_move, 2, (int[]){x, y}, &job, sizeof job, e) ? 0 : -1;
}

/* --- views --- */

static Layout plain_of(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    return layout_plain(c->request->N, v->C, v->H, v->W);
}

/* The output is the input's own memory. Work that is fused into a view is done in place, but the
 * viewed value must not change. */
static int lower_view(Compiler *c, const Op *op, const Layout *in, const Layout *out, Error *e) {
    bool changes = op->add != NO_VALUE || op->relu || op->mask != NO_VALUE;
    int x = changes ? value_to_overwrite(c, op->in[0], in, e) : value_as(c, op->in[0], in, e);
    return x < 0 ? -1 : deliver(c, op, out, x, (Done){0}, e);
}

int cpu_lower_view(Compiler *c, const Op *op, Error *e) {
    Layout in = plain_of(c, op->in[0]), out = plain_of(c, op->out[0]);
    return lower_view(c, op, &in, &out, e);
}

/* --- moves and inserts --- */

/* Whether a settled move of a whole value leaves every element in its place. */
static bool moves_nothing(const MoveShape *s) {
    return s->ndim == 2 && s->n[0] == 1 && s->from[1] == 1 && s->to[1] == 1 && s->from_at == 0 &&
           s->to_at == 0;
}

/* How to do a move: the two layouts, and the elements of memory. */
typedef struct Way {
    Layout in, out;
    MoveShape shape;
} Way;

/* block: channels of out that lie together. */
static Way way_of(const Compiler *c, const Op *op, int64_t block) {
    const MoveSpec *m = op->move;
    const Value *x = value_of(c, op->in[0]), *y = value_of(c, op->out[0]);
    Side from = read_side(c, op), to = written_side(c, op);
    int64_t N = c->request->N, given = together(layout_of(c, op->in[0]));
    Way w = {.in = plain_of(c, op->in[0]), .out = plain_of(c, op->out[0])};
    if (is_block(block) && in_blocks(m, &from, &to, N, block, &w.shape)) {
        w.in = layout_blocked((int)block, N, x->C, x->H, x->W);
        w.out = layout_blocked((int)block, N, y->C, y->H, y->W);
        return w;
    }
    if (block > 1 && between_orders(m, &to, &from, N, block, &w.shape))
        w.out = layout_together(block, N, y);
    else if (given > 1 && between_orders(m, &from, &to, N, given, &w.shape))
        w.in = layout_together(given, N, x);
    else
        w.shape = in_plain_order(m, x, y, N);
    return w;
}

/* The insert that continues what `op` makes; NULL if there is none. */
static const Op *next_insert(const Compiler *c, const Op *op) {
    int next = value_only_reader(c, op->out[0], OP_INSERT);
    if (next < 0 || c->program->ops[next].in[1] != op->out[0]) return NULL;
    return &c->program->ops[next];
}

/* The blocks of the new value. They are the blocks of its first operand in blocks, if everything
 * inserted fits them; else 1. */
static int64_t block_for(const Compiler *c, const Op *op) {
    MoveShape shape;
    int64_t block = 1;
    for (const Op *o = op; o && block < 2; o = next_insert(c, o))
        block = layout_block(layout_of(c, o->in[0]));
    for (const Op *o = op; o && block > 1; o = next_insert(c, o)) {
        Side from = read_side(c, o), to = written_side(c, o);
        if (!in_blocks(o->move, &from, &to, c->request->N, block, &shape)) block = 1;
    }
    return block;
}

/* Whether a forward op that works on channels in blocks reads the value, directly or after up to
 * `far` maps and sums. Maps and sums keep their operand's order. */
static bool read_in_blocks(const Compiler *c, int value, int far) {
    for (int i = value_of(c, value)->made_by + 1; i <= value_of(c, value)->last; i++) {
        const Op *op = &c->program->ops[i];
        bool reads = op->add == value, passes = op->kind == OP_MAP || op->kind == OP_ADD;
        for (int j = 0; j < OP_INPUTS; j++) reads = reads || op->in[j] == value;
        if (!reads || op->backward) continue;
        if (op->kind == OP_CONV || op->kind == OP_MAXPOOL || op->kind == OP_AVGWINDOW) return true;
        if (passes && far > 0 && read_in_blocks(c, op->out[0], far - 1)) return true;
    }
    return false;
}

/* If the channels are contiguous in x, as in tokens, the result gets the blocks that this device's
 * convolutions read. */
static int64_t block_of_tokens(const Compiler *c, const Op *op) {
    enum { FAR = 4 };
    const MoveSpec *m = op->move;
    Side to = written_side(c, op);
    int channels = blocks_of(m, &to, cpu_block(c));
    bool together = channels >= 0 && m->from[channels] == 1;
    return together && read_in_blocks(c, op->out[0], FAR) ? cpu_block(c) : 1;
}

static int64_t moved(const MoveSpec *m) {
    int64_t n = 1;
    for (int d = 0; d < m->ndim; d++) n *= m->n[d];
    return n;
}

/* Whether the inserts from this one on write every element. (No two of them write the same
 * element.) */
static bool covers(const Compiler *c, const Op *op) {
    int64_t n = 0;
    for (const Op *o = op; o; o = next_insert(c, o)) n += moved(o->move);
    return n == elements(value_of(c, op->out[0]));
}

/* The buffer that the move writes: the value that is added to or built on, or a new buffer. */
static int destination(Compiler *c, const Op *op, const Layout *out, bool sum, Error *e) {
    bool insert = op->kind == OP_INSERT;
    if (sum) return value_to_overwrite(c, op->add, out, e);
    if (insert && op->in[1] != NO_VALUE) return value_to_overwrite(c, op->in[1], out, e);
    int made = buffer_of(c, out, e);
    if (made < 0 || !insert || covers(c, op)) return made;
    int64_t n = layout_elements(out);
    return step_new(c, "zeros", run_zeros, 1, &made, &n, sizeof n, e) ? made : -1;
}

/* A gradient has the layout of its value. Otherwise an insert keeps the layout of the first
 * insert. */
static int lower_move(Compiler *c, const Op *op, Error *e) {
    int of = value_of(c, op->out[0])->gradient_of;
    bool goes_on = op->kind == OP_INSERT && op->in[1] != NO_VALUE;
    int64_t block = of != NO_VALUE ? together(layout_of(c, of))
                    : goes_on      ? layout_block(layout_of(c, op->in[1]))
                                   : block_for(c, op);
    if (of == NO_VALUE && op->kind == OP_MOVE && block < 2) block = block_of_tokens(c, op);
    Way w = way_of(c, op, block);
    settle(&w.shape);
    bool whole = value_elements(c, op->in[0]) == value_elements(c, op->out[0]);
    if (op->kind == OP_MOVE && whole && moves_nothing(&w.shape))
        return lower_view(c, op, &w.in, &w.out, e);
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
