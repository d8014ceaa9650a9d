/* What may follow a convolution, one kind of reader each; and a net's plans, of every purpose and
 * way of computing, against the double reference. */
#ifndef ADVRT_TESTS_FOLLOWERS_H
#define ADVRT_TESTS_FOLLOWERS_H

#include "sample_nets.h"

/* Each takes the convolution's value, and its input, to what the last linear layer reads. */
typedef struct Follower {
    const char *name;
    int (*add)(Graph *g, int x, int input);
} Follower;

static inline int follow_linear(Graph *g, int x, int input) {
    (void)g, (void)input;
    return x;
}

static inline int follow_average(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, x, 1, 1);
}

static inline int follow_uneven_average(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, x, 3, 2);
}

static inline int follow_maximum(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, maxpool(g, x, 3, 2, 1, false), 2, 2);
}

static inline int follow_pointwise(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, conv(g, x, 20, 1, 1, 0, 1), 2, 1);
}

static inline int follow_convolution(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, relu(g, conv(g, x, 16, 3, 1, 1, 1), 0), 2, 2);
}

static inline int follow_strided(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, relu(g, conv(g, x, 32, 3, 2, 1, 1), 0), 1, 1);
}

static inline int follow_depthwise(Graph *g, int x, int input) {
    (void)input;
    int64_t C = g->layers[x].C;
    return avgpool(g, conv(g, relu(g, conv(g, x, C, 3, 1, 1, C), 6), 9, 1, 1, 0, 1), 1, 2);
}

/* The sum takes the convolution's value from either side. */
static inline int follow_sum_before(Graph *g, int x, int input) {
    (void)input;
    int64_t C = g->layers[x].C;
    return avgpool(g, relu(g, sum(g, x, norm(g, conv(g, x, C, 3, 1, 1, 1))), 0), 1, 1);
}

static inline int follow_sum_behind(Graph *g, int x, int input) {
    (void)input;
    int64_t C = g->layers[x].C;
    return avgpool(g, relu(g, sum(g, norm(g, conv(g, x, C, 1, 1, 0, 1)), x), 0), 2, 2);
}

/* A shortcut beside the convolution. */
static inline int follow_shortcut(Graph *g, int x, int input) {
    int other = avgpool(g, input, g->layers[x].H, g->layers[x].W);
    other = conv(g, other, g->layers[x].C, 1, 1, 0, 1);
    return avgpool(g, relu(g, sum(g, x, other), 0), 1, 2);
}

static inline int follow_norm(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, relu(g, norm(g, x), 2), 2, 2);
}

/* Batch norm and ReLU that no convolution takes in: another reader sees the value before them. */
static inline int follow_norm_alone(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, sum(g, relu(g, norm(g, x), 0), x), 2, 1);
}

static inline int follow_dropout(Graph *g, int x, int input) {
    (void)input;
    return avgpool(g, add(g, (Layer){.kind = LAYER_DROPOUT, .p = 0}, x, -1), 2, 2);
}

static const Follower followers[] = {
    {"linear", follow_linear},
    {"average", follow_average},
    {"uneven average", follow_uneven_average},
    {"maximum", follow_maximum},
    {"1x1", follow_pointwise},
    {"3x3", follow_convolution},
    {"3x3 of stride 2", follow_strided},
    {"depthwise", follow_depthwise},
    {"sum, before", follow_sum_before},
    {"sum, behind", follow_sum_behind},
    {"shortcut", follow_shortcut},
    {"batch norm", follow_norm},
    {"batch norm alone", follow_norm_alone},
    {"dropout", follow_dropout},
};
enum { FOLLOWERS = sizeof followers / sizeof *followers };

/* --- plans against the reference --- */

/* Relative distances, the largest met: of logits, the image's gradient and parameters' gradients.
 * And how often an image's bits depended on its place in the batch. */
typedef struct Distances {
    double logits, image, params;
    int moved;
} Distances;

static inline void widen(double *most, double d) {
    if (!(d <= *most)) *most = d; /* so does a NaN */
}

/* Gradient and forward plans against r, whose forward and backward have run. */
static inline void hold_inference(Graph *g, const Reference *r, const float *x, const float *dz,
                                  bool direct, Distances *most) {
    Error e = {0};
    int64_t N = r->N;
    Plan *p = make_plan_as(g, PLAN_GRADIENT, N, direct),
         *f = make_plan_as(g, PLAN_FORWARD, N, direct);
    int64_t D = p->C * p->H * p->W, K = p->K;
    float *z = calloc((size_t)(N * K), sizeof *z), *dx = calloc((size_t)(N * D), sizeof *dx);
    assert_int_equal(host_forward(f, x, z, &e), 0);
    widen(&most->logits, distance(z, r->value[g->n_layers - 1], N * K));
    assert_int_equal(host_forward(p, x, z, &e), 0);
    assert_int_equal(host_backward(p, dz, dx, &e), 0);
    widen(&most->logits, distance(z, r->value[g->n_layers - 1], N * K));
    widen(&most->image, distance(dx, r->grad[0], N * D));
    if (N > 1) { /* the same images, each a place further on: the same bits */
        float *mx = malloc((size_t)(N * D) * sizeof *mx),
              *mdz = malloc((size_t)(N * K) * sizeof *mdz);
        float *mz = calloc((size_t)(N * K), sizeof *mz),
              *mdx = calloc((size_t)(N * D), sizeof *mdx);
        for (int64_t n = 0; n < N; n++) {
            memcpy(mx + (n + 1) % N * D, x + n * D, (size_t)D * sizeof *x);
            memcpy(mdz + (n + 1) % N * K, dz + n * K, (size_t)K * sizeof *dz);
        }
        assert_int_equal(host_forward(p, mx, mz, &e), 0);
        assert_int_equal(host_backward(p, mdz, mdx, &e), 0);
        for (int64_t n = 0; n < N; n++)
            if (memcmp(mz + (n + 1) % N * K, z + n * K, (size_t)K * sizeof *z) ||
                memcmp(mdx + (n + 1) % N * D, dx + n * D, (size_t)D * sizeof *dx))
                most->moved++;
        free(mx), free(mdz), free(mz), free(mdx);
    }
    free(z), free(dx);
    plan_free(p), plan_free(f);
}

/* What a parameter with one number a channel (bias, batch norm) has its gradient added up from: the
 * sum of the magnitudes over a channel's cells. */
static inline double summed(const Reference *r, const Layer *l, int layer, int64_t channel) {
    double sum = 0;
    int64_t cells = l->H * l->W;
    for (int64_t n = 0; n < r->N; n++)
        for (int64_t i = 0; i < cells; i++)
            sum += fabs(r->grad[layer][(n * l->C + channel) * cells + i]);
    return sum;
}

/* Of parameter i's gradient, against its own norm, or, with one number a channel, against what is
 * summed: the terms of one sum may cancel, which those of a whole weight do not. */
static inline double parameter_distance(const Reference *r, int i, const float *got) {
    const Param *p = &r->g->params[i];
    const Layer *l = &r->g->layers[p->layer];
    double error = 0, size = 0;
    bool channels = p->role != PARAM_WEIGHT && tensor_count(&p->value) == l->C &&
                    (l->kind == LAYER_CONV || l->kind == LAYER_BATCHNORM ||
                     (l->kind == LAYER_LINEAR && !l->flags[0]));
    for (int64_t k = 0; k < tensor_count(&p->value); k++) {
        double off = (double)got[k] - r->dparam[i][k];
        double whole = channels ? summed(r, l, p->layer, k) : r->dparam[i][k];
        error += off * off;
        size += whole * whole;
    }
    /* before an average over all that a batch norm made there is no gradient but rounding */
    return size > 1e-18 ? sqrt(error / size) : 0;
}

/* Leaves the sums of a group of one as they are. */
static inline int sum_alone(Group *g, double *x, int64_t n, Error *e) {
    (void)g, (void)x, (void)n, (void)e;
    return 0;
}

static inline void hold_training(Graph *g, const Reference *r, const float *x, const float *dz,
                                 bool direct, Group *group, Distances *most) {
    Error e = {0};
    Plan *p = NULL;
    PlanRequest request = {
        .purpose = PLAN_TRAINING, .N = r->N, .direct = direct, .group = group, .whole = r->N};
    if (plan_new(g, device, &request, &p, &e)) fail_msg("%s", e.text);
    int64_t out = r->N * p->K;
    float *z = calloc((size_t)out, sizeof *z);
    assert_int_equal(host_forward(p, x, z, &e), 0);
    if (host_train_backward(p, dz, &e)) fail_msg("%s", e.text);
    widen(&most->logits, distance(z, r->value[g->n_layers - 1], out));
    for (int i = 0; i < g->n_params; i++) {
        int64_t n = tensor_count(&g->params[i].value);
        float *got = host_copy(plan_gradient_of(p, i), n);
        if (got) widen(&most->params, parameter_distance(r, i, got));
        free(got);
    }
    free(z);
    plan_free(p);
}

/* An input [N,C,H,W] around a mean near 0, so that sums of it cancel little and those of products
 * do not add up a mean. No ReLU and no maximum is within a rounding's reach, so every right order
 * of summation gives the same gradients; *clear is false where none of the inputs drawn is so. Both
 * references have run forward on it. The caller frees it. */
static inline float *draw(Reference *inference, Reference *training, int salt, bool *clear) {
    enum { MOST = 20 };
    const double margin = 4e-6;
    float *x = NULL;
    *clear = false;
    for (int i = 0; i < MOST && !*clear; i++) {
        char name[64];
        snprintf(name, sizeof name, "input %d %d", salt, i);
        free(x);
        x = uniform(name, inference->N * ref_size(&inference->g->layers[0]), -0.5, 1);
        ref_forward(inference, x);
        if (i + 1 < MOST && ref_margin(inference) < margin) continue;
        ref_forward(training, x);
        *clear = ref_margin(inference) >= margin && ref_margin(training) >= margin;
    }
    return x;
}

/* Both plans, "fast" and "direct", of a net with golden weights, on N images drawn; false where a
 * ReLU is on the fence, so that only logits have been held. */
static inline bool hold_net(Graph *g, int64_t N, int salt, Group *group, Distances *direct,
                            Distances *fast) {
    Error e = {0};
    bool clear;
    if (graph_init_golden(g, device, "", NULL, &e)) fail_msg("%s", e.text);
    Reference inference = ref_new(g, N, false), training = ref_new(g, N, true);
    float *dz = uniform("dz", N * ref_size(&g->layers[g->n_layers - 1]), -1, 1);
    float *x = draw(&inference, &training, salt, &clear);
    ref_backward(&inference, dz);
    ref_backward(&training, dz);
    hold_inference(g, &inference, x, dz, true, direct);
    hold_inference(g, &inference, x, dz, false, fast);
    hold_training(g, &training, x, dz, true, group, direct);
    hold_training(g, &training, x, dz, false, group, fast);
    if (!clear) direct->image = direct->params = fast->image = fast->params = 0;
    ref_free(&inference), ref_free(&training);
    free(x), free(dz);
    return clear;
}

#endif
