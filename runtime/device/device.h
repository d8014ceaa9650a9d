/* A device: one struct of functions that work on its own memory. backend/cpu/ fills the struct in
 * for the CPU; a plugin does so for other hardware.
 *
 * A `void *` or `float *` here points to device memory, unless a comment says host. tensor/ and
 * net/ check shapes and types before they call. A device checks only its own memory and library.
 * Every function returns 0, or -1 with the error set. Results do not depend on the number of
 * threads. The results of one image do not depend on the other images of the batch.
 *
 * Letters: N images, C channels, H W height and width, K classes, D elements of one image (C*H*W),
 * P elements of a parameter.
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
    BINARY_MIN, /* MIN, MAX: NaN if either operand is NaN */
    BINARY_MAX,
    BINARY_POW,
    BINARY_GREATER, /* GREATER, AT_LEAST, EQUAL: 1 or 0; 0 if either operand is NaN */
    BINARY_AT_LEAST,
    BINARY_EQUAL,
    BINARY_SHARE, /* Heaviside step of a - b: 1 if a > b, 1/2 if a = b, 0 if a < b; NaN if either is
                     NaN */
    BINARY_KEEP,  /* mask: a if b is not 0 (NaN is not 0), else 0, even if a is NaN */
    BINARY_OPS
} BinaryOp;

/* Elementwise functions of one operand, as in C's math library. */
typedef enum MapOp { MAP_EXP, MAP_LOG, MAP_LOG1P, MAP_TANH, MAP_SQRT, MAP_OPS } MapOp;

enum { DEVICE_DIMS = 8 };

/* How two operands combine into out [shape], which is contiguous. One step along dimension i moves
 * by a[i] elements in the first operand and by b[i] in the second. A stride is 0 if the operand has
 * one element in that dimension. In the last dimension each stride is 0 or 1; both are 0 only if
 * the dimension has one element. */
typedef struct Broadcast {
    int ndim; /* at least 1 */
    int64_t shape[DEVICE_DIMS], a[DEVICE_DIMS], b[DEVICE_DIMS];
} Broadcast;

/* A tensor seen as [outer,K,inner]. A row holds K elements, `inner` elements apart; there is one
 * row per pair of outer and inner index. */
typedef struct RowShape {
    int64_t outer, K, inner;
} RowShape;

/* The reduction of a row to one number: computed in double, rounded once. */
typedef enum ReduceOp {
    REDUCE_SUM,
    REDUCE_ABS_SUM, /* the 1-, 2- and inf-norm; NaN if an element is NaN */
    REDUCE_NORM,
    REDUCE_ABS_MAX,
    REDUCE_LOGSUMEXP, /* log sum exp; +inf if an element is +inf; -inf if every element is -inf or
                         there is none */
    REDUCE_OPS
} ReduceOp;

/* Products of matrices; ' marks a transpose. */
typedef enum MatmulKind {
    MATMUL_NN, /* a [M,K] b [K,N] */
    MATMUL_NT, /* a [M,K] b' [N,K] */
    MATMUL_TN, /* a' [K,M] b [K,N] */
    MATMUL_KINDS
} MatmulKind;

/* The softmax functions of a row, each rounded once. SOFTMAX: the softmax, computed in double.
 * SOFTMAX_LOG: its logarithm, computed in double. SOFTMAX_FLOAT: exp of the logarithm, in float.
 * There, if the sum rounds to 1, the other classes vanish. Frameworks compute SOFTMAX_FLOAT. The
 * gradient of the loss "ce" uses it, with equal bits. */
typedef enum SoftmaxKind { SOFTMAX, SOFTMAX_LOG, SOFTMAX_FLOAT } SoftmaxKind;

/* What one row of logits says about an image with initial class c and target class t. */
typedef struct LogitStats {
    float *p_initial, *p_target; /* [N] softmax of c and t; NaN if a logit is not finite */
    float *z_initial, *z_target; /* [N] logits of c and t */
    int64_t *prediction;         /* [N] argmax, the lowest index of a tie; -1 if a logit is NaN */
    uint8_t *subspace; /* [N] subspace S1, S2 or S3 as 1, 2, 3: Definition IV.1 with tau = 0.9 */
} LogitStats;

/* The update of one parameter. p, m and v are [P] and updated in place; g is [P]. */
typedef struct SgdStep {
    double rate, momentum,
        weight_decay; /* g' = g + weight_decay p; m = momentum m + g'; p -= rate d */
    bool nesterov;    /* d = g' + momentum m, else d = m */
} SgdStep;
typedef struct AdamStep {
    double rate, beta1, beta2, eps;
    double weight_decay; /* added to the gradient; if decoupled (AdamW): p -= rate weight_decay p */
    bool decoupled;
    int64_t t; /* number of this step, counted from 1, for the bias corrections */
} AdamStep;

/* The box that images are clipped to: low and high, [D] each, low at most high. If both are NULL,
 * the box is 0 to 1. */
typedef struct Box {
    const float *low, *high;
} Box;

/* Images in Carlini & Wagner's space, x = low + (high - low) (tanh w + 1) / 2, with Adam's state
 * there, all [N,D]. Image n has the objective ||x - x0||^2 - c_n L; q [N,D] is the gradient of
 * L. */
typedef struct TanhStep {
    Box box;
    float *x, *w, *m, *v;
    const float *q, *x0;
    const double *c;  /* [N] */
    const int64_t *t; /* [N] number of the image's step, from 1; 0: it does not move */
    double *l2;       /* [N] ||x - x0|| after the step */
} TanhStep;

/* The paper's attack on a batch, Eq. 11-16, all in device memory: x_{n+1} = clip(x_n + a_n q_n).
 * q_n is the loss's gradient at x_n, or its sign. a_n is constant, or a size divided by a norm of
 * q_n (0 if q_n is zero). N, C, H, W and K are the plan's; it is a gradient plan. A step overwrites
 * the buffers of a step, and reads and writes the results. flip_iteration[i] is -1 until image i is
 * classified as its target; `first` then receives its x. The series are [iterations + 1, N]. */
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

/* Processes that sum their numbers together; each process has its own device. */
typedef struct Group Group;
struct Group {
    int rank, count;
    /* All-reduce: x [n] becomes the sum over the ranks, with the same bits on every rank. All ranks
     * call it with the same n, in the same order. */
    int (*sum)(Group *g, float *x, int64_t n, Error *e);
    int (*sum_double)(Group *g, double *x, int64_t n, Error *e);
    void (*free)(Group *g);
};
enum { GROUP_ID = 128 };

struct Device {
    const char *name; /* "cpu", "cuda:0" */
    const char
        *isa;    /* the instruction set of the device's own kernels: "x86-64", "avx2", "avx512" */
    bool host;   /* its memory is host memory */
    bool bf16;   /* its plans compute in PLAN_MIXED and PLAN_BF16 too */
    bool tf32;   /* its plans compute in PLAN_TF32 too */
    bool rounds; /* it emulates bf16 with f32 instructions: programs contain OP_ROUND */
    size_t alignment; /* bytes; of the buffers in a plan's arena */

    /* Memory. copy_in and copy_out copy between host and device; the copy is complete when they
     * return. */
    int (*take)(Device *d, size_t bytes, const char *what, void **out, Error *e);
    void (*release)(Device *d, void *memory);
    int (*copy_in)(Device *d, void *to, const void *host, size_t bytes, Error *e);
    int (*copy_out)(Device *d, void *host, const void *from, size_t bytes, Error *e);
    int (*copy)(Device *d, void *to, const void *from, size_t bytes, Error *e);

    /* Elementwise over n floats. binary: b is [n]; binary_scalar: b is one number. out may be a or
     * b. clamp keeps NaN. */
    int (*fill)(Device *d, float *out, float value, int64_t n, Error *e);
    int (*binary)(Device *d, BinaryOp op, const float *a, const float *b, float *out, int64_t n,
                  Error *e);
    int (*binary_scalar)(Device *d, BinaryOp op, const float *a, float b, float *out, int64_t n,
                         Error *e);
    int (*clamp)(Device *d, const float *a, float low, float high, float *out, int64_t n, Error *e);
    /* out = round half to even (a * levels) / levels. With levels 255: the nearest 8-bit image. */
    int (*quantize)(Device *d, const float *a, float levels, float *out, int64_t n, Error *e);
    /* out = -1, 0 or 1; the sign of NaN is NaN, the sign of +-0 is 0. out may be a. */
    int (*sign)(Device *d, const float *a, float *out, int64_t n, Error *e);

    /* The operations of autograd. out overlaps no operand, with two exceptions: in map it may be a;
     * in broadcast it may be an operand of its own shape. broadcast: as binary, with the operands'
     * elements repeated as s says. */
    int (*map)(Device *d, MapOp op, const float *a, float *out, int64_t n, Error *e);
    int (*broadcast)(Device *d, BinaryOp op, const Broadcast *s, const float *a, const float *b,
                     float *out, Error *e);
    /* a [outer,K,inner]; out [outer,inner]. */
    int (*reduce)(Device *d, ReduceOp op, const float *a, RowShape r, float *out, Error *e);
    /* Softmax of each row; a, out [outer,K,inner]. SOFTMAX_LOG equals the value of the loss "ce",
     * bit for bit. */
    int (*softmax)(Device *d, SoftmaxKind kind, const float *a, RowShape r, float *out, Error *e);
    /* The k largest elements of each row in falling order, and their indices from 0; both
     * [outer,k,inner]. NaN counts as larger than every number. Among equal elements the lowest
     * index comes first. */
    int (*top)(Device *d, const float *a, RowShape r, int64_t k, float *value, int64_t *index,
               Error *e);
    /* gather: out [outer,J,inner] holds a's elements at index [outer,J,inner]. With `others`, index
     * is [outer,inner], J is K - 1, and out is the row without that element. scatter is the adjoint
     * of gather and overwrites da [outer,K,inner]. It adds each element of dy [outer,J,inner] to
     * the element of da that gather read, in the order of J. Elements that gather did not read get
     * 0. Every index is in 0 .. K-1. */
    int (*gather)(Device *d, bool others, const float *a, const int64_t *index, RowShape r,
                  int64_t J, float *out, Error *e);
    int (*scatter)(Device *d, bool others, const float *dy, const int64_t *index, RowShape r,
                   int64_t J, float *da, Error *e);
    /* out [M,N]. */
    int (*matmul)(Device *d, MatmulKind kind, const float *a, const float *b, float *out, int64_t M,
                  int64_t K, int64_t N, Error *e);

    /* Losses. z [N,K] are the logits, target [N] is in 0 .. K-1, and K is at least what the loss
     * needs. value [N] is the quantity that the attack ascends; dz [N,K], overwritten, is its
     * gradient. If the device does not compute the loss, the error names both. */
    int (*loss)(Device *d, const LossCall *call, const float *z, const int64_t *target, int64_t N,
                int64_t K, float *value, float *dz, Error *e);
    int (*logit_stats)(Device *d, const float *z, const int64_t *initial, const int64_t *target,
                       int64_t N, int64_t K, const LogitStats *out, Error *e);
    /* Mean cross-entropy over the batch and its gradient [N,K], for training. loss is one double;
     * correct is the number of rows whose argmax is the label. */
    int (*cross_entropy)(Device *d, const float *z, const int64_t *label, int64_t N, int64_t K,
                         double *host_loss, int64_t *host_correct, float *dz, Error *e);

    /* One pass over q [N,D]: the l2 and linf norms in double, and the fraction of exact zeros. Each
     * is [N]. */
    int (*norms)(Device *d, const float *q, int64_t N, int64_t D, double *l2, double *linf,
                 double *zero_share, Error *e);
    /* Eq. 11-16 in one pass: x = clip(x + a_n q_n) to the box, with a [N] in double and x, q [N,D].
     * Then l2 and linf [N] of x - x0. The sum is computed in double and rounded once. If a_n is 0,
     * image n does not move, even where q_n is NaN. */
    int (*step)(Device *d, float *x, const float *q, const double *a, const float *x0, Box box,
                int64_t N, int64_t D, double *l2, double *linf, Error *e);

    /* One pass: x = x0 + s_n (x - x0), with each element of the difference clamped to [-r_n, r_n].
     * x and x0 are [N,D], s and r [N]; r may be infinite. Computed in double and rounded towards
     * x0, so |x - x0| never exceeds its value before rounding. NaN stays NaN. */
    int (*project)(Device *d, float *x, const float *x0, const double *s, const double *r,
                   int64_t N, int64_t D, Error *e);
    /* One pass: a step of Adam on w, then x and its distance from x0. Of s it reads only rate,
     * beta1, beta2 and eps. */
    int (*tanh_step)(Device *d, const AdamStep *s, const TanhStep *a, int64_t N, int64_t D,
                     Error *e);

    /* Runs steps first .. end-1 of an attack on the device alone and records them
     * (lua/advrt/attack.lua). Step n fills row n of the series, and l2 and linf of row n + 1. Step
     * n = `iterations` only records: it does not move the images. NULL if single calls cost nothing
     * extra on this device. */
    int (*ascend)(Device *d, const Ascent *a, int64_t first, int64_t end, Error *e);

    int (*sgd)(Device *d, const SgdStep *s, float *p, const float *g, float *m, int64_t P,
               Error *e);
    int (*adam)(Device *d, const AdamStep *s, float *p, const float *g, float *m, float *v,
                int64_t P, Error *e);

    /* group_id makes the name of a new group: rank 0 makes it and sends it to the other ranks.
     * group_new enters the group as `rank` of `count`; it returns when all ranks have entered. Free
     * a group before its device. All are NULL on a device without groups, and on the CPU: its group
     * is the one of the processes (dist/dist.h). */
    int (*group_id)(Device *d, char id[GROUP_ID], Error *e);
    int (*group_new)(Device *d, int rank, int count, const char id[GROUP_ID], Group **out,
                     Error *e);

    /* Frees what the device itself holds; NULL if it holds nothing. */
    void (*close)(Device *d);

    /* Lowering a program's primitives into a plan's steps (device/plan.h). lower_begin makes the
     * device's temporary state (c->own). lower emits the steps of op c->op. lower_end frees that
     * state; it is called after a failure too. lower_begin and lower_end may be NULL. */
    int (*lower_begin)(struct Compiler *c, Error *e);
    int (*lower)(struct Compiler *c, const struct Op *op, Error *e);
    int (*lower_end)(struct Compiler *c, Error *e);
    /* run_timed runs steps first .. end-1 of a plan that is being timed, and adds to its seconds.
     * It is NULL if the device has no clock of its own. plan_ends is called before a plan is freed;
     * it may be NULL. */
    int (*run_timed)(Plan *p, int first, int end, Error *e);
    void (*plan_ends)(Plan *p);
    /* free_bytes: the bytes that `take` could still get. taken_for: the bytes that a `take` of
     * `bytes` really uses. Both are NULL on a device that shares the host's memory. */
    size_t (*free_bytes)(Device *d);
    size_t (*taken_for)(size_t bytes);
};

/* The CPU device, which is always available. threads 0 means the cores that this process may use.
 * The device lives as long as the process. The environment variable ADVRT_ISA=x86-64|avx2|avx512
 * lowers the instruction set of the device's own kernels and of oneDNN. */
int cpu_device(int threads, Device **out, Error *e);
/* The number of threads that threads = 0 means; the version of the loaded oneDNN ("2.6.3"). */
int cpu_threads_default(void);
const char *cpu_onednn_version(void);
/* Whether the processor has instructions that multiply bf16 numbers. The device does not use them:
 * it computes bf16 as f32 arithmetic on rounded numbers (backend/cpu/precision.c). */
bool cpu_has_bf16(void);

#endif
