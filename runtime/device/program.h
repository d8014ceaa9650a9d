/* A program: what a plan computes, as a list of primitives in the order in which they run. net/
 * makes it from a network's layers, adds the gradient's primitives and fuses what it can; a device
 * lowers each primitive to its own steps. Types alone: there is no function here.
 *
 * Every op makes new values, and a value has one maker. So what backward reads of forward is in the
 * program like everything else, and whoever wants to write in place asks when the value was read
 * last. Shapes leave the batch out. The ops of images see a value as [C,H,W] for each image, the
 * others as its own shape; both describe the same memory in plain order.
 *
 * An op may have more work fused into it. In this order, each where set:
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
    OP_INPUT,        /* in: a tensor of the caller's; out: the value */
    OP_OUTPUT,       /* in: a value; out: a tensor of the caller's */
    OP_NORMALIZE,    /* (x - mean) / std for each channel, in double */
    OP_AFFINE,       /* scale x + shift for each channel; no shift in a gradient */
    OP_CONV,         /* in: x; params: weight [K, C/G, R, S], bias [K] */
    OP_CONV_DATA,    /* in: dy; out: dx. Forward, it is a transposed convolution, without a bias,
                        and OP_CONV the gradient of it */
    OP_CONV_WEIGHTS, /* in: x, dy; writes the gradients of its params. Of a transposed convolution
                        the gradient of the output stands for x, and its input for dy */
    OP_LINEAR,       /* in: x; params: weight [K, C*H*W], bias [K] */
    OP_LINEAR_DATA,
    OP_LINEAR_WEIGHTS,
    OP_BATCHNORM, /* training's: in: x; out: y, mean, variance; params: weight, bias, running_mean,
                     running_var [C], of which the last two are updated */
    OP_BATCHNORM_BACK, /* in: x, dy, mean, variance; out: dx, which may be NO_VALUE; writes the
                          gradients of weight and bias */
    OP_RELU,           /* min(max(x, 0), cap); NaN stays NaN */
    OP_MASK,           /* in: x, bits; out: x where the bit is set, else 0 */
    OP_MAXPOOL,        /* in: x; out: y, the winners' places (NO_VALUE where nothing reads them) */
    OP_MAXPOOL_BACK,   /* in: dy, places */
    OP_AVGPOOL,        /* torch's adaptive average onto out's grid */
    OP_AVGPOOL_BACK,
    OP_ADD,          /* in: a, b */
    OP_DROPOUT,      /* training's: in: x; out: y, and bits where a gradient reads them */
    OP_DROPOUT_BACK, /* in: dy, bits */
    OP_ROUND,        /* to bf16's 8 bits of mantissa, ties to even */
    OP_MAP,          /* Op.map: a formula of values and params, element by element */
    OP_REDUCE,       /* Op.reduce: sums over dimensions; in: x */
    OP_REDUCE_PARAM, /* the same, and over the batch, into the gradient of param[0] */
    OP_VIEW,         /* the same numbers in another shape */
    OP_MOVE,         /* Op.move: a strided copy that makes the whole of out; in: x */
    OP_INSERT, /* Op.move: a strided copy into a part of out; in: x, and the value that gives the
                  other elements: NO_VALUE for zeros, or where there are none. That value is made by
                  an insert, too, is read by this op alone, and the inserts write none of out's
                  elements twice */
    OP_MATMUL, /* Op.matmul; in: a, b; or one of them is param[0], and its in NO_VALUE; param[1]:
                  bias; what no product gives is 0 */
    OP_MATMUL_PARAM, /* Op.matmul, summed over the batch, into the whole gradient of param[0]; in:
                        a, b */
    OP_SOFTMAX,      /* of each row of Op.rows */
    OP_SOFTMAX_BACK, /* in: dy, y */
    OP_STANDARDIZE,  /* (x - mean) / sqrt(variance + eps) of each row of Op.rows, the variance
                        divided by the row's length; out: y, 1 / sqrt(variance + eps) of each row */
    OP_STANDARDIZE_BACK, /* in: dy, y, the second output */
    OP_AVGWINDOW, /* the average over windows of kernel, stride and pad; Op.count_pad. A window may
                     reach beyond the padding, where nothing counts */
    OP_AVGWINDOW_BACK,
    OP_RESIZE, /* Op.resize: interpolation of planes onto out's grid */
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

/* --- what some primitives are made with; strides are in elements and leave the batch out --- */

/* A formula is a straight line of steps on elements. Step i makes register i from the registers
 * a, b and c of earlier steps; the last one is the result. Comparisons are 1 or 0, 0 where an
 * operand is NaN. */
typedef enum FormulaCode {
    FORMULA_OPERAND,  /* operand number a */
    FORMULA_CONSTANT, /* `constant` */
    FORMULA_ADD,
    FORMULA_SUB,
    FORMULA_MUL,
    FORMULA_DIV,
    FORMULA_MIN, /* NaN where either is */
    FORMULA_MAX,
    FORMULA_NEG,
    FORMULA_ABS,
    FORMULA_SIGN, /* -1, 0, 1; 0 of NaN */
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
    FORMULA_SELECT, /* b where a is not 0, else c */
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

/* An operand is in[input], or, where input is -1, param[param]. A stride of 0 repeats it. */
typedef struct MapOperand {
    int input, param;
    int64_t stride[SHAPE_DIMS];
} MapOperand;
typedef struct MapSpec {
    Formula formula;
    MapOperand operand[MAP_OPERANDS];
    Shape shape; /* of out */
} MapSpec;

/* out = scale times the sum over the dimensions that `over` marks; the others keep their order. */
typedef struct ReduceSpec {
    Shape shape; /* of x */
    bool over[SHAPE_DIMS];
    double scale;
} ReduceSpec;

/* out[to_at + i . to] = x[from_at + i . from] for every i below n. No element is written twice. */
enum { MOVE_DIMS = 8 };
typedef struct MoveSpec {
    int ndim;
    int64_t n[MOVE_DIMS], from[MOVE_DIMS], to[MOVE_DIMS], from_at, to_at;
    bool whole; /* every element of out is written */
} MoveSpec;

/* For every i below n[0] and j below n[1]: out [M,N] = scale a [M,K] b [K,N] (+ bias [N]), where
 * element (r, s) of an operand lies `at` + i step[0] + j step[1] + r row + s column. Where out's
 * step is 0 the products are added up. A bias goes along out's last dimension, whose stride is 1.
 */
typedef struct MatmulOperand {
    int64_t step[2], row, column, at;
} MatmulOperand;
typedef struct MatmulSpec {
    int64_t M, N, K, n[2];
    MatmulOperand a, b, out;
    double scale;
} MatmulSpec;

/* A value seen around one of its dimensions, [outer,K,inner]: a row is the K elements at one place
 * of outer and inner, `inner` elements apart. */
typedef struct RowsSpec {
    int64_t outer, K, inner;
} RowsSpec;

/* Output cell i of an axis lies at (i + 0.5) step - 0.5 of the input; the same, or at 0 where it is
 * the only one; at i step; or at i (in - 1) / (out - 1). A place beyond the input is its edge. */
typedef enum ResizePlace {
    RESIZE_HALF_PIXEL,
    RESIZE_HALF_PIXEL_BUT_ONE,
    RESIZE_ASYMMETRIC,
    RESIZE_CORNERS
} ResizePlace;
/* How the nearest input to a place is found: a half goes down, or up. */
typedef enum ResizeRounding {
    RESIZE_FLOOR,
    RESIZE_CEIL,
    RESIZE_HALF_DOWN,
    RESIZE_HALF_UP,
    RESIZE_ROUNDINGS
} ResizeRounding;
typedef struct ResizeSpec {
    bool linear; /* between the two inputs beside a place, else the nearest */
    ResizePlace at;
    ResizeRounding rounding;
    double step[2]; /* height, width */
} ResizeSpec;

/* Values 0 .. 3 are the caller's tensors, f32 in plain order: x and dx [N,C,H,W], z and dz [N,K].
 */
enum { VALUE_X, VALUE_Z, VALUE_DZ, VALUE_DX, VALUES_OUTSIDE };

typedef enum ValueKind {
    VALUE_REAL,    /* a number for each element */
    VALUE_BITS,    /* a bit for each element: whether it is in (0, cap), or was kept */
    VALUE_PLACES,  /* where in its window each element was found */
    VALUE_CHANNELS /* a number for each channel, of the whole batch */
} ValueKind;

typedef struct Value {
    ValueKind kind;
    Shape shape;
    int64_t C, H, W; /* the shape as ops of images see it */
    int gradient_of; /* the value whose gradient this is, or NO_VALUE */
    int made_by;     /* op; -1 for the caller's */
    int last;        /* the op that reads it last; its maker where none does */
    int readers;     /* how many times ops read it */
} Value;

typedef struct Op {
    OpKind kind;
    const char *layer; /* name of the layer that it is for */
    bool backward;
    int in[OP_INPUTS], out[OP_OUTPUTS]; /* NO_VALUE where there is none */
    int twin;                           /* of a gradient: the op that it is the gradient of */

    /* Fused work. */
    int add;    /* value added to the result, or NO_VALUE */
    bool relu;  /* the activation: min(max(v, 0), cap) */
    double cap; /* of the activation, of OP_RELU, and of `open`; may be infinite */
    int mask;   /* bits: the result is 0 where they are not set, or NO_VALUE */
    int open;   /* bits of out[0], a value that is made in addition, or NO_VALUE */

    /* Attributes of some kinds. */
    int64_t kernel[2], stride[2], pad[4] /* top, left, bottom, right */, groups;
    int64_t dilation[2];
    bool count_pad;           /* OP_AVGWINDOW: padding counts as zeros, else it is left out */
    double eps, momentum;     /* batch norm: of the variance; of the running statistics */
    double p;                 /* dropout's probability */
    uint64_t stream;          /* dropout's random stream */
    bool shift;               /* OP_AFFINE has one */
    const double *mean, *std; /* [C] OP_NORMALIZE */
    int param[OP_PARAMS];     /* into Program.params, -1 where there is none */
    const MapSpec *map;       /* the program's memory, NULL where the kind has none */
    const ReduceSpec *reduce;
    const MoveSpec *move;
    const MatmulSpec *matmul;
    const ResizeSpec *resize;
    RowsSpec rows;
    int layer_index, folded; /* the net's own: its layer, and the batch norm folded into it */
} Op;

/* A parameter's memory on the device that the network lives on; the graph owns it. */
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
    void **specs; /* what ops point to */
    int n_specs, specs_room;

    /* Host copies of an op's constants. weights: a convolution's or linear layer's weight and bias
     * [K] (zeros where it has none), the batch norm folded in, in double, rounded once. channels:
     * the scale and shift [C] of an OP_AFFINE; shift may be NULL. Both fail where weights have not
     * been loaded. */
    int (*weights)(const Program *p, const Op *op, float *weight, float *bias, Error *e);
    int (*channels)(const Program *p, const Op *op, float *scale, float *shift, Error *e);
    const void *graph; /* theirs */
};

#endif
