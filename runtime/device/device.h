/* A device: one struct of functions over its own memory. The CPU fills it in
 * backend/cpu/; a plugin fills it in for another kind of hardware.
 *
 * Pointers named `void *` or `float *` here are device memory unless they say
 * host. Shapes and types have been checked by tensor/ and net/ before a call
 * gets here, so a device checks only what it alone can know (its memory, its
 * library). Every function returns 0, or -1 with the error set. Results of one
 * call do not depend on the number of threads, and the figures of one image do
 * not depend on its neighbours in the batch.
 *
 * Letters: N images, C channels, H W height and width, K classes, D elements of
 * one image (C*H*W), P elements of a parameter.
 */
#ifndef ADVRT_DEVICE_DEVICE_H
#define ADVRT_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "device/loss.h"

typedef struct Device Device;
typedef struct Plan Plan;
struct Compiler; /* device/plan.h */
struct Op;       /* device/program.h */

typedef enum Dtype {
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I64,
    DTYPE_I32,
    DTYPE_I16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_BOOL,
    DTYPES
} Dtype;

/* Elementwise operations: out = a OP b. */
typedef enum BinaryOp {
    BINARY_ADD,
    BINARY_SUB,
    BINARY_MUL,
    BINARY_DIV,
    BINARY_MIN, /* MIN, MAX: NaN where either is */
    BINARY_MAX,
    BINARY_POW,
    BINARY_GREATER, /* GREATER, AT_LEAST, EQUAL: 1 or 0; 0 where either is NaN */
    BINARY_AT_LEAST,
    BINARY_EQUAL,
    BINARY_SHARE, /* 1 where a > b, 1/2 where a = b, 0 where a < b, NaN where either is */
    BINARY_KEEP,  /* a where b is not 0 (NaN is not), else 0, whatever a is */
    BINARY_OPS
} BinaryOp;

/* Elementwise functions of one operand, as in C's math library. */
typedef enum MapOp { MAP_EXP, MAP_LOG, MAP_LOG1P, MAP_TANH, MAP_SQRT, MAP_OPS } MapOp;

enum { DEVICE_DIMS = 8 };

/* How two operands meet in out [shape], which is contiguous: a step along dimension i is a[i] and
 * b[i] elements of the operands, 0 where an operand has one element for the whole dimension. Those
 * of the last dimension are 0 or 1, and not both 0 where there is more than one element. */
typedef struct Broadcast {
    int ndim; /* at least 1 */
    int64_t shape[DEVICE_DIMS], a[DEVICE_DIMS], b[DEVICE_DIMS];
} Broadcast;

/* A tensor around one of its dimensions, [outer,K,inner]: a row is the K elements at one place of
 * outer and inner, `inner` elements apart. */
typedef struct RowShape {
    int64_t outer, K, inner;
} RowShape;

/* What a row becomes: sums in double, rounded once. */
typedef enum ReduceOp {
    REDUCE_SUM,
    REDUCE_ABS_SUM, /* the norms 1, 2 and inf; NaN where an element is */
    REDUCE_NORM,
    REDUCE_ABS_MAX,
    REDUCE_LOGSUMEXP, /* log sum exp; +inf where an element is, -inf of all -inf and of none */
    REDUCE_OPS
} ReduceOp;

/* Products of matrices, ' for transposed. */
typedef enum MatmulKind {
    MATMUL_NN, /* a [M,K] b [K,N] */
    MATMUL_NT, /* a [M,K] b' [N,K] */
    MATMUL_TN, /* a' [K,M] b [K,N] */
    MATMUL_KINDS
} MatmulKind;

/* What is made of a row: its softmax in double; that one's logarithm, in double; and the softmax as
 * exp of the logarithm in float, where a sum that rounds to 1 hides the other classes. Frameworks
 * have the last, and so has the gradient of the loss "ce", to the bit. Rounded once each. */
typedef enum SoftmaxKind { SOFTMAX, SOFTMAX_LOG, SOFTMAX_FLOAT } SoftmaxKind;

/* What one row of logits says about an image with initial class c and target t. */
typedef struct LogitStats {
    float *p_initial, *p_target; /* [N] softmax of c and t; NaN where a logit is not finite */
    float *z_initial, *z_target; /* [N] logits of c and t */
    int64_t *prediction;         /* [N] argmax, the lowest of a tie; -1 where a logit is NaN */
    uint8_t *subspace;           /* [N] 1, 2, 3: Definition IV.1 with tau = 0.9 */
} LogitStats;

/* One parameter's update; p, m and v are [P] and updated in place, g is [P]. */
typedef struct SgdStep {
    double rate, momentum,
        weight_decay; /* g' = g + weight_decay p; m = momentum m + g'; p -= rate d */
    bool nesterov;    /* d = g' + momentum m, else d = m */
} SgdStep;
typedef struct AdamStep {
    double rate, beta1, beta2, eps;
    double
        weight_decay; /* added to the gradient, or, decoupled (AdamW), p -= rate weight_decay p */
    bool decoupled;
    int64_t t; /* number of this step, from 1, for the bias corrections */
} AdamStep;

/* The box that an attack holds images in, [D] each, low at most high; both NULL: from 0 to 1. */
typedef struct Box {
    const float *low, *high;
} Box;

/* Images in Carlini & Wagner's space, x = low + (high - low) (tanh w + 1) / 2, and Adam's state
 * there, all [N,D]; what the objective ||x - x0||^2 - c_n L says of image n: q [N,D] is the
 * gradient of L. */
typedef struct TanhStep {
    Box box;
    float *x, *w, *m, *v;
    const float *q, *x0;
    const double *c;  /* [N] */
    const int64_t *t; /* [N] number of the image's step, from 1; 0: the image stays */
    double *l2;       /* [N] of x - x0 after the step */
} TanhStep;

/* The paper's attack on a batch, Eq. 11-16, all in device memory: x_{n+1} = clip(x_n + a_n q_n)
 * with q_n the loss's gradient at x_n, or its sign, and a_n constant, or size over a norm of q_n (0
 * where q_n is zero). N, C, H, W and K are the plan's, which is a gradient plan. The buffers of a
 * step are overwritten; those of the results are read and written: flip_iteration is -1 until image
 * i is classified as its target, first its x then. The series are [iterations + 1, N]. */
typedef enum AscentRule { ASCENT_CONSTANT, ASCENT_L2, ASCENT_LINF } AscentRule;
typedef struct Ascent {
    Plan *plan;
    LossCall loss;
    bool sign;
    AscentRule rule;
    double size;
    int64_t iterations;
    const int64_t *initial, *target; /* [N] */
    Box box;
    const float *x0;
    float *x, *q, *first;                 /* [N,C,H,W] */
    float *z, *dz, *value;                /* [N,K], [N,K], [N] */
    int64_t *flip_iteration, *zero_steps; /* [N] */
    double *flip_l2, *flip_linf;          /* [N] */
    float *p_initial, *p_target, *z_initial, *z_target;
    double *grad_l2, *step_l2, *l2, *linf, *zero_share;
    uint8_t *subspace;
} Ascent;

/* Processes that add numbers up together, each with its own on a device of its own. */
typedef struct Group Group;
struct Group {
    int rank, count;
    /* The all-reduce: x [n] becomes the sum of every rank's x, the same bits in each. All ranks
     * call it, with the same n, in the same order. */
    int (*sum)(Group *g, float *x, int64_t n, Error *e);
    int (*sum_double)(Group *g, double *x, int64_t n, Error *e);
    void (*free)(Group *g);
};
enum { GROUP_ID = 128 };

struct Device {
    const char *name; /* "cpu", "cuda:0" */
    const char
        *isa;    /* the instruction set of the device's own kernels: "x86-64", "avx2", "avx512" */
    bool host;   /* its memory is the host's */
    bool bf16;   /* its plans compute in PLAN_MIXED and PLAN_BF16 too */
    bool tf32;   /* and in PLAN_TF32 */
    bool rounds; /* it makes bf16's numbers with f32's instructions: programs hold OP_ROUND */
    size_t alignment; /* of the buffers in a plan's arena */

    /* Memory. copy_in and copy_out move between host and device and have finished on return. */
    int (*take)(Device *d, size_t bytes, const char *what, void **out, Error *e);
    void (*release)(Device *d, void *memory);
    int (*copy_in)(Device *d, void *to, const void *host, size_t bytes, Error *e);
    int (*copy_out)(Device *d, void *host, const void *from, size_t bytes, Error *e);
    int (*copy)(Device *d, void *to, const void *from, size_t bytes, Error *e);

    /* Elementwise over n floats. binary: b is [n]; binary_scalar: b is one number.
     * out may be a or b. clamp: NaN stays NaN. */
    int (*fill)(Device *d, float *out, float value, int64_t n, Error *e);
    int (*binary)(Device *d, BinaryOp op, const float *a, const float *b, float *out, int64_t n,
                  Error *e);
    int (*binary_scalar)(Device *d, BinaryOp op, const float *a, float b, float *out, int64_t n,
                         Error *e);
    int (*clamp)(Device *d, const float *a, float low, float high, float *out, int64_t n, Error *e);
    /* out = round half to even (a * levels) / levels: the nearest image on an 8-bit grid for 255.
     */
    int (*quantize)(Device *d, const float *a, float levels, float *out, int64_t n, Error *e);
    /* out = -1, 0, 1; sign of NaN is NaN, of +-0 is 0. out may be a. */
    int (*sign)(Device *d, const float *a, float *out, int64_t n, Error *e);

    /* What autograd is made of. out overlaps no operand, but in map it may be a, and in broadcast
     * an operand of its shape. broadcast: as binary, the operands' elements repeated as s says. */
    int (*map)(Device *d, MapOp op, const float *a, float *out, int64_t n, Error *e);
    int (*broadcast)(Device *d, BinaryOp op, const Broadcast *s, const float *a, const float *b,
                     float *out, Error *e);
    /* a [outer,K,inner]; out [outer,inner]. */
    int (*reduce)(Device *d, ReduceOp op, const float *a, RowShape r, float *out, Error *e);
    /* Of each row; a, out [outer,K,inner]. The logarithm is the value of the loss "ce", to the
     * bit. */
    int (*softmax)(Device *d, SoftmaxKind kind, const float *a, RowShape r, float *out, Error *e);
    /* The k largest of each row in falling order, and where they are, from 0; both [outer,k,inner].
     * NaN counts as larger than all numbers; of equal ones the first comes first. */
    int (*top)(Device *d, const float *a, RowShape r, int64_t k, float *value, int64_t *index,
               Error *e);
    /* gather: out [outer,J,inner] are a's elements at index [outer,J,inner]; or, `others`, index is
     * [outer,inner], J is K - 1, and out is the row without that element. scatter is its adjoint:
     * da [outer,K,inner], overwritten, is the sum, in the order of J, of what each element of
     * dy [outer,J,inner] was taken from, 0 elsewhere. Every index is in 0 .. K-1. */
    int (*gather)(Device *d, bool others, const float *a, const int64_t *index, RowShape r,
                  int64_t J, float *out, Error *e);
    int (*scatter)(Device *d, bool others, const float *dy, const int64_t *index, RowShape r,
                   int64_t J, float *da, Error *e);
    /* out [M,N]. */
    int (*matmul)(Device *d, MatmulKind kind, const float *a, const float *b, float *out, int64_t M,
                  int64_t K, int64_t N, Error *e);

    /* Losses. z [N,K] logits, target [N] in 0 .. K-1, K as many as the loss needs. value [N] is
     * what the attack ascends, dz [N,K] its gradient, overwritten. A loss that the device does not
     * compute is an error that names both. */
    int (*loss)(Device *d, const LossCall *call, const float *z, const int64_t *target, int64_t N,
                int64_t K, float *value, float *dz, Error *e);
    int (*logit_stats)(Device *d, const float *z, const int64_t *initial, const int64_t *target,
                       int64_t N, int64_t K, const LogitStats *out, Error *e);
    /* Mean cross-entropy over the batch and its gradient [N,K] for training; loss is one double,
     * correct the number of rows whose argmax is the label. */
    int (*cross_entropy)(Device *d, const float *z, const int64_t *label, int64_t N, int64_t K,
                         double *host_loss, int64_t *host_correct, float *dz, Error *e);

    /* One pass over q [N,D]: l2 and linf norms in double, and the share of exact zeros; each [N].
     */
    int (*norms)(Device *d, const float *q, int64_t N, int64_t D, double *l2, double *linf,
                 double *zero_share, Error *e);
    /* Eq. 11-16, in one pass: x = clip(x + a_n q_n) to the box, a [N] in double, x and q [N,D];
     * then l2 and linf [N] of x - x0. The sum is made in double and rounded once. An image whose
     * a_n is 0 does not move, whatever q_n holds. */
    int (*step)(Device *d, float *x, const float *q, const double *a, const float *x0, Box box,
                int64_t N, int64_t D, double *l2, double *linf, Error *e);

    /* One pass: x = x0 + s_n (x - x0), each element of the difference held to [-r_n, r_n]; x and x0
     * [N,D], s and r [N], r may be infinite. Made in double and rounded towards x0, so
     * that |x - x0| is never above what it was rounded from. NaN stays NaN. */
    int (*project)(Device *d, float *x, const float *x0, const double *s, const double *r,
                   int64_t N, int64_t D, Error *e);
    /* One pass: Adam's step of rate, beta1, beta2 and eps (the rest of s is not read) on w, then x
     * and its distance from x0. */
    int (*tanh_step)(Device *d, const AdamStep *s, const TanhStep *a, int64_t N, int64_t D,
                     Error *e);

    /* Steps first .. end-1 of an attack and what is noted of each (lua/advrt/attack.lua), on the
     * device alone: step n fills row n of the series, and l2 and linf of row n + 1, and takes no
     * step where n is `iterations`. NULL where calls one by one cost nothing. */
    int (*ascend)(Device *d, const Ascent *a, int64_t first, int64_t end, Error *e);

    int (*sgd)(Device *d, const SgdStep *s, float *p, const float *g, float *m, int64_t P,
               Error *e);
    int (*adam)(Device *d, const AdamStep *s, float *p, const float *g, float *m, float *v,
                int64_t P, Error *e);

    /* group_id names a new group: rank 0 makes the name and hands it to the others. group_new
     * enters the group as `rank` of `count` and returns when all have; freed before the device is.
     * NULL on a device that knows no groups, and on the CPU, whose group is the processes' own
     * (dist/dist.h). */
    int (*group_id)(Device *d, char id[GROUP_ID], Error *e);
    int (*group_new)(Device *d, int rank, int count, const char id[GROUP_ID], Group **out,
                     Error *e);

    /* Gives back what the device itself holds; NULL where that is nothing. */
    void (*close)(Device *d);

    /* Lowering a program's primitives into a plan's steps (device/plan.h): begin makes what the
     * device keeps meanwhile (c->own), end, which is called in any case, gives it back, and lower
     * emits the steps of op c->op. begin and end may be NULL. */
    int (*lower_begin)(struct Compiler *c, Error *e);
    int (*lower)(struct Compiler *c, const struct Op *op, Error *e);
    int (*lower_end)(struct Compiler *c, Error *e);
    /* Runs steps first .. end-1 of a plan that is timed, adding to its seconds, where the device
     * has a clock of its own; else NULL. plan_ends: a plan is about to be freed; may be NULL. */
    int (*run_timed)(Plan *p, int first, int end, Error *e);
    void (*plan_ends)(Plan *p);
    /* Bytes that a take could still get, and that one of `bytes` really uses up. NULL on a device
     * that shares the host's memory. */
    size_t (*free_bytes)(Device *d);
    size_t (*taken_for)(size_t bytes);
};

/* The CPU device, always there; threads 0 means the cores this process may use. The device
 * lives as long as the process. ADVRT_ISA=x86-64|avx2|avx512 in the environment chooses a
 * lesser instruction set than the processor's for the device's own kernels and oneDNN's. */
int cpu_device(int threads, Device **out, Error *e);
/* The threads that threads = 0 stands for, and the version of oneDNN that is loaded ("2.6.3"). */
int cpu_threads_default(void);
const char *cpu_onednn_version(void);
/* Whether the processor multiplies bf16 numbers itself. The device does not use it: its bf16 is
 * f32's arithmetic on rounded numbers (backend/cpu/precision.c). */
bool cpu_has_bf16(void);

#endif
