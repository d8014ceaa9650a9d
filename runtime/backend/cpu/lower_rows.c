/* Softmax and standardisation of rows, and their gradients, of values in contiguous layout. */
#include "backend/cpu/lower.h"

typedef struct RowsJob {
    RowsSpec rows; /* over the whole batch */
    double eps;
} RowsJob;

static RowsJob rows_job(const Compiler *c, const Op *op) {
    RowsJob job = {op->rows, op->eps};
    job.rows.outer *= c->request->N;
    return job;
}

/* at: x, y. */
static int run_softmax(Plan *p, const Step *s, Error *e) {
    const RowsJob *job = s->job;
    (void)e;
    kernels_of(p)->softmax(s->at[0], s->at[1], job->rows.outer, job->rows.K, job->rows.inner);
    return 0;
}

/* at: dy, y, dx. */
static int run_softmax_back(Plan *p, const Step *s, Error *e) {
    const RowsJob *job = s->job;
    (void)e;
    kernels_of(p)->softmax_back(s->at[0], s->at[1], s->at[2], job->rows.outer, job->rows.K,
                                job->rows.inner);
    return 0;
}

/* at: x, y, and 1 / sqrt(variance + eps) if it is kept. */
static int run_standardize(Plan *p, const Step *s, Error *e) {
    const RowsJob *job = s->job;
    (void)e;
    kernels_of(p)->standardize(s->at[0], job->eps, s->at[1], s->buffers > 2 ? s->at[2] : NULL,
                               job->rows.outer, job->rows.K, job->rows.inner);
    return 0;
}

/* at: dy, y, 1 / sqrt(variance + eps), dx. */
static int run_standardize_back(Plan *p, const Step *s, Error *e) {
    const RowsJob *job = s->job;
    (void)e;
    kernels_of(p)->standardize_back(s->at[0], s->at[1], s->at[2], s->at[3], job->rows.outer,
                                    job->rows.K, job->rows.inner);
    return 0;
}

static int emit_rows(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
                     const Op *op, int n, const int *buffers, Error *e) {
    RowsJob job = rows_job(c, op);
    return step_new(c, what, run, n, buffers, &job, sizeof job, e) ? 0 : -1;
}

/* A value in contiguous layout, and a buffer for the result: the value's own if this op is its last
 * reader, else a new one. The kernels read a whole row before they write it. */
static int read_plain(Compiler *c, int value, int *over, Error *e) {
    Layout layout = plain_layout(c, value);
    int in = value_as(c, value, &layout, e);
    bool copied = in >= 0 && in != c->buffer[value];
    if (in >= 0 && *over == NO_BUFFER && (copied || value_dies(c, value))) *over = in;
    return in;
}

int cpu_lower_softmax(Compiler *c, const Op *op, Error *e) {
    Layout layout = plain_layout(c, op->out[0]);
    int y = NO_BUFFER, x = read_plain(c, op->in[0], &y, e);
    if (x >= 0 && y == NO_BUFFER) y = buffer_of(c, &layout, e);
    if (x < 0 || y < 0 || emit_rows(c, "softmax", run_softmax, op, 2, (int[]){x, y}, e)) return -1;
    return deliver(c, op, &layout, y, (Done){0}, e);
}

int cpu_lower_softmax_back(Compiler *c, const Op *op, Error *e) {
    Layout layout = plain_layout(c, op->out[0]);
    int dx = NO_BUFFER, none = 0, dy = read_plain(c, op->in[0], &dx, e);
    int y = dy < 0 ? -1 : read_plain(c, op->in[1], &none, e);
    if (y >= 0 && dx == NO_BUFFER) dx = buffer_of(c, &layout, e);
    if (y < 0 || dx < 0 ||
        emit_rows(c, "softmax back", run_softmax_back, op, 3, (int[]){dy, y, dx}, e))
        return -1;
    return deliver(c, op, &layout, dx, (Done){0}, e);
}

int cpu_lower_standardize(Compiler *c, const Op *op, Error *e) {
    Layout layout = plain_layout(c, op->out[0]);
    int y = NO_BUFFER, x = read_plain(c, op->in[0], &y, e), spread = NO_BUFFER;
    if (x >= 0 && y == NO_BUFFER) y = buffer_of(c, &layout, e);
    if (x < 0 || y < 0) return -1;
    if (op->out[1] != NO_VALUE) {
        Layout rows = plain_layout(c, op->out[1]);
        spread = buffer_of(c, &rows, e);
        if (spread < 0) return -1;
        *layout_of(c, op->out[1]) = rows;
        value_place(c, op->out[1], spread);
    }
    if (emit_rows(c, "standardize", run_standardize, op, spread == NO_BUFFER ? 2 : 3,
                  (int[]){x, y, spread}, e))
        return -1;
    return deliver(c, op, &layout, y, (Done){0}, e);
}

int cpu_lower_standardize_back(Compiler *c, const Op *op, Error *e) {
    Layout layout = plain_layout(c, op->out[0]);
    int dx = NO_BUFFER, none = 0, dy = read_plain(c, op->in[0], &dx, e);
    int y = dy < 0 ? -1 : read_plain(c, op->in[1], &none, e);
    if (y >= 0 && dx == NO_BUFFER) dx = buffer_of(c, &layout, e);
    if (y < 0 || dx < 0 ||
        emit_rows(c, "standardize back", run_standardize_back, op, 4,
                  (int[]){dy, y, c->buffer[op->in[2]], dx}, e))
        return -1;
    return deliver(c, op, &layout, dx, (Done){0}, e);
}
