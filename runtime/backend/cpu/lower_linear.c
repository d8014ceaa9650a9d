/* Linear layers on the device's own kernels. They read the graph's weights in place, forward and
 * backward. So a plan needs no copy of the weights, the largest of AlexNet and VGG. A following
 * batch norm needs a folded copy, and bf16 a rounded one. */
#include <string.h>

#include "base/memory.h"
#include "backend/cpu/lower.h"

/* y [N,K] = x [N,D] w' + bias, w [K,D]. */
typedef struct LinearJob {
    int64_t N, D, K;
} LinearJob;

static LinearJob linear_job(const Compiler *c, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]), *y = value_of(c, forward->out[0]);
    return (LinearJob){c->request->N, x->C * x->H * x->W, y->C};
}

/* The input in contiguous layout, which is the order of the weights' columns. */
static Layout input_layout(const Compiler *c, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]);
    return layout_plain(c->request->N, x->C, x->H, x->W);
}

static Layout output_layout(const Compiler *c, const Op *forward) {
    return layout_flat(c->request->N, value_of(c, forward->out[0])->C);
}

/* at: x, weights, y, and the bias if there is one. */
static int run_linear(Plan *p, const Step *s, Error *e) {
    const LinearJob *job = s->job;
    (void)e;
    kernels_of(p)->linear(s->at[0], s->at[1], s->buffers > 3 ? s->at[3] : NULL, s->at[2], job->N,
                          job->D, job->K);
    return 0;
}

/* at: dy, weights, dx. */
static int run_data(Plan *p, const Step *s, Error *e) {
    const LinearJob *job = s->job;
    (void)e;
    kernels_of(p)->linear_data(s->at[0], s->at[1], s->at[2], job->N, job->D, job->K);
    return 0;
}

/* at: dy, x, dw, and the gradient of the bias if there is one. */
static int run_weights(Plan *p, const Step *s, Error *e) {
    const LinearJob *job = s->job;
    (void)e;
    kernels_of(p)->linear_weights(s->at[0], s->at[1], s->at[2], s->buffers > 3 ? s->at[3] : NULL,
                                  job->N, job->D, job->K);
    return 0;
}

/* Copies of the parameters with the batch norm folded in, rounded if the op requires it. */
static int kept_parameters(Compiler *c, const Op *op, int64_t K, int *weights, int *bias,
                           Error *e) {
    void *w, *b;
    size_t count = (size_t)c->program->params[op->param[0]].count;
    *weights = buffer_owned(c, count * sizeof(float), "weights", &w, e);
    *bias = *weights < 0 ? -1 : buffer_owned(c, (size_t)K * sizeof(float), "bias", &b, e);
    if (*bias < 0 || c->program->weights(c->program, op, w, b, e)) return -1;
    round_weights(c, op, w, count);
    return 0;
}

static int own_parameters(Compiler *c, const Op *op, int *weights, int *bias, Error *e) {
    *bias = NO_BUFFER;
    *weights = buffer_param(c, op->param[0], e);
    if (*weights < 0 || op->param[1] < 0) return *weights < 0 ? -1 : 0;
    *bias = buffer_param(c, op->param[1], e);
    return *bias < 0 ? -1 : 0;
}

/* Where the output goes: the caller's z, or a new buffer. A mask writes whole bytes of bits, for
 * which z has no room. */
static int output_buffer(Compiler *c, const Op *op, const Layout *layout, Error *e) {
    int output = value_only_reader(c, op->out[0], OP_OUTPUT);
    if (output < 0 || op->open != NO_VALUE) return buffer_of(c, layout, e);
    c->claimed[output] = true;
    return c->buffer[c->program->ops[output].out[0]];
}

int cpu_lower_linear(Compiler *c, const Op *op, Error *e) {
    Layout in = input_layout(c, op), out = output_layout(c, op);
    LinearJob job = linear_job(c, op);
    CpuNote *note = note_of(c, c->op);
    int bias, failed = op->folded >= 0 || op_rounds(c, op)
                           ? kept_parameters(c, op, job.K, &note->weights, &bias, e)
                           : own_parameters(c, op, &note->weights, &bias, e);
    if (failed) return -1;
    note->source = value_as(c, op->in[0], &in, e);
    int y = output_buffer(c, op, &out, e);
    if (note->source < 0 || y < 0 ||
        !step_new(c, "linear", run_linear, bias == NO_BUFFER ? 3 : 4,
                  (int[]){note->source, note->weights, y, bias}, &job, sizeof job, e))
        return -1;
    return deliver(c, op, &out, y, (Done){0}, e);
}

int cpu_lower_linear_data(Compiler *c, const Op *op, Error *e) {
    const Op *forward = twin_of(c, op);
    Layout in = input_layout(c, forward), out = output_layout(c, forward);
    LinearJob job = linear_job(c, forward);
    int weights = note_of(c, op->twin)->weights, bias;
    if (c->request->precision == PLAN_MIXED && kept_parameters(c, op, job.K, &weights, &bias, e))
        return -1;
    int dy = value_as(c, op->in[0], &out, e), dx = buffer_of(c, &in, e);
    if (dy < 0 || dx < 0 ||
        !step_new(c, "linear back", run_data, 3, (int[]){dy, weights, dx}, &job, sizeof job, e))
        return -1;
    return deliver(c, op, &in, dx, (Done){0}, e);
}

int cpu_lower_linear_weights(Compiler *c, const Op *op, Error *e) {
    const Op *forward = twin_of(c, op);
    Layout out = output_layout(c, forward);
    LinearJob job = linear_job(c, forward);
    int at[4] = {value_as(c, op->in[1], &out, e), note_of(c, op->twin)->source,
                 buffer_param_gradient(c, op->param[0], e), NO_BUFFER};
    bool bias = op->param[1] >= 0;
    if (at[0] < 0 || at[2] < 0 || (bias && (at[3] = buffer_param_gradient(c, op->param[1], e)) < 0))
        return -1;
    return step_new(c, "linear weights", run_weights, bias ? 4 : 3, at, &job, sizeof job, e) ? 0
                                                                                             : -1;
}
