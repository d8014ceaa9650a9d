/* A program: what a plan computes, as a list of primitives in the order in which they run. net/
 * makes it from a network's layers, adds the gradient's primitives and fuses what it can; a device
 * lowers each primitive to its own steps. Types alone: there is no function here.
 *
 * Every op makes new values, and a value has one maker. So what backward reads of forward is in the
 * program like everything else, and whoever wants to write in place asks when the value was read
 * last. Shapes leave the batch out: a value is [C,H,W] for each image.
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
    OP_CONV_DATA,    /* in: dy; out: dx */
    OP_CONV_WEIGHTS, /* in: x, dy; writes the gradients of its params */
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
    OP_KINDS
} OpKind;

enum { NO_VALUE = -1, OP_INPUTS = 4, OP_OUTPUTS = 3, OP_PARAMS = 4 };

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
    int64_t C, H, W;
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
    double eps, momentum;     /* batch norm: of the variance; of the running statistics */
    double p;                 /* dropout's probability */
    uint64_t stream;          /* dropout's random stream */
    bool shift;               /* OP_AFFINE has one */
    const double *mean, *std; /* [C] OP_NORMALIZE */
    int param[OP_PARAMS];     /* into Program.params, -1 where there is none */
    int layer_index, folded;  /* the net's own: its layer, and the batch norm folded into it */
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

    /* Host copies of an op's constants. weights: a convolution's or linear layer's weight and bias
     * [K] (zeros where it has none), the batch norm folded in, in double, rounded once. channels:
     * the scale and shift [C] of an OP_AFFINE; shift may be NULL. Both fail where weights have not
     * been loaded. */
    int (*weights)(const Program *p, const Op *op, float *weight, float *bias, Error *e);
    int (*channels)(const Program *p, const Op *op, float *scale, float *shift, Error *e);
    const void *graph; /* theirs */
};

#endif
