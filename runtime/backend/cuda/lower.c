/* Emits the steps of a CUDA plan: common steps, work that is fused into ops, and timed runs. */
#include "backend/cuda/lower.h"

#include <stdio.h>

#include "base/interrupt.h"
#include "base/memory.h"
#include "device/dtype.h"

/* --- buffers --- */

int buffer_weights(Compiler *c, const float *host, size_t count, Real real, Error *e) {
    if (real == REAL_F32 || c->dry)
        return buffer_filled(c, host, count * real_bytes(real), "weights", e);
    uint16_t *rounded = memory_take(count * sizeof *rounded, "weights", e);
    if (!rounded) return -1;
    dtype_convert(DTYPE_BF16, rounded, DTYPE_F32, host, (int64_t)count);
    int b = buffer_filled(c, rounded, count * sizeof *rounded, "weights", e);
    memory_free(rounded);
    return b;
}

int buffer_of(Compiler *c, int value, Real real, Error *e) {
    return buffer_new(c, (size_t)value_elements(c, value) * real_bytes(real), e);
}

/* --- common steps --- */

int step_done(const Plan *p, const Step *s, cudaError_t status, Error *e) {
    if (status == cudaSuccess) return 0;
    char call[256];
    snprintf(call, sizeof call, "layer '%s', %s, a batch of %lld", s->layer, s->what,
             (long long)p->request.N);
    return cuda_check(cuda_of_plan(p), status, call, e);
}

typedef struct ConvertJob {
    Real from, to;
    int64_t n;
} ConvertJob;

static int run_convert(Plan *p, const Step *s, Error *e) {
    const ConvertJob *job = s->job;
    return step_done(
        p, s, kernel_convert(stream_of(p), job->from, s->at[0], job->to, s->at[1], job->n), e);
}

int emit_convert(Compiler *c, Real from, int in, Real to, int out, int64_t n, Error *e) {
    ConvertJob job = {from, to, n};
    return step_new(c, "copy", run_convert, 2, (int[]){in, out}, &job, sizeof job, e) ? 0 : -1;
}

typedef struct PlanesJob {
    Real real;
    int64_t N, C, P;
} PlanesJob;

static int run_from_planes(Plan *p, const Step *s, Error *e) {
    const PlanesJob *job = s->job;
    return step_done(p, s,
                     kernel_from_planes(stream_of(p), s->at[0], NULL, NULL, job->real, s->at[1],
                                        job->N, job->C, job->P),
                     e);
}

int emit_from_planes(Compiler *c, const char *what, Real real, int in, int out, int64_t N,
                     int64_t C, int64_t P, Error *e) {
    PlanesJob job = {real, N, C, P};
    return step_new(c, what, run_from_planes, 2, (int[]){in, out}, &job, sizeof job, e) ? 0 : -1;
}

static int run_to_planes(Plan *p, const Step *s, Error *e) {
    const PlanesJob *job = s->job;
    return step_done(p, s,
                     kernel_to_planes(stream_of(p), job->real, s->at[0], s->at[2], s->at[1], job->N,
                                      job->C, job->P, false),
                     e);
}

int emit_to_planes(Compiler *c, const char *what, Real real, int in, int scale, int out, int64_t N,
                   int64_t C, int64_t P, Error *e) {
    PlanesJob job = {real, N, C, P};
    return step_new(c, what, run_to_planes, 3, (int[]){in, out, scale}, &job, sizeof job, e) ? 0
                                                                                             : -1;
}

static int run_bias_back(Plan *p, const Step *s, Error *e) {
    const PlanesJob *job = s->job;
    return step_done(
        p, s, kernel_column_sums(stream_of(p), s->at[0], s->at[1], s->at[2], job->N, job->C), e);
}

int emit_bias_gradient(Compiler *c, int param, int dy, int64_t rows, int64_t C, Error *e) {
    PlanesJob job = {.N = rows, .C = C};
    int into = buffer_param_gradient(c, param, e);
    int work = buffer_new(c, (size_t)kernel_rows_work(C) * sizeof(double), e);
    if (into < 0 || work < 0) return -1;
    return step_new(c, "bias back", run_bias_back, 3, (int[]){dy, into, work}, &job, sizeof job, e)
               ? 0
               : -1;
}

/* --- values --- */

typedef struct TurnJob {
    Real real;
    int64_t N, A, B;
} TurnJob;

/* at: x, y. */
static int run_turn(Plan *p, const Step *s, Error *e) {
    const TurnJob *job = s->job;
    return step_done(
        p, s, kernel_turn(stream_of(p), job->real, s->at[0], s->at[1], job->N, job->A, job->B), e);
}

Real value_real(const Compiler *c, int value) {
    return value_of(c, value)->gradient_of == NO_VALUE ? forward_real(c) : backward_real(c);
}

static bool has_two_orders(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    return v->C > 1 && v->H * v->W > 1;
}

/* Converts `buffer` to the other order, in a new buffer. */
static int in_other_order(Compiler *c, int value, bool plain, int buffer, Real real, Error *e) {
    const Value *v = value_of(c, value);
    TurnJob job = {real, c->request->N, v->C, v->H * v->W};
    int made = buffer_of(c, value, real, e);
    if (plain) job.A = v->H * v->W, job.B = v->C;
    if (made < 0 ||
        !step_new(c, "reorder", run_turn, 2, (int[]){buffer, made}, &job, sizeof job, e))
        return -1;
    return made;
}

static bool lies(const Compiler *c, int value, bool plain) {
    return value_is_plain(c, value) == plain || !has_two_orders(c, value);
}

int value_read(Compiler *c, int value, Error *e) {
    return value_ordered(c, value, !value_is_image(c, value), e);
}

int value_channels(Compiler *c, int value, Error *e) {
    CudaLowering *own = c->own;
    const Value *v = value_of(c, value);
    if (value != VALUE_X && !lies(c, value, false))
        return in_other_order(c, value, false, c->buffer[value], value_real(c, value), e);
    if (value != VALUE_X) return c->buffer[value];
    if (own->image != NO_BUFFER) return own->image;
    own->image = buffer_of(c, value, forward_real(c), e);
    return own->image < 0 || emit_from_planes(c, "reorder", forward_real(c), c->buffer[value],
                                              own->image, c->request->N, v->C, v->H * v->W, e)
               ? -1
               : own->image;
}

/* The image is the caller's, in f32. */
int value_plain(Compiler *c, int value, Error *e) {
    Real real = value_real(c, value);
    int64_t n = value_elements(c, value);
    if (value != VALUE_X && !lies(c, value, true))
        return in_other_order(c, value, true, c->buffer[value], real, e);
    if (value != VALUE_X || real == REAL_F32) return c->buffer[value];
    int rounded = buffer_of(c, value, real, e);
    return rounded < 0 || emit_convert(c, REAL_F32, c->buffer[value], real, rounded, n, e)
               ? -1
               : rounded;
}

int result_ordered(Compiler *c, const Op *op, bool plain, bool *sum, Error *e) {
    Real real = op_real(c, op);
    *sum = op->add != NO_VALUE;
    bool alike = *sum && lies(c, op->add, plain);
    if (alike && op->add != VALUE_X && value_dies(c, op->add)) return c->buffer[op->add];
    if (*sum && !alike) return value_ordered(c, op->add, plain, e); /* a copy */
    int made = buffer_of(c, op->out[0], real, e);
    if (made < 0 || !*sum) return made;
    int other = value_ordered(c, op->add, plain, e);
    return other < 0 || emit_convert(c, real, other, real, made, value_elements(c, op->add), e)
               ? -1
               : made;
}

int result_buffer(Compiler *c, const Op *op, bool *sum, Error *e) {
    return result_ordered(c, op, !value_is_image(c, op->out[0]), sum, e);
}

/* --- what is fused into an op --- */

typedef struct EpilogueJob {
    Real real;
    bool relu;
    float cap;
    int64_t n, C;
} EpilogueJob;

/* at: y, bias, bits. */
static int run_epilogue(Plan *p, const Step *s, Error *e) {
    const EpilogueJob *job = s->job;
    return step_done(p, s,
                     kernel_epilogue(stream_of(p), job->real, s->at[0], s->at[1], job->relu,
                                     job->cap, s->at[2], job->n, job->C),
                     e);
}

/* at: y, bits. */
static int run_open(Plan *p, const Step *s, Error *e) {
    const EpilogueJob *job = s->job;
    return step_done(p, s,
                     kernel_mask(stream_of(p), job->real, s->at[0], job->cap, s->at[1], job->n), e);
}

/* at: y, bits. */
static int run_mask(Plan *p, const Step *s, Error *e) {
    const EpilogueJob *job = s->job;
    return step_done(p, s, kernel_apply_mask(stream_of(p), job->real, s->at[0], s->at[1], job->n),
                     e);
}

/* at: y, other. */
static int run_add(Plan *p, const Step *s, Error *e) {
    const EpilogueJob *job = s->job;
    return step_done(p, s,
                     kernel_sum(stream_of(p), job->real, s->at[0], s->at[1], s->at[0], job->n), e);
}

static int emit_epilogue(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
                         const EpilogueJob *job, int n, const int *buffers, Error *e) {
    return step_new(c, what, run, n, buffers, job, sizeof *job, e) ? 0 : -1;
}

static int place_open(Compiler *c, const Op *op, Error *e) {
    if (op->open == NO_VALUE) return NO_BUFFER;
    int bits = buffer_new(c, (size_t)(value_elements(c, op->open) + 31) / 32 * 4, e);
    if (bits >= 0) value_place(c, op->open, bits);
    return bits;
}

int deliver(Compiler *c, const Op *op, int buffer, int bias, bool added, Error *e) {
    return deliver_as(c, op, !value_is_image(c, op->out[0]), buffer, bias, added, e);
}

int deliver_as(Compiler *c, const Op *op, bool plain, int buffer, int bias, bool added, Error *e) {
    const Value *v = value_of(c, op->out[0]);
    bool logits = buffer == c->buffer[VALUE_Z];
    EpilogueJob job = {.real = logits ? REAL_F32 : op_real(c, op),
                       .relu = op->relu,
                       .cap = (float)op->cap,
                       .n = value_elements(c, op->out[0]),
                       .C = plain ? v->shape.dim[v->shape.ndim - 1] : v->C};
    if (v->gradient_of != NO_VALUE && value_is_plain(c, v->gradient_of) != plain) {
        plain = !plain;
        if (has_two_orders(c, op->out[0]))
            buffer = in_other_order(c, op->out[0], plain, buffer, job.real, e);
        if (buffer < 0) return -1;
    }
    ((CudaLowering *)c->own)->plain[op->out[0]] = plain;
    int bits = place_open(c, op, e);
    if (op->open != NO_VALUE && bits < 0) return -1;
    if (op->add != NO_VALUE && !added) {
        int other = value_ordered(c, op->add, plain, e);
        if (other < 0 || emit_epilogue(c, "sum", run_add, &job, 2, (int[]){buffer, other}, e))
            return -1;
    }
    if (bias != NO_BUFFER || op->relu) {
        if (emit_epilogue(c, "bias, relu", run_epilogue, &job, 3, (int[]){buffer, bias, bits}, e))
            return -1;
    } else if (bits != NO_BUFFER) {
        if (emit_epilogue(c, "mask", run_open, &job, 2, (int[]){buffer, bits}, e)) return -1;
    }
    if (op->mask != NO_VALUE &&
        emit_epilogue(c, "mask", run_mask, &job, 2, (int[]){buffer, c->buffer[op->mask]}, e))
        return -1;
    value_place(c, op->out[0], buffer);
    return 0;
}

/* --- the Device's functions --- */

static Lower *const lowerings[OP_KINDS] = {
    [OP_INPUT] = cuda_lower_input,
    [OP_OUTPUT] = cuda_lower_output,
    [OP_NORMALIZE] = cuda_lower_normalize,
    [OP_AFFINE] = cuda_lower_affine,
    [OP_CONV] = cuda_lower_conv,
    [OP_CONV_DATA] = cuda_lower_conv_data,
    [OP_CONV_WEIGHTS] = cuda_lower_conv_weights,
    [OP_LINEAR] = cuda_lower_linear,
    [OP_LINEAR_DATA] = cuda_lower_linear_data,
    [OP_LINEAR_WEIGHTS] = cuda_lower_linear_weights,
    [OP_BATCHNORM] = cuda_lower_batchnorm,
    [OP_BATCHNORM_BACK] = cuda_lower_batchnorm_back,
    [OP_RELU] = cuda_lower_relu,
    [OP_MASK] = cuda_lower_mask,
    [OP_MAXPOOL] = cuda_lower_maxpool,
    [OP_MAXPOOL_BACK] = cuda_lower_maxpool_back,
    [OP_AVGPOOL] = cuda_lower_avgpool,
    [OP_AVGPOOL_BACK] = cuda_lower_avgpool_back,
    [OP_ADD] = cuda_lower_add,
    [OP_DROPOUT] = cuda_lower_dropout,
    [OP_DROPOUT_BACK] = cuda_lower_dropout_back,
    [OP_MAP] = cuda_lower_map,
    [OP_REDUCE] = cuda_lower_reduce,
    [OP_REDUCE_PARAM] = cuda_lower_reduce_param,
    [OP_VIEW] = cuda_lower_view,
    [OP_MOVE] = cuda_lower_move,
    [OP_INSERT] = cuda_lower_insert,
    [OP_AVGWINDOW] = cuda_lower_avgwindow,
    [OP_AVGWINDOW_BACK] = cuda_lower_avgwindow_back,
    [OP_MATMUL] = cuda_lower_matmul,
    [OP_MATMUL_PARAM] = cuda_lower_matmul_param,
    [OP_SOFTMAX] = cuda_lower_softmax,
    [OP_SOFTMAX_BACK] = cuda_lower_softmax_back,
    [OP_STANDARDIZE] = cuda_lower_standardize,
    [OP_STANDARDIZE_BACK] = cuda_lower_standardize_back,
    [OP_RESIZE] = cuda_lower_resize,
    [OP_RESIZE_BACK] = cuda_lower_resize_back,
};

static int run_count(Plan *p, const Step *s, Error *e) {
    return step_done(p, s, kernel_count(stream_of(p), s->at[0]), e);
}

/* Dropout draws new numbers at every forward; counting starts after the forwards already done. The
 * count is in device memory, because a captured run must see it change. */
static int count_runs(Compiler *c, CudaLowering *own, Error *e) {
    const uint64_t done = c->request->runs;
    bool any = false;
    for (int i = 0; i < c->program->n_ops; i++) any = any || c->program->ops[i].kind == OP_DROPOUT;
    if (!any) return 0;
    own->runs = buffer_filled(c, &done, sizeof done, "count of runs", e);
    if (own->runs < 0) return -1;
    return step_new(c, "count", run_count, 1, &own->runs, NULL, 0, e) ? 0 : -1;
}

int cuda_lower_begin(Compiler *c, Error *e) {
    CudaLowering *own = c->own = memory_zeroed(1, sizeof *own, "plan", e);
    if (!own) return -1;
    own->image = own->runs = NO_BUFFER;
    own->notes = memory_zeroed((size_t)c->program->n_ops, sizeof *own->notes, "plan", e);
    own->plain = memory_zeroed((size_t)c->program->n_values, sizeof *own->plain, "plan", e);
    if (!own->notes || !own->plain) return -1;
    for (int i = 0; i < c->program->n_values; i++) own->plain[i] = !value_is_image(c, i);
    return count_runs(c, own, e);
}

int cuda_lower(Compiler *c, const Op *op, Error *e) {
    if (!lowerings[op->kind]) return error_set(e, "this device does not round to bf16 by itself");
    return lowerings[op->kind](c, op, e);
}

int cuda_lower_end(Compiler *c, Error *e) {
    CudaLowering *own = c->own;
    (void)e;
    if (own) {
        memory_free(own->notes);
        memory_free(own->plain);
    }
    memory_free(own);
    return 0;
}

/* --- timing: events between the steps --- */

typedef struct Clock {
    int n;
    cudaEvent_t event[];
} Clock;

static void free_clock(Plan *p) {
    Clock *k = p->clock;
    for (int i = 0; k && i < k->n; i++) cudaEventDestroy(k->event[i]);
    memory_free(k);
    p->clock = NULL;
}

static int make_clock(Plan *p, Error *e) {
    size_t n = (size_t)p->n_steps + 1;
    Clock *k = p->clock = memory_zeroed(1, sizeof *k + n * sizeof *k->event, "timing of a plan", e);
    if (!k) return -1;
    for (; (size_t)k->n < n; k->n++)
        if (cuda_check(cuda_of_plan(p), cudaEventCreateWithFlags(&k->event[k->n], cudaEventDefault),
                       "cudaEventCreate", e)) {
            free_clock(p);
            return -1;
        }
    return 0;
}

static int mark(Plan *p, int i, Error *e) {
    Clock *k = p->clock;
    return cuda_check(cuda_of_plan(p), cudaEventRecord(k->event[i], stream_of(p)),
                      "cudaEventRecord", e);
}

static int add_times(Plan *p, int first, int end, Error *e) {
    Clock *k = p->clock;
    if (cuda_check(cuda_of_plan(p), cudaEventSynchronize(k->event[end]), "cudaEventSynchronize", e))
        return -1;
    for (int i = first; i < end; i++) {
        float milliseconds = 0;
        if (cuda_check(cuda_of_plan(p),
                       cudaEventElapsedTime(&milliseconds, k->event[i], k->event[i + 1]),
                       "cudaEventElapsedTime", e))
            return -1;
        p->seconds[i] += 1e-3 * (double)milliseconds;
    }
    return 0;
}

int cuda_run_timed(Plan *p, int first, int end, Error *e) {
    if (!p->clock && make_clock(p, e)) return -1;
    for (int i = first; i < end; i++)
        if (interrupt_check(e) || mark(p, i, e) || p->steps[i].run(p, &p->steps[i], e)) return -1;
    return mark(p, end, e) || (end > first && add_times(p, first, end, e)) ? -1 : 0;
}

/* The captured attack may contain steps of this plan. */
void cuda_plan_ends(Plan *p) {
    cuda_ascent_free(cuda_of_plan(p));
    free_clock(p);
}
