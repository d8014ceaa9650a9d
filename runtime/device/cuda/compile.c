/* Emitting a plan's steps: buffers, common steps, and gradients' sinks. */
#include <string.h>

#include "base/memory.h"
#include "device/cuda/plan.h"

/* --- buffers --- */

int buffer_new(Compiler *c, size_t bytes, Error *e) {
    CudaPlan *p = c->plan;
    if (memory_grow((void **)&p->buffers, p->n_buffers, &p->buffers_room, sizeof *p->buffers,
                    "plan", e))
        return -1;
    p->buffers[p->n_buffers] = (Buffer){.bytes = bytes, .first = -1, .last = -1};
    return p->n_buffers++;
}

int buffer_fixed(Compiler *c, void *memory, Error *e) {
    int b = buffer_new(c, 0, e);
    if (b < 0) return -1;
    c->plan->buffers[b].fixed = true;
    c->plan->buffers[b].address = memory;
    return b;
}

int buffer_owned(Compiler *c, size_t bytes, const char *what, Error *e) {
    CudaPlan *p = c->plan;
    void *memory = NULL;
    p->owned_bytes += cuda_taken_for(bytes);
    if (memory_grow((void **)&p->owned, p->n_owned, &p->owned_room, sizeof *p->owned, "plan", e) ||
        (!c->dry && cuda_take(&c->device->base, bytes, what, &memory, e)))
        return -1;
    p->owned[p->n_owned++] = memory;
    return buffer_fixed(c, memory, e);
}

int buffer_filled(Compiler *c, const void *host, size_t bytes, const char *what, Error *e) {
    int b = buffer_owned(c, bytes, what, e);
    if (b < 0 || c->dry) return b;
    Device *d = &c->device->base;
    return cuda_copy_in(d, c->plan->buffers[b].address, host, bytes, e) ? -1 : b;
}

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

int param_value(Compiler *c, int param, Error *e) {
    return buffer_fixed(c, c->program->graph->params[param].value.data, e);
}

int param_gradient(Compiler *c, int param, Error *e) {
    int *b = &c->plan->param_buffer[param];
    const Tensor *value = &c->program->graph->params[param].value;
    if (*b == NO_BUFFER) *b = buffer_owned(c, tensor_bytes(value), "parameter gradients", e);
    return *b;
}

/* --- steps --- */

Step *emit(Compiler *c, const char *what, int (*run)(CudaPlan *, const Step *, Error *), int n,
           const int *buffers, Error *e) {
    CudaPlan *p = c->plan;
    if (memory_grow((void **)&p->steps, p->n_steps, &p->steps_room, sizeof *p->steps, "plan", e))
        return NULL;
    Step *s = &p->steps[p->n_steps];
    memset(s, 0, sizeof *s);
    s->what = what;
    s->layer = c->program->nodes[c->node].layer;
    s->run = run;
    for (int i = 0; i < n; i++) {
        s->buffer[s->buffers++] = buffers[i];
        if (buffers[i] < 0) continue;
        Buffer *b = &p->buffers[buffers[i]];
        if (b->first < 0) b->first = p->n_steps;
        b->last = p->n_steps;
    }
    p->n_steps++;
    return s;
}

static int run_convert(CudaPlan *p, const Step *s, Error *e) {
    return step_done(
        p, s,
        kernel_convert(p->device->stream, s->real, step_at(p, s, 0), s->to, step_at(p, s, 1), s->n),
        e);
}

int emit_convert(Compiler *c, Real from, int in, Real to, int out, int64_t n, Error *e) {
    Step *s = emit(c, "copy", run_convert, 2, (int[]){in, out}, e);
    if (!s) return -1;
    s->real = from;
    s->to = to;
    s->n = n;
    return 0;
}

static int run_sum(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_sum(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 1),
                                step_at(p, s, 2), s->n),
                     e);
}

int emit_sum(Compiler *c, Real real, int a, int b, int out, int64_t n, Error *e) {
    Step *s = emit(c, "sum", run_sum, 3, (int[]){a, b, out}, e);
    if (!s) return -1;
    s->real = real;
    s->n = n;
    return 0;
}

static int run_epilogue(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_epilogue(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 1),
                                     s->relu, (float)s->number, step_at(p, s, 2), s->n, s->C),
                     e);
}

int emit_epilogue(Compiler *c, const Node *n, Value *v, int bias, Error *e) {
    int64_t count = value_count(c, c->node);
    if (wants_mask(c, n)) {
        v->mask = buffer_new(c, (size_t)(count + 31) / 32 * 4, e);
        if (v->mask < 0) return -1;
    } else if (bias == NO_BUFFER && !n->relu)
        return 0;
    Step *s = emit(c, "bias, relu", run_epilogue, 3, (int[]){v->buffer, bias, v->mask}, e);
    if (!s) return -1;
    s->real = v->buffer == BUFFER_Z ? REAL_F32 : c->forward;
    s->relu = n->relu;
    s->number = n->cap;
    s->n = count;
    s->C = n->layer->C;
    return 0;
}

static int run_from_planes(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_from_planes(p->device->stream, step_at(p, s, 0), NULL, NULL, s->real,
                                        step_at(p, s, 1), s->N, s->C, s->P),
                     e);
}

int value_of(Compiler *c, int node, Error *e) {
    Value *v = &c->values[node];
    const Layer *l = c->program->nodes[node].layer;
    if (!v->planes) return v->buffer;
    int made = buffer_new(c, (size_t)value_count(c, node) * real_bytes(c->forward), e);
    if (made < 0) return -1;
    Step *s = emit(c, "reorder", run_from_planes, 2, (int[]){v->buffer, made}, e);
    if (!s) return -1;
    s->real = c->forward;
    s->N = c->request->N, s->C = l->C, s->P = l->H * l->W;
    v->buffer = made;
    v->planes = false;
    return made;
}

/* --- gradients --- */

static void hold(Compiler *c, Value *v, int buffer) {
    if (v->gradient != NO_BUFFER) c->plan->buffers[v->gradient].holders--;
    c->plan->buffers[buffer].holders++;
    v->gradient = buffer;
}

int sink(Compiler *c, int node, int *buffer, bool *sum, Error *e) {
    Value *v = &c->values[node];
    int64_t n = value_count(c, node);
    *sum = v->gradient != NO_BUFFER;
    if (!*sum || c->plan->buffers[v->gradient].holders > 1) {
        int made = buffer_new(c, (size_t)n * real_bytes(c->backward), e);
        if (made < 0 ||
            (*sum && emit_convert(c, c->backward, v->gradient, c->backward, made, n, e)))
            return -1;
        hold(c, v, made);
    }
    *buffer = v->gradient;
    return 0;
}

int sink_take(Compiler *c, int node, int buffer, Error *e) {
    Value *v = &c->values[node];
    int64_t n = value_count(c, node);
    if (v->gradient == NO_BUFFER) {
        hold(c, v, buffer);
        return 0;
    }
    if (c->plan->buffers[v->gradient].holders == 1)
        return emit_sum(c, c->backward, v->gradient, buffer, v->gradient, n, e);
    if (emit_sum(c, c->backward, v->gradient, buffer, buffer, n, e)) return -1;
    hold(c, v, buffer);
    return 0;
}

int sink_share(Compiler *c, int input, int buffer, Error *e) {
    Value *v = &c->values[input];
    if (!v->wanted) return 0;
    if (v->gradient == NO_BUFFER) {
        hold(c, v, buffer);
        return 0;
    }
    int into;
    bool sum;
    if (sink(c, input, &into, &sum, e)) return -1;
    return emit_sum(c, c->backward, into, buffer, into, value_count(c, input), e);
}
