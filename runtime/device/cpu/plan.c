#include "device/cpu/plan.h"

#include <string.h>
#include <time.h>

#include "base/interrupt.h"
#include "base/memory.h"
#include "net/arena.h"

enum { ARENA_ALIGNMENT = 64 };

static const Lowering *const lowerings[LAYER_KINDS] = {
    [LAYER_INPUT] = &cpu_lower_input,
    [LAYER_NORMALIZE] = &cpu_lower_normalize,
    [LAYER_CONV] = &cpu_lower_conv,
    [LAYER_LINEAR] = &cpu_lower_linear,
    [LAYER_BATCHNORM] = &cpu_lower_batchnorm,
    [LAYER_RELU] = &cpu_lower_relu,
    [LAYER_MAXPOOL] = &cpu_lower_maxpool,
    [LAYER_AVGPOOL] = &cpu_lower_avgpool,
    [LAYER_ADD] = &cpu_lower_add,
    [LAYER_DROPOUT] = &cpu_lower_dropout,
};

/* --- lowering a program --- */

static void run_mask(const CpuPlan *p, const Step *s) {
    p->kernels->relu_mask(s->at[0], (float)s->number, s->at[1], s->size[0]);
}

static void run_apply_mask(const CpuPlan *p, const Step *s) {
    p->kernels->apply_mask(s->at[0], s->at[1], s->size[0]);
}

/* Elements of a layout, rounded up to whole bytes of mask: the arena's alignment has the room. */
static int64_t mask_elements(const Layout *l) {
    return ((int64_t)(layout_bytes(l) / sizeof(float)) + 7) / 8 * 8;
}

static int save_mask(Compiler *c, const Node *n, Value *v, Error *e) {
    v->mask = buffer_new(c, (size_t)mask_elements(&v->layout) / 8, e);
    if (v->mask < 0) return -1;
    bool relu = n->relu || n->layer->kind == LAYER_RELU;
    if (relu && step_takes_mask(c, v->buffer, v->mask, false)) return 0;
    Step *s = emit_kernel(c, "mask", run_mask, 2, (int[]){v->buffer, v->mask}, e);
    if (!s) return -1;
    s->number = n->cap;
    s->size[0] = mask_elements(&v->layout);
    return 0;
}

int own_gradient(Compiler *c, Value *v, Error *e) {
    Buffer *b = &c->plan->buffers[v->gradient];
    if (b->holders == 1) return 0;
    int copy = buffer_new(c, layout_bytes(&v->layout), e);
    if (copy < 0 || emit_copy(c, &v->layout, v->gradient, copy, e)) return -1;
    c->plan->buffers[v->gradient].holders--;
    c->plan->buffers[copy].holders = 1;
    v->gradient = copy;
    return 0;
}

static int mask_gradient(Compiler *c, Value *v, Error *e) {
    if (own_gradient(c, v, e)) return -1;
    if (step_takes_mask(c, v->gradient, v->mask, true)) return 0;
    Step *s = emit_kernel(c, "mask", run_apply_mask, 2, (int[]){v->gradient, v->mask}, e);
    if (!s) return -1;
    s->size[0] = mask_elements(&v->layout);
    return 0;
}

static bool has_params(const Node *n) {
    return n->layer->param[0] >= 0;
}

static int lower_forward(Compiler *c, Error *e) {
    bool gradient = c->request->purpose == PLAN_GRADIENT;
    for (int i = 0; i < c->program->n; i++) {
        const Node *n = &c->program->nodes[i];
        Value *v = &c->values[i];
        c->node = i;
        if (interrupt_check(e)) return -1;
        v->wanted = gradient || has_params(n);
        for (int j = 0; j < n->inputs; j++) v->wanted |= c->values[n->input[j]].wanted;
        if (lowerings[n->layer->kind]->forward(c, n, v, e))
            return error_prefix(e, "layer '%s'", n->layer->name);
        if (precision_value(c, n, v, e)) return -1;
        if (c->request->purpose != PLAN_FORWARD && n->mask && save_mask(c, n, v, e)) return -1;
    }
    const Value *last = &c->values[c->program->n - 1];
    if (last->buffer == BUFFER_Z) return 0;
    Layout flat = layout_flat(c->request->N, c->plan->base.K);
    return emit_reorder(c, &last->layout, last->buffer, &flat, BUFFER_Z, e);
}

static int lower_backward(Compiler *c, Error *e) {
    Value *last = &c->values[c->program->n - 1];
    Layout flat = layout_flat(c->request->N, c->plan->base.K);
    last->gradient = BUFFER_DZ;
    if (!layout_same(&flat, &last->layout)) {
        last->gradient = buffer_new(c, layout_bytes(&last->layout), e);
        if (last->gradient < 0 ||
            emit_reorder(c, &flat, BUFFER_DZ, &last->layout, last->gradient, e))
            return -1;
        c->plan->buffers[last->gradient].holders = 1;
    }
    for (int i = c->program->n - 1; i >= 0; i--) {
        const Node *n = &c->program->nodes[i];
        Value *v = &c->values[i];
        c->node = i;
        if (interrupt_check(e)) return -1;
        /* the first convolution may have written the image's gradient itself */
        if (!v->wanted || v->gradient == NO_BUFFER) continue;
        if (v->mask != NO_BUFFER && mask_gradient(c, v, e)) return -1;
        if (precision_gradient(c, n, v, e)) return -1;
        if (n->residual >= 0 && sink_share(c, n->residual, v->gradient, e)) return -1;
        if (lowerings[n->layer->kind]->backward(c, n, v, e))
            return error_prefix(e, "layer '%s', backward", n->layer->name);
        c->plan->buffers[v->gradient].holders--;
    }
    return 0;
}

/* --- the arena --- */

/* What a gradient plan's backward reads of its forward (masks, winners: little) stays to the end,
 * so that one forward serves any number of backwards. */
static void keep_trace(CpuPlan *p) {
    if (p->base.request.purpose != PLAN_GRADIENT) return;
    for (int i = BUFFERS_OUTSIDE; i < p->n_buffers; i++)
        if (p->buffers[i].first < p->n_forward && p->buffers[i].last >= p->n_forward)
            p->buffers[i].last = p->n_steps;
}

static int make_arena(CpuPlan *p, Error *e) {
    ArenaPiece *pieces = memory_zeroed((size_t)p->n_buffers, sizeof *pieces, "plan", e);
    int *ids = memory_zeroed((size_t)p->n_buffers, sizeof *ids, "plan", e), count = 0;
    for (int i = BUFFERS_OUTSIDE; i < p->n_buffers && pieces && ids; i++) {
        const Buffer *b = &p->buffers[i];
        if (b->fixed || b->parent != NO_BUFFER || b->first < 0) continue;
        pieces[count] = (ArenaPiece){.bytes = b->bytes, .first = b->first, .last = b->last};
        ids[count++] = i;
    }
    int failed = !pieces || !ids || arena_place(pieces, count, ARENA_ALIGNMENT, &p->arena_bytes, e);
    for (int i = 0; i < count && !failed; i++) p->buffers[ids[i]].offset = pieces[i].offset;
    memory_free(pieces);
    memory_free(ids);
    p->arena = failed ? NULL : memory_zeroed(1, p->arena_bytes, "activations of a plan", e);
    return p->arena ? 0 : -1;
}

/* --- binding and running --- */

static int set_address(Step *s, int slot, void *address, Error *e) {
    if (!s->primitive) {
        s->at[slot] = address;
        return 0;
    }
    return onednn_check(dnnl_memory_set_data_handle(s->args[slot].memory, address), s->what, e);
}

static int bind_buffers(CpuPlan *p, Error *e) {
    for (int i = 0; i < p->n_steps; i++) {
        Step *s = &p->steps[i];
        for (int j = 0; j < s->buffers; j++) {
            const Buffer *b = &p->buffers[s->buffer[j]];
            size_t offset = b->parent == NO_BUFFER ? 0 : b->offset;
            int whole = b->parent == NO_BUFFER ? s->buffer[j] : b->parent;
            b = &p->buffers[whole];
            if (whole >= BUFFERS_OUTSIDE) {
                char *start = b->fixed ? b->fixed : p->arena + b->offset;
                if (set_address(s, j, start + offset, e)) return -1;
                continue;
            }
            if (memory_grow((void **)&p->uses, p->n_uses, &p->uses_room, sizeof *p->uses, "plan",
                            e))
                return -1;
            p->uses[p->n_uses++] = (OutsideUse){whole, i, j, offset};
        }
    }
    return 0;
}

static int give_outside(CpuPlan *p, int buffer, void *address, Error *e) {
    if (p->outside[buffer] == address) return 0;
    for (int i = 0; i < p->n_uses; i++)
        if (p->uses[i].buffer == buffer &&
            set_address(&p->steps[p->uses[i].step], p->uses[i].slot,
                        address ? (char *)address + p->uses[i].offset : NULL, e))
            return -1;
    p->outside[buffer] = address;
    return 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run_steps(CpuPlan *p, int first, int end, Error *e) {
    dnnl_stream_t stream = cpu_stream();
    for (int i = first; i < end; i++) {
        Step *s = &p->steps[i];
        if (interrupt_check(e)) return -1;
        double start = p->timed ? now() : 0;
        if (s->sums) {
            Group *g = p->base.request.group;
            if (g->sum_double(g, s->at[0], s->size[0], e)) return -1;
        } else if (!s->primitive)
            s->kernel(p, s);
        else if (onednn_check(dnnl_primitive_execute(s->primitive, stream, s->buffers, s->args),
                              s->what, e))
            return -1;
        if (p->timed) p->seconds[i] += now() - start;
    }
    return onednn_check(dnnl_stream_wait(stream), "wait", e);
}

static int run_forward(Plan *base, const float *x, float *z, Error *e) {
    CpuPlan *p = (CpuPlan *)base;
    if (give_outside(p, BUFFER_X, (void *)x, e) || give_outside(p, BUFFER_Z, z, e)) return -1;
    p->runs++;
    p->traced = false;
    if (run_steps(p, 0, p->n_forward, e)) return -1;
    p->traced = base->request.purpose != PLAN_FORWARD;
    return 0;
}

static int run_backward(Plan *base, const float *dz, float *dx, Error *e) {
    CpuPlan *p = (CpuPlan *)base;
    if (!p->traced) return error_set(e, "a backward needs a forward before it");
    if (give_outside(p, BUFFER_DZ, (void *)dz, e) || give_outside(p, BUFFER_DX, dx, e)) return -1;
    if (base->request.purpose == PLAN_TRAINING) p->traced = false;
    return run_steps(p, p->n_forward, p->n_steps, e);
}

static int run_train_backward(Plan *base, const float *dz, Error *e) {
    return run_backward(base, dz, NULL, e);
}

static int time_steps(Plan *base, bool on, Error *e) {
    CpuPlan *p = (CpuPlan *)base;
    if (!p->seconds) {
        p->seconds = memory_zeroed((size_t)p->n_steps, sizeof *p->seconds, "timing of a plan", e);
        if (!p->seconds) return -1;
    }
    if (on) memset(p->seconds, 0, (size_t)p->n_steps * sizeof *p->seconds);
    p->timed = on;
    return 0;
}

static bool timing_of(Plan *base, int i, PlanTiming *out) {
    const CpuPlan *p = (const CpuPlan *)base;
    if (!p->seconds || i < 0 || i >= p->n_steps) return false;
    const Step *s = &p->steps[i];
    *out = (PlanTiming){s->what, s->layer->name, i >= p->n_forward, 0, p->seconds[i]};
    for (int j = 0; j < s->buffers; j++) out->bytes += (int64_t)p->buffers[s->buffer[j]].bytes;
    return true;
}

static float *gradient_of(Plan *base, int param) {
    CpuPlan *p = (CpuPlan *)base;
    if (!p->param_buffer || param < 0 || param >= p->n_params) return NULL;
    int b = p->param_buffer[param];
    return b == NO_BUFFER ? NULL : p->buffers[b].fixed;
}

static void free_plan(Plan *base) {
    CpuPlan *p = (CpuPlan *)base;
    for (int i = 0; i < p->n_steps; i++) {
        Step *s = &p->steps[i];
        if (!s->primitive) continue;
        for (int j = 0; j < s->buffers; j++) dnnl_memory_destroy(s->args[j].memory);
        dnnl_primitive_destroy(s->primitive);
    }
    for (int i = 0; i < p->n_owned; i++) memory_free(p->owned[i]);
    memory_free(p->owned);
    memory_free(p->seconds);
    memory_free(p->steps);
    memory_free(p->buffers);
    memory_free(p->uses);
    memory_free(p->param_buffer);
    memory_free(p->arena);
    memory_free(p);
}

/* --- making a plan --- */

static CpuPlan *empty_plan(CpuDevice *d, const Program *program, const PlanRequest *r, Error *e) {
    CpuPlan *p = memory_zeroed(1, sizeof *p, "plan", e);
    if (!p) return NULL;
    const Layer *in = program->nodes[0].layer, *out = program->nodes[program->n - 1].layer;
    bool training = r->purpose == PLAN_TRAINING;
    p->runs = r->runs;
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
    p->kernels = d->kernels;
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
    size_t image = (size_t)(p->request.N * p->C * p->H * p->W) * sizeof(float),
           logits = (size_t)(p->request.N * p->K) * sizeof(float);
    for (int i = 0; i < BUFFERS_OUTSIDE; i++) {
        int b = buffer_new(c, i == BUFFER_X || i == BUFFER_DX ? image : logits, e);
        if (b < 0) return -1;
        /* two holders, of whom one never lets go: the caller's memory is not written in place */
        c->plan->buffers[b].holders = 2;
    }
    c->rounds = c->request->precision == PLAN_BF16;
    if (lower_forward(c, e)) return -1;
    c->plan->n_forward = c->plan->n_steps;
    c->rounds = c->request->precision != PLAN_F32;
    return c->request->purpose == PLAN_FORWARD ? 0 : lower_backward(c, e);
}

int cpu_plan_new(Device *d, const struct Program *program, const struct PlanRequest *r, Plan **out,
                 Error *e) {
    if (!cpu_engine() || !cpu_stream()) return error_set(e, "oneDNN: cannot start its CPU engine");
    CpuPlan *p = empty_plan((CpuDevice *)d, program, r, e);
    if (!p) return -1;
    int status = -1;
    Compiler c = {(CpuDevice *)d, p, program, r, NULL, 0, false};
    c.values = memory_zeroed((size_t)program->n, sizeof *c.values, "plan", e);
    if (!c.values) goto done;
    for (int i = 0; i < program->n; i++) {
        Value *v = &c.values[i];
        v->buffer = v->gradient = v->mask = NO_BUFFER;
        for (size_t j = 0; j < sizeof v->saved / sizeof *v->saved; j++) v->saved[j] = NO_BUFFER;
    }
    if (lower(&c, e)) goto done;
    keep_trace(p);
    if (make_arena(p, e) || bind_buffers(p, e)) goto done;
    status = 0;
done:
    if (layouts_forget(e)) status = -1;
    for (int i = 0; c.values && i < program->n; i++)
        if (c.values[i].descriptor) dnnl_primitive_desc_destroy(c.values[i].descriptor);
    memory_free(c.values);
    if (status)
        free_plan(&p->base);
    else
        *out = &p->base;
    return status;
}
