/* Pooling: maximum by oneDNN, whose workspace remembers the winners; torch's adaptive
 * average by own kernels over any channel block. */
#include <string.h>

#include "device/cpu/compile.h"

/* --- maximum --- */

/* A max pooling's window in oneDNN's arrays. */
typedef struct PoolWindow {
    dnnl_dims_t kernel, stride, before, after;
} PoolWindow;

static PoolWindow pool_window(const Layer *l) {
    return (PoolWindow){.kernel = {l->kernel[0], l->kernel[1]},
                        .stride = {l->stride[0], l->stride[1]},
                        .before = {l->pad[0], l->pad[1]},
                        .after = {l->pad[2], l->pad[3]}};
}

static int maxpool_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer, *x = c->program->nodes[n->input[0]].layer;
    const Layout *src = &c->values[n->input[0]].layout;
    bool keeps = c->request->purpose != PLAN_FORWARD;
    int block = layout_block(src);
    v->layout = block > 1 ? layout_blocked(block, c->request->N, l->C, l->H, l->W)
                          : layout_plain(c->request->N, l->C, l->H, l->W);
    Layout in = block > 1 ? *src : layout_plain(c->request->N, x->C, x->H, x->W);
    dnnl_pooling_desc_t op;
    PoolWindow w = pool_window(l);
    if (onednn_check(dnnl_pooling_forward_desc_init(
                         &op, keeps ? dnnl_forward_training : dnnl_forward_inference,
                         dnnl_pooling_max, &in, &v->layout, w.stride, w.kernel, w.before, w.after),
                     "max pooling", e) ||
        best_descriptor(cpu_engine(), &op, NULL, NULL, true, &v->descriptor, e))
        return -1;
    if (!v->descriptor) return error_set(e, "oneDNN has no max pooling of this shape");
    Layout workspace = descriptor_layout(v->descriptor, DNNL_ARG_WORKSPACE);
    int from = value_as(c, n->input[0], &in, e);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    v->saved[0] = buffer_new(c, layout_bytes(&workspace), e);
    if (from < 0 || v->buffer < 0 || v->saved[0] < 0) return -1;
    Arg args[3] = {
        {DNNL_ARG_SRC, from}, {DNNL_ARG_DST, v->buffer}, {DNNL_ARG_WORKSPACE, v->saved[0]}};
    if (emit_primitive(c, "max pool", v->descriptor, keeps ? 3 : 2, args, e)) return -1;
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

static int maxpool_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    if (!c->values[n->input[0]].wanted) return 0;
    Layout src = descriptor_layout(v->descriptor, DNNL_ARG_SRC);
    dnnl_pooling_desc_t op;
    PoolWindow w = pool_window(l);
    dnnl_primitive_desc_t pd;
    Sink sink;
    if (onednn_check(dnnl_pooling_backward_desc_init(&op, dnnl_pooling_max, &src, &v->layout,
                                                     w.stride, w.kernel, w.before, w.after),
                     "max pooling", e) ||
        best_descriptor(cpu_engine(), &op, NULL, v->descriptor, true, &pd, e))
        return -1;
    if (!pd) return error_set(e, "oneDNN has no max pooling of this shape");
    int status = -1;
    if (!sink_open(c, n->input[0], &src, false, &sink, e)) {
        Arg args[3] = {{DNNL_ARG_DIFF_DST, v->gradient},
                       {DNNL_ARG_WORKSPACE, v->saved[0]},
                       {DNNL_ARG_DIFF_SRC, sink.buffer}};
        if (!emit_primitive(c, "max pool back", pd, 3, args, e)) status = sink_close(c, &sink, e);
    }
    dnnl_primitive_desc_destroy(pd);
    return status;
}

const Lowering cpu_lower_maxpool = {maxpool_forward, maxpool_backward};

/* --- adaptive average --- */

/* size: planes (images times channel blocks), channels of a block, H, W, out H, out W. Output cell
 * i of n averages the rows from floor(i H / n) to ceil((i + 1) H / n). */
typedef struct Window {
    int64_t first, end;
} Window;

static Window window(int64_t i, int64_t size, int64_t out) {
    return (Window){i * size / out, ((i + 1) * size + out - 1) / out};
}

static void run_average(const CpuPlan *p, const Step *s) {
    (void)p;
    int64_t planes = s->size[0], B = s->size[1], H = s->size[2], W = s->size[3], OH = s->size[4],
            OW = s->size[5];
    const float *in = s->at[0];
    float *out = s->at[1];
#pragma omp parallel for
    for (int64_t q = 0; q < planes; q++)
        for (int64_t i = 0; i < OH; i++)
            for (int64_t j = 0; j < OW; j++) {
                Window y = window(i, H, OH), x = window(j, W, OW);
                float *cell = out + ((q * OH + i) * OW + j) * B;
                float count = (float)((y.end - y.first) * (x.end - x.first));
                memset(cell, 0, (size_t)B * sizeof *cell);
                for (int64_t h = y.first; h < y.end; h++)
                    for (int64_t w = x.first; w < x.end; w++)
                        for (int64_t b = 0; b < B; b++)
                            cell[b] += in[((q * H + h) * W + w) * B + b];
                for (int64_t b = 0; b < B; b++) cell[b] /= count;
            }
}

static void run_average_back(const CpuPlan *p, const Step *s) {
    (void)p;
    int64_t planes = s->size[0], B = s->size[1], H = s->size[2], W = s->size[3], OH = s->size[4],
            OW = s->size[5];
    const float *dy = s->at[0];
    float *dx = s->at[1];
#pragma omp parallel for
    for (int64_t q = 0; q < planes; q++) {
        memset(dx + q * H * W * B, 0, (size_t)(H * W * B) * sizeof *dx);
        for (int64_t i = 0; i < OH; i++)
            for (int64_t j = 0; j < OW; j++) {
                Window y = window(i, H, OH), x = window(j, W, OW);
                const float *cell = dy + ((q * OH + i) * OW + j) * B;
                float count = (float)((y.end - y.first) * (x.end - x.first));
                for (int64_t h = y.first; h < y.end; h++)
                    for (int64_t w = x.first; w < x.end; w++)
                        for (int64_t b = 0; b < B; b++)
                            dx[((q * H + h) * W + w) * B + b] += cell[b] / count;
            }
    }
}

static void set_sizes(Step *s, const Compiler *c, const Node *n, const Layout *layout) {
    const Layer *l = n->layer, *x = c->program->nodes[n->input[0]].layer;
    int64_t B = layout_block(layout), blocks = (l->C + B - 1) / B;
    int64_t size[6] = {c->request->N * blocks, B, x->H, x->W, l->H, l->W};
    memcpy(s->size, size, sizeof size);
}

static int avgpool_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    const Value *x = &c->values[n->input[0]];
    int block = layout_block(&x->layout);
    v->layout = block > 1 ? layout_blocked(block, c->request->N, l->C, l->H, l->W)
                          : layout_plain(c->request->N, l->C, l->H, l->W);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    if (v->buffer < 0) return -1;
    Step *s = emit_kernel(c, "average pool", run_average, 2, (int[]){x->buffer, v->buffer}, e);
    if (!s) return -1;
    set_sizes(s, c, n, &v->layout);
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

static int avgpool_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    Value *x = &c->values[n->input[0]];
    Sink sink;
    if (!x->wanted) return 0;
    if (sink_open(c, n->input[0], &x->layout, false, &sink, e)) return -1;
    Step *s = emit_kernel(c, "average pool back", run_average_back, 2,
                          (int[]){v->gradient, sink.buffer}, e);
    if (!s) return -1;
    set_sizes(s, c, n, &v->layout);
    return sink_close(c, &sink, e);
}

const Lowering cpu_lower_avgpool = {avgpool_forward, avgpool_backward};
