/* Linear layers: inner products on the flattened input, whose weights oneDNN lays out
 * so that a blocked grid is read as it is. */
#include <string.h>

#include "base/memory.h"
#include "device/cpu/compile.h"

/* The input as the primitive sees it: flat where the grid is one cell, and else [N,C,H,W] in its
 * own layout, or in plain order where blocks hold padding between channels. */
static Layout input_layout(const Compiler *c, const Node *n) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    const Value *v = &c->values[n->input[0]];
    if (x->H == 1 && x->W == 1) return layout_flat(c->request->N, x->C);
    if (x->C % layout_block(&v->layout)) return layout_plain(c->request->N, x->C, x->H, x->W);
    return v->layout;
}

static Layout weights_layout(const Compiler *c, const Node *n, const Layout *src, bool open) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    Layout l = src->ndims == 2 ? layout_flat(n->layer->C, x->C)
                               : layout_plain(n->layer->C, x->C, x->H, x->W);
    return open ? layout_open(&l) : l;
}

typedef enum LinearWhat { LINEAR_FORWARD, LINEAR_DATA, LINEAR_WEIGHTS } LinearWhat;

static int linear_descriptor(Compiler *c, const Node *n, LinearWhat what, const Layout *src,
                             const Layout *weights, bool has_bias, const PostOps *post,
                             dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out, Error *e) {
    dnnl_inner_product_desc_t op;
    dnnl_status_t made;
    Layout dst = layout_flat(c->request->N, n->layer->C), bias = layout_vector(n->layer->C);
    const Layout *b = has_bias ? &bias : NULL;
    bool training = c->request->purpose == PLAN_TRAINING;
    if (what == LINEAR_DATA)
        made = dnnl_inner_product_backward_data_desc_init(&op, src, weights, &dst);
    else if (what == LINEAR_WEIGHTS)
        made = dnnl_inner_product_backward_weights_desc_init(&op, src, weights, b, &dst);
    else
        made = dnnl_inner_product_forward_desc_init(
            &op, training ? dnnl_forward_training : dnnl_forward_inference, src, weights, b, &dst);
    if (onednn_check(made, "inner product", e)) return -1;
    if (best_descriptor(cpu_engine(), &op, post, hint, false, out, e)) return -1;
    if (!*out && best_descriptor(cpu_engine(), &op, post, hint, true, out, e)) return -1;
    return *out ? 0 : error_set(e, "oneDNN has no inner product of this shape");
}

static int fixed_parameters(Compiler *c, const Node *n, const Layout *plain, const Layout *wanted,
                            int *weights, int *bias, Error *e) {
    const Layer *l = n->layer;
    size_t bytes = tensor_bytes(&c->program->graph->params[l->param[0]].value);
    void *b, *w;
    float *host = memory_take(bytes, "weights", e);
    int status = -1;
    *bias = buffer_owned(c, (size_t)l->C * sizeof(float), "bias", &b, e);
    *weights = buffer_owned(c, layout_bytes(wanted), "weights", &w, e);
    if (host && *bias >= 0 && *weights >= 0 && !node_weights(c->program, n, host, b, e))
        status = reorder_now(cpu_engine(), cpu_stream(), plain, host, wanted, w, e);
    memory_free(host);
    return status;
}

/* Training reads the parameter itself, reordered where the primitive wants another layout. */
static int live_parameters(Compiler *c, const Node *n, const Layout *plain, const Layout *wanted,
                           int *weights, int *bias, Error *e) {
    const Param *params = c->program->graph->params;
    const int *param = n->layer->param;
    int source = buffer_fixed(c, params[param[0]].value.data, e);
    *bias = param[1] < 0 ? NO_BUFFER : buffer_fixed(c, params[param[1]].value.data, e);
    *weights = source;
    if (source < 0 || (param[1] >= 0 && *bias < 0)) return -1;
    if (layout_same(plain, wanted)) return 0;
    *weights = buffer_new(c, layout_bytes(wanted), e);
    return *weights < 0 ? -1 : emit_reorder(c, plain, source, wanted, *weights, e);
}

static int linear_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    bool training = c->request->purpose == PLAN_TRAINING;
    bool last = n == &c->program->nodes[c->program->n - 1];
    Layout src = input_layout(c, n), plain = weights_layout(c, n, &src, false);
    Layout open = weights_layout(c, n, &src, true);
    PostOps post = {.relu = n->relu, .cap = n->cap};
    dnnl_primitive_desc_t pd;
    int weights, bias;
    bool has_bias = !training || n->layer->param[1] >= 0;
    if (linear_descriptor(c, n, LINEAR_FORWARD, &src, training ? &plain : &open, has_bias, &post,
                          NULL, &pd, e))
        return -1;
    v->descriptor = pd;
    v->layout = layout_flat(c->request->N, n->layer->C);
    Layout wanted = descriptor_layout(pd, DNNL_ARG_WEIGHTS);
    if (training ? live_parameters(c, n, &plain, &wanted, &weights, &bias, e)
                 : fixed_parameters(c, n, &plain, &wanted, &weights, &bias, e))
        return -1;
    v->saved[0] = value_as(c, n->input[0], &src, e);
    v->saved[1] = weights;
    v->buffer = last ? BUFFER_Z : buffer_new(c, layout_bytes(&v->layout), e);
    if (v->saved[0] < 0 || v->buffer < 0) return -1;
    Arg args[4] = {{DNNL_ARG_SRC, v->saved[0]},
                   {DNNL_ARG_WEIGHTS, weights},
                   {DNNL_ARG_DST, v->buffer},
                   {DNNL_ARG_BIAS, bias}};
    return emit_primitive(c, "linear", pd, bias == NO_BUFFER ? 3 : 4, args, e);
}

/* The forward's weights serve backward too where oneDNN takes them as they lie. */
static int data_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    Layout src = input_layout(c, n), weights = descriptor_layout(v->descriptor, DNNL_ARG_WEIGHTS);
    dnnl_primitive_desc_t pd;
    Sink sink;
    if (linear_descriptor(c, n, LINEAR_DATA, &src, &weights, false, NULL, v->descriptor, &pd, e))
        return -1;
    int status = -1;
    if (!sink_open(c, n->input[0], &src, false, &sink, e)) {
        Arg args[3] = {{DNNL_ARG_DIFF_DST, v->gradient},
                       {DNNL_ARG_WEIGHTS, v->saved[1]},
                       {DNNL_ARG_DIFF_SRC, sink.buffer}};
        if (!emit_primitive(c, "linear back", pd, 3, args, e)) status = sink_close(c, &sink, e);
    }
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static int weights_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    const int *param = n->layer->param;
    Layout src = input_layout(c, n), plain = weights_layout(c, n, &src, false);
    dnnl_primitive_desc_t pd;
    int weights = param_gradient(c, param[0], e);
    int bias = param[1] < 0 ? NO_BUFFER : param_gradient(c, param[1], e);
    if (weights < 0 || (param[1] >= 0 && bias < 0)) return -1;
    if (linear_descriptor(c, n, LINEAR_WEIGHTS, &src, &plain, bias != NO_BUFFER, NULL,
                          v->descriptor, &pd, e))
        return -1;
    Arg args[4] = {{DNNL_ARG_SRC, v->saved[0]},
                   {DNNL_ARG_DIFF_DST, v->gradient},
                   {DNNL_ARG_DIFF_WEIGHTS, weights},
                   {DNNL_ARG_DIFF_BIAS, bias}};
    int status = emit_primitive(c, "linear weights", pd, bias == NO_BUFFER ? 3 : 4, args, e);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static int linear_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    if (c->request->purpose == PLAN_TRAINING && weights_backward(c, n, v, e)) return -1;
    return c->values[n->input[0]].wanted ? data_backward(c, n, v, e) : 0;
}

const Lowering cpu_lower_linear = {linear_forward, linear_backward};
