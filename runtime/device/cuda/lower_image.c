/* The image's own layers and batch norm: input, (x - mean) / std, batch norm. */
#include "base/memory.h"
#include "device/cuda/plan.h"

/* --- input --- */

static int input_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    (void)n, (void)e;
    v->buffer = BUFFER_X;
    v->planes = true;
    v->wanted = c->request->purpose == PLAN_GRADIENT;
    return 0;
}

static int run_to_planes(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_to_planes(p->device->stream, s->real, step_at(p, s, 0),
                                      step_at(p, s, 2), step_at(p, s, 1), s->N, s->C, s->P, s->sum),
                     e);
}

/* The image's gradient as the caller wants it, times scale[c] where there is one. */
static int emit_image_gradient(Compiler *c, const Layer *l, int from, int scale, Error *e) {
    Step *s = emit(c, "image", run_to_planes, 3, (int[]){from, BUFFER_DX, scale}, e);
    if (!s) return -1;
    s->real = c->backward;
    s->N = c->request->N, s->C = l->C, s->P = l->H * l->W;
    return 0;
}

static int input_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return emit_image_gradient(c, n->layer, v->gradient, NO_BUFFER, e);
}

const Lowering cuda_lower_input = {input_forward, input_backward};

/* --- normalisation --- */

static int run_normalize(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_from_planes(p->device->stream, step_at(p, s, 0), step_at(p, s, 2),
                                        step_at(p, s, 3), s->real, step_at(p, s, 1), s->N, s->C,
                                        s->P),
                     e);
}

/* From planes, as images are; from channels-last, where every row of channels is an image of one
 * pixel, only of f32: the kernel reads f32. */
static int normalize_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    const Value *x = &c->values[n->input[0]];
    int64_t count = value_count(c, c->node), P = x->planes ? l->H * l->W : 1;
    int from = x->buffer;
    if (!x->planes && c->forward != REAL_F32) {
        from = buffer_new(c, (size_t)count * sizeof(float), e);
        if (from < 0 || emit_convert(c, c->forward, x->buffer, REAL_F32, from, count, e)) return -1;
    }
    size_t bytes = (size_t)l->C * sizeof(double);
    int means = buffer_filled(c, l->mean, bytes, "normalisation", e);
    int stds = means < 0 ? -1 : buffer_filled(c, l->std, bytes, "normalisation", e);
    v->buffer = buffer_new(c, (size_t)count * real_bytes(c->forward), e);
    if (stds < 0 || v->buffer < 0) return -1;
    Step *s = emit(c, "normalize", run_normalize, 4, (int[]){from, v->buffer, means, stds}, e);
    if (!s) return -1;
    s->real = c->forward;
    s->N = count / l->C / P, s->C = l->C, s->P = P;
    return 0;
}

static int run_affine(CudaPlan *p, const Step *s, Error *e) {
    return step_done(p, s,
                     kernel_affine(p->device->stream, s->real, step_at(p, s, 0), step_at(p, s, 2),
                                   step_at(p, s, 3), step_at(p, s, 1), s->n, s->C, s->sum),
                     e);
}

static int emit_affine(Compiler *c, const char *what, Real real, int in, int out, int scale,
                       int shift, bool sum, Error *e) {
    Step *s = emit(c, what, run_affine, 4, (int[]){in, out, scale, shift}, e);
    if (!s) return -1;
    s->real = real;
    s->n = value_count(c, c->node);
    s->C = c->program->nodes[c->node].layer->C;
    s->sum = sum;
    return 0;
}

static int scale_gradient(Compiler *c, const Node *n, const Value *v, int scale, Error *e) {
    int into;
    bool sum;
    if (sink(c, n->input[0], &into, &sum, e)) return -1;
    return emit_affine(c, "scale", c->backward, v->gradient, into, scale, NO_BUFFER, sum, e);
}

static int normalize_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    if (!c->values[n->input[0]].wanted) return 0;
    float *scale = memory_take((size_t)l->C * sizeof *scale, "normalisation", e);
    if (!scale) return -1;
    for (int64_t i = 0; i < l->C; i++) scale[i] = (float)(1 / l->std[i]);
    int scales = buffer_filled(c, scale, (size_t)l->C * sizeof *scale, "normalisation", e);
    memory_free(scale);
    if (scales < 0) return -1;
    /* straight to the image where nothing else reads it */
    if (n->input[0] == 0 && c->program->nodes[0].readers == 1)
        return emit_image_gradient(c, l, v->gradient, scales, e);
    return scale_gradient(c, n, v, scales, e);
}

const Lowering cuda_lower_normalize = {normalize_forward, normalize_backward};

/* --- batch norm at inference, where no convolution took it in --- */

static int affine_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    size_t C = (size_t)n->layer->C;
    int from = value_of(c, n->input[0], e);
    v->buffer = buffer_new(c, (size_t)value_count(c, c->node) * real_bytes(c->forward), e);
    float *map = memory_take(2 * C * sizeof *map, "batch norm", e);
    if (!map) return -1;
    int failed = from < 0 || v->buffer < 0 || node_affine(c->program, n, map, map + C, e);
    int scale = failed ? -1 : buffer_filled(c, map, C * sizeof *map, "batch norm", e);
    int shift = scale < 0 ? -1 : buffer_filled(c, map + C, C * sizeof *map, "batch norm", e);
    memory_free(map);
    v->saved[0] = scale;
    if (shift < 0 || emit_affine(c, "affine", c->forward, from, v->buffer, scale, shift, false, e))
        return -1;
    return emit_epilogue(c, n, v, NO_BUFFER, e);
}

/* --- batch norm in training, which is of f32 --- */

/* x [n] of every process that shares the batch becomes their sum. */
static int sum_over_ranks(CudaPlan *p, double *x, int64_t n, Error *e) {
    Group *g = p->base.request.group;
    return g ? g->sum_double(g, x, n, e) : 0;
}

/* at: x, y, scale, shift, mean, variance, running mean and variance, work. */
static int run_batchnorm(CudaPlan *p, const Step *s, Error *e) {
    cudaStream_t stream = p->device->stream;
    const float *x = step_at(p, s, 0);
    double *work = step_at(p, s, 8);
    BatchNorm b = s->norm;
    b.scale = step_at(p, s, 2), b.shift = step_at(p, s, 3);
    b.mean = step_at(p, s, 4), b.variance = step_at(p, s, 5);
    b.running_mean = step_at(p, s, 6), b.running_var = step_at(p, s, 7);
    if (step_done(p, s, kernel_norm_mean(stream, x, work, b), e) ||
        sum_over_ranks(p, b.mean, b.C, e) ||
        step_done(p, s, kernel_norm_variance(stream, x, work, b), e) ||
        sum_over_ranks(p, b.variance, b.C, e))
        return -1;
    return step_done(p, s, kernel_norm_apply(stream, x, step_at(p, s, 1), b), e);
}

/* at: x, dy, scale, mean, variance, dx, dscale, dshift, work and behind it sums [2,C]. */
static int run_batchnorm_back(CudaPlan *p, const Step *s, Error *e) {
    cudaStream_t stream = p->device->stream;
    const float *x = step_at(p, s, 0), *dy = step_at(p, s, 1);
    float *dx = step_at(p, s, 5);
    double *work = step_at(p, s, 8), *sum = work + kernel_rows_work(s->norm.C);
    BatchNorm b = s->norm;
    b.scale = step_at(p, s, 2), b.mean = step_at(p, s, 3), b.variance = step_at(p, s, 4);
    if (step_done(
            p, s,
            kernel_norm_products(stream, x, dy, step_at(p, s, 6), step_at(p, s, 7), sum, work, b),
            e) ||
        sum_over_ranks(p, sum, 2 * b.C, e))
        return -1;
    return dx ? step_done(p, s, kernel_norm_back(stream, x, dy, dx, sum, b, s->sum), e) : 0;
}

static BatchNorm norm_of(const Compiler *c, const Layer *l) {
    const PlanRequest *r = c->request;
    int64_t pixels = l->H * l->W;
    return (BatchNorm){.rows = r->N * pixels,
                       .C = l->C,
                       .count = (r->group ? r->whole : r->N) * pixels,
                       .eps = l->eps,
                       .momentum = l->momentum};
}

static int batchnorm_train(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    BatchNorm b = norm_of(c, l);
    if (b.count < 2)
        return error_set(e, "batch norm in training needs more than one value per channel");
    size_t doubles = (size_t)l->C * sizeof(double);
    int params[4];
    for (int i = 0; i < 4; i++)
        if ((params[i] = param_value(c, l->param[i], e)) < 0) return -1;
    int x = value_of(c, n->input[0], e);
    v->buffer = buffer_new(c, (size_t)(b.rows * l->C) * sizeof(float), e);
    int mean = v->saved[0] = buffer_new(c, doubles, e);
    int variance = v->saved[1] = buffer_new(c, doubles, e);
    int work = buffer_new(c, (size_t)kernel_rows_work(l->C) * sizeof(double), e);
    v->saved[2] = params[0];
    if (x < 0 || v->buffer < 0 || mean < 0 || variance < 0 || work < 0) return -1;
    Step *s = emit(c, "batch norm", run_batchnorm, STEP_BUFFERS,
                   (int[STEP_BUFFERS]){x, v->buffer, params[0], params[1], mean, variance,
                                       params[2], params[3], work},
                   e);
    if (!s) return -1;
    s->norm = b;
    return 0;
}

static int batchnorm_train_back(Compiler *c, const Node *n, Value *v, Error *e) {
    const Layer *l = n->layer;
    int x = c->values[n->input[0]].buffer, into = NO_BUFFER;
    bool sum = false;
    int dscale = param_gradient(c, l->param[0], e);
    int dshift = dscale < 0 ? -1 : param_gradient(c, l->param[1], e);
    int work = buffer_new(c, (size_t)(kernel_rows_work(l->C) + 2 * l->C) * sizeof(double), e);
    if (dshift < 0 || work < 0 ||
        (c->values[n->input[0]].wanted && sink(c, n->input[0], &into, &sum, e)))
        return -1;
    Step *s = emit(c, "batch norm back", run_batchnorm_back, STEP_BUFFERS,
                   (int[STEP_BUFFERS]){x, v->gradient, v->saved[2], v->saved[0], v->saved[1], into,
                                       dscale, dshift, work},
                   e);
    if (!s) return -1;
    s->norm = norm_of(c, l);
    s->sum = sum;
    return 0;
}

static int batchnorm_forward(Compiler *c, const Node *n, Value *v, Error *e) {
    return c->request->purpose == PLAN_TRAINING ? batchnorm_train(c, n, v, e)
                                                : affine_forward(c, n, v, e);
}

static int batchnorm_backward(Compiler *c, const Node *n, Value *v, Error *e) {
    return c->request->purpose == PLAN_TRAINING ? batchnorm_train_back(c, n, v, e)
                                                : scale_gradient(c, n, v, v->saved[0], e);
}

const Lowering cuda_lower_batchnorm = {batchnorm_forward, batchnorm_backward};
