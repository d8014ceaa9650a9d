/* Elementwise primitives, and the inputs and outputs of the caller. */
#include <string.h>

#include "base/random.h"
#include "backend/cpu/lower.h"

/* --- the caller's tensors --- */

int cpu_lower_input(Compiler *c, const Op *op, Error *e) {
    const Layout *from = layout_of(c, op->in[0]);
    int in = c->buffer[op->in[0]];
    return deliver(c, op, from, in, (Done){0}, e);
}

/* A layer that can writes to the caller's tensor itself, and claims this op. */
int cpu_lower_output(Compiler *c, const Op *op, Error *e) {
    const Layout *from = layout_of(c, op->in[0]), *to = layout_of(c, op->out[0]);
    int in = c->buffer[op->in[0]], out = c->buffer[op->out[0]];
    return layout_same(from, to) ? emit_copy(c, to, in, out, e)
                                 : emit_reorder(c, from, in, to, out, e);
}

/* --- ReLU, masks, rounding --- */

int cpu_lower_relu(Compiler *c, const Op *op, Error *e) {
    const Layout *layout = layout_of(c, op->in[0]);
    int in = c->buffer[op->in[0]];
    int out = value_dies(c, op->in[0]) ? in : buffer_of(c, layout, e);
    Done done = {0};
    if (out < 0 || emit_relu(c, op, layout, in, out, &done, e)) return -1;
    return deliver(c, op, layout, out, done, e);
}

int cpu_lower_mask(Compiler *c, const Op *op, Error *e) {
    const Layout *layout = layout_of(c, value_of(c, op->out[0])->gradient_of);
    int g = value_to_overwrite(c, op->in[0], layout, e);
    Op mask = *op;
    mask.mask = op->in[1];
    return g < 0 ? -1 : deliver(c, &mask, layout, g, (Done){0}, e);
}

static int run_round(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->round_bf16(s->at[0], s->at[1], *(const int64_t *)s->job);
    return 0;
}

int cpu_lower_round(Compiler *c, const Op *op, Error *e) {
    const Layout *layout = layout_of(c, op->in[0]);
    int in = c->buffer[op->in[0]];
    int out = value_dies(c, op->in[0]) ? in : buffer_of(c, layout, e);
    int64_t n = layout_elements(layout);
    if (out < 0 || !step_new(c, "round", run_round, 2, (int[]){in, out}, &n, sizeof n, e))
        return -1;
    return deliver(c, op, layout, out, (Done){0}, e);
}

/* --- sum --- */

static int run_sum(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->binary(BINARY_ADD, s->at[0], s->at[1], s->at[2], *(const int64_t *)s->job);
    return 0;
}

/* The layout of a sum: blocks of channels if either operand has them, for the convolutions that
 * follow. */
static const Layout *sum_layout(const Compiler *c, const Op *op) {
    const Layout *first = layout_of(c, op->in[0]), *second = layout_of(c, op->in[1]);
    return layout_block(first) == 1 && layout_block(second) > 1 ? second : first;
}

int cpu_lower_add(Compiler *c, const Op *op, Error *e) {
    int of = value_of(c, op->out[0])->gradient_of;
    const Layout *layout = of == NO_VALUE ? sum_layout(c, op) : layout_of(c, of);
    int in[2];
    for (int i = 0; i < 2; i++)
        if ((in[i] = value_as(c, op->in[i], layout, e)) < 0) return -1;
    for (int i = 0; i < 2; i++) {
        bool copied = in[i] != c->buffer[op->in[i]];
        if (!copied && !value_dies(c, op->in[i])) continue;
        if (emit_add(c, layout, in[1 - i], in[i], e)) return -1;
        return deliver(c, op, layout, in[i], (Done){0}, e);
    }
    int64_t n = layout_elements(layout);
    int out = buffer_of(c, layout, e);
    if (out < 0 || !step_new(c, "sum", run_sum, 3, (int[]){in[0], in[1], out}, &n, sizeof n, e))
        return -1;
    return deliver(c, op, layout, out, (Done){0}, e);
}

/* --- dropout --- */

/* first: images of the whole batch before this part; B: channels per block. */
typedef struct DropoutJob {
    int64_t bits, elements, C, cells, B, first;
    double p;
    uint64_t stream;
} DropoutJob;

/* out = in / (1 - p) if u >= p, else 0. u comes from the layer's random stream at this run and the
 * element's index in [N,C,H,W] of the whole batch, in any layout. at: in, out, bits. */
static int run_dropout(Plan *plan, const Step *s, Error *e) {
    const DropoutJob *job = s->job;
    const float *in = s->at[0];
    float *out = s->at[1], scale = (float)(1 / (1 - job->p));
    uint8_t *bits = s->at[2];
    uint64_t key = random_bits(job->stream, plan->runs);
    int64_t C = job->C, cells = job->cells, B = job->B, blocks = (C + B - 1) / B;
    (void)e;
#pragma omp parallel for
    for (int64_t byte = 0; byte < job->bits / 8; byte++) {
        bits[byte] = 0;
        for (int64_t i = byte * 8; i < byte * 8 + 8; i++) {
            int64_t plane = i / (B * cells), n = plane / blocks, c = plane % blocks * B + i % B;
            int64_t place = ((job->first + n) * C + c) * cells + i / B % cells;
            bool keep =
                i < job->elements && c < C && random_uniform(key, (uint64_t)place) >= job->p;
            if (keep) bits[byte] |= (uint8_t)(1U << (i % 8));
            out[i] = keep ? in[i] * scale : 0;
        }
    }
    return 0;
}

static int run_dropout_back(Plan *p, const Step *s, Error *e) {
    const DropoutJob *job = s->job;
    (void)e;
    kernels_of(p)->binary_scalar(BINARY_MUL, s->at[0], (float)(1 / (1 - job->p)), s->at[1],
                                 job->bits);
    kernels_of(p)->apply_mask(s->at[1], s->at[2], job->bits);
    return 0;
}

static DropoutJob dropout_job(const Compiler *c, const Op *op, int value, const Layout *l) {
    const Value *v = value_of(c, value);
    return (DropoutJob){.bits = layout_elements_of_bits(l),
                        .elements = layout_elements(l),
                        .C = v->C,
                        .cells = v->H * v->W,
                        .B = layout_block(l),
                        .first = c->request->group ? c->request->first : 0,
                        .p = op->p,
                        .stream = op->stream};
}

int cpu_lower_dropout(Compiler *c, const Op *op, Error *e) {
    Layout layout = channels_layout(c, op->in[0]);
    DropoutJob job = dropout_job(c, op, op->in[0], &layout);
    int x = value_as(c, op->in[0], &layout, e);
    int out = buffer_new(c, (size_t)job.bits * sizeof(float), e);
    int bits = buffer_new(c, (size_t)job.bits / 8, e);
    if (x < 0 || out < 0 || bits < 0 ||
        !step_new(c, "dropout", run_dropout, 3, (int[]){x, out, bits}, &job, sizeof job, e))
        return -1;
    if (op->out[1] != NO_VALUE) value_place(c, op->out[1], bits);
    return deliver(c, op, &layout, out, (Done){0}, e);
}

int cpu_lower_dropout_back(Compiler *c, const Op *op, Error *e) {
    const Layout *layout = layout_of(c, twin_of(c, op)->out[0]);
    DropoutJob job = dropout_job(c, op, op->out[0], layout);
    int dy = value_as(c, op->in[0], layout, e);
    int dx = buffer_new(c, (size_t)job.bits * sizeof(float), e), bits = c->buffer[op->in[1]];
    if (dy < 0 || dx < 0 ||
        !step_new(c, "dropout back", run_dropout_back, 3, (int[]){dy, dx, bits}, &job, sizeof job,
                  e))
        return -1;
    return deliver(c, op, layout, dx, (Done){0}, e);
}
