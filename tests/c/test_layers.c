/* Layers that put numbers elsewhere, and those of windows, in the places of nets in which they take
 * different ways through a device, against the double reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "followers.h"
#include "under_test.h"

static int block(Graph *g, int x, int64_t K) {
    return relu(g, norm(g, conv(g, x, K, 3, 1, 1, 1)), 0);
}

static int end(Graph *g, int x) {
    linear(g, avgpool(g, x, 2, 2), 5);
    return x;
}

/* DenseNet: everything before, again and again, in whole blocks of channels. */
static void dense(Graph *g) {
    int x[4] = {conv(g, normalize(g, 0), 32, 3, 1, 1, 1)};
    for (int i = 1; i < 4; i++) x[i] = block(g, i > 1 ? concat(g, 0, i, x) : x[0], 16);
    end(g, relu(g, norm(g, concat(g, 0, 4, x)), 0));
}

/* CSPNet: half of the channels go round the block. */
static void shares(Graph *g) {
    int x = block(g, normalize(g, 0), 64);
    for (int i = 0; i < 2; i++) {
        int a = SIZED(g, LAYER_SLICE, x, 0, 0, 32, 1), b = SIZED(g, LAYER_SLICE, x, 0, 32, 32, 1);
        x = relu(g, CONCAT(g, 0, a, block(g, b, 32)), 0);
    }
    end(g, x);
}

/* Inception: branches side by side, the last of them no whole block. */
static void branches(Graph *g) {
    int x = block(g, 0, 16);
    x = CONCAT(g, 0, conv(g, x, 16, 1, 1, 0, 1), block(g, x, 32), maxpool(g, x, 3, 1, 1, false),
               conv(g, x, 7, 3, 1, 1, 1));
    x = relu(g, x, 0);
    end(g, CONCAT(g, 0, conv(g, x, 12, 1, 1, 0, 1), conv(g, x, 20, 3, 1, 1, 1)));
}

/* The image itself, the same value twice, and a net's end that is a concatenation. */
static void ends(Graph *g) {
    int x = CONCAT(g, 0, 0, conv(g, 0, 5, 3, 1, 1, 1), 0);
    int y = block(g, x, 16);
    y = CONCAT(g, 1, y, y);
    int z = SIZED(g, LAYER_RESHAPE, avgpool(g, y, 1, 1), -1);
    CONCAT(g, 0, linear(g, y, 3), z, linear(g, x, 2));
}

/* ShuffleNet's unit: halves of the channels, one of which goes on, mixed again. */
static void shuffle(Graph *g) {
    int x = block(g, 0, 32);
    for (int i = 0; i < 2; i++) {
        int a = SIZED(g, LAYER_SLICE, x, 0, 0, 16, 1), b = SIZED(g, LAYER_SLICE, x, 0, 16, 16, 1);
        b = relu(g, norm(g, conv(g, norm(g, conv(g, b, 16, 1, 1, 0, 1)), 16, 3, 1, 1, 16)), 0);
        x = CONCAT(g, 0, a, b);
        int64_t H = g->layers[x].H, W = g->layers[x].W;
        x = SIZED(g, LAYER_RESHAPE, x, 2, 16, H, W);
        x = SIZED(g, LAYER_PERMUTE, x, 1, 0, 2, 3);
        x = SIZED(g, LAYER_RESHAPE, x, 32, H, W);
    }
    end(g, x);
}

/* Slices that leave something out, in steps, and one that is also read whole. */
static void slices(Graph *g) {
    int x = block(g, 0, 24);
    int a = SIZED(g, LAYER_SLICE, x, 0, 4, 12, 1), b = SIZED(g, LAYER_SLICE, x, 0, 8, 16, 1);
    int c = SIZED(g, LAYER_SLICE, x, -1, 1, 5, 2), d = SIZED(g, LAYER_SLICE, x, 1, 3, 6, 1);
    a = conv(g, a, 8, 1, 1, 0, 1);
    b = relu(g, conv(g, b, 8, 3, 1, 1, 1), 0);
    x = avgpool(g, x, 3, 3);
    c = conv(g, avgpool(g, c, 3, 3), 24, 1, 1, 0, 1);
    d = avgpool(g, relu(g, d, 1), 3, 3);
    x = sum(g, sum(g, x, c), d);
    linear(g, CONCAT(g, 0, x, avgpool(g, a, 3, 3), avgpool(g, b, 3, 3)), 4);
}

/* Swin's way: cells in windows, rolled by slices, and back again. */
static void windows(Graph *g) {
    int x = block(g, 0, 16);
    int64_t H = g->layers[x].H, W = g->layers[x].W;
    int y = SIZED(g, LAYER_RESHAPE, x, 16, H / 2, 2, W / 3, 3);
    y = SIZED(g, LAYER_PERMUTE, y, 1, 3, 2, 4, 0);
    y = SIZED(g, LAYER_RESHAPE, y, H / 2 * W / 3, 6, 16);
    y = CONCAT(g, 0, SIZED(g, LAYER_SLICE, y, 0, 5, H / 2 * W / 3 - 5, 1),
               SIZED(g, LAYER_SLICE, y, 0, 0, 5, 1));
    y = relu(g, y, 0.8);
    y = SIZED(g, LAYER_RESHAPE, y, H / 2, W / 3, 2, 3, 16);
    y = SIZED(g, LAYER_PERMUTE, y, 4, 0, 2, 1, 3);
    y = SIZED(g, LAYER_RESHAPE, y, 16, H, W);
    end(g, sum(g, x, y));
}

/* Padding in a plane and of channels, and orders turned round. */
static void borders(Graph *g) {
    int x = SIZED(g, LAYER_PAD, 0, 0, 0, 1, 2, 3, 0);
    x = block(g, SIZED(g, LAYER_FLIP, x, 2), 16);
    int y = SIZED(g, LAYER_PAD, conv(g, x, 16, 1, 1, 0, 1), 0, 16, 0, 1, 2, 0);
    y = relu(g, SIZED(g, LAYER_FLIP, y, 1, -1), 0);
    x = SIZED(g, LAYER_PAD, SIZED(g, LAYER_FLIP, x, 0), 5, 11, 1, 0, 0, 2);
    end(g, conv(g, sum(g, x, y), 9, 3, 2, 1, 1));
}

/* Views between layers that work in place: what they show must not change. */
static void views(Graph *g) {
    int x = block(g, 0, 16);
    int64_t n = shape_count(&g->layers[x].shape);
    int y = relu(g, SIZED(g, LAYER_RESHAPE, x, n / 4, 4), 0.5);
    int z = relu(g, SIZED(g, LAYER_RESHAPE, x, -1), 0.7);
    y = SIZED(g, LAYER_RESHAPE, y, n);
    y = sum(g, sum(g, y, z), SIZED(g, LAYER_RESHAPE, x, n));
    int w = SIZED(g, LAYER_RESHAPE, 0, -1);
    linear(g, CONCAT(g, 0, y, w), 3);
}

static int average(Graph *g, int x, int64_t R, int64_t stride, int64_t pad, bool ceil, bool all) {
    return add(g,
               (Layer){.kind = LAYER_AVGPOOL,
                       .kernel = {R, R + (R == 2)},
                       .stride = {stride, stride},
                       .pad = {pad, pad, pad, pad},
                       .ceil_mode = ceil,
                       .flags = {all}},
               x, -1);
}

/* Averages that count the padding or do not, whose last windows hang over the edge, of the image
 * and of blocks, alone and before a sum. */
static void averages(Graph *g) {
    int x = block(g, average(g, 0, 3, 1, 1, false, false), 16);
    int y = average(g, x, 3, 1, 1, false, true);
    x = relu(g, sum(g, x, y), 0);
    y = average(g, x, 3, 2, 1, true, true);
    x = average(g, x, 3, 2, 1, true, false);
    x = conv(g, sum(g, x, y), 9, 1, 1, 0, 1);
    y = relu(g, average(g, x, 2, 3, 1, true, true), 0.5);
    end(g, CONCAT(g, 0, y, average(g, x, 2, 3, 1, true, false)));
}

static int dilated(Graph *g, int x, int64_t K, int64_t R, int64_t dilation, int64_t stride,
                   int64_t groups) {
    int64_t pad = (R - 1) * dilation / 2;
    return add(g,
               (Layer){.kind = LAYER_CONV,
                       .C = K,
                       .kernel = {R, R},
                       .stride = {stride, 1},
                       .dilation = {dilation, dilation},
                       .pad = {pad, pad, pad, pad},
                       .groups = groups,
                       .bias = K % 3 != 0},
               x, -1);
}

/* DeepLab's branches, and kernels with gaps of the image, in groups and of a stride. */
static void gaps(Graph *g) {
    int x = relu(g, norm(g, dilated(g, normalize(g, 0), 16, 3, 2, 1, 1)), 0);
    int y = relu(g, norm(g, dilated(g, x, 16, 3, 3, 1, 1)), 0);
    y = sum(g, norm(g, dilated(g, y, 16, 3, 2, 1, 16)), x);
    x = relu(g, dilated(g, y, 8, 3, 2, 2, 4), 1);
    end(g, CONCAT(g, 0, x, dilated(g, y, 9, 5, 2, 2, 1)));
}

static int turned(Graph *g, int x, int64_t K, int64_t R, int64_t stride, int64_t pad, int64_t more,
                  int64_t groups, int64_t dilation) {
    return add(g,
               (Layer){.kind = LAYER_CONV_TRANSPOSE,
                       .C = K,
                       .kernel = {R, R},
                       .stride = {stride, stride},
                       .dilation = {dilation, dilation},
                       .pad = {pad, pad, pad, pad},
                       .sizes = {more, more},
                       .groups = groups},
               x, -1);
}

/* An hourglass: convolutions of a stride, and transposed ones back up, whose values are added to
 * what they came from; of the image and in groups. */
static void hourglass(Graph *g) {
    int x = block(g, turned(g, 0, 5, 3, 1, 1, 0, 1, 1), 16);
    int y = relu(g, norm(g, conv(g, x, 32, 3, 2, 1, 1)), 0);
    int z = relu(g, norm(g, turned(g, y, 16, 2, 2, 0, 0, 1, 1)), 0);
    x = relu(g, sum(g, turned(g, z, 16, 3, 1, 1, 0, 1, 1), x), 0);
    z = turned(g, relu(g, y, 0.9), 16, 3, 2, 1, 1, 1, 1);
    x = sum(g, x, relu(g, z, 0));
    z = turned(g, conv(g, y, 12, 1, 1, 0, 1), 12, 4, 2, 1, 0, 3, 1);
    z = sum(g, z, turned(g, z, 12, 3, 1, 2, 0, 12, 2));
    end(g, CONCAT(g, 0, x, z));
}

/* Onto a grid, or by factors where H is 0. */
static int resized(Graph *g, int x, bool linear, const char *places, int rounding, int64_t H,
                   int64_t W, double down, double across) {
    Layer l = {.kind = LAYER_RESIZE,
               .flags = {linear},
               .sizes = {rounding},
               .n_sizes = 1,
               .out = {H, W},
               .factor = {down, across}};
    snprintf(l.text, sizeof l.text, "%s", places);
    return add(g, l, x, -1);
}

/* Larger and smaller, of whole factors and of none, of the image and of blocks, in every way. */
static void resizes(Graph *g) {
    static const char *const places[] = {"half_pixel", "pytorch_half_pixel", "asymmetric",
                                         "align_corners"};
    int x = block(g, resized(g, 0, true, "half_pixel", 0, 17, 9, 0, 0), 16), parts[9];
    for (int i = 0; i < 4; i++) {
        int y = conv(g, x, 8, 1, 1, 0, 1);
        parts[2 * i] = resized(g, y, true, places[i], 0, 13, 23, 0, 0);
        y = relu(g, resized(g, x, false, places[i], i, 7, 20, 0, 0), 0.7);
        y = resized(g, y, false, places[3 - i], 3 - i, 0, 0, 2, 1.17);
        parts[2 * i + 1] = resized(g, y, true, places[i], 0, 13, 23, 0, 0);
    }
    int one = resized(g, x, true, "pytorch_half_pixel", 0, 1, 1, 0, 0);
    parts[8] = resized(g, one, true, "align_corners", 0, 13, 23, 0, 0);
    end(g, relu(g, norm(g, concat(g, 0, 9, parts)), 0));
}

static const struct {
    const char *name;
    void (*make)(Graph *g);
} nets[] = {
    {"dense", dense},         {"shares", shares},     {"branches", branches}, {"ends", ends},
    {"shuffle", shuffle},     {"slices", slices},     {"windows", windows},   {"borders", borders},
    {"views", views},         {"averages", averages}, {"gaps", gaps},         {"resizes", resizes},
    {"hourglass", hourglass},
};
enum { NETS = sizeof nets / sizeof *nets };

/* A sum of some hundred products in float is 3e-7 off; a number in a wrong place 0.1 and more. */
static void test_nets(void **state) {
    (void)state;
    for (int i = 0; i < NETS; i++)
        for (int64_t N = 1; N < 4; N += 2) {
            Distances d = {0};
            Graph *g = start(3, 12, 12);
            nets[i].make(g);
            bool clear = hold_net(g, N, i, NULL, &d, &d);
            print_message("  %s, batch %d: logits %.2g, image %.2g, parameters %.2g\n",
                          nets[i].name, (int)N, d.logits, d.image, d.params);
            if (!clear || !(d.logits < 2e-6 && d.image < 3e-6 && d.params < 5e-5) || d.moved)
                fail_msg("%s: %d images depend on their place", nets[i].name, d.moved);
            graph_free(g);
        }
}

/* The same where every convolution that they read leaves its channels last, as oneDNN may. */
static void test_channels_last(void **state) {
    (void)state;
    if (strcmp(device->name, "cpu") != 0) skip();
    setenv("ADVRT_TEST_CHANNELS_LAST", "1000", 1);
    for (int i = 0; i < NETS; i++) {
        Distances d = {0};
        Graph *g = start(3, 12, 12);
        nets[i].make(g);
        if (!hold_net(g, 1, i, NULL, &d, &d) ||
            !(d.logits < 2e-6 && d.image < 3e-6 && d.params < 5e-5))
            fail_msg("%s: logits differ by %g, the image's gradient by %g, parameters' by %g",
                     nets[i].name, d.logits, d.image, d.params);
        graph_free(g);
    }
    unsetenv("ADVRT_TEST_CHANNELS_LAST");
}

/* Concatenations and slices of whole blocks of channels stay in blocks: of the whole net, forward
 * and back, nothing is put into another order but for its ends. */
static void test_blocks(void **state) {
    (void)state;
    if (strcmp(device->name, "cpu") != 0) skip();
    void (*const of_blocks[])(Graph *) = {dense, shares};
    for (int i = 0; i < 2; i++) {
        Error e = {0};
        PlanTiming t;
        Graph *g = start(3, 12, 12);
        of_blocks[i](g);
        assert_int_equal(graph_init_golden(g, device, "", NULL, &e), 0);
        Plan *p = make_plan(g, PLAN_GRADIENT, 2);
        assert_int_equal(plan_time(p, true, &e), 0);
        int moves = 0;
        for (int k = 0; plan_timing(p, k, &t); k++) {
            bool ends = !strncmp(t.layer, "linear", 6) || !strncmp(t.layer, "adaptive", 8) ||
                        !strncmp(t.layer, "normalize", 9) || !strcmp(t.layer, "conv0") ||
                        !strcmp(t.layer, "conv1");
            if (!strcmp(t.what, "reorder") && !ends)
                fail_msg("net %d, layer '%s', backward %d", i, t.layer, t.backward);
            moves += !strcmp(t.what, "move");
        }
        assert_true(moves >= 8);
        plan_free(p), graph_free(g);
    }
}

/* Where a formula has a loop of its own, and its derivative, a map is made by it: one that is
 * spelled another way is not. */
static void test_loops(void **state) {
    static const struct {
        const char *text;
        int forward, back;
    } cases[] = {
        {"0.5 * x * (1 + erf(x * 0.7071067811865476))", 1, 1},
        {"x * sigmoid(x)", 0, 1},
        {"sigmoid(x) * x", 0, 0},
        {"x * tanh(x)", 0, 0},
    };
    (void)state;
    if (strcmp(device->name, "cpu") != 0) skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error e = {0};
        PlanTiming t;
        int loops[2] = {0};
        Layer l = {.kind = LAYER_MAP};
        strcpy(l.text, cases[i].text);
        Graph *g = start(3, 12, 12);
        end(g, add(g, l, conv(g, 0, 20, 3, 1, 1, 1), -1));
        assert_int_equal(graph_init_golden(g, device, "", NULL, &e), 0);
        Plan *p = make_plan(g, PLAN_GRADIENT, 2);
        assert_int_equal(plan_time(p, true, &e), 0);
        for (int k = 0; plan_timing(p, k, &t); k++)
            loops[t.backward] += !strcmp(t.what, "map in one loop");
        if (loops[0] != cases[i].forward || loops[1] != cases[i].back)
            fail_msg("%s: %d forward, %d back", cases[i].text, loops[0], loops[1]);
        plan_free(p), graph_free(g);
    }
}

int main(void) {
    under_test_open();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nets),
        cmocka_unit_test(test_channels_last),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_loops),
    };
    int failed = cmocka_run_group_tests_name("layers", tests, NULL, NULL);
    under_test_close();
    return failed;
}
