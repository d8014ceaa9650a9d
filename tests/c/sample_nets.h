/* Nets for tests, a line for each layer, and their plans against the double reference. */
#ifndef ADVRT_TESTS_SAMPLE_NETS_H
#define ADVRT_TESTS_SAMPLE_NETS_H

#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "net/plan.h"
#include "reference.h"
#include "under_test.h"

/* --- layers --- */

static int serial; /* of a net's layers: their names, and so their weights, are the net's alone */

static inline int add(Graph *g, Layer l, int a, int b) {
    Error e = {0};
    int value = -1;
    l.input[0] = a;
    l.input[1] = b;
    l.inputs = b >= 0 ? 2 : 1;
    if (l.kind == LAYER_RELU && l.cap == 0) l.cap = INFINITY;
    if (l.kind == LAYER_BATCHNORM) l.eps = 1e-3, l.momentum = 0.1;
    if (!l.groups) l.groups = 1;
    snprintf(l.name, sizeof l.name, "%s%d", layer_kind_name(l.kind), serial++);
    if (graph_add(g, &l, &value, &e)) fail_msg("%s", e.text);
    return value;
}

/* With gaps of dilation - 1 cells in the kernel. */
static inline int conv_dilated(Graph *g, int x, int64_t K, int64_t R, int64_t stride, int64_t pad,
                               int64_t groups, int64_t dilation) {
    return add(g,
               (Layer){.kind = LAYER_CONV,
                       .C = K,
                       .kernel = {R, R},
                       .stride = {stride, stride},
                       .dilation = {dilation, dilation},
                       .pad = {pad, pad, pad, pad},
                       .groups = groups,
                       .bias = K % 3 != 0},
               x, -1);
}

static inline int conv(Graph *g, int x, int64_t K, int64_t R, int64_t stride, int64_t pad,
                       int64_t groups) {
    return conv_dilated(g, x, K, R, stride, pad, groups, 1);
}

static inline int norm(Graph *g, int x) {
    return add(g, (Layer){.kind = LAYER_BATCHNORM}, x, -1);
}

static inline int relu(Graph *g, int x, double cap) {
    return add(g, (Layer){.kind = LAYER_RELU, .cap = cap}, x, -1);
}

static inline int maxpool(Graph *g, int x, int64_t R, int64_t stride, int64_t pad, bool ceil_mode) {
    return add(g,
               (Layer){.kind = LAYER_MAXPOOL,
                       .kernel = {R, R},
                       .stride = {stride, stride},
                       .pad = {pad, pad, pad, pad},
                       .ceil_mode = ceil_mode},
               x, -1);
}

static inline int avgpool(Graph *g, int x, int64_t h, int64_t w) {
    return add(g, (Layer){.kind = LAYER_ADAPTIVE_AVGPOOL, .out = {h, w}}, x, -1);
}

static inline int linear(Graph *g, int x, int64_t K) {
    return add(g, (Layer){.kind = LAYER_LINEAR, .C = K, .bias = K % 2 == 1}, x, -1);
}

static inline int sum(Graph *g, int a, int b) {
    return add(g, (Layer){.kind = LAYER_ADD}, a, b);
}

static inline int normalize(Graph *g, int x) {
    double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    return add(g, (Layer){.kind = LAYER_NORMALIZE, .mean = mean, .std = std}, x, -1);
}

/* A layer whose attributes are `sizes`. */
static inline int sized(Graph *g, LayerKind kind, int x, int n, const int64_t *sizes) {
    Layer l = {.kind = kind, .n_sizes = n};
    memcpy(l.sizes, sizes, (size_t)n * sizeof *sizes);
    return add(g, l, x, -1);
}
#define SIZED(g, kind, x, ...)                                                                     \
    sized(g, kind, x, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                   \
          (int64_t[]){__VA_ARGS__})

static inline int concat(Graph *g, int dim, int n, const int *x) {
    Error e = {0};
    int value = -1;
    Layer l = {.kind = LAYER_CONCAT, .inputs = n, .n_sizes = 1, .sizes = {dim}};
    memcpy(l.input, x, (size_t)n * sizeof *x);
    if (graph_add(g, &l, &value, &e)) fail_msg("%s", e.text);
    return value;
}
#define CONCAT(g, dim, ...)                                                                        \
    concat(g, dim, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (int[]){__VA_ARGS__})

static inline Graph *start(int64_t C, int64_t H, int64_t W) {
    Graph *g;
    Error e;
    assert_int_equal(graph_new(&g, C, H, W, &e), 0);
    serial = 0;
    return g;
}

/* --- comparison --- */

/* ||a - b|| / ||b||, or ||a|| where b is 0. */
static inline double distance(const float *a, const double *b, int64_t n) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(error / (size > 0 ? size : 1));
}

static inline float *uniform(const char *name, int64_t n, double low, double high) {
    float *out = malloc((size_t)n * sizeof *out);
    uint64_t key = random_hash(RANDOM_EMPTY, name, strlen(name));
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(low + (high - low) * random_uniform(key, (uint64_t)i));
    return out;
}

static inline Plan *make_plan_as(Graph *g, PlanPurpose purpose, int64_t N, bool direct) {
    Plan *p = NULL;
    Error e = {0};
    PlanRequest r = {.purpose = purpose, .N = N, .direct = direct};
    if (plan_new(g, device, &r, &p, &e)) fail_msg("%s", e.text);
    return p;
}

static inline Plan *make_plan(Graph *g, PlanPurpose purpose, int64_t N) {
    return make_plan_as(g, purpose, N, true);
}

#endif
