/* Emits the steps of a CPU plan: primitives, reorders, and work that is fused into ops. */
#include "backend/cpu/lower.h"

#include <string.h>

#include "base/memory.h"

dnnl_engine_t cpu_engine(void) {
    static dnnl_engine_t engine;
    if (!engine && dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) engine = NULL;
    return engine;
}

dnnl_stream_t cpu_stream(void) {
    static dnnl_stream_t stream;
    if (!stream &&
        dnnl_stream_create(&stream, cpu_engine(), dnnl_stream_default_flags) != dnnl_success)
        stream = NULL;
    return stream;
}

/* --- layouts --- */

int cpu_block(const Compiler *c) {
    return cpu_of(c)->isa == CPU_AVX512 ? 16 : 8;
}

Layout plain_layout(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    return layout_plain(c->request->N, v->C, v->H, v->W);
}

Layout blocked_layout(const Compiler *c, int64_t C, int64_t H, int64_t W) {
    return layout_blocked(cpu_block(c), c->request->N, C, H, W);
}

int64_t shape_elements(const Shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->ndim; i++) n *= s->dim[i];
    return n;
}

Layout channels_layout(const Compiler *c, int value) {
    const Value *v = value_of(c, value);
    const Layout *own = layout_of(c, value);
    return layout_block(own) ? *own : blocked_layout(c, v->C, v->H, v->W);
}

int64_t layout_elements(const Layout *l) {
    return (int64_t)(layout_bytes(l) / sizeof(float));
}

int64_t layout_elements_of_bits(const Layout *l) {
    return (layout_elements(l) + 7) / 8 * 8;
}

/* --- primitives --- */

typedef struct PrimitiveJob {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[STEP_BUFFERS];
    int n;
} PrimitiveJob;

static int run_primitive(Plan *p, const Step *s, Error *e) {
    const PrimitiveJob *job = s->job;
    (void)p;
    if (onednn_check(dnnl_primitive_execute(job->primitive, cpu_stream(), job->n, job->args),
                     s->what, e))
        return -1;
    return onednn_check(dnnl_stream_wait(cpu_stream()), "wait", e);
}

static int move_primitive(Step *s, int slot, Error *e) {
    PrimitiveJob *job = s->job;
    return onednn_check(dnnl_memory_set_data_handle(job->args[slot].memory, s->at[slot]), s->what,
                        e);
}

static void free_job(PrimitiveJob *job) {
    for (int i = 0; i < job->n; i++) dnnl_memory_destroy(job->args[i].memory);
    if (job->primitive) dnnl_primitive_destroy(job->primitive);
}

static void drop_primitive(Step *s) {
    free_job(s->job);
}

static int add_arg(PrimitiveJob *job, const char *what, dnnl_primitive_desc_t pd, int arg,
                   Error *e) {
    Layout l = descriptor_layout(pd, arg);
    if (layout_bytes(&l) == 0) return 0;
    job->args[job->n].arg = arg;
    if (onednn_check(onednn_memory(&job->args[job->n].memory, &l, cpu_engine(), DNNL_MEMORY_NONE),
                     what, e))
        return -1;
    job->n++;
    return 0;
}

int emit_primitive(Compiler *c, const char *what, dnnl_primitive_desc_t pd, int n, const Arg *args,
                   Error *e) {
    Layout scratch = descriptor_layout(pd, DNNL_ARG_SCRATCHPAD);
    PrimitiveJob job = {0};
    int buffers[STEP_BUFFERS], failed = 0;
    if (onednn_check(dnnl_primitive_create(&job.primitive, pd), what, e)) return -1;
    for (int i = 0; i < n && !failed; i++) {
        buffers[job.n] = args[i].buffer;
        failed = add_arg(&job, what, pd, args[i].arg, e);
    }
    if (!failed && layout_bytes(&scratch) > 0) {
        int scratchpad = buffers[job.n] = buffer_new(c, layout_bytes(&scratch), e);
        failed = scratchpad < 0 || add_arg(&job, what, pd, DNNL_ARG_SCRATCHPAD, e);
    }
    Step *s = failed ? NULL : step_new(c, what, run_primitive, job.n, buffers, &job, sizeof job, e);
    if (!s) {
        free_job(&job);
        return -1;
    }
    s->moved = move_primitive;
    s->drop = drop_primitive;
    return 0;
}

static bool is_batch(int arg) {
    return arg == DNNL_ARG_SRC || arg == DNNL_ARG_DST || arg == DNNL_ARG_DIFF_SRC ||
           arg == DNNL_ARG_DIFF_DST;
}

static int emit_images(Compiler *c, const char *name, dnnl_primitive_desc_t one, int n,
                       const Arg *args, Error *e) {
    for (int64_t image = 0; image < c->request->N; image++) {
        Arg views[STEP_BUFFERS];
        for (int i = 0; i < n; i++) {
            Layout l = descriptor_layout(one, args[i].arg);
            views[i] = args[i];
            if (!is_batch(args[i].arg)) continue;
            size_t bytes = layout_bytes(&l);
            views[i].buffer = buffer_view(c, args[i].buffer, (size_t)image * bytes, bytes, e);
            if (views[i].buffer < 0) return -1;
        }
        if (emit_primitive(c, name, one, n, views, e)) return -1;
    }
    return 0;
}

int emit_convolution(Compiler *c, const char *name, dnnl_primitive_desc_t pd, const ConvShape *s,
                     ConvWhat what, const PostOps *post, int n, const Arg *args, Error *e) {
    bool data = what == CONV_DATA;
    if (c->request->N == 1 || what == CONV_TRAIN || !descriptor_cuts_images(pd))
        return emit_primitive(c, name, pd, n, args, e);
    ConvShape image = *s;
    Layout src = descriptor_layout(pd, data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC);
    Layout dst = descriptor_layout(pd, data ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST);
    image.src = layout_of_image(&src);
    image.dst = layout_of_image(&dst);
    image.weights = descriptor_layout(pd, DNNL_ARG_WEIGHTS);
    dnnl_primitive_desc_t one;
    if (conv_descriptor(cpu_engine(), &image, what, post, NULL, true, &one, e)) return -1;
    if (!one) return error_set(e, "oneDNN has no convolution of this shape for one image");
    int status = emit_images(c, name, one, n, args, e);
    dnnl_primitive_desc_destroy(one);
    return status;
}

/* A flat layout [N,C] as [N,C,1,1] of the same bytes, so that both can be reordered. */
static Layout as_grid(const Layout *l) {
    return l->ndims == 2 ? layout_plain(l->dims[0], l->dims[1], 1, 1) : *l;
}

int emit_reorder(Compiler *c, const Layout *from, int in, const Layout *to, int out, Error *e) {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_attr_t attr;
    Layout a = as_grid(from), b = as_grid(to);
    if (onednn_check(dnnl_primitive_attr_create(&attr), "attributes", e)) return -1;
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    dnnl_status_t made = onednn_reorder(&pd, &a, &b, cpu_engine(), attr);
    dnnl_primitive_attr_destroy(attr);
    if (onednn_check(made, "reorder", e)) return -1;
    int status =
        emit_primitive(c, "reorder", pd, 2, (Arg[]){{DNNL_ARG_FROM, in}, {DNNL_ARG_TO, out}}, e);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* --- elementwise steps over whole layouts --- */

typedef struct CapJob {
    int64_t n;
    float cap;
} CapJob;

/* at: x, y. */
static int run_relu(Plan *p, const Step *s, Error *e) {
    const CapJob *job = s->job;
    (void)e;
    kernels_of(p)->relu(s->at[0], job->cap, s->at[1], job->n);
    return 0;
}

/* at: x, y, bits. */
static int run_relu_save(Plan *p, const Step *s, Error *e) {
    const CapJob *job = s->job;
    (void)e;
    kernels_of(p)->relu_save(s->at[0], job->cap, s->at[1], s->at[2], job->n);
    return 0;
}

static int run_open(Plan *p, const Step *s, Error *e) {
    const CapJob *job = s->job;
    (void)e;
    kernels_of(p)->relu_mask(s->at[0], job->cap, s->at[1], job->n);
    return 0;
}

static int run_mask(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->apply_mask(s->at[0], s->at[1], *(const int64_t *)s->job);
    return 0;
}

static int run_add(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->add(s->at[1], s->at[0], *(const int64_t *)s->job);
    return 0;
}

static int run_copy(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->binary_scalar(BINARY_ADD, s->at[0], 0.0F, s->at[1], *(const int64_t *)s->job);
    return 0;
}

/* Bits need whole bytes, and the caller's memory ends with its elements. */
int emit_relu(Compiler *c, const Op *op, const Layout *l, int in, int out, Done *done, Error *e) {
    CapJob job = {layout_elements(l), (float)op->cap};
    done->activated = true;
    if (op->open == NO_VALUE || in < VALUES_OUTSIDE || out < VALUES_OUTSIDE)
        return step_new(c, "relu", run_relu, 2, (int[]){in, out}, &job, sizeof job, e) ? 0 : -1;
    int bits = place_open(c, op, l, e);
    job.n = layout_elements_of_bits(l);
    done->opened = true;
    if (bits < 0) return -1;
    return step_new(c, "relu", run_relu_save, 3, (int[]){in, out, bits}, &job, sizeof job, e) ? 0
                                                                                              : -1;
}

static int emit_pair(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
                     int64_t n, int in, int out, Error *e) {
    return step_new(c, what, run, 2, (int[]){in, out}, &n, sizeof n, e) ? 0 : -1;
}

int emit_add(Compiler *c, const Layout *l, int in, int out, Error *e) {
    return emit_pair(c, "add", run_add, layout_elements(l), in, out, e);
}

int emit_copy(Compiler *c, const Layout *l, int in, int out, Error *e) {
    return emit_pair(c, "copy", run_copy, layout_elements(l), in, out, e);
}

/* --- values --- */

int buffer_of(Compiler *c, const Layout *layout, Error *e) {
    return buffer_new(c, layout_bytes(layout), e);
}

int value_as(Compiler *c, int value, const Layout *layout, Error *e) {
    const Layout *own = layout_of(c, value);
    Layout here = as_grid(own), wanted = as_grid(layout);
    if (layout_same(&here, &wanted)) return c->buffer[value];
    int copy = buffer_of(c, layout, e);
    return copy < 0 || emit_reorder(c, own, c->buffer[value], layout, copy, e) ? -1 : copy;
}

int value_to_overwrite(Compiler *c, int value, const Layout *layout, Error *e) {
    int in = value_as(c, value, layout, e);
    if (in < 0 || in != c->buffer[value] || value_dies(c, value)) return in;
    int copy = buffer_of(c, layout, e);
    return copy < 0 || emit_copy(c, layout, in, copy, e) ? -1 : copy;
}

int place_open(Compiler *c, const Op *op, const Layout *layout, Error *e) {
    int bits = buffer_new(c, (size_t)layout_elements_of_bits(layout) / 8, e);
    if (bits >= 0) value_place(c, op->open, bits);
    return bits;
}

static int emit_open(Compiler *c, const Op *op, const Layout *layout, int buffer, Error *e) {
    int bits = place_open(c, op, layout, e);
    CapJob job = {layout_elements_of_bits(layout), (float)op->cap};
    if (bits < 0) return -1;
    return step_new(c, "mask", run_open, 2, (int[]){buffer, bits}, &job, sizeof job, e) ? 0 : -1;
}

int deliver(Compiler *c, const Op *op, const Layout *layout, int buffer, Done done, Error *e) {
    int of = value_of(c, op->out[0])->gradient_of;
    Layout *own = layout_of(c, op->out[0]);
    *own = of == NO_VALUE ? *layout : *layout_of(c, of);
    if (!layout_same(own, layout)) {
        int made = buffer_of(c, own, e);
        if (made < 0 || emit_reorder(c, layout, buffer, own, made, e)) return -1;
        buffer = made;
    }
    if (op->add != NO_VALUE && !done.added) {
        int other = value_as(c, op->add, own, e);
        if (other < 0 || emit_add(c, own, other, buffer, e)) return -1;
    }
    if (op->relu && !done.activated && emit_relu(c, op, own, buffer, buffer, &done, e)) return -1;
    if (op->mask != NO_VALUE && !done.masked &&
        emit_pair(c, "mask", run_mask, layout_elements_of_bits(own), buffer, c->buffer[op->mask],
                  e))
        return -1;
    value_place(c, op->out[0], buffer);
    return op->open == NO_VALUE || done.opened ? 0 : emit_open(c, op, own, buffer, e);
}

/* --- bf16 emulated with f32 --- */

bool op_rounds(const Compiler *c, const Op *op) {
    PlanPrecision precision = c->request->precision;
    return precision == PLAN_BF16 || (precision == PLAN_MIXED && op->backward);
}

void round_weights(const Compiler *c, const Op *op, float *weights, size_t n) {
    if (op_rounds(c, op)) cpu_of(c)->kernels->round_bf16(weights, weights, (int64_t)n);
}

/* --- the Device's functions --- */

static Lower *const lowerings[OP_KINDS] = {
    [OP_INPUT] = cpu_lower_input,
    [OP_OUTPUT] = cpu_lower_output,
    [OP_NORMALIZE] = cpu_lower_normalize,
    [OP_AFFINE] = cpu_lower_affine,
    [OP_CONV] = cpu_lower_conv,
    [OP_CONV_DATA] = cpu_lower_conv_data,
    [OP_CONV_WEIGHTS] = cpu_lower_conv_weights,
    [OP_LINEAR] = cpu_lower_linear,
    [OP_LINEAR_DATA] = cpu_lower_linear_data,
    [OP_LINEAR_WEIGHTS] = cpu_lower_linear_weights,
    [OP_BATCHNORM] = cpu_lower_batchnorm,
    [OP_BATCHNORM_BACK] = cpu_lower_batchnorm_back,
    [OP_RELU] = cpu_lower_relu,
    [OP_MASK] = cpu_lower_mask,
    [OP_MAXPOOL] = cpu_lower_maxpool,
    [OP_MAXPOOL_BACK] = cpu_lower_maxpool_back,
    [OP_AVGPOOL] = cpu_lower_avgpool,
    [OP_AVGPOOL_BACK] = cpu_lower_avgpool_back,
    [OP_ADD] = cpu_lower_add,
    [OP_DROPOUT] = cpu_lower_dropout,
    [OP_DROPOUT_BACK] = cpu_lower_dropout_back,
    [OP_ROUND] = cpu_lower_round,
    [OP_MAP] = cpu_lower_map,
    [OP_REDUCE] = cpu_lower_reduce,
    [OP_REDUCE_PARAM] = cpu_lower_reduce_param,
    [OP_VIEW] = cpu_lower_view,
    [OP_MOVE] = cpu_lower_move,
    [OP_INSERT] = cpu_lower_insert,
    [OP_AVGWINDOW] = cpu_lower_avgwindow,
    [OP_AVGWINDOW_BACK] = cpu_lower_avgwindow_back,
    [OP_MATMUL] = cpu_lower_matmul,
    [OP_MATMUL_PARAM] = cpu_lower_matmul_param,
    [OP_SOFTMAX] = cpu_lower_softmax,
    [OP_SOFTMAX_BACK] = cpu_lower_softmax_back,
    [OP_STANDARDIZE] = cpu_lower_standardize,
    [OP_STANDARDIZE_BACK] = cpu_lower_standardize_back,
    [OP_RESIZE] = cpu_lower_resize,
    [OP_RESIZE_BACK] = cpu_lower_resize_back,
};

int cpu_lower_begin(Compiler *c, Error *e) {
    const Program *p = c->program;
    if (!cpu_engine() || !cpu_stream()) return error_set(e, "oneDNN: cannot start its CPU engine");
    CpuLowering *own = c->own = memory_zeroed(1, sizeof *own, "plan", e);
    if (!own) return -1;
    own->layout = memory_zeroed((size_t)p->n_values, sizeof *own->layout, "plan", e);
    own->notes = memory_zeroed((size_t)p->n_ops, sizeof *own->notes, "plan", e);
    if (!own->layout || !own->notes) return -1;
    for (int i = 0; i < p->n_ops; i++)
        own->notes[i].packed = own->notes[i].source = own->notes[i].weights = NO_BUFFER;
    for (int i = 0; i < VALUES_OUTSIDE; i++) {
        const Value *v = &p->values[i];
        bool image = i == VALUE_X || i == VALUE_DX;
        own->layout[i] = image ? layout_plain(c->request->N, v->C, v->H, v->W)
                               : layout_flat(c->request->N, v->C);
    }
    return 0;
}

int cpu_lower(Compiler *c, const Op *op, Error *e) {
    return lowerings[op->kind](c, op, e);
}

int cpu_lower_end(Compiler *c, Error *e) {
    CpuLowering *own = c->own;
    for (int i = 0; own && own->notes && i < c->program->n_ops; i++)
        if (own->notes[i].descriptor) dnnl_primitive_desc_destroy(own->notes[i].descriptor);
    if (own) {
        memory_free(own->layout);
        memory_free(own->notes);
        memory_free(own);
    }
    return layouts_forget(e);
}
