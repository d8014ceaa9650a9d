/* The image's convolution: few channels, a large grid, and often a stride. In phase form
 * it is a stride-1 convolution between the output's grid and the stride's phases of the
 * image. Backward that is a convolution and a pixel shuffle straight into the caller's dx;
 * forward it serves where oneDNN has no fast convolution for the plain image (11x11 with
 * stride 4 without AVX-512). */
#include <string.h>

#include "base/memory.h"
#include "device/cpu/lower_conv.h"

/* One direction of the phase form. Input row h meets output row o through kernel row r where
 * h + pad = stride o + r. With u = (h + pad) div stride and a = (h + pad) mod stride, r = a +
 * stride m and o = u - m, so each phase a is a stride-1 convolution over dy with `taps` taps. Rows
 * u below `skip` belong to the padding. */
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

/* A weight of an ungrouped convolution, zero beyond the kernel. */
static float tap(const HostWeights *w, int64_t k, int64_t c, int64_t r, int64_t s) {
    return r < w->R && s < w->S ? w->weight[((k * w->C + c) * w->R + r) * w->S + s] : 0;
}

/* stride, pad, skip and rows of each direction, for the kernels. */
static int geometry_buffer(Compiler *c, const Phase *y, const Phase *x, int *buffer, Error *e) {
    int64_t g[8] = {y->stride, y->pad, y->skip, y->rows, x->stride, x->pad, x->skip, x->rows};
    void *memory;
    *buffer = buffer_owned(c, sizeof g, "geometry", &memory, e);
    if (*buffer < 0) return -1;
    memcpy(memory, g, sizeof g);
    return 0;
}

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

/* dx[n,c,h,w] = scale[c] phases[n,(c,a,b),u,v]. at: phases, dx, scale, geometry.
 * size: N, C, H, W, block. */
static void run_shuffle(const CpuPlan *p, const Step *s) {
    (void)p;
    const float *in = s->at[0], *scale = s->at[2];
    float *dx = s->at[1];
    const int64_t *g = s->at[3];
    int64_t N = s->size[0], C = s->size[1], H = s->size[2], W = s->size[3], block = s->size[4];
    int64_t sy = g[0], py = g[1], ky = g[2], U = g[3], sx = g[4], px = g[5], kx = g[6], V = g[7];
    int64_t blocks = (C * sy * sx + block - 1) / block;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < N; n++)
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
}

/* 1 / std of the normalisation before this convolution, or ones. */
static int input_scale(Compiler *c, int node, int *buffer, Error *e) {
    const Layer *l = c->program->nodes[node].layer;
    void *memory;
    *buffer = buffer_owned(c, (size_t)l->C * sizeof(float), "scale", &memory, e);
    if (*buffer < 0) return -1;
    for (int64_t i = 0; i < l->C; i++)
        ((float *)memory)[i] = l->kind == LAYER_NORMALIZE ? (float)(1 / l->std[i]) : 1.0F;
    return 0;
}

bool conv_reads_image(const Compiler *c, const Node *n) {
    const Node *x = &c->program->nodes[n->input[0]];
    bool image = x->layer->kind == LAYER_INPUT ||
                 (x->layer->kind == LAYER_NORMALIZE &&
                  c->program->nodes[x->input[0]].layer->kind == LAYER_INPUT &&
                  c->program->nodes[x->input[0]].readers == 1);
    return image && x->readers == 1 && n->layer->groups == 1;
}

static int emit_shuffle(Compiler *c, const Node *n, const Phase *y, const Phase *x,
                        const Layout *phases, int in, Error *e) {
    const Layer *image = c->program->nodes[n->input[0]].layer;
    int scale, geometry;
    if (input_scale(c, n->input[0], &scale, e) || geometry_buffer(c, y, x, &geometry, e)) return -1;
    Step *s = emit_kernel(c, "shuffle", run_shuffle, 4, (int[]){in, BUFFER_DX, scale, geometry}, e);
    if (!s) return -1;
    int64_t size[5] = {c->request->N, image->C, image->H, image->W, layout_block(phases)};
    memcpy(s->size, size, sizeof size);
    return 0;
}

/* The convolution over phases as the device's own kernels take it, but for the grids. */
static Convolution phase_shape(int64_t C, int64_t K, const Phase *y, const Phase *x) {
    return (Convolution){.C = C,
                         .K = K,
                         .taps = y->taps == x->taps ? y->taps : 0,
                         .top = y->before,
                         .left = x->before,
                         .stride = 1,
                         .spread = 1};
}

int conv_image_backward(Compiler *c, const Node *n, const Value *v, bool *done, Error *e) {
    const Layer *l = n->layer, *image = c->program->nodes[n->input[0]].layer;
    Phase y = phase_of(image->H, l->H, l->kernel[0], l->stride[0], l->pad[0]);
    Phase x = phase_of(image->W, l->W, l->kernel[1], l->stride[1], l->pad[1]);
    *done = false;
    if (y.after < 0 || x.after < 0) return 0;
    int64_t channels = image->C * y.stride * x.stride;
    Layer t = {.C = channels, .groups = 1, .kernel = {y.taps, x.taps}};
    ConvShape s = {
        .src = v->layout,
        .weights = layout_weights(&t, l->C, true),
        .dst = layout_blocked(cpu_block(c->device), c->request->N, channels, y.rows, x.rows),
        .stride = {1, 1},
        .pad = {y.before, x.before, y.after, x.after}};
    Convolution shape = phase_shape(l->C, channels, &y, &x);
    shape.H = l->H, shape.W = l->W, shape.OH = y.rows, shape.OW = x.rows;
    bool own = conv_own(c, &shape, &s.src, &s.dst);
    dnnl_primitive_desc_t pd = NULL;
    if (!own && conv_descriptor(cpu_engine(), &s, CONV_FORWARD, NULL, NULL, false, &pd, e))
        return -1;
    if (!own && !pd) return 0;
    HostWeights w;
    int status = -1, weights, phases = buffer_new(c, layout_bytes(&s.dst), e);
    if (phases < 0 || conv_host_weights(c, n, &w, e)) goto done;
    float *made =
        memory_take((size_t)(channels * l->C * y.taps * x.taps) * sizeof(float), "weights", e);
    if (made) phase_weights(&w, &y, &x, made);
    Layout plain = layout_weights(&t, l->C, false);
    if (made && own)
        status = conv_emit_own(c, true, &shape, made, NULL, v->gradient, phases, e);
    else if (made)
        status = conv_keep_weights(c, &plain, made, pd, &weights, e) ||
                 conv_emit_data(c, "conv back", pd, v, weights, phases, e);
    if (!status) status = emit_shuffle(c, n, &y, &x, &s.dst, phases, e);
    memory_free(made);
    conv_free_host_weights(&w);
    *done = true;
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status ? -1 : 0;
}

/* --- forward --- */

/* Channel (c, a, b) of the image's phases at tap (i, j) for output channel k. */
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
 * at: x, out, geometry. size: N, C, H, W, block. */
static void run_unshuffle(const CpuPlan *p, const Step *s) {
    (void)p;
    const float *x = s->at[0];
    float *out = s->at[1];
    const int64_t *g = s->at[2];
    int64_t N = s->size[0], C = s->size[1], H = s->size[2], W = s->size[3], block = s->size[4];
    int64_t sy = g[0], py = g[1], U = g[3], sx = g[4], px = g[5], V = g[7];
    int64_t channels = C * sy * sx, blocks = (channels + block - 1) / block;
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < N; n++)
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
}

/* Phases of the input that the output reads: no padding is left, and no row is skipped. */
static Phase input_phase(int64_t out, int64_t kernel, int64_t stride, int64_t pad) {
    Phase p = {.stride = stride, .pad = pad, .taps = (kernel + stride - 1) / stride};
    p.rows = out + p.taps - 1;
    return p;
}

/* pd is NULL where `shape` goes to an own kernel. */
static int emit_phases(Compiler *c, const Node *n, dnnl_primitive_desc_t pd,
                       const Convolution *shape, const Layout *phases, const Phase *y,
                       const Phase *x, Value *v, Error *e) {
    const Layer *l = n->layer, *image = c->program->nodes[n->input[0]].layer;
    Layout grid = layout_plain(c->request->N, image->C, image->H, image->W);
    Layer t = {.C = l->C, .groups = 1, .kernel = {y->taps, x->taps}};
    Layout plain = layout_weights(&t, phases->dims[1], false);
    HostWeights w;
    int weights, bias, unshuffled = buffer_new(c, layout_bytes(phases), e), geometry;
    int in = value_as(c, n->input[0], &grid, e);
    v->buffer = unshuffled < 0 || in < 0 ? -1 : buffer_new(c, layout_bytes(&v->layout), e);
    if (v->buffer < 0 || geometry_buffer(c, y, x, &geometry, e) || conv_host_weights(c, n, &w, e))
        return -1;
    float *made = memory_take((size_t)(l->C * phases->dims[1] * y->taps * x->taps) * sizeof(float),
                              "weights", e);
    if (made) forward_weights(&w, y, x, made);
    Step *s = emit_kernel(c, "unshuffle", run_unshuffle, 3, (int[]){in, unshuffled, geometry}, e);
    int64_t size[5] = {c->request->N, image->C, image->H, image->W, layout_block(phases)};
    if (s) memcpy(s->size, size, sizeof size);
    int failed = !s || !made;
    if (!failed && !pd)
        failed = conv_emit_own(c, false, shape, made, w.bias, unshuffled, v->buffer, e);
    else if (!failed)
        failed = conv_keep_weights(c, &plain, made, pd, &weights, e) ||
                 conv_keep_bias(c, w.bias, l->C, &bias, e);
    memory_free(made);
    conv_free_host_weights(&w);
    if (failed || !pd) return failed ? -1 : 0;
    Arg args[4] = {{DNNL_ARG_SRC, unshuffled},
                   {DNNL_ARG_WEIGHTS, weights},
                   {DNNL_ARG_DST, v->buffer},
                   {DNNL_ARG_BIAS, bias}};
    if (emit_primitive(c, "conv", pd, 4, args, e)) return -1;
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

int conv_image_forward(Compiler *c, const Node *n, Value *v, bool *done, Error *e) {
    const Layer *l = n->layer, *image = c->program->nodes[n->input[0]].layer;
    ConvShape s = conv_forward_shape(c, n);
    dnnl_primitive_desc_t pd;
    *done = false;
    if ((l->stride[0] == 1 && l->stride[1] == 1) || n->residual >= 0) return 0;
    if (conv_descriptor(cpu_engine(), &s, CONV_FORWARD, NULL, NULL, false, &pd, e)) return -1;
    if (pd) {
        Layout dst = descriptor_layout(pd, DNNL_ARG_DST);
        bool fast = layout_same(&dst, &s.dst);
        dnnl_primitive_desc_destroy(pd);
        if (fast) return 0;
    }
    Phase y = input_phase(l->H, l->kernel[0], l->stride[0], l->pad[0]);
    Phase x = input_phase(l->W, l->kernel[1], l->stride[1], l->pad[1]);
    int64_t channels = image->C * y.stride * x.stride;
    Layer t = {.C = l->C, .groups = 1, .kernel = {y.taps, x.taps}};
    s.src = layout_blocked(cpu_block(c->device), c->request->N, channels, y.rows, x.rows);
    s.weights = layout_weights(&t, channels, true);
    memcpy(s.stride, (int64_t[]){1, 1}, sizeof s.stride);
    memset(s.pad, 0, sizeof s.pad);
    Convolution shape = phase_shape(channels, l->C, &y, &x);
    shape.H = y.rows, shape.W = x.rows, shape.OH = l->H, shape.OW = l->W;
    shape.relu = n->relu, shape.cap = (float)n->cap;
    bool own = conv_own(c, &shape, &s.src, &s.dst);
    pd = NULL;
    if (!own && conv_descriptor(cpu_engine(), &s, CONV_FORWARD, NULL, NULL, false, &pd, e))
        return -1;
    if (!own && !pd) return 0;
    v->layout = s.dst;
    *done = true;
    int status = emit_phases(c, n, pd, &shape, &s.src, &y, &x, v, e);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status;
}
