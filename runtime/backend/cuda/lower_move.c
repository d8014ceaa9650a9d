/* Views, moves and inserts. */
#include "backend/cuda/lower.h"

typedef struct MoveJob {
    Real real;
    MoveShape shape;
    bool sum;
} MoveJob;

/* at: x, y. */
static int run_move(Plan *p, const Step *s, Error *e) {
    const MoveJob *job = s->job;
    return step_done(
        p, s, kernel_move(stream_of(p), job->real, s->at[0], s->at[1], job->shape, job->sum), e);
}

/* at: y. */
static int run_zeros(Plan *p, const Step *s, Error *e) {
    return step_done(p, s, kernel_fill(stream_of(p), s->at[0], 0, *(const int64_t *)s->job), e);
}

/* A contiguous value counts as one channel. */
static MoveSide side_of(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    bool image = v->shape.ndim == 3;
    return (MoveSide){.C = image ? v->C : 1, .P = v->H * v->W * (image ? 1 : v->C)};
}

/* If the output's channels are contiguous in memory, the dimension that runs along them becomes the
 * last one of the move. */
static MoveShape shape_of(const Compiler *c, const Op *op) {
    const MoveSpec *m = op->move;
    MoveShape s = {.N = c->request->N, .x = side_of(c, op->in[0]), .y = side_of(c, op->out[0])};
    s.x.at = m->from_at, s.y.at = m->to_at;
    for (int channels = 0; channels < 2; channels++)
        for (int d = 0; d < m->ndim; d++) {
            bool is_channel = s.y.P > 1 && m->to[d] == s.y.P;
            if (m->n[d] == 1 || is_channel != (channels == 1)) continue;
            s.n[s.ndim] = m->n[d], s.x.stride[s.ndim] = m->from[d], s.y.stride[s.ndim] = m->to[d];
            s.ndim++;
        }
    return s;
}

static int emit_move(Compiler *c, const Op *op, const MoveShape *shape, int x, int y, bool sum,
                     Error *e) {
    MoveJob job = {op_real(c, op), *shape, sum};
    return step_new(c, "move", run_move, 2, (int[]){x, y}, &job, sizeof job, e) ? 0 : -1;
}

/* --- views --- */

/* Whether the elements have equal order in memory: the channels are equal, or there is nothing but
 * channels. */
static bool is_alike(const MoveSide *x, const MoveSide *y) {
    return x->C == y->C || ((x->C == 1 || x->P == 1) && (y->C == 1 || y->P == 1));
}

/* Work that is fused into a view is done in place, but the viewed value must not change. */
int cuda_lower_view(Compiler *c, const Op *op, Error *e) {
    int64_t n = value_elements(c, op->out[0]);
    MoveShape s = {.ndim = 1,
                   .N = c->request->N,
                   .n = {n / c->request->N},
                   .x = side_of(c, op->in[0]),
                   .y = side_of(c, op->out[0])};
    s.x.stride[0] = s.y.stride[0] = 1;
    bool changes = op->add != NO_VALUE || op->relu || op->mask != NO_VALUE;
    int x = value_read(c, op->in[0], e), y = x;
    if (x < 0) return -1;
    if (!is_alike(&s.x, &s.y)) {
        y = buffer_of(c, op->out[0], op_real(c, op), e);
        if (y < 0 || emit_move(c, op, &s, x, y, false, e)) return -1;
    } else if (changes && (op->in[0] == VALUE_X || !value_dies(c, op->in[0]))) {
        y = buffer_of(c, op->out[0], op_real(c, op), e);
        if (y < 0 || emit_convert(c, op_real(c, op), x, op_real(c, op), y, n, e)) return -1;
    }
    return deliver(c, op, y, NO_BUFFER, false, e);
}

/* --- moves and inserts --- */

/* bf16 numbers are cleared two at a time. An odd count is safe: no other buffer uses the last
 * word. */
static int emit_zeros(Compiler *c, const Op *op, int y, Error *e) {
    size_t bytes = (size_t)value_elements(c, op->out[0]) * real_bytes(op_real(c, op));
    int64_t words = (int64_t)((bytes + sizeof(float) - 1) / sizeof(float));
    return step_new(c, "zeros", run_zeros, 1, &y, &words, sizeof words, e) ? 0 : -1;
}

/* The buffer that an insert without a sum writes: the value that it builds on, a copy of it, or
 * zeros. */
static int insert_buffer(Compiler *c, const Op *op, Error *e) {
    int base = op->in[1];
    if (base != NO_VALUE && value_dies(c, base)) return c->buffer[base];
    Real real = op_real(c, op);
    int y = buffer_of(c, op->out[0], real, e);
    if (y < 0) return -1;
    int failed = base == NO_VALUE
                     ? emit_zeros(c, op, y, e)
                     : emit_convert(c, real, c->buffer[base], real, y, value_elements(c, base), e);
    return failed ? -1 : y;
}

int cuda_lower_move(Compiler *c, const Op *op, Error *e) {
    MoveShape shape = shape_of(c, op);
    bool sum;
    int x = value_read(c, op->in[0], e), y = x < 0 ? -1 : result_buffer(c, op, &sum, e);
    if (y < 0 || emit_move(c, op, &shape, x, y, sum, e)) return -1;
    return deliver(c, op, y, NO_BUFFER, true, e);
}

int cuda_lower_insert(Compiler *c, const Op *op, Error *e) {
    MoveShape shape = shape_of(c, op);
    bool sum = op->in[1] == NO_VALUE && op->add != NO_VALUE;
    int x = value_read(c, op->in[0], e);
    if (x < 0) return -1;
    int y = sum ? result_buffer(c, op, &sum, e) : insert_buffer(c, op, e);
    if (y < 0 || emit_move(c, op, &shape, x, y, sum, e)) return -1;
    return deliver(c, op, y, NO_BUFFER, sum, e);
}
