/* Convolutions on the device's own kernels (convolve.h): which layers take them, and
 * their steps, forward and backward. */
#include <string.h>

#include "base/memory.h"
#include "device/cpu/lower_conv.h"

/* The one rule: stride 1 without groups, for inference; 1x1 always, 3x3 by Winograd unless the plan
 * is to be direct, where tiles of 4x4 do not hang over the output's edge so far that more than half
 * of what they save is lost, and where there are channels enough to pay for the transforms. */
static const ConvolutionKernel *kernel_for(const Compiler *c, const Layer *l, int64_t C) {
    enum { FEWEST_CHANNELS = 8 };
    const CpuKernels *kernels = c->device->kernels;
    if (c->request->purpose == PLAN_TRAINING || l->groups != 1 || l->stride[0] != 1 ||
        l->stride[1] != 1)
        return NULL;
    if (l->kernel[0] == 1 && l->kernel[1] == 1)
        return l->pad[0] || l->pad[1] || l->pad[2] || l->pad[3] ? NULL : kernels->pointwise;
    if (l->kernel[0] != 3 || l->kernel[1] != 3 || c->request->direct) return NULL;
    for (int i = 0; i < 4; i++)
        if (l->pad[i] > 2) return NULL;
    if (C < FEWEST_CHANNELS || l->C < FEWEST_CHANNELS) return NULL;
    int64_t covered = (l->H + 3) / 4 * 4 * ((l->W + 3) / 4 * 4);
    return 2 * l->H * l->W < covered ? NULL : kernels->winograd;
}

static Layout blocked(const Compiler *c, int64_t C, int64_t H, int64_t W) {
    return layout_blocked(cpu_block(c->device), c->request->N, C, H, W);
}

/* at: the job, x, weights, y, and scratch where it wants some. */
typedef struct Job {
    const ConvolutionKernel *kernel;
    Convolution shape;
} Job;

static void run_convolution(const CpuPlan *p, const Step *s) {
    const Job *job = s->at[0];
    (void)p;
    job->kernel->run(&job->shape, s->at[1], s->at[2], s->at[3], s->buffers > 4 ? s->at[4] : NULL);
}

static int emit(Compiler *c, const char *what, const Job *job, const float *w, const float *bias,
                int x, int y, Error *e) {
    const Convolution *s = &job->shape;
    size_t weights = job->kernel->weights(s->C, s->K), scratch = job->kernel->scratch(s);
    void *kept, *packed;
    int at[5] = {buffer_owned(c, sizeof *job, "plan", &kept, e), x, NO_BUFFER, y, NO_BUFFER};
    if (at[0] < 0) return -1;
    memcpy(kept, job, sizeof *job);
    at[2] = buffer_owned(c, weights * sizeof(float), "weights", &packed, e);
    if (at[2] < 0) return -1;
    job->kernel->pack(w, bias, s->C, s->K, packed);
    if (scratch && (at[4] = buffer_new(c, scratch * sizeof(float), e)) < 0) return -1;
    return emit_kernel(c, what, run_convolution, scratch ? 5 : 4, at, e) ? 0 : -1;
}

static const char *name_of(const ConvolutionKernel *kernel, const Compiler *c, const char *plain,
                           const char *winograd) {
    return kernel == c->device->kernels->winograd ? winograd : plain;
}

int conv_own_forward(Compiler *c, const Node *n, Value *v, bool *done, Error *e) {
    const Layer *l = n->layer, *in = c->program->nodes[n->input[0]].layer;
    const ConvolutionKernel *kernel = kernel_for(c, l, in->C);
    Layout src = blocked(c, in->C, in->H, in->W);
    Layout dst = blocked(c, l->C, l->H, l->W);
    *done = kernel && layout_same(&src, &c->values[n->input[0]].layout) &&
            (n->residual < 0 || layout_same(&dst, &c->values[n->residual].layout));
    if (!*done) return 0;
    Job job = {kernel,
               {.N = c->request->N,
                .C = in->C,
                .K = l->C,
                .H = in->H,
                .W = in->W,
                .OH = l->H,
                .OW = l->W,
                .top = l->pad[0],
                .left = l->pad[1],
                .sum = n->residual >= 0,
                .relu = n->relu,
                .cap = (float)n->cap,
                .threads = c->device->threads}};
    v->layout = dst;
    v->buffer =
        n->residual >= 0 ? c->values[n->residual].buffer : buffer_new(c, layout_bytes(&dst), e);
    HostWeights w;
    if (v->buffer < 0 || conv_host_weights(c, n, &w, e)) return -1;
    int status = emit(c, name_of(kernel, c, "conv", "winograd"), &job, w.weight, w.bias,
                      c->values[n->input[0]].buffer, v->buffer, e);
    conv_free_host_weights(&w);
    return status;
}

int conv_own_backward(Compiler *c, const Node *n, const Value *v, bool *done, Error *e) {
    const Layer *l = n->layer, *in = c->program->nodes[n->input[0]].layer;
    const ConvolutionKernel *kernel = kernel_for(c, l, in->C);
    Layout dy = blocked(c, l->C, l->H, l->W), dx = blocked(c, in->C, in->H, in->W);
    *done =
        kernel && layout_same(&dy, &v->layout) && layout_same(&dx, &c->values[n->input[0]].layout);
    if (!*done) return 0;
    HostWeights w;
    Sink sink;
    if (sink_open(c, n->input[0], &dx, true, &sink, e) || conv_host_weights(c, n, &w, e)) return -1;
    Job job = {kernel,
               {.N = c->request->N,
                .C = l->C,
                .K = in->C,
                .H = l->H,
                .W = l->W,
                .OH = in->H,
                .OW = in->W,
                .top = l->kernel[0] - 1 - l->pad[0],
                .left = l->kernel[1] - 1 - l->pad[1],
                .sum = sink.sum,
                .threads = c->device->threads}};
    int status = conv_rotate(&w, e);
    if (!status)
        status = emit(c, name_of(kernel, c, "conv back", "winograd back"), &job, w.weight, NULL,
                      v->gradient, sink.buffer, e);
    conv_free_host_weights(&w);
    return status ? -1 : sink_close(c, &sink, e);
}
