/* Linear layers on cuBLAS: y [N,K] = x [N,D] w' with w [K,D]. The weights are the graph's own where
 * they lie, unless a batch norm is folded in or they are wanted in bf16. A row of x is in the order
 * of the weights' columns, [C,H,W], so a grid goes through planes. */
#include <stdio.h>

#include "base/memory.h"
#include "device/cuda/plan.h"

/* at: a, b, out of the product. */
static int run_product(CudaPlan *p, const Step *s, Error *e) {
    char who[160];
    snprintf(who, sizeof who, "layer '%s', %s", s->layer->name, s->what);
    return cuda_product(p->device, &s->product, step_at(p, s, 0), step_at(p, s, 1),
                        step_at(p, s, 2), who, e);
}

/* M, K and N are the product's. */
static Step *emit_product(Compiler *c, const char *what, MatmulKind kind, int64_t M, int64_t K,
                          int64_t N, int a, int b, int out, Error *e) {
    Step *s = emit(c, what, run_product, 3, (int[]){a, b, out}, e);
    if (s)
        s->product =
            (Product){.kind = kind, .M = M, .K = K, .N = N, .tensor_cores = c->tensor_cores};
    return s;
}

static int64_t inputs_of(const Compiler *c, const Node *n) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    return x->C * x->H * x->W;
}

/* --- weights --- */

static int folded_weights(Compiler *c, const Node *n, Value *v, Error *e) {
    const Tensor *t = &c->program->graph->params[n->layer->param[0]].value;
    size_t count = (size_t)tensor_count(t), K = (size_t)n->layer->C;
    float *host = memory_take((count + K) * sizeof *host, "weights", e);
    if (!host) return -1;
    int failed = !c->dry && node_weights(c->program, n, host, host + count, e);
    if (!failed) {
        v->saved[1] = buffer_weights(c, host, count, c->forward, e);
        v->saved[2] = v->saved[1];
        if (c->request->purpose == PLAN_GRADIENT && c->backward != c->forward && v->saved[1] >= 0)
            v->saved[2] = buffer_weights(c, host, count, c->backward, e);
        v->saved[3] = buffer_weights(c, host + count, K, REAL_F32, e);
        failed = v->saved[1] < 0 || v->saved[2] < 0 || v->saved[3] < 0;
    }
    memory_free(host);
    return failed;
}

static int own_weights(Compiler *c, const Node *n, Value *v, Error *e) {
    const int *param = n->layer->param;
    v->saved[1] = v->saved[2] = param_value(c, param[0], e);
    v->saved[3] = param[1] < 0 ? NO_BUFFER : param_value(c, param[1], e);
    return v->saved[1] < 0 || (param[1] >= 0 && v->saved[3] < 0);
}

/* --- the order of a grid --- */

static int run_to_planes(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_to_planes(p->device->stream, s->real, step_at(p, s, 0), NULL,
                                      step_at(p, s, 1), s->N, s->C, s->P, false),
                     e);
}

static int run_from_planes(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_from_planes(p->device->stream, step_at(p, s, 0), NULL, NULL, s->real,
                                        step_at(p, s, 1), s->N, s->C, s->P),
                     e);
}

static int emit_order(Compiler *c, int (*run)(CudaPlan *, const Step *, Error *), Real real, int in,
                      int out, Error *e) {
    const Layer *x = c->program->nodes[c->program->nodes[c->node].input[0]].layer;
    Step *s = emit(c, "reorder", run, 2, (int[]){in, out}, e);
    if (!s) return -1;
    s->real = real;
    s->N = c->request->N, s->C = x->C, s->P = x->H * x->W;
    return 0;
}

/* The input's rows in [C,H,W], of the forward's Real. */
static int rows_of(Compiler *c, int node, Error *e) {
    const Value *v = &c->values[node];
    const Layer *l = c->program->nodes[node].layer;
    int64_t n = value_count(c, node);
    bool ordered = v->planes || l->H * l->W == 1;
    int rows = v->buffer;
    Real real = v->planes ? REAL_F32 : c->forward;
    if (!ordered) {
        rows = buffer_new(c, (size_t)n * sizeof(float), e);
        if (rows < 0 || emit_order(c, run_to_planes, c->forward, v->buffer, rows, e)) return -1;
        real = REAL_F32;
    }
    if (real == c->forward) return rows;
    int rounded = buffer_new(c, (size_t)n * real_bytes(c->forward), e);
    return rounded < 0 || emit_convert(c, real, rows, c->forward, rounded, n, e) ? -1 : rounded;
}

/* --- the layer --- */

static int linear_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    bool last = n == &c->program->nodes[c->program->n - 1] && !n->mask;
    bool copied = n->batchnorm >= 0 || c->forward != REAL_F32 || c->backward != REAL_F32;
    if ((copied ? folded_weights : own_weights)(c, n, v, e)) return -1;
    v->saved[0] = rows_of(c, n->input[0], e);
    size_t bytes = (size_t)value_count(c, c->node) * real_bytes(c->forward);
    v->buffer = last ? BUFFER_Z : buffer_new(c, bytes, e);
    if (v->saved[0] < 0 || v->buffer < 0) return -1;
    Step *s = emit_product(c, "linear", MATMUL_NT, c->request->N, inputs_of(c, n), n->layer->C,
                           v->saved[0], v->saved[1], v->buffer, e);
    if (!s) return -1;
    s->product.in = c->forward;
    s->product.to = last ? REAL_F32 : c->forward;
    return emit_epilogue(c, n, v, v->saved[3], e);
}

static int data_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    int64_t count = value_count(c, n->input[0]);
    bool grid = x->H * x->W > 1, sum = false;
    int into = NO_BUFFER;
    if (grid)
        into = buffer_new(c, (size_t)count * sizeof(float), e);
    else if (sink(c, n->input[0], &into, &sum, e))
        return -1;
    if (into < 0) return -1;
    Step *s = emit_product(c, "linear back", MATMUL_NN, c->request->N, n->layer->C, inputs_of(c, n),
                           v->gradient, v->saved[2], into, e);
    if (!s) return -1;
    s->product.in = c->backward;
    s->product.to = grid ? REAL_F32 : c->backward;
    s->product.sum = sum;
    if (!grid) return 0;
    int ordered = buffer_new(c, (size_t)count * real_bytes(c->backward), e);
    if (ordered < 0 || emit_order(c, run_from_planes, c->backward, into, ordered, e)) return -1;
    return sink_take(c, n->input[0], ordered, e);
}

static int run_bias_back(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_column_sums(p->device->stream, step_at(p, s, 0), step_at(p, s, 1),
                                        step_at(p, s, 2), s->N, s->C),
                     e);
}

int emit_bias_gradient(Compiler *c, int param, int dy, int64_t rows, Error *e) {
    int64_t C = c->program->nodes[c->node].layer->C;
    int into = param_gradient(c, param, e);
    int work = buffer_new(c, (size_t)kernel_rows_work(C) * sizeof(double), e);
    if (into < 0 || work < 0) return -1;
    Step *s = emit(c, "bias back", run_bias_back, 3, (int[]){dy, into, work}, e);
    if (!s) return -1;
    s->N = rows, s->C = C;
    return 0;
}

static int weights_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    const int *param = n->layer->param;
    int weights = param_gradient(c, param[0], e);
    if (weights < 0 || !emit_product(c, "linear weights", MATMUL_TN, n->layer->C, c->request->N,
                                     inputs_of(c, n), v->gradient, v->saved[0], weights, e))
        return -1;
    return param[1] < 0 ? 0 : emit_bias_gradient(c, param[1], v->gradient, c->request->N, e);
}

static int linear_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    if (c->request->purpose == PLAN_TRAINING && weights_backward(c, n, v, e)) return -1;
    return c->values[n->input[0]].wanted ? data_backward(c, n, v, e) : 0;
}

const Lowering cuda_lower_linear = {linear_forward, linear_backward};
