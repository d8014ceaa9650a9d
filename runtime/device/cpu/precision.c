/* bf16 with f32 instructions, in one place: what PlanRequest.precision asks for is a rule of where
 * numbers are rounded to bf16 (8 bits of mantissa, nearest, ties to even).
 *
 *   weights     of a convolution or linear layer, the batch norm folded in, once when they are kept
 *   values      when a layer has made them: after bias, residual sum and ReLU, which with the sum
 *               of products are in f32
 *   gradients   of a value when all its readers have added to them, in f32, and they are masked
 *
 * so every operand of a product is a bf16 number, and every sum is f32's. Forward this is so for
 * bf16, backward for mixed too. What stays in f32: the image and its normalisation (whose result is
 * a value), biases, the logits, and the image's gradient. */
#include "device/cpu/plan.h"

static void run_round(const CpuPlan *p, const Step *s) {
    p->kernels->round_bf16(s->at[0], s->at[1], s->size[0]);
}

static int emit_round(Compiler *c, const Layout *l, int in, int out, Error *e) {
    Step *s = emit_kernel(c, "round", run_round, 2, (int[]){in, out}, e);
    if (!s) return -1;
    s->size[0] = (int64_t)(layout_bytes(l) / sizeof(float));
    return 0;
}

void precision_weights(const Compiler *c, float *weights, size_t n) {
    if (c->rounds) c->plan->kernels->round_bf16(weights, weights, (int64_t)n);
}

/* The image is an operand where anything but its normalisation reads it. */
static bool image_is_operand(const Compiler *c) {
    for (int i = 1; i < c->program->n; i++) {
        const Node *n = &c->program->nodes[i];
        for (int j = 0; j < n->inputs; j++)
            if (n->input[j] == 0 && n->layer->kind != LAYER_NORMALIZE) return true;
    }
    return false;
}

int precision_value(Compiler *c, const Node *n, Value *v, Error *e) {
    bool last = c->node == c->program->n - 1;
    if (!c->rounds || last) return 0;
    if (n->layer->kind == LAYER_INPUT && !image_is_operand(c)) return 0;
    int in = v->buffer;
    if (in < BUFFERS_OUTSIDE && (v->buffer = buffer_new(c, layout_bytes(&v->layout), e)) < 0)
        return -1;
    return emit_round(c, &v->layout, in, v->buffer, e);
}

int precision_gradient(Compiler *c, const Node *n, Value *v, Error *e) {
    if (!c->rounds || n->layer->kind == LAYER_INPUT || n->layer->kind == LAYER_NORMALIZE ||
        c->plan->buffers[v->gradient].rounded)
        return 0;
    if (own_gradient(c, v, e) || emit_round(c, &v->layout, v->gradient, v->gradient, e)) return -1;
    c->plan->buffers[v->gradient].rounded = true;
    return 0;
}
