/* Layers that work element by element: ReLU and sums where nothing took them in, and training's
 * dropout. */
#include <string.h>

#include "base/random.h"
#include "device/cuda/plan.h"

/* --- ReLU --- */

static int run_relu(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_relu(p->device->stream, s->real, step_at(p, s, 0), (float)s->number,
                                 step_at(p, s, 1), s->n),
                     e);
}

/* In place where nothing else reads the input: no kind of layer needs its own output again. */
static int relu_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    int x = value_of(c, n->input[0], e);
    bool alone = c->program->nodes[n->input[0]].readers == 1 && x >= BUFFERS_OUTSIDE;
    int64_t count = value_count(c, c->node);
    v->buffer = alone ? x : buffer_new(c, (size_t)count * real_bytes(c->forward), e);
    if (x < 0 || v->buffer < 0) return -1;
    Step *s = emit(c, "relu", run_relu, 2, (int[]){x, v->buffer}, e);
    if (!s) return -1;
    s->real = c->forward;
    s->number = n->cap;
    s->n = count;
    return 0;
}

/* The gradient has been masked already. */
static int relu_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return sink_share(c, n->input[0], v->gradient, e);
}

const Lowering cuda_lower_relu = {relu_forward, relu_backward};

/* --- sum --- */

static int add_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    int64_t count = value_count(c, c->node);
    int a = value_of(c, n->input[0], e), b = a < 0 ? -1 : value_of(c, n->input[1], e);
    v->buffer = buffer_new(c, (size_t)count * real_bytes(c->forward), e);
    if (b < 0 || v->buffer < 0 || emit_sum(c, c->forward, a, b, v->buffer, count, e)) return -1;
    return emit_epilogue(c, n, v, NO_BUFFER, e);
}

static int add_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return sink_share(c, n->input[0], v->gradient, e) || sink_share(c, n->input[1], v->gradient, e)
               ? -1
               : 0;
}

const Lowering cuda_lower_add = {add_forward, add_backward};

/* --- dropout, which is of f32; n: the batch's images before this process's --- */

static int run_dropout(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_dropout(p->device->stream, step_at(p, s, 0), step_at(p, s, 2), s->seed,
                                    s->number, step_at(p, s, 1), s->N, s->C, s->P, s->n, s->sum),
                     e);
}

/* The stream's seed is the layer's own, so that forward and backward draw alike. */
static int emit_dropout(Compiler *c, const char *what, int in, int out, bool sum, Error *e) {
    const Layer *l = c->program->nodes[c->node].layer;
    Step *s = emit(c, what, run_dropout, 3, (int[]){in, out, c->plan->runs_buffer}, e);
    if (!s) return -1;
    uint64_t key = random_hash(RANDOM_EMPTY, l->name, strlen(l->name));
    s->seed = random_bits(key, c->request->seed + (uint64_t)c->node);
    s->number = l->p;
    s->sum = sum;
    s->N = c->request->N, s->C = l->C, s->P = l->H * l->W;
    s->n = c->request->group ? c->request->first : 0;
    return 0;
}

static int dropout_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    int x = value_of(c, n->input[0], e);
    v->buffer = buffer_new(c, (size_t)value_count(c, c->node) * sizeof(float), e);
    if (x < 0 || v->buffer < 0) return -1;
    return emit_dropout(c, "dropout", x, v->buffer, false, e);
}

static int dropout_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    int into;
    bool sum;
    if (!c->values[n->input[0]].wanted) return 0;
    if (sink(c, n->input[0], &into, &sum, e)) return -1;
    return emit_dropout(c, "dropout back", v->gradient, into, sum, e);
}

const Lowering cuda_lower_dropout = {dropout_forward, dropout_backward};
