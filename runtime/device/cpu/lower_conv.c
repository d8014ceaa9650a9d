/* Convolutions. The device's own kernels do those that they can (lower_convolve.c); the others are
 * oneDNN's. Forward: one oneDNN primitive with the bias and the residual
 * sum in it, and the ReLU as a step of its own, because oneDNN's makes 0 of NaN. The gradient with
 * respect to the input, by the layer's shape:
 *
 *   stride 1      a forward convolution with rotated, transposed weights, which adds to
 *                 the gradient that is there by its sum post-op
 *   from image    a stride-1 convolution to the stride's phases and a pixel shuffle, straight
 *                 into the caller's dx (the first layer has few channels and a large grid)
 *   otherwise     oneDNN's backward_data
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "device/cpu/lower_conv.h"

/* --- weights --- */

int conv_host_weights(const Compiler *c, const Node *n, HostWeights *w, Error *e) {
    const Layer *l = n->layer;
    const Tensor *t = &c->program->graph->params[l->param[0]].value;
    *w = (HostWeights){.G = l->groups,
                       .K = l->C / l->groups,
                       .C = t->shape[1],
                       .R = t->shape[2],
                       .S = t->shape[3]};
    w->weight = memory_take(tensor_bytes(t), "weights", e);
    w->bias = w->weight ? memory_take((size_t)l->C * sizeof(float), "bias", e) : NULL;
    if (w->bias && !node_weights(c->program, n, w->weight, w->bias, e)) {
        precision_weights(c, w->weight, (size_t)tensor_count(t));
        return 0;
    }
    memory_free(w->weight);
    memory_free(w->bias);
    w->weight = w->bias = NULL;
    return -1;
}

void conv_free_host_weights(HostWeights *w) {
    memory_free(w->weight);
    memory_free(w->bias);
}

/* Host weights in `from` become a fixed buffer in the layout that pd wants. */
int conv_keep_weights(Compiler *c, const Layout *from, const float *host, dnnl_primitive_desc_t pd,
                      int *buffer, Error *e) {
    Layout to = descriptor_layout(pd, DNNL_ARG_WEIGHTS);
    void *memory;
    *buffer = buffer_owned(c, layout_bytes(&to), "weights", &memory, e);
    if (*buffer < 0) return -1;
    return reorder_now(cpu_engine(), cpu_stream(), from, host, &to, memory, e);
}

int conv_keep_bias(Compiler *c, const float *host, int64_t K, int *buffer, Error *e) {
    void *memory;
    *buffer = buffer_owned(c, (size_t)K * sizeof(float), "bias", &memory, e);
    if (*buffer < 0) return -1;
    memcpy(memory, host, (size_t)K * sizeof(float));
    return 0;
}

/* A training plan's weights change between steps: each forward puts the parameter into the layout
 * that pd wants. Where that is the graph's own, the parameter itself is read. */
static int live_weights(Compiler *c, const Layer *l, const Layout *from, dnnl_primitive_desc_t pd,
                        int *buffer, Error *e) {
    Layout to = descriptor_layout(pd, DNNL_ARG_WEIGHTS);
    int source = buffer_fixed(c, c->program->graph->params[l->param[0]].value.data, e);
    *buffer = source;
    if (source < 0 || layout_same(from, &to)) return source < 0 ? -1 : 0;
    *buffer = buffer_new(c, layout_bytes(&to), e);
    return *buffer < 0 ? -1 : emit_reorder(c, from, source, &to, *buffer, e);
}

/* --- forward --- */

ConvShape conv_forward_shape(const Compiler *c, const Node *n) {
    const Layer *l = n->layer;
    const Value *x = &c->values[n->input[0]];
    int64_t C = c->program->nodes[n->input[0]].layer->C;
    ConvShape s = {.src = x->layout,
                   .weights = layout_weights(l, C, true),
                   .bias = layout_vector(l->C),
                   .dst = layout_blocked(cpu_block(c->device), c->request->N, l->C, l->H, l->W),
                   .has_bias = true,
                   .stride = {l->stride[0], l->stride[1]},
                   .pad = {l->pad[0], l->pad[1], l->pad[2], l->pad[3]}};
    if (x->layout.ndims == 2) s.src = layout_plain(c->request->N, C, 1, 1);
    return s;
}

/* Set by tests alone: oneDNN computes a convolution whose input has fewer than so many channels
 * with channels last, as it may with AVX-512. So every processor meets values in that layout. */
static bool channels_last(const Compiler *c, const Node *n) {
    const char *below = getenv("ADVRT_TEST_CHANNELS_LAST");
    return below && c->program->nodes[n->input[0]].layer->C < strtoll(below, NULL, 10);
}

static Layout with_channels_last(const Layout *l) {
    return layout_channels_last(l->dims[0], l->dims[1], l->dims[2], l->dims[3]);
}

/* The layouts wanted where there is a fast implementation for them; else with the input's left to
 * oneDNN, which keeps the output in blocks (AVX-512 reads fewer than 16 channels in plain order
 * only); else with both left to oneDNN; and only then a reference implementation. */
static int seek_descriptor(const ConvShape *wanted, ConvWhat what, const PostOps *post,
                           dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out, Error *e) {
    enum { AS_WANTED, OPEN_INPUT, OPEN_BOTH, ANY_IMPLEMENTATION, ATTEMPTS };
    ConvShape s = *wanted;
    for (int attempt = AS_WANTED; attempt < ATTEMPTS; attempt++) {
        if (attempt == OPEN_INPUT) s.src = layout_open(&s.src);
        if (attempt == OPEN_BOTH) s.dst = layout_open(&s.dst);
        bool any = attempt == ANY_IMPLEMENTATION;
        if (conv_descriptor(cpu_engine(), &s, what, post, hint, any, out, e)) return -1;
        if (*out) return 0;
    }
    return 0;
}

static int forward_descriptor(const ConvShape *wanted, bool last, ConvWhat what,
                              const PostOps *post, dnnl_primitive_desc_t *out, Error *e) {
    if (!last) return seek_descriptor(wanted, what, post, NULL, out, e);
    ConvShape s = *wanted;
    s.src = with_channels_last(&s.src);
    s.dst = with_channels_last(&s.dst);
    return conv_descriptor(cpu_engine(), &s, what, post, NULL, false, out, e) ||
                   (!*out && conv_descriptor(cpu_engine(), &s, what, post, NULL, true, out, e))
               ? -1
               : 0;
}

static int no_implementation(Error *e) {
    return error_set(e, "oneDNN has no convolution of this shape");
}

/* In training the bias and the weights are the parameters themselves. */
static int bind_parameters(Compiler *c, const Node *n, dnnl_primitive_desc_t pd, bool training,
                           int *weights, int *bias, Error *e) {
    const Layer *l = n->layer;
    Layout plain = layout_weights(l, c->program->nodes[n->input[0]].layer->C, false);
    if (training) {
        *bias = NO_BUFFER;
        if (live_weights(c, l, &plain, pd, weights, e)) return -1;
        if (l->param[1] < 0) return 0;
        *bias = buffer_fixed(c, c->program->graph->params[l->param[1]].value.data, e);
        return *bias < 0 ? -1 : 0;
    }
    HostWeights w;
    if (conv_host_weights(c, n, &w, e)) return -1;
    int status = conv_keep_weights(c, &plain, w.weight, pd, weights, e) ||
                 conv_keep_bias(c, w.bias, l->C, bias, e);
    conv_free_host_weights(&w);
    return status ? -1 : 0;
}

static int conv_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    bool training = c->request->purpose == PLAN_TRAINING, last = channels_last(c, n), done = false;
    ConvShape s = conv_forward_shape(c, n);
    s.has_bias = !training || n->layer->param[1] >= 0;
    PostOps post = {.sum = n->residual >= 0}, none = {0};
    dnnl_primitive_desc_t pd;
    if (!last && !training && conv_reads_image(c, n)) {
        if (conv_image_forward(c, n, v, &done, e)) return -1;
        if (done) return 0;
    }
    if (!last && conv_own_forward(c, n, v, &done, e)) return -1;
    if (done) return 0;
    ConvWhat what = training ? CONV_TRAIN : CONV_FORWARD;
    if (forward_descriptor(&s, last, what, &post, &pd, e)) return -1;
    bool fused = pd != NULL;
    if (fused && post.sum) {
        Layout dst = descriptor_layout(pd, DNNL_ARG_DST);
        fused = layout_same(&dst, &c->values[n->residual].layout);
        if (!fused) dnnl_primitive_desc_destroy(pd);
    }
    if (!fused && forward_descriptor(&s, last, what, &none, &pd, e)) return -1;
    if (!pd) return no_implementation(e);
    v->descriptor = pd;
    v->layout = descriptor_layout(pd, DNNL_ARG_DST);
    Layout src = descriptor_layout(pd, DNNL_ARG_SRC);
    int weights, bias;
    if (bind_parameters(c, n, pd, training, &weights, &bias, e)) return -1;
    v->saved[0] = value_as(c, n->input[0], &src, e);
    v->saved[1] = weights;
    v->buffer = fused && post.sum ? c->values[n->residual].buffer
                                  : buffer_new(c, layout_bytes(&v->layout), e);
    if (v->saved[0] < 0 || v->buffer < 0) return -1;
    Arg args[4] = {{DNNL_ARG_SRC, v->saved[0]},
                   {DNNL_ARG_WEIGHTS, weights},
                   {DNNL_ARG_DST, v->buffer},
                   {DNNL_ARG_BIAS, bias}};
    if (emit_convolution(c, "conv", pd, &s, what, fused ? &post : &none, bias == NO_BUFFER ? 3 : 4,
                         args, e))
        return -1;
    if (n->residual >= 0 && !fused) {
        int other = value_as(c, n->residual, &v->layout, e);
        if (other < 0 || emit_add(c, &v->layout, other, v->buffer, e)) return -1;
    }
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

/* --- the gradient with respect to the input --- */

int conv_rotate(HostWeights *w, Error *e) {
    float *rotated =
        memory_take((size_t)(w->G * w->K * w->C * w->R * w->S) * sizeof(float), "weights", e);
    float *out = rotated;
    if (!rotated) return -1;
    for (int64_t g = 0; g < w->G; g++)
        for (int64_t ch = 0; ch < w->C; ch++)
            for (int64_t k = 0; k < w->K; k++)
                for (int64_t r = 0; r < w->R; r++)
                    for (int64_t q = 0; q < w->S; q++)
                        *out++ =
                            w->weight[(((g * w->K + k) * w->C + ch) * w->R + w->R - 1 - r) * w->S +
                                      w->S - 1 - q];
    memory_free(w->weight);
    w->weight = rotated;
    return 0;
}

int conv_emit_data(Compiler *c, const char *what, dnnl_primitive_desc_t pd, const Value *v,
                   int weights, int out, Error *e) {
    Layout dy = descriptor_layout(pd, DNNL_ARG_SRC);
    int in = v->gradient;
    if (!layout_same(&dy, &v->layout)) {
        in = buffer_new(c, layout_bytes(&dy), e);
        if (in < 0 || emit_reorder(c, &v->layout, v->gradient, &dy, in, e)) return -1;
    }
    Arg args[3] = {{DNNL_ARG_SRC, in}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, out}};
    return emit_primitive(c, what, pd, 3, args, e);
}

/* The layer whose forward is this layer's gradient: K and C exchanged. */
static Layer transposed(const Layer *l, int64_t C) {
    Layer t = *l;
    t.C = C;
    return t;
}

static int rotated_descriptor(Compiler *c, const Node *n, const Value *v, bool sum,
                              dnnl_primitive_desc_t *pd, Error *e) {
    const Layer *l = n->layer;
    int64_t C = c->program->nodes[n->input[0]].layer->C;
    Layer t = transposed(l, C);
    ConvShape s = {.src = v->layout,
                   .weights = layout_weights(&t, l->C, true),
                   .dst = c->values[n->input[0]].layout,
                   .stride = {1, 1}};
    for (int i = 0; i < 4; i++) s.pad[i] = l->kernel[i % 2] - 1 - l->pad[i];
    PostOps post = {.sum = sum};
    if (conv_descriptor(cpu_engine(), &s, CONV_FORWARD, &post, NULL, false, pd, e)) return -1;
    if (*pd && descriptor_cuts_images(*pd)) {
        dnnl_primitive_desc_destroy(*pd);
        *pd = NULL;
    }
    return 0;
}

/* *done is false where oneDNN has no fast convolution of the kind. */
static int rotated_backward(Compiler *c, const Node *n, const Value *v, bool *done, Error *e) {
    const Layer *l = n->layer;
    int64_t C = c->program->nodes[n->input[0]].layer->C;
    dnnl_primitive_desc_t pd;
    Sink sink;
    HostWeights w;
    if (rotated_descriptor(c, n, v, true, &pd, e)) return -1;
    bool can_sum = pd != NULL;
    if (!pd && rotated_descriptor(c, n, v, false, &pd, e)) return -1;
    *done = pd != NULL;
    if (!pd) return 0;
    int status = -1, weights;
    if (sink_open(c, n->input[0], &c->values[n->input[0]].layout, can_sum, &sink, e)) goto done;
    if (can_sum && !sink.sum) {
        dnnl_primitive_desc_destroy(pd);
        if (rotated_descriptor(c, n, v, false, &pd, e)) return -1;
        if (!pd) return no_implementation(e);
    }
    if (conv_host_weights(c, n, &w, e)) goto done;
    Layer t = transposed(l, C);
    Layout plain = layout_weights(&t, l->C, false);
    if (!conv_rotate(&w, e) && !conv_keep_weights(c, &plain, w.weight, pd, &weights, e) &&
        !conv_emit_data(c, "conv back", pd, v, weights, sink.buffer, e))
        status = sink_close(c, &sink, e);
    conv_free_host_weights(&w);
done:
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* oneDNN's own data gradient, in the value's layouts if it is fast there. */
static int data_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    bool training = c->request->purpose == PLAN_TRAINING;
    ConvShape s = conv_forward_shape(c, n);
    s.dst = v->layout;
    s.src = c->values[n->input[0]].layout;
    if (s.src.ndims == 2) s.src = conv_forward_shape(c, n).src;
    dnnl_primitive_desc_t pd;
    if (seek_descriptor(&s, CONV_DATA, NULL, v->descriptor, &pd, e)) return -1;
    if (!pd) return no_implementation(e);
    Layout plain = layout_weights(n->layer, c->program->nodes[n->input[0]].layer->C, false);
    Layout dx = descriptor_layout(pd, DNNL_ARG_DIFF_SRC),
           dy = descriptor_layout(pd, DNNL_ARG_DIFF_DST);
    int status = -1, weights, in = v->gradient;
    Sink sink;
    HostWeights w = {0};
    if (training) {
        if (live_weights(c, n->layer, &plain, pd, &weights, e)) goto done;
    } else if (conv_host_weights(c, n, &w, e) ||
               conv_keep_weights(c, &plain, w.weight, pd, &weights, e)) {
        goto done;
    }
    if (!layout_same(&dy, &v->layout)) {
        in = buffer_new(c, layout_bytes(&dy), e);
        if (in < 0 || emit_reorder(c, &v->layout, v->gradient, &dy, in, e)) goto done;
    }
    if (sink_open(c, n->input[0], &dx, false, &sink, e)) goto done;
    Arg args[3] = {
        {DNNL_ARG_DIFF_DST, in}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DIFF_SRC, sink.buffer}};
    if (!emit_convolution(c, "conv back", pd, &s, CONV_DATA, NULL, 3, args, e))
        status = sink_close(c, &sink, e);
done:
    conv_free_host_weights(&w);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* --- the gradient with respect to the weights --- */

static int weights_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    const Layer *l = n->layer;
    int64_t C = c->program->nodes[n->input[0]].layer->C;
    ConvShape s = conv_forward_shape(c, n);
    s.src = descriptor_layout(v->descriptor, DNNL_ARG_SRC);
    s.dst = v->layout;
    s.has_bias = l->param[1] >= 0;
    dnnl_primitive_desc_t pd;
    int status = -1, src = v->saved[0], in = v->gradient, bias = NO_BUFFER;
    Layout from = s.src;
    if (seek_descriptor(&s, CONV_WEIGHTS, NULL, v->descriptor, &pd, e)) return -1;
    if (!pd) return no_implementation(e);
    Layout x = descriptor_layout(pd, DNNL_ARG_SRC), dy = descriptor_layout(pd, DNNL_ARG_DIFF_DST);
    Layout dw = descriptor_layout(pd, DNNL_ARG_DIFF_WEIGHTS), plain = layout_weights(l, C, false);
    int gradient = param_gradient(c, l->param[0], e), out = gradient;
    if (gradient < 0) goto done;
    if (s.has_bias && (bias = param_gradient(c, l->param[1], e)) < 0) goto done;
    if (!layout_same(&x, &from)) {
        src = buffer_new(c, layout_bytes(&x), e);
        if (src < 0 || emit_reorder(c, &from, v->saved[0], &x, src, e)) goto done;
    }
    if (!layout_same(&dy, &v->layout)) {
        in = buffer_new(c, layout_bytes(&dy), e);
        if (in < 0 || emit_reorder(c, &v->layout, v->gradient, &dy, in, e)) goto done;
    }
    if (!layout_same(&dw, &plain) && (out = buffer_new(c, layout_bytes(&dw), e)) < 0) goto done;
    Arg args[4] = {{DNNL_ARG_SRC, src},
                   {DNNL_ARG_DIFF_DST, in},
                   {DNNL_ARG_DIFF_WEIGHTS, out},
                   {DNNL_ARG_DIFF_BIAS, bias}};
    if (emit_primitive(c, "conv weights", pd, bias == NO_BUFFER ? 3 : 4, args, e)) goto done;
    status = out == gradient ? 0 : emit_reorder(c, &dw, out, &plain, gradient, e);
done:
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static int conv_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    bool done = false;
    if (c->request->purpose == PLAN_TRAINING) {
        if (conv_own_weights(c, n, v, &done, e) || (!done && weights_backward(c, n, v, e)))
            return -1;
        if (!c->values[n->input[0]].wanted) return 0;
        if (conv_own_backward(c, n, v, &done, e)) return -1;
        return done ? 0 : data_backward(c, n, v, e);
    }
    if (conv_reads_image(c, n)) {
        if (conv_image_backward(c, n, v, &done, e)) return -1;
        if (done) return 0;
    }
    if (conv_own_backward(c, n, v, &done, e)) return -1;
    if (done) return 0;
    if (l->stride[0] == 1 && l->stride[1] == 1) {
        if (rotated_backward(c, n, v, &done, e)) return -1;
        if (done) return 0;
    }
    return data_backward(c, n, v, e);
}

const Lowering cpu_lower_conv = {conv_forward, conv_backward};
