/* A program: the computation of a plan, as a list of primitives in the order in which they run.
 * net/ makes it from a network's layers, adds the primitives of the gradient, and fuses ops. A
 * device lowers each primitive to its own steps. This header has types only, no function.
 *
 * Every op makes new values, and each value has one maker. So the program shows every value that
 * backward reads from forward. Code that writes in place must check the value's last reader. Shapes
 * leave out the batch dimension. Ops on images see a value as [C,H,W] per image; other ops see its
 * own shape. Both views describe the same contiguous memory.
 *
 * An op may have more work fused into it. It runs in this order, each part where set:
 *
 *   out[0] = mask(activation(result + add)), and open = the bits of out[0]
 *
 * A device that cannot do a part in the same pass does it in a step of its own.
 *
 * Letters: N images, C and K input and output channels, H W height and width, G groups, R S kernel
 * height and width.
 */
#ifndef ADVRT_DEVICE_PROGRAM_H
#define ADVRT_DEVICE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef enum OpKind {
    OP_INPUT,     /* in: a tensor of the caller; out: the value */
    OP_OUTPUT,    /* in: a value; out: a tensor of the caller */
    OP_NORMALIZE, /* (x - mean) / std per channel, in double */
    OP_AFFINE,    /* scale x + shift per channel; a gradient has no shift */
    OP_CONV,      /* in: x; params: weight [K, C/G, R, S], bias [K] */
    OP_CONV_DATA, /* in: dy; out: dx. In the forward half this is a transposed convolution without a
                     bias, and OP_CONV is its gradient */
    OP_CONV_WEIGHTS, /* in: x, dy; writes the gradients of its params. For a transposed convolution,
                        x is the gradient of the output, and dy is the input */
    OP_LINEAR,       /* in: x; params: weight [K, C*H*W], bias [K] */
    OP_LINEAR_DATA,
    OP_LINEAR_WEIGHTS,
    OP_BATCHNORM,      /* for training: in: x; out: y, mean, variance; params: weight, bias,
                          running_mean, running_var [C]; updates the running ones */
    OP_BATCHNORM_BACK, /* in: x, dy, mean, variance; out: dx, or NO_VALUE; writes the gradients of
                          weight and bias */
    OP_RELU,           /* min(max(x, 0), cap); NaN stays NaN */
    OP_MASK,           /* in: x, bits; out: x if the bit is set, else 0 */
    OP_MAXPOOL,      /* in: x; out: y, and the winners' indices (NO_VALUE if nothing reads them) */
    OP_MAXPOOL_BACK, /* in: dy, indices */
    OP_AVGPOOL,      /* torch's adaptive average onto the grid of out */
    OP_AVGPOOL_BACK,
    OP_ADD,          /* in: a, b */
    OP_DROPOUT,      /* for training: in: x; out: y, and bits if a gradient reads them */
    OP_DROPOUT_BACK, /* in: dy, bits */
    OP_ROUND,        /* to bf16's 8 significant bits, ties to even */
    OP_MAP,          /* Op.map: an elementwise formula of values and params */
    OP_REDUCE,       /* Op.reduce: sums over dimensions; in: x */
    OP_REDUCE_PARAM, /* OP_REDUCE, summed over the batch too, into the gradient of param[0] */
    OP_VIEW,         /* the same elements in another shape */
    OP_MOVE,         /* Op.move: a strided copy that writes all of out; in: x */
    OP_INSERT, /* Op.move: a strided copy into a part of out; in: x, and a base value that gives the
                  other elements. With base NO_VALUE the other elements, if any, are 0. A base is
                  made by another insert, and only this op reads it. A chain of inserts writes no
                  element twice */
    OP_MATMUL, /* Op.matmul; in: a, b. One of them may be param[0]; its in is then NO_VALUE.
                  param[1]: bias. Elements that no product writes are 0 */
    OP_MATMUL_PARAM, /* Op.matmul, summed over the batch, into the whole gradient of param[0]; in:
                        a, b */
    OP_SOFTMAX,      /* of each row (Op.rows) */
    OP_SOFTMAX_BACK, /* in: dy, y */
    OP_STANDARDIZE,  /* (x - mean) / sqrt(variance + eps) of each row (Op.rows); variance is divided
                        by the row's length; out: y, and 1 / sqrt(variance + eps) of each row */
    OP_STANDARDIZE_BACK, /* in: dy, y, and the second output */
    OP_AVGWINDOW, /* average pooling with kernel, stride and pad (see Op.count_pad). A window may
                     extend past the padding; that part does not count */
    OP_AVGWINDOW_BACK,
    OP_RESIZE, /* Op.resize: interpolates planes onto the grid of out */
    OP_RESIZE_BACK,
    OP_KINDS
} OpKind;

enum { NO_VALUE = -1, OP_INPUTS = 6, OP_OUTPUTS = 3, OP_PARAMS = 4 };

/* The shape of a value for one image. */
enum { SHAPE_DIMS = 6 };
typedef struct Shape {
    int ndim;
    int64_t dim[SHAPE_DIMS];
} Shape;

/* --- the attributes of some primitives; strides are in elements and leave out the batch --- */

/* A formula is a sequence of steps on elements. Step i computes register i from registers a, b and
 * c of earlier steps; the last register is the result. A comparison gives 1 or 0, and 0 if an
 * operand is NaN. */
typedef enum FormulaCode {
    FORMULA_OPERAND,  /* operand number a */
    FORMULA_CONSTANT, /* `constant` */
    FORMULA_ADD,
    FORMULA_SUB,
    FORMULA_MUL,
    FORMULA_DIV,
    FORMULA_MIN, /* NaN if either operand is NaN */
    FORMULA_MAX,
    FORMULA_NEG,
    FORMULA_ABS,
    FORMULA_SIGN, /* -1, 0 or 1; 0 for NaN */
    FORMULA_EXP,
    FORMULA_LOG,
    FORMULA_TANH,
    FORMULA_ERF,
    FORMULA_SQRT,
    FORMULA_SIGMOID,
    FORMULA_SOFTPLUS, /* log(1 + exp(a)) */
    FORMULA_POW,      /* a to the power of b, as C's pow */
    FORMULA_FLOOR,
    FORMULA_GREATER,
    FORMULA_AT_LEAST,
    FORMULA_EQUAL,
    FORMULA_SELECT, /* b if a is not 0, else c */
    FORMULA_CODES
} FormulaCode;

enum { FORMULA_STEPS = 96, MAP_OPERANDS = 8 };
typedef struct FormulaStep {
    FormulaCode code;
    int16_t a, b, c;
    float constant;
} FormulaStep;
typedef struct Formula {
    int operands, n;
    FormulaStep step[FORMULA_STEPS];
} Formula;

/* An operand is in[input]; if input is -1, it is param[param]. A stride of 0 repeats an element. */
typedef struct MapOperand {
    int input, param;
    int64_t stride[SHAPE_DIMS];
} MapOperand;
typedef struct MapSpec {
    Formula formula;
    MapOperand operand[MAP_OPERANDS];
    Shape shape; /* shape of out */
} MapSpec;

/* out = scale times the sum over the dimensions that `over` marks. The other dimensions keep their
 * order. */
typedef struct ReduceSpec {
    Shape shape; /* shape of x */
    bool over[SHAPE_DIMS];
    double scale;
} ReduceSpec;

/* out[to_at + i . to] = x[from_at + i . from] for every index vector i below n. No element is
 * written twice. */
enum { MOVE_DIMS = 8 };
typedef struct MoveSpec {
    int ndim;
    int64_t n[MOVE_DIMS], from[MOVE_DIMS], to[MOVE_DIMS], from_at, to_at;
    bool whole; /* the move writes every element of out */
} MoveSpec;

/* For every i below n[0] and j below n[1]: out [M,N] = scale a [M,K] b [K,N] (+ bias [N]). Element
 * (r, s) of an operand lies at `at` + i step[0] + j step[1] + r row + s column. If a step of out is
 * 0, the products are summed. A bias runs along out's last dimension, whose stride is 1.
 */
typedef struct MatmulOperand {
    int64_t step[2], row, column, at;
} MatmulOperand;
typedef struct MatmulSpec {
    int64_t M, N, K, n[2];
    MatmulOperand a, b, out;
    double scale;
} MatmulSpec;

/* A value seen as [outer,K,inner]. A row holds K elements, `inner` elements apart; there is one row
 * per pair of outer and inner index. */
typedef struct RowsSpec {
    int64_t outer, K, inner;
} RowsSpec;

/* The input coordinate of output cell i along one axis. HALF_PIXEL: (i + 0.5) step - 0.5.
 * HALF_PIXEL_BUT_ONE: the same, but 0 if there is only one output cell. ASYMMETRIC: i step.
 * CORNERS: i (in - 1) / (out - 1). Coordinates are clamped to the input. */
typedef enum ResizePlace {
    RESIZE_HALF_PIXEL,
    RESIZE_HALF_PIXEL_BUT_ONE,
    RESIZE_ASYMMETRIC,
    RESIZE_CORNERS
} ResizePlace;
/* How a coordinate is rounded to an input cell. HALF_DOWN and HALF_UP round to the nearest cell; a
 * half goes down or up. */
typedef enum ResizeRounding {
    RESIZE_FLOOR,
    RESIZE_CEIL,
    RESIZE_HALF_DOWN,
    RESIZE_HALF_UP,
    RESIZE_ROUNDINGS
} ResizeRounding;
typedef struct ResizeSpec {
    bool linear; /* interpolate between the two neighbours, else take the nearest */
    ResizePlace at;
    ResizeRounding rounding;
    double step[2]; /* height, width */
} ResizeSpec;

/* Values 0 .. 3 are the caller's tensors, f32 and contiguous: x and dx [N,C,H,W], z and dz [N,K].
 */
enum { VALUE_X, VALUE_Z, VALUE_DZ, VALUE_DX, VALUES_OUTSIDE };

typedef enum ValueKind {
    VALUE_REAL,    /* one number per element */
    VALUE_BITS,    /* one bit per element: whether it is in (0, cap), or whether dropout kept it */
    VALUE_PLACES,  /* for each element, the index of the winner in its window */
    VALUE_CHANNELS /* one number per channel, for the whole batch */
} ValueKind;

typedef struct Value {
    ValueKind kind;
    Shape shape;
    int64_t C, H, W; /* the shape that ops on images see */
    int gradient_of; /* the value whose gradient this is, or NO_VALUE */
    int made_by;     /* the op that makes it; -1 for the caller's tensors */
    int last;        /* the last op that reads it; if none does, its maker */
    int readers;     /* number of reads by ops */
} Value;

typedef struct Op {
    OpKind kind;
    const char *layer; /* name of the layer that the op belongs to */
    bool backward;
    int in[OP_INPUTS], out[OP_OUTPUTS]; /* NO_VALUE: none */
    int twin; /* in the backward half: the op whose gradient this op computes */

    /* Fused work. */
    int add;    /* value added to the result, or NO_VALUE */
    bool relu;  /* apply the activation min(max(v, 0), cap) */
    double cap; /* of the activation, of OP_RELU and of `open`; may be infinite */
    int mask;   /* bits, or NO_VALUE: the result is 0 where the bit is not set */
    int open;   /* an extra output, the bits of out[0], or NO_VALUE */

    /* Attributes of some kinds of op. */
    int64_t kernel[2], stride[2], pad[4] /* top, left, bottom, right */, groups;
    int64_t dilation[2];
    bool count_pad;       /* OP_AVGWINDOW: padding counts as zeros; else it does not count */
    double eps, momentum; /* batch norm: eps of the variance; momentum of the running statistics */
    double p;             /* dropout's probability */
    uint64_t stream;      /* dropout's random stream */
    bool shift;           /* OP_AFFINE has a shift */
    const double *mean, *std; /* [C] OP_NORMALIZE */
    int param[OP_PARAMS];     /* indices into Program.params; -1: none */
    const MapSpec *map;       /* in the program's memory; NULL if the kind has none */
    const ReduceSpec *reduce;
    const MoveSpec *move;
    const MatmulSpec *matmul;
    const ResizeSpec *resize;
    RowsSpec rows;
    int layer_index, folded; /* for net/: its layer, and the batch norm folded into it */
} Op;

/* A parameter's memory on the network's device; the graph owns it. */
typedef struct ProgramParam {
    float *data;
    int64_t count;
} ProgramParam;

typedef struct Program Program;
struct Program {
    Op *ops;
    int n_ops, n_forward; /* ops 0 .. n_forward-1 are the forward half */
    Value *values;
    int n_values;
    ProgramParam *params;
    int n_params;
    void **specs; /* the structs that ops point to */
    int n_specs, specs_room;

    /* Host copies of an op's constants. weights: the weight and bias [K] of a convolution or linear
     * layer; zeros if it has no bias. A folded batch norm is included, computed in double and
     * rounded once. channels: the scale and shift [C] of an OP_AFFINE; shift may be NULL. Both fail
     * if weights have not been loaded. */
    int (*weights)(const Program *p, const Op *op, float *weight, float *bias, Error *e);
    int (*channels)(const Program *p, const Op *op, float *scale, float *shift, Error *e);
    const void *graph; /* the argument of the two functions */
};

#endif
