/* A plan: a program lowered for one batch size on one device. It owns its arena and its own form of
 * the weights; a step allocates nothing.
 *
 *   forward   x -> logits
 *   gradient  x -> logits, then dz -> dx, the gradient with respect to x. Inference
 *             mode: batch norm uses its running statistics and is folded away.
 *   training  x -> logits with batch statistics and dropout, then dz -> the gradient of
 *             every parameter; running statistics are updated in the graph's tensors.
 *
 * The user's interrupt (base/interrupt.h) stops a run, or the making of a plan, between two steps.
 * The outputs of the stopped run are undefined. A training plan has then updated some layers'
 * running statistics. The plan itself stays valid.
 *
 * A training plan reads the weights from the graph's tensors at every forward. The other two may
 * keep copies of weights: after the weights change, make a new plan.
 *
 * The first half of this file is for code that runs plans. The second half, from Compiler on, is
 * for devices that lower programs into plans. A lowered plan is a list of steps over buffers. A
 * buffer is one of three: part of the plan's arena, permanent memory (weights), or one of the
 * caller's four tensors. Each use extends the life of a buffer. After lowering, buffers with
 * disjoint lives share memory.
 */
#ifndef ADVRT_DEVICE_PLAN_H
#define ADVRT_DEVICE_PLAN_H

#include "device/device.h"
#include "device/program.h"

typedef enum PlanPurpose { PLAN_FORWARD, PLAN_GRADIENT, PLAN_TRAINING } PlanPurpose;

/* The precision of the factors of products. f32; mixed: f32 forward, bf16 backward; bf16: both
 * halves; tf32: f32 rounded to 10 bits of mantissa. Sums, x, z, dz and dx are always f32. Training
 * is in f32.
 */
typedef enum PlanPrecision { PLAN_F32, PLAN_MIXED, PLAN_BF16, PLAN_TF32 } PlanPrecision;

typedef struct PlanRequest {
    PlanPurpose purpose;
    int64_t N;   /* images in a batch */
    bool direct; /* no Winograd convolution */
    PlanPrecision precision;
    uint64_t seed; /* of dropout's random stream */
    uint64_t runs; /* forwards already done: dropout's position in its random stream */
    Group *group;  /* training: the N images are this rank's part of a batch that all ranks share;
                      batch norm uses the whole batch's statistics; parameter gradients are not
                      summed. NULL: the N images are the whole batch */
    int64_t first,
        whole; /* with a group: the part is images first .. first + N - 1 of `whole` images */
} PlanRequest;

/* The time and memory of one step of a plan. */
typedef struct PlanTiming {
    const char *what;  /* "conv", "mask", ... */
    const char *layer; /* the layer's name */
    bool backward;
    int64_t bytes;  /* bytes of memory that one run touches; each buffer counts once */
    double seconds; /* sum over all runs since timing began */
} PlanTiming;

/* x [N,C,H,W] -> z [N,K], device memory. */
int plan_forward(Plan *p, const float *x, float *z, Error *e);
/* dz [N,K] -> dx [N,C,H,W] at the x of the last forward. One forward serves any number of calls.
 * Gradient plans only. */
int plan_backward(Plan *p, const float *dz, float *dx, Error *e);
/* dz [N,K] -> the gradient of every parameter. Each forward serves one call. Training plans
 * only. */
int plan_train_backward(Plan *p, const float *dz, Error *e);
/* The gradient of parameter i in the graph's own layout; NULL if it has none (running statistics).
 * Valid until the next backward. Training plans only. */
float *plan_gradient_of(const Plan *p, int param);
/* Starts timing every step from zero, or stops it. While timing is on, each step also reads the
 * clock. */
int plan_time(Plan *p, bool on, Error *e);
/* The timing of step i; false past the last step. */
bool plan_timing(const Plan *p, int i, PlanTiming *out);
void plan_free(Plan *p);

/* --- for devices: what programs are lowered into --- */

enum { STEP_BUFFERS = 16, NO_BUFFER = -1 };

/* One call of a kernel or a library. */
typedef struct Step Step;
struct Step {
    const char *what, *layer; /* for the profile and messages: "conv", "mask", ... */
    int (*run)(Plan *p, const Step *s, Error *e);
    void *job;             /* the call's arguments besides buffers; the plan owns the memory */
    void (*drop)(Step *s); /* frees what the job holds; NULL if it holds nothing */
    int (*moved)(Step *s, int slot,
                 Error *e);            /* called after each change of at[slot]; may be NULL */
    int buffer[STEP_BUFFERS], buffers; /* NO_BUFFER: this slot is empty */
    void *at[STEP_BUFFERS];            /* the buffers' addresses in this run */
};

typedef struct Buffer {
    size_t bytes, offset;
    void *fixed;     /* permanent memory */
    bool lasts;      /* the buffer is permanent, not in the arena */
    int parent;      /* for a view: the buffer that contains it at `offset` bytes; else NO_BUFFER */
    int first, last; /* the steps that use it; -1: none yet */
    int last_op;     /* the last op that reads a value in this buffer; -1: it holds no value */
} Buffer;

/* A step's use of a caller's tensor, whose address may change at every run. */
typedef struct OutsideUse {
    int buffer, step, slot;
    size_t offset;
} OutsideUse;

struct Plan {
    Device *device;
    PlanRequest request;
    int64_t C, H, W, K; /* input shape, number of logits */
    uint64_t serial;    /* unique among the plans of the process */
    uint64_t runs;      /* forwards so far: dropout's position in its random stream */
    bool traced;        /* a forward has run, and a backward may follow */
    Step *steps;
    int n_steps, steps_room, n_forward;
    Buffer *buffers;
    int n_buffers, buffers_room;
    OutsideUse *uses;
    int n_uses, uses_room;
    void **owned; /* device memory, freed with the plan */
    int n_owned, owned_room;
    size_t owned_bytes;
    void *arena;
    size_t arena_bytes;
    void *outside[VALUES_OUTSIDE];
    int *param_buffer; /* training plans: [n_params], NO_BUFFER if the parameter has no gradient */
    int n_params;
    double *seconds; /* [n_steps], allocated when timing first starts */
    bool timed;      /* timing is on now */
    void *clock;     /* the device's clock for run_timed */
};

typedef struct Compiler {
    Device *device;
    Plan *plan;
    const Program *program;
    const PlanRequest *request;
    int op;        /* the op that is being lowered */
    int *buffer;   /* [n_values] the buffer of each value; NO_BUFFER until the value is made */
    bool *claimed; /* [n_ops] ops that another op's lowering already includes */
    void *own;     /* the device's state between lower_begin and lower_end */
    bool dry;      /* only compute sizes: take no device memory, copy no weights */
} Compiler;

/* Lowers a program with the device's functions. A dry plan cannot run; it only knows its sizes. */
int plan_compile(Device *d, const Program *program, const PlanRequest *r, bool dry, Plan **out,
                 Error *e);

/* buffer_new makes a buffer of the arena. buffer_view makes a view of `bytes` bytes at `offset` in
 * another buffer. buffer_fixed wraps memory that outlives the plan. buffer_owned takes memory that
 * the plan owns, zeroed if it is host memory; *memory, if not NULL, receives its address.
 * buffer_filled does the same and copies bytes from the host. All return the buffer, or -1 with the
 * error set. Buffers 0 .. 3 are the caller's, in the order of VALUE_X. */
int buffer_new(Compiler *c, size_t bytes, Error *e);
int buffer_view(Compiler *c, int parent, size_t offset, size_t bytes, Error *e);
int buffer_fixed(Compiler *c, void *memory, Error *e);
int buffer_owned(Compiler *c, size_t bytes, const char *what, void **memory, Error *e);
int buffer_filled(Compiler *c, const void *host, size_t bytes, const char *what, Error *e);
/* A parameter's memory; the memory of its gradient in a training plan. */
int buffer_param(Compiler *c, int param, Error *e);
int buffer_param_gradient(Compiler *c, int param, Error *e);

/* Adds a step that uses n buffers. Its job starts as a copy of `bytes` bytes at `job`. NULL with
 * the error set. */
Step *step_new(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *), int n,
               const int *buffers, const void *job, size_t bytes, Error *e);
/* Adds a buffer to the newest step. */
void step_uses(Compiler *c, Step *s, int buffer);
/* Sums n doubles of a buffer over the ranks of the request's group; does nothing without a
 * group. */
int step_sum_over_ranks(Compiler *c, int buffer, int64_t n, Error *e);

/* Records that `value` now lies in `buffer`. */
void value_place(Compiler *c, int value, int buffer);
/* Whether the present op may overwrite the value. Three things must hold: this op is the value's
 * last reader; no other operand and no later read uses the same memory; the plan owns the
 * memory. */
bool value_dies(const Compiler *c, int value);
/* The op that reads the value, if it is the only reader, is of this kind and is not claimed; else
 * -1. */
int value_only_reader(const Compiler *c, int value, OpKind kind);
int64_t value_elements(const Compiler *c, int value);
/* Whether a map reads its operand contiguously, each element once, without repeats. */
bool map_reads_whole(const MapSpec *m, int operand);

#endif
