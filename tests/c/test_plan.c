/* Plans against the double reference: sample nets that between them use every layer in
 * the shapes that take different ways through the device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/interrupt.h"
#include "base/memory.h"
#include "base/random.h"
#include "net/plan.h"
#include "rounded.h"
#include "sample_nets.h"
#include "under_test.h"

/* --- sample nets --- */

/* ResNet's stem and both kinds of its basic block. */
static Graph *net_residual(void) {
    Graph *g = start(3, 33, 29);
    int x = normalize(g, 0);
    x = maxpool(g, relu(g, norm(g, conv(g, x, 16, 7, 2, 3, 1)), 0), 3, 2, 1, false);
    int y = norm(g, conv(g, relu(g, norm(g, conv(g, x, 16, 3, 1, 1, 1)), 0), 16, 3, 1, 1, 1));
    x = relu(g, sum(g, y, x), 0);
    y = norm(g, conv(g, relu(g, norm(g, conv(g, x, 32, 3, 2, 1, 1)), 0), 32, 3, 1, 1, 1));
    x = relu(g, sum(g, y, norm(g, conv(g, x, 32, 1, 2, 0, 1))), 0);
    linear(g, avgpool(g, x, 1, 1), 11);
    return g;
}

/* ResNet's bottleneck, whose first convolution adds to the shortcut's gradient. */
static Graph *net_bottleneck(void) {
    Graph *g = start(3, 20, 24);
    int x = relu(g, norm(g, conv(g, normalize(g, 0), 24, 3, 1, 1, 1)), 0);
    for (int i = 0; i < 3; i++) {
        int64_t stride = i == 1 ? 2 : 1, K = i ? 48 : 24;
        int y = relu(g, norm(g, conv(g, x, 8, 1, 1, 0, 1)), 0);
        y = relu(g, norm(g, conv(g, y, 8, 3, stride, 1, 1)), 0);
        y = norm(g, conv(g, y, K, 1, 1, 0, 1));
        x = relu(g, sum(g, y, i == 1 ? norm(g, conv(g, x, K, 1, 2, 0, 1)) : x), 0);
    }
    linear(g, avgpool(g, x, 1, 1), 10);
    return g;
}

/* EfficientNet-Lite's inverted residual: depthwise, ReLU6, asymmetric padding. */
static Graph *net_mobile(void) {
    Graph *g = start(3, 32, 32);
    Layer same = {
        .kind = LAYER_CONV, .C = 16, .kernel = {3, 3}, .stride = {2, 2}, .pad = {0, 0, 1, 1}};
    int x = relu(g, norm(g, add(g, same, normalize(g, 0), -1)), 6);
    int y = relu(g, norm(g, conv(g, x, 48, 1, 1, 0, 1)), 6);
    y = relu(g, norm(g, conv(g, y, 48, 5, 1, 2, 48)), 6);
    x = sum(g, norm(g, conv(g, y, 16, 1, 1, 0, 1)), x);
    y = relu(g, norm(g, conv(g, x, 40, 1, 1, 0, 1)), 6);
    same.C = same.groups = 40;
    y = relu(g, norm(g, add(g, same, y, -1)), 6);
    same = (Layer){.kind = LAYER_CONV,
                   .C = 40,
                   .groups = 40,
                   .kernel = {5, 5},
                   .stride = {2, 2},
                   .pad = {1, 1, 2, 2}};
    y = relu(g, norm(g, add(g, same, y, -1)), 6);
    y = norm(g, conv(g, y, 20, 1, 1, 0, 1));
    linear(g, avgpool(g, relu(g, y, 6), 1, 1), 7);
    return g;
}

/* AlexNet's and VGG's parts: large strided kernels, pools, a grid into linear layers. */
static Graph *net_plain(void) {
    Graph *g = start(3, 67, 63);
    int x = maxpool(g, relu(g, conv(g, normalize(g, 0), 16, 11, 4, 2, 1), 0), 3, 2, 0, false);
    x = maxpool(g, relu(g, conv(g, x, 32, 5, 1, 2, 1), 0), 2, 2, 0, false);
    x = avgpool(g, x, 2, 2);
    x = relu(g, linear(g, x, 30), 0);
    x = add(g, (Layer){.kind = LAYER_DROPOUT, .p = 0}, x, -1);
    linear(g, relu(g, linear(g, x, 17), 0), 5);
    return g;
}

/* Odd channel counts, groups, ceiling pools, uneven averages, batch norm and ReLU that stand alone.
 */
static Graph *net_odd(void) {
    Graph *g = start(3, 19, 23);
    int x = norm(g, 0);
    x = relu(g, conv(g, x, 12, 3, 1, 1, 3), 0);
    x = maxpool(g, x, 3, 2, 1, true);
    int y = norm(g, x), z = relu(g, y, 2);
    x = sum(g, conv(g, z, 12, 3, 1, 1, 1), conv(g, y, 12, 1, 1, 0, 1));
    x = sum(g, x, relu(g, x, 0));
    x = conv(g, x, 5, 3, 3, 1, 1);
    linear(g, avgpool(g, x, 3, 2), 4);
    return g;
}

/* Patches that leave a border of the image out. */
static Graph *net_patches(void) {
    Graph *g = start(3, 11, 7);
    linear(g, relu(g, conv(g, 0, 16, 4, 4, 0, 1), 0), 3);
    return g;
}

static Graph *net_perceptron(void) {
    Graph *g = start(2, 1, 1);
    int x = relu(g, linear(g, 0, 33), 0);
    x = relu(g, norm(g, linear(g, x, 20)), 0);
    x = linear(g, x, 20);
    linear(g, sum(g, x, relu(g, x, 0)), 2);
    return g;
}

/* Small stems and shapes of the bundled kind: grey, stride 1, batch of no block's size. */
static Graph *net_small(void) {
    Graph *g = start(1, 14, 14);
    int x = maxpool(g, relu(g, norm(g, conv(g, 0, 8, 3, 1, 1, 1)), 0), 2, 2, 0, false);
    int y = norm(g, conv(g, relu(g, norm(g, conv(g, x, 8, 3, 1, 1, 1)), 0), 8, 3, 1, 1, 1));
    x = relu(g, sum(g, x, y), 0);
    x = relu(g, norm(g, conv(g, x, 16, 3, 2, 1, 1)), 0);
    linear(g, avgpool(g, x, 1, 1), 4);
    return g;
}

/* Sums of a layer and its own input: the gradient that a convolution adds to is the one that it
 * reads, so it must not be written over. */
static Graph *net_skip(void) {
    Graph *g = start(3, 12, 10);
    int x = conv(g, 0, 16, 3, 1, 1, 1);
    x = sum(g, x, conv(g, x, 16, 3, 1, 1, 1));
    x = sum(g, conv(g, x, 16, 1, 1, 0, 1), x);
    x = sum(g, x, norm(g, x));
    x = sum(g, relu(g, x, 0), conv(g, x, 16, 3, 1, 1, 16));
    x = sum(g, x, x);
    linear(g, avgpool(g, x, 1, 1), 5);
    return g;
}

static Graph *net_linear(void) {
    Graph *g = start(3, 5, 4);
    linear(g, normalize(g, 0), 3);
    return g;
}

typedef Graph *(*MakeNet)(void);
static const struct {
    const char *name;
    MakeNet make;
} nets[] = {
    {"residual", net_residual},
    {"bottleneck", net_bottleneck},
    {"mobile", net_mobile},
    {"plain", net_plain},
    {"odd", net_odd},
    {"patches", net_patches},
    {"perceptron", net_perceptron},
    {"small", net_small},
    {"linear", net_linear},
    {"skip", net_skip},
};
enum { NETS = sizeof nets / sizeof *nets };

static Graph *golden_net(MakeNet make) {
    Graph *g = make();
    Error e = {0};
    if (graph_init_golden(g, device, "", NULL, &e)) fail_msg("%s", e.text);
    return g;
}

/* A ReLU on the fence opens for one order of summation and not for another: the sample nets and
 * their inputs have none, so float is as close as float can be. */
static const double tolerance = 2e-6;

static void inference(MakeNet make, int64_t N) {
    Graph *g = golden_net(make);
    Error e = {0};
    Plan *p = make_plan(g, PLAN_GRADIENT, N), *f = make_plan(g, PLAN_FORWARD, N);
    int64_t in = N * p->C * p->H * p->W, out = N * p->K;
    float *x = uniform("input", in, 0, 1), *dz = uniform("dz", out, -1, 1);
    float *z = calloc((size_t)out, sizeof *z), *z2 = calloc((size_t)out, sizeof *z);
    float *dx = calloc((size_t)in, sizeof *dx);
    Reference r = ref_new(g, N, false);
    ref_forward(&r, x);
    ref_backward(&r, dz);
    for (int again = 0; again < 2; again++) {
        memset(dx, 0xff, (size_t)in * sizeof *dx);
        assert_int_equal(host_forward(p, x, z, &e), 0);
        assert_int_equal(host_backward(p, again ? z : dz, dx, &e), 0); /* the second one counts */
        assert_int_equal(host_backward(p, dz, dx, &e), 0);
        double zd = distance(z, r.value[g->n_layers - 1], out), xd = distance(dx, r.grad[0], in);
        if (zd > tolerance || xd > tolerance)
            fail_msg("logits differ by %g, the gradient by %g", zd, xd);
    }
    assert_int_equal(host_forward(f, x, z2, &e), 0);
    assert_true(distance(z2, r.value[g->n_layers - 1], out) < tolerance);
    ref_free(&r);
    free(x), free(dz), free(z), free(z2), free(dx);
    plan_free(p), plan_free(f), graph_free(g);
}

/* Two ranks with the same images. x is the device's memory. */
static int sum_of_twins(Group *g, double *x, int64_t n, Error *e) {
    size_t bytes = (size_t)n * sizeof *x;
    double *host = malloc(bytes);
    assert_int_equal(g->count, 2);
    assert_int_equal(device->copy_out(device, host, x, bytes, e), 0);
    for (int64_t i = 0; i < n; i++) host[i] *= 2;
    assert_int_equal(device->copy_in(device, x, host, bytes, e), 0);
    free(host);
    return 0;
}

/* The N images are all, or, with a group, those of each of its ranks. */
static void training(MakeNet make, int64_t N, bool direct, Group *group) {
    Graph *g = golden_net(make);
    Error e = {0};
    Plan *p;
    int64_t ranks = group ? group->count : 1;
    PlanRequest request = {
        .purpose = PLAN_TRAINING, .N = N, .direct = direct, .group = group, .whole = N * ranks};
    if (plan_new(g, device, &request, &p, &e)) fail_msg("%s", e.text);
    int64_t in = N * p->C * p->H * p->W, out = N * p->K;
    Reference r = ref_new(g, N * ranks, true);
    float *x = uniform("input", in * ranks, 0, 1), *dz = uniform("dz", out * ranks, -1, 1);
    float *z = calloc((size_t)out, sizeof *z);
    for (int64_t i = in; i < in * ranks; i++) x[i] = x[i - in];
    for (int64_t i = out; i < out * ranks; i++) dz[i] = dz[i - out];
    ref_forward(&r, x);
    ref_backward(&r, dz);
    assert_int_equal(host_forward(p, x, z, &e), 0);
    if (host_train_backward(p, dz, &e)) fail_msg("%s", e.text);
    double zd = distance(z, r.value[g->n_layers - 1], out);
    if (zd > 1e-5) fail_msg("logits differ by %g", zd);
    for (int i = 0; i < g->n_params; i++) {
        const Param *q = &g->params[i];
        float *got = host_copy(plan_gradient_of(p, i), tensor_count(&q->value));
        if (q->role == PARAM_RUNNING_MEAN || q->role == PARAM_RUNNING_VAR) {
            assert_null(got);
            continue;
        }
        for (int64_t k = 0; k < tensor_count(&q->value); k++) got[k] *= (float)ranks;
        double size = 0, gd = distance(got, r.dparam[i], tensor_count(&q->value));
        for (int64_t k = 0; k < tensor_count(&q->value); k++) size += fabs(r.dparam[i][k]);
        /* a bias before a batch norm has no gradient but rounding */
        if (size > 1e-9 && gd > (direct ? 5e-5 : 2e-4))
            fail_msg("gradient of '%s' differs by %g", q->name, gd);
        free(got);
    }
    for (int i = 0; i < g->n_layers; i++) {
        const Layer *l = &g->layers[i];
        if (l->kind != LAYER_BATCHNORM) continue;
        double M = (double)(N * ranks * l->H * l->W);
        float *mean = host_copy(g->params[l->param[2]].value.data, l->C);
        float *var = host_copy(g->params[l->param[3]].value.data, l->C);
        for (int64_t c = 0; c < l->C; c++) {
            assert_true(fabs((double)mean[c] -
                             (0.9 * r.param[l->param[2]][c] + 0.1 * r.mean[i][c])) < 1e-5);
            assert_true(fabs((double)var[c] - (0.9 * r.param[l->param[3]][c] +
                                               0.1 * r.var[i][c] * M / (M - 1))) < 1e-4);
        }
        free(mean), free(var);
    }
    ref_free(&r);
    free(x), free(dz), free(z);
    plan_free(p), graph_free(g);
}

static void test_inference(void **state) {
    (void)state;
    for (int i = 0; i < NETS; i++)
        for (int64_t N = 1; N <= 3; N += 2) {
            print_message("  %s, batch %d\n", nets[i].name, (int)N);
            inference(nets[i].make, N);
        }
}

/* Mixed and bf16 against the rounded reference, from which they are not a tenth as far as from
 * f32's numbers, but for the odd sum that ends on the other side of a tie: returns how many were.
 * Mixed leaves the logits alone, bit by bit. */
static int precision(MakeNet make, PlanPrecision which) {
    enum { N = 2 };
    Graph *g = golden_net(make);
    Error e = {0};
    Plan *p = NULL, *exact = make_plan(g, PLAN_GRADIENT, N);
    PlanRequest request = {.purpose = PLAN_GRADIENT, .N = N, .direct = true, .precision = which};
    if (plan_new(g, device, &request, &p, &e)) fail_msg("%s", e.text);
    int64_t in = N * p->C * p->H * p->W, out = N * p->K;
    float *x = uniform("input", in, 0, 1), *dz = uniform("dz", out, -1, 1);
    float *z = calloc((size_t)out, sizeof *z), *z32 = calloc((size_t)out, sizeof *z);
    float *dx = calloc((size_t)in, sizeof *dx);
    Reference f32 = ref_new(g, N, false);
    Rounded want = rounded_new(g, N);
    ref_forward(&f32, x);
    ref_backward(&f32, dz);
    rounded_run(&want, x, dz, which == PLAN_BF16, true);
    assert_int_equal(host_forward(exact, x, z32, &e), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(host_forward(p, x, z, &e), 0);
        assert_int_equal(host_backward(p, dz, dx, &e), 0);
    }
    int last = g->n_layers - 1;
    double zd = distance(z, want.r.value[last], out), xd = distance(dx, want.r.grad[0], in);
    double z_plain = distance(z, f32.value[last], out), x_plain = distance(dx, f32.grad[0], in);
    print_message("    logits %.2g (f32's %.2g), gradient %.2g (f32's %.2g)\n", zd, z_plain, xd,
                  x_plain);
    if (which == PLAN_MIXED) assert_memory_equal(z, z32, (size_t)out * sizeof *z);
    /* a GPU keeps values and gradients between layers in bf16, too */
    double most = strcmp(device->name, "cpu") == 0 ? 0.6 : 1.5;
    if (which == PLAN_BF16 && zd > most * z_plain) fail_msg("logits differ by %g", zd);
    if (xd > most * x_plain) fail_msg("the gradient differs by %g", xd);
    assert_true(x_plain > 5e-4); /* it is bf16 that was computed */
    ref_free(&f32), rounded_free(&want);
    free(x), free(dz), free(z), free(z32), free(dx);
    plan_free(p), plan_free(exact), graph_free(g);
    return (which == PLAN_BF16 && zd > 0.1 * z_plain) + (xd > 0.1 * x_plain);
}

/* tf32: products of 10 bits of mantissa, so logits some 1e-4 from f32's, and not its numbers; of
 * the gradient percents, where a ReLU on the fence falls to the other side. */
static void tf32(MakeNet make) {
    enum { N = 2 };
    Graph *g = golden_net(make);
    Error e = {0};
    Plan *p = NULL;
    PlanRequest request = {
        .purpose = PLAN_GRADIENT, .N = N, .direct = true, .precision = PLAN_TF32};
    if (plan_new(g, device, &request, &p, &e)) fail_msg("%s", e.text);
    int64_t in = N * p->C * p->H * p->W, out = N * p->K;
    float *x = uniform("input", in, 0, 1), *dz = uniform("dz", out, -1, 1);
    float *z = calloc((size_t)out, sizeof *z), *dx = calloc((size_t)in, sizeof *dx);
    Reference f32 = ref_new(g, N, false);
    ref_forward(&f32, x);
    ref_backward(&f32, dz);
    assert_int_equal(host_forward(p, x, z, &e), 0);
    assert_int_equal(host_backward(p, dz, dx, &e), 0);
    double zd = distance(z, f32.value[g->n_layers - 1], out), xd = distance(dx, f32.grad[0], in);
    print_message("    logits %.2g, gradient %.2g\n", zd, xd);
    assert_true(zd > 1e-5 && zd < 5e-3);
    assert_true(xd > 1e-5 && xd < 0.3);
    ref_free(&f32);
    free(x), free(dz), free(z), free(dx);
    plan_free(p), graph_free(g);
}

static void test_tf32(void **state) {
    (void)state;
    Plan *p;
    Error e = {0};
    PlanRequest request = {.N = 1, .precision = PLAN_TF32};
    if (!device->tf32) {
        Graph *g = golden_net(nets[0].make);
        assert_int_equal(plan_new(g, device, &request, &p, &e), -1);
        assert_non_null(strstr(e.text, "does not compute in tf32"));
        graph_free(g);
    }
    for (int i = 0; i < NETS && device->tf32; i++) {
        print_message("  %s\n", nets[i].name);
        tf32(nets[i].make);
    }
}

static void test_precision(void **state) {
    (void)state;
    int ties = 0;
    if (!device->bf16) skip();
    for (int i = 0; i < NETS; i++)
        for (int which = PLAN_MIXED; which <= PLAN_BF16; which++) {
            print_message("  %s, %s\n", nets[i].name, which == PLAN_MIXED ? "mixed" : "bf16");
            ties += precision(nets[i].make, (PlanPrecision)which);
        }
    if (strcmp(device->name, "cpu") == 0) assert_in_range(ties, 0, 3 * NETS / 5);
}

static void test_training(void **state) {
    (void)state;
    for (int i = 0; i < NETS; i++) {
        print_message("  %s\n", nets[i].name);
        training(nets[i].make, 3, true, NULL);
        training(nets[i].make, 3, false, NULL);
    }
}

static void test_shared_training(void **state) {
    (void)state;
    Group twins = {.count = 2, .sum_double = sum_of_twins};
    for (int i = 0; i < NETS; i++) training(nets[i].make, 3, true, &twins);
}

/* The reference itself, by central differences of a random functional of the logits. */
static void test_reference(void **state) {
    (void)state;
    for (int i = 0; i < NETS; i++) {
        Graph *g = golden_net(nets[i].make);
        for (int mode = 0; mode < 2; mode++) {
            Reference r = ref_new(g, 2, mode == 1);
            int64_t in = 2 * ref_size(&g->layers[0]),
                    out = 2 * ref_size(&g->layers[g->n_layers - 1]);
            float *x = uniform("input", in, 0, 1), *dz = uniform("dz", out, -1, 1);
            ref_forward(&r, x);
            ref_backward(&r, dz);
            for (int64_t k = 0; k < 5; k++) {
                int64_t at = (k * 7919 + 13) % in;
                double side[2], step = 1e-6;
                for (int s = 0; s < 2; s++) {
                    for (int64_t o = 0; o < in; o++) r.value[0][o] = (double)x[o];
                    r.value[0][at] += s ? step : -step;
                    for (int l = 0; l < g->n_layers; l++) ref_layer(&r, l, false);
                    side[s] = 0;
                    for (int64_t o = 0; o < out; o++)
                        side[s] += r.value[g->n_layers - 1][o] * (double)dz[o];
                }
                double slope = (side[1] - side[0]) / (2 * step), want = r.grad[0][at];
                if (fabs(slope - want) > 1e-4 * (fabs(want) + 0.1))
                    fail_msg("%s: slope %g, gradient %g", nets[i].name, slope, want);
            }
            ref_free(&r);
            free(x), free(dz);
        }
        graph_free(g);
    }
}

/* An image's logits and gradient have the same bits at any place in the batch. */
static void test_neighbours(void **state) {
    (void)state;
    for (int i = 0; i < NETS; i++) {
        enum { N = 5 };
        Graph *g = golden_net(nets[i].make);
        Error e = {0};
        Plan *p = make_plan(g, PLAN_GRADIENT, N);
        int64_t D = p->C * p->H * p->W, K = p->K;
        float *x = uniform("input", N * D, 0, 1), *dz = uniform("dz", N * K, -1, 1);
        float *z = calloc(N * (size_t)K, sizeof *z), *dx = calloc(N * (size_t)D, sizeof *dx);
        float first_z[64];
        float *first_dx = calloc((size_t)D, sizeof *dx);
        for (int at = 0; at < N; at++) {
            float *moved = uniform("others", N * D, 0, 1),
                  *moved_dz = uniform("other dz", N * K, -1, 1);
            memcpy(moved + at * D, x, (size_t)D * sizeof *x);
            memcpy(moved_dz + at * K, dz, (size_t)K * sizeof *dz);
            assert_int_equal(host_forward(p, moved, z, &e), 0);
            assert_int_equal(host_backward(p, moved_dz, dx, &e), 0);
            if (at == 0) {
                memcpy(first_z, z, (size_t)K * sizeof *z);
                memcpy(first_dx, dx, (size_t)D * sizeof *dx);
            }
            if (memcmp(first_z, z + at * K, (size_t)K * sizeof *z))
                fail_msg("%s: logits at %d", nets[i].name, at);
            if (memcmp(first_dx, dx + at * D, (size_t)D * sizeof *dx))
                fail_msg("%s: gradient at %d", nets[i].name, at);
            free(moved), free(moved_dz);
        }
        free(x), free(dz), free(z), free(dx), free(first_dx);
        plan_free(p), graph_free(g);
    }
}

static void test_no_allocation_in_a_step(void **state) {
    (void)state;
    Graph *g = golden_net(net_residual);
    Error e = {0};
    Plan *p = make_plan(g, PLAN_GRADIENT, 2);
    int64_t D = p->C * p->H * p->W;
    float *x = uniform("input", 2 * D, 0, 1), *dz = uniform("dz", 2 * p->K, -1, 1);
    float *z = calloc(2 * (size_t)p->K, sizeof *z), *dx = calloc(2 * (size_t)D, sizeof *dx);
    uint64_t before = memory_count().takes;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(host_forward(p, x, z, &e), 0);
        assert_int_equal(host_backward(p, dz, dx, &e), 0);
    }
    assert_int_equal(memory_count().takes, before);
    free(x), free(dz), free(z), free(dx);
    plan_free(p), graph_free(g);
}

/* What dropout lets through: identities around it show its output, plain or from blocks of
 * channels. */
static void dropout_output(bool blocked, const float *x, float *z) {
    enum { C = 20, HW = 9 };
    Graph *g = start(C, 3, 3);
    Error e = {0};
    int value = blocked ? conv(g, 0, C, 1, 1, 0, 1) : 0, made;
    Layer dropout = {
        .kind = LAYER_DROPOUT, .p = 0.3, .inputs = 1, .input = {value}, .name = "drop"};
    assert_int_equal(graph_add(g, &dropout, &made, &e), 0);
    linear(g, made, C * HW);
    assert_int_equal(graph_init_golden(g, device, "", NULL, &e), 0);
    for (int i = 0; i < g->n_params; i++) {
        const Tensor *t = &g->params[i].value;
        float *w = calloc((size_t)tensor_count(t), sizeof *w);
        for (int64_t k = 0; k < tensor_count(t); k++)
            w[k] = t->ndim > 1 &&
                   k / (tensor_count(t) / t->shape[0]) == k % (tensor_count(t) / t->shape[0]);
        assert_int_equal(tensor_from_host(t, w, &e), 0);
        free(w);
    }
    Plan *p = NULL;
    PlanRequest r = {.purpose = PLAN_TRAINING, .N = 2, .seed = blocked ? 6 : 7};
    if (plan_new(g, device, &r, &p, &e)) fail_msg("%s", e.text);
    assert_int_equal(host_forward(p, x, z, &e), 0);
    plan_free(p), graph_free(g);
}

static void test_dropout(void **state) {
    (void)state;
    enum { COUNT = 2 * 20 * 9 };
    float *x = uniform("input", COUNT, 0.5, 1), plain[COUNT], blocked[COUNT];
    int dropped = 0;
    dropout_output(false, x, plain);
    dropout_output(true, x, blocked);
    assert_memory_equal(plain, blocked, sizeof plain);
    for (int i = 0; i < COUNT; i++) {
        dropped += plain[i] == 0;
        if (plain[i] != 0) assert_true(fabs((double)(plain[i] - x[i] / 0.7F)) < 1e-6);
    }
    assert_in_range(dropped, COUNT * 2 / 10, COUNT * 4 / 10);
    free(x);
}

/* Steps are timed while it is asked for, in order, each under its layer's name. */
static void test_timing(void **state) {
    (void)state;
    Graph *g = golden_net(net_small);
    Error e = {0};
    Plan *p = make_plan(g, PLAN_GRADIENT, 2);
    PlanTiming t;
    float *x = uniform("input", 2 * 14 * 14, 0, 1), *dz = uniform("dz", 2 * p->K, -1, 1);
    float *z = calloc(2 * (size_t)p->K, sizeof *z), *dx = calloc(2 * 14 * 14, sizeof *dx);
    assert_int_not_equal(host_backward(p, dz, dx, &e), 0); /* there has been no forward */
    assert_false(plan_timing(p, 0, &t));
    for (int on = 1; on >= 0; on--) {
        assert_int_equal(plan_time(p, on, &e), 0);
        double before = 0, after = 0;
        int steps = 0, convolutions = 0;
        for (; plan_timing(p, steps, &t); steps++) before += t.seconds;
        assert_int_equal(host_forward(p, x, z, &e), 0);
        assert_int_equal(host_backward(p, dz, dx, &e), 0);
        for (int i = 0; plan_timing(p, i, &t); i++) {
            after += t.seconds;
            /* 2 images of 16 channels in, 4 logits out */
            if (!t.backward && !strcmp(t.what, "linear"))
                assert_int_equal(t.bytes, 2 * (16 + 4) * sizeof(float));
            convolutions += !t.backward && !strcmp(t.what, "conv") && !strncmp(t.layer, "conv", 4);
        }
        assert_true(convolutions >= 4); /* more where one runs image by image */
        assert_true(on ? before == 0 && after > 0 : after == before);
    }
    free(x), free(dz), free(z), free(dx);
    plan_free(p), graph_free(g);
}

/* The user's interrupt ends a run and the making of a plan; what was made before goes on to give
 * the same numbers. */
static void test_interrupt(void **state) {
    (void)state;
    Graph *g = golden_net(net_residual);
    Error e = {0};
    Plan *p = make_plan(g, PLAN_GRADIENT, 2), *other = NULL;
    size_t D = (size_t)(p->C * p->H * p->W), K = (size_t)p->K;
    float *x = uniform("input", 2 * (int64_t)D, 0, 1), *dz = uniform("dz", 2 * p->K, -1, 1);
    float *z = calloc(4 * K, sizeof *z), *dx = calloc(4 * D, sizeof *dx);
    for (size_t run = 0; run < 2; run++) {
        size_t before = memory_count().in_use;
        assert_int_equal(host_forward(p, x, z + 2 * K * run, &e), 0);
        interrupt_note();
        assert_int_not_equal(host_backward(p, dz, dx, &e), 0);
        assert_string_equal(e.text, "interrupted");
        assert_int_not_equal(plan_new(g, device, &(PlanRequest){.N = 1}, &other, &e), 0);
        assert_string_equal(e.text, "interrupted");
        assert_int_equal(memory_count().in_use, before);
        interrupt_forget();
        assert_int_equal(host_backward(p, dz, dx + 2 * D * run, &e), 0);
        interrupt_note();
        assert_int_not_equal(host_forward(p, x, z, &e), 0);
        interrupt_forget();
        assert_int_not_equal(host_backward(p, dz, dx, &e), 0); /* its forward did not end */
    }
    assert_memory_equal(z, z + 2 * K, 2 * K * sizeof *z);
    assert_memory_equal(dx, dx + 2 * D, 2 * D * sizeof *dx);
    free(x), free(dz), free(z), free(dx);
    plan_free(p), graph_free(g);
}

/* Every allocation in turn fails while a plan is made: an error, and nothing is lost. */
static void test_out_of_memory(void **state) {
    (void)state;
    const PlanRequest requests[] = {{.purpose = PLAN_FORWARD, .N = 2},
                                    {.purpose = PLAN_GRADIENT, .N = 2},
                                    {.purpose = PLAN_TRAINING, .N = 2},
                                    {.purpose = PLAN_GRADIENT, .N = 2, .precision = PLAN_MIXED}};
    Graph *g = golden_net(net_residual);
    for (int i = 0; i < (device->bf16 ? 4 : 3); i++) {
        size_t before = memory_count().in_use;
        int failures = 0;
        for (uint64_t n = 1;; n++, failures++) {
            Error e = {0};
            Plan *p = NULL;
            memory_fail_at(n);
            int status = plan_new(g, device, &requests[i], &p, &e);
            memory_fail_at(0);
            if (status == 0) {
                plan_free(p);
                break;
            }
            if (!strstr(e.text, "out of memory")) fail_msg("allocation %d: %s", (int)n, e.text);
            assert_int_equal(memory_count().in_use, before);
        }
        assert_true(failures > 10);
    }
    graph_free(g);
}

static void test_misfits(void **state) {
    (void)state;
    Error e = {0};
    Graph *g = start(3, 8, 8);
    int value;
    Layer big = {.kind = LAYER_CONV,
                 .inputs = 1,
                 .C = 4,
                 .kernel = {11, 11},
                 .stride = {1, 1},
                 .groups = 1,
                 .name = "big"};
    assert_int_not_equal(graph_add(g, &big, &value, &e), 0);
    assert_string_equal(e.text, "layer 'big' (conv): the kernel is larger than its padded input");
    Layer groups = {.kind = LAYER_CONV,
                    .inputs = 1,
                    .C = 4,
                    .kernel = {3, 3},
                    .stride = {1, 1},
                    .groups = 2,
                    .name = "g"};
    assert_int_not_equal(graph_add(g, &groups, &value, &e), 0);
    Layer wide = {.kind = LAYER_ADAPTIVE_AVGPOOL,
                  .inputs = 1,
                  .out = {65536, 65536},
                  .name = "wide"},
          far = wide;
    assert_int_equal(graph_add(g, &wide, &far.input[0], &e), 0);
    Layer deep = {
        .kind = LAYER_LINEAR, .inputs = 1, .input = {far.input[0]}, .C = 1 << 24, .name = "deep"};
    assert_int_not_equal(graph_add(g, &deep, &value, &e), 0);
    assert_string_equal(e.text, "layer 'deep' (linear): a parameter has at most 2^40 elements");
    Layer many = {.kind = LAYER_CONV,
                  .inputs = 1,
                  .input = {far.input[0]},
                  .C = 1 << 20,
                  .kernel = {1, 1},
                  .stride = {1, 1},
                  .groups = 1,
                  .name = "many"};
    assert_int_not_equal(graph_add(g, &many, &value, &e), 0);
    assert_string_equal(e.text,
                        "layer 'many' (conv): its value has more than 2^40 elements per image");
    Layer ahead = {.kind = LAYER_RELU, .inputs = 1, .input = {50}, .cap = 1, .name = "r"};
    assert_int_not_equal(graph_add(g, &ahead, &value, &e), 0);
    Plan *p;
    assert_int_not_equal(plan_new(g, device, &(PlanRequest){.N = 1}, &p, &e), 0);
    linear(g, 0, 3);
    assert_int_not_equal(plan_new(g, device, &(PlanRequest){.N = 1}, &p, &e), 0);
    assert_non_null(strstr(e.text, "has no values yet"));
    graph_free(g);
}

int main(void) {
    under_test_open();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),  cmocka_unit_test(test_inference),
        cmocka_unit_test(test_training),   cmocka_unit_test(test_shared_training),
        cmocka_unit_test(test_neighbours), cmocka_unit_test(test_no_allocation_in_a_step),
        cmocka_unit_test(test_timing),     cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_interrupt),  cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_misfits),    cmocka_unit_test(test_precision),
        cmocka_unit_test(test_tf32),
    };
    int failed = cmocka_run_group_tests_name("plan", tests, NULL, NULL);
    under_test_close();
    return failed;
}
