/* A plan: a program lowered for one batch size on one device. It owns its arena and its own form of
 * the weights; a step allocates nothing.
 *
 *   forward   x -> logits
 *   gradient  x -> logits, then dz -> dx, the gradient with respect to x. Inference
 *             mode: batch norm uses its running statistics and is folded away.
 *   training  x -> logits with batch statistics and dropout, then dz -> the gradient of
 *             every parameter; running statistics are updated in the graph's tensors.
 *
 * A run and the making of a plan end at the user's interrupt (base/interrupt.h) between two steps.
 * What the run was to write is then undefined, and a training plan has updated the running
 * statistics of the layers that it came through; the plan itself is whole.
 *
 * A training plan reads the weights from the graph's tensors at every forward. The other two
 * may keep copies of some: where weights have changed, make a new plan.
 *
 * The first half of this file is for those who run plans; the second, which begins at Compiler, for
 * the devices that lower programs into them. A lowered plan is a list of steps over buffers. A
 * buffer is a stretch of the plan's one arena, memory that lasts (weights), or one of the four that
 * the caller hands in. Each use of a buffer prolongs its life; when all is lowered, buffers whose
 * lives do not overlap share memory.
 */
#ifndef ADVRT_DEVICE_PLAN_H
#define ADVRT_DEVICE_PLAN_H

#include "device/device.h"
#include "device/program.h"

typedef enum PlanPurpose { PLAN_FORWARD, PLAN_GRADIENT, PLAN_TRAINING } PlanPurpose;

/* What products are made of: f32; mixed: f32 forward, bf16 backward; bf16: both; tf32: f32 rounded
 * to 10 bits of mantissa. Sums are f32's in any case, and so are x, z, dz and dx. Training is f32.
 */
typedef enum PlanPrecision { PLAN_F32, PLAN_MIXED, PLAN_BF16, PLAN_TF32 } PlanPrecision;

typedef struct PlanRequest {
    PlanPurpose purpose;
    int64_t N;   /* images in a batch */
    bool direct; /* no Winograd */
    PlanPrecision precision;
    uint64_t seed; /* dropout's stream */
    uint64_t runs; /* forwards that count as done: dropout's place in its stream */
    Group *group;  /* training: the N images are rank's part of a batch that all ranks share, whose
                    * statistics batch norm takes; the parameters' gradients are not summed. NULL:
                    * the batch is whole */
    int64_t first, whole; /* with a group: the part is the images first .. first + N - 1 of the
                           * shared batch's `whole` */
} PlanRequest;

/* Where a plan's time goes: one step of it. */
typedef struct PlanTiming {
    const char *what;  /* "conv", "mask", ... */
    const char *layer; /* the layer's name */
    bool backward;
    int64_t bytes;  /* of memory that a run of it touches: each of its buffers once */
    double seconds; /* over all runs since timing began */
} PlanTiming;

/* x [N,C,H,W] -> z [N,K], device memory. */
int plan_forward(Plan *p, const float *x, float *z, Error *e);
/* dz [N,K] -> dx [N,C,H,W] at the last forward's x; as often as wanted. Gradient plans only. */
int plan_backward(Plan *p, const float *dz, float *dx, Error *e);
/* dz [N,K] -> the gradient of every parameter; uses the last forward up. Training plans only. */
int plan_train_backward(Plan *p, const float *dz, Error *e);
/* The gradient of parameter i in the graph's own layout; NULL where it has none (running
 * statistics). Valid until the next backward. Training plans only. */
float *plan_gradient_of(const Plan *p, int param);
/* Starts (from zero) or ends timing every step; while it is on, a step costs a clock's reading. */
int plan_time(Plan *p, bool on, Error *e);
/* Step i of what has been timed; false past the last. */
bool plan_timing(const Plan *p, int i, PlanTiming *out);
void plan_free(Plan *p);

/* --- what a device lowers programs into --- */

enum { STEP_BUFFERS = 16, NO_BUFFER = -1 };

/* One call of a kernel or a library. */
typedef struct Step Step;
struct Step {
    const char *what, *layer; /* for the profile and messages: "conv", "mask", ... */
    int (*run)(Plan *p, const Step *s, Error *e);
    void *job;             /* what the call needs besides buffers: the plan's memory */
    void (*drop)(Step *s); /* frees what the job holds; NULL where that is nothing */
    int (*moved)(Step *s, int slot, Error *e); /* told of each new at[slot]; may be NULL */
    int buffer[STEP_BUFFERS], buffers;         /* NO_BUFFER: not there */
    void *at[STEP_BUFFERS];                    /* their addresses at this run */
};

typedef struct Buffer {
    size_t bytes, offset;
    void *fixed;     /* memory that lasts */
    bool lasts;      /* it is not in the arena */
    int parent;      /* of a view, which lies `offset` bytes into it; else NO_BUFFER */
    int first, last; /* steps that use it; -1: none yet */
    int last_op;     /* the op that reads last what lies here; -1: no value does */
} Buffer;

/* Where a step reads an address that the caller gives anew at every run. */
typedef struct OutsideUse {
    int buffer, step, slot;
    size_t offset;
} OutsideUse;

struct Plan {
    Device *device;
    PlanRequest request;
    int64_t C, H, W, K; /* input shape, number of logits */
    uint64_t serial;    /* no other plan of the process has it */
    uint64_t runs;      /* forwards so far: dropout's place in its stream */
    bool traced;        /* a forward has run whose backward has not */
    Step *steps;
    int n_steps, steps_room, n_forward;
    Buffer *buffers;
    int n_buffers, buffers_room;
    OutsideUse *uses;
    int n_uses, uses_room;
    void **owned; /* the device's memory, given back with the plan */
    int n_owned, owned_room;
    size_t owned_bytes;
    void *arena;
    size_t arena_bytes;
    void *outside[VALUES_OUTSIDE];
    int *param_buffer; /* [n_params] of a training plan, NO_BUFFER where it has no gradient */
    int n_params;
    double *seconds; /* [n_steps] once steps have been timed */
    bool timed;      /* they are now */
    void *clock;     /* a device's own of time_steps */
};

typedef struct Compiler {
    Device *device;
    Plan *plan;
    const Program *program;
    const PlanRequest *request;
    int op;        /* being lowered */
    int *buffer;   /* [n_values] where each value lies; NO_BUFFER until it is made */
    bool *claimed; /* [n_ops] those that the lowering of another has done */
    void *own;     /* the device's, between its begin and end */
    bool dry;      /* only add sizes up: take no device memory, copy no weights */
} Compiler;

/* Lowers a program with the device's functions. A dry plan cannot run: it knows its sizes. */
int plan_compile(Device *d, const Program *program, const PlanRequest *r, bool dry, Plan **out,
                 Error *e);

/* A new buffer of the arena; `bytes` of another from `offset`; memory that outlives the plan;
 * memory of the plan's (zeroed where it is the host's), whose address is in *memory where that is
 * not NULL; the same with bytes copied from the host. All return the buffer, or -1 with the error
 * set. Buffers 0 .. 3 are the caller's, in the order of VALUE_X. */
int buffer_new(Compiler *c, size_t bytes, Error *e);
int buffer_view(Compiler *c, int parent, size_t offset, size_t bytes, Error *e);
int buffer_fixed(Compiler *c, void *memory, Error *e);
int buffer_owned(Compiler *c, size_t bytes, const char *what, void **memory, Error *e);
int buffer_filled(Compiler *c, const void *host, size_t bytes, const char *what, Error *e);
/* A parameter's memory, and that of its gradient in a training plan. */
int buffer_param(Compiler *c, int param, Error *e);
int buffer_param_gradient(Compiler *c, int param, Error *e);

/* A step that uses n buffers; its job begins as a copy of `bytes` at `job`. NULL with the error
 * set. */
Step *step_new(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *), int n,
               const int *buffers, const void *job, size_t bytes, Error *e);
/* One more buffer of the step that was made last. */
void step_uses(Compiler *c, Step *s, int buffer);
/* Sums n doubles of a buffer over the ranks of the request's group; nothing where there is none. */
int step_sum_over_ranks(Compiler *c, int buffer, int64_t n, Error *e);

/* Value `value` lies in `buffer` from now on. */
void value_place(Compiler *c, int value, int buffer);
/* Whether the op that is being lowered may write over the value: it reads the value last, neither
 * another of its operands nor anything that is read later lies in the same memory, and the memory
 * is the plan's. */
bool value_dies(const Compiler *c, int value);
/* The op that alone reads the value and is not claimed yet, if it is of this kind; else -1. */
int value_only_reader(const Compiler *c, int value, OpKind kind);
int64_t value_elements(const Compiler *c, int value);
/* Whether a map reads each element of its operand once, in plain order: nothing is repeated. */
bool map_reads_whole(const MapSpec *m, int operand);

#endif
