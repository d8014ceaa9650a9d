/* Builds a program: the functions that layers' rules, the gradient and the passes share. */
#ifndef ADVRT_NET_BUILD_H
#define ADVRT_NET_BUILD_H

#include "net/program.h"

/* Facts about a value, used while the gradient is made. */
typedef struct ValueFlags {
    bool wanted; /* the value's gradient is needed */
    bool masked; /* the mask of its ReLU has been applied after the pool that reads it */
} ValueFlags;

typedef struct Build {
    Program *program;
    int ops_room, values_room;
    const Graph *graph;
    const PlanRequest *request;
    bool training;
    bool rounds_forward, rounds_backward; /* whether each half contains OP_ROUND */
    int layer;                            /* the layer that is being emitted */
    int emitted;                          /* layers emitted so far, without identities */
    int *value_of;                        /* [n_layers] the value of each layer */
    int *gradient;     /* [n_values] the gradient of each value; NO_VALUE until one is known */
    ValueFlags *flags; /* [n_values] */
} Build;

/* Adds a value of a kind and a shape; build_value takes the image shape [C,H,W]. Returns -1 with
 * the error set. */
int build_value(Build *b, ValueKind kind, int64_t C, int64_t H, int64_t W, Error *e);
int build_shaped(Build *b, ValueKind kind, const Shape *shape, Error *e);
/* Copies a struct that an op points to into the program's memory. NULL with the error set. */
const void *build_spec(Build *b, const void *spec, size_t bytes, Error *e);
/* Appends an op of the present layer that reads in[0 .. n-1]. If `like` is not NULL, the op copies
 * its attributes. NULL with the error set. The pointer is valid until the next op is added. */
Op *build_op(Build *b, OpKind kind, const Op *like, int n, const int *in, Error *e);

/* passes.c. fuse_forward: folds batch norms and fuses ops in the forward half. round_forward:
 * OP_ROUND after each bf16 number. fuse_backward: fuses ops in the backward half. finish_program:
 * finds each value's last reader. close_gaps removes the ops of kind OP_KINDS. */
void close_gaps(Program *p);
void fuse_forward(Build *b);
int round_forward(Build *b, Error *e);
void fuse_backward(Build *b);
void finish_program(Build *b);
/* How many times ops read a value; the op that makes it, -1 for the caller's tensors. */
int count_readers(const Program *p, int value);
int maker_of(const Program *p, int value);

/* An operand of a map: a value, or, if value is NO_VALUE, a parameter of the layer's op. Its shape
 * is aligned with the map's at the last dimension. Dimensions of size 1 and missing dimensions are
 * repeated. */
typedef struct MapInput {
    int value, param;
    Shape shape;
} MapInput;
/* primitives/map.c: adds an OP_MAP of the formula `text` (device/formula.h), which makes a new
 * value of shape `out`. NULL with the error set. */
Op *build_map(Build *b, const char *text, int n, const MapInput *in, const Shape *out, Error *e);
/* Lets maps read parameters directly, and removes the ops that copy a parameter into a value. */
int inline_parameters(Build *b, Error *e);
/* shape_repeats: whether s can be broadcast to `whole`. shape_join: the shape that a and b
 * broadcast to; false if there is none. */
bool shape_repeats(const Shape *s, const Shape *whole);
bool shape_join(const Shape *a, const Shape *b, Shape *out);

/* gradient.c: adds the gradient's ops of the whole program. */
int emit_gradient(Build *b, Error *e);

/* The gradient rule of a primitive: i is the op, g the gradient of its output. */
typedef int GradientRule(Build *b, int i, int g, Error *e);
/* Whether the gradient of a value is needed. */
bool gradient_wanted(const Build *b, int value);
/* Adds an op of the backward half with the attributes of its twin. Its output is a contribution to
 * the gradient of value `of`. The caller changes the attributes that differ. NULL with the error
 * set. */
Op *gradient_op(Build *b, OpKind kind, int twin, int of, int n, const int *in, Error *e);
/* Adds an op of the backward half without an output: it writes gradients of parameters. */
Op *gradient_to_params(Build *b, OpKind kind, int twin, int n, const int *in, Error *e);
/* Adds a contribution to a value's gradient. */
int gradient_add(Build *b, int twin, int value, int contribution, Error *e);
/* Gives op i one more output, out[slot], which the gradient reads. */
int gradient_keep(Build *b, int i, int slot, ValueKind kind, const Shape *shape, Error *e);

/* primitives/NAME.c: the gradient rules. */
GradientRule gradient_map, gradient_reduce;
GradientRule gradient_view;
GradientRule gradient_move;
GradientRule gradient_insert;
GradientRule gradient_avgwindow;
GradientRule gradient_conv_data;
GradientRule gradient_matmul;
GradientRule gradient_softmax, gradient_standardize;
GradientRule gradient_resize;

#endif
