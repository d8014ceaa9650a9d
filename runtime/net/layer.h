/* The rule of a kind of layer: one file of net/layers/, which defines layer_NAME. The Makefile
 * makes the list of kinds from the files' names. */
#ifndef ADVRT_NET_LAYER_H
#define ADVRT_NET_LAYER_H

#include "net/build.h"

enum { ANY_INPUTS = -1 };
struct LayerRule {
    const char *name;
    int inputs; /* or ANY_INPUTS: one or more */
    /* Checks the attributes against the inputs' shapes, sets the output's shape, or its C, H and W,
     * and makes the parameters' entries. */
    int (*add)(Graph *g, Layer *l, Error *e);
    /* Whether the layer is the identity in inference, or in training. NULL: never. */
    bool (*vanishes)(const Graph *g, const Layer *l, bool training);
    /* Emits the primitives that make the layer's value of the values in[]; the last one's first
     * output is the layer's value. */
    int (*emit)(Build *b, const Layer *l, const int *in, Error *e);
};

/* Of a value for one image and of a parameter, so that sizes of whole batches in bytes do not
 * overflow. */
static const int64_t MOST_ELEMENTS = INT64_C(1) << 40;

/* The layer that makes input i. */
static inline const Layer *layer_input_of(const Graph *g, const Layer *l, int i) {
    return &g->layers[l->input[i]];
}
/* "layer 'NAME' (KIND): WHAT"; -1. */
int layer_fail(const Layer *l, Error *e, const char *what);
/* An entry in the graph's parameters, named after the layer; its value stays empty until weights
 * are loaded. */
int layer_param(Graph *g, Layer *l, int slot, const char *suffix, ParamRole role, int ndim,
                const int64_t *shape, Error *e);
/* Input i is an image [C,H,W]. */
int layer_check_image(const Graph *g, const Layer *l, int i, Error *e);
/* The output has the input's shape. */
int layer_keep_shape(const Graph *g, Layer *l);
/* *dim is the dimension that a layer's attribute names, from 0 on; -1 is the last. */
int layer_check_dim(const Layer *l, const Shape *x, int64_t named, int64_t *dim, Error *e);
/* Kernel, stride, dilation and padding of a window are sensible. */
int layer_check_window(const Layer *l, Error *e);
/* The same of a pool's, whose padding is at most half the kernel. */
int layer_check_pool(const Layer *l, Error *e);
/* How many of a pool's windows lie along one axis of `in` elements: 0 where none fits. */
int64_t layer_windows(const Layer *l, int axis, int64_t in);
/* The one op of a layer that is one primitive, with its output [C,H,W] and the layer's
 * attributes. */
Op *layer_op(Build *b, OpKind kind, const Layer *l, int n, const int *in, Error *e);
/* An OP_MOVE or OP_INSERT of x into a value of the layer's shape; base is the insert's other
 * input. */
int layer_move(Build *b, OpKind kind, const Layer *l, int x, int base, const MoveSpec *m, Error *e);
/* One of a layer's several ops, which makes a value of this shape. */
Op *layer_op_shaped(Build *b, OpKind kind, const Layer *l, const Shape *shape, int n, const int *in,
                    Error *e);

/* --- layers of products and rows (net/tokens.c); the emitters return the value made, or -1 --- */

/* A product of two values, or, where one of in[] is NO_VALUE, with the layer's parameter 0, and
 * its parameter 1 for a bias. */
int emit_matmul(Build *b, const Layer *l, const Shape *shape, const int in[2],
                const MatmulSpec *spec, Error *e);
/* A shape's rows over dimensions first .. end - 1, which are neighbours. */
RowsSpec rows_along(const Shape *s, int first, int end);
int emit_rows(Build *b, OpKind kind, const Layer *l, int x, RowsSpec rows, Error *e);
/* Weight and bias of a norm, where `bias` is set. */
int layer_norm_params(Graph *g, Layer *l, int ndim, const int64_t *shape, Error *e);
/* Rows of x standardised, times weight and plus bias along dimensions first .. end - 1. */
int emit_norm(Build *b, const Layer *l, int x, RowsSpec rows, int first, int end, Error *e);

#endif
