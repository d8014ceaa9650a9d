/* Elementwise primitives, and the inputs and outputs of the caller. */
#include "backend/cuda/lower.h"

/* --- the caller's tensors --- */

int cuda_lower_input(Compiler *c, const Op *op, Error *e) {
    int in = c->buffer[op->in[0]], out = in;
    Real real = op_real(c, op);
    int64_t n = value_elements(c, op->out[0]);
    if (real != REAL_F32) {
        out = buffer_of(c, op->out[0], real, e);
        if (out < 0 || emit_convert(c, REAL_F32, in, real, out, n, e)) return -1;
    }
    return deliver(c, op, out, NO_BUFFER, false, e);
}

/* A layer that can writes to the caller's tensor itself, and claims this op. Logits have one pixel,
 * so any order is right. An image is converted back to planes. */
int cuda_lower_output(Compiler *c, const Op *op, Error *e) {
    const Value *v = value_of(c, op->out[0]);
    int out = c->buffer[op->out[0]], in = value_read(c, op->in[0], e);
    if (in < 0) return -1;
    if (op->backward && value_is_image(c, op->in[0]))
        return emit_to_planes(c, "image", backward_real(c), in, NO_BUFFER, out, c->request->N, v->C,
                              v->H * v->W, e);
    return emit_convert(c, op_real(c, op), in, REAL_F32, out, value_elements(c, op->out[0]), e);
}

/* --- ReLU, masks, sums --- */

typedef struct PointJob {
    Real real;
    float cap;
    int64_t n;
} PointJob;

static PointJob point_job(const Compiler *c, const Op *op) {
    return (PointJob){op_real(c, op), (float)op->cap, value_elements(c, op->out[0])};
}

/* at: x, y. */
static int run_relu(Plan *p, const Step *s, Error *e) {
    const PointJob *job = s->job;
    return step_done(p, s,
                     kernel_relu(stream_of(p), job->real, s->at[0], job->cap, s->at[1], job->n), e);
}

/* at: a, b, sum. */
static int run_sum(Plan *p, const Step *s, Error *e) {
    const PointJob *job = s->job;
    return step_done(p, s,
                     kernel_sum(stream_of(p), job->real, s->at[0], s->at[1], s->at[2], job->n), e);
}

/* The value's own buffer if this op is its last reader, else a new one. */
static int over_or_new(Compiler *c, const Op *op, int value, Error *e) {
    return value != VALUE_X && value_dies(c, value) ? c->buffer[value]
                                                    : buffer_of(c, op->out[0], op_real(c, op), e);
}

/* The order of the result: for a gradient that of its value, else that of an operand. */
static bool order_of(const Compiler *c, const Op *op) {
    int of = value_of(c, op->out[0])->gradient_of;
    return value_is_plain(c, of == NO_VALUE ? op->in[0] : of);
}

int cuda_lower_relu(Compiler *c, const Op *op, Error *e) {
    PointJob job = point_job(c, op);
    bool plain = order_of(c, op);
    int x = value_ordered(c, op->in[0], plain, e),
        y = x < 0 ? -1 : over_or_new(c, op, op->in[0], e);
    if (y < 0 || !step_new(c, "relu", run_relu, 2, (int[]){x, y}, &job, sizeof job, e)) return -1;
    return deliver_as(c, op, plain, y, NO_BUFFER, false, e);
}

int cuda_lower_mask(Compiler *c, const Op *op, Error *e) {
    int g = c->buffer[op->in[0]], out = over_or_new(c, op, op->in[0], e);
    Real real = op_real(c, op);
    Op mask = *op;
    mask.mask = op->in[1];
    if (out < 0 ||
        (out != g && emit_convert(c, real, g, real, out, value_elements(c, op->out[0]), e)))
        return -1;
    return deliver_as(c, &mask, order_of(c, op), out, NO_BUFFER, false, e);
}

int cuda_lower_add(Compiler *c, const Op *op, Error *e) {
    PointJob job = point_job(c, op);
    bool plain = order_of(c, op);
    int a = value_ordered(c, op->in[0], plain, e),
        b = a < 0 ? -1 : value_ordered(c, op->in[1], plain, e);
    int over = op->in[0] != VALUE_X && value_dies(c, op->in[0]) ? op->in[0] : op->in[1];
    int y = b < 0 ? -1 : over_or_new(c, op, over, e);
    if (y < 0 || !step_new(c, "sum", run_sum, 3, (int[]){a, b, y}, &job, sizeof job, e)) return -1;
    return deliver_as(c, op, plain, y, NO_BUFFER, false, e);
}

/* --- dropout, in f32 --- */

/* first: images of the whole batch before this part. */
typedef struct DropoutJob {
    int64_t N, C, P, first;
    double p;
    uint64_t stream;
    bool sum;
} DropoutJob;

/* at: in, out, count of runs. */
static int run_dropout(Plan *p, const Step *s, Error *e) {
    const DropoutJob *job = s->job;
    return step_done(p, s,
                     kernel_dropout(stream_of(p), s->at[0], s->at[2], job->stream, job->p, s->at[1],
                                    job->N, job->C, job->P, job->first, job->sum),
                     e);
}

/* Forward and backward draw the same numbers from the layer's random stream, so no bits are
 * stored. */
static int emit_dropout(Compiler *c, const Op *op, const char *what, int in, int out, bool sum,
                        Error *e) {
    const Value *v = value_of(c, op->out[0]);
    bool image = v->shape.ndim == 3; /* other shapes already have the stream's order */
    DropoutJob job = {.N = c->request->N,
                      .C = image ? v->C : v->C * v->H * v->W,
                      .P = image ? v->H * v->W : 1,
                      .first = c->request->group ? c->request->first : 0,
                      .p = op->p,
                      .stream = op->stream,
                      .sum = sum};
    int runs = ((CudaLowering *)c->own)->runs;
    if (!step_new(c, what, run_dropout, 3, (int[]){in, out, runs}, &job, sizeof job, e)) return -1;
    return deliver(c, op, out, NO_BUFFER, true, e);
}

int cuda_lower_dropout(Compiler *c, const Op *op, Error *e) {
    int x = value_read(c, op->in[0], e), y = buffer_of(c, op->out[0], REAL_F32, e);
    return x < 0 || y < 0 ? -1 : emit_dropout(c, op, "dropout", x, y, false, e);
}

int cuda_lower_dropout_back(Compiler *c, const Op *op, Error *e) {
    bool sum;
    int dx = result_buffer(c, op, &sum, e);
    return dx < 0 ? -1 : emit_dropout(c, op, "dropout back", c->buffer[op->in[0]], dx, sum, e);
}
