/* Convolutions: cuDNN's, but depthwise ones, which are the project's own. Weights are [K,R,S,C],
 * depthwise [R,S,C]: copies made once, or, in training, anew at every forward. cuDNN pads alike on
 * both sides; where a layer does not, its input is padded by a step of its own. */

#include "base/memory.h"
#include "device/cuda/conv.h"

static const Layer *input_of(const Compiler *c, const Node *n) {
    return c->program->nodes[n->input[0]].layer;
}

static bool is_depthwise(const Compiler *c, const Node *n) {
    const Layer *l = n->layer;
    return l->groups > 1 && l->groups == l->C && l->groups == input_of(c, n)->C;
}

static Window window_of(const Compiler *c, const Node *n) {
    const Layer *l = n->layer, *x = input_of(c, n);
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

static bool is_lopsided(const Layer *l) {
    return l->pad[0] != l->pad[2] || l->pad[1] != l->pad[3];
}

/* From the input to the input with its padding around it. */
static Window padding_of(const Compiler *c, const Node *n) {
    const Layer *l = n->layer;
    Window w = window_of(c, n);
    w.OH = w.H + l->pad[0] + l->pad[2];
    w.OW = w.W + l->pad[1] + l->pad[3];
    return w;
}

/* What cuDNN is given: the layer, or the layer without padding on the padded input. */
static ConvShape shape_of(const Compiler *c, const Node *n) {
    ConvShape s = {window_of(c, n), n->layer->C, n->layer->groups};
    if (!is_lopsided(n->layer)) return s;
    Window padded = padding_of(c, n);
    s.window.H = padded.OH, s.window.W = padded.OW;
    s.window.pad[0] = s.window.pad[1] = 0;
    return s;
}

static int64_t input_count(const ConvShape *s) {
    return s->window.N * s->window.C * s->window.H * s->window.W;
}

/* --- weights --- */

/* Rows of [C,P] to rows of [P,C]. */
static void channels_last(const float *from, float *to, int64_t rows, int64_t C, int64_t P) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < P; i++) to[(r * P + i) * C + c] = from[(r * C + c) * P + i];
}

/* rows, C and P of the layer's weight, for channels_last. */
static void weight_rows(const Compiler *c, const Node *n, int64_t *rows, int64_t *C, int64_t *P) {
    const Layer *l = n->layer;
    bool depthwise = is_depthwise(c, n);
    *rows = depthwise ? 1 : l->C;
    *C = depthwise ? l->C : input_of(c, n)->C / l->groups;
    *P = l->kernel[0] * l->kernel[1];
}

/* saved: [1] weights, [2] those that backward multiplies by, [3] bias. */
static int kept_weights(Compiler *c, const Node *n, Value *v, Error *e) {
    int64_t rows, C, P;
    weight_rows(c, n, &rows, &C, &P);
    size_t count = (size_t)(rows * C * P), K = (size_t)n->layer->C;
    float *host = memory_take((2 * count + K) * sizeof *host, "weights", e);
    if (!host) return -1;
    float *bias = host + count, *ordered = bias + K;
    int failed = !c->dry && node_weights(c->program, n, host, bias, e);
    if (!failed) {
        if (!c->dry) channels_last(host, ordered, rows, C, P);
        v->saved[1] = v->saved[2] = buffer_weights(c, ordered, count, c->forward, e);
        if (c->request->purpose == PLAN_GRADIENT && c->backward != c->forward && v->saved[1] >= 0)
            v->saved[2] = buffer_weights(c, ordered, count, c->backward, e);
        v->saved[3] = buffer_weights(c, bias, K, REAL_F32, e);
        failed = v->saved[1] < 0 || v->saved[2] < 0 || v->saved[3] < 0;
    }
    memory_free(host);
    return failed;
}

static int run_from_planes(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_from_planes(p->device->stream, step_at(p, s, 0), NULL, NULL, REAL_F32,
                                        step_at(p, s, 1), s->N, s->C, s->P),
                     e);
}

static int run_to_planes(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_to_planes(p->device->stream, REAL_F32, step_at(p, s, 0), NULL,
                                      step_at(p, s, 1), s->N, s->C, s->P, false),
                     e);
}

/* Between the graph's order and cuDNN's. */
static int emit_order(Compiler *c, const Node *n, int (*run)(CudaPlan *, const Step *, Error *),
                      int in, int out, Error *e) {
    Step *s = emit(c, "weights", run, 2, (int[]){in, out}, e);
    if (!s) return -1;
    weight_rows(c, n, &s->N, &s->C, &s->P);
    return 0;
}

static int live_weights(Compiler *c, const Node *n, Value *v, Error *e) {
    const int *param = n->layer->param;
    int own = param_value(c, param[0], e);
    if (own < 0) return -1;
    v->saved[1] = own;
    if (n->layer->kernel[0] * n->layer->kernel[1] > 1) {
        v->saved[1] = buffer_new(c, tensor_bytes(&c->program->graph->params[param[0]].value), e);
        if (v->saved[1] < 0 || emit_order(c, n, run_from_planes, own, v->saved[1], e)) return -1;
    }
    v->saved[2] = v->saved[1];
    v->saved[3] = param[1] < 0 ? NO_BUFFER : param_value(c, param[1], e);
    return param[1] >= 0 && v->saved[3] < 0;
}

/* --- padding --- */

static int run_pad(CudaPlan *p, const Step *s, Error *e) {
    return step_done(
        p, s, kernel_pad(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 1), s->window),
        e);
}

static int run_crop(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_crop(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 1),
                                 s->window, s->sum),
                     e);
}

/* The input as the convolution reads it. */
static int padded_input(Compiler *c, const Node *n, const ConvShape *shape, Error *e) {
    int x = value_of(c, n->input[0], e);
    if (x < 0 || !is_lopsided(n->layer)) return x;
    int padded = buffer_new(c, (size_t)input_count(shape) * real_bytes(c->forward), e);
    Step *s = padded < 0 ? NULL : emit(c, "pad", run_pad, 2, (int[]){x, padded}, e);
    if (!s) return -1;
    s->real = c->forward;
    s->window = padding_of(c, n);
    return padded;
}

/* --- depthwise --- */

static int run_depthwise(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_depthwise(p->device->stream, s->real, step_at(p, s, 0),
                                      step_at(p, s, 1), step_at(p, s, 2), s->window),
                     e);
}

static int run_depthwise_data(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_depthwise_data(p->device->stream, s->real, step_at(p, s, 0),
                                           step_at(p, s, 1), step_at(p, s, 2), s->window, s->sum),
                     e);
}

static int run_depthwise_weights(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_depthwise_weights(p->device->stream, step_at(p, s, 1), step_at(p, s, 0),
                                              step_at(p, s, 2), s->window),
                     e);
}

static Step *emit_depthwise(Compiler *c, const Node *n, const char *what,
                            int (*run)(CudaPlan *, const Step *, Error *), Real real, int a, int b,
                            int result, Error *e) {
    Step *s = emit(c, what, run, 3, (int[]){a, b, result}, e);
    if (!s) return NULL;
    s->real = real;
    s->window = window_of(c, n);
    return s;
}

static int depthwise_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    int64_t count = value_count(c, c->node);
    int x = v->saved[0] = value_of(c, n->input[0], e);
    int made = buffer_new(c, (size_t)count * real_bytes(c->forward), e);
    if (x < 0 || made < 0 ||
        !emit_depthwise(c, n, "depthwise", run_depthwise, c->forward, x, v->saved[1], made, e))
        return -1;
    v->buffer = made;
    if (n->residual >= 0) {
        v->buffer = c->values[n->residual].buffer;
        if (emit_sum(c, c->forward, v->buffer, made, v->buffer, count, e)) return -1;
    }
    return emit_epilogue(c, n, v, v->saved[3], e);
}

/* --- the layer --- */

static int conv_workspace(Compiler *c, const ConvCall *v, Error *e) {
    return v->workspace ? buffer_new(c, v->workspace, e) : NO_BUFFER;
}

/* A step around a call; buffers as in conv.h, without the workspace. */
static Step *emit_conv(Compiler *c, const char *what, int (*run)(CudaPlan *, const Step *, Error *),
                       ConvCall *call, int a, int b, int result, Error *e) {
    int workspace = conv_workspace(c, call, e);
    if (call->workspace && workspace < 0) return NULL;
    Step *s = emit(c, what, run, 4, (int[]){a, b, result, workspace}, e);
    if (s) s->conv = call;
    return s;
}

static int conv_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    bool training = c->request->purpose == PLAN_TRAINING;
    if ((training ? live_weights : kept_weights)(c, n, v, e)) return -1;
    if (is_depthwise(c, n)) return depthwise_forward(c, n, v, e);
    ConvShape shape = shape_of(c, n);
    ConvCall *call;
    int64_t count = value_count(c, c->node);
    v->saved[0] = padded_input(c, n, &shape, e);
    v->buffer = n->residual >= 0 ? c->values[n->residual].buffer
                                 : buffer_new(c, (size_t)count * real_bytes(c->forward), e);
    if (v->saved[0] < 0 || v->buffer < 0 || conv_new(c, &shape, CONV_FORWARD, c->forward, &call, e))
        return -1;
    Step *s = emit_conv(c, "conv", conv_run_forward, call, v->saved[0], v->saved[1], v->buffer, e);
    if (!s) return -1;
    s->sum = n->residual >= 0;
    return emit_epilogue(c, n, v, v->saved[3], e);
}

static int data_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    ConvShape shape = shape_of(c, n);
    ConvCall *call;
    bool lopsided = is_lopsided(n->layer) && !is_depthwise(c, n), sum;
    int into;
    if (sink(c, n->input[0], &into, &sum, e)) return -1;
    if (is_depthwise(c, n)) {
        Step *s = emit_depthwise(c, n, "depthwise back", run_depthwise_data, c->backward,
                                 v->gradient, v->saved[2], into, e);
        if (s) s->sum = sum;
        return s ? 0 : -1;
    }
    int made = into;
    if (lopsided) made = buffer_new(c, (size_t)input_count(&shape) * real_bytes(c->backward), e);
    if (made < 0 || conv_new(c, &shape, CONV_DATA, c->backward, &call, e)) return -1;
    Step *s = emit_conv(c, "conv back", conv_run_data, call, v->gradient, v->saved[2], made, e);
    if (!s) return -1;
    s->sum = sum && !lopsided;
    if (!lopsided) return 0;
    s = emit(c, "crop", run_crop, 2, (int[]){made, into}, e);
    if (!s) return -1;
    s->real = c->backward;
    s->window = padding_of(c, n);
    s->sum = sum;
    return 0;
}

static int weights_backward(Compiler *c, const Node *n, const Value *v, Error *e) {
    const Layer *l = n->layer;
    ConvCall *call;
    bool ordered = l->kernel[0] * l->kernel[1] == 1;
    int into = param_gradient(c, l->param[0], e), made = into;
    size_t bytes = tensor_bytes(&c->program->graph->params[l->param[0]].value);
    if (!ordered) made = buffer_new(c, bytes, e);
    if (into < 0 || made < 0) return -1;
    if (is_depthwise(c, n)) {
        if (!emit_depthwise(c, n, "depthwise weights", run_depthwise_weights, REAL_F32, v->gradient,
                            v->saved[0], made, e))
            return -1;
    } else {
        ConvShape shape = shape_of(c, n);
        if (conv_new(c, &shape, CONV_WEIGHTS, REAL_F32, &call, e) ||
            !emit_conv(c, "conv weights", conv_run_weights, call, v->gradient, v->saved[0], made,
                       e))
            return -1;
    }
    if (!ordered && emit_order(c, n, run_to_planes, made, into, e)) return -1;
    if (l->param[1] < 0) return 0;
    return emit_bias_gradient(c, l->param[1], v->gradient, c->request->N * l->H * l->W, e);
}

/* cuDNN wants tensors that begin at 16 bytes' multiples, as the caller's may not: its gradient of
 * the logits is copied where a convolution is the last layer. */
static int aligned_gradient(Compiler *c, Value *v, Error *e) {
    if (v->gradient != BUFFER_DZ) return 0;
    int64_t count = value_count(c, c->node);
    int made = buffer_new(c, (size_t)count * sizeof(float), e);
    if (made < 0 || emit_convert(c, REAL_F32, BUFFER_DZ, REAL_F32, made, count, e)) return -1;
    c->plan->buffers[made].holders = 1;
    v->gradient = made;
    return 0;
}

static int conv_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    if (aligned_gradient(c, v, e)) return -1;
    if (c->request->purpose == PLAN_TRAINING && weights_backward(c, n, v, e)) return -1;
    return c->values[n->input[0]].wanted ? data_backward(c, n, v, e) : 0;
}

const Lowering cuda_lower_conv = {conv_forward, conv_backward};
