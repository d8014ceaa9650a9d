#include "net/graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

/* What a kind of layer does when it is added: check its attributes against its
 * inputs, set its output shape, and make its parameters' entries. */
typedef struct LayerRule {
    const char *name;
    int inputs;
    int (*add)(Graph *g, Layer *l, Error *e);
} LayerRule;

/* Of a value for one image and of a parameter, so that sizes of whole batches in bytes do not
 * overflow. */
static const int64_t MOST_ELEMENTS = INT64_C(1) << 40;

static const Layer *source(const Graph *g, const Layer *l, int i) {
    return &g->layers[l->input[i]];
}

static int fail(const Layer *l, Error *e, const char *what) {
    const char *kind = layer_kind_name(l->kind);
    if (!l->name[0]) return error_set(e, "%s: %s", kind, what);
    return error_set(e, "layer '%s' (%s): %s", l->name, kind, what);
}

/* The entry's value stays empty until weights are loaded; only its shape is made. */
static int add_param(Graph *g, Layer *l, int slot, const char *suffix, ParamRole role, int ndim,
                     const int64_t *shape, Error *e) {
    if (memory_grow((void **)&g->params, g->n_params, &g->params_room, sizeof *g->params,
                    "network graph", e))
        return -1;
    Param *p = &g->params[g->n_params];
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s%s%s", l->name, l->name[0] ? "." : "", suffix);
    for (int i = 0; i < g->n_params; i++)
        if (!strcmp(g->params[i].name, p->name))
            return error_set(e, "two layers have a parameter named '%s'", p->name);
    p->role = role;
    p->layer = g->n_layers;
    p->value.dtype = DTYPE_F32;
    p->value.ndim = ndim;
    memcpy(p->value.shape, shape, (size_t)ndim * sizeof *shape);
    int64_t count = 1;
    for (int i = 0; i < ndim; i++)
        if (__builtin_mul_overflow(count, shape[i], &count) || count > MOST_ELEMENTS)
            return fail(l, e, "a parameter has at most 2^40 elements");
    l->param[slot] = g->n_params++;
    return 0;
}

static int keep_shape(const Graph *g, Layer *l) {
    const Layer *x = source(g, l, 0);
    l->C = x->C, l->H = x->H, l->W = x->W;
    return 0;
}

static int add_input(Graph *g, Layer *l, Error *e) {
    (void)g;
    if (l->C < 1 || l->H < 1 || l->W < 1 || l->C > INT32_MAX || l->H > 65536 || l->W > 65536)
        return fail(l, e,
                    "an input shape needs three positive sizes, height and width up to 65536");
    return 0;
}

static int add_normalize(Graph *g, Layer *l, Error *e) {
    keep_shape(g, l);
    if (!l->mean || !l->std) return fail(l, e, "needs a mean and a std for each channel");
    for (int64_t c = 0; c < l->C; c++)
        if (!isfinite(l->mean[c]) || !isfinite(l->std[c]) || l->std[c] <= 0)
            return fail(l, e, "mean must be finite and std greater than 0");
    return 0;
}

/* Output size of a window that slides over `in` padded elements; -1 where it never fits. */
static int64_t slide(int64_t in, int64_t before, int64_t after, int64_t kernel, int64_t stride) {
    int64_t room = in + before + after - kernel;
    return room < 0 ? -1 : room / stride + 1;
}

static int check_window(const Layer *l, Error *e) {
    for (int i = 0; i < 2; i++)
        if (l->kernel[i] < 1 || l->stride[i] < 1 || l->kernel[i] > 1024 || l->stride[i] > 1024)
            return fail(l, e, "kernel and stride must be 1 to 1024");
    for (int i = 0; i < 4; i++)
        if (l->pad[i] < 0 || l->pad[i] >= l->kernel[i % 2])
            return fail(l, e, "padding must be 0 or more and less than the kernel");
    return 0;
}

static int add_conv(Graph *g, Layer *l, Error *e) {
    const Layer *x = source(g, l, 0);
    if (check_window(l, e)) return -1;
    if (l->C < 1 || l->C > 1 << 20) return fail(l, e, "needs 1 to 2^20 output channels");
    if (l->groups < 1 || x->C % l->groups || l->C % l->groups)
        return fail(l, e, "groups must divide the input's and the output's channels");
    l->H = slide(x->H, l->pad[0], l->pad[2], l->kernel[0], l->stride[0]);
    l->W = slide(x->W, l->pad[1], l->pad[3], l->kernel[1], l->stride[1]);
    if (l->H < 1 || l->W < 1) return fail(l, e, "the kernel is larger than its padded input");
    int64_t shape[4] = {l->C, x->C / l->groups, l->kernel[0], l->kernel[1]};
    if (add_param(g, l, 0, "weight", PARAM_WEIGHT, 4, shape, e)) return -1;
    return l->bias ? add_param(g, l, 1, "bias", PARAM_BIAS, 1, shape, e) : 0;
}

static int add_linear(Graph *g, Layer *l, Error *e) {
    const Layer *x = source(g, l, 0);
    if (l->C < 1 || l->C > 1 << 24) return fail(l, e, "needs 1 to 2^24 outputs");
    int64_t shape[2] = {l->C, x->C * x->H * x->W};
    l->H = l->W = 1;
    if (add_param(g, l, 0, "weight", PARAM_WEIGHT, 2, shape, e)) return -1;
    return l->bias ? add_param(g, l, 1, "bias", PARAM_BIAS, 1, shape, e) : 0;
}

static int add_batchnorm(Graph *g, Layer *l, Error *e) {
    keep_shape(g, l);
    if (!(l->eps > 0) || !(l->momentum >= 0 && l->momentum <= 1))
        return fail(l, e, "eps must be greater than 0 and momentum in 0 to 1");
    if (add_param(g, l, 0, "weight", PARAM_NORM_WEIGHT, 1, &l->C, e) ||
        add_param(g, l, 1, "bias", PARAM_NORM_BIAS, 1, &l->C, e) ||
        add_param(g, l, 2, "running_mean", PARAM_RUNNING_MEAN, 1, &l->C, e))
        return -1;
    return add_param(g, l, 3, "running_var", PARAM_RUNNING_VAR, 1, &l->C, e);
}

static int add_relu(Graph *g, Layer *l, Error *e) {
    if (!(l->cap > 0)) return fail(l, e, "its cap must be greater than 0");
    return keep_shape(g, l);
}

static int add_maxpool(Graph *g, Layer *l, Error *e) {
    const Layer *x = source(g, l, 0);
    if (check_window(l, e)) return -1;
    for (int i = 0; i < 4; i++)
        if (2 * l->pad[i] > l->kernel[i % 2])
            return fail(l, e, "padding is at most half the kernel");
    int64_t in[2] = {x->H, x->W}, out[2];
    for (int i = 0; i < 2; i++) {
        int64_t room = in[i] + l->pad[i] + l->pad[i + 2] - l->kernel[i];
        if (room < 0) return fail(l, e, "the window is larger than its padded input");
        out[i] = room / l->stride[i] + 1;
        /* torch's rule: rounding up adds a window only where it starts inside the padded input */
        if (l->ceil_mode && room % l->stride[i] && out[i] * l->stride[i] < in[i] + l->pad[i]) {
            out[i]++;
            l->pad[i + 2] += l->stride[i] - room % l->stride[i];
        }
    }
    l->C = x->C, l->H = out[0], l->W = out[1];
    return 0;
}

static int add_avgpool(Graph *g, Layer *l, Error *e) {
    const Layer *x = source(g, l, 0);
    if (l->out[0] < 1 || l->out[1] < 1 || l->out[0] > 65536 || l->out[1] > 65536)
        return fail(l, e, "its output grid needs two sizes from 1 to 65536");
    l->C = x->C, l->H = l->out[0], l->W = l->out[1];
    return 0;
}

static int add_add(Graph *g, Layer *l, Error *e) {
    const Layer *a = source(g, l, 0), *b = source(g, l, 1);
    char what[160];
    if (a->C == b->C && a->H == b->H && a->W == b->W) return keep_shape(g, l);
    snprintf(what, sizeof what, "[%lld,%lld,%lld] and [%lld,%lld,%lld] differ in shape",
             (long long)a->C, (long long)a->H, (long long)a->W, (long long)b->C, (long long)b->H,
             (long long)b->W);
    return fail(l, e, what);
}

static int add_dropout(Graph *g, Layer *l, Error *e) {
    if (!(l->p >= 0 && l->p < 1)) return fail(l, e, "its probability must be in [0, 1)");
    return keep_shape(g, l);
}

static const LayerRule rules[LAYER_KINDS] = {
    [LAYER_INPUT] = {"input", 0, add_input},
    [LAYER_NORMALIZE] = {"normalize", 1, add_normalize},
    [LAYER_CONV] = {"conv", 1, add_conv},
    [LAYER_LINEAR] = {"linear", 1, add_linear},
    [LAYER_BATCHNORM] = {"batchnorm", 1, add_batchnorm},
    [LAYER_RELU] = {"relu", 1, add_relu},
    [LAYER_MAXPOOL] = {"maxpool", 1, add_maxpool},
    [LAYER_AVGPOOL] = {"avgpool", 1, add_avgpool},
    [LAYER_ADD] = {"add", 2, add_add},
    [LAYER_DROPOUT] = {"dropout", 1, add_dropout},
};

const char *layer_kind_name(LayerKind k) {
    return (unsigned)k < LAYER_KINDS ? rules[k].name : "unknown";
}

int graph_add(Graph *g, const Layer *layer, int *value, Error *e) {
    if ((unsigned)layer->kind >= LAYER_KINDS) return error_set(e, "unknown kind of layer");
    const LayerRule *rule = &rules[layer->kind];
    if (layer->inputs != rule->inputs)
        return error_set(e, "layer '%s' (%s) takes %d inputs, got %d", layer->name, rule->name,
                         rule->inputs, layer->inputs);
    for (int i = 0; i < layer->inputs; i++)
        if (layer->input[i] < 0 || layer->input[i] >= g->n_layers)
            return fail(layer, e, "reads a value that has not been made yet");
    if (memory_grow((void **)&g->layers, g->n_layers, &g->layers_room, sizeof *g->layers,
                    "network graph", e))
        return -1;
    Layer *l = &g->layers[g->n_layers];
    *l = *layer;
    for (int i = 0; i < LAYER_PARAMS; i++) l->param[i] = -1;
    int params = g->n_params;
    int failed = rule->add(g, l, e);
    if (!failed && l->C > MOST_ELEMENTS / (l->H * l->W))
        failed = fail(l, e, "its value has more than 2^40 elements an image");
    if (failed) {
        g->n_params = params;
        return -1;
    }
    if (l->kind == LAYER_NORMALIZE) {
        size_t bytes = (size_t)l->C * sizeof(double);
        double *copy = memory_take(2 * bytes, "normalisation", e);
        if (!copy) return -1;
        memcpy(copy, layer->mean, bytes);
        memcpy(copy + l->C, layer->std, bytes);
        l->mean = copy;
        l->std = copy + l->C;
    }
    *value = g->n_layers++;
    return 0;
}

int graph_new(Graph **out, int64_t C, int64_t H, int64_t W, Error *e) {
    Graph *g = memory_zeroed(1, sizeof *g, "network graph", e);
    if (!g) return -1;
    Layer input = {.kind = LAYER_INPUT, .name = "input", .C = C, .H = H, .W = W};
    int value;
    if (graph_add(g, &input, &value, e)) {
        graph_free(g);
        return -1;
    }
    *out = g;
    return 0;
}

void graph_free(Graph *g) {
    if (!g) return;
    for (int i = 0; i < g->n_layers; i++)
        if (g->layers[i].kind == LAYER_NORMALIZE) memory_free(g->layers[i].mean);
    for (int i = 0; i < g->n_params; i++) tensor_free(&g->params[i].value);
    memory_free(g->layers);
    memory_free(g->params);
    memory_free(g);
}
