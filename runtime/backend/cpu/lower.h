/* Lowers a program for the CPU (device/plan.h): what the files lower_*.c, one per primitive, share.
 * A step is a oneDNN primitive or one of the device's own kernels.
 *
 * A value has a buffer and a layout; its gradient has the same layout. oneDNN may leave any layout.
 * So a lowering that reads a value asks for a layout that it can read (value_as, channels_layout).
 */
#ifndef ADVRT_DEVICE_CPU_LOWER_H
#define ADVRT_DEVICE_CPU_LOWER_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/primitive.h"
#include "device/plan.h"

/* What an op records for the ops of its gradient. */
typedef struct CpuNote {
    dnnl_primitive_desc_t descriptor; /* the forward descriptor, as a hint for backward */
    int packed;                       /* an own kernel's weights, if both directions use them */
    int source; /* the input of a convolution or linear layer, in the layout it reads */
    int weights;
    FormulaLoop *loop; /* for a map that the product reading it computes */
} CpuNote;

/* Compiler.own. */
typedef struct CpuLowering {
    Layout *layout; /* [n_values] */
    CpuNote *notes; /* [n_ops] */
} CpuLowering;

static inline const CpuKernels *kernels_of(const Plan *p) {
    return ((const CpuDevice *)p->device)->kernels;
}
static inline const CpuDevice *cpu_of(const Compiler *c) {
    return (const CpuDevice *)c->device;
}
static inline const Value *value_of(const Compiler *c, int value) {
    return &c->program->values[value];
}
static inline Layout *layout_of(const Compiler *c, int value) {
    return &((CpuLowering *)c->own)->layout[value];
}
static inline CpuNote *note_of(const Compiler *c, int op) {
    return &((CpuLowering *)c->own)->notes[op];
}
static inline const Op *twin_of(const Compiler *c, const Op *op) {
    return &c->program->ops[op->twin];
}

/* The engine and stream that all plans of the process share. */
dnnl_engine_t cpu_engine(void);
dnnl_stream_t cpu_stream(void);

/* Channels per block in this device's activations: 16 with AVX-512, else 8. */
int cpu_block(const Compiler *c);
/* The contiguous layout of a value. */
Layout plain_layout(const Compiler *c, int value);
Layout blocked_layout(const Compiler *c, int64_t C, int64_t H, int64_t W);
/* The layout in which own kernels read the value's channels: its own layout if that is contiguous
 * or in this device's blocks, else these blocks. */
Layout channels_layout(const Compiler *c, int value);
/* The number of elements of a shape. */
int64_t shape_elements(const Shape *s);
/* The number of elements of a layout with its block padding, rounded up to whole bytes of bits. The
 * arena's alignment leaves room for that. */
int64_t layout_elements(const Layout *l);
int64_t layout_elements_of_bits(const Layout *l);

/* The lowerings, one per kind of op. */
typedef int Lower(Compiler *c, const Op *op, Error *e);
Lower cpu_lower_input, cpu_lower_output, cpu_lower_normalize, cpu_lower_affine, cpu_lower_conv,
    cpu_lower_conv_data, cpu_lower_conv_weights, cpu_lower_linear, cpu_lower_linear_data,
    cpu_lower_linear_weights, cpu_lower_batchnorm, cpu_lower_batchnorm_back, cpu_lower_relu,
    cpu_lower_mask, cpu_lower_maxpool, cpu_lower_maxpool_back, cpu_lower_avgpool,
    cpu_lower_avgpool_back, cpu_lower_add, cpu_lower_dropout, cpu_lower_dropout_back,
    cpu_lower_round, cpu_lower_map, cpu_lower_reduce, cpu_lower_reduce_param;
Lower cpu_lower_view;
Lower cpu_lower_move;
Lower cpu_lower_insert;
Lower cpu_lower_avgwindow_back;
Lower cpu_lower_avgwindow;
Lower cpu_lower_matmul, cpu_lower_matmul_param;
Lower cpu_lower_softmax, cpu_lower_softmax_back;
Lower cpu_lower_standardize, cpu_lower_standardize_back;
Lower cpu_lower_resize;
Lower cpu_lower_resize_back;

/* Adds a step that runs a primitive made from pd (pd is not consumed). Adds a scratchpad if the
 * primitive needs one. */
typedef struct Arg {
    int arg, buffer;
} Arg;
int emit_primitive(Compiler *c, const char *what, dnnl_primitive_desc_t pd, int n, const Arg *args,
                   Error *e);
/* Adds a convolution on a batch. If the implementation would let an image's bits depend on its
 * index, adds one step per image instead. s, what and post are those that pd was made with. */
int emit_convolution(Compiler *c, const char *name, dnnl_primitive_desc_t pd, const ConvShape *s,
                     ConvWhat what, const PostOps *post, int n, const Arg *args, Error *e);
/* Copies a buffer into another layout. */
int emit_reorder(Compiler *c, const Layout *from, int in, const Layout *to, int out, Error *e);
/* out = in + out; out = in. Both work on whole layouts, with block padding. */
int emit_add(Compiler *c, const Layout *l, int in, int out, Error *e);
int emit_copy(Compiler *c, const Layout *l, int in, int out, Error *e);

/* The buffer of a value in `layout`: its own, or a new one that a reorder fills. -1 with the error
 * set. */
int value_as(Compiler *c, int value, const Layout *layout, Error *e);
/* A new buffer for a value of this layout. */
int buffer_of(Compiler *c, const Layout *layout, Error *e);
/* A buffer with the value in `layout` that may be overwritten: the value's own if this op is its
 * last reader, else a copy. */
int value_to_overwrite(Compiler *c, int value, const Layout *layout, Error *e);

/* Sets *loop to the formula's own loop if the map runs along contiguous rows and every operand is a
 * whole value; else to NULL. */
int map_in_rows(const Compiler *c, const Op *op, FormulaLoop **loop, Error *e);
/* Whether the product can compute a formula of its operand `value` cheaply while it reads it. */
bool product_computes(const Compiler *c, const Op *matmul, int value);

/* Whether no work is fused into the op. */
static inline bool op_is_bare(const Op *op) {
    return op->add == NO_VALUE && !op->relu && op->mask == NO_VALUE && op->open == NO_VALUE;
}

/* Which parts of the fused work an op's own step has done. */
typedef struct Done {
    bool added, activated, opened, masked;
} Done;
/* out = the op's activation of in. Also makes op->open, in the same pass if possible; *done records
 * that. */
int emit_relu(Compiler *c, const Op *op, const Layout *l, int in, int out, Done *done, Error *e);
/* The op's result is in `buffer` in `layout`. Emits the remaining fused work and places out[0]. A
 * gradient gets the layout of its value. */
int deliver(Compiler *c, const Op *op, const Layout *layout, int buffer, Done done, Error *e);
/* Places a new buffer of bits for op->open, whose out[0] has `layout`. */
int place_open(Compiler *c, const Op *op, const Layout *layout, Error *e);

/* bf16 emulated with f32: whether this op's products are of bf16 numbers. If so, round the weights
 * that the plan keeps. The program shows all other roundings (OP_ROUND). */
bool op_rounds(const Compiler *c, const Op *op);
void round_weights(const Compiler *c, const Op *op, float *weights, size_t n);

#endif
