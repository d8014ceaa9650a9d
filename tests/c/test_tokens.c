/* Layers of products and rows - linear layers on tokens, attention, softmax, norms - against the
 * double reference: forward, the image's gradient, training, and bits that do not depend on an
 * image's place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "followers.h"

/* --- layers --- */

static int last(Graph *g, int x, int64_t K) {
    return add(
        g, (Layer){.kind = LAYER_LINEAR, .C = K, .bias = K % 2 == 1 || K == 48, .flags = {true}}, x,
        -1);
}

static int attention(Graph *g, int x, int64_t heads) {
    return add(g, (Layer){.kind = LAYER_ATTENTION, .groups = heads}, x, -1);
}

static int matmul(Graph *g, int a, int b, bool first, bool second) {
    return add(g, (Layer){.kind = LAYER_MATMUL, .flags = {first, second}, .scale = 0.4}, a, b);
}

static int softmax(Graph *g, int x, int64_t dim) {
    return add(g, (Layer){.kind = LAYER_SOFTMAX, .sizes = {dim}, .n_sizes = 1}, x, -1);
}

static int layernorm(Graph *g, int x, int64_t dims) {
    Layer l = {.kind = LAYER_LAYERNORM, .sizes = {dims}, .n_sizes = 1, .eps = 1e-5, .bias = true};
    return add(g, l, x, -1);
}

static int groupnorm(Graph *g, int x, int64_t groups) {
    Layer l = {.kind = LAYER_GROUPNORM, .groups = groups, .eps = 1e-5, .bias = true};
    return add(g, l, x, -1);
}

static int instancenorm(Graph *g, int x, bool affine) {
    return add(g, (Layer){.kind = LAYER_INSTANCENORM, .eps = 1e-5, .bias = affine}, x, -1);
}

/* --- nets --- */

/* Two blocks of a transformer over windows of tokens: the rows of three planes. */
static Graph *net_windows(void) {
    Graph *g = start(3, 7, 10);
    int x = last(g, 0, 16);
    for (int i = 0; i < 2; i++) {
        int y = attention(g, last(g, layernorm(g, x, 1), 48), i ? 4 : 2);
        x = sum(g, x, last(g, y, 16));
        y = relu(g, last(g, layernorm(g, x, 1), 37), 0);
        x = sum(g, last(g, y, 16), x);
    }
    linear(g, layernorm(g, x, 1), 5);
    return g;
}

/* More tokens and features than one tile of any instruction set has, and than one stretch of K. */
static Graph *net_wide(void) {
    Graph *g = start(1, 33, 9);
    int x = attention(g, last(g, 0, 3 * 70), 1);
    x = last(g, last(g, x, 263), 34);
    linear(g, x, 4);
    return g;
}

/* Products of two values, each side transposed, with dimensions that are broadcast. */
static Graph *net_products(void) {
    Graph *g = start(4, 6, 5);
    int a = last(g, 0, 8), b = last(g, 0, 8);
    int s = softmax(g, matmul(g, a, b, false, true), 2); /* [4,6,6] */
    int x = matmul(g, s, a, true, false);                /* [4,6,8] */
    int one = avgpool(g, 0, 6, 5);
    one = conv(g, one, 1, 1, 1, 0, 1); /* [1,6,5] */
    int y = matmul(g, one, x, true, false);
    int w = matmul(g, x, one, true, false); /* [4,8,5] */
    int v = matmul(g, y, w, false, false);  /* [4,5,5] */
    linear(g, sum(g, v, relu(g, v, 0)), 3);
    return g;
}

/* Norms around convolutions, whose values may lie in blocks; a value that is its own neighbour. */
static Graph *net_norms(void) {
    Graph *g = start(3, 9, 8);
    int x = layernorm(g, conv(g, 0, 24, 3, 1, 1, 1), 0);
    x = relu(g, x, 0);
    x = sum(g, x, groupnorm(g, conv(g, x, 24, 3, 1, 1, 24), 4));
    x = relu(g, instancenorm(g, conv(g, x, 20, 3, 2, 1, 1), true), 0);
    x = relu(g, instancenorm(g, x, false), 2);
    x = layernorm(g, x, 2);
    x = softmax(g, layernorm(g, x, 3), 0);
    x = sum(g, softmax(g, x, 1), softmax(g, x, 2));
    linear(g, x, 6);
    return g;
}

static const struct {
    const char *name;
    Graph *(*make)(void);
} nets[] = {
    {"windows", net_windows}, {"wide", net_wide}, {"products", net_products}, {"norms", net_norms}};
enum { NETS = sizeof nets / sizeof *nets };

/* The plans of every purpose. None of these layers is computed in another way where "direct" is not
 * asked for. */
static void hold(Graph *g, int64_t N, int salt, Distances *d) {
    bool clear;
    Error e = {0};
    if (graph_init_golden(g, device, "", NULL, &e)) fail_msg("%s", e.text);
    Reference inference = ref_new(g, N, false), training = ref_new(g, N, true);
    float *dz = uniform("dz", N * ref_size(&g->layers[g->n_layers - 1]), -1, 1);
    float *x = draw(&inference, &training, salt, &clear);
    assert_true(clear);
    ref_backward(&inference, dz);
    ref_backward(&training, dz);
    hold_inference(g, &inference, x, dz, true, d);
    hold_training(g, &training, x, dz, true, NULL, d);
    ref_free(&inference), ref_free(&training);
    free(x), free(dz);
}

static void test_layers(void **state) {
    (void)state;
    for (int i = 0; i < NETS; i++) {
        Distances d = {0};
        Graph *g = nets[i].make();
        hold(g, 3, i, &d);
        print_message("  %s: logits %.2g, image %.2g, parameters %.2g\n", nets[i].name, d.logits,
                      d.image, d.params);
        if (!(d.logits < 2e-6 && d.image < 2e-6 && d.params < 2e-5) || d.moved)
            fail_msg("%s: logits differ by %g, the image's gradient by %g, parameters' by %g; %d "
                     "images depend on their place",
                     nets[i].name, d.logits, d.image, d.params, d.moved);
        graph_free(g);
    }
}

/* The reference itself, by central differences: of the image, and of each parameter. */
static double functional(Reference *r, const float *dz) {
    int last_layer = r->g->n_layers - 1;
    double sum = 0;
    for (int l = 0; l <= last_layer; l++) ref_layer(r, l, false);
    for (int64_t o = 0; o < r->N * ref_size(&r->g->layers[last_layer]); o++)
        sum += r->value[last_layer][o] * (double)dz[o];
    return sum;
}

static void hold_slope(const char *name, Reference *r, const float *dz, double *at, double want) {
    const double step = 1e-6;
    double kept = *at, side[2];
    for (int s = 0; s < 2; s++) {
        *at = kept + (s ? step : -step);
        side[s] = functional(r, dz);
    }
    *at = kept;
    double slope = (side[1] - side[0]) / (2 * step);
    if (fabs(slope - want) > 1e-5 * (fabs(want) + 0.1))
        fail_msg("%s: slope %g, gradient %g", name, slope, want);
}

static void test_reference(void **state) {
    (void)state;
    for (int i = 0; i < NETS; i++) {
        Graph *g = nets[i].make();
        Error e = {0};
        assert_int_equal(graph_init_golden(g, device, "", NULL, &e), 0);
        Reference r = ref_new(g, 1, true);
        int64_t in = ref_size(&g->layers[0]);
        float *x = uniform("input", in, 0, 1),
              *dz = uniform("dz", ref_size(&g->layers[g->n_layers - 1]), -1, 1);
        ref_forward(&r, x);
        ref_backward(&r, dz);
        for (int64_t k = 0; k < 5; k++) {
            int64_t at = (k * 7919 + 13) % in;
            hold_slope(nets[i].name, &r, dz, &r.value[0][at], r.grad[0][at]);
        }
        for (int p = 0; p < g->n_params; p++) {
            int64_t at = 7919 % tensor_count(&g->params[p].value);
            hold_slope(g->params[p].name, &r, dz, &r.param[p][at], r.dparam[p][at]);
        }
        ref_free(&r);
        free(x), free(dz);
        graph_free(g);
    }
}

/* bf16 and mixed: near f32's numbers, and not them. Mixed leaves the logits alone. */
static void precision(int i, PlanPrecision which) {
    enum { N = 2 };
    Graph *g = nets[i].make();
    Error e = {0};
    assert_int_equal(graph_init_golden(g, device, "", NULL, &e), 0);
    Reference r = ref_new(g, N, false);
    int64_t in = N * ref_size(&g->layers[0]), out = N * ref_size(&g->layers[g->n_layers - 1]);
    float *x = uniform("input", in, 0, 1), *dz = uniform("dz", out, -1, 1);
    float *z = calloc((size_t)out, sizeof *z), *dx = calloc((size_t)in, sizeof *dx);
    Plan *p = NULL;
    PlanRequest request = {.purpose = PLAN_GRADIENT, .N = N, .direct = true, .precision = which};
    ref_forward(&r, x);
    ref_backward(&r, dz);
    if (plan_new(g, device, &request, &p, &e)) fail_msg("%s", e.text);
    assert_int_equal(host_forward(p, x, z, &e), 0);
    assert_int_equal(host_backward(p, dz, dx, &e), 0);
    double zd = distance(z, r.value[g->n_layers - 1], out), xd = distance(dx, r.grad[0], in);
    print_message("  %s, %s: logits %.2g, image %.2g\n", nets[i].name,
                  which == PLAN_BF16 ? "bf16" : "mixed", zd, xd);
    assert_true(which == PLAN_BF16 ? zd > 1e-5 && zd < 0.02 : zd < 2e-6);
    /* a GPU keeps values and gradients between layers in bf16, too */
    assert_true(xd > 1e-4 && xd < (strcmp(device->name, "cpu") == 0 ? 0.05 : 0.1));
    ref_free(&r);
    free(x), free(dz), free(z), free(dx);
    plan_free(p), graph_free(g);
}

static void test_precision(void **state) {
    (void)state;
    if (!device->bf16) skip();
    for (int i = 0; i < NETS; i++)
        for (int which = PLAN_MIXED; which <= PLAN_BF16; which++)
            precision(i, (PlanPrecision)which);
}

int main(void) {
    under_test_open();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_precision),
    };
    int failed = cmocka_run_group_tests_name("tokens", tests, NULL, NULL);
    under_test_close();
    return failed;
}
