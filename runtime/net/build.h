/* A program in the making, for the layers' rules, the gradient and the passes. */
#ifndef ADVRT_NET_BUILD_H
#define ADVRT_NET_BUILD_H

#include "net/program.h"

/* Of a value, while the gradient is made. */
typedef struct ValueFlags {
    bool wanted; /* its gradient is needed */
    bool masked; /* the mask of its ReLU has been applied behind the pool that reads it */
} ValueFlags;

typedef struct Build {
    Program *program;
    int ops_room, values_room;
    const Graph *graph;
    const PlanRequest *request;
    bool training;
    bool rounds_forward, rounds_backward; /* with OP_ROUND */
    int layer;                            /* being emitted */
    int emitted;                          /* layers so far that were no identity */
    int *value_of;                        /* [n_layers] */
    int *gradient;                        /* [n_values] of a value, NO_VALUE until one is known */
    ValueFlags *flags;                    /* [n_values] */
} Build;

/* A new value, of a kind and shape, or the image [C,H,W]. -1 with the error set. */
int build_value(Build *b, ValueKind kind, int64_t C, int64_t H, int64_t W, Error *e);
int build_shaped(Build *b, ValueKind kind, const Shape *shape, Error *e);
/* A copy of what an op points to, in the program's memory. NULL with the error set. */
const void *build_spec(Build *b, const void *spec, size_t bytes, Error *e);
/* Appends an op of the layer that is being emitted, or a copy of `like`'s attributes; it reads
 * in[0 .. n-1]. NULL with the error set. The pointer lasts until the next op. */
Op *build_op(Build *b, OpKind kind, const Op *like, int n, const int *in, Error *e);

/* passes.c: folds and fuses in the forward half; puts OP_ROUND behind what is a bf16 number; fuses
 * in the backward half; works lives out. close_gaps takes out the ops that are of kind OP_KINDS. */
void close_gaps(Program *p);
void fuse_forward(Build *b);
int round_forward(Build *b, Error *e);
void fuse_backward(Build *b);
void finish_program(Build *b);
/* How many times ops read a value; the op that makes it, -1 for the caller's. */
int count_readers(const Program *p, int value);
int maker_of(const Program *p, int value);

/* Of what a map is made: a value, or, where that is NO_VALUE, a parameter of the layer's op. Its
 * shape meets the map's at the last dimension; dimensions of 1, and those it lacks, are repeated.
 */
typedef struct MapInput {
    int value, param;
    Shape shape;
} MapInput;
/* primitives/map.c: an OP_MAP of `text` (device/formula.h), which makes a new value of shape `out`.
 * NULL with the error set. */
Op *build_map(Build *b, const char *text, int n, const MapInput *in, const Shape *out, Error *e);
/* Maps read parameters where they lie, instead of a value that an op makes of one. */
int inline_parameters(Build *b, Error *e);
/* Whether a shape fits into another one so, and the shape that two make together; false where they
 * make none. */
bool shape_repeats(const Shape *s, const Shape *whole);
bool shape_join(const Shape *a, const Shape *b, Shape *out);

/* gradient.c: the gradient's ops of everything that is in the program. */
int emit_gradient(Build *b, Error *e);

/* For the rules of primitives: i is the op, g the gradient of its output. */
typedef int GradientRule(Build *b, int i, int g, Error *e);
/* Whether the gradient of a value is needed. */
bool gradient_wanted(const Build *b, int value);
/* A new op of the backward half, with the attributes of its twin; its output is a contribution to
 * the gradient of value `of`. The caller changes what differs. NULL with the error set. */
Op *gradient_op(Build *b, OpKind kind, int twin, int of, int n, const int *in, Error *e);
/* An op of the backward half that has no output: it writes gradients of parameters. */
Op *gradient_to_params(Build *b, OpKind kind, int twin, int n, const int *in, Error *e);
/* Adds a contribution to a value's gradient. */
int gradient_add(Build *b, int twin, int value, int contribution, Error *e);
/* Makes the op keep something more of what it computes, for the gradient, as out[slot]. */
int gradient_keep(Build *b, int i, int slot, ValueKind kind, const Shape *shape, Error *e);

/* primitives/NAME.c: the rules. */
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
