/* Pooling: the maximum, whose winners' places are kept, and torch's adaptive average. */
#include "device/cuda/plan.h"

static Window window_of(const Compiler *c, const Node *n) {
    const Layer *l = n->layer, *x = c->program->nodes[n->input[0]].layer;
    return (Window){.N = c->request->N,
                    .C = x->C,
                    .H = x->H,
                    .W = x->W,
                    .OH = l->H,
                    .OW = l->W,
                    .kernel = {l->kernel[0], l->kernel[1]},
                    .stride = {l->stride[0], l->stride[1]},
                    .pad = {l->pad[0], l->pad[1]}};
}

static int run_maxpool(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_maxpool(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 1),
                                    step_at(p, s, 2), s->window),
                     e);
}

static int run_maxpool_back(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_maxpool_back(p->device->stream, s->real, step_at(p, s, 0),
                                         step_at(p, s, 2), step_at(p, s, 1), s->window, s->sum),
                     e);
}

static int run_average(CudaPlan *p, const Step *s, Error *e) {
    return step_done(
        p, s,
        kernel_average(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 1), s->window),
        e);
}

static int run_average_back(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_average_back(p->device->stream, s->real, step_at(p, s, 0),
                                         step_at(p, s, 1), s->window, s->sum),
                     e);
}

typedef int (*Run)(CudaPlan *, const Step *, Error *);

static int pool_forward(Compiler *c, const Node *n, Value *v, const char *what, Run run, Error *e) {
    int x = value_of(c, n->input[0], e);
    v->buffer = buffer_new(c, (size_t)value_count(c, c->node) * real_bytes(c->forward), e);
    if (x < 0 || v->buffer < 0) return -1;
    Step *s = emit(c, what, run, 3, (int[]){x, v->buffer, v->saved[0]}, e);
    if (!s) return -1;
    s->real = c->forward;
    s->window = window_of(c, n);
    return emit_epilogue(c, n, v, NO_BUFFER, e);
}

static int pool_backward(Compiler *c, const Node *n, const Value *v, const char *what, Run run,
                         Error *e) {
    int into;
    bool sum;
    if (!c->values[n->input[0]].wanted) return 0;
    if (sink(c, n->input[0], &into, &sum, e)) return -1;
    Step *s = emit(c, what, run, 3, (int[]){v->gradient, into, v->saved[0]}, e);
    if (!s) return -1;
    s->real = c->backward;
    s->window = window_of(c, n);
    s->sum = sum;
    return 0;
}

static int maxpool_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    if (c->request->purpose != PLAN_FORWARD) {
        v->saved[0] = buffer_new(c, (size_t)value_count(c, c->node) * sizeof(int32_t), e);
        if (v->saved[0] < 0) return -1;
    }
    return pool_forward(c, n, v, "max pool", run_maxpool, e);
}

static int maxpool_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return pool_backward(c, n, v, "max pool back", run_maxpool_back, e);
}

static int average_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    return pool_forward(c, n, v, "average pool", run_average, e);
}

static int average_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return pool_backward(c, n, v, "average pool back", run_average_back, e);
}

const Lowering cuda_lower_maxpool = {maxpool_forward, maxpool_backward};
const Lowering cuda_lower_avgpool = {average_forward, average_backward};
