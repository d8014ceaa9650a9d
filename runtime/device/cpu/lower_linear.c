/* Linear layers, on the device's own kernels: they read the graph's weights where they
 * lie, in forward and backward, so a plan keeps no copy of what are the largest weights
 * of AlexNet and VGG. A batch norm behind one makes a folded copy, and bf16 a rounded one. */
#include <string.h>

#include "base/memory.h"
#include "device/cpu/plan.h"

/* The input in plain order, the order of the weights' columns. */
static Layout input_layout(const Compiler *c, const Node *n) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    return layout_plain(c->request->N, x->C, x->H, x->W);
}

static void set_sizes(Step *s, const Compiler *c, const Node *n) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    s->size[0] = c->request->N, s->size[1] = x->C * x->H * x->W, s->size[2] = n->layer->C;
}

/* at: x, weights, y, and the bias where there is one. */
static void run_linear(const CpuPlan *p, const Step *s) {
    p->kernels->linear(s->at[0], s->at[1], s->buffers > 3 ? s->at[3] : NULL, s->at[2], s->size[0],
                       s->size[1], s->size[2]);
}

static void run_data(const CpuPlan *p, const Step *s) {
    p->kernels->linear_data(s->at[0], s->at[1], s->at[2], s->size[0], s->size[1], s->size[2]);
}

static void run_weights(const CpuPlan *p, const Step *s) {
    p->kernels->linear_weights(s->at[0], s->at[1], s->at[2], s->buffers > 3 ? s->at[3] : NULL,
                               s->size[0], s->size[1], s->size[2]);
}

static int kept_parameters(Compiler *c, const Node *n, int *weights, int *bias, Error *e) {
    void *w, *b;
    size_t bytes = tensor_bytes(&c->program->graph->params[n->layer->param[0]].value);
    *weights = buffer_owned(c, bytes, "weights", &w, e);
    *bias = *weights < 0 ? -1 : buffer_owned(c, (size_t)n->layer->C * sizeof(float), "bias", &b, e);
    if (*bias < 0 || node_weights(c->program, n, w, b, e)) return -1;
    precision_weights(c, w, bytes / sizeof(float));
    return 0;
}

static int own_parameters(Compiler *c, const Node *n, int *weights, int *bias, Error *e) {
    const Param *params = c->program->graph->params;
    const int *param = n->layer->param;
    *bias = NO_BUFFER;
    *weights = buffer_fixed(c, params[param[0]].value.data, e);
    if (*weights < 0 || param[1] < 0) return *weights < 0 ? -1 : 0;
    *bias = buffer_fixed(c, params[param[1]].value.data, e);
    return *bias < 0 ? -1 : 0;
}

static int linear_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    /* What is masked is read in whole bytes of mask, for which the caller's z has no room. */
    bool last = n == &c->program->nodes[c->program->n - 1] && !n->mask;
    Layout in = input_layout(c, n);
    int weights, bias;
    bool copy = n->batchnorm >= 0 || c->rounds;
    if ((copy ? kept_parameters : own_parameters)(c, n, &weights, &bias, e)) return -1;
    v->layout = layout_flat(c->request->N, n->layer->C);
    v->saved[0] = value_as(c, n->input[0], &in, e);
    v->saved[1] = weights;
    v->buffer = last ? BUFFER_Z : buffer_new(c, layout_bytes(&v->layout), e);
    if (v->saved[0] < 0 || v->buffer < 0) return -1;
    int used = bias == NO_BUFFER ? 3 : 4;
    Step *s = emit_kernel(c, "linear", run_linear, used,
                          (int[]){v->saved[0], weights, v->buffer, bias}, e);
    if (!s) return -1;
    set_sizes(s, c, n);
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

static int data_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    Layout in = input_layout(c, n);
    Sink sink;
    int weights = v->saved[1], bias;
    if (c->request->precision == PLAN_MIXED && kept_parameters(c, n, &weights, &bias, e)) return -1;
    if (sink_open(c, n->input[0], &in, false, &sink, e)) return -1;
    Step *s =
        emit_kernel(c, "linear back", run_data, 3, (int[]){v->gradient, weights, sink.buffer}, e);
    if (!s) return -1;
    set_sizes(s, c, n);
    return sink_close(c, &sink, e);
}

static int weights_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    const int *param = n->layer->param;
    int weights = param_gradient(c, param[0], e);
    int bias = param[1] < 0 || weights < 0 ? NO_BUFFER : param_gradient(c, param[1], e);
    if (weights < 0 || (param[1] >= 0 && bias < 0)) return -1;
    int used = bias == NO_BUFFER ? 3 : 4;
    Step *s = emit_kernel(c, "linear weights", run_weights, used,
                          (int[]){v->gradient, v->saved[0], weights, bias}, e);
    if (!s) return -1;
    set_sizes(s, c, n);
    return 0;
}

static int linear_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    if (c->request->purpose == PLAN_TRAINING && weights_backward(c, n, v, e)) return -1;
    return c->values[n->input[0]].wanted ? data_backward(c, n, v, e) : 0;
}

const Lowering cpu_lower_linear = {linear_forward, linear_backward};
