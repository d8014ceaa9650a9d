/* The convolution of the image: few channels, a large grid, and often a stride. In phase form it is
 * a stride-1 convolution between the output's grid and the stride's phases of the image. Backward:
 * a convolution and a pixel shuffle straight into the caller's dx. Forward: used where oneDNN has
 * no fast convolution of the plain image (11x11 with stride 4 without AVX-512). */
#include "backend/cpu/lower_conv.h"

#include <string.h>

#include "base/memory.h"

/* One direction of the phase form. Input row h meets output row o through kernel row r if h + pad =
 * stride o + r. Let u = (h + pad) div stride and a = (h + pad) mod stride. Then r = a + stride m
 * and o = u - m. So each phase a is a stride-1 convolution over dy with `taps` taps. Rows u below
 * `skip` are padding. */
typedef struct Phase {
    int64_t stride, pad, taps, skip, rows; /* rows of the phase grid */
    int64_t before, after;                 /* its padding */
} Phase;

static Phase phase_of(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t pad) {
    Phase p = {.stride = stride, .pad = pad};
    p.taps = (kernel + stride - 1) / stride;
    p.skip = pad / stride < p.taps - 1 ? pad / stride : p.taps - 1;
    p.rows = (size - 1 + pad) / stride + 1 - p.skip;
    p.before = p.taps - 1 - p.skip;
    p.after = p.rows - out - p.before + p.taps - 1;
    return p;
}

/* A weight of an ungrouped convolution; zero beyond the kernel. */
static float tap(const HostWeights *w, int64_t k, int64_t c, int64_t r, int64_t s) {
    return r < w->R && s < w->S ? w->weight[((k * w->C + c) * w->R + r) * w->S + s] : 0;
}

/* A step between an image [N,C,H,W] and its phases in blocks of channels. */
typedef struct PhaseJob {
    int64_t N, C, H, W, block;
    Phase y, x;
} PhaseJob;

/* --- backward --- */

/* Channel (c, a, b) of the phases, tap (i, j) from output channel k. */
static void phase_weights(const HostWeights *w, const Phase *y, const Phase *x, float *out) {
    for (int64_t ch = 0; ch < w->C; ch++)
        for (int64_t a = 0; a < y->stride; a++)
            for (int64_t b = 0; b < x->stride; b++)
                for (int64_t k = 0; k < w->K; k++)
                    for (int64_t i = 0; i < y->taps; i++)
                        for (int64_t j = 0; j < x->taps; j++) {
                            int64_t r = a + y->stride * (y->taps - 1 - i),
                                    q = b + x->stride * (x->taps - 1 - j);
                            *out++ = tap(w, k, ch, r, q);
                        }
}

/* dx[n,c,h,w] = scale[c] phases[n,(c,a,b),u,v]. at: phases, dx, scale. */
static int run_shuffle(Plan *p, const Step *s, Error *e) {
    const PhaseJob *job = s->job;
    const float *in = s->at[0], *scale = s->at[2];
    float *dx = s->at[1];
    int64_t C = job->C, H = job->H, W = job->W, block = job->block;
    int64_t sy = job->y.stride, py = job->y.pad, ky = job->y.skip, U = job->y.rows;
    int64_t sx = job->x.stride, px = job->x.pad, kx = job->x.skip, V = job->x.rows;
    int64_t blocks = (C * sy * sx + block - 1) / block;
    (void)p, (void)e;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < job->N; n++)
        for (int64_t ch = 0; ch < C; ch++)
            for (int64_t h = 0; h < H; h++) {
                int64_t u = (h + py) / sy - ky, a = (h + py) % sy;
                float *row = dx + ((n * C + ch) * H + h) * W;
                for (int64_t b = 0; b < sx; b++) {
                    int64_t channel = (ch * sy + a) * sx + b;
                    const float *from = in +
                                        (((n * blocks + channel / block) * U + u) * V) * block +
                                        channel % block;
                    int64_t first = ((b - px) % sx + sx) % sx;
                    from += ((first + px) / sx - kx) * block;
                    for (int64_t w = first; w < W; w += sx, from += block)
                        row[w] = scale[ch] * *from;
                }
            }
    return 0;
}

/* The only op that reads the value, possibly after the rounding of a bf16 plan; -1 if there are
 * several. */
static int op_behind(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    if (v->readers != 1) return -1;
    const Op *op = &c->program->ops[v->last];
    return op->kind == OP_ROUND ? op_behind(c, op->out[0]) : v->last;
}

bool conv_reads_image(const Compiler *c, const Op *forward) {
    int first = op_behind(c, VALUE_X);
    if (first < 0 || forward->groups != 1 || conv_is_dilated(forward)) return false;
    const Op *op = &c->program->ops[first];
    if (op->kind != OP_NORMALIZE) return op == forward;
    int second = op_behind(c, op->out[0]);
    return second >= 0 && &c->program->ops[second] == forward;
}

/* 1 / std of the normalisation before the convolution, or ones. */
static int input_scale(Compiler *c, const Op *normalize, int64_t C, Error *e) {
    void *memory;
    int buffer = buffer_owned(c, (size_t)C * sizeof(float), "scale", &memory, e);
    if (buffer < 0) return -1;
    float *scale = memory;
    for (int64_t i = 0; i < C; i++) scale[i] = 1.0F;
    return normalize && c->program->channels(c->program, normalize, scale, NULL, e) ? -1 : buffer;
}

/* Claims the ops between the gradient and the caller's dx, for the shuffle. *scale is the op that
 * scales the gradient, or NULL. False if other ops lie between. */
static bool claim_output(Compiler *c, const Op *op, const Op **scale) {
    int value = op->out[0], affine = value_only_reader(c, value, OP_AFFINE);
    *scale = affine < 0 ? NULL : &c->program->ops[affine];
    if (*scale) value = (*scale)->out[0];
    int output = value_only_reader(c, value, OP_OUTPUT);
    if (output < 0 || op->add != NO_VALUE || op->mask != NO_VALUE ||
        (*scale && ((*scale)->add != NO_VALUE || (*scale)->mask != NO_VALUE)))
        return false;
    c->claimed[output] = true;
    if (*scale) c->claimed[affine] = true;
    return true;
}

static PhaseJob phase_job(const Compiler *c, const Op *forward, const Phase *y, const Phase *x,
                          const Layout *phases) {
    const Value *image = value_of(c, forward->in[0]);
    return (PhaseJob){c->request->N, image->C, image->H, image->W, layout_block(phases), *y, *x};
}

/* The convolution over phases for the device's own kernels, without the grids. */
static Convolution phase_shape(int64_t C, int64_t K, const Phase *y, const Phase *x) {
    return (Convolution){.C = C,
                         .K = K,
                         .taps = y->taps == x->taps ? y->taps : 0,
                         .top = y->before,
                         .left = x->before,
                         .stride = 1,
                         .spread = 1};
}

/* The weights for an own kernel or for oneDNN, and the step that multiplies by them. */
static int emit_phase_conv(Compiler *c, const Op *op, const OwnConvolution *own, const float *made,
                           dnnl_primitive_desc_t pd, const Layout *plain, int phases, Error *e) {
    const Op *forward = twin_of(c, op);
    const Layout *from = layout_of(c, forward->out[0]);
    int weights, dy = value_as(c, op->in[0], from, e);
    Done done;
    if (dy < 0) return -1;
    if (!pd) return conv_emit_own(c, NULL, true, own, made, NULL, dy, phases, &done, e);
    if (conv_keep_weights(c, plain, made, pd, &weights, e)) return -1;
    return conv_emit_data(c, "conv back", pd, from, dy, weights, phases, e);
}

int conv_image_data(Compiler *c, const Op *op, bool *taken, Error *e) {
    const Op *f = twin_of(c, op), *scale;
    const Value *image = value_of(c, f->in[0]), *out = value_of(c, f->out[0]);
    Phase y = phase_of(image->H, out->H, f->kernel[0], f->stride[0], f->pad[0]);
    Phase x = phase_of(image->W, out->W, f->kernel[1], f->stride[1], f->pad[1]);
    *taken = false;
    if (y.after < 0 || x.after < 0) return 0;
    int64_t channels = image->C * y.stride * x.stride, taps[2] = {y.taps, x.taps};
    ConvShape s = {.src = *layout_of(c, f->out[0]),
                   .weights = layout_weights(1, out->C, channels, taps, true),
                   .dst = blocked_layout(c, channels, y.rows, x.rows),
                   .stride = {1, 1},
                   .pad = {y.before, x.before, y.after, x.after}};
    Convolution shape = phase_shape(out->C, channels, &y, &x);
    shape.H = out->H, shape.W = out->W, shape.OH = y.rows, shape.OW = x.rows;
    OwnConvolution own = conv_own(c, &shape, &s.src, &s.dst);
    dnnl_primitive_desc_t pd = NULL;
    if (!own.kernel && conv_descriptor(cpu_engine(), &s, CONV_FORWARD, NULL, NULL, false, &pd, e))
        return -1;
    *taken = (own.kernel || pd) && claim_output(c, op, &scale);
    HostWeights w = {0};
    float *made = NULL;
    int status = 0;
    if (!*taken) goto done;
    status = -1;
    Layout plain = layout_weights(1, out->C, channels, taps, false);
    PhaseJob job = phase_job(c, f, &y, &x, &s.dst);
    int phases = buffer_of(c, &s.dst, e), scales = input_scale(c, scale, image->C, e);
    if (phases < 0 || scales < 0 || conv_host_weights(c, op, f, &w, e)) goto done;
    made = memory_take((size_t)(channels * out->C * y.taps * x.taps) * sizeof(float), "weights", e);
    if (!made) goto done;
    phase_weights(&w, &y, &x, made);
    if (!emit_phase_conv(c, op, &own, made, pd, &plain, phases, e) &&
        step_new(c, "shuffle", run_shuffle, 3, (int[]){phases, c->buffer[VALUE_DX], scales}, &job,
                 sizeof job, e))
        status = 0;
done:
    memory_free(made);
    conv_free_host_weights(&w);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status;
}

/* --- forward --- */

/* Channel (c, a, b) of the image's phases, tap (i, j), for output channel k. */
static void forward_weights(const HostWeights *w, const Phase *y, const Phase *x, float *out) {
    for (int64_t k = 0; k < w->K; k++)
        for (int64_t ch = 0; ch < w->C; ch++)
            for (int64_t a = 0; a < y->stride; a++)
                for (int64_t b = 0; b < x->stride; b++)
                    for (int64_t i = 0; i < y->taps; i++)
                        for (int64_t j = 0; j < x->taps; j++) {
                            int64_t r = a + y->stride * i, q = b + x->stride * j;
                            *out++ = tap(w, k, ch, r, q);
                        }
}

/* out[n,(c,a,b),u,v] = x[n, c, stride u + a - pad, stride v + b - pad], zero outside the image.
 * at: x, out. */
static int run_unshuffle(Plan *p, const Step *s, Error *e) {
    const PhaseJob *job = s->job;
    const float *x = s->at[0];
    float *out = s->at[1];
    int64_t C = job->C, H = job->H, W = job->W, block = job->block;
    int64_t sy = job->y.stride, py = job->y.pad, U = job->y.rows;
    int64_t sx = job->x.stride, px = job->x.pad, V = job->x.rows;
    int64_t channels = C * sy * sx, blocks = (channels + block - 1) / block;
    (void)p, (void)e;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < job->N; n++)
        for (int64_t k = 0; k < blocks; k++)
            for (int64_t u = 0; u < U; u++)
                for (int64_t lane = 0; lane < block; lane++) {
                    int64_t channel = k * block + lane, b = channel % sx, a = channel / sx % sy;
                    int64_t h = sy * u + a - py, w = b - px;
                    bool inside = channel < channels && h >= 0 && h < H;
                    const float *row = x + ((n * C + channel / (sx * sy)) * H + h) * W;
                    float *to = out + ((n * blocks + k) * U + u) * V * block + lane;
                    for (int64_t v = 0; v < V; v++, w += sx)
                        to[v * block] = inside && w >= 0 && w < W ? row[w] : 0;
                }
    return 0;
}

/* The phases of the input that the output reads: without padding, and no row is skipped. */
static Phase input_phase(int64_t out, int64_t kernel, int64_t stride, int64_t pad) {
    Phase p = {.stride = stride, .pad = pad, .taps = (kernel + stride - 1) / stride};
    p.rows = out + p.taps - 1;
    return p;
}

/* The value from the weights `made` and the phases. pd is NULL if an own kernel computes it. */
static int emit_from_phases(Compiler *c, const Op *op, dnnl_primitive_desc_t pd,
                            const OwnConvolution *own, const Layout *plain, const float *made,
                            const float *host_bias, int phases, const Layout *dst, Error *e) {
    Done done = {0};
    int weights, bias, y = buffer_of(c, dst, e);
    if (y < 0) return -1;
    if (!pd) {
        if (conv_emit_own(c, op, false, own, made, host_bias, phases, y, &done, e)) return -1;
        return deliver(c, op, dst, y, done, e);
    }
    if (conv_keep_weights(c, plain, made, pd, &weights, e) ||
        conv_keep_bias(c, host_bias, dst->dims[1], &bias, e))
        return -1;
    Arg args[4] = {{DNNL_ARG_SRC, phases},
                   {DNNL_ARG_WEIGHTS, weights},
                   {DNNL_ARG_DST, y},
                   {DNNL_ARG_BIAS, bias}};
    return emit_primitive(c, "conv", pd, 4, args, e) ? -1 : deliver(c, op, dst, y, done, e);
}

/* The image is contiguous here. */
static int emit_phases(Compiler *c, const Op *op, dnnl_primitive_desc_t pd,
                       const OwnConvolution *own, const ConvShape *s, const Phase *y,
                       const Phase *x, Error *e) {
    const Value *image = value_of(c, op->in[0]);
    Layout planes = layout_plain(c->request->N, image->C, image->H, image->W);
    int64_t taps[2] = {y->taps, x->taps}, C = s->src.dims[1], K = s->dst.dims[1];
    Layout plain = layout_weights(1, C, K, taps, false);
    PhaseJob job = phase_job(c, op, y, x, &s->src);
    HostWeights w;
    int in = value_as(c, op->in[0], &planes, e), phases = buffer_of(c, &s->src, e), status = -1;
    if (in < 0 || phases < 0 || conv_host_weights(c, op, op, &w, e)) return -1;
    float *made = memory_take((size_t)(K * C * y->taps * x->taps) * sizeof(float), "weights", e);
    if (made) {
        forward_weights(&w, y, x, made);
        if (step_new(c, "unshuffle", run_unshuffle, 2, (int[]){in, phases}, &job, sizeof job, e))
            status = emit_from_phases(c, op, pd, own, &plain, made, w.bias, phases, &s->dst, e);
    }
    memory_free(made);
    conv_free_host_weights(&w);
    return status;
}

int conv_image_forward(Compiler *c, const Op *op, bool *taken, Error *e) {
    const Value *image = value_of(c, op->in[0]), *out = value_of(c, op->out[0]);
    ConvShape s = conv_forward_shape(c, op);
    dnnl_primitive_desc_t pd;
    *taken = false;
    if ((op->stride[0] == 1 && op->stride[1] == 1) || op->add != NO_VALUE) return 0;
    if (conv_descriptor(cpu_engine(), &s, CONV_FORWARD, NULL, NULL, false, &pd, e)) return -1;
    if (pd) {
        Layout dst = descriptor_layout(pd, DNNL_ARG_DST);
        bool fast = layout_same(&dst, &s.dst);
        dnnl_primitive_desc_destroy(pd);
        if (fast) return 0;
    }
    Phase y = input_phase(out->H, op->kernel[0], op->stride[0], op->pad[0]);
    Phase x = input_phase(out->W, op->kernel[1], op->stride[1], op->pad[1]);
    int64_t channels = image->C * y.stride * x.stride, taps[2] = {y.taps, x.taps};
    s.src = blocked_layout(c, channels, y.rows, x.rows);
    s.weights = layout_weights(1, channels, out->C, taps, true);
    memcpy(s.stride, (int64_t[]){1, 1}, sizeof s.stride);
    memset(s.pad, 0, sizeof s.pad);
    Convolution shape = phase_shape(channels, out->C, &y, &x);
    shape.H = y.rows, shape.W = x.rows, shape.OH = out->H, shape.OW = out->W;
    shape.relu = op->relu, shape.cap = (float)op->cap;
    OwnConvolution own = conv_own(c, &shape, &s.src, &s.dst);
    pd = NULL;
    if (!own.kernel && conv_descriptor(cpu_engine(), &s, CONV_FORWARD, NULL, NULL, false, &pd, e))
        return -1;
    *taken = own.kernel || pd;
    int status = *taken ? emit_phases(c, op, pd, &own, &s, &y, &x, e) : 0;
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status;
}
