/* Convolutions. The device's own kernels do those that they can (lower_convolve.c); oneDNN does the
 * others. Forward: one oneDNN primitive with the bias and the residual sum. The ReLU is a separate
 * step, because oneDNN's makes 0 of NaN. The gradient with respect to the input depends on the
 * layer's shape:
 *
 *   stride 1      a forward convolution with rotated, transposed weights, which adds to
 *                 the existing gradient by its sum post-op
 *   from image    a stride-1 convolution to the stride's phases and a pixel shuffle, straight
 *                 into the caller's dx (the first layer has few channels and a large grid)
 *   otherwise     oneDNN's backward_data
 */
#include "backend/cpu/lower_conv.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static bool training(const Compiler *c) {
    return c->request->purpose == PLAN_TRAINING;
}

Op conv_forward_of(const Compiler *c, const Op *op) {
    Op f = op->backward ? *twin_of(c, op) : *op;
    if (f.kind != OP_CONV_DATA) return f;
    int out = f.in[0];
    f.kind = OP_CONV;
    f.in[0] = f.out[0];
    f.out[0] = out;
    return f;
}

/* --- weights --- */

int conv_host_weights(const Compiler *c, const Op *op, const Op *forward, HostWeights *w,
                      Error *e) {
    int64_t C = value_of(c, forward->in[0])->C, K = value_of(c, forward->out[0])->C;
    int64_t G = forward->groups;
    size_t count = (size_t)c->program->params[forward->param[0]].count;
    *w = (HostWeights){
        .G = G, .K = K / G, .C = C / G, .R = forward->kernel[0], .S = forward->kernel[1]};
    w->weight = memory_take(count * sizeof(float), "weights", e);
    w->bias = w->weight ? memory_take((size_t)K * sizeof(float), "bias", e) : NULL;
    if (w->bias && !c->program->weights(c->program, forward, w->weight, w->bias, e)) {
        round_weights(c, op, w->weight, count);
        return 0;
    }
    conv_free_host_weights(w);
    w->weight = w->bias = NULL;
    return -1;
}

void conv_free_host_weights(HostWeights *w) {
    memory_free(w->weight);
    memory_free(w->bias);
}

int conv_keep_weights(Compiler *c, const Layout *from, const float *host, dnnl_primitive_desc_t pd,
                      int *buffer, Error *e) {
    Layout to = descriptor_layout(pd, DNNL_ARG_WEIGHTS);
    void *memory;
    *buffer = buffer_owned(c, layout_bytes(&to), "weights", &memory, e);
    if (*buffer < 0) return -1;
    return reorder_now(cpu_engine(), cpu_stream(), from, host, &to, memory, e);
}

int conv_keep_bias(Compiler *c, const float *host, int64_t K, int *buffer, Error *e) {
    *buffer = buffer_filled(c, host, (size_t)K * sizeof(float), "bias", e);
    return *buffer < 0 ? -1 : 0;
}

/* The layout of the weights: as in the graph, or left to oneDNN. */
static Layout weights_layout(const Compiler *c, const Op *forward, bool open) {
    return layout_weights(forward->groups, value_of(c, forward->in[0])->C,
                          value_of(c, forward->out[0])->C, forward->kernel, open);
}

/* A training plan's weights change between steps, so each forward reorders the parameter to pd's
 * layout. If pd uses the graph's layout, the step reads the parameter itself. */
static int live_weights(Compiler *c, const Op *op, const Layout *from, dnnl_primitive_desc_t pd,
                        int *buffer, Error *e) {
    Layout to = descriptor_layout(pd, DNNL_ARG_WEIGHTS);
    int source = buffer_param(c, op->param[0], e);
    *buffer = source;
    if (source < 0 || layout_same(from, &to)) return source < 0 ? -1 : 0;
    *buffer = buffer_of(c, &to, e);
    return *buffer < 0 ? -1 : emit_reorder(c, from, source, &to, *buffer, e);
}

/* --- forward --- */

ConvShape conv_forward_shape(const Compiler *c, const Op *forward) {
    const Value *x = value_of(c, forward->in[0]), *y = value_of(c, forward->out[0]);
    const Layout *src = layout_of(c, forward->in[0]);
    ConvShape s = {.src = *src,
                   .weights = weights_layout(c, forward, true),
                   .bias = layout_vector(y->C),
                   .dst = blocked_layout(c, y->C, y->H, y->W),
                   .has_bias = true,
                   .stride = {forward->stride[0], forward->stride[1]},
                   .pad = {forward->pad[0], forward->pad[1], forward->pad[2], forward->pad[3]},
                   .dilation = {forward->dilation[0], forward->dilation[1]}};
    if (src->ndims == 2) s.src = layout_plain(c->request->N, x->C, 1, 1);
    return s;
}

/* Only tests set this variable. oneDNN then uses channels-last for convolutions whose input has
 * fewer channels than it says, as it may do with AVX-512. So tests meet this layout on every
 * processor. */
static bool channels_last(const Compiler *c, const Op *forward) {
    const char *below = getenv("ADVRT_TEST_CHANNELS_LAST");
    return below && value_of(c, forward->in[0])->C < strtoll(below, NULL, 10);
}

static Layout with_channels_last(const Layout *l) {
    return layout_channels_last(l->dims[0], l->dims[1], l->dims[2], l->dims[3]);
}

/* Tries in order: the wanted layouts; for grouped convolutions, the input in blocks too (oneDNN
 * alone would choose channels last for some, unlike the values around them); the input's layout
 * left to oneDNN, with the output in blocks (AVX-512 reads fewer than 16 channels in plain layout
 * only); both left to oneDNN; a reference implementation. *out is NULL if none exists. */
static int seek_descriptor(const Compiler *c, ConvShape s, ConvWhat what, const PostOps *post,
                           dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out, Error *e) {
    enum { AS_WANTED, IN_BLOCKS, OPEN_INPUT, OPEN_BOTH, ANY_IMPLEMENTATION, ATTEMPTS };
    bool groups = s.weights.ndims == 5;
    *out = NULL;
    for (int attempt = AS_WANTED; attempt < ATTEMPTS && !*out; attempt++) {
        if (attempt == IN_BLOCKS && !groups) continue;
        if (attempt == IN_BLOCKS)
            s.src = blocked_layout(c, s.src.dims[1], s.src.dims[2], s.src.dims[3]);
        if (attempt == OPEN_INPUT) s.src = layout_open(&s.src);
        if (attempt == OPEN_BOTH) s.dst = layout_open(&s.dst);
        bool any = attempt == ANY_IMPLEMENTATION;
        if (conv_descriptor(cpu_engine(), &s, what, post, hint, any, out, e)) return -1;
    }
    return 0;
}

static int seek_forward(const Compiler *c, const Op *op, ConvShape s, ConvWhat what,
                        const PostOps *post, dnnl_primitive_desc_t *out, Error *e) {
    if (!channels_last(c, op)) return seek_descriptor(c, s, what, post, NULL, out, e);
    s.src = with_channels_last(&s.src);
    s.dst = with_channels_last(&s.dst);
    if (conv_descriptor(cpu_engine(), &s, what, post, NULL, false, out, e)) return -1;
    return *out ? 0 : conv_descriptor(cpu_engine(), &s, what, post, NULL, true, out, e);
}

static int no_implementation(Error *e) {
    return error_set(e, "oneDNN has no convolution of this shape");
}

/* In training the step reads the bias and the weights from the parameters themselves. */
static int bind_parameters(Compiler *c, const Op *op, dnnl_primitive_desc_t pd, int *weights,
                           int *bias, Error *e) {
    Layout plain = weights_layout(c, op, false);
    if (training(c)) {
        *bias = NO_BUFFER;
        if (live_weights(c, op, &plain, pd, weights, e)) return -1;
        if (op->param[1] < 0) return 0;
        *bias = buffer_param(c, op->param[1], e);
        return *bias < 0 ? -1 : 0;
    }
    HostWeights w;
    if (conv_host_weights(c, op, op, &w, e)) return -1;
    int status = conv_keep_weights(c, &plain, w.weight, pd, weights, e) ||
                 conv_keep_bias(c, w.bias, value_of(c, op->out[0])->C, bias, e);
    conv_free_host_weights(&w);
    return status ? -1 : 0;
}

/* Includes the sum if oneDNN can do it and it may be done in place. */
static int forward_descriptor(Compiler *c, const Op *op, const ConvShape *s, PostOps *post,
                              dnnl_primitive_desc_t *pd, Error *e) {
    ConvWhat what = training(c) ? CONV_TRAIN : CONV_FORWARD;
    *post = (PostOps){.sum = op->add != NO_VALUE};
    if (seek_forward(c, op, *s, what, post, pd, e)) return -1;
    if (*pd && post->sum) {
        Layout dst = descriptor_layout(*pd, DNNL_ARG_DST);
        if (!value_dies(c, op->add) || !layout_same(&dst, layout_of(c, op->add))) {
            dnnl_primitive_desc_destroy(*pd);
            *pd = NULL;
        }
    }
    if (*pd) return 0;
    *post = (PostOps){0};
    if (seek_forward(c, op, *s, what, post, pd, e)) return -1;
    return *pd ? 0 : no_implementation(e);
}

static int onednn_forward(Compiler *c, const Op *op, Error *e) {
    CpuNote *note = note_of(c, c->op);
    ConvShape s = conv_forward_shape(c, op);
    PostOps post;
    s.has_bias = !training(c) || op->param[1] >= 0;
    if (forward_descriptor(c, op, &s, &post, &note->descriptor, e)) return -1;
    dnnl_primitive_desc_t pd = note->descriptor;
    Layout src = descriptor_layout(pd, DNNL_ARG_SRC), dst = descriptor_layout(pd, DNNL_ARG_DST);
    int bias;
    if (bind_parameters(c, op, pd, &note->weights, &bias, e)) return -1;
    note->source = value_as(c, op->in[0], &src, e);
    int y = post.sum ? c->buffer[op->add] : buffer_of(c, &dst, e);
    if (note->source < 0 || y < 0) return -1;
    Arg args[4] = {{DNNL_ARG_SRC, note->source},
                   {DNNL_ARG_WEIGHTS, note->weights},
                   {DNNL_ARG_DST, y},
                   {DNNL_ARG_BIAS, bias}};
    if (emit_convolution(c, "conv", pd, &s, training(c) ? CONV_TRAIN : CONV_FORWARD, &post,
                         bias == NO_BUFFER ? 3 : 4, args, e))
        return -1;
    return deliver(c, op, &dst, y, (Done){.added = post.sum}, e);
}

int cpu_lower_conv(Compiler *c, const Op *op, Error *e) {
    bool taken = false, own = !channels_last(c, op);
    if (own && !training(c) && conv_reads_image(c, op) && conv_image_forward(c, op, &taken, e))
        return -1;
    if (own && !taken && conv_own_forward(c, op, &taken, e)) return -1;
    return taken ? 0 : onednn_forward(c, op, e);
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

static int dy_as(Compiler *c, const Layout *from, int dy, const Layout *to, Error *e) {
    if (layout_same(from, to)) return dy;
    int made = buffer_of(c, to, e);
    return made < 0 || emit_reorder(c, from, dy, to, made, e) ? -1 : made;
}

int conv_emit_data(Compiler *c, const char *what, dnnl_primitive_desc_t pd, const Layout *from,
                   int dy, int weights, int out, Error *e) {
    Layout to = descriptor_layout(pd, DNNL_ARG_SRC);
    int in = dy_as(c, from, dy, &to, e);
    if (in < 0) return -1;
    Arg args[3] = {{DNNL_ARG_SRC, in}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, out}};
    return emit_primitive(c, what, pd, 3, args, e);
}

/* The layout of the gradient convolution's weights: K and C exchanged. */
static Layout rotated_weights(const Compiler *c, const Op *forward, bool open) {
    return layout_weights(forward->groups, value_of(c, forward->out[0])->C,
                          value_of(c, forward->in[0])->C, forward->kernel, open);
}

static int rotated_descriptor(Compiler *c, const Op *forward, bool sum, dnnl_primitive_desc_t *pd,
                              Error *e) {
    ConvShape s = {.src = *layout_of(c, forward->out[0]),
                   .weights = rotated_weights(c, forward, true),
                   .dst = *layout_of(c, forward->in[0]),
                   .stride = {1, 1},
                   .dilation = {forward->dilation[0], forward->dilation[1]}};
    for (int i = 0; i < 4; i++) s.pad[i] = conv_reach(forward, i % 2) - forward->pad[i];
    PostOps post = {.sum = sum};
    if (conv_descriptor(cpu_engine(), &s, CONV_FORWARD, &post, NULL, false, pd, e)) return -1;
    if (*pd && descriptor_cuts_images(*pd)) {
        dnnl_primitive_desc_destroy(*pd);
        *pd = NULL;
    }
    return 0;
}

/* dy in the layout of the forward op's output. */
static int read_dy(Compiler *c, const Op *op, const Op *forward, int i, Error *e) {
    return value_as(c, op->in[i], layout_of(c, forward->out[0]), e);
}

static int rotated_steps(Compiler *c, const Op *op, const Op *forward, bool sum,
                         dnnl_primitive_desc_t pd, Error *e) {
    const Layout *layout = layout_of(c, forward->in[0]), *from = layout_of(c, forward->out[0]);
    Layout plain = rotated_weights(c, forward, false);
    HostWeights w;
    int weights, dy = read_dy(c, op, forward, 0, e);
    int dx = sum ? c->buffer[op->add] : buffer_of(c, layout, e);
    if (dy < 0 || dx < 0 || conv_host_weights(c, op, forward, &w, e)) return -1;
    int status = conv_rotate(&w, e) || conv_keep_weights(c, &plain, w.weight, pd, &weights, e) ||
                 conv_emit_data(c, "conv back", pd, from, dy, weights, dx, e);
    conv_free_host_weights(&w);
    return status ? -1 : deliver(c, op, layout, dx, (Done){.added = sum}, e);
}

/* *taken is false if oneDNN has no fast convolution of this kind. */
static int rotated_data(Compiler *c, const Op *op, const Op *forward, bool *taken, Error *e) {
    dnnl_primitive_desc_t pd = NULL;
    bool sum = op->add != NO_VALUE && value_dies(c, op->add) &&
               layout_same(layout_of(c, op->add), layout_of(c, forward->in[0]));
    if (sum && rotated_descriptor(c, forward, true, &pd, e)) return -1;
    sum = pd != NULL;
    if (!pd && rotated_descriptor(c, forward, false, &pd, e)) return -1;
    *taken = pd != NULL;
    if (!pd) return 0;
    int status = rotated_steps(c, op, forward, sum, pd, e);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static int kept_data_weights(Compiler *c, const Op *op, const Op *forward, dnnl_primitive_desc_t pd,
                             int *weights, Error *e) {
    Layout plain = weights_layout(c, forward, false);
    HostWeights w;
    if (training(c)) return live_weights(c, forward, &plain, pd, weights, e);
    if (conv_host_weights(c, op, forward, &w, e)) return -1;
    int status = conv_keep_weights(c, &plain, w.weight, pd, weights, e);
    conv_free_host_weights(&w);
    return status;
}

/* oneDNN's own data gradient, in the values' layouts if it is fast there. */
static int onednn_data(Compiler *c, const Op *op, const Op *forward, Error *e) {
    const Layout *from = layout_of(c, forward->out[0]);
    ConvShape s = conv_forward_shape(c, forward);
    dnnl_primitive_desc_t pd, hint = op->backward ? note_of(c, op->twin)->descriptor : NULL;
    s.dst = *from;
    if (seek_descriptor(c, s, CONV_DATA, NULL, hint, &pd, e)) return -1;
    if (!pd) return no_implementation(e);
    Layout dx = descriptor_layout(pd, DNNL_ARG_DIFF_SRC),
           dy = descriptor_layout(pd, DNNL_ARG_DIFF_DST);
    int weights, out = buffer_of(c, &dx, e), in = read_dy(c, op, forward, 0, e);
    if (in >= 0) in = dy_as(c, from, in, &dy, e);
    int status = out < 0 || in < 0 || kept_data_weights(c, op, forward, pd, &weights, e);
    if (!status) {
        Arg args[3] = {
            {DNNL_ARG_DIFF_DST, in}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DIFF_SRC, out}};
        status = emit_convolution(c, "conv back", pd, &s, CONV_DATA, NULL, 3, args, e) ||
                 deliver(c, op, &dx, out, (Done){0}, e);
    }
    dnnl_primitive_desc_destroy(pd);
    return status ? -1 : 0;
}

/* The value of a transposed convolution gets blocks of channels, as for other convolutions. */
int cpu_lower_conv_data(Compiler *c, const Op *op, Error *e) {
    const Op forward = conv_forward_of(c, op);
    const Value *x = value_of(c, forward.in[0]);
    bool taken = false, slides = forward.stride[0] == 1 && forward.stride[1] == 1;
    if (!op->backward) *layout_of(c, op->out[0]) = blocked_layout(c, x->C, x->H, x->W);
    if (op->backward && !training(c) && conv_reads_image(c, twin_of(c, op)) &&
        conv_image_data(c, op, &taken, e))
        return -1;
    if (!taken && conv_own_data(c, op, &taken, e)) return -1;
    if (!taken && slides && !training(c) && rotated_data(c, op, &forward, &taken, e)) return -1;
    return taken ? 0 : onednn_data(c, op, &forward, e);
}

/* --- the gradient with respect to the weights --- */

/* The input that forward has read. For a transposed convolution: the gradient of its output. */
static int read_source(Compiler *c, const Op *op, Layout *layout) {
    const CpuNote *note = note_of(c, op->twin);
    bool kept = twin_of(c, op)->kind == OP_CONV;
    *layout = kept ? descriptor_layout(note->descriptor, DNNL_ARG_SRC) : *layout_of(c, op->in[0]);
    return kept ? note->source : c->buffer[op->in[0]];
}

static int weights_steps(Compiler *c, const Op *op, const Op *forward, dnnl_primitive_desc_t pd,
                         Error *e) {
    const Layout *from = layout_of(c, forward->out[0]);
    Layout x = descriptor_layout(pd, DNNL_ARG_SRC), dy = descriptor_layout(pd, DNNL_ARG_DIFF_DST);
    Layout dw = descriptor_layout(pd, DNNL_ARG_DIFF_WEIGHTS), source,
           plain = weights_layout(c, forward, false);
    int gradient = buffer_param_gradient(c, op->param[0], e), bias = NO_BUFFER;
    int src = read_source(c, op, &source), in = read_dy(c, op, forward, 1, e);
    if (gradient < 0 || in < 0 || (src = dy_as(c, &source, src, &x, e)) < 0 ||
        (in = dy_as(c, from, in, &dy, e)) < 0 ||
        (op->param[1] >= 0 && (bias = buffer_param_gradient(c, op->param[1], e)) < 0))
        return -1;
    int out = layout_same(&dw, &plain) ? gradient : buffer_of(c, &dw, e);
    if (out < 0) return -1;
    Arg args[4] = {{DNNL_ARG_SRC, src},
                   {DNNL_ARG_DIFF_DST, in},
                   {DNNL_ARG_DIFF_WEIGHTS, out},
                   {DNNL_ARG_DIFF_BIAS, bias}};
    if (emit_primitive(c, "conv weights", pd, bias == NO_BUFFER ? 3 : 4, args, e)) return -1;
    return out == gradient ? 0 : emit_reorder(c, &dw, out, &plain, gradient, e);
}

int cpu_lower_conv_weights(Compiler *c, const Op *op, Error *e) {
    const Op forward = conv_forward_of(c, op);
    dnnl_primitive_desc_t pd;
    bool taken;
    if (conv_own_weights(c, op, &taken, e)) return -1;
    if (taken) return 0;
    ConvShape s = conv_forward_shape(c, &forward);
    read_source(c, op, &s.src);
    if (s.src.ndims == 2) s.src = conv_forward_shape(c, &forward).src;
    s.dst = *layout_of(c, forward.out[0]);
    s.has_bias = op->param[1] >= 0;
    if (seek_descriptor(c, s, CONV_WEIGHTS, NULL, note_of(c, op->twin)->descriptor, &pd, e))
        return -1;
    if (!pd) return no_implementation(e);
    int status = weights_steps(c, op, &forward, pd, e);
    dnnl_primitive_desc_destroy(pd);
    return status;
}
