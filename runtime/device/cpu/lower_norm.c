/* The image's own layers and normalisation: input, (x - mean) / std, batch norm. */
#include <math.h>
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
    int64_t padded = n->layer->C + 16; /* the last block's padding reads zeros */
    float *scale, *shift = NULL;
    int x = value_in_blocks(c, n->input[0], &v->layout, e);
    if (x < 0) return -1;
    v->saved[0] = channel_constants(c, padded, &scale, e);
    int shifts = v->saved[0] < 0 ? -1 : channel_constants(c, padded, &shift, e);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    if (shifts < 0 || v->buffer < 0 || node_affine(c->program, n, scale, shift, e)) return -1;
    Step *s =
        emit_kernel(c, "affine", run_affine, 4, (int[]){x, v->buffer, v->saved[0], shifts}, e);
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

/* The steps of batch norm in training. size: N, C, cells, channels of a block, values of a channel
 * in the whole batch, channels with the last block's padding; number: eps. */

/* at: x, part, center. */
static void run_norm_sums(const CpuPlan *p, const Step *s) {
    double *center = s->at[2];
    memset(center, 0, (size_t)s->size[5] * sizeof *center);
    p->kernels->norm_moment(s->at[0], center, 1, s->at[1], center, s->size[0], s->size[1],
                            s->size[2], s->size[3]);
}

/* at: x, part, center (sums, becomes means), moment. */
static void run_norm_squares(const CpuPlan *p, const Step *s) {
    double *center = s->at[2];
    for (int64_t c = 0; c < s->size[5]; c++) center[c] /= (double)s->size[4];
    p->kernels->norm_moment(s->at[0], center, 2, s->at[1], s->at[3], s->size[0], s->size[1],
                            s->size[2], s->size[3]);
}

/* at: x, y, scale, shift, mean, variance, center, moment, constants [2, channels]. */
static void run_norm_apply(const CpuPlan *p, const Step *s) {
    const float *scale = s->at[2], *shift = s->at[3];
    const double *center = s->at[6], *moment = s->at[7];
    float *mean = s->at[4], *variance = s->at[5];
    double *factor = s->at[8], *offset = factor + s->size[5];
    for (int64_t c = 0; c < s->size[5]; c++) {
        double v = moment[c] / (double)s->size[4];
        bool real = c < s->size[1];
        offset[c] = real ? (double)shift[c] : 0;
        factor[c] = real ? (double)scale[c] / sqrt(v + s->number) : 0;
        if (real) mean[c] = (float)center[c], variance[c] = (float)v;
    }
    p->kernels->norm_apply(s->at[0], center, factor, offset, s->at[1], s->size[0], s->size[1],
                           s->size[2], s->size[3]);
}

/* at: x, dy, mean, variance, part, center, sums [2, channels], dscale, dshift. */
static void run_norm_products(const CpuPlan *p, const Step *s) {
    const float *mean = s->at[2], *variance = s->at[3];
    double *center = s->at[5], *sum = s->at[6], *product = sum + s->size[5];
    float *dscale = s->at[7], *dshift = s->at[8];
    for (int64_t c = 0; c < s->size[5]; c++) center[c] = c < s->size[1] ? (double)mean[c] : 0;
    p->kernels->norm_products(s->at[0], s->at[1], center, s->at[4], sum, product, s->size[0],
                              s->size[1], s->size[2], s->size[3]);
    for (int64_t c = 0; c < s->size[1]; c++) {
        dscale[c] = (float)(product[c] / sqrt((double)variance[c] + s->number));
        dshift[c] = (float)sum[c];
    }
}

/* at: x, dy, dx, variance, scale, center, sums (become what is taken off), factor. */
static void run_norm_back(const CpuPlan *p, const Step *s) {
    const float *variance = s->at[3], *scale = s->at[4];
    double *shift = s->at[6], *slope = shift + s->size[5], *factor = s->at[7];
    for (int64_t c = 0; c < s->size[5]; c++) {
        bool real = c < s->size[1];
        double square = real ? (double)variance[c] + s->number : 1;
        factor[c] = real ? (double)scale[c] / sqrt(square) : 0;
        shift[c] /= (double)s->size[4];
        slope[c] /= (double)s->size[4] * square;
    }
    p->kernels->norm_back(s->at[0], s->at[1], s->at[5], factor, shift, slope, s->at[2], s->size[0],
                          s->size[1], s->size[2], s->size[3]);
}

/* The images that batch norm's statistics are of. */
static int64_t whole_batch(const Compiler *c) {
    return c->request->group ? c->request->whole : c->request->N;
}

static Step *emit_norm(Compiler *c, const Layer *l, const Layout *layout, const char *what,
                       void (*kernel)(const CpuPlan *, const Step *), int n, const int *buffers,
                       Error *e) {
    Step *s = emit_kernel(c, what, kernel, n, buffers, e);
    if (!s) return NULL;
    int64_t N = c->request->N, cells = l->H * l->W, B = layout_block(layout);
    int64_t size[6] = {N, l->C, cells, B, whole_batch(c) * cells, (l->C + B - 1) / B * B};
    memcpy(s->size, size, sizeof size);
    s->number = l->eps;
    return s;
}

/* The primitive of this shape is only a hint for its backward. */
static int batchnorm_hint(const Layer *l, Value *v, Error *e) {
    if (batchnorm_descriptor(cpu_engine(), &v->layout, l->eps, false, NULL, &v->descriptor, e))
        return -1;
    return v->descriptor ? 0 : error_set(e, "oneDNN has no batch norm of this shape");
}

static int batchnorm_train(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    const Group *g = c->request->group;
    int64_t N = c->request->N, count = whole_batch(c) * l->H * l->W;
    if (count < 2)
        return error_set(e, "batch norm in training needs more than one value per channel");
    int x = v->saved[3] = value_in_blocks(c, n->input[0], &v->layout, e);
    if (x < 0) return -1;
    if (!g && batchnorm_hint(l, v, e)) return -1;
    int64_t B = layout_block(&v->layout), channels = (l->C + B - 1) / B * B;
    int scale = param_buffer(c, n, 0, e), shift = param_buffer(c, n, 1, e);
    int running_mean = param_buffer(c, n, 2, e), running_var = param_buffer(c, n, 3, e);
    size_t vector = (size_t)l->C * sizeof(float), doubles = (size_t)channels * sizeof(double);
    v->buffer = buffer_new(c, layout_bytes(&v->layout), e);
    int mean = v->saved[0] = buffer_new(c, vector, e),
        variance = v->saved[1] = buffer_new(c, vector, e), center = buffer_new(c, doubles, e),
        moment = buffer_new(c, doubles, e), constants = buffer_new(c, 2 * doubles, e),
        part = buffer_new(c, (size_t)N * doubles, e);
    v->saved[2] = scale;
    if (scale < 0 || shift < 0 || running_mean < 0 || running_var < 0 || v->buffer < 0 ||
        mean < 0 || variance < 0 || center < 0 || moment < 0 || constants < 0 || part < 0)
        return -1;
    if (!emit_norm(c, l, &v->layout, "batch norm", run_norm_sums, 3, (int[]){x, part, center}, e) ||
        emit_sum(c, center, channels, e) ||
        !emit_norm(c, l, &v->layout, "batch norm", run_norm_squares, 4,
                   (int[]){x, part, center, moment}, e) ||
        emit_sum(c, moment, channels, e) ||
        !emit_norm(c, l, &v->layout, "batch norm", run_norm_apply, 9,
                   (int[]){x, v->buffer, scale, shift, mean, variance, center, moment, constants},
                   e))
        return -1;
    Step *s = emit_kernel(c, "statistics", run_statistics, 4,
                          (int[]){mean, variance, running_mean, running_var}, e);
    if (!s) return -1;
    s->number = l->momentum;
    s->size[0] = l->C, s->size[1] = count;
    return 0;
}

/* Where the statistics are those of a batch of which this one is a part: oneDNN sums over this one
 * alone. */
static int batchnorm_shared_back(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    Sink sink;
    int64_t B = layout_block(&v->layout), channels = (l->C + B - 1) / B * B;
    size_t doubles = (size_t)channels * sizeof(double);
    int dscale = param_gradient(c, l->param[0], e), dshift = param_gradient(c, l->param[1], e);
    int part = buffer_new(c, 2 * (size_t)c->request->N * doubles, e),
        center = buffer_new(c, doubles, e), sums = buffer_new(c, 2 * doubles, e),
        factor = buffer_new(c, doubles, e), x = v->saved[3];
    if (dscale < 0 || dshift < 0 || part < 0 || center < 0 || sums < 0 || factor < 0 ||
        !emit_norm(
            c, l, &v->layout, "batch norm back", run_norm_products, 9,
            (int[]){x, v->gradient, v->saved[0], v->saved[1], part, center, sums, dscale, dshift},
            e) ||
        emit_sum(c, sums, 2 * channels, e))
        return -1;
    if (!c->values[n->input[0]].wanted) return 0;
    if (sink_open(c, n->input[0], &v->layout, false, &sink, e) ||
        !emit_norm(
            c, l, &v->layout, "batch norm back", run_norm_back, 8,
            (int[]){x, v->gradient, sink.buffer, v->saved[1], v->saved[2], center, sums, factor},
            e))
        return -1;
    return sink_close(c, &sink, e);
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
    Arg args[9] = {{DNNL_ARG_SRC, v->saved[3]},   {DNNL_ARG_DIFF_DST, v->gradient},
                   {DNNL_ARG_MEAN, v->saved[0]},  {DNNL_ARG_VARIANCE, v->saved[1]},
                   {DNNL_ARG_SCALE, v->saved[2]}, {DNNL_ARG_DIFF_SRC, sink.buffer},
                   {DNNL_ARG_DIFF_SCALE, dscale}, {DNNL_ARG_DIFF_SHIFT, dshift},
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
    if (c->request->purpose != PLAN_TRAINING) return affine_backward(c, n, v, e);
    return (c->request->group ? batchnorm_shared_back : batchnorm_train_back)(c, n, v, e);
}

const Lowering cpu_lower_batchnorm = {batchnorm_forward, batchnorm_backward};
