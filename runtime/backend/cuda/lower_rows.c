/* Softmax and standardisation of rows, and their gradients. */
#include "backend/cuda/lower.h"

typedef struct RowsJob {
    RowShape rows;
    Real gradients, values;
    double eps;
} RowsJob;

/* Whether rows run across the channels of a channels-last value. Such rows are contiguous in
 * memory. */
static bool across_channels(const Compiler *c, int value, const RowsSpec *r) {
    const Value *v = value_of(c, value);
    return r->outer == 1 && r->K == v->C && r->inner == v->H * v->W && r->inner > 1 &&
           !value_is_plain(c, value);
}

static RowsJob rows_job(const Compiler *c, const Op *op, bool turned) {
    const RowsSpec *r = &op->rows;
    int64_t N = c->request->N;
    return (RowsJob){.rows = turned ? (RowShape){N * r->inner, r->K, 1}
                                    : (RowShape){N * r->outer, r->K, r->inner},
                     .gradients = backward_real(c),
                     .values = forward_real(c),
                     .eps = op->eps};
}

/* at: x, y. */
static int run_softmax(Plan *p, const Step *s, Error *e) {
    const RowsJob *j = s->job;
    return step_done(p, s,
                     kernel_softmax_rows(stream_of(p), j->values, s->at[0], s->at[1], j->rows), e);
}

/* at: dy, y, dx. */
static int run_softmax_back(Plan *p, const Step *s, Error *e) {
    const RowsJob *j = s->job;
    return step_done(p, s,
                     kernel_softmax_rows_back(stream_of(p), j->gradients, j->values, s->at[0],
                                              s->at[1], s->at[2], j->rows),
                     e);
}

/* at: x, y, 1 / sqrt(variance + eps) or NULL. */
static int run_standardize(Plan *p, const Step *s, Error *e) {
    const RowsJob *j = s->job;
    return step_done(p, s,
                     kernel_standardize_rows(stream_of(p), j->values, s->at[0], j->eps, s->at[1],
                                             s->at[2], j->rows),
                     e);
}

/* at: dy, y, dx, 1 / sqrt(variance + eps). */
static int run_standardize_back(Plan *p, const Step *s, Error *e) {
    const RowsJob *j = s->job;
    return step_done(p, s,
                     kernel_standardize_rows_back(stream_of(p), j->gradients, j->values, s->at[0],
                                                  s->at[1], s->at[3], s->at[2], j->rows),
                     e);
}

typedef int Run(Plan *p, const Step *s, Error *e);

/* The value in the order for reading rows: its own order for rows across channels, else
 * contiguous. */
static int rows_of(Compiler *c, int value, bool turned, Error *e) {
    return value_ordered(c, value, !turned, e);
}

/* y gets the order of x. kept: a buffer for the second result, or NO_BUFFER. */
static int forward(Compiler *c, const Op *op, const char *what, Run *run, int kept, Error *e) {
    bool turned = across_channels(c, op->in[0], &op->rows);
    RowsJob job = rows_job(c, op, turned);
    int x = rows_of(c, op->in[0], turned, e);
    int y = x < 0 ? -1 : buffer_of(c, op->out[0], forward_real(c), e);
    if (y < 0 || !step_new(c, what, run, 3, (int[]){x, y, kept}, &job, sizeof job, e)) return -1;
    return deliver_as(c, op, !turned, y, NO_BUFFER, false, e);
}

/* Converts dy to the order of y; y keeps its order. */
static int backward(Compiler *c, const Op *op, const char *what, Run *run, int kept, Error *e) {
    bool turned = across_channels(c, op->in[1], &op->rows);
    RowsJob job = rows_job(c, op, turned);
    int dy = rows_of(c, op->in[0], turned, e), y = dy < 0 ? -1 : rows_of(c, op->in[1], turned, e);
    int dx = y < 0 ? -1 : buffer_of(c, op->out[0], backward_real(c), e);
    if (dx < 0 || !step_new(c, what, run, 4, (int[]){dy, y, dx, kept}, &job, sizeof job, e))
        return -1;
    return deliver_as(c, op, !turned, dx, NO_BUFFER, false, e);
}

int cuda_lower_softmax(Compiler *c, const Op *op, Error *e) {
    return forward(c, op, "softmax", run_softmax, NO_BUFFER, e);
}

int cuda_lower_softmax_back(Compiler *c, const Op *op, Error *e) {
    return backward(c, op, "softmax back", run_softmax_back, NO_BUFFER, e);
}

int cuda_lower_standardize(Compiler *c, const Op *op, Error *e) {
    int kept = NO_BUFFER;
    if (op->out[1] != NO_VALUE) {
        kept = buffer_of(c, op->out[1], REAL_F32, e);
        if (kept < 0) return -1;
        value_place(c, op->out[1], kept);
    }
    return forward(c, op, "standardize", run_standardize, kept, e);
}

int cuda_lower_standardize_back(Compiler *c, const Op *op, Error *e) {
    return backward(c, op, "standardize back", run_standardize_back, c->buffer[op->in[2]], e);
}
