/* Linear layers on cuBLAS: y [N,K] = x [N,D] w' with w [K,D]. The weights are read in place from
 * the graph, unless a batch norm is folded in or the type is bf16. A row of x is in the order of
 * the weights' columns, which is contiguous. */
#include <stdio.h>

#include "base/memory.h"
#include "backend/cuda/lower.h"

/* at: the product's a, b, out. */
static int run_product(Plan *p, const Step *s, Error *e) {
    char who[160];
    snprintf(who, sizeof who, "layer '%s', %s", s->layer, s->what);
    return cuda_product(cuda_of_plan(p), s->job, s->at[0], s->at[1], s->at[2], who, e);
}

static int emit_product(Compiler *c, const char *what, Product product, int a, int b, int out,
                        Error *e) {
    product.tensor_cores = c->request->precision == PLAN_TF32;
    return step_new(c, what, run_product, 3, (int[]){a, b, out}, &product, sizeof product, e) ? 0
                                                                                              : -1;
}

static int64_t inputs_of(const Compiler *c, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]);
    return x->C * x->H * x->W;
}

static int64_t outputs_of(const Compiler *c, const Op *forward) {
    return value_of(c, forward->out[0])->C;
}

/* --- weights --- */

static int folded_weights(Compiler *c, const Op *op, CudaNote *note, int *bias, Error *e) {
    size_t count = (size_t)c->program->params[op->param[0]].count, K = (size_t)outputs_of(c, op);
    Real forward = forward_real(c), backward = backward_real(c);
    float *host = memory_take((count + K) * sizeof *host, "weights", e);
    if (!host) return -1;
    int failed = !c->dry && c->program->weights(c->program, op, host, host + count, e);
    if (!failed) {
        note->weights = note->back = buffer_weights(c, host, count, forward, e);
        if (c->request->purpose == PLAN_GRADIENT && backward != forward && note->weights >= 0)
            note->back = buffer_weights(c, host, count, backward, e);
        *bias = buffer_weights(c, host + count, K, REAL_F32, e);
        failed = note->weights < 0 || note->back < 0 || *bias < 0;
    }
    memory_free(host);
    return failed;
}

static int own_weights(Compiler *c, const Op *op, CudaNote *note, int *bias, Error *e) {
    note->weights = note->back = buffer_param(c, op->param[0], e);
    *bias = op->param[1] < 0 ? NO_BUFFER : buffer_param(c, op->param[1], e);
    return note->weights < 0 || (op->param[1] >= 0 && *bias < 0);
}

/* --- the lowerings --- */

/* Returns the caller's z if the logits need no work beyond a bias. */
static int output_buffer(Compiler *c, const Op *op, Error *e) {
    int output = value_only_reader(c, op->out[0], OP_OUTPUT);
    if (output < 0 || op->open != NO_VALUE) return buffer_of(c, op->out[0], forward_real(c), e);
    c->claimed[output] = true;
    return c->buffer[VALUE_Z];
}

int cuda_lower_linear(Compiler *c, const Op *op, Error *e) {
    CudaNote *note = note_of(c, c->op);
    bool copied = op->folded >= 0 || forward_real(c) != REAL_F32 || backward_real(c) != REAL_F32;
    int bias;
    if ((copied ? folded_weights : own_weights)(c, op, note, &bias, e)) return -1;
    note->source = value_plain(c, op->in[0], e);
    int y = output_buffer(c, op, e);
    if (note->source < 0 || y < 0) return -1;
    Product product = {.kind = MATMUL_NT,
                       .M = c->request->N,
                       .K = inputs_of(c, op),
                       .N = outputs_of(c, op),
                       .in = forward_real(c),
                       .to = y == c->buffer[VALUE_Z] ? REAL_F32 : forward_real(c)};
    if (emit_product(c, "linear", product, note->source, note->weights, y, e)) return -1;
    return deliver(c, op, y, bias, false, e);
}

int cuda_lower_linear_data(Compiler *c, const Op *op, Error *e) {
    const Op *forward = twin_of(c, op);
    bool sum;
    int dx = result_ordered(c, op, true, &sum, e);
    if (dx < 0) return -1;
    Product product = {.kind = MATMUL_NN,
                       .M = c->request->N,
                       .K = outputs_of(c, forward),
                       .N = inputs_of(c, forward),
                       .in = backward_real(c),
                       .to = backward_real(c),
                       .sum = sum};
    if (emit_product(c, "linear back", product, c->buffer[op->in[0]], note_of(c, op->twin)->back,
                     dx, e))
        return -1;
    return deliver_as(c, op, true, dx, NO_BUFFER, true, e);
}

int cuda_lower_linear_weights(Compiler *c, const Op *op, Error *e) {
    const Op *forward = twin_of(c, op);
    int dy = c->buffer[op->in[1]], weights = buffer_param_gradient(c, op->param[0], e);
    Product product = {.kind = MATMUL_TN,
                       .M = outputs_of(c, forward),
                       .K = c->request->N,
                       .N = inputs_of(c, forward)};
    if (weights < 0 ||
        emit_product(c, "linear weights", product, dy, note_of(c, op->twin)->source, weights, e))
        return -1;
    if (op->param[1] < 0) return 0;
    return emit_bias_gradient(c, op->param[1], dy, c->request->N, outputs_of(c, forward), e);
}
