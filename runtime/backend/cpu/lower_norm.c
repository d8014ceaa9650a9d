/* Normalisation: (x - mean) / std; batch norm at inference that no convolution absorbed; and batch
 * norm in training. */
#include <math.h>
#include <string.h>

#include "backend/cpu/lower.h"

/* --- of the image --- */

typedef struct PlanesJob {
    int64_t N, C, cells;
} PlanesJob;

static PlanesJob planes_job(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    return (PlanesJob){c->request->N, v->C, v->H * v->W};
}

/* at: x, y, means, stds. */
static int run_normalize(Plan *p, const Step *s, Error *e) {
    const PlanesJob *job = s->job;
    (void)e;
    kernels_of(p)->normalize(s->at[0], s->at[2], s->at[3], s->at[1], job->N, job->C, job->cells);
    return 0;
}

int cpu_lower_normalize(Compiler *c, const Op *op, Error *e) {
    const Value *v = value_of(c, op->out[0]);
    size_t bytes = (size_t)v->C * sizeof(double);
    Layout layout = layout_plain(c->request->N, v->C, v->H, v->W);
    PlanesJob job = planes_job(c, op->out[0]);
    int means = buffer_filled(c, op->mean, bytes, "normalisation", e);
    int stds = means < 0 ? -1 : buffer_filled(c, op->std, bytes, "normalisation", e);
    int x = stds < 0 ? -1 : value_as(c, op->in[0], &layout, e), y = buffer_of(c, &layout, e);
    if (x < 0 || y < 0 ||
        !step_new(c, "normalize", run_normalize, 4, (int[]){x, y, means, stds}, &job, sizeof job,
                  e))
        return -1;
    return deliver(c, op, &layout, y, (Done){0}, e);
}

/* --- scale and shift per channel --- */

/* cells: cells of a plane of one block of B channels */
typedef struct AffineJob {
    int64_t N, blocks, cells, B;
} AffineJob;

/* at: x, y, scale, shift. */
static int run_affine(Plan *p, const Step *s, Error *e) {
    const AffineJob *job = s->job;
    int64_t blocks = job->blocks, cells = job->cells, B = job->B;
    const float *in = s->at[0], *scale = s->at[2], *shift = s->at[3];
    float *out = s->at[1];
    (void)p, (void)e;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < job->N; n++)
        for (int64_t k = 0; k < blocks; k++)
            for (int64_t i = 0; i < cells; i++)
                for (int64_t b = 0; b < B; b++) {
                    int64_t at = ((n * blocks + k) * cells + i) * B + b;
                    out[at] = in[at] * scale[k * B + b] + shift[k * B + b];
                }
    return 0;
}

/* at: dy, dx, scale, in contiguous layout. */
static int run_scale(Plan *p, const Step *s, Error *e) {
    const PlanesJob *job = s->job;
    (void)e;
    kernels_of(p)->binary_scalar(BINARY_ADD, s->at[0], 0.0F, s->at[1],
                                 job->N * job->C * job->cells);
    kernels_of(p)->scale_channels(s->at[1], s->at[2], job->N, job->C, job->cells);
    return 0;
}

/* A gradient has no shift, so those constants stay zero. */
int cpu_lower_affine(Compiler *c, const Op *op, Error *e) {
    int like = op->backward ? twin_of(c, op)->out[0] : op->in[0];
    Layout layout = channels_layout(c, like);
    const Value *v = value_of(c, op->out[0]);
    int64_t B = layout_block(&layout), padded = v->C + 16; /* block padding reads these zeros */
    void *scale, *shift;
    int scales = buffer_owned(c, (size_t)padded * sizeof(float), "normalisation", &scale, e);
    int shifts = scales < 0
                     ? -1
                     : buffer_owned(c, (size_t)padded * sizeof(float), "normalisation", &shift, e);
    int x = shifts < 0 ? -1 : value_as(c, op->in[0], &layout, e), y = buffer_of(c, &layout, e);
    if (x < 0 || y < 0 || c->program->channels(c->program, op, scale, op->shift ? shift : NULL, e))
        return -1;
    if (B == 1 && !op->shift) {
        PlanesJob job = planes_job(c, op->out[0]);
        if (!step_new(c, "scale", run_scale, 3, (int[]){x, y, scales}, &job, sizeof job, e))
            return -1;
    } else {
        AffineJob job = {c->request->N, (v->C + B - 1) / B, v->H * v->W, B};
        if (!step_new(c, op->backward ? "affine back" : "affine", run_affine, 4,
                      (int[]){x, y, scales, shifts}, &job, sizeof job, e))
            return -1;
    }
    return deliver(c, op, &layout, y, (Done){0}, e);
}

/* --- batch norm in training --- */

/* N images of C channels in blocks of B. `channels`: C with the padding of the last block. count:
 * values of a channel in the whole batch. */
typedef struct NormJob {
    int64_t N, C, cells, B, channels, count;
    double eps, momentum;
} NormJob;

static NormJob norm_job(const Compiler *c, const Op *op, const Layout *layout) {
    const PlanRequest *r = c->request;
    const Value *v = value_of(c, op->in[0]);
    int64_t B = layout_block(layout), cells = v->H * v->W;
    return (NormJob){.N = r->N,
                     .C = v->C,
                     .cells = cells,
                     .B = B,
                     .channels = (v->C + B - 1) / B * B,
                     .count = (r->group ? r->whole : r->N) * cells,
                     .eps = op->eps,
                     .momentum = op->momentum};
}

static int emit_norm(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
                     const NormJob *job, int n, const int *buffers, Error *e) {
    return step_new(c, what, run, n, buffers, job, sizeof *job, e) ? 0 : -1;
}

/* running = (1 - momentum) running + momentum batch; the variance is unbiased by count / (count -
 * 1). at: mean, variance, running mean, running variance. */
static int run_statistics(Plan *p, const Step *s, Error *e) {
    const NormJob *job = s->job;
    (void)p, (void)e;
    const float *mean = s->at[0], *variance = s->at[1];
    float *running_mean = s->at[2], *running_var = s->at[3];
    double m = job->momentum, unbias = (double)job->count / (double)(job->count - 1);
    for (int64_t c = 0; c < job->C; c++) {
        running_mean[c] = (float)((1 - m) * (double)running_mean[c] + m * (double)mean[c]);
        running_var[c] =
            (float)((1 - m) * (double)running_var[c] + m * (double)variance[c] * unbias);
    }
    return 0;
}

/* at: x, part, center. */
static int run_norm_sums(Plan *p, const Step *s, Error *e) {
    const NormJob *job = s->job;
    (void)e;
    double *center = s->at[2];
    memset(center, 0, (size_t)job->channels * sizeof *center);
    kernels_of(p)->norm_moment(s->at[0], center, 1, s->at[1], center, job->N, job->C, job->cells,
                               job->B);
    return 0;
}

/* at: x, part, center (sums, becomes means), moment. */
static int run_norm_squares(Plan *p, const Step *s, Error *e) {
    const NormJob *job = s->job;
    (void)e;
    double *center = s->at[2];
    for (int64_t c = 0; c < job->channels; c++) center[c] /= (double)job->count;
    kernels_of(p)->norm_moment(s->at[0], center, 2, s->at[1], s->at[3], job->N, job->C, job->cells,
                               job->B);
    return 0;
}

/* at: x, y, scale, shift, mean, variance, center, moment, constants [2, channels]. */
static int run_norm_apply(Plan *p, const Step *s, Error *e) {
    const NormJob *job = s->job;
    (void)e;
    const float *scale = s->at[2], *shift = s->at[3];
    const double *center = s->at[6], *moment = s->at[7];
    float *mean = s->at[4], *variance = s->at[5];
    double *factor = s->at[8], *offset = factor + job->channels;
    for (int64_t c = 0; c < job->channels; c++) {
        double v = moment[c] / (double)job->count;
        bool real = c < job->C;
        offset[c] = real ? (double)shift[c] : 0;
        factor[c] = real ? (double)scale[c] / sqrt(v + job->eps) : 0;
        if (real) mean[c] = (float)center[c], variance[c] = (float)v;
    }
    kernels_of(p)->norm_apply(s->at[0], center, factor, offset, s->at[1], job->N, job->C,
                              job->cells, job->B);
    return 0;
}

/* at: x, dy, mean, variance, part, center, sums [2, channels], dscale, dshift. */
static int run_norm_products(Plan *p, const Step *s, Error *e) {
    const NormJob *job = s->job;
    (void)e;
    const float *mean = s->at[2], *variance = s->at[3];
    double *center = s->at[5], *sum = s->at[6], *product = sum + job->channels;
    float *dscale = s->at[7], *dshift = s->at[8];
    for (int64_t c = 0; c < job->channels; c++) center[c] = c < job->C ? (double)mean[c] : 0;
    kernels_of(p)->norm_products(s->at[0], s->at[1], center, s->at[4], sum, product, job->N, job->C,
                                 job->cells, job->B);
    for (int64_t c = 0; c < job->C; c++) {
        dscale[c] = (float)(product[c] / sqrt((double)variance[c] + job->eps));
        dshift[c] = (float)sum[c];
    }
    return 0;
}

/* at: x, dy, dx, variance, scale, center, sums (become the terms to subtract), factor. */
static int run_norm_back(Plan *p, const Step *s, Error *e) {
    const NormJob *job = s->job;
    (void)e;
    const float *variance = s->at[3], *scale = s->at[4];
    double *shift = s->at[6], *slope = shift + job->channels, *factor = s->at[7];
    for (int64_t c = 0; c < job->channels; c++) {
        bool real = c < job->C;
        double square = real ? (double)variance[c] + job->eps : 1;
        factor[c] = real ? (double)scale[c] / sqrt(square) : 0;
        shift[c] /= (double)job->count;
        slope[c] /= (double)job->count * square;
    }
    kernels_of(p)->norm_back(s->at[0], s->at[1], s->at[5], factor, shift, slope, s->at[2], job->N,
                             job->C, job->cells, job->B);
    return 0;
}

/* The primitive of this shape only serves as a hint for its backward. */
static int batchnorm_hint(const Op *op, const Layout *layout, CpuNote *note, Error *e) {
    if (batchnorm_descriptor(cpu_engine(), layout, op->eps, false, NULL, &note->descriptor, e))
        return -1;
    return note->descriptor ? 0 : error_set(e, "oneDNN has no batch norm of this shape");
}

int cpu_lower_batchnorm(Compiler *c, const Op *op, Error *e) {
    Layout layout = channels_layout(c, op->in[0]);
    NormJob job = norm_job(c, op, &layout);
    if (job.count < 2)
        return error_set(e, "batch norm in training needs more than one value per channel");
    CpuNote *note = note_of(c, c->op);
    if (!c->request->group && batchnorm_hint(op, &layout, note, e)) return -1;
    size_t vector = (size_t)job.C * sizeof(float), doubles = (size_t)job.channels * sizeof(double);
    int param[4];
    for (int i = 0; i < 4; i++)
        if ((param[i] = buffer_param(c, op->param[i], e)) < 0) return -1;
    int x = note->source = value_as(c, op->in[0], &layout, e), y = buffer_of(c, &layout, e);
    int mean = buffer_new(c, vector, e), variance = buffer_new(c, vector, e),
        center = buffer_new(c, doubles, e), moment = buffer_new(c, doubles, e),
        constants = buffer_new(c, 2 * doubles, e), part = buffer_new(c, (size_t)job.N * doubles, e);
    note->weights = param[0];
    if (x < 0 || y < 0 || mean < 0 || variance < 0 || center < 0 || moment < 0 || constants < 0 ||
        part < 0)
        return -1;
    value_place(c, op->out[1], mean);
    value_place(c, op->out[2], variance);
    if (emit_norm(c, "batch norm", run_norm_sums, &job, 3, (int[]){x, part, center}, e) ||
        step_sum_over_ranks(c, center, job.channels, e) ||
        emit_norm(c, "batch norm", run_norm_squares, &job, 4, (int[]){x, part, center, moment},
                  e) ||
        step_sum_over_ranks(c, moment, job.channels, e) ||
        emit_norm(c, "batch norm", run_norm_apply, &job, 9,
                  (int[]){x, y, param[0], param[1], mean, variance, center, moment, constants},
                  e) ||
        emit_norm(c, "statistics", run_statistics, &job, 4,
                  (int[]){mean, variance, param[2], param[3]}, e))
        return -1;
    return deliver(c, op, &layout, y, (Done){0}, e);
}

/* The backward when this batch is a part of a shared batch. oneDNN would sum over this part
 * only. */
static int shared_back(Compiler *c, const Op *op, const Layout *layout, int dy, Error *e) {
    NormJob job = norm_job(c, op, layout);
    size_t doubles = (size_t)job.channels * sizeof(double);
    int dscale = buffer_param_gradient(c, op->param[0], e),
        dshift = buffer_param_gradient(c, op->param[1], e);
    int part = buffer_new(c, 2 * (size_t)job.N * doubles, e), center = buffer_new(c, doubles, e),
        sums = buffer_new(c, 2 * doubles, e), factor = buffer_new(c, doubles, e);
    const CpuNote *note = note_of(c, op->twin);
    int x = note->source, mean = c->buffer[op->in[2]], variance = c->buffer[op->in[3]];
    if (dscale < 0 || dshift < 0 || part < 0 || center < 0 || sums < 0 || factor < 0 ||
        emit_norm(c, "batch norm back", run_norm_products, &job, 9,
                  (int[]){x, dy, mean, variance, part, center, sums, dscale, dshift}, e) ||
        step_sum_over_ranks(c, sums, 2 * job.channels, e))
        return -1;
    if (op->out[0] == NO_VALUE) return 0;
    int dx = buffer_of(c, layout, e);
    if (dx < 0 || emit_norm(c, "batch norm back", run_norm_back, &job, 8,
                            (int[]){x, dy, dx, variance, note->weights, center, sums, factor}, e))
        return -1;
    return deliver(c, op, layout, dx, (Done){0}, e);
}

static int onednn_back(Compiler *c, const Op *op, const Layout *layout, int dy, Error *e) {
    dnnl_primitive_desc_t pd;
    const CpuNote *note = note_of(c, op->twin);
    if (batchnorm_descriptor(cpu_engine(), layout, op->eps, true, note->descriptor, &pd, e))
        return -1;
    if (!pd) return error_set(e, "oneDNN has no batch norm of this shape");
    int dscale = buffer_param_gradient(c, op->param[0], e),
        dshift = buffer_param_gradient(c, op->param[1], e);
    int shift = buffer_param(c, op->param[1], e), dx = buffer_of(c, layout, e);
    Arg args[9] = {{DNNL_ARG_SRC, note->source},
                   {DNNL_ARG_DIFF_DST, dy},
                   {DNNL_ARG_MEAN, c->buffer[op->in[2]]},
                   {DNNL_ARG_VARIANCE, c->buffer[op->in[3]]},
                   {DNNL_ARG_SCALE, note->weights},
                   {DNNL_ARG_DIFF_SRC, dx},
                   {DNNL_ARG_DIFF_SCALE, dscale},
                   {DNNL_ARG_DIFF_SHIFT, dshift},
                   {DNNL_ARG_SHIFT, shift}};
    int status = shift < 0 || dx < 0 || dscale < 0 || dshift < 0 ||
                 emit_primitive(c, "batch norm back", pd, BATCHNORM_BACK_SHIFT ? 9 : 8, args, e);
    dnnl_primitive_desc_destroy(pd);
    if (status || op->out[0] == NO_VALUE) return status ? -1 : 0;
    return deliver(c, op, layout, dx, (Done){0}, e);
}

int cpu_lower_batchnorm_back(Compiler *c, const Op *op, Error *e) {
    Layout layout = *layout_of(c, twin_of(c, op)->out[0]);
    int dy = value_as(c, op->in[1], &layout, e);
    if (dy < 0) return -1;
    return (c->request->group ? shared_back : onednn_back)(c, op, &layout, dy, e);
}
