/* Interpolation of planes, by own kernels over blocks of channels. */
#include "backend/cpu/lower.h"
#include "device/resize.h"

typedef struct ResizeJob {
    PoolShape shape;
    bool linear;
} ResizeJob;

static ResizeJob resize_job(const Compiler *c, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]), *y = value_of(c, forward->out[0]);
    int block = cpu_block(c);
    return (ResizeJob){.shape = {.planes = c->request->N * ((y->C + block - 1) / block),
                                 .B = block,
                                 .H = x->H,
                                 .W = x->W,
                                 .OH = y->H,
                                 .OW = y->W},
                       .linear = forward->resize->linear};
}

/* at: x, y, cells of rows and columns. */
static int run_resize(Plan *p, const Step *s, Error *e) {
    const ResizeJob *job = s->job;
    const ResizeCell *cells = s->at[2];
    (void)e;
    kernels_of(p)->resize(&job->shape, job->linear, cells, cells + job->shape.OH, s->at[0],
                          s->at[1]);
    return 0;
}

/* at: dy, dx, cells, reaches of rows and columns. */
static int run_resize_back(Plan *p, const Step *s, Error *e) {
    const ResizeJob *job = s->job;
    const ResizeCell *cells = s->at[2];
    const ResizeReach *reaches = s->at[3];
    (void)e;
    kernels_of(p)->resize_data(&job->shape, job->linear, cells, cells + job->shape.OH, reaches,
                               reaches + job->shape.H, s->at[0], s->at[1]);
    return 0;
}

static Layout value_blocked(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    return blocked_layout(c, v->C, v->H, v->W);
}

int cpu_lower_resize(Compiler *c, const Op *op, Error *e) {
    Layout in = value_blocked(c, op->in[0]), out = value_blocked(c, op->out[0]);
    ResizeJob job = resize_job(c, op);
    int cells, x = value_as(c, op->in[0], &in, e), y = buffer_of(c, &out, e);
    if (x < 0 || y < 0 || resize_tables(c, op, &cells, NULL, e) ||
        !step_new(c, "resize", run_resize, 3, (int[]){x, y, cells}, &job, sizeof job, e))
        return -1;
    return deliver(c, op, &out, y, (Done){0}, e);
}

int cpu_lower_resize_back(Compiler *c, const Op *op, Error *e) {
    const Op *forward = twin_of(c, op);
    Layout in = value_blocked(c, forward->in[0]), out = value_blocked(c, forward->out[0]);
    ResizeJob job = resize_job(c, forward);
    int cells, reaches, dy = value_as(c, op->in[0], &out, e), dx = buffer_of(c, &in, e);
    if (dy < 0 || dx < 0 || resize_tables(c, forward, &cells, &reaches, e) ||
        !step_new(c, "resize back", run_resize_back, 4, (int[]){dy, dx, cells, reaches}, &job,
                  sizeof job, e))
        return -1;
    return deliver(c, op, &in, dx, (Done){0}, e);
}
