/* Emitting a plan's steps: buffers, kernels, primitives, and gradients' sinks. */
#include <string.h>

#include "base/memory.h"
#include "device/cpu/plan.h"

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

int cpu_block(const CpuDevice *d) {
    return d->isa == CPU_AVX512 ? 16 : 8;
}

/* --- buffers --- */

int buffer_new(Compiler *c, size_t bytes, Error *e) {
    CpuPlan *p = c->plan;
    if (memory_grow((void **)&p->buffers, p->n_buffers, &p->buffers_room, sizeof *p->buffers,
                    "plan", e))
        return -1;
    p->buffers[p->n_buffers] =
        (Buffer){.bytes = bytes, .first = -1, .last = -1, .parent = NO_BUFFER};
    return p->n_buffers++;
}

int buffer_fixed(Compiler *c, void *memory, Error *e) {
    int b = buffer_new(c, 0, e);
    if (b >= 0) c->plan->buffers[b].fixed = memory;
    return b;
}

/* A stretch of another buffer. */
static int buffer_view(Compiler *c, int parent, size_t offset, size_t bytes, Error *e) {
    int b = buffer_new(c, bytes, e);
    if (b < 0) return -1;
    c->plan->buffers[b].parent = parent;
    c->plan->buffers[b].offset = offset;
    return b;
}

int buffer_owned(Compiler *c, size_t bytes, const char *what, void **memory, Error *e) {
    CpuPlan *p = c->plan;
    if (memory_grow((void **)&p->owned, p->n_owned, &p->owned_room, sizeof *p->owned, "plan", e))
        return -1;
    *memory = memory_zeroed(1, bytes, what, e);
    if (!*memory) return -1;
    p->owned[p->n_owned++] = *memory;
    int b = buffer_fixed(c, *memory, e);
    if (b >= 0) c->plan->buffers[b].bytes = bytes;
    return b;
}

int param_gradient(Compiler *c, int param, Error *e) {
    int *b = &c->plan->param_buffer[param];
    void *memory;
    if (*b == NO_BUFFER)
        *b = buffer_owned(c, tensor_bytes(&c->program->graph->params[param].value),
                          "parameter gradients", &memory, e);
    return *b;
}

/* --- steps --- */

static Step *next_step(Compiler *c, const char *what, Error *e) {
    CpuPlan *p = c->plan;
    if (memory_grow((void **)&p->steps, p->n_steps, &p->steps_room, sizeof *p->steps, "plan", e))
        return NULL;
    Step *s = &p->steps[p->n_steps];
    memset(s, 0, sizeof *s);
    s->what = what;
    s->layer = c->program->nodes[c->node].layer;
    return s;
}

static void use(Compiler *c, Step *s, int buffer) {
    int now = (int)(s - c->plan->steps);
    for (int id = buffer; id != NO_BUFFER; id = c->plan->buffers[id].parent) {
        Buffer *b = &c->plan->buffers[id];
        if (b->first < 0) b->first = now;
        b->last = now;
    }
    s->buffer[s->buffers++] = buffer;
}

Step *emit_kernel(Compiler *c, const char *what, void (*kernel)(const CpuPlan *, const Step *),
                  int n, const int *buffers, Error *e) {
    Step *s = next_step(c, what, e);
    if (!s) return NULL;
    s->kernel = kernel;
    for (int i = 0; i < n; i++) use(c, s, buffers[i]);
    c->plan->n_steps++;
    return s;
}

int emit_sum(Compiler *c, int buffer, int64_t n, Error *e) {
    if (!c->request->group) return 0;
    Step *s = next_step(c, "sum over ranks", e);
    if (!s) return -1;
    s->sums = true;
    s->size[0] = n;
    use(c, s, buffer);
    c->plan->n_steps++;
    return 0;
}

bool step_takes_mask(Compiler *c, int buffer, int mask, bool apply) {
    CpuPlan *p = c->plan;
    Step *s = p->n_steps ? &p->steps[p->n_steps - 1] : NULL;
    if (!s || !s->can_mask || s->mask != MASK_NONE || s->buffer[0] != buffer) return false;
    s->mask = apply ? MASK_APPLY : MASK_SAVE;
    use(c, s, mask);
    return true;
}

static int add_arg(Compiler *c, Step *s, dnnl_primitive_desc_t pd, int arg, int buffer, Error *e) {
    Layout l = descriptor_layout(pd, arg);
    int slot = s->buffers;
    if (layout_bytes(&l) == 0) return 0;
    if (onednn_check(onednn_memory(&s->args[slot].memory, &l, cpu_engine(), DNNL_MEMORY_NONE),
                     s->what, e))
        return -1;
    s->args[slot].arg = arg;
    use(c, s, buffer);
    return 0;
}

int emit_primitive(Compiler *c, const char *what, dnnl_primitive_desc_t pd, int n, const Arg *args,
                   Error *e) {
    Layout scratch = descriptor_layout(pd, DNNL_ARG_SCRATCHPAD);
    int scratchpad = NO_BUFFER;
    if (layout_bytes(&scratch) > 0) {
        scratchpad = buffer_new(c, layout_bytes(&scratch), e);
        if (scratchpad < 0) return -1;
    }
    Step *s = next_step(c, what, e);
    if (!s || onednn_check(dnnl_primitive_create(&s->primitive, pd), what, e)) return -1;
    c->plan->n_steps++; /* from here on the plan frees it */
    for (int i = 0; i < n; i++)
        if (add_arg(c, s, pd, args[i].arg, args[i].buffer, e)) return -1;
    return scratchpad < 0 ? 0 : add_arg(c, s, pd, DNNL_ARG_SCRATCHPAD, scratchpad, e);
}

static bool is_batch(int arg) {
    return arg == DNNL_ARG_SRC || arg == DNNL_ARG_DST || arg == DNNL_ARG_DIFF_SRC ||
           arg == DNNL_ARG_DIFF_DST;
}

static int emit_images(Compiler *c, const char *name, dnnl_primitive_desc_t one, int n,
                       const Arg *args, Error *e) {
    for (int64_t image = 0; image < c->request->N; image++) {
        Arg views[STEP_ARGS];
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

/* A flat [N,C] layout as the [N,C,1,1] of the same bytes, so that both can be reordered. */
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

/* at: out, in, and the bits where the mask is saved too. */
static void run_relu(const CpuPlan *p, const Step *s) {
    if (s->mask == MASK_SAVE)
        p->kernels->relu_save(s->at[1], (float)s->number, s->at[0], s->at[2],
                              (s->size[0] + 7) / 8 * 8);
    else
        p->kernels->relu(s->at[1], (float)s->number, s->at[0], s->size[0]);
}

static void run_add(const CpuPlan *p, const Step *s) {
    p->kernels->add(s->at[1], s->at[0], s->size[0]);
}

static void run_copy(const CpuPlan *p, const Step *s) {
    p->kernels->binary_scalar(BINARY_ADD, s->at[0], 0.0F, s->at[1], s->size[0]);
}

static Step *emit_pair(Compiler *c, const char *what, void (*kernel)(const CpuPlan *, const Step *),
                       const Layout *l, int first, int second, Error *e) {
    Step *s = emit_kernel(c, what, kernel, 2, (int[]){first, second}, e);
    if (s) s->size[0] = (int64_t)(layout_bytes(l) / sizeof(float));
    return s;
}

int emit_relu(Compiler *c, const Layout *l, double cap, int in, int out, Error *e) {
    Step *s = emit_pair(c, "relu", run_relu, l, out, in, e);
    if (!s) return -1;
    s->number = cap;
    /* Masks are of whole bytes, and the caller's memory ends where its elements do. */
    s->can_mask = in >= BUFFERS_OUTSIDE && out >= BUFFERS_OUTSIDE;
    return 0;
}

int emit_add(Compiler *c, const Layout *l, int in, int out, Error *e) {
    c->plan->buffers[out].rounded = false;
    return emit_pair(c, "add", run_add, l, in, out, e) ? 0 : -1;
}

int emit_copy(Compiler *c, const Layout *l, int in, int out, Error *e) {
    return emit_pair(c, "copy", run_copy, l, in, out, e) ? 0 : -1;
}

/* --- values and gradients --- */

int value_as(Compiler *c, int node, const Layout *layout, Error *e) {
    const Value *v = &c->values[node];
    if (layout_same(&v->layout, layout)) return v->buffer;
    int copy = buffer_new(c, layout_bytes(layout), e);
    if (copy < 0 || emit_reorder(c, &v->layout, v->buffer, layout, copy, e)) return -1;
    return copy;
}

int value_in_blocks(Compiler *c, int node, Layout *layout, Error *e) {
    const Value *v = &c->values[node];
    const Layer *l = c->program->nodes[node].layer;
    *layout = layout_block(&v->layout)
                  ? v->layout
                  : layout_blocked(cpu_block(c->device), c->request->N, l->C, l->H, l->W);
    return value_as(c, node, layout, e);
}

int sink_open(Compiler *c, int node, const Layout *layout, bool can_sum, Sink *s, Error *e) {
    const Value *v = &c->values[node];
    *s = (Sink){.node = node, .layout = *layout};
    if (v->gradient != NO_BUFFER && can_sum && layout_same(layout, &v->layout) &&
        c->plan->buffers[v->gradient].holders == 1) {
        s->buffer = v->gradient;
        s->sum = true;
        c->plan->buffers[v->gradient].rounded = false;
        return 0;
    }
    s->buffer = buffer_new(c, layout_bytes(layout), e);
    return s->buffer < 0 ? -1 : 0;
}

static void hold(Compiler *c, Value *v, int buffer) {
    if (v->gradient != NO_BUFFER) c->plan->buffers[v->gradient].holders--;
    c->plan->buffers[buffer].holders++;
    v->gradient = buffer;
}

int sink_close(Compiler *c, const Sink *s, Error *e) {
    Value *v = &c->values[s->node];
    int made = s->buffer;
    if (s->sum) return 0;
    if (!layout_same(&s->layout, &v->layout)) {
        made = buffer_new(c, layout_bytes(&v->layout), e);
        if (made < 0 || emit_reorder(c, &s->layout, s->buffer, &v->layout, made, e)) return -1;
    }
    if (v->gradient == NO_BUFFER) {
        hold(c, v, made);
        return 0;
    }
    if (c->plan->buffers[v->gradient].holders == 1)
        return emit_add(c, &v->layout, made, v->gradient, e);
    if (emit_add(c, &v->layout, v->gradient, made, e)) return -1;
    hold(c, v, made);
    return 0;
}

int sink_share(Compiler *c, int input, int buffer, Error *e) {
    Value *v = &c->values[input];
    const Value *from = &c->values[c->node];
    if (!v->wanted) return 0;
    if (!layout_same(&v->layout, &from->layout)) {
        int made = buffer_new(c, layout_bytes(&v->layout), e);
        if (made < 0 || emit_reorder(c, &from->layout, buffer, &v->layout, made, e)) return -1;
        return sink_close(c, &(Sink){.node = input, .buffer = made, .layout = v->layout}, e);
    }
    if (v->gradient == NO_BUFFER) {
        hold(c, v, buffer);
        return 0;
    }
    if (c->plan->buffers[v->gradient].holders > 1) {
        int copy = buffer_new(c, layout_bytes(&v->layout), e);
        if (copy < 0 || emit_copy(c, &v->layout, v->gradient, copy, e)) return -1;
        hold(c, v, copy);
    }
    return emit_add(c, &v->layout, buffer, v->gradient, e);
}
