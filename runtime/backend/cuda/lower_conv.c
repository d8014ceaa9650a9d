/* Convolutions: by cuDNN, except depthwise ones, which use the project's kernels. Weights are
 * [K,R,S,C], depthwise [R,S,C]. They are copies, made once, or in training at every forward. cuDNN
 * pads both sides equally; for other padding, a separate step pads the input. */
#include "base/memory.h"
#include "backend/cuda/conv.h"

/* The forward convolution of an op that is a convolution or a gradient of one. A transposed
 * convolution counts as the gradient of the convolution from its output to its input. */
static Op forward_of(const Compiler *c, const Op *op) {
    Op f = op->backward ? *twin_of(c, op) : *op;
    if (f.kind != OP_CONV_DATA) return f;
    int out = f.in[0];
    f.kind = OP_CONV;
    f.in[0] = f.out[0];
    f.out[0] = out;
    return f;
}

static int64_t outputs_of(const Compiler *c, const Op *f) {
    return value_of(c, f->out[0])->C;
}

static int64_t inputs_of(const Compiler *c, const Op *f) {
    return value_of(c, f->in[0])->C;
}

static bool is_depthwise(const Compiler *c, const Op *f) {
    return f->dilation[0] == 1 && f->dilation[1] == 1 && f->groups > 1 &&
           f->groups == outputs_of(c, f) && f->groups == inputs_of(c, f);
}

static Window window_of(const Compiler *c, const Op *f) {
    const Value *x = value_of(c, f->in[0]), *y = value_of(c, f->out[0]);
    return (Window){.N = c->request->N,
                    .C = x->C,
                    .H = x->H,
                    .W = x->W,
                    .OH = y->H,
                    .OW = y->W,
                    .kernel = {f->kernel[0], f->kernel[1]},
                    .stride = {f->stride[0], f->stride[1]},
                    .pad = {f->pad[0], f->pad[1]}};
}

static bool is_lopsided(const Op *f) {
    return f->pad[0] != f->pad[2] || f->pad[1] != f->pad[3];
}

/* The window from the input to the padded input. */
static Window padding_of(const Compiler *c, const Op *f) {
    Window w = window_of(c, f);
    w.OH = w.H + f->pad[0] + f->pad[2];
    w.OW = w.W + f->pad[1] + f->pad[3];
    return w;
}

/* The shape for cuDNN: the layer, or the layer without padding on the padded input. */
static ConvShape shape_of(const Compiler *c, const Op *f) {
    ConvShape s = {window_of(c, f), outputs_of(c, f), f->groups, {f->dilation[0], f->dilation[1]}};
    if (!is_lopsided(f)) return s;
    Window padded = padding_of(c, f);
    s.window.H = padded.OH, s.window.W = padded.OW;
    s.window.pad[0] = s.window.pad[1] = 0;
    return s;
}

static int64_t input_count(const ConvShape *s) {
    return s->window.N * s->window.C * s->window.H * s->window.W;
}

/* --- weights --- */

/* Rows of [C,P] to rows of [P,C]. */
static void channels_last(const float *from, float *to, int64_t rows, int64_t C, int64_t P) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < P; i++) to[(r * P + i) * C + c] = from[(r * C + c) * P + i];
}

/* A weight as rows of [C,P], for channels_last. */
typedef struct WeightRows {
    int64_t rows, C, P;
} WeightRows;

static WeightRows weight_rows(const Compiler *c, const Op *f) {
    int64_t K = outputs_of(c, f), P = f->kernel[0] * f->kernel[1];
    return is_depthwise(c, f) ? (WeightRows){1, K, P}
                              : (WeightRows){K, inputs_of(c, f) / f->groups, P};
}

static int kept_weights(Compiler *c, const Op *op, CudaNote *note, int *bias, Error *e) {
    WeightRows w = weight_rows(c, op);
    Real forward = forward_real(c), backward = backward_real(c);
    size_t count = (size_t)(w.rows * w.C * w.P), K = (size_t)outputs_of(c, op);
    float *host = memory_take((2 * count + K) * sizeof *host, "weights", e);
    if (!host) return -1;
    float *host_bias = host + count, *ordered = host_bias + K;
    int failed = !c->dry && c->program->weights(c->program, op, host, host_bias, e);
    if (!failed) {
        if (!c->dry) channels_last(host, ordered, w.rows, w.C, w.P);
        note->weights = note->back = buffer_weights(c, ordered, count, forward, e);
        if (c->request->purpose == PLAN_GRADIENT && backward != forward && note->weights >= 0)
            note->back = buffer_weights(c, ordered, count, backward, e);
        *bias = buffer_weights(c, host_bias, K, REAL_F32, e);
        failed = note->weights < 0 || note->back < 0 || *bias < 0;
    }
    memory_free(host);
    return failed;
}

static int live_weights(Compiler *c, const Op *op, CudaNote *note, int *bias, Error *e) {
    WeightRows w = weight_rows(c, op);
    int own = buffer_param(c, op->param[0], e);
    if (own < 0) return -1;
    note->weights = own;
    if (w.P > 1) {
        note->weights =
            buffer_new(c, (size_t)c->program->params[op->param[0]].count * sizeof(float), e);
        if (note->weights < 0 ||
            emit_from_planes(c, "weights", REAL_F32, own, note->weights, w.rows, w.C, w.P, e))
            return -1;
    }
    note->back = note->weights;
    *bias = op->param[1] < 0 ? NO_BUFFER : buffer_param(c, op->param[1], e);
    return op->param[1] >= 0 && *bias < 0;
}

/* --- windows: padding, depthwise --- */

typedef struct WindowJob {
    Real real;
    Window window;
    bool sum;
} WindowJob;

/* at: x, y. */
static int run_pad(Plan *p, const Step *s, Error *e) {
    const WindowJob *job = s->job;
    return step_done(p, s, kernel_pad(stream_of(p), job->real, s->at[0], s->at[1], job->window), e);
}

/* at: y, x. */
static int run_crop(Plan *p, const Step *s, Error *e) {
    const WindowJob *job = s->job;
    return step_done(
        p, s, kernel_crop(stream_of(p), job->real, s->at[0], s->at[1], job->window, job->sum), e);
}

/* at: x, weights, y. */
static int run_depthwise(Plan *p, const Step *s, Error *e) {
    const WindowJob *job = s->job;
    return step_done(
        p, s, kernel_depthwise(stream_of(p), job->real, s->at[0], s->at[1], s->at[2], job->window),
        e);
}

/* at: dy, weights, dx. */
static int run_depthwise_data(Plan *p, const Step *s, Error *e) {
    const WindowJob *job = s->job;
    return step_done(p, s,
                     kernel_depthwise_data(stream_of(p), job->real, s->at[0], s->at[1], s->at[2],
                                           job->window, job->sum),
                     e);
}

/* at: dy, x, dw. */
static int run_depthwise_weights(Plan *p, const Step *s, Error *e) {
    const WindowJob *job = s->job;
    return step_done(
        p, s, kernel_depthwise_weights(stream_of(p), s->at[1], s->at[0], s->at[2], job->window), e);
}

static int emit_window(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
                       const WindowJob *job, int n, const int *buffers, Error *e) {
    return step_new(c, what, run, n, buffers, job, sizeof *job, e) ? 0 : -1;
}

/* cuDNN needs tensors aligned to 16 bytes, and the caller's may not be. If a convolution is the
 * last layer, its gradient of the logits is copied. */
static int aligned_gradient(Compiler *c, int value, Error *e) {
    int g = c->buffer[value];
    if (g != c->buffer[VALUE_DZ]) return g;
    int made = buffer_of(c, value, REAL_F32, e);
    return made < 0 || emit_convert(c, REAL_F32, g, REAL_F32, made, value_elements(c, value), e)
               ? -1
               : made;
}

/* The first operand of op, padded as convolution f needs it. */
static int padded_input(Compiler *c, const Op *op, const Op *f, const ConvShape *shape, Error *e) {
    int x = value_of(c, op->in[0])->gradient_of == NO_VALUE ? value_read(c, op->in[0], e)
                                                            : aligned_gradient(c, op->in[0], e);
    if (x < 0 || !is_lopsided(f)) return x;
    WindowJob job = {.real = op_real(c, op), .window = padding_of(c, f)};
    int padded = buffer_new(c, (size_t)input_count(shape) * real_bytes(job.real), e);
    return padded < 0 || emit_window(c, "pad", run_pad, &job, 2, (int[]){x, padded}, e) ? -1
                                                                                        : padded;
}

/* --- forward --- */

/* f is op. If op is the gradient of a transposed convolution, f is the same convolution. */
static int depthwise_forward(Compiler *c, const Op *op, const Op *f, int weights, int bias,
                             Error *e) {
    WindowJob job = {.real = op_real(c, op), .window = window_of(c, f)};
    int x = value_read(c, op->in[0], e), y = buffer_of(c, op->out[0], job.real, e);
    if (!op->backward) note_of(c, c->op)->source = x;
    if (x < 0 || y < 0 ||
        emit_window(c, "depthwise", run_depthwise, &job, 3, (int[]){x, weights, y}, e))
        return -1;
    return deliver(c, op, y, bias, false, e);
}

int cuda_lower_conv(Compiler *c, const Op *op, Error *e) {
    bool training = c->request->purpose == PLAN_TRAINING, sum;
    const Op f = forward_of(c, op);
    CudaNote *note = note_of(c, op->backward ? op->twin : c->op);
    int bias = NO_BUFFER;
    if (!op->backward && (training ? live_weights : kept_weights)(c, op, note, &bias, e)) return -1;
    int weights = op->backward ? note->back : note->weights;
    if (is_depthwise(c, &f)) return depthwise_forward(c, op, &f, weights, bias, e);
    ConvShape shape = shape_of(c, &f);
    ConvCall *call;
    int x = padded_input(c, op, &f, &shape, e), y = result_buffer(c, op, &sum, e);
    if (!op->backward) note->source = x;
    if (x < 0 || y < 0 || conv_new(c, &shape, CONV_FORWARD, op_real(c, op), &call, e)) return -1;
    call->sum = sum;
    if (conv_step(c, op->backward ? "conv back" : "conv", conv_run_forward, call, x, weights, y, e))
        return -1;
    return deliver(c, op, y, bias, true, e);
}

/* --- backward --- */

static int depthwise_data(Compiler *c, const Op *op, const Op *f, int dy, int weights, Error *e) {
    WindowJob job = {.real = op_real(c, op), .window = window_of(c, f)};
    int dx = result_buffer(c, op, &job.sum, e);
    if (dx < 0 ||
        emit_window(c, "depthwise back", run_depthwise_data, &job, 3, (int[]){dy, weights, dx}, e))
        return -1;
    return deliver(c, op, dx, NO_BUFFER, true, e);
}

/* The weights of the convolution. For a transposed convolution, makes them. */
static int data_weights(Compiler *c, const Op *op, const Op *f, Error *e) {
    bool training = c->request->purpose == PLAN_TRAINING;
    CudaNote *note = note_of(c, op->backward ? op->twin : c->op);
    int bias;
    if (op->backward) return note->back;
    return (training ? live_weights : kept_weights)(c, f, note, &bias, e) ? -1 : note->weights;
}

int cuda_lower_conv_data(Compiler *c, const Op *op, Error *e) {
    const Op f = forward_of(c, op);
    ConvShape shape = shape_of(c, &f);
    WindowJob crop = {.real = op_real(c, op), .window = padding_of(c, &f)};
    bool lopsided = is_lopsided(&f);
    ConvCall *call;
    int weights = data_weights(c, op, &f, e);
    int dy = op->backward ? aligned_gradient(c, op->in[0], e) : value_read(c, op->in[0], e);
    if (weights < 0 || dy < 0) return -1;
    if (is_depthwise(c, &f)) return depthwise_data(c, op, &f, dy, weights, e);
    int dx = result_buffer(c, op, &crop.sum, e), made = dx;
    if (lopsided) made = buffer_new(c, (size_t)input_count(&shape) * real_bytes(crop.real), e);
    if (dx < 0 || made < 0 || conv_new(c, &shape, CONV_DATA, crop.real, &call, e)) return -1;
    call->sum = crop.sum && !lopsided;
    if (conv_step(c, op->backward ? "conv back" : "conv", conv_run_data, call, dy, weights, made,
                  e) ||
        (lopsided && emit_window(c, "crop", run_crop, &crop, 2, (int[]){made, dx}, e)))
        return -1;
    return deliver(c, op, dx, NO_BUFFER, true, e);
}

/* The input of the convolution, which it has kept. For a transposed convolution: the gradient. */
static int weights_source(Compiler *c, const Op *op, const Op *f, const ConvShape *shape,
                          Error *e) {
    if (twin_of(c, op)->kind == OP_CONV) return note_of(c, op->twin)->source;
    return is_depthwise(c, f) ? c->buffer[op->in[0]] : padded_input(c, op, f, shape, e);
}

int cuda_lower_conv_weights(Compiler *c, const Op *op, Error *e) {
    const Op f = forward_of(c, op);
    const Value *y = value_of(c, f.out[0]);
    WeightRows w = weight_rows(c, &f);
    WindowJob job = {.real = REAL_F32, .window = window_of(c, &f)};
    ConvShape shape = shape_of(c, &f);
    ConvCall *call;
    size_t bytes = (size_t)c->program->params[op->param[0]].count * sizeof(float);
    int x = weights_source(c, op, &f, &shape, e), dy = value_read(c, op->in[1], e);
    if (dy >= 0 && dy == c->buffer[VALUE_DZ]) dy = aligned_gradient(c, op->in[1], e);
    int into = buffer_param_gradient(c, op->param[0], e);
    int made = w.P == 1 ? into : buffer_new(c, bytes, e);
    if (x < 0 || dy < 0 || into < 0 || made < 0) return -1;
    if (is_depthwise(c, &f)) {
        if (emit_window(c, "depthwise weights", run_depthwise_weights, &job, 3,
                        (int[]){dy, x, made}, e))
            return -1;
    } else if (conv_new(c, &shape, CONV_WEIGHTS, REAL_F32, &call, e) ||
               conv_step(c, "conv weights", conv_run_weights, call, dy, x, made, e))
        return -1;
    if (w.P > 1 &&
        emit_to_planes(c, "weights", REAL_F32, made, NO_BUFFER, into, w.rows, w.C, w.P, e))
        return -1;
    if (op->param[1] < 0) return 0;
    return emit_bias_gradient(c, op->param[1], dy, c->request->N * y->H * y->W, y->C, e);
}
