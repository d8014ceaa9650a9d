/* The rule of a kind of layer. Each file of net/layers/ defines one rule, layer_NAME. The Makefile
 * makes the list of kinds from the files' names. */
#ifndef ADVRT_NET_LAYER_H
#define ADVRT_NET_LAYER_H

#include "net/build.h"

enum { ANY_INPUTS = -1 };
struct LayerRule {
    const char *name;
    int inputs; /* number of inputs, or ANY_INPUTS: one or more */
    /* Checks the attributes against the inputs' shapes. Sets the output's shape, or its C, H and W.
     * Adds the parameters. */
    int (*add)(Graph *g, Layer *l, Error *e);
    /* Whether the layer is the identity in this mode (training or inference). NULL: never. */
    bool (*vanishes)(const Graph *g, const Layer *l, bool training);
    /* Emits the primitives that compute the layer's value from the values in[]. The first output of
     * the last op is the layer's value. */
    int (*emit)(Build *b, const Layer *l, const int *in, Error *e);
};

/* The limit for a value of one image and for a parameter. It keeps the bytes of a whole batch from
 * overflowing. */
static const int64_t MOST_ELEMENTS = INT64_C(1) << 40;

/* The layer that makes input i. */
static inline const Layer *layer_input_of(const Graph *g, const Layer *l, int i) {
    return &g->layers[l->input[i]];
}
/* Sets the error "layer 'NAME' (KIND): WHAT" and returns -1. */
int layer_fail(const Layer *l, Error *e, const char *what);
/* Adds a parameter named after the layer. Its value stays empty until weights are loaded. */
int layer_param(Graph *g, Layer *l, int slot, const char *suffix, ParamRole role, int ndim,
                const int64_t *shape, Error *e);
/* Fails unless input i is an image [C,H,W]. */
int layer_check_image(const Graph *g, const Layer *l, int i, Error *e);
/* Gives the output the input's shape. */
int layer_keep_shape(const Graph *g, Layer *l);
/* *dim is the dimension that the attribute `named` means, counted from 0; -1 is the last. Fails if
 * x has no such dimension. */
int layer_check_dim(const Layer *l, const Shape *x, int64_t named, int64_t *dim, Error *e);
/* Fails unless kernel, stride, dilation and padding of a window are in range. */
int layer_check_window(const Layer *l, Error *e);
/* The same for a pool; its padding is at most half the kernel. */
int layer_check_pool(const Layer *l, Error *e);
/* The number of a pool's windows along one axis of `in` elements; 0 if none fits. */
int64_t layer_windows(const Layer *l, int axis, int64_t in);
/* Adds the op of a layer that is one primitive, with output [C,H,W] and the layer's attributes. */
Op *layer_op(Build *b, OpKind kind, const Layer *l, int n, const int *in, Error *e);
/* Adds an OP_MOVE or OP_INSERT of x into a value of the layer's shape. base is the second input of
 * an insert. */
int layer_move(Build *b, OpKind kind, const Layer *l, int x, int base, const MoveSpec *m, Error *e);
/* Adds one of a layer's several ops; it makes a value of this shape. */
Op *layer_op_shaped(Build *b, OpKind kind, const Layer *l, const Shape *shape, int n, const int *in,
                    Error *e);

/* --- layers made of products and rows (net/tokens.c); the emitters return the new value, or -1
 * --- */

/* A product of two values. If one of in[] is NO_VALUE, the layer's parameter 0 takes its part, and
 * parameter 1 is the bias. */
int emit_matmul(Build *b, const Layer *l, const Shape *shape, const int in[2],
                const MatmulSpec *spec, Error *e);
/* The rows of a shape over the adjacent dimensions first .. end - 1. */
RowsSpec rows_along(const Shape *s, int first, int end);
int emit_rows(Build *b, OpKind kind, const Layer *l, int x, RowsSpec rows, Error *e);
/* Adds the parameters weight and, if `bias` is set, bias of a norm. */
int layer_norm_params(Graph *g, Layer *l, int ndim, const int64_t *shape, Error *e);
/* Standardises the rows of x, then multiplies by weight and adds bias along dimensions first .. end
 * - 1. */
int emit_norm(Build *b, const Layer *l, int x, RowsSpec rows, int first, int end, Error *e);

#endif
