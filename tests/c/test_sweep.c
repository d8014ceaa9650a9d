/* A sweep over convolutions' shapes, with every kind of reader behind them: both plans, the image's
 * gradient and the parameters', against the double reference. Without arguments a sample, drawn by
 * ADVRT_SWEEP_SEED; with --all every shape (make check-cpu), or with --all I/N the Ith of N parts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "followers.h"

/* What the loops below go through. The channels lie around the blocks' 8, 16 and 32; the grids are
 * smaller than a tile, of whole tiles, and odd. */
static const int64_t inputs[] = {1, 2, 3, 4, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48};
static const int64_t outputs[] = {4, 8, 12, 16, 17, 24, 33, 40};
static const int64_t grids[] = {7, 8, 13, 28};
enum { KERNELS = 7, STRIDES = 2, GROUPS = 3 };
enum { INPUTS = sizeof inputs / sizeof *inputs };
enum { OUTPUTS = sizeof outputs / sizeof *outputs };
enum { GRIDS = sizeof grids / sizeof *grids };

typedef struct ConvCase {
    int64_t C, K, R, stride, pad, groups, dilation, H, W, N;
    bool image; /* it reads the image, and not a layer's value */
    const Follower *follower;
} ConvCase;

static int64_t draw_below(uint64_t key, uint64_t *at, int64_t n) {
    return (int64_t)(random_uniform(key, (*at)++) * (double)n);
}

/* Groups: none, some, or one for each input channel. false where there are no such groups. */
static bool set_groups(ConvCase *s, int kind) {
    s->groups = kind == 0 ? 1 : kind == 2 ? s->C : s->C % 4 == 0 ? 4 : s->C % 3 == 0 ? 3 : 1;
    if (kind && s->groups == 1) return false;
    s->K = (s->K + s->groups - 1) / s->groups * s->groups;
    return kind != 1 || s->groups < s->C;
}

/* Whether batch norm may read the convolution. It takes the scale from what it reads, so a weight
 * that is nothing but a channel's scale, or another batch norm's, has a gradient of rounding alone.
 */
static bool may_norm(const ConvCase *s) {
    return s->C > s->groups || s->R > 1;
}

/* Whether the kernel, with its gaps, lies within the padded grid. */
static bool fits(const ConvCase *s) {
    int64_t reach = (s->R - 1) * s->dilation + 1;
    return s->H + 2 * s->pad >= reach && s->W + 2 * s->pad >= reach;
}

/* What is not gone through is drawn for each shape: padding, batch, reader, the grid's width, and
 * gaps in the kernel for a quarter of those that have room for them. */
static ConvCase fill(ConvCase s, uint64_t index) {
    uint64_t at = 0, key = random_bits(random_hash(RANDOM_EMPTY, "shape", 5), index);
    s.pad = draw_below(key, &at, 3) ? s.R / 2 : draw_below(key, &at, s.R);
    s.W = s.H + draw_below(key, &at, 3) - 1;
    s.N = 1 + draw_below(key, &at, 3);
    s.image = draw_below(key, &at, 3) == 0;
    do s.follower = &followers[draw_below(key, &at, FOLLOWERS)];
    while (!may_norm(&s) && strstr(s.follower->name, "batch norm"));
    s.dilation = 1;
    ConvCase gaps = s;
    gaps.dilation = 2 + draw_below(key, &at, 2);
    gaps.pad *= gaps.dilation;
    return s.R > 1 && fits(&gaps) && !draw_below(key, &at, 4) ? gaps : s;
}

static Graph *make(const ConvCase *s) {
    Graph *g = start(s->image ? s->C : 3, s->H, s->W);
    int input = s->image ? 0 : relu(g, conv(g, 0, s->C, 3, 1, 1, 1), 0);
    int x = conv_dilated(g, input, s->K, s->R, s->stride, s->pad, s->groups, s->dilation);
    if ((s->C + s->K) % 3 && may_norm(s) && !strstr(s->follower->name, "batch norm"))
        x = norm(g, x);
    if ((s->C + s->K) % 2) x = relu(g, x, s->R == 5 ? 6 : 0);
    linear(g, s->follower->add(g, x, input), 6);
    return g;
}

/* Float is 1e-6 off in a sum of some thousand products, Winograd's transforms included. An average
 * over 800 cells, added up one after another, is 1e-5 off, and a weight's gradient, a sum over
 * cells of both signs, 2e-5. A kernel that reads or writes in the wrong place is off by 1e-2 and
 * more. */
static bool holds(const Distances *d) {
    return !d->moved && d->logits < 2e-5 && d->image < 4e-6 && d->params < 5e-5;
}

/* Batch norm's gradient is the device's own then, in double. oneDNN's sums in float are off alike
 * in every cell, which a convolution's weights add up to 2e-4 of their gradient, and which would
 * hide what the convolution makes. */
static Group alone = {.count = 1, .sum_double = sum_alone};

typedef struct Count {
    int64_t shapes, failed, fenced; /* of the last only the logits are held */
    Distances direct, fast;         /* the largest of all */
} Count;

static void say(const ConvCase *s, const char *plan, const Distances *d) {
    print_error(
        "%d -> %d, %dx%d, stride %d, pad %d, groups %d, dilation %d, %dx%d, batch %d%s, then %s, "
        "%s "
        "plan: "
        "logits differ by %.2g, the image's gradient by %.2g, parameters' by %.2g; %d images "
        "depend on their place\n",
        (int)s->C, (int)s->K, (int)s->R, (int)s->R, (int)s->stride, (int)s->pad, (int)s->groups,
        (int)s->dilation, (int)s->H, (int)s->W, (int)s->N, s->image ? ", of the image" : "",
        s->follower->name, plan, d->logits, d->image, d->params, d->moved);
}

static void widen_all(Distances *most, const Distances *d) {
    widen(&most->logits, d->logits);
    widen(&most->image, d->image);
    widen(&most->params, d->params);
}

/* Images enough for batch norm's statistics, of which one of few values is little but rounding. */
static int64_t batch_of(const Graph *g, int64_t N) {
    enum { VALUES = 8 };
    for (int i = 0; i < g->n_layers; i++)
        if (g->layers[i].kind == LAYER_BATCHNORM && N * g->layers[i].H * g->layers[i].W < VALUES)
            N = VALUES;
    return N;
}

static void one(ConvCase s, uint64_t index, Count *count) {
    Distances direct = {0}, fast = {0};
    if (!fits(&s)) return;
    Graph *g = make(&s);
    s.N = batch_of(g, s.N);
    count->fenced += !hold_net(g, s.N, (int)index, &alone, &direct, &fast);
    graph_free(g);
    count->shapes++;
    count->failed += !holds(&direct) || !holds(&fast);
    if (!holds(&direct)) say(&s, "direct", &direct);
    if (!holds(&fast)) say(&s, "fast", &fast);
    widen_all(&count->direct, &direct);
    widen_all(&count->fast, &fast);
}

/* Every shape whose index `takes` lets through. */
static void sweep(bool (*takes)(uint64_t index), Count *count) {
    uint64_t index = 0;
    for (int64_t R = 1; R <= KERNELS; R++)
        for (int64_t stride = 1; stride <= STRIDES; stride++)
            for (int c = 0; c < INPUTS; c++)
                for (int k = 0; k < OUTPUTS; k++)
                    for (int h = 0; h < GRIDS; h++)
                        for (int kind = 0; kind < GROUPS; kind++, index++) {
                            ConvCase s = {.C = inputs[c],
                                          .K = outputs[k],
                                          .R = R,
                                          .stride = stride,
                                          .H = grids[h]};
                            if (!takes(index) || !set_groups(&s, kind)) continue;
                            one(fill(s, index), index, count);
                        }
}

static int64_t part, parts;
static uint64_t seed;

static bool in_part(uint64_t index) {
    return (int64_t)(random_bits(seed, index) % (uint64_t)parts) == part;
}

static bool in_sample(uint64_t index) {
#ifdef __SANITIZE_ADDRESS__
    const double share = 0.001;
#else
    const double share = 0.004;
#endif
    return random_uniform(seed, index) < share;
}

static Count count;

static void test_sweep(void **state) {
    (void)state;
    sweep(parts ? in_part : in_sample, &count);
    print_message("%s: %d shapes, %d wrong; %d with a ReLU on the fence; largest distances: direct "
                  "%.1e %.1e %.1e, fast %.1e %.1e %.1e\n",
                  device->isa, (int)count.shapes, (int)count.failed, (int)count.fenced,
                  count.direct.logits, count.direct.image, count.direct.params, count.fast.logits,
                  count.fast.image, count.fast.params);
    assert_int_equal(count.failed, 0);
    assert_true(count.shapes > 0 && 20 * count.fenced < count.shapes);
}

int main(int argc, char **argv) {
    const char *wish = getenv("ADVRT_SWEEP_SEED");
    seed = random_bits(random_hash(RANDOM_EMPTY, "sweep", 5), wish ? strtoull(wish, NULL, 10) : 0);
    if (argc > 1 && strcmp(argv[1], "--all") != 0) {
        fprintf(stderr, "usage: test_sweep [--all [I/N]]\n");
        return 2;
    }
    parts = argc > 1;
    if (argc > 2) {
        char *end;
        part = strtoll(argv[2], &end, 10) - 1;
        parts = *end == '/' ? strtoll(end + 1, &end, 10) : 0;
        if (*end || part < 0 || part >= parts) {
            fprintf(stderr, "--all wants a part such as 1/8, got '%s'\n", argv[2]);
            return 2;
        }
    }
    under_test_open();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep)};
    int failed = cmocka_run_group_tests_name("sweep", tests, NULL, NULL);
    under_test_close();
    return failed;
}
