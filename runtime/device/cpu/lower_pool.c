/* Pooling, by own kernels over any channel block: maximum, and torch's adaptive average. */
#include <string.h>

#include "device/cpu/plan.h"

/* --- maximum --- */

/* at: x, y, winners where they are kept, and at the end the PoolShape. */
static void run_maxpool(const CpuPlan *p, const Step *s) {
    p->kernels->maxpool(s->at[s->buffers - 1], s->at[0], s->at[1],
                        s->buffers > 3 ? s->at[2] : NULL);
}

/* at: dy, winners, dx, and the PoolShape. */
static void run_maxpool_back(const CpuPlan *p, const Step *s) {
    p->kernels->maxpool_data(s->at[3], s->at[0], s->at[1], s->at[2]);
}

static int shape_buffer(Compiler *c, const Layer *l, const Layer *x, int block, Error *e) {
    void *memory;
    int buffer = buffer_owned(c, sizeof(PoolShape), "plan", &memory, e);
    if (buffer < 0) return -1;
    *(PoolShape *)memory = (PoolShape){.planes = c->request->N * ((l->C + block - 1) / block),
                                       .B = block,
                                       .H = x->H,
                                       .W = x->W,
                                       .OH = l->H,
                                       .OW = l->W,
                                       .kernel = {l->kernel[0], l->kernel[1]},
                                       .stride = {l->stride[0], l->stride[1]},
                                       .pad = {l->pad[0], l->pad[1]}};
    return buffer;
}

static int maxpool_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer, *x = c->program->nodes[n->input[0]].layer;
    int block = cpu_block(c->device);
    Layout in = layout_blocked(block, c->request->N, x->C, x->H, x->W);
    if (l->kernel[0] * l->kernel[1] > 1 << 16)
        return error_set(e, "max pooling over %lld x %lld is not supported (at most 65536 places)",
                         (long long)l->kernel[0], (long long)l->kernel[1]);
    v->layout = layout_blocked(block, c->request->N, l->C, l->H, l->W);
    v->saved[1] = shape_buffer(c, l, x, block, e);
    int from = v->saved[1] < 0 ? -1 : value_as(c, n->input[0], &in, e);
    v->buffer = from < 0 ? -1 : buffer_new(c, layout_bytes(&v->layout), e);
    if (v->buffer < 0) return -1;
    int at[4] = {from, v->buffer, v->saved[1]}, used = 3;
    if (c->request->purpose != PLAN_FORWARD) {
        v->saved[0] = buffer_new(c, layout_bytes(&v->layout) / sizeof(float) * sizeof(uint16_t), e);
        if (v->saved[0] < 0) return -1;
        at[2] = v->saved[0], at[3] = v->saved[1], used = 4;
    }
    if (!emit_kernel(c, "max pool", run_maxpool, used, at, e)) return -1;
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

static int maxpool_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    if (!c->values[n->input[0]].wanted) return 0;
    Layout dx = layout_blocked(layout_block(&v->layout), c->request->N, x->C, x->H, x->W);
    Sink sink;
    if (sink_open(c, n->input[0], &dx, false, &sink, e) ||
        !emit_kernel(c, "max pool back", run_maxpool_back, 4,
                     (int[]){v->gradient, v->saved[0], sink.buffer, v->saved[1]}, e))
        return -1;
    return sink_close(c, &sink, e);
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
    Layout in;
    int x = value_in_blocks(c, n->input[0], &in, e);
    if (x < 0) return -1;
    v->layout = layout_blocked(layout_block(&in), c->request->N, l->C, l->H, l->W);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    if (v->buffer < 0) return -1;
    Step *s = emit_kernel(c, "average pool", run_average, 2, (int[]){x, v->buffer}, e);
    if (!s) return -1;
    set_sizes(s, c, n, &v->layout);
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

static int avgpool_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *x = c->program->nodes[n->input[0]].layer;
    Layout dx = layout_blocked(layout_block(&v->layout), c->request->N, x->C, x->H, x->W);
    Sink sink;
    if (!c->values[n->input[0]].wanted) return 0;
    if (sink_open(c, n->input[0], &dx, false, &sink, e)) return -1;
    Step *s = emit_kernel(c, "average pool back", run_average_back, 2,
                          (int[]){v->gradient, sink.buffer}, e);
    if (!s) return -1;
    set_sizes(s, c, n, &v->layout);
    return sink_close(c, &sink, e);
}

const Lowering cpu_lower_avgpool = {avgpool_forward, avgpool_backward};
