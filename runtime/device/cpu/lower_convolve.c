/* Convolutions on the device's own kernels (convolve.h): which take them, and their steps. */
#include <string.h>

#include "base/memory.h"
#include "device/cpu/lower_conv.h"

static int64_t rounded_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* Winograd's products against those of the direct convolution, of whole tiles and of channels as
 * either pads them. */
static bool winograd_pays(const ConvolutionKernel *kernel, const Convolution *s) {
    enum { FEWEST_CHANNELS = 8, INPUTS = 36 };
    int64_t size = kernel->tile(s->taps), lanes = kernel->lanes;
    if (s->C < FEWEST_CHANNELS) return false;
    int64_t tiles = (rounded_up(s->OH, size) / size) * (rounded_up(s->OW, size) / size);
    int64_t direct = s->taps * s->taps * s->OH * s->OW * rounded_up(s->K, lanes);
    return direct >= 2 * INPUTS * tiles * rounded_up(s->K, 2 * lanes);
}

/* As above, for 3x3 of stride 2 and its gradients, of the tiles' 81 products. Their weights take
 * four times as much memory. */
static bool phased_pays(const ConvolutionKernel *kernel, const Convolution *s) {
    enum { FEWEST_CHANNELS = 16, PRODUCTS = 81, MOST_BYTES = 16 << 20 };
    bool gradient = s->spread == 2 && s->stride == 1 && s->top == 1 && s->left == 1;
    if (s->taps != 3 || s->C < FEWEST_CHANNELS || s->K < FEWEST_CHANNELS) return false;
    if (!gradient && (s->stride != 2 || s->spread != 1)) return false;
    if (kernel->weights(s) * sizeof(float) > MOST_BYTES) return false;
    int64_t size = kernel->tile(s->taps), spread = s->spread;
    int64_t rows = rounded_up(s->OH, spread) / spread, columns = rounded_up(s->OW, spread) / spread;
    int64_t tiles = (rounded_up(rows, size) / size) * (rounded_up(columns, size) / size);
    return 5 * PRODUCTS * tiles <= 4 * s->taps * s->taps * rows * columns;
}

/* Of the convolution that is the gradient of s. */
static Convolution reversed(const Convolution *s) {
    return (Convolution){.C = s->K,
                         .K = s->C,
                         .H = s->OH,
                         .W = s->OW,
                         .OH = s->H,
                         .OW = s->W,
                         .taps = s->taps,
                         .top = s->taps - 1 - s->top,
                         .left = s->taps - 1 - s->left,
                         .stride = s->spread,
                         .spread = s->stride};
}

/* Training transforms the weights anew in each step, and must have all three of a layer's
 * convolutions here: oneDNN's gradients want a forward of oneDNN's. */
static bool winograd_trains(const Compiler *c, const Convolution *s) {
    enum { FEWEST_TILES = 8 };
    const ConvolutionKernel *kernel = &c->device->kernels->convolutions->winograd;
    Convolution back = reversed(s);
    int64_t size = kernel->tile(s->taps);
    int64_t tiles = (rounded_up(s->OH, size) / size) * (rounded_up(s->OW, size) / size);
    return winograd_pays(kernel, &back) && c->request->N * tiles >= FEWEST_TILES;
}

/* The one rule: for inference what has a stride and more than one tap, and 1x1 wherever it makes as
 * many outputs as there are inputs (phases of an image's gradient can be more, zeros at the end),
 * 3x3 to 5x5 by Winograd unless the plan is to be direct, where that halves the products, or saves
 * a fifth of them where there is a stride: the transforms cost a part of it. */
static const ConvolutionKernel *kernel_for(const Compiler *c, const Convolution *s) {
    enum { MOST_TAPS = 5 };
    const ConvolutionKernels *kernels = c->device->kernels->convolutions;
    bool training = c->request->purpose == PLAN_TRAINING;
    if (!kernels || s->taps < 1 || s->taps > MOST_TAPS) return NULL;
    if (s->stride > 1 || s->spread > 1) {
        if (s->taps < 2 || training) return NULL;
        bool phased = !c->request->direct && phased_pays(&kernels->phased, s);
        return phased ? &kernels->phased : &kernels->strided;
    }
    if (s->taps == 1) {
        bool same = !s->top && !s->left && s->H == s->OH && s->W == s->OW;
        return same && !training ? &kernels->pointwise : NULL;
    }
    if (s->taps < 3 || c->request->direct) return NULL;
    if (training && !winograd_trains(c, s)) return NULL;
    return winograd_pays(&kernels->winograd, s) ? &kernels->winograd : NULL;
}

static Layout blocked(const Compiler *c, int64_t C, int64_t H, int64_t W) {
    return layout_blocked(cpu_block(c->device), c->request->N, C, H, W);
}

/* at: y, x, weights, scratch, job, and bits. */
typedef struct Job {
    const ConvolutionKernel *kernel;
    Convolution shape;
} Job;

static void run_convolution(const CpuPlan *p, const Step *s) {
    const Job *job = s->at[4];
    (void)p;
    job->kernel->run(&job->shape,
                     &(ConvolutionBuffers){.x = s->at[1],
                                           .weights = s->at[2],
                                           .y = s->at[0],
                                           .scratch = s->at[3],
                                           .opened = s->mask == MASK_SAVE ? s->at[5] : NULL,
                                           .open = s->mask == MASK_APPLY ? s->at[5] : NULL});
}

bool conv_own(const Compiler *c, const Convolution *shape, const Layout *x, const Layout *y) {
    Layout in = blocked(c, shape->C, shape->H, shape->W),
           out = blocked(c, shape->K, shape->OH, shape->OW);
    return kernel_for(c, shape) && layout_same(&in, x) && layout_same(&out, y);
}

static Convolution on_batch(const Compiler *c, const Convolution *shape) {
    Convolution s = *shape;
    s.N = c->request->N;
    s.threads = c->device->threads;
    return s;
}

static int pack(Compiler *c, const Convolution *shape, const float *w, const float *bias,
                Error *e) {
    const ConvolutionKernel *kernel = kernel_for(c, shape);
    Convolution s = on_batch(c, shape);
    void *packed;
    int buffer = buffer_owned(c, kernel->weights(&s) * sizeof(float), "weights", &packed, e);
    if (buffer >= 0) kernel->pack(&s, w, false, bias, packed);
    return buffer;
}

static int keep_job(Compiler *c, const Convolution *shape, Error *e) {
    Job job = {kernel_for(c, shape), on_batch(c, shape)};
    void *kept;
    int buffer = buffer_owned(c, sizeof job, "plan", &kept, e);
    if (buffer >= 0) memcpy(kept, &job, sizeof job);
    return buffer;
}

/* at: packed, w, job, and the bias if there is one. */
static void run_pack(const CpuPlan *p, const Step *s) {
    const Job *job = s->at[2];
    (void)p;
    job->kernel->pack(&job->shape, s->at[1], s->number != 0, s->buffers > 3 ? s->at[3] : NULL,
                      s->at[0]);
}

/* A parameter of the graph, or its gradient, as a buffer; *buffer is NO_BUFFER for none. */
static int parameter(Compiler *c, int index, bool gradient, int *buffer, Error *e) {
    *buffer = NO_BUFFER;
    if (index < 0) return 0;
    *buffer = gradient ? param_gradient(c, index, e)
                       : buffer_fixed(c, c->program->graph->params[index].value.data, e);
    return *buffer < 0 ? -1 : 0;
}

/* A step that packs a layer's parameters as they then are; the buffer, or -1. */
static int pack_live(Compiler *c, const Layer *l, const Convolution *shape, bool turned, Error *e) {
    int at[4];
    at[0] = buffer_new(c, kernel_for(c, shape)->weights(shape) * sizeof(float), e);
    if (at[0] < 0 || parameter(c, l->param[0], false, &at[1], e) ||
        parameter(c, turned ? -1 : l->param[1], false, &at[3], e) ||
        (at[2] = keep_job(c, shape, e)) < 0)
        return -1;
    Step *s = emit_kernel(c, "pack", run_pack, at[3] < 0 ? 3 : 4, at, e);
    if (!s) return -1;
    s->number = turned;
    return at[0];
}

static int emit(Compiler *c, bool backward, const Convolution *shape, int packed, int x, int y,
                Error *e) {
    const char *direct = backward ? "conv back" : "conv",
               *winograd = backward ? "winograd back" : "winograd";
    Convolution whole = on_batch(c, shape);
    int at[5] = {y, x, packed};
    at[3] = buffer_new(c, kernel_for(c, shape)->scratch(&whole) * sizeof(float), e);
    at[4] = at[3] < 0 ? -1 : keep_job(c, shape, e);
    if (at[4] < 0) return -1;
    Step *s =
        emit_kernel(c, kernel_for(c, shape)->tile ? winograd : direct, run_convolution, 5, at, e);
    if (!s) return -1;
    s->can_mask = true;
    return 0;
}

int conv_emit_own(Compiler *c, bool backward, const Convolution *shape, const float *w,
                  const float *bias, int x, int y, Error *e) {
    int packed = pack(c, shape, w, bias, e);
    return packed < 0 ? -1 : emit(c, backward, shape, packed, x, y, e);
}

/* Those of the layer, forward; taps is 0, which no kernel has, where it is none of theirs. */
static Convolution forward_shape(const Layer *l, const Layer *in) {
    bool fits = l->groups == 1 && l->stride[0] == l->stride[1] && l->kernel[0] == l->kernel[1];
    for (int i = 0; i < 4; i++) fits = fits && l->pad[i] < l->kernel[0];
    return (Convolution){.C = in->C,
                         .K = l->C,
                         .H = in->H,
                         .W = in->W,
                         .OH = l->H,
                         .OW = l->W,
                         .taps = fits ? l->kernel[0] : 0,
                         .top = l->pad[0],
                         .left = l->pad[1],
                         .stride = l->stride[0],
                         .spread = 1};
}

/* Both directions use the forward's packed weights, if one kernel runs both, and on the same ones,
 * where a plan's memory would be mostly these: in a direct plan, which is to be the smaller one,
 * and with many channels on a small grid, if the batch has enough tiles for turning them to cost no
 * more than a third of the layer's time. */
static bool shares_weights(const Compiler *c, const Convolution *forward) {
    enum { LARGE = 16 << 20, GRID = 8, FEWEST_IMAGES = 4 };
    const ConvolutionKernel *kernel = kernel_for(c, forward);
    Convolution back = reversed(forward);
    if (kernel_for(c, &back) != kernel || kernel->backward_taps < forward->taps ||
        c->request->precision == PLAN_MIXED)
        return false;
    return c->request->direct ||
           (forward->taps > 1 && c->request->N >= FEWEST_IMAGES && forward->OH <= GRID &&
            forward->OW <= GRID && kernel->weights(forward) * sizeof(float) >= LARGE);
}

static int pack_folded(Compiler *c, const Node *n, const Convolution *shape, Error *e) {
    HostWeights w;
    if (conv_host_weights(c, n, &w, e)) return -1;
    int packed = pack(c, shape, w.weight, w.bias, e);
    conv_free_host_weights(&w);
    return packed;
}

int conv_own_forward(Compiler *c, const Node *n, Value *v, bool *done, Error *e) {
    const Layer *l = n->layer, *in = c->program->nodes[n->input[0]].layer;
    const Value *x = &c->values[n->input[0]];
    Convolution s = forward_shape(l, in);
    Layout dst = blocked(c, l->C, l->H, l->W);
    bool sum = n->residual >= 0;
    *done = conv_own(c, &s, &x->layout, sum ? &c->values[n->residual].layout : &dst);
    if (!*done) return 0;
    s.sum = sum;
    s.relu = n->relu;
    s.cap = (float)n->cap;
    v->layout = dst;
    v->buffer = sum ? c->values[n->residual].buffer : buffer_new(c, layout_bytes(&dst), e);
    if (v->buffer < 0) return -1;
    bool training = c->request->purpose == PLAN_TRAINING;
    int packed = training ? pack_live(c, l, &s, false, e) : pack_folded(c, n, &s, e);
    if (packed < 0) return -1;
    v->saved[0] = x->buffer;
    v->saved[2] = !training && shares_weights(c, &s) ? packed : NO_BUFFER;
    return emit(c, false, &s, packed, x->buffer, v->buffer, e);
}

int conv_own_backward(Compiler *c, const Node *n, const Value *v, bool *done, Error *e) {
    const Layer *l = n->layer, *in = c->program->nodes[n->input[0]].layer;
    const Layout *dx = &c->values[n->input[0]].layout;
    Convolution f = forward_shape(l, in), s = reversed(&f);
    *done = conv_own(c, &s, &v->layout, dx);
    if (!*done) return 0;
    HostWeights w;
    Sink sink;
    if (sink_open(c, n->input[0], dx, true, &sink, e)) return -1;
    s.sum = sink.sum;
    s.backward = v->saved[2] != NO_BUFFER;
    if (s.backward || c->request->purpose == PLAN_TRAINING) {
        int packed = s.backward ? v->saved[2] : pack_live(c, l, &s, true, e);
        return packed < 0 || emit(c, true, &s, packed, v->gradient, sink.buffer, e)
                   ? -1
                   : sink_close(c, &sink, e);
    }
    if (conv_host_weights(c, n, &w, e)) return -1;
    int status = conv_rotate(&w, e) ||
                 conv_emit_own(c, true, &s, w.weight, NULL, v->gradient, sink.buffer, e);
    conv_free_host_weights(&w);
    return status ? -1 : sink_close(c, &sink, e);
}

/* at: dw, x, dy, scratch, job, and the bias's gradient if there is one. */
static void run_gradient(const CpuPlan *p, const Step *s) {
    const Job *job = s->at[4];
    (void)p;
    job->kernel->gradient(&job->shape, s->at[1], s->at[2], s->at[3], s->at[0],
                          s->buffers > 5 ? s->at[5] : NULL);
}

int conv_own_weights(Compiler *c, const Node *n, const Value *v, bool *done, Error *e) {
    const Layer *l = n->layer;
    Convolution s = forward_shape(l, c->program->nodes[n->input[0]].layer), whole = on_batch(c, &s);
    *done = conv_own(c, &s, &c->values[n->input[0]].layout, &v->layout);
    if (!*done) return 0;
    int at[6] = {0, c->values[n->input[0]].buffer, v->gradient};
    at[3] = buffer_new(c, kernel_for(c, &s)->gradient_scratch(&whole) * sizeof(float), e);
    if (at[3] < 0 || parameter(c, l->param[0], true, &at[0], e) ||
        parameter(c, l->param[1], true, &at[5], e) || (at[4] = keep_job(c, &s, e)) < 0)
        return -1;
    return emit_kernel(c, "winograd weights", run_gradient, at[5] < 0 ? 5 : 6, at, e) ? 0 : -1;
}
