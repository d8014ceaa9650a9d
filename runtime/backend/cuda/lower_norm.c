/* Normalisation of the image; batch norm at inference that no convolution absorbed; batch norm in
 * training, in f32. */
#include "base/memory.h"
#include "backend/cuda/lower.h"

/* --- of the image --- */

typedef struct NormalizeJob {
    Real real;
    int64_t N, C, P;
} NormalizeJob;

/* at: x, y, means, stds. */
static int run_normalize(Plan *p, const Step *s, Error *e) {
    const NormalizeJob *job = s->job;
    return step_done(p, s,
                     kernel_from_planes(stream_of(p), s->at[0], s->at[2], s->at[3], job->real,
                                        s->at[1], job->N, job->C, job->P),
                     e);
}

/* Reads planes, the layout of images. It also reads channels-last in f32, with each row of channels
 * as an image of one pixel. The kernel reads only f32. */
int cuda_lower_normalize(Compiler *c, const Op *op, Error *e) {
    const Value *v = value_of(c, op->out[0]);
    Real real = forward_real(c);
    bool planes = op->in[0] == VALUE_X;
    int64_t n = value_elements(c, op->out[0]), P = planes ? v->H * v->W : 1;
    int from = planes ? c->buffer[VALUE_X] : value_channels(c, op->in[0], e);
    if (!planes && real != REAL_F32) {
        int read = from;
        from = buffer_of(c, op->in[0], REAL_F32, e);
        if (read < 0 || from < 0 || emit_convert(c, real, read, REAL_F32, from, n, e)) return -1;
    }
    if (from < 0) return -1;
    size_t bytes = (size_t)v->C * sizeof(double);
    int means = buffer_filled(c, op->mean, bytes, "normalisation", e);
    int stds = means < 0 ? -1 : buffer_filled(c, op->std, bytes, "normalisation", e);
    int y = stds < 0 ? -1 : buffer_of(c, op->out[0], real, e);
    NormalizeJob job = {real, n / v->C / P, v->C, P};
    if (y < 0 || !step_new(c, "normalize", run_normalize, 4, (int[]){from, y, means, stds}, &job,
                           sizeof job, e))
        return -1;
    return deliver_as(c, op, false, y, NO_BUFFER, false, e);
}

/* --- scale and shift per channel --- */

typedef struct AffineJob {
    Real real;
    int64_t n, C;
    bool sum;
} AffineJob;

/* at: x, y, scale, shift. */
static int run_affine(Plan *p, const Step *s, Error *e) {
    const AffineJob *job = s->job;
    return step_done(p, s,
                     kernel_affine(stream_of(p), job->real, s->at[0], s->at[2], s->at[3], s->at[1],
                                   job->n, job->C, job->sum),
                     e);
}

/* The constants as buffers; *shift is NO_BUFFER for a gradient. */
static int channel_constants(Compiler *c, const Op *op, size_t C, int *scale, int *shift,
                             Error *e) {
    size_t bytes = C * sizeof(float);
    float *map = memory_take(2 * bytes, "batch norm", e);
    if (!map) return -1;
    int failed =
        !c->dry && c->program->channels(c->program, op, map, op->shift ? map + C : NULL, e);
    *shift = NO_BUFFER;
    *scale = failed ? -1 : buffer_filled(c, map, bytes, "batch norm", e);
    if (op->shift && *scale >= 0) *shift = buffer_filled(c, map + C, bytes, "batch norm", e);
    memory_free(map);
    return *scale < 0 || (op->shift && *shift < 0) ? -1 : 0;
}

/* A gradient goes straight into the caller's image if nothing else is added to it. */
int cuda_lower_affine(Compiler *c, const Op *op, Error *e) {
    const Value *v = value_of(c, op->out[0]);
    int output = op->backward ? value_only_reader(c, op->out[0], OP_OUTPUT) : -1;
    int scale, shift, x = value_channels(c, op->in[0], e);
    if (x < 0 || channel_constants(c, op, (size_t)v->C, &scale, &shift, e)) return -1;
    if (output >= 0 && op->add == NO_VALUE && op->mask == NO_VALUE) {
        c->claimed[output] = true;
        return emit_to_planes(c, "image", backward_real(c), x, scale, c->buffer[VALUE_DX],
                              c->request->N, v->C, v->H * v->W, e);
    }
    AffineJob job = {.real = op_real(c, op), .n = value_elements(c, op->out[0]), .C = v->C};
    int y = result_ordered(c, op, false, &job.sum, e);
    if (y < 0 || !step_new(c, op->backward ? "scale" : "affine", run_affine, 4,
                           (int[]){x, y, scale, shift}, &job, sizeof job, e))
        return -1;
    return deliver_as(c, op, false, y, NO_BUFFER, true, e);
}

/* --- batch norm in training --- */

typedef struct NormJob {
    BatchNorm norm; /* without its pointers */
    bool sum;
} NormJob;

/* Replaces x [n] by its sum over the processes that share the batch. */
static int sum_over_ranks(Plan *p, double *x, int64_t n, Error *e) {
    Group *g = p->request.group;
    return g ? g->sum_double(g, x, n, e) : 0;
}

/* at: x, y, scale, shift, mean, variance, running mean and variance, work. */
static int run_batchnorm(Plan *p, const Step *s, Error *e) {
    cudaStream_t stream = stream_of(p);
    const float *x = s->at[0];
    double *work = s->at[8];
    BatchNorm b = ((const NormJob *)s->job)->norm;
    b.scale = s->at[2], b.shift = s->at[3];
    b.mean = s->at[4], b.variance = s->at[5];
    b.running_mean = s->at[6], b.running_var = s->at[7];
    if (step_done(p, s, kernel_norm_mean(stream, x, work, b), e) ||
        sum_over_ranks(p, b.mean, b.C, e) ||
        step_done(p, s, kernel_norm_variance(stream, x, work, b), e) ||
        sum_over_ranks(p, b.variance, b.C, e))
        return -1;
    return step_done(p, s, kernel_norm_apply(stream, x, s->at[1], b), e);
}

/* at: x, dy, scale, mean, variance, dx, dscale, dshift, work followed by sums [2,C]. */
static int run_batchnorm_back(Plan *p, const Step *s, Error *e) {
    const NormJob *job = s->job;
    cudaStream_t stream = stream_of(p);
    const float *x = s->at[0], *dy = s->at[1];
    float *dx = s->at[5];
    double *work = s->at[8], *sum = work + kernel_rows_work(job->norm.C);
    BatchNorm b = job->norm;
    b.scale = s->at[2], b.mean = s->at[3], b.variance = s->at[4];
    if (step_done(p, s, kernel_norm_products(stream, x, dy, s->at[6], s->at[7], sum, work, b), e) ||
        sum_over_ranks(p, sum, 2 * b.C, e))
        return -1;
    return dx ? step_done(p, s, kernel_norm_back(stream, x, dy, dx, sum, b, job->sum), e) : 0;
}

static NormJob norm_job(const Compiler *c, const Op *op) {
    const PlanRequest *r = c->request;
    const Value *v = value_of(c, op->in[0]);
    int64_t pixels = v->H * v->W;
    return (NormJob){.norm = {.rows = r->N * pixels,
                              .C = v->C,
                              .count = (r->group ? r->whole : r->N) * pixels,
                              .eps = op->eps,
                              .momentum = op->momentum}};
}

int cuda_lower_batchnorm(Compiler *c, const Op *op, Error *e) {
    NormJob job = norm_job(c, op);
    int64_t C = job.norm.C;
    if (job.norm.count < 2)
        return error_set(e, "batch norm in training needs more than one value per channel");
    size_t doubles = (size_t)C * sizeof(double);
    int at[9] = {value_channels(c, op->in[0], e), buffer_of(c, op->out[0], REAL_F32, e)};
    at[2] = buffer_param(c, op->param[0], e), at[3] = buffer_param(c, op->param[1], e);
    at[4] = buffer_new(c, doubles, e), at[5] = buffer_new(c, doubles, e);
    at[6] = buffer_param(c, op->param[2], e), at[7] = buffer_param(c, op->param[3], e);
    at[8] = buffer_new(c, (size_t)kernel_rows_work(C) * sizeof(double), e);
    for (int i = 0; i < 9; i++)
        if (at[i] < 0) return -1;
    note_of(c, c->op)->source = at[0];
    note_of(c, c->op)->weights = at[2];
    value_place(c, op->out[1], at[4]);
    value_place(c, op->out[2], at[5]);
    if (!step_new(c, "batch norm", run_batchnorm, 9, at, &job, sizeof job, e)) return -1;
    return deliver_as(c, op, false, at[1], NO_BUFFER, false, e);
}

int cuda_lower_batchnorm_back(Compiler *c, const Op *op, Error *e) {
    const CudaNote *note = note_of(c, op->twin);
    NormJob job = norm_job(c, op);
    int64_t C = job.norm.C;
    bool wanted = op->out[0] != NO_VALUE;
    int dx = wanted ? result_ordered(c, op, false, &job.sum, e) : NO_BUFFER;
    int dy = value_channels(c, op->in[1], e);
    int dscale = buffer_param_gradient(c, op->param[0], e);
    int dshift = buffer_param_gradient(c, op->param[1], e);
    int work = buffer_new(c, (size_t)(kernel_rows_work(C) + 2 * C) * sizeof(double), e);
    if ((wanted && dx < 0) || dy < 0 || dscale < 0 || dshift < 0 || work < 0) return -1;
    int at[9] = {
        note->source, dy,     note->weights, c->buffer[op->in[2]], c->buffer[op->in[3]], dx,
        dscale,       dshift, work};
    if (!step_new(c, "batch norm back", run_batchnorm_back, 9, at, &job, sizeof job, e)) return -1;
    return wanted ? deliver_as(c, op, false, dx, NO_BUFFER, true, e) : 0;
}
