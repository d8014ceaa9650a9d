/* Pooling: maximum (it stores the winners' indices), average, and torch's adaptive average. */
#include "backend/cuda/lower.h"

typedef struct PoolJob {
    Real real;
    Window window;
    AverageWindow average;
    bool sum;
} PoolJob;

static PoolJob pool_job(const Compiler *c, const Op *op, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]), *y = value_of(c, forward->out[0]);
    return (PoolJob){.real = op_real(c, op),
                     .window = {.N = c->request->N,
                                .C = x->C,
                                .H = x->H,
                                .W = x->W,
                                .OH = y->H,
                                .OW = y->W,
                                .kernel = {forward->kernel[0], forward->kernel[1]},
                                .stride = {forward->stride[0], forward->stride[1]},
                                .pad = {forward->pad[0], forward->pad[1]}},
                     .average = {.end = {x->H + forward->pad[2], x->W + forward->pad[3]},
                                 .count_pad = forward->count_pad}};
}

/* at: x, y, indices. */
static int run_maxpool(Plan *p, const Step *s, Error *e) {
    const PoolJob *job = s->job;
    return step_done(
        p, s, kernel_maxpool(stream_of(p), job->real, s->at[0], s->at[1], s->at[2], job->window),
        e);
}

/* at: dy, dx, indices. */
static int run_maxpool_back(Plan *p, const Step *s, Error *e) {
    const PoolJob *job = s->job;
    return step_done(p, s,
                     kernel_maxpool_back(stream_of(p), job->real, s->at[0], s->at[2], s->at[1],
                                         job->window, job->sum),
                     e);
}

/* at: x, y. */
static int run_average(Plan *p, const Step *s, Error *e) {
    const PoolJob *job = s->job;
    return step_done(p, s, kernel_average(stream_of(p), job->real, s->at[0], s->at[1], job->window),
                     e);
}

/* at: dy, dx. */
static int run_average_back(Plan *p, const Step *s, Error *e) {
    const PoolJob *job = s->job;
    return step_done(
        p, s,
        kernel_average_back(stream_of(p), job->real, s->at[0], s->at[1], job->window, job->sum), e);
}

/* at: x, y. */
static int run_avgwindow(Plan *p, const Step *s, Error *e) {
    const PoolJob *job = s->job;
    return step_done(
        p, s,
        kernel_avgwindow(stream_of(p), job->real, s->at[0], s->at[1], job->window, job->average),
        e);
}

/* at: dy, dx. */
static int run_avgwindow_back(Plan *p, const Step *s, Error *e) {
    const PoolJob *job = s->job;
    return step_done(p, s,
                     kernel_avgwindow_back(stream_of(p), job->real, s->at[0], s->at[1], job->window,
                                           job->average, job->sum),
                     e);
}

typedef int Run(Plan *, const Step *, Error *);

static int pool(Compiler *c, const Op *op, const char *what, Run *run, int places, Error *e) {
    PoolJob job = pool_job(c, op, op);
    int x = value_read(c, op->in[0], e), y = buffer_of(c, op->out[0], job.real, e);
    if (x < 0 || y < 0 || !step_new(c, what, run, 3, (int[]){x, y, places}, &job, sizeof job, e))
        return -1;
    return deliver(c, op, y, NO_BUFFER, false, e);
}

static int pool_back(Compiler *c, const Op *op, const char *what, Run *run, int places, Error *e) {
    PoolJob job = pool_job(c, op, twin_of(c, op));
    int dy = c->buffer[op->in[0]], dx = result_buffer(c, op, &job.sum, e);
    if (dx < 0 || !step_new(c, what, run, 3, (int[]){dy, dx, places}, &job, sizeof job, e))
        return -1;
    return deliver(c, op, dx, NO_BUFFER, true, e);
}

int cuda_lower_maxpool(Compiler *c, const Op *op, Error *e) {
    int places = NO_BUFFER;
    if (op->out[1] != NO_VALUE) {
        places = buffer_new(c, (size_t)value_elements(c, op->out[1]) * sizeof(int32_t), e);
        if (places < 0) return -1;
        value_place(c, op->out[1], places);
    }
    return pool(c, op, "max pool", run_maxpool, places, e);
}

int cuda_lower_maxpool_back(Compiler *c, const Op *op, Error *e) {
    return pool_back(c, op, "max pool back", run_maxpool_back, c->buffer[op->in[1]], e);
}

int cuda_lower_avgpool(Compiler *c, const Op *op, Error *e) {
    return pool(c, op, "average pool", run_average, NO_BUFFER, e);
}

int cuda_lower_avgpool_back(Compiler *c, const Op *op, Error *e) {
    return pool_back(c, op, "average pool back", run_average_back, NO_BUFFER, e);
}

int cuda_lower_avgwindow(Compiler *c, const Op *op, Error *e) {
    return pool(c, op, "average pool", run_avgwindow, NO_BUFFER, e);
}

int cuda_lower_avgwindow_back(Compiler *c, const Op *op, Error *e) {
    return pool_back(c, op, "average pool back", run_avgwindow_back, NO_BUFFER, e);
}
