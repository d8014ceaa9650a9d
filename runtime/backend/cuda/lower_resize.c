/* Interpolation of planes. */
#include "backend/cuda/lower.h"
#include "device/resize.h"

typedef struct ResizeJob {
    Real real;
    Window window;
    bool linear, sum;
} ResizeJob;

static ResizeJob resize_job(const Compiler *c, const Op *op, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]), *y = value_of(c, forward->out[0]);
    return (ResizeJob){
        .real = op_real(c, op),
        .window = {.N = c->request->N, .C = x->C, .H = x->H, .W = x->W, .OH = y->H, .OW = y->W},
        .linear = forward->resize->linear};
}

/* at: x, y, cells of rows and columns. */
static int run_resize(Plan *p, const Step *s, Error *e) {
    const ResizeJob *job = s->job;
    return step_done(p, s,
                     kernel_resize(stream_of(p), job->real, s->at[0], s->at[2], s->at[1],
                                   job->window, job->linear),
                     e);
}

/* at: dy, dx, cells, reaches of rows and columns. */
static int run_resize_back(Plan *p, const Step *s, Error *e) {
    const ResizeJob *job = s->job;
    return step_done(p, s,
                     kernel_resize_back(stream_of(p), job->real, s->at[0], s->at[2], s->at[3],
                                        s->at[1], job->window, job->linear, job->sum),
                     e);
}

int cuda_lower_resize(Compiler *c, const Op *op, Error *e) {
    ResizeJob job = resize_job(c, op, op);
    int cells, x = value_read(c, op->in[0], e), y = buffer_of(c, op->out[0], job.real, e);
    if (x < 0 || y < 0 || resize_tables(c, op, &cells, NULL, e) ||
        !step_new(c, "resize", run_resize, 3, (int[]){x, y, cells}, &job, sizeof job, e))
        return -1;
    return deliver(c, op, y, NO_BUFFER, false, e);
}

int cuda_lower_resize_back(Compiler *c, const Op *op, Error *e) {
    const Op *forward = twin_of(c, op);
    ResizeJob job = resize_job(c, op, forward);
    int cells, reaches, dy = value_read(c, op->in[0], e), dx = result_buffer(c, op, &job.sum, e);
    if (dy < 0 || dx < 0 || resize_tables(c, forward, &cells, &reaches, e) ||
        !step_new(c, "resize back", run_resize_back, 4, (int[]){dy, dx, cells, reaches}, &job,
                  sizeof job, e))
        return -1;
    return deliver(c, op, dx, NO_BUFFER, true, e);
}
