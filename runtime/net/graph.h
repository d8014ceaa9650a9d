/* A network as a graph: layers in the order they run, each with one output value,
 * and the parameters they name. Built once from a definition, then read only.
 *
 * The value of layer i is value i. Shapes leave the batch out. A value may be read by several later
 * layers.
 *
 * Letters: C H W channels, height, width of the input, K output channels, R S kernel
 * height and width.
 */
#ifndef ADVRT_NET_GRAPH_H
#define ADVRT_NET_GRAPH_H

#include "device/program.h"
#include "tensor/tensor.h"

/* The kinds of layer, one for each file of net/layers/. layers.inc, which the Makefile makes, holds
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
    int input[LAYER_INPUTS], inputs; /* values it reads */
    Shape shape;                     /* of its output value */
    int64_t C, H, W;                 /* the same as [C,H,W] */
    int64_t kernel[2], stride[2], dilation[2];
    int64_t pad[4]; /* top, left, bottom, right */
    int64_t groups;
    int64_t out[2]; /* average pooling's output grid */
    bool bias;
    bool ceil_mode;             /* max pooling: round the output grid up */
    double cap;                 /* relu */
    double eps, momentum;       /* batch norm: of the variance; of the running statistics */
    double p;                   /* dropout */
    double *mean, *std;         /* [C] normalize */
    int64_t sizes[LAYER_SIZES]; /* a shape, dimensions or bounds: the layer's rule says what */
    int n_sizes;
    double scale, factor[2];
    char text[LAYER_TEXT];   /* a formula, a mode */
    bool flags[2];           /* the layer's rule says of what */
    int param[LAYER_PARAMS]; /* indices into Graph.params, -1 where there is none */
} Layer;

typedef enum ParamRole {
    PARAM_WEIGHT,
    PARAM_BIAS,
    PARAM_NORM_WEIGHT,
    PARAM_NORM_BIAS,
    PARAM_RUNNING_MEAN,
    PARAM_RUNNING_VAR,
    PARAM_ATTENTION_WEIGHT, /* of a linear layer in attention */
    PARAM_TOKEN,            /* tokens, tables of positions */
    PARAM_LAYER_SCALE,
    PARAM_LOGIT_SCALE, /* logarithm of what scores are multiplied by */
    PARAM_SLOPE,       /* of PReLU */
    PARAM_CONSTANT,    /* the definition's own numbers: no weights, never trained */
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

/* A graph with the one input layer [C,H,W]. */
int graph_new(Graph **out, int64_t C, int64_t H, int64_t W, Error *e);
void graph_free(Graph *g);
/* Adds a layer whose attributes and inputs are set in `layer` (mean and std are
 * copied); works its output shape out, makes its parameters' entries, and returns
 * its value in *value. Fails where attributes do not fit the input's shape. For
 * LAYER_CONV and LAYER_LINEAR, layer->C is the number of output channels. */
int graph_add(Graph *g, const Layer *layer, int *value, Error *e);
const char *layer_kind_name(LayerKind k);
/* "norm_weight"; PARAM_ROLES for an unknown name. */
const char *param_role_name(ParamRole r);
ParamRole param_role_named(const char *name);
/* A shape as [C,H,W]: the first dimension, the product of those between, the last; the number of
 * its elements; whether two are the same. */
enum { SHAPE_TEXT = 128 };
void shape_as_image(const Shape *s, int64_t *C, int64_t *H, int64_t *W);
int64_t shape_count(const Shape *s);
bool shape_same(const Shape *a, const Shape *b);
/* The strides of its plain order. */
void shape_strides(const Shape *s, int64_t stride[SHAPE_DIMS]);
const LayerRule *layer_rule(LayerKind k);

/* Fills every parameter with the formula of tests/golden/README.md of its name followed by
 * `salt`; those of a batch norm whose layer name ends in `branch_end` (NULL: none)
 * get a weight ten times smaller. */
int graph_init_golden(Graph *g, Device *d, const char *salt, const char *branch_end, Error *e);
/* He initialisation (arXiv:1502.01852) for training from nothing: weights of convolutions
 * and linear layers normal with variance 2 / fan_in, of attention 1 / fan_in, biases 0, norms the
 * identity, tokens normal with deviation 0.02. */
int graph_init_he(Graph *g, Device *d, uint64_t seed, Error *e);

#endif
