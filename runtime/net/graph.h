/* A network as a graph: layers in the order they run, each with one output value, and the
 * parameters they name. It is built once from a definition and then only read.
 *
 * The value of layer i is value i. Several later layers may read a value. Shapes leave out the
 * batch dimension.
 *
 * Letters: C H W channels, height, width of the input, K output channels, R S kernel height and
 * width.
 */
#ifndef ADVRT_NET_GRAPH_H
#define ADVRT_NET_GRAPH_H

#include "device/program.h"
#include "tensor/tensor.h"

/* The kinds of layer; each is one file of net/layers/. The Makefile makes layers.inc, which holds
 * LAYER(CONV, conv) and so on. */
typedef enum LayerKind {
#define LAYER(UPPER, name) LAYER_##UPPER,
#include "layers.inc"
#undef LAYER
    LAYER_KINDS
} LayerKind;
typedef struct LayerRule LayerRule; /* net/layer.h */
#define LAYER(UPPER, name) extern const LayerRule layer_##name;
#include "layers.inc"
#undef LAYER

enum { LAYER_NAME = 96, LAYER_PARAMS = 4, LAYER_INPUTS = 64, PARAM_NAME = 128 };
enum { LAYER_SIZES = 16, LAYER_TEXT = 256 };

typedef struct Layer {
    LayerKind kind;
    char name[LAYER_NAME];           /* the prefix of its parameters' names; may be empty */
    int input[LAYER_INPUTS], inputs; /* the values it reads */
    Shape shape;                     /* of its output value */
    int64_t C, H, W;                 /* the same shape as [C,H,W] */
    int64_t kernel[2], stride[2], dilation[2];
    int64_t pad[4]; /* top, left, bottom, right */
    int64_t groups;
    int64_t out[2]; /* average pooling: the output grid */
    bool bias;
    bool ceil_mode;       /* max pooling: round the size of the output grid up */
    double cap;           /* relu */
    double eps, momentum; /* batch norm: eps of the variance; momentum of the running statistics */
    double p;             /* dropout */
    double *mean, *std;   /* [C] normalize */
    int64_t sizes[LAYER_SIZES]; /* a shape, dimensions or bounds: see the layer's file */
    int n_sizes;
    double scale, factor[2];
    char text[LAYER_TEXT];   /* a formula, a mode */
    bool flags[2];           /* meaning: see the layer's file */
    int param[LAYER_PARAMS]; /* indices into Graph.params; -1: none */
} Layer;

typedef enum ParamRole {
    PARAM_WEIGHT,
    PARAM_BIAS,
    PARAM_NORM_WEIGHT,
    PARAM_NORM_BIAS,
    PARAM_RUNNING_MEAN,
    PARAM_RUNNING_VAR,
    PARAM_ATTENTION_WEIGHT, /* weight of a linear layer in attention */
    PARAM_TOKEN,            /* tokens and position embeddings */
    PARAM_LAYER_SCALE,
    PARAM_LOGIT_SCALE, /* logarithm of the factor that multiplies the scores */
    PARAM_SLOPE,       /* slope of PReLU */
    PARAM_CONSTANT,    /* fixed numbers of the definition: not weights, never trained */
    PARAM_ROLES
} ParamRole;

typedef struct Param {
    char name[PARAM_NAME];
    ParamRole role;
    int layer;
    Tensor value; /* f32 on the host device; empty until loaded */
} Param;

typedef struct Graph {
    Layer *layers;
    int n_layers, layers_room;
    Param *params;
    int n_params, params_room;
} Graph;

/* Makes a graph whose only layer is the input [C,H,W]. */
int graph_new(Graph **out, int64_t C, int64_t H, int64_t W, Error *e);
void graph_free(Graph *g);
/* Adds a layer whose attributes and inputs are set in `layer` (mean and std are copied). Computes
 * its output shape, adds its parameters, and returns its value in *value. Fails if the attributes
 * do not fit the input's shape. For LAYER_CONV and LAYER_LINEAR, layer->C is the number of output
 * channels. */
int graph_add(Graph *g, const Layer *layer, int *value, Error *e);
const char *layer_kind_name(LayerKind k);
/* "norm_weight"; PARAM_ROLES for an unknown name. */
const char *param_role_name(ParamRole r);
ParamRole param_role_named(const char *name);
/* shape_... functions: a shape seen as [C,H,W] (first dimension, product of the middle ones, last);
 * the number of elements; whether two shapes are equal. */
enum { SHAPE_TEXT = 128 };
void shape_as_image(const Shape *s, int64_t *C, int64_t *H, int64_t *W);
int64_t shape_count(const Shape *s);
bool shape_same(const Shape *a, const Shape *b);
/* The strides of a contiguous tensor. */
void shape_strides(const Shape *s, int64_t stride[SHAPE_DIMS]);
const LayerRule *layer_rule(LayerKind k);

/* Fills every parameter with the golden formula (tests/golden/README.md) of its name followed by
 * `salt`. A batch norm whose layer name ends in `branch_end` gets a weight ten times smaller; NULL
 * means none. */
int graph_init_golden(Graph *g, Device *d, const char *salt, const char *branch_end, Error *e);
/* He initialisation (arXiv:1502.01852), for training from random weights. Weights of convolutions
 * and linear layers are normal with variance 2 / fan_in, those of attention 1 / fan_in. Biases are
 * 0, norms the identity, tokens normal with standard deviation 0.02. */
int graph_init_he(Graph *g, Device *d, uint64_t seed, Error *e);

#endif
