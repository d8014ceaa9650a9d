/* Compiling a program for the CPU: what plan.c, which owns the machinery, offers
 * the lowering of each kind of layer, in lower_*.c.
 *
 * A compiled plan is a list of steps over buffers. A step is a oneDNN primitive or
 * one of the device's own kernels; a buffer is a stretch of the plan's one arena,
 * fixed memory (weights), or one of the four that the caller hands in. Lowering a
 * program emits the forward steps in order and then the backward ones; each use of
 * a buffer prolongs its life, and when all is emitted buffers whose lives do not
 * overlap share memory. So what must last from forward to backward (masks, pooling's
 * workspace, training's activations) needs no declaration: it is used again.
 *
 * A node's value has a buffer and a layout; its gradient has the same layout. A layout is what
 * oneDNN chose or what a kernel of ours wrote, so a reader asks for the one that it can read
 * (value_as, value_in_blocks), and looks at the buffer itself only to treat all elements alike.
 * Gradients of a sum's terms share one buffer while nobody writes to it: `holders`
 * counts them, and a buffer is written in place only by its one holder.
 */
#ifndef ADVRT_DEVICE_CPU_COMPILE_H
#define ADVRT_DEVICE_CPU_COMPILE_H

#include "device/cpu/cpu.h"
#include "device/cpu/primitive.h"
#include "net/passes.h"

typedef struct CpuPlan CpuPlan;

/* Buffers 0 .. 3 are the caller's. */
enum { BUFFER_X, BUFFER_Z, BUFFER_DZ, BUFFER_DX, BUFFERS_OUTSIDE, NO_BUFFER = -1 };

enum { STEP_ARGS = 10 };

typedef struct Step Step;
struct Step {
    const char *what;   /* for the profile: "conv", "mask", ... */
    const Layer *layer; /* that it is for */
    /* A primitive: its memories in the order of its arguments. */
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[STEP_ARGS];
    /* Or a kernel: reads its buffers' addresses from `at`. */
    void (*kernel)(const CpuPlan *p, const Step *s);
    void *at[STEP_ARGS];
    int64_t size[8];
    bool sums; /* or, neither: at[0], size[0] doubles, is summed over the group's ranks */
    double number;
    uint64_t seed;
    int buffer[STEP_ARGS], buffers;
    /* A kernel that can save the mask of its output, or mask it, in the same pass: its output is
     * at[0], and where `mask` says so the bits are at at[buffers - 1]. */
    bool can_mask;
    enum { MASK_NONE, MASK_SAVE, MASK_APPLY } mask;
};

/* What lowering keeps for a node between its forward and its backward. */
typedef struct Value {
    Layout layout;
    int buffer;
    int gradient;                     /* NO_BUFFER until something contributes */
    int mask;                         /* one bit per element */
    int saved[4];                     /* the kind's own: workspace, statistics, input */
    bool wanted;                      /* its gradient is needed */
    dnnl_primitive_desc_t descriptor; /* the forward one, as a hint for backward */
} Value;

typedef struct Buffer {
    size_t bytes, offset;
    void *fixed;     /* not in the arena */
    int parent;      /* of a view, which lies `offset` bytes into it; else NO_BUFFER */
    int first, last; /* steps that use it; -1: none yet */
    int holders;
    bool rounded; /* a gradient of nothing but bf16 numbers (precision.c) */
} Buffer;

typedef struct Compiler {
    CpuDevice *device;
    CpuPlan *plan;
    const Program *program;
    const PlanRequest *request;
    Value *values; /* one per node */
    int node;      /* being lowered */
    bool rounds;   /* what is being lowered is computed in bf16 (precision.c) */
} Compiler;

/* The rules of one kind of layer. backward is called when the gradient of the node's value is
 * complete and masked, and passes it on to the inputs. */
typedef struct Lowering {
    int (*forward)(Compiler *c, const Node *n, Value *v, Error *e);
    int (*backward)(Compiler *c, const Node *n, Value *v, Error *e);
} Lowering;
extern const Lowering cpu_lower_input, cpu_lower_normalize, cpu_lower_conv, cpu_lower_linear,
    cpu_lower_batchnorm, cpu_lower_relu, cpu_lower_maxpool, cpu_lower_avgpool, cpu_lower_add,
    cpu_lower_dropout;

/* A new buffer of the arena; a new one of memory that the plan owns (zeroed); one of memory that
 * outlives the plan. All return the buffer, or -1 with the error set. */
int buffer_new(Compiler *c, size_t bytes, Error *e);
int buffer_owned(Compiler *c, size_t bytes, const char *what, void **memory, Error *e);
int buffer_fixed(Compiler *c, void *memory, Error *e);

/* A step that runs `kernel`; the caller fills in sizes. Buffers are listed in the order of `at`.
 * NULL with the error set. */
Step *emit_kernel(Compiler *c, const char *what, void (*kernel)(const CpuPlan *, const Step *),
                  int n, const int *buffers, Error *e);
/* A step that sums a buffer of n doubles over the ranks of the request's group; none where there is
 * no group. */
int emit_sum(Compiler *c, int buffer, int64_t n, Error *e);
/* Leaves it to the step before to save the mask of `buffer` into `mask`, or to apply it; false
 * where that step cannot. */
bool step_takes_mask(Compiler *c, int buffer, int mask, bool apply);
typedef struct Arg {
    int arg, buffer;
} Arg;
/* A step that runs a primitive made from pd (not consumed); a scratchpad is added where it wants
 * one. */
int emit_primitive(Compiler *c, const char *what, dnnl_primitive_desc_t pd, int n, const Arg *args,
                   Error *e);
/* A convolution on a batch, in steps of one image each where its implementation would let an
 * image's bits depend on its place. s, what and post are those that pd was made with. */
int emit_convolution(Compiler *c, const char *name, dnnl_primitive_desc_t pd, const ConvShape *s,
                     ConvWhat what, const PostOps *post, int n, const Arg *args, Error *e);
/* Copies a buffer into another layout. */
int emit_reorder(Compiler *c, const Layout *from, int in, const Layout *to, int out, Error *e);
/* out = relu(in), out = in + out, out = in: for whole layouts, block padding included. */
int emit_relu(Compiler *c, const Layout *l, double cap, int in, int out, Error *e);
int emit_add(Compiler *c, const Layout *l, int in, int out, Error *e);
int emit_copy(Compiler *c, const Layout *l, int in, int out, Error *e);

/* The value of an input as it must be for a primitive that wants `layout`: its own buffer, or a
 * new one with a reorder emitted. -1 with the error set. */
int value_as(Compiler *c, int node, const Layout *layout, Error *e);
/* The same in a layout that the device's own kernels can walk (layout_block): the value's own where
 * they can, else blocks. A value made by oneDNN may have any layout. */
int value_in_blocks(Compiler *c, int node, Layout *layout, Error *e);

/* Contributing to the gradient of an input. sink_open says where to write: `buffer`, adding to what
 * is there if `sum`, which is only so where the caller can (can_sum); sink_close completes the
 * contribution, converting from `layout` where that is not the value's own. */
typedef struct Sink {
    int node, buffer;
    bool sum;
    Layout layout;
} Sink;
int sink_open(Compiler *c, int node, const Layout *layout, bool can_sum, Sink *s, Error *e);
int sink_close(Compiler *c, const Sink *s, Error *e);
/* The gradient of `node` passes unchanged to an input. */
int sink_share(Compiler *c, int input, int buffer, Error *e);

/* The gradient in a buffer that nobody else holds, so that it may be written in place. */
int own_gradient(Compiler *c, Value *v, Error *e);

/* precision.c: n weights in host memory about to be kept; a node's value just made; a node's
 * gradient, complete and masked. Each becomes bf16's where the precision asks for it. */
void precision_weights(const Compiler *c, float *weights, size_t n);
int precision_value(Compiler *c, const Node *n, Value *v, Error *e);
int precision_gradient(Compiler *c, const Node *n, Value *v, Error *e);

/* In the plan: the threads' pool, engine and stream that all plans of the process share. */
dnnl_engine_t cpu_engine(void);
dnnl_stream_t cpu_stream(void);

/* Channels of a block in this device's activations: 16 with AVX-512, else 8. */
int cpu_block(const CpuDevice *d);

/* The gradient of parameter i: memory of the plan in the graph's layout. -1 with the error set. */
int param_gradient(Compiler *c, int param, Error *e);

#endif
