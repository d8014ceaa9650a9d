/* Pooling by own kernels over any channel block: maximum, average, and torch's adaptive average. */
#include <string.h>

#include "backend/cpu/lower.h"

/* --- maximum --- */

/* at: x, y, and the winners' indices if they are kept. */
static int run_maxpool(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->maxpool(s->job, s->at[0], s->at[1], s->buffers > 2 ? s->at[2] : NULL);
    return 0;
}

/* at: dy, indices, dx. */
static int run_maxpool_back(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->maxpool_data(s->job, s->at[0], s->at[1], s->at[2]);
    return 0;
}

static PoolShape pool_shape(const Compiler *c, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]), *y = value_of(c, forward->out[0]);
    int block = cpu_block(c);
    return (PoolShape){.planes = c->request->N * ((y->C + block - 1) / block),
                       .B = block,
                       .H = x->H,
                       .W = x->W,
                       .OH = y->H,
                       .OW = y->W,
                       .kernel = {forward->kernel[0], forward->kernel[1]},
                       .stride = {forward->stride[0], forward->stride[1]},
                       .pad = {forward->pad[0], forward->pad[1], forward->pad[2], forward->pad[3]},
                       .count_pad = forward->count_pad};
}

static Layout value_blocked(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    return blocked_layout(c, v->C, v->H, v->W);
}

int cpu_lower_maxpool(Compiler *c, const Op *op, Error *e) {
    Layout in = value_blocked(c, op->in[0]), out = value_blocked(c, op->out[0]);
    PoolShape shape = pool_shape(c, op);
    if (op->kernel[0] * op->kernel[1] > 1 << 16)
        return error_set(e, "max pooling over %lld x %lld is not supported (at most 65536 places)",
                         (long long)op->kernel[0], (long long)op->kernel[1]);
    int at[3] = {value_as(c, op->in[0], &in, e), buffer_of(c, &out, e), NO_BUFFER};
    if (at[0] < 0 || at[1] < 0) return -1;
    if (op->out[1] != NO_VALUE) {
        at[2] = buffer_new(c, (size_t)layout_elements(&out) * sizeof(uint16_t), e);
        if (at[2] < 0) return -1;
        value_place(c, op->out[1], at[2]);
    }
    if (!step_new(c, "max pool", run_maxpool, at[2] == NO_BUFFER ? 2 : 3, at, &shape, sizeof shape,
                  e))
        return -1;
    return deliver(c, op, &out, at[1], (Done){0}, e);
}

int cpu_lower_maxpool_back(Compiler *c, const Op *op, Error *e) {
    const Op *forward = twin_of(c, op);
    Layout in = value_blocked(c, forward->in[0]), out = value_blocked(c, forward->out[0]);
    PoolShape shape = pool_shape(c, forward);
    int dy = value_as(c, op->in[0], &out, e), dx = buffer_of(c, &in, e);
    if (dy < 0 || dx < 0 ||
        !step_new(c, "max pool back", run_maxpool_back, 3, (int[]){dy, c->buffer[op->in[1]], dx},
                  &shape, sizeof shape, e))
        return -1;
    return deliver(c, op, &in, dx, (Done){0}, e);
}

/* --- average --- */

/* at: x, y. */
static int run_avgwindow(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->avgwindow(s->job, s->at[0], s->at[1]);
    return 0;
}

/* at: dy, dx. */
static int run_avgwindow_back(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->avgwindow_data(s->job, s->at[0], s->at[1]);
    return 0;
}

/* A window of one column treats the columns of contiguous layout separately, like channels of a
 * block. So an average over few planes, such as over channels (net/layers/lrn.c), needs no
 * blocks. */
static PoolShape average_shape(const Compiler *c, const Op *f, Layout *in, Layout *out) {
    const Value *x = value_of(c, f->in[0]), *y = value_of(c, f->out[0]);
    PoolShape s = pool_shape(c, f);
    *in = value_blocked(c, f->in[0]);
    *out = value_blocked(c, f->out[0]);
    if (x->C >= s.B || f->kernel[1] != 1 || f->stride[1] != 1 || x->W != y->W) return s;
    *in = layout_plain(c->request->N, x->C, x->H, x->W);
    *out = layout_plain(c->request->N, y->C, y->H, y->W);
    s.planes = c->request->N * x->C;
    s.B = x->W;
    s.W = s.OW = 1;
    return s;
}

int cpu_lower_avgwindow(Compiler *c, const Op *op, Error *e) {
    Layout in, out;
    PoolShape shape = average_shape(c, op, &in, &out);
    int x = value_as(c, op->in[0], &in, e), y = buffer_of(c, &out, e);
    if (x < 0 || y < 0 ||
        !step_new(c, "average pool", run_avgwindow, 2, (int[]){x, y}, &shape, sizeof shape, e))
        return -1;
    return deliver(c, op, &out, y, (Done){0}, e);
}

int cpu_lower_avgwindow_back(Compiler *c, const Op *op, Error *e) {
    Layout in, out;
    PoolShape shape = average_shape(c, twin_of(c, op), &in, &out);
    int dy = value_as(c, op->in[0], &out, e), dx = buffer_of(c, &in, e);
    if (dy < 0 || dx < 0 ||
        !step_new(c, "average pool back", run_avgwindow_back, 2, (int[]){dy, dx}, &shape,
                  sizeof shape, e))
        return -1;
    return deliver(c, op, &in, dx, (Done){0}, e);
}

/* --- adaptive average --- */

/* at: x, y. */
static int run_average(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->average(s->job, s->at[0], s->at[1]);
    return 0;
}

typedef struct AverageBackJob {
    PoolShape shape;
    bool add;
} AverageBackJob;

/* at: dy, dx. */
static int run_average_back(Plan *p, const Step *s, Error *e) {
    const AverageBackJob *job = s->job;
    (void)e;
    kernels_of(p)->average_data(&job->shape, s->at[0], job->add, s->at[1]);
    return 0;
}

/* The layouts in which the kernels read the input and write the output, in equal blocks. */
static PoolShape adaptive_shape(const Compiler *c, const Op *forward, Layout *in, Layout *out) {
    const Value *x = value_of(c, forward->in[0]), *y = value_of(c, forward->out[0]);
    int64_t N = c->request->N, B;
    *in = channels_layout(c, forward->in[0]);
    B = layout_block(in);
    *out = layout_blocked((int)B, N, y->C, y->H, y->W);
    return (PoolShape){
        .planes = N * ((y->C + B - 1) / B), .H = x->H, .W = x->W, .B = B, .OH = y->H, .OW = y->W};
}

int cpu_lower_avgpool(Compiler *c, const Op *op, Error *e) {
    Layout in, out;
    PoolShape shape = adaptive_shape(c, op, &in, &out);
    int x = value_as(c, op->in[0], &in, e), y = buffer_of(c, &out, e);
    if (x < 0 || y < 0 ||
        !step_new(c, "average pool", run_average, 2, (int[]){x, y}, &shape, sizeof shape, e))
        return -1;
    return deliver(c, op, &out, y, (Done){0}, e);
}

int cpu_lower_avgpool_back(Compiler *c, const Op *op, Error *e) {
    Layout in, out;
    bool add = op->add != NO_VALUE;
    AverageBackJob job = {adaptive_shape(c, twin_of(c, op), &in, &out), add};
    int dy = value_as(c, op->in[0], &out, e);
    int dx = add ? value_to_overwrite(c, op->add, &in, e) : buffer_of(c, &in, e);
    if (dy < 0 || dx < 0 ||
        !step_new(c, "average pool back", run_average_back, 2, (int[]){dy, dx}, &job, sizeof job,
                  e))
        return -1;
    return deliver(c, op, &in, dx, (Done){.added = add}, e);
}
