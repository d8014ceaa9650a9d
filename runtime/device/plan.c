#include "device/plan.h"

#include <string.h>
#include <time.h>

#include "base/interrupt.h"
#include "base/memory.h"
#include "device/arena.h"

/* --- buffers --- */

int buffer_new(Compiler *c, size_t bytes, Error *e) {
    Plan *p = c->plan;
    if (memory_grow((void **)&p->buffers, p->n_buffers, &p->buffers_room, sizeof *p->buffers,
                    "plan", e))
        return -1;
    p->buffers[p->n_buffers] =
        (Buffer){.bytes = bytes, .first = -1, .last = -1, .last_op = -1, .parent = NO_BUFFER};
    return p->n_buffers++;
}

int buffer_view(Compiler *c, int parent, size_t offset, size_t bytes, Error *e) {
    int b = buffer_new(c, bytes, e);
    if (b < 0) return -1;
    c->plan->buffers[b].parent = parent;
    c->plan->buffers[b].offset = offset;
    return b;
}

int buffer_fixed(Compiler *c, void *memory, Error *e) {
    int b = buffer_new(c, 0, e);
    if (b < 0) return -1;
    c->plan->buffers[b].fixed = memory;
    c->plan->buffers[b].lasts = true;
    return b;
}

/* Takes device memory. Memory on the host is set to zero, because the padding of blocked layouts
 * must be 0. */
static int take(Compiler *c, size_t bytes, const char *what, void **out, Error *e) {
    Device *d = c->device;
    *out = NULL;
    if (c->dry) return 0;
    if (d->take(d, bytes, what, out, e)) return -1;
    if (d->host) memset(*out, 0, bytes);
    return 0;
}

int buffer_owned(Compiler *c, size_t bytes, const char *what, void **memory, Error *e) {
    Plan *p = c->plan;
    void *taken;
    p->owned_bytes += c->device->taken_for ? c->device->taken_for(bytes) : bytes;
    if (memory_grow((void **)&p->owned, p->n_owned, &p->owned_room, sizeof *p->owned, "plan", e) ||
        take(c, bytes, what, &taken, e))
        return -1;
    p->owned[p->n_owned++] = taken;
    if (memory) *memory = taken;
    int b = buffer_fixed(c, taken, e);
    if (b >= 0) p->buffers[b].bytes = bytes;
    return b;
}

int buffer_filled(Compiler *c, const void *host, size_t bytes, const char *what, Error *e) {
    void *memory;
    int b = buffer_owned(c, bytes, what, &memory, e);
    if (b < 0 || c->dry) return b;
    return c->device->copy_in(c->device, memory, host, bytes, e) ? -1 : b;
}

int buffer_param(Compiler *c, int param, Error *e) {
    const ProgramParam *q = &c->program->params[param];
    return buffer_fixed(c, q->data, e);
}

int buffer_param_gradient(Compiler *c, int param, Error *e) {
    int *b = &c->plan->param_buffer[param];
    if (*b == NO_BUFFER)
        *b = buffer_owned(c, (size_t)c->program->params[param].count * sizeof(float),
                          "parameter gradients", NULL, e);
    return *b;
}

/* --- steps --- */

void step_uses(Compiler *c, Step *s, int buffer) {
    int now = (int)(s - c->plan->steps);
    for (int id = buffer; id != NO_BUFFER; id = c->plan->buffers[id].parent) {
        Buffer *b = &c->plan->buffers[id];
        if (b->first < 0) b->first = now;
        b->last = now;
    }
    s->buffer[s->buffers++] = buffer;
}

Step *step_new(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *), int n,
               const int *buffers, const void *job, size_t bytes, Error *e) {
    Plan *p = c->plan;
    if (memory_grow((void **)&p->steps, p->n_steps, &p->steps_room, sizeof *p->steps, "plan", e))
        return NULL;
    Step *s = &p->steps[p->n_steps];
    *s = (Step){.what = what, .layer = c->program->ops[c->op].layer, .run = run};
    if (bytes) {
        s->job = memory_take(bytes, "plan", e);
        if (!s->job) return NULL;
        memcpy(s->job, job, bytes);
    }
    p->n_steps++; /* now plan_free frees the step */
    for (int i = 0; i < n; i++) step_uses(c, s, buffers[i]);
    return s;
}

static int run_sum_over_ranks(Plan *p, const Step *s, Error *e) {
    Group *g = p->request.group;
    return g->sum_double(g, s->at[0], *(const int64_t *)s->job, e);
}

int step_sum_over_ranks(Compiler *c, int buffer, int64_t n, Error *e) {
    if (!c->request->group) return 0;
    return step_new(c, "sum over ranks", run_sum_over_ranks, 1, &buffer, &n, sizeof n, e) ? 0 : -1;
}

/* --- values --- */

/* Returns the whole buffer that `buffer` is a view of, or `buffer` itself. *offset is the view's
 * position in bytes. */
static int whole_at(const Plan *p, int buffer, size_t *offset) {
    for (*offset = 0; p->buffers[buffer].parent != NO_BUFFER; buffer = p->buffers[buffer].parent)
        *offset += p->buffers[buffer].offset;
    return buffer;
}

static int whole_buffer(const Plan *p, int buffer) {
    size_t offset;
    return whole_at(p, buffer, &offset);
}

void value_place(Compiler *c, int value, int buffer) {
    Buffer *b = &c->plan->buffers[whole_buffer(c->plan, buffer)];
    c->buffer[value] = buffer;
    if (c->program->values[value].last > b->last_op) b->last_op = c->program->values[value].last;
}

/* The number of operands of the present op that lie in a buffer. */
static int operands_in(const Compiler *c, int whole) {
    const Op *op = &c->program->ops[c->op];
    int n = 0;
    for (int i = -1; i < OP_INPUTS; i++) {
        int value = i < 0 ? op->add : op->in[i];
        if (value != NO_VALUE && c->buffer[value] != NO_BUFFER)
            n += whole_buffer(c->plan, c->buffer[value]) == whole;
    }
    return n;
}

bool value_dies(const Compiler *c, int value) {
    int id = whole_buffer(c->plan, c->buffer[value]);
    const Buffer *b = &c->plan->buffers[id];
    return id >= VALUES_OUTSIDE && !b->lasts && b->last_op <= c->op && operands_in(c, id) < 2;
}

int value_only_reader(const Compiler *c, int value, OpKind kind) {
    const Value *v = &c->program->values[value];
    if (v->readers != 1 || v->last < 0 || c->claimed[v->last]) return -1;
    return c->program->ops[v->last].kind == kind ? v->last : -1;
}

int64_t value_elements(const Compiler *c, int value) {
    const Value *v = &c->program->values[value];
    return c->request->N * v->C * v->H * v->W;
}

bool map_reads_whole(const MapSpec *m, int operand) {
    int64_t step = 1;
    for (int d = m->shape.ndim - 1; d >= 0; d--) {
        if (m->shape.dim[d] > 1 && m->operand[operand].stride[d] != step) return false;
        step *= m->shape.dim[d];
    }
    return true;
}

/* --- making a plan --- */

static Plan *empty_plan(Device *d, const Program *program, const PlanRequest *r, Error *e) {
    static uint64_t serials;
    const Value *x = &program->values[VALUE_X], *z = &program->values[VALUE_Z];
    Plan *p = memory_zeroed(1, sizeof *p, "plan", e);
    if (!p) return NULL;
    *p = (Plan){.device = d,
                .request = *r,
                .C = x->C,
                .H = x->H,
                .W = x->W,
                .K = z->C,
                .serial = ++serials,
                .runs = r->runs,
                .n_params = program->n_params};
    if (r->purpose != PLAN_TRAINING) return p;
    p->param_buffer = memory_zeroed((size_t)p->n_params + 1, sizeof *p->param_buffer, "plan", e);
    if (!p->param_buffer) {
        plan_free(p);
        return NULL;
    }
    for (int i = 0; i < p->n_params; i++) p->param_buffer[i] = NO_BUFFER;
    return p;
}

static int lower_op(Compiler *c, int i, Error *e) {
    const Op *op = &c->program->ops[i];
    c->op = i;
    if (interrupt_check(e)) return -1;
    if (c->claimed[i] || !c->device->lower(c, op, e)) return 0;
    return error_prefix(e, op->backward ? "layer '%s', backward" : "layer '%s'", op->layer);
}

static int lower(Compiler *c, Error *e) {
    const Program *program = c->program;
    size_t N = (size_t)c->request->N;
    for (int i = 0; i < VALUES_OUTSIDE; i++) {
        const Value *v = &program->values[i];
        int b = buffer_new(c, N * (size_t)(v->C * v->H * v->W) * sizeof(float), e);
        if (b < 0) return -1;
        value_place(c, i, b);
    }
    if (c->device->lower_begin && c->device->lower_begin(c, e)) return -1;
    for (int i = 0; i < program->n_ops; i++) {
        if (i == program->n_forward) c->plan->n_forward = c->plan->n_steps;
        if (lower_op(c, i, e)) return -1;
    }
    if (program->n_forward == program->n_ops) c->plan->n_forward = c->plan->n_steps;
    return 0;
}

static int run_copy(Plan *p, const Step *s, Error *e) {
    return p->device->copy(p->device, s->at[1], s->at[0], *(const size_t *)s->job, e);
}

/* Redirects every backward step from the caller's buffer `outside` to `copy`. Returns 1 if a step
 * read `outside`, 0 if none did, or -1 on failure. */
static int read_copy(Compiler *c, int outside, int copy, Error *e) {
    Plan *p = c->plan;
    int found = 0;
    for (int i = p->n_forward; i < p->n_steps; i++) {
        for (int j = 0; j < p->steps[i].buffers; j++) {
            int b = p->steps[i].buffer[j], at = copy;
            size_t offset;
            if (b == NO_BUFFER || whole_at(p, b, &offset) != outside) continue;
            if (b != outside) at = buffer_view(c, copy, offset, p->buffers[b].bytes, e);
            if (at < 0) return -1;
            p->steps[i].buffer[j] = at;
            p->buffers[copy].last = i;
            found = 1;
        }
    }
    return found;
}

/* Moves the last step to the end of the forward half. */
static void end_forward_with_last(Plan *p) {
    int at = p->n_forward++;
    Step last = p->steps[p->n_steps - 1];
    memmove(&p->steps[at + 1], &p->steps[at], (size_t)(p->n_steps - 1 - at) * sizeof last);
    p->steps[at] = last;
    for (int i = 0; i < p->n_buffers; i++) {
        p->buffers[i].first += p->buffers[i].first >= at;
        p->buffers[i].last += p->buffers[i].last >= at;
    }
}

/* The caller may change or free images and logits between forward and backward. If the backward
 * half reads one of them, the forward half copies it first. */
static int keep_outside(Compiler *c, int outside, Error *e) {
    Plan *p = c->plan;
    size_t bytes = p->buffers[outside].bytes;
    int copy = buffer_new(c, bytes, e), found = copy < 0 ? -1 : read_copy(c, outside, copy, e);
    if (found <= 0) return found;
    const int buffers[] = {outside, copy};
    int last = p->buffers[copy].last;
    if (!step_new(c, "copy", run_copy, 2, buffers, &bytes, sizeof bytes, e)) return -1;
    p->buffers[copy].last = last;
    end_forward_with_last(p);
    p->buffers[copy].first = p->n_forward - 1;
    return 0;
}

/* Extends the life of the buffers that a gradient plan's forward half leaves to its backward half
 * (masks and indices, which are small). So one forward serves any number of backwards. */
static void keep_trace(Plan *p) {
    if (p->request.purpose != PLAN_GRADIENT) return;
    for (int i = VALUES_OUTSIDE; i < p->n_buffers; i++)
        if (p->buffers[i].first < p->n_forward && p->buffers[i].last >= p->n_forward)
            p->buffers[i].last = p->n_steps;
}

static int make_arena(Compiler *c, Error *e) {
    Plan *p = c->plan;
    ArenaPiece *pieces = memory_zeroed((size_t)p->n_buffers, sizeof *pieces, "plan", e);
    int *ids = memory_zeroed((size_t)p->n_buffers, sizeof *ids, "plan", e), count = 0;
    for (int i = VALUES_OUTSIDE; i < p->n_buffers && pieces && ids; i++) {
        const Buffer *b = &p->buffers[i];
        if (b->lasts || b->parent != NO_BUFFER || b->first < 0) continue;
        pieces[count] = (ArenaPiece){.bytes = b->bytes, .first = b->first, .last = b->last};
        ids[count++] = i;
    }
    int failed = !pieces || !ids ||
                 arena_place(pieces, count, c->device->alignment, &p->arena_bytes, e) ||
                 take(c, p->arena_bytes, "activations of a plan", &p->arena, e);
    for (int i = 0; i < count && !failed; i++) p->buffers[ids[i]].offset = pieces[i].offset;
    memory_free(pieces);
    memory_free(ids);
    return failed ? -1 : 0;
}

/* --- binding --- */

static int set_address(Step *s, int slot, void *address, Error *e) {
    s->at[slot] = address;
    return s->moved ? s->moved(s, slot, e) : 0;
}

static int bind_slot(Plan *p, int step, int slot, Error *e) {
    size_t offset;
    if (p->steps[step].buffer[slot] == NO_BUFFER) return 0;
    int whole = whole_at(p, p->steps[step].buffer[slot], &offset);
    const Buffer *b = &p->buffers[whole];
    if (whole >= VALUES_OUTSIDE) {
        char *start = b->lasts ? b->fixed : (char *)p->arena + b->offset;
        return set_address(&p->steps[step], slot, start + offset, e);
    }
    if (memory_grow((void **)&p->uses, p->n_uses, &p->uses_room, sizeof *p->uses, "plan", e))
        return -1;
    p->uses[p->n_uses++] = (OutsideUse){whole, step, slot, offset};
    return 0;
}

static int bind_buffers(Plan *p, Error *e) {
    for (int i = 0; i < p->n_steps; i++)
        for (int j = 0; j < p->steps[i].buffers; j++)
            if (bind_slot(p, i, j, e)) return -1;
    return 0;
}

static int give_outside(Plan *p, int value, void *address, Error *e) {
    if (p->outside[value] == address) return 0;
    for (int i = 0; i < p->n_uses; i++) {
        const OutsideUse *u = &p->uses[i];
        void *at = address ? (char *)address + u->offset : NULL;
        if (u->buffer == value && set_address(&p->steps[u->step], u->slot, at, e)) return -1;
    }
    p->outside[value] = address;
    return 0;
}

int plan_compile(Device *d, const Program *program, const PlanRequest *r, bool dry, Plan **out,
                 Error *e) {
    Plan *p = empty_plan(d, program, r, e);
    if (!p) return -1;
    Compiler c = {.device = d, .plan = p, .program = program, .request = r, .dry = dry};
    c.buffer = memory_take((size_t)program->n_values * sizeof *c.buffer, "plan", e);
    c.claimed = memory_zeroed((size_t)program->n_ops, sizeof *c.claimed, "plan", e);
    int status = -1;
    if (!c.buffer || !c.claimed) goto done;
    for (int i = 0; i < program->n_values; i++) c.buffer[i] = NO_BUFFER;
    if (lower(&c, e) || keep_outside(&c, VALUE_X, e) || keep_outside(&c, VALUE_Z, e)) goto done;
    keep_trace(p);
    if (make_arena(&c, e) || (!dry && bind_buffers(p, e))) goto done;
    status = 0;
done:
    if (d->lower_end && d->lower_end(&c, e)) status = -1;
    memory_free(c.buffer);
    memory_free(c.claimed);
    if (status)
        plan_free(p);
    else
        *out = p;
    return status;
}

void plan_free(Plan *p) {
    if (!p) return;
    Device *d = p->device;
    if (d->plan_ends) d->plan_ends(p);
    for (int i = 0; i < p->n_steps; i++) {
        if (p->steps[i].drop) p->steps[i].drop(&p->steps[i]);
        memory_free(p->steps[i].job);
    }
    for (int i = 0; i < p->n_owned; i++) d->release(d, p->owned[i]);
    d->release(d, p->arena);
    memory_free(p->owned);
    memory_free(p->seconds);
    memory_free(p->steps);
    memory_free(p->buffers);
    memory_free(p->uses);
    memory_free(p->param_buffer);
    memory_free(p);
}

/* --- running --- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run_steps(Plan *p, int first, int end, Error *e) {
    if (p->timed && p->device->run_timed) return p->device->run_timed(p, first, end, e);
    for (int i = first; i < end; i++) {
        const Step *s = &p->steps[i];
        if (interrupt_check(e)) return -1;
        double start = p->timed ? now() : 0;
        if (s->run(p, s, e)) return -1;
        if (p->timed) p->seconds[i] += now() - start;
    }
    return 0;
}

int plan_forward(Plan *p, const float *x, float *z, Error *e) {
    if (give_outside(p, VALUE_X, (void *)x, e) || give_outside(p, VALUE_Z, z, e)) return -1;
    p->runs++;
    p->traced = false;
    if (run_steps(p, 0, p->n_forward, e)) return -1;
    p->traced = p->request.purpose != PLAN_FORWARD;
    return 0;
}

static int run_backward(Plan *p, const float *dz, float *dx, Error *e) {
    if (!p->traced) return error_set(e, "run forward before backward");
    if (give_outside(p, VALUE_DZ, (void *)dz, e) || give_outside(p, VALUE_DX, dx, e)) return -1;
    if (p->request.purpose == PLAN_TRAINING) p->traced = false;
    return run_steps(p, p->n_forward, p->n_steps, e);
}

int plan_backward(Plan *p, const float *dz, float *dx, Error *e) {
    if (p->request.purpose != PLAN_GRADIENT)
        return error_set(e, "backward to the image needs a gradient plan");
    return run_backward(p, dz, dx, e);
}

int plan_train_backward(Plan *p, const float *dz, Error *e) {
    if (p->request.purpose != PLAN_TRAINING)
        return error_set(e, "backward to the parameters needs a training plan");
    return run_backward(p, dz, NULL, e);
}

float *plan_gradient_of(const Plan *p, int param) {
    if (!p->param_buffer || param < 0 || param >= p->n_params) return NULL;
    int b = p->param_buffer[param];
    return b == NO_BUFFER ? NULL : p->buffers[b].fixed;
}

int plan_time(Plan *p, bool on, Error *e) {
    if (!p->seconds) {
        p->seconds =
            memory_zeroed((size_t)p->n_steps + 1, sizeof *p->seconds, "timing of a plan", e);
        if (!p->seconds) return -1;
    }
    if (on) memset(p->seconds, 0, (size_t)p->n_steps * sizeof *p->seconds);
    p->timed = on;
    return 0;
}

/* The bytes of the buffers of a step; each buffer counts once. */
static int64_t bytes_of(const Plan *p, const Step *s) {
    int64_t bytes = 0;
    for (int i = 0; i < s->buffers; i++) {
        bool counted = s->buffer[i] == NO_BUFFER;
        for (int j = 0; j < i; j++) counted = counted || s->buffer[j] == s->buffer[i];
        if (!counted) bytes += (int64_t)p->buffers[s->buffer[i]].bytes;
    }
    return bytes;
}

bool plan_timing(const Plan *p, int i, PlanTiming *out) {
    if (!p->seconds || i < 0 || i >= p->n_steps) return false;
    const Step *s = &p->steps[i];
    *out = (PlanTiming){s->what, s->layer, i >= p->n_forward, bytes_of(p, s), p->seconds[i]};
    return true;
}
