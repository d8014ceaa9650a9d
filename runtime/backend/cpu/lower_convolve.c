/* Convolutions on the device's own kernels (convolve.h): the choice of a kernel, and its steps. */
#include "backend/cpu/lower_conv.h"

#include <string.h>

#include "base/memory.h"

static int64_t rounded_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* Compares the products of Winograd's form and of the direct convolution, with the padding of tiles
 * and channels that each needs. */
static bool winograd_pays(const ConvolutionKernel *kernel, const Convolution *s) {
    enum { FEWEST_CHANNELS = 8, INPUTS = 36 };
    int64_t size = kernel->tile(s->taps), lanes = kernel->lanes;
    if (s->C < FEWEST_CHANNELS) return false;
    int64_t tiles = (rounded_up(s->OH, size) / size) * (rounded_up(s->OW, size) / size);
    int64_t direct = s->taps * s->taps * s->OH * s->OW * rounded_up(s->K, lanes);
    return direct >= 2 * INPUTS * tiles * rounded_up(s->K, 2 * lanes);
}

/* The same for 3x3 of stride 2 and its gradients, with 81 products per tile. Their weights take
 * four times the memory. */
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

/* The convolution that computes the gradient of s. */
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

/* Training transforms the weights at each step. All three convolutions of a layer must use these
 * kernels, because oneDNN's gradients need a oneDNN forward. */
static bool winograd_trains(const Compiler *c, const Convolution *s) {
    enum { FEWEST_TILES = 8 };
    const ConvolutionKernel *kernel = &cpu_of(c)->kernels->convolutions->winograd;
    Convolution back = reversed(s);
    int64_t size = kernel->tile(s->taps);
    int64_t tiles = (rounded_up(s->OH, size) / size) * (rounded_up(s->OW, size) / size);
    return winograd_pays(kernel, &back) && c->request->N * tiles >= FEWEST_TILES;
}

/* The rule for choosing a kernel. In inference: `strided` or `phased` for a stride and more than
 * one tap; `pointwise` for 1x1 with as many outputs as inputs (phases of an image's gradient can
 * have more, with zeros at the end). Winograd for 3x3 to 5x5 unless the plan is direct. It must
 * halve the products, or save a fifth with a stride, because its transforms cost time too. */
static const ConvolutionKernel *kernel_for(const Compiler *c, const Convolution *s) {
    enum { MOST_TAPS = 5 };
    const ConvolutionKernels *kernels = cpu_of(c)->kernels->convolutions;
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

/* at: y, x, weights, scratch, and the bits that are saved or masked with. */
typedef struct ConvJob {
    OwnConvolution own;
    bool opens, masks;
    bool turned; /* in a packing step: the weights are the gradient's */
} ConvJob;

static int run_convolution(Plan *p, const Step *s, Error *e) {
    const ConvJob *job = s->job;
    (void)p, (void)e;
    job->own.kernel->run(&job->own.shape,
                         &(ConvolutionBuffers){.x = s->at[1],
                                               .weights = s->at[2],
                                               .y = s->at[0],
                                               .scratch = s->at[3],
                                               .opened = job->opens ? s->at[4] : NULL,
                                               .open = job->masks ? s->at[4] : NULL});
    return 0;
}

OwnConvolution conv_own(const Compiler *c, const Convolution *shape, const Layout *x,
                        const Layout *y) {
    OwnConvolution own = {.shape = *shape};
    Layout in = blocked_layout(c, shape->C, shape->H, shape->W),
           out = blocked_layout(c, shape->K, shape->OH, shape->OW);
    if (layout_same(&in, x) && layout_same(&out, y)) own.kernel = kernel_for(c, shape);
    own.shape.N = c->request->N;
    own.shape.threads = cpu_of(c)->threads;
    return own;
}

static int pack(Compiler *c, const OwnConvolution *own, const float *w, const float *bias,
                Error *e) {
    void *packed;
    int buffer =
        buffer_owned(c, own->kernel->weights(&own->shape) * sizeof(float), "weights", &packed, e);
    if (buffer >= 0) own->kernel->pack(&own->shape, w, false, bias, packed);
    return buffer;
}

/* at: packed, w, and the bias if there is one. */
static int run_pack(Plan *p, const Step *s, Error *e) {
    const ConvJob *job = s->job;
    (void)p, (void)e;
    job->own.kernel->pack(&job->own.shape, s->at[1], job->turned, s->buffers > 2 ? s->at[2] : NULL,
                          s->at[0]);
    return 0;
}

/* Adds a step that packs a layer's parameters at each forward. Returns the buffer, or -1. */
static int pack_live(Compiler *c, const Op *op, const OwnConvolution *own, bool turned, Error *e) {
    ConvJob job = {.own = *own, .turned = turned};
    bool bias = !turned && op->param[1] >= 0;
    int at[3] = {buffer_new(c, own->kernel->weights(&own->shape) * sizeof(float), e),
                 buffer_param(c, op->param[0], e), bias ? buffer_param(c, op->param[1], e) : 0};
    if (at[0] < 0 || at[1] < 0 || at[2] < 0) return -1;
    return step_new(c, "pack", run_pack, bias ? 3 : 2, at, &job, sizeof job, e) ? at[0] : -1;
}

/* Saves the bits of an activation. Masks only if the pass includes the sum, if there is one. */
static int emit(Compiler *c, const Op *op, bool backward, const OwnConvolution *own, int packed,
                int x, int y, Done *done, Error *e) {
    const ConvolutionKernel *kernel = own->kernel;
    const Convolution *shape = &own->shape;
    ConvJob job = {.own = *own};
    const char *direct = backward ? "conv back" : "conv",
               *winograd = backward ? "winograd back" : "winograd";
    bool summed = !op || op->add == NO_VALUE || shape->sum;
    job.opens = op && op->open != NO_VALUE && shape->relu;
    job.masks = op && op->mask != NO_VALUE && summed;
    int at[5] = {y, x, packed, buffer_new(c, kernel->scratch(shape) * sizeof(float), e)};
    Layout out = blocked_layout(c, shape->K, shape->OH, shape->OW);
    if (job.opens) at[4] = place_open(c, op, &out, e);
    if (job.masks) at[4] = c->buffer[op->mask];
    if (at[3] < 0 || at[4] < 0) return -1;
    *done = (Done){
        .added = shape->sum, .activated = shape->relu, .opened = job.opens, .masked = job.masks};
    return step_new(c, kernel->tile ? winograd : direct, run_convolution,
                    job.opens || job.masks ? 5 : 4, at, &job, sizeof job, e)
               ? 0
               : -1;
}

int conv_emit_own(Compiler *c, const Op *op, bool backward, const OwnConvolution *own,
                  const float *w, const float *bias, int x, int y, Done *done, Error *e) {
    int packed = pack(c, own, w, bias, e);
    return packed < 0 ? -1 : emit(c, op, backward, own, packed, x, y, done, e);
}

/* The forward convolution of an op. If no own kernel fits, taps is 0, which no kernel supports. */
static Convolution forward_shape(const Compiler *c, const Op *op) {
    const Value *x = value_of(c, op->in[0]), *y = value_of(c, op->out[0]);
    bool fits = op->groups == 1 && op->stride[0] == op->stride[1] &&
                op->kernel[0] == op->kernel[1] && !conv_is_dilated(op);
    for (int i = 0; i < 4; i++) fits = fits && op->pad[i] < op->kernel[0];
    return (Convolution){.C = x->C,
                         .K = y->C,
                         .H = x->H,
                         .W = x->W,
                         .OH = y->H,
                         .OW = y->W,
                         .taps = fits ? op->kernel[0] : 0,
                         .top = op->pad[0],
                         .left = op->pad[1],
                         .stride = op->stride[0],
                         .spread = 1};
}

/* Whether both directions use the forward's packed weights. One kernel must run both, on equal
 * numbers. It is worthwhile if weights are most of a plan's memory. This holds in a direct plan,
 * which should be small. It also holds with many channels on a small grid, if the batch is large
 * enough. Turning then costs at most a third of the layer's time. */
static bool shares_weights(const Compiler *c, const OwnConvolution *own) {
    enum { LARGE = 16 << 20, GRID = 8, FEWEST_IMAGES = 4 };
    const ConvolutionKernel *kernel = own->kernel;
    const Convolution *forward = &own->shape;
    Convolution back = reversed(forward);
    if (kernel_for(c, &back) != kernel || kernel->backward_taps < forward->taps ||
        c->request->precision == PLAN_MIXED)
        return false;
    return c->request->direct ||
           (forward->taps > 1 && c->request->N >= FEWEST_IMAGES && forward->OH <= GRID &&
            forward->OW <= GRID && kernel->weights(forward) * sizeof(float) >= LARGE);
}

static int pack_folded(Compiler *c, const Op *op, const OwnConvolution *own, Error *e) {
    HostWeights w;
    if (conv_host_weights(c, op, op, &w, e)) return -1;
    int packed = pack(c, own, w.weight, w.bias, e);
    conv_free_host_weights(&w);
    return packed;
}

int conv_own_forward(Compiler *c, const Op *op, bool *taken, Error *e) {
    CpuNote *note = note_of(c, c->op);
    Convolution s = forward_shape(c, op);
    int of = value_of(c, op->out[0])->gradient_of;
    Layout dst = of == NO_VALUE ? blocked_layout(c, s.K, s.OH, s.OW) : *layout_of(c, of);
    bool training = c->request->purpose == PLAN_TRAINING, sum = op->add != NO_VALUE;
    OwnConvolution own =
        conv_own(c, &s, layout_of(c, op->in[0]), sum ? layout_of(c, op->add) : &dst);
    *taken = own.kernel && (!sum || value_dies(c, op->add));
    if (!*taken) return 0;
    own.shape.sum = sum;
    own.shape.relu = op->relu;
    own.shape.cap = (float)op->cap;
    int x = c->buffer[op->in[0]], y = sum ? c->buffer[op->add] : buffer_of(c, &dst, e);
    if (y < 0) return -1;
    int packed = training ? pack_live(c, op, &own, false, e) : pack_folded(c, op, &own, e);
    Done done;
    if (packed < 0 || emit(c, op, false, &own, packed, x, y, &done, e)) return -1;
    note->source = x;
    note->packed = !training && shares_weights(c, &own) ? packed : NO_BUFFER;
    return deliver(c, op, &dst, y, done, e);
}

/* Packs the weights of the gradient's convolution. Returns the buffer, or -1. */
static int pack_back(Compiler *c, const Op *op, const OwnConvolution *own, Error *e) {
    HostWeights w;
    if (own->shape.backward) return note_of(c, op->twin)->packed;
    if (c->request->purpose == PLAN_TRAINING) return pack_live(c, op, own, true, e);
    const Op forward = conv_forward_of(c, op);
    if (conv_host_weights(c, op, &forward, &w, e)) return -1;
    int packed = conv_rotate(&w, e) ? -1 : pack(c, own, w.weight, NULL, e);
    conv_free_host_weights(&w);
    return packed;
}

int conv_own_data(Compiler *c, const Op *op, bool *taken, Error *e) {
    const Op forward = conv_forward_of(c, op);
    const Layout *dx = layout_of(c, forward.in[0]), *dy = layout_of(c, forward.out[0]);
    Convolution f = forward_shape(c, &forward), s = reversed(&f);
    OwnConvolution own = conv_own(c, &s, dy, dx);
    *taken = own.kernel;
    if (!*taken) return 0;
    own.shape.sum =
        op->add != NO_VALUE && value_dies(c, op->add) && layout_same(layout_of(c, op->add), dx);
    own.shape.backward = op->backward && note_of(c, op->twin)->packed != NO_BUFFER;
    own.shape.relu = op->relu;
    own.shape.cap = (float)op->cap;
    int in = value_as(c, op->in[0], dy, e),
        out = own.shape.sum ? c->buffer[op->add] : buffer_of(c, dx, e);
    if (in < 0 || out < 0) return -1;
    int packed = pack_back(c, op, &own, e);
    Done done;
    if (packed < 0 || emit(c, op, op->backward, &own, packed, in, out, &done, e)) return -1;
    return deliver(c, op, dx, out, done, e);
}

/* at: dw, x, dy, scratch, and the gradient of the bias if there is one. */
static int run_gradient(Plan *p, const Step *s, Error *e) {
    const ConvJob *job = s->job;
    (void)p, (void)e;
    job->own.kernel->gradient(&job->own.shape, s->at[1], s->at[2], s->at[3], s->at[0],
                              s->buffers > 4 ? s->at[4] : NULL);
    return 0;
}

int conv_own_weights(Compiler *c, const Op *op, bool *taken, Error *e) {
    const Op forward = conv_forward_of(c, op);
    const Layout *x = layout_of(c, forward.in[0]), *dy = layout_of(c, forward.out[0]);
    Convolution s = forward_shape(c, &forward);
    bool bias = op->param[1] >= 0;
    ConvJob job = {.own = conv_own(c, &s, x, dy)};
    const ConvolutionKernel *kernel = job.own.kernel;
    *taken = kernel;
    if (!*taken) return 0;
    int at[5] = {buffer_param_gradient(c, op->param[0], e), value_as(c, op->in[0], x, e),
                 value_as(c, op->in[1], dy, e),
                 buffer_new(c, kernel->gradient_scratch(&job.own.shape) * sizeof(float), e),
                 bias ? buffer_param_gradient(c, op->param[1], e) : 0};
    for (int i = 0; i < 5; i++)
        if (at[i] < 0) return -1;
    return step_new(c, "winograd weights", run_gradient, bias ? 5 : 4, at, &job, sizeof job, e)
               ? 0
               : -1;
}
