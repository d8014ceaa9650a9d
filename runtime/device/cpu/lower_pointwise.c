/* Layers that work element by element: ReLU and sums where nothing took them in, and
 * training's dropout. */
#include <string.h>

#include "base/random.h"
#include "device/cpu/plan.h"

/* --- ReLU --- */

/* In place where nothing else reads the input: no kind of layer needs its own output again. */
static int relu_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Value *x = &c->values[n->input[0]];
    bool alone = c->program->nodes[n->input[0]].readers == 1 && x->buffer >= BUFFERS_OUTSIDE;
    v->layout = x->layout;
    v->buffer = alone ? x->buffer : buffer_new(c, layout_bytes(&v->layout), e);
    return v->buffer < 0 ? -1 : emit_relu(c, &v->layout, n->cap, x->buffer, v->buffer, e);
}

/* The gradient has been masked already. */
static int relu_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return sink_share(c, n->input[0], v->gradient, e);
}

const Lowering cpu_lower_relu = {relu_forward, relu_backward};

/* --- sum --- */

static void run_sum(const CpuPlan *p, const Step *s) {
    p->kernels->binary(BINARY_ADD, s->at[0], s->at[1], s->at[2], s->size[0]);
}

static int add_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Value *a = &c->values[n->input[0]];
    v->layout = a->layout;
    int b = value_as(c, n->input[1], &v->layout, e);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    if (b < 0 || v->buffer < 0) return -1;
    Step *s = emit_kernel(c, "sum", run_sum, 3, (int[]){a->buffer, b, v->buffer}, e);
    if (!s) return -1;
    s->size[0] = (int64_t)(layout_bytes(&v->layout) / sizeof(float));
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

static int add_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return sink_share(c, n->input[0], v->gradient, e) || sink_share(c, n->input[1], v->gradient, e)
               ? -1
               : 0;
}

const Lowering cpu_lower_add = {add_forward, add_backward};

/* --- dropout --- */

/* out = in / (1 - p) where u >= p, else 0, with u from the layer's stream at this run of the plan
 * and the element's place in [N,C,H,W] of the whole batch, whatever the layout. at: in, out, bits.
 * size: elements in whole bytes, elements, C, cells, channels of a block, images of the whole batch
 * before these. */
static void run_dropout(const CpuPlan *p, const Step *s) {
    const float *in = s->at[0];
    float *out = s->at[1], scale = (float)(1 / (1 - s->number));
    uint8_t *bits = s->at[2];
    uint64_t key = random_bits(s->seed, p->runs);
    int64_t C = s->size[2], cells = s->size[3], B = s->size[4], blocks = (C + B - 1) / B;
#pragma omp parallel for
    for (int64_t byte = 0; byte < s->size[0] / 8; byte++) {
        bits[byte] = 0;
        for (int64_t i = byte * 8; i < byte * 8 + 8; i++) {
            int64_t plane = i / (B * cells), n = plane / blocks, c = plane % blocks * B + i % B;
            int64_t place = ((s->size[5] + n) * C + c) * cells + i / B % cells;
            bool keep =
                i < s->size[1] && c < C && random_uniform(key, (uint64_t)place) >= s->number;
            if (keep) bits[byte] |= (uint8_t)(1U << (i % 8));
            out[i] = keep ? in[i] * scale : 0;
        }
    }
}

static void run_dropout_back(const CpuPlan *p, const Step *s) {
    p->kernels->binary_scalar(BINARY_MUL, s->at[0], (float)(1 / (1 - s->number)), s->at[1],
                              s->size[0]);
    p->kernels->apply_mask(s->at[1], s->at[2], s->size[0]);
}

static int64_t whole_bytes(const Layout *l) {
    return ((int64_t)(layout_bytes(l) / sizeof(float)) + 7) / 8 * 8;
}

static int dropout_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const char *name = n->layer->name;
    int x = value_in_blocks(c, n->input[0], &v->layout, e);
    if (x < 0) return -1;
    int64_t elements = whole_bytes(&v->layout);
    v->buffer = buffer_new(c, (size_t)elements * sizeof(float), e);
    v->saved[0] = buffer_new(c, (size_t)elements / 8, e);
    if (v->buffer < 0 || v->saved[0] < 0) return -1;
    Step *s = emit_kernel(c, "dropout", run_dropout, 3, (int[]){x, v->buffer, v->saved[0]}, e);
    if (!s) return -1;
    int64_t size[6] = {elements,
                       (int64_t)(layout_bytes(&v->layout) / sizeof(float)),
                       n->layer->C,
                       n->layer->H * n->layer->W,
                       layout_block(&v->layout),
                       c->request->group ? c->request->first : 0};
    memcpy(s->size, size, sizeof size);
    s->number = n->layer->p;
    uint64_t key = random_hash(RANDOM_EMPTY, name, strlen(name));
    s->seed = random_bits(key, c->request->seed + (uint64_t)c->node);
    return 0;
}

static int dropout_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    Sink sink;
    if (!c->values[n->input[0]].wanted) return 0;
    if (sink_open(c, n->input[0], &v->layout, false, &sink, e)) return -1;
    Step *s = emit_kernel(c, "dropout back", run_dropout_back, 3,
                          (int[]){v->gradient, sink.buffer, v->saved[0]}, e);
    if (!s) return -1;
    s->size[0] = whole_bytes(&v->layout);
    s->number = n->layer->p;
    return sink_close(c, &sink, e);
}

const Lowering cpu_lower_dropout = {dropout_forward, dropout_backward};
