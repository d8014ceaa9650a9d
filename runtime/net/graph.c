#include "net/graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "net/layer.h"

static const LayerRule *const rules[] = {
#define LAYER(UPPER, name) [LAYER_##UPPER] = &layer_##name,
#include "layers.inc"
#undef LAYER
};

const LayerRule *layer_rule(LayerKind k) {
    return rules[k];
}

int layer_fail(const Layer *l, Error *e, const char *what) {
    const char *kind = layer_kind_name(l->kind);
    if (!l->name[0]) return error_set(e, "%s: %s", kind, what);
    return error_set(e, "layer '%s' (%s): %s", l->name, kind, what);
}

int layer_param(Graph *g, Layer *l, int slot, const char *suffix, ParamRole role, int ndim,
                const int64_t *shape, Error *e) {
    if (memory_grow((void **)&g->params, g->n_params, &g->params_room, sizeof *g->params,
                    "network graph", e))
        return -1;
    Param *p = &g->params[g->n_params];
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s%s%s", l->name, l->name[0] && suffix[0] ? "." : "",
             suffix);
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
            return layer_fail(l, e, "a parameter has at most 2^40 elements");
    l->param[slot] = g->n_params++;
    return 0;
}

int layer_keep_shape(const Graph *g, Layer *l) {
    const Layer *x = layer_input_of(g, l, 0);
    l->shape = x->shape;
    l->C = x->C, l->H = x->H, l->W = x->W;
    return 0;
}

void shape_as_image(const Shape *s, int64_t *C, int64_t *H, int64_t *W) {
    *C = *H = *W = 1;
    if (s->ndim > 0) *C = s->dim[0];
    for (int i = 1; i < s->ndim; i++) *(i == s->ndim - 1 && i > 1 ? W : H) *= s->dim[i];
}

int64_t shape_count(const Shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->ndim; i++) n *= s->dim[i];
    return n;
}

void shape_strides(const Shape *s, int64_t stride[SHAPE_DIMS]) {
    int64_t step = 1;
    for (int i = s->ndim - 1; i >= 0; i--) {
        stride[i] = step;
        step *= s->dim[i];
    }
}

bool shape_same(const Shape *a, const Shape *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

/* A rule sets either the shape, or C, H and W of an image; this sets the other. */
static void shape_settle(Layer *l) {
    if (l->shape.ndim)
        shape_as_image(&l->shape, &l->C, &l->H, &l->W);
    else
        l->shape = (Shape){3, {l->C, l->H, l->W}};
}

int layer_check_image(const Graph *g, const Layer *l, int i, Error *e) {
    const Layer *x = layer_input_of(g, l, i);
    char what[SHAPE_TEXT + 64], shape[SHAPE_TEXT];
    if (x->shape.ndim == 3) return 0;
    snprintf(what, sizeof what, "takes an image [C,H,W], got %s",
             shape_text(x->shape.ndim, x->shape.dim, shape));
    return layer_fail(l, e, what);
}

int layer_check_dim(const Layer *l, const Shape *x, int64_t named, int64_t *dim, Error *e) {
    char what[SHAPE_TEXT + 64], shape[SHAPE_TEXT];
    *dim = named < 0 ? named + x->ndim : named;
    if (*dim >= 0 && *dim < x->ndim) return 0;
    snprintf(what, sizeof what, "%s has no dimension %lld", shape_text(x->ndim, x->dim, shape),
             (long long)(named < 0 ? named : named + 1));
    return layer_fail(l, e, what);
}

int layer_check_window(const Layer *l, Error *e) {
    for (int i = 0; i < 2; i++)
        if (l->kernel[i] < 1 || l->stride[i] < 1 || l->kernel[i] > 1024 || l->stride[i] > 1024)
            return layer_fail(l, e, "kernel and stride must be 1 to 1024");
    for (int i = 0; i < 2; i++)
        if (l->dilation[i] < 1 || l->dilation[i] > 1024)
            return layer_fail(l, e, "dilation must be 1 to 1024");
    for (int i = 0; i < 4; i++)
        if (l->pad[i] < 0 || l->pad[i] > (l->kernel[i % 2] - 1) * l->dilation[i % 2])
            return layer_fail(l, e, "padding must be 0 or more and less than the kernel");
    return 0;
}

static const char *const roles[PARAM_ROLES] = {
    "weight",           "bias",  "norm_weight", "norm_bias",   "running_mean", "running_var",
    "attention_weight", "token", "layer_scale", "logit_scale", "slope",        "constant",
};

const char *param_role_name(ParamRole r) {
    return roles[r];
}

ParamRole param_role_named(const char *name) {
    int r = 0;
    while (r < PARAM_ROLES && strcmp(roles[r], name)) r++;
    return (ParamRole)r;
}

int layer_check_pool(const Layer *l, Error *e) {
    if (layer_check_window(l, e)) return -1;
    for (int i = 0; i < 4; i++)
        if (2 * l->pad[i] > l->kernel[i % 2])
            return layer_fail(l, e, "padding is at most half the kernel");
    return 0;
}

/* torch's rule: with ceil_mode, the extra window counts only if it starts inside the padded
 * input. */
int64_t layer_windows(const Layer *l, int axis, int64_t in) {
    int64_t stride = l->stride[axis], before = l->pad[axis];
    int64_t room = in + before + l->pad[axis + 2] - l->kernel[axis], n = room / stride + 1;
    if (room < 0) return 0;
    return n + (l->ceil_mode && room % stride && n * stride < in + before);
}

const char *layer_kind_name(LayerKind k) {
    return (unsigned)k < LAYER_KINDS ? rules[k]->name : "unknown";
}

int graph_add(Graph *g, const Layer *layer, int *value, Error *e) {
    if ((unsigned)layer->kind >= LAYER_KINDS) return error_set(e, "unknown kind of layer");
    const LayerRule *rule = rules[layer->kind];
    if (rule->inputs == ANY_INPUTS ? layer->inputs < 1 : layer->inputs != rule->inputs)
        return error_set(e, "layer '%s' (%s) takes %d inputs, got %d", layer->name, rule->name,
                         rule->inputs, layer->inputs);
    for (int i = 0; i < layer->inputs; i++)
        if (layer->input[i] < 0 || layer->input[i] >= g->n_layers)
            return layer_fail(layer, e, "reads the value of a later layer");
    if (memory_grow((void **)&g->layers, g->n_layers, &g->layers_room, sizeof *g->layers,
                    "network graph", e))
        return -1;
    Layer *l = &g->layers[g->n_layers];
    *l = *layer;
    for (int i = 0; i < LAYER_PARAMS; i++) l->param[i] = -1;
    for (int i = 0; i < 2; i++) l->dilation[i] += !l->dilation[i];
    int params = g->n_params;
    int failed = rule->add(g, l, e);
    if (!failed) shape_settle(l);
    if (!failed && l->C > MOST_ELEMENTS / (l->H * l->W))
        failed = layer_fail(l, e, "its value has more than 2^40 elements per image");
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
