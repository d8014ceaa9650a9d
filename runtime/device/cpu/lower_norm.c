/* The image's own layers and normalisation: input, (x - mean) / std, batch norm. */
#include <string.h>

#include "device/cpu/plan.h"

/* --- input --- */

static int input_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    (void)e;
    v->layout = layout_plain(c->request->N, n->layer->C, n->layer->H, n->layer->W);
    v->buffer = BUFFER_X;
    v->wanted = c->request->purpose == PLAN_GRADIENT;
    return 0;
}

static int input_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    (void)n;
    return emit_copy(c, &v->layout, v->gradient, BUFFER_DX, e);
}

const Lowering cpu_lower_input = {input_forward, input_backward};

/* --- normalisation --- */

static void run_normalize(const CpuPlan *p, const Step *s) {
    p->kernels->normalize(s->at[0], s->at[2], s->at[3], s->at[1], s->size[0], s->size[1],
                          s->size[2]);
}

static void run_scale(const CpuPlan *p, const Step *s) {
    p->kernels->binary_scalar(BINARY_ADD, s->at[0], 0.0F, s->at[1],
                              s->size[0] * s->size[1] * s->size[2]);
    p->kernels->scale_channels(s->at[1], s->at[2], s->size[0], s->size[1], s->size[2]);
}

static void set_planes(Step *s, const Compiler *c, const Layer *l) {
    s->size[0] = c->request->N, s->size[1] = l->C, s->size[2] = l->H * l->W;
}

static int channel_constants(Compiler *c, int64_t C, float **memory, Error *e) {
    void *made;
    int b = buffer_owned(c, (size_t)C * sizeof(float), "normalisation", &made, e);
    if (b >= 0) *memory = made;
    return b;
}

static int channel_doubles(Compiler *c, int64_t C, const double *values, Error *e) {
    void *made;
    int b = buffer_owned(c, (size_t)C * sizeof(double), "normalisation", &made, e);
    if (b >= 0) memcpy(made, values, (size_t)C * sizeof(double));
    return b;
}

static int normalize_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    int means = channel_doubles(c, l->C, l->mean, e);
    int stds = means < 0 ? -1 : channel_doubles(c, l->C, l->std, e);
    if (stds < 0) return -1;
    v->layout = layout_plain(c->request->N, l->C, l->H, l->W);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    int from = value_as(c, n->input[0], &v->layout, e);
    if (v->buffer < 0 || from < 0) return -1;
    Step *s =
        emit_kernel(c, "normalize", run_normalize, 4, (int[]){from, v->buffer, means, stds}, e);
    if (!s) return -1;
    set_planes(s, c, l);
    return 0;
}

static int normalize_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    float *scale;
    Sink sink;
    if (!c->values[n->input[0]].wanted) return 0;
    int scales = channel_constants(c, l->C, &scale, e);
    if (scales < 0 || sink_open(c, n->input[0], &v->layout, false, &sink, e)) return -1;
    for (int64_t i = 0; i < l->C; i++) scale[i] = (float)(1 / l->std[i]);
    Step *s = emit_kernel(c, "scale", run_scale, 3, (int[]){v->gradient, sink.buffer, scales}, e);
    if (!s) return -1;
    set_planes(s, c, l);
    return sink_close(c, &sink, e);
}

const Lowering cpu_lower_normalize = {normalize_forward, normalize_backward};

/* --- batch norm at inference, where no convolution took it in --- */

/* out = scale[c] in + shift[c] over planes of one channel block; shift may be absent.
 * at: in, out, scale, shift. size: N, channel blocks, cells, channels of a block. */
static void run_affine(const CpuPlan *p, const Step *s) {
    (void)p;
    int64_t N = s->size[0], blocks = s->size[1], cells = s->size[2], B = s->size[3];
    const float *in = s->at[0], *scale = s->at[2], *shift = s->buffers > 3 ? s->at[3] : NULL;
    float *out = s->at[1];
#pragma omp parallel for collapse(2)
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < blocks; k++)
            for (int64_t i = 0; i < cells; i++)
                for (int64_t b = 0; b < B; b++) {
                    int64_t at = ((n * blocks + k) * cells + i) * B + b;
                    out[at] = in[at] * scale[k * B + b] + (shift ? shift[k * B + b] : 0);
                }
}

static void set_blocks(Step *s, const Compiler *c, const Layer *l, const Layout *layout) {
    int64_t B = layout_block(layout), size[4] = {c->request->N, (l->C + B - 1) / B, l->H * l->W, B};
    memcpy(s->size, size, sizeof size);
}

static int affine_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Value *x = &c->values[n->input[0]];
    int64_t padded = n->layer->C + 16; /* the last block's padding reads zeros */
    float *scale, *shift = NULL;
    v->layout = x->layout;
    v->saved[0] = channel_constants(c, padded, &scale, e);
    int shifts = v->saved[0] < 0 ? -1 : channel_constants(c, padded, &shift, e);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    if (shifts < 0 || v->buffer < 0 || node_affine(c->program, n, scale, shift, e)) return -1;
    Step *s = emit_kernel(c, "affine", run_affine, 4,
                          (int[]){x->buffer, v->buffer, v->saved[0], shifts}, e);
    if (!s) return -1;
    set_blocks(s, c, n->layer, &v->layout);
    return n->relu ? emit_relu(c, &v->layout, n->cap, v->buffer, v->buffer, e) : 0;
}

static int affine_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    Sink sink;
    if (sink_open(c, n->input[0], &v->layout, false, &sink, e)) return -1;
    Step *s = emit_kernel(c, "affine back", run_affine, 3,
                          (int[]){v->gradient, sink.buffer, v->saved[0]}, e);
    if (!s) return -1;
    set_blocks(s, c, n->layer, &v->layout);
    return sink_close(c, &sink, e);
}

/* --- batch norm in training --- */

/* running = (1 - momentum) running + momentum batch, the variance unbiased by count / (count - 1).
 * at: mean, variance, running mean, running variance. */
static void run_statistics(const CpuPlan *p, const Step *s) {
    (void)p;
    const float *mean = s->at[0], *variance = s->at[1];
    float *running_mean = s->at[2], *running_var = s->at[3];
    double m = s->number, unbias = (double)s->size[1] / (double)(s->size[1] - 1);
    for (int64_t c = 0; c < s->size[0]; c++) {
        running_mean[c] = (float)((1 - m) * (double)running_mean[c] + m * (double)mean[c]);
        running_var[c] =
            (float)((1 - m) * (double)running_var[c] + m * (double)variance[c] * unbias);
    }
}

static int param_buffer(Compiler *c, const Node *n, int i, Error *e) {
    return buffer_fixed(c, c->program->graph->params[n->layer->param[i]].value.data, e);
}

/* at: x, y, scale, shift, mean, variance, work. size: N, C, cells, channels of a block. */
static void run_batchnorm(const CpuPlan *p, const Step *s) {
    p->kernels->batchnorm(s->at[0], s->at[2], s->at[3], s->number, s->at[1], s->at[4], s->at[5],
                          s->at[6], s->size[0], s->size[1], s->size[2], s->size[3]);
}

/* The primitive of this shape is only a hint for its backward. */
static int batchnorm_hint(const Layer *l, Value *v, Error *e) {
    if (batchnorm_descriptor(cpu_engine(), &v->layout, l->eps, false, NULL, &v->descriptor, e))
        return -1;
    return v->descriptor ? 0 : error_set(e, "oneDNN has no batch norm of this shape");
}

static int batchnorm_train(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    int64_t N = c->request->N, cells = l->H * l->W, count = N * cells;
    if (count < 2)
        return error_set(e, "batch norm in training needs more than one value per channel");
    v->layout = c->values[n->input[0]].layout;
    if (batchnorm_hint(l, v, e)) return -1;
    int64_t B = layout_block(&v->layout);
    int scale = param_buffer(c, n, 0, e), shift = param_buffer(c, n, 1, e);
    int running_mean = param_buffer(c, n, 2, e), running_var = param_buffer(c, n, 3, e);
    size_t vector = (size_t)l->C * sizeof(float);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    int mean = v->saved[0] = buffer_new(c, vector, e),
        variance = v->saved[1] = buffer_new(c, vector, e),
        work = buffer_new(c, kernel_batchnorm_work(N, l->C, B) * sizeof(double), e);
    v->saved[2] = scale;
    if (scale < 0 || shift < 0 || running_mean < 0 || running_var < 0 || v->buffer < 0 ||
        mean < 0 || variance < 0 || work < 0)
        return -1;
    int x = c->values[n->input[0]].buffer;
    Step *s = emit_kernel(c, "batch norm", run_batchnorm, 7,
                          (int[]){x, v->buffer, scale, shift, mean, variance, work}, e);
    if (!s) return -1;
    s->number = l->eps;
    s->size[0] = N, s->size[1] = l->C, s->size[2] = cells, s->size[3] = B;
    s = emit_kernel(c, "statistics", run_statistics, 4,
                    (int[]){mean, variance, running_mean, running_var}, e);
    if (!s) return -1;
    s->number = l->momentum;
    s->size[0] = l->C, s->size[1] = count;
    return 0;
}

static int batchnorm_train_back(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    dnnl_primitive_desc_t pd;
    Sink sink;
    if (batchnorm_descriptor(cpu_engine(), &v->layout, l->eps, true, v->descriptor, &pd, e))
        return -1;
    if (!pd) return error_set(e, "oneDNN has no batch norm of this shape");
    int status = -1, dscale = param_gradient(c, l->param[0], e),
        dshift = param_gradient(c, l->param[1], e);
    int shift = param_buffer(c, n, 1, e);
    bool wanted = c->values[n->input[0]].wanted;
    if (shift < 0 || dscale < 0 || dshift < 0 ||
        sink_open(c, n->input[0], &v->layout, false, &sink, e))
        goto done;
    Arg args[9] = {{DNNL_ARG_SRC, c->values[n->input[0]].buffer},
                   {DNNL_ARG_DIFF_DST, v->gradient},
                   {DNNL_ARG_MEAN, v->saved[0]},
                   {DNNL_ARG_VARIANCE, v->saved[1]},
                   {DNNL_ARG_SCALE, v->saved[2]},
                   {DNNL_ARG_DIFF_SRC, sink.buffer},
                   {DNNL_ARG_DIFF_SCALE, dscale},
                   {DNNL_ARG_DIFF_SHIFT, dshift},
                   {DNNL_ARG_SHIFT, shift}};
    if (emit_primitive(c, "batch norm back", pd, BATCHNORM_BACK_SHIFT ? 9 : 8, args, e)) goto done;
    status = wanted ? sink_close(c, &sink, e) : 0;
done:
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static int batchnorm_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    return c->request->purpose == PLAN_TRAINING ? batchnorm_train(c, n, v, e)
                                                : affine_forward(c, n, v, e);
}

static int batchnorm_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return c->request->purpose == PLAN_TRAINING ? batchnorm_train_back(c, n, v, e)
                                                : affine_backward(c, n, v, e);
}

const Lowering cpu_lower_batchnorm = {batchnorm_forward, batchnorm_backward};
