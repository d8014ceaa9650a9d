/* Compiling a program for CUDA: what plan.c, which owns the machinery, offers the lowering of each
 * kind of layer in lower_*.c.
 *
 * A compiled plan is a list of steps over buffers. A step launches a kernel of the project or calls
 * cuDNN or cuBLAS; a buffer is a stretch of the plan's one arena, memory that lasts (weights), or
 * one of the four that the caller hands in. Each use prolongs a buffer's life; buffers whose lives
 * do not overlap share memory.
 *
 * Values are channels-last. Forward's are of one Real and backward's gradients of one. A gradient
 * may be shared by the terms of a sum: `holders` counts them, and only the one holder of a buffer
 * writes to it.
 *
 * A dry compilation takes no device memory and copies no weights: it only adds sizes up.
 */
#ifndef ADVRT_DEVICE_CUDA_PLAN_H
#define ADVRT_DEVICE_CUDA_PLAN_H

#include "device/cuda/cuda.h"
#include "net/passes.h"

typedef struct CudaPlan CudaPlan;

/* Buffers 0 .. 3 are the caller's. */
enum { BUFFER_X, BUFFER_Z, BUFFER_DZ, BUFFER_DX, BUFFERS_OUTSIDE, NO_BUFFER = -1 };
enum { STEP_BUFFERS = 9, CONV_ALGORITHMS = 8 };

/* A convolution as cuDNN knows it. */
typedef struct ConvCall {
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    /* Of the direction that it is for, the best first: cuDNN may list one and say at its first run
     * that it does not know it. The first `deterministic` give the same bits every time. */
    int algorithm[CONV_ALGORITHMS], algorithms, deterministic, chosen;
    size_t workspace; /* the most that one of them wants */
    const char *type; /* of the numbers, for messages */
    char shapes[160];
} ConvCall;

typedef struct Step Step;
struct Step {
    const char *what;   /* for the profile: "conv", "mask", ... */
    const Layer *layer; /* that it is for */
    int (*run)(CudaPlan *p, const Step *s, Error *e);
    int buffer[STEP_BUFFERS], buffers; /* NO_BUFFER: not there */
    Real real, to;
    int64_t n, N, C, P; /* elements; or images, channels and pixels */
    bool sum, relu;
    double number;
    uint64_t seed;
    Window window;
    BatchNorm norm;
    Product product;
    ConvCall *conv;
};

typedef struct Buffer {
    size_t bytes;
    void *address;   /* once it is known; the caller's, at every run */
    bool fixed;      /* not in the arena */
    int first, last; /* steps that use it; -1: none yet */
    int holders;
} Buffer;

/* What lowering keeps for a node between its forward and its backward. */
typedef struct Value {
    int buffer;
    int gradient; /* NO_BUFFER until something contributes */
    int mask;     /* one bit per element */
    int saved[4]; /* the kind's own */
    bool wanted;  /* its gradient is needed */
    bool planes;  /* [N,C,H,W]: the image as the caller gave it */
} Value;

typedef struct Compiler {
    CudaDevice *device;
    CudaPlan *plan;
    const Program *program;
    const PlanRequest *request;
    Value *values; /* one per node */
    int node;      /* being lowered */
    Real forward, backward;
    bool tensor_cores; /* f32 products rounded to tf32 */
    bool dry;
} Compiler;

struct CudaPlan {
    Plan base; /* first */
    CudaDevice *device;
    Step *steps;
    int n_steps, steps_room, n_forward;
    Buffer *buffers;
    int n_buffers, buffers_room;
    void **owned; /* device memory given back with the plan */
    int n_owned, owned_room;
    size_t owned_bytes, arena_bytes;
    ConvCall **convs;
    int n_convs, convs_room;
    void *arena;
    int *param_buffer; /* [n_params] of a training plan, NO_BUFFER where it has no gradient */
    int n_params;
    int runs_buffer;     /* the count of forwards, where there is dropout */
    uint64_t serial;     /* no other plan of the process has it */
    bool traced;         /* a forward has run whose backward has not */
    double *seconds;     /* [n_steps] once steps have been timed */
    cudaEvent_t *events; /* [n_steps + 1] */
    bool timed;          /* they are now */
};

/* The rules of one kind of layer, as in net/passes.h's program. backward is called when the
 * gradient of the node's value is complete and masked, and passes it on to the inputs. */
typedef struct Lowering {
    int (*forward)(Compiler *c, const Node *n, Value *v, Error *e);
    int (*backward)(Compiler *c, const Node *n, Value *v, Error *e);
} Lowering;
extern const Lowering cuda_lower_input, cuda_lower_normalize, cuda_lower_conv, cuda_lower_linear,
    cuda_lower_batchnorm, cuda_lower_relu, cuda_lower_maxpool, cuda_lower_avgpool, cuda_lower_add,
    cuda_lower_dropout;

/* A new buffer of the arena; of memory that the plan owns; of memory that outlives it. -1 with the
 * error set. */
int buffer_new(Compiler *c, size_t bytes, Error *e);
int buffer_owned(Compiler *c, size_t bytes, const char *what, Error *e);
int buffer_fixed(Compiler *c, void *memory, Error *e);
/* The same with `bytes` copied from the host. */
int buffer_filled(Compiler *c, const void *host, size_t bytes, const char *what, Error *e);
/* Weights, f32 on the host, as they are wanted on the device. */
int buffer_weights(Compiler *c, const float *host, size_t count, Real real, Error *e);

/* A step; the caller fills the rest in. NULL with the error set. */
Step *emit(Compiler *c, const char *what, int (*run)(CudaPlan *, const Step *, Error *), int n,
           const int *buffers, Error *e);
/* The address of a step's i-th buffer at this run. */
static inline void *step_at(const CudaPlan *p, const Step *s, int i) {
    return i >= s->buffers || s->buffer[i] < 0 ? NULL : p->buffers[s->buffer[i]].address;
}
/* 0, or -1 and an error that names the layer, the step, its shapes and what the call said. */
int step_done(const CudaPlan *p, const Step *s, cudaError_t status, Error *e);

/* Elements of a node's value for the whole batch. */
static inline int64_t value_count(const Compiler *c, int node) {
    const Layer *l = c->program->nodes[node].layer;
    return c->request->N * l->C * l->H * l->W;
}
/* The value of an input, channels-last. -1 with the error set. */
int value_of(Compiler *c, int node, Error *e);
/* Whether backward wants to know where the node's ReLU was open. */
bool wants_mask(const Compiler *c, const Node *n);

/* Bias and activation over the node's value, and its mask where that is wanted. */
int emit_epilogue(Compiler *c, const Node *n, Value *v, int bias, Error *e);
int emit_convert(Compiler *c, Real from, int in, Real to, int out, int64_t n, Error *e);
int emit_sum(Compiler *c, Real real, int a, int b, int out, int64_t n, Error *e);

/* The gradient of a bias: the sums of dy [rows,C] over rows, C being the node's channels. */
int emit_bias_gradient(Compiler *c, int param, int dy, int64_t rows, Error *e);

/* Where to write a contribution to the gradient of `node`: *buffer, adding to what is there where
 * *sum. */
int sink(Compiler *c, int node, int *buffer, bool *sum, Error *e);
/* The gradient of `node` gets what is in `buffer`, of the node's size, which is used up. */
int sink_take(Compiler *c, int node, int buffer, Error *e);
/* The gradient of the node being lowered passes unchanged to an input. */
int sink_share(Compiler *c, int input, int buffer, Error *e);

/* The memory of parameter i, and that of its gradient. -1 with the error set. */
int param_value(Compiler *c, int param, Error *e);
int param_gradient(Compiler *c, int param, Error *e);

#endif
