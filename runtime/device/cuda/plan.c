#include "device/cuda/plan.h"

#include <stdio.h>
#include <string.h>

#include "base/interrupt.h"
#include "base/memory.h"
#include "net/arena.h"

enum { ALIGNMENT = 256 };

static const Lowering *const lowerings[LAYER_KINDS] = {
    [LAYER_INPUT] = &cuda_lower_input,
    [LAYER_NORMALIZE] = &cuda_lower_normalize,
    [LAYER_CONV] = &cuda_lower_conv,
    [LAYER_LINEAR] = &cuda_lower_linear,
    [LAYER_BATCHNORM] = &cuda_lower_batchnorm,
    [LAYER_RELU] = &cuda_lower_relu,
    [LAYER_MAXPOOL] = &cuda_lower_maxpool,
    [LAYER_AVGPOOL] = &cuda_lower_avgpool,
    [LAYER_ADD] = &cuda_lower_add,
    [LAYER_DROPOUT] = &cuda_lower_dropout,
};

/* --- lowering a program --- */

static int run_mask(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_mask(p->device->stream, s->real, step_at(p, s, 0), (float)s->number,
                                 step_at(p, s, 1), s->n),
                     e);
}

static int run_apply_mask(CudaPlan *p, const Step *s, Error *e) {
    return step_done(
        p, s,
        kernel_apply_mask(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 1), s->n), e);
}

static size_t mask_bytes(int64_t n) {
    return (size_t)(n + 31) / 32 * 4;
}

static int save_mask(Compiler *c, const Node *n, Value *v, Error *e) {
    int64_t count = value_count(c, c->node);
    v->mask = buffer_new(c, mask_bytes(count), e);
    if (v->mask < 0) return -1;
    Step *s = emit(c, "mask", run_mask, 2, (int[]){v->buffer, v->mask}, e);
    if (!s) return -1;
    s->number = n->cap;
    s->real = c->forward;
    s->n = count;
    return 0;
}

bool wants_mask(const Compiler *c, const Node *n) {
    return c->request->purpose != PLAN_FORWARD && n->mask;
}

static int mask_gradient(Compiler *c, Value *v, Error *e) {
    int own;
    bool sum;
    if (sink(c, c->node, &own, &sum, e)) return -1;
    Step *s = emit(c, "mask", run_apply_mask, 2, (int[]){v->gradient, v->mask}, e);
    if (!s) return -1;
    s->real = c->backward;
    s->n = value_count(c, c->node);
    return 0;
}

static int run_count(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s, kernel_count(p->device->stream, step_at(p, s, 0)), e);
}

/* Dropout draws anew at every forward, on from those that count as done. */
static int count_runs(Compiler *c, Error *e) {
    const uint64_t done = c->plan->base.request.runs;
    bool any = false;
    for (int i = 0; i < c->program->n; i++)
        any = any || c->program->nodes[i].layer->kind == LAYER_DROPOUT;
    if (!any) return 0;
    c->plan->runs_buffer = buffer_filled(c, &done, sizeof done, "count of runs", e);
    if (c->plan->runs_buffer < 0) return -1;
    return emit(c, "count", run_count, 1, &c->plan->runs_buffer, e) ? 0 : -1;
}

static bool has_params(const Node *n) {
    return n->layer->param[0] >= 0;
}

static int lower_forward(Compiler *c, Error *e) {
    bool gradient = c->request->purpose == PLAN_GRADIENT;
    if (count_runs(c, e)) return -1;
    for (int i = 0; i < c->program->n; i++) {
        const Node *n = &c->program->nodes[i];
        Value *v = &c->values[i];
        if (interrupt_check(e)) return -1;
        c->node = i;
        v->wanted = gradient || (c->request->purpose == PLAN_TRAINING && has_params(n));
        for (int j = 0; j < n->inputs; j++) v->wanted |= c->values[n->input[j]].wanted;
        if (lowerings[n->layer->kind]->forward(c, n, v, e))
            return error_prefix(e, "layer '%s'", n->layer->name);
        if (wants_mask(c, n) && v->mask == NO_BUFFER && save_mask(c, n, v, e)) return -1;
    }
    const Value *last = &c->values[c->program->n - 1];
    if (last->buffer == BUFFER_Z) return 0;
    return emit_convert(c, c->forward, last->buffer, REAL_F32, BUFFER_Z,
                        value_count(c, c->program->n - 1), e);
}

static int lower_backward(Compiler *c, Error *e) {
    int end = c->program->n - 1;
    Value *last = &c->values[end];
    last->gradient = BUFFER_DZ;
    if (c->backward != REAL_F32) {
        int64_t n = value_count(c, end);
        last->gradient = buffer_new(c, (size_t)n * real_bytes(c->backward), e);
        if (last->gradient < 0 ||
            emit_convert(c, REAL_F32, BUFFER_DZ, c->backward, last->gradient, n, e))
            return -1;
        c->plan->buffers[last->gradient].holders = 1;
    }
    for (int i = end; i >= 0; i--) {
        const Node *n = &c->program->nodes[i];
        Value *v = &c->values[i];
        if (interrupt_check(e)) return -1;
        c->node = i;
        /* normalisation may have written the image's gradient itself */
        if (!v->wanted || v->gradient == NO_BUFFER) continue;
        if (v->mask != NO_BUFFER && mask_gradient(c, v, e)) return -1;
        if (n->residual >= 0 && sink_share(c, n->residual, v->gradient, e)) return -1;
        if (lowerings[n->layer->kind]->backward(c, n, v, e))
            return error_prefix(e, "layer '%s', backward", n->layer->name);
        c->plan->buffers[v->gradient].holders--;
    }
    return 0;
}

/* --- memory --- */

/* What a gradient plan's backward reads of its forward stays to the end, so that one forward serves
 * any number of backwards. */
static void keep_trace(CudaPlan *p) {
    if (p->base.request.purpose != PLAN_GRADIENT) return;
    for (int i = BUFFERS_OUTSIDE; i < p->n_buffers; i++)
        if (p->buffers[i].first < p->n_forward && p->buffers[i].last >= p->n_forward)
            p->buffers[i].last = p->n_steps;
}

static int make_arena(Compiler *c, Error *e) {
    CudaPlan *p = c->plan;
    ArenaPiece *pieces = memory_zeroed((size_t)p->n_buffers, sizeof *pieces, "plan", e);
    int *ids = memory_zeroed((size_t)p->n_buffers, sizeof *ids, "plan", e), count = 0;
    for (int i = BUFFERS_OUTSIDE; i < p->n_buffers && pieces && ids; i++) {
        const Buffer *b = &p->buffers[i];
        if (b->fixed || b->first < 0) continue;
        pieces[count] = (ArenaPiece){.bytes = b->bytes, .first = b->first, .last = b->last};
        ids[count++] = i;
    }
    int failed = !pieces || !ids || arena_place(pieces, count, ALIGNMENT, &p->arena_bytes, e) ||
                 (!c->dry && cuda_take(&c->device->base, p->arena_bytes, "activations of a plan",
                                       &p->arena, e));
    for (int i = 0; i < count && !failed && !c->dry; i++)
        p->buffers[ids[i]].address = (char *)p->arena + pieces[i].offset;
    memory_free(pieces);
    memory_free(ids);
    return failed ? -1 : 0;
}

/* --- running --- */

int step_done(const CudaPlan *p, const Step *s, cudaError_t status, Error *e) {
    if (status == cudaSuccess) return 0;
    const Layer *l = s->layer;
    char call[256];
    snprintf(call, sizeof call, "layer '%s', %s of [%lld,%lld,%lld,%lld]", l->name, s->what,
             (long long)p->base.request.N, (long long)l->C, (long long)l->H, (long long)l->W);
    return cuda_check(p->device, status, call, e);
}

static int add_times(CudaPlan *p, int first, int end, Error *e) {
    if (cuda_check(p->device, cudaEventSynchronize(p->events[end]), "cudaEventSynchronize", e))
        return -1;
    for (int i = first; i < end; i++) {
        float milliseconds = 0;
        if (cuda_check(p->device,
                       cudaEventElapsedTime(&milliseconds, p->events[i], p->events[i + 1]),
                       "cudaEventElapsedTime", e))
            return -1;
        p->seconds[i] += 1e-3 * (double)milliseconds;
    }
    return 0;
}

static int mark(CudaPlan *p, int i, Error *e) {
    return p->timed ? cuda_check(p->device, cudaEventRecord(p->events[i], p->device->stream),
                                 "cudaEventRecord", e)
                    : 0;
}

static int run_steps(CudaPlan *p, int first, int end, Error *e) {
    for (int i = first; i < end; i++)
        if (interrupt_check(e) || mark(p, i, e) || p->steps[i].run(p, &p->steps[i], e)) return -1;
    return mark(p, end, e) || (p->timed && end > first && add_times(p, first, end, e)) ? -1 : 0;
}

static int run_forward(Plan *base, const float *x, float *z, Error *e) {
    CudaPlan *p = (CudaPlan *)base;
    p->buffers[BUFFER_X].address = (void *)x;
    p->buffers[BUFFER_Z].address = z;
    p->traced = false;
    if (run_steps(p, 0, p->n_forward, e)) return -1;
    p->traced = base->request.purpose != PLAN_FORWARD;
    return 0;
}

static int run_backward(Plan *base, const float *dz, float *dx, Error *e) {
    CudaPlan *p = (CudaPlan *)base;
    if (!p->traced) return error_set(e, "a backward needs a forward before it");
    p->buffers[BUFFER_DZ].address = (void *)dz;
    p->buffers[BUFFER_DX].address = dx;
    if (base->request.purpose == PLAN_TRAINING) p->traced = false;
    return run_steps(p, p->n_forward, p->n_steps, e);
}

static int run_train_backward(Plan *base, const float *dz, Error *e) {
    return run_backward(base, dz, NULL, e);
}

static int make_events(CudaPlan *p, Error *e) {
    p->seconds = memory_zeroed((size_t)p->n_steps, sizeof *p->seconds, "timing of a plan", e);
    p->events = memory_zeroed((size_t)p->n_steps + 1, sizeof *p->events, "timing of a plan", e);
    for (int i = 0; i <= p->n_steps && p->seconds && p->events; i++)
        if (cuda_check(p->device, cudaEventCreateWithFlags(&p->events[i], cudaEventDefault),
                       "cudaEventCreate", e))
            return -1;
    return p->seconds && p->events ? 0 : -1;
}

static void free_events(CudaPlan *p) {
    for (int i = 0; p->events && i <= p->n_steps; i++)
        if (p->events[i]) cudaEventDestroy(p->events[i]);
    memory_free(p->events);
    memory_free(p->seconds);
    p->events = NULL;
    p->seconds = NULL;
}

static int time_steps(Plan *base, bool on, Error *e) {
    CudaPlan *p = (CudaPlan *)base;
    if (on) {
        free_events(p);
        p->timed = false;
        if (make_events(p, e)) {
            free_events(p);
            return -1;
        }
    }
    p->timed = on && p->events;
    return 0;
}

/* Each of a step's buffers once, weights left out. */
static int64_t bytes_of(const CudaPlan *p, const Step *s) {
    int64_t bytes = 0;
    for (int i = 0; i < s->buffers; i++) {
        bool counted = s->buffer[i] < 0;
        for (int j = 0; j < i; j++) counted = counted || s->buffer[j] == s->buffer[i];
        if (!counted) bytes += (int64_t)p->buffers[s->buffer[i]].bytes;
    }
    return bytes;
}

static bool timing_of(Plan *base, int i, PlanTiming *out) {
    const CudaPlan *p = (const CudaPlan *)base;
    if (!p->seconds || i < 0 || i >= p->n_steps) return false;
    const Step *s = &p->steps[i];
    *out = (PlanTiming){s->what, s->layer->name, i >= p->n_forward, bytes_of(p, s), p->seconds[i]};
    return true;
}

static float *gradient_of(Plan *base, int param) {
    CudaPlan *p = (CudaPlan *)base;
    if (!p->param_buffer || param < 0 || param >= p->n_params) return NULL;
    int b = p->param_buffer[param];
    return b == NO_BUFFER ? NULL : p->buffers[b].address;
}

static void free_conv(ConvCall *v) {
    if (v->x) cudnnDestroyTensorDescriptor(v->x);
    if (v->y) cudnnDestroyTensorDescriptor(v->y);
    if (v->w) cudnnDestroyFilterDescriptor(v->w);
    if (v->conv) cudnnDestroyConvolutionDescriptor(v->conv);
    memory_free(v);
}

static void free_plan(Plan *base) {
    CudaPlan *p = (CudaPlan *)base;
    Device *d = &p->device->base;
    cuda_ascent_free(p->device); /* it may hold this plan's steps */
    free_events(p);
    for (int i = 0; i < p->n_convs; i++) free_conv(p->convs[i]);
    for (int i = 0; i < p->n_owned; i++) cuda_release(d, p->owned[i]);
    cuda_release(d, p->arena);
    memory_free(p->convs);
    memory_free(p->owned);
    memory_free(p->steps);
    memory_free(p->buffers);
    memory_free(p->param_buffer);
    memory_free(p);
}

/* --- making a plan --- */

static CudaPlan *empty_plan(CudaDevice *d, const Program *program, const PlanRequest *r, Error *e) {
    CudaPlan *p = memory_zeroed(1, sizeof *p, "plan", e);
    if (!p) return NULL;
    const Layer *in = program->nodes[0].layer, *out = program->nodes[program->n - 1].layer;
    bool training = r->purpose == PLAN_TRAINING;
    p->base = (Plan){.device = &d->base,
                     .request = *r,
                     .C = in->C,
                     .H = in->H,
                     .W = in->W,
                     .K = out->C,
                     .forward = run_forward,
                     .backward = r->purpose == PLAN_GRADIENT ? run_backward : NULL,
                     .train_backward = training ? run_train_backward : NULL,
                     .gradient_of = gradient_of,
                     .time = time_steps,
                     .timing = timing_of,
                     .free = free_plan};
    static uint64_t serials;
    p->device = d;
    p->serial = ++serials;
    p->runs_buffer = NO_BUFFER;
    p->n_params = program->graph->n_params;
    if (training) {
        p->param_buffer =
            memory_zeroed((size_t)p->n_params + 1, sizeof *p->param_buffer, "plan", e);
        if (!p->param_buffer) {
            free_plan(&p->base);
            return NULL;
        }
        for (int i = 0; i < p->n_params; i++) p->param_buffer[i] = NO_BUFFER;
    }
    return p;
}

static int lower(Compiler *c, Error *e) {
    const Plan *p = &c->plan->base;
    size_t in = (size_t)(p->C * p->H * p->W), out = (size_t)p->K, N = (size_t)c->request->N;
    for (int i = 0; i < BUFFERS_OUTSIDE; i++) {
        bool image = i == BUFFER_X || i == BUFFER_DX;
        int b = buffer_new(c, N * (image ? in : out) * sizeof(float), e);
        if (b < 0) return -1;
        /* two holders, of whom one never lets go: the caller's memory is not written in place */
        c->plan->buffers[b].holders = 2;
        c->plan->buffers[b].fixed = true;
    }
    if (lower_forward(c, e)) return -1;
    c->plan->n_forward = c->plan->n_steps;
    return c->request->purpose == PLAN_FORWARD ? 0 : lower_backward(c, e);
}

static int compile(CudaDevice *d, const Program *program, const PlanRequest *r, bool dry,
                   CudaPlan **out, Error *e) {
    CudaPlan *p = empty_plan(d, program, r, e);
    if (!p) return -1;
    bool rounds_back = r->precision == PLAN_MIXED || r->precision == PLAN_BF16;
    Compiler c = {.device = d,
                  .plan = p,
                  .program = program,
                  .request = r,
                  .dry = dry,
                  .forward = r->precision == PLAN_BF16 ? REAL_BF16 : REAL_F32,
                  .backward = rounds_back ? REAL_BF16 : REAL_F32,
                  .tensor_cores = r->precision == PLAN_TF32};
    int status = -1;
    c.values = memory_zeroed((size_t)program->n, sizeof *c.values, "plan", e);
    for (int i = 0; c.values && i < program->n; i++) {
        Value *v = &c.values[i];
        v->buffer = v->gradient = v->mask = NO_BUFFER;
        for (int k = 0; k < 4; k++) v->saved[k] = NO_BUFFER;
    }
    if (c.values && !lower(&c, e)) {
        keep_trace(p);
        status = make_arena(&c, e);
    }
    memory_free(c.values);
    if (status)
        free_plan(&p->base);
    else
        *out = p;
    return status;
}

int cuda_plan_size(Device *base, const struct Program *program, const struct PlanRequest *r,
                   size_t *bytes, size_t *free, Error *e) {
    CudaDevice *d = (CudaDevice *)base;
    CudaPlan *p;
    if (compile(d, program, r, true, &p, e)) return -1;
    *bytes = p->owned_bytes + cuda_taken_for(p->arena_bytes);
    *free = cuda_free_bytes(d);
    free_plan(&p->base);
    return 0;
}

/* Whether a plan for N images fits into the bytes that are free. */
static bool fits(CudaDevice *d, const Program *program, const PlanRequest *r, int64_t N) {
    PlanRequest smaller = *r;
    size_t bytes = 0, free = 0;
    Error lost = {0};
    smaller.N = N;
    return !cuda_plan_size(&d->base, program, &smaller, &bytes, &free, &lost) && bytes <= free;
}

/* The most images up to `most` for which a plan fits; 0 where none does. */
static int64_t largest_batch(CudaDevice *d, const Program *program, const PlanRequest *r,
                             int64_t most) {
    int64_t low = 0, high = most;
    while (low < high) {
        int64_t middle = high - (high - low) / 2;
        if (fits(d, program, r, middle))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

int cuda_plan_new(Device *base, const struct Program *program, const struct PlanRequest *r,
                  Plan **out, Error *e) {
    CudaDevice *d = (CudaDevice *)base;
    CudaPlan *p;
    if (!compile(d, program, r, false, &p, e)) {
        *out = &p->base;
        return 0;
    }
    size_t length = strlen(e->text);
    if (!strstr(e->text, "are free")) return -1; /* not the device's memory */
    int64_t most = largest_batch(d, program, r, r->N - 1);
    snprintf(e->text + length, sizeof e->text - length,
             most ? "; a batch of %lld fits" : "; no batch fits", (long long)most);
    return -1;
}
