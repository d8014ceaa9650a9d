/* Every reader of a convolution's value, where the value has channels last, which oneDNN may choose
 * for few input channels with AVX-512: forced, so that every processor meets it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "followers.h"

static const struct {
    const char *name;
    int64_t C, K, R, stride, groups;
} convolutions[] = {
    {"3x3", 12, 24, 3, 1, 1},       {"3x3 of stride 2", 12, 24, 3, 2, 1},
    {"1x1", 12, 20, 1, 1, 1},       {"5x5", 5, 9, 5, 1, 1},
    {"in groups", 12, 12, 3, 1, 3}, {"depthwise", 10, 10, 3, 1, 10},
    {"of 16 in", 16, 24, 3, 1, 1},
};
enum { CONVOLUTIONS = sizeof convolutions / sizeof *convolutions };

/* Of the image itself, or of a first layer's value. */
static Graph *make(int which, bool first, int (*follow)(Graph *, int, int)) {
    int64_t C = convolutions[which].C, R = convolutions[which].R;
    Graph *g = start(first ? C : 3, 9, 8);
    int input = first ? 0 : relu(g, norm(g, conv(g, 0, C, 3, 1, 1, 1)), 0);
    int x = conv(g, input, convolutions[which].K, R, convolutions[which].stride, R / 2,
                 convolutions[which].groups);
    linear(g, follow(g, x, input), 5);
    return g;
}

/* The reader f behind convolution i, with inputs of fewer channels than `below` computed with
 * channels last. A sum of some hundred products in float is 3e-7 off, a parameter's gradient, whose
 * products cancel, up to 1e-5; a wrong layout is off by 0.1 and more. */
static void reader(int i, bool first, int f, const char *below) {
    Distances d = {0};
    setenv("ADVRT_TEST_CHANNELS_LAST", below, 1);
    Graph *g = make(i, first, followers[f].add);
    assert_true(hold_net(g, 2, i * FOLLOWERS + f, NULL, &d, &d));
    unsetenv("ADVRT_TEST_CHANNELS_LAST");
    if (!(d.logits < 2e-6 && d.image < 2e-6 && d.params < 5e-5) || d.moved)
        fail_msg(
            "%s%s, then %s, channels last below %s: logits differ by %g, the image's gradient by "
            "%g, parameters' by %g; %d images depend on their place",
            convolutions[i].name, first ? " of the image" : "", followers[f].name, below, d.logits,
            d.image, d.params, d.moved);
    graph_free(g);
}

/* The readers have blocks, or channels last too, as the convolutions among them have 16 channels.
 */
static void test_few(void **state) {
    (void)state;
    for (int i = 0; i < CONVOLUTIONS; i++)
        for (int f = 0; f < FOLLOWERS; f++) reader(i, (i + f) % 3 == 0, f, "16");
}

static void test_all(void **state) {
    (void)state;
    for (int f = 0; f < FOLLOWERS; f++) reader(f % 2, f % 3 == 0, f, "1000");
}

static int reorders(const char *below) {
    Error e = {0};
    PlanTiming t;
    int count = 0;
    setenv("ADVRT_TEST_CHANNELS_LAST", below, 1);
    Graph *g = make(0, false, follow_average);
    assert_int_equal(graph_init_golden(g, device, "", NULL, &e), 0);
    Plan *p = make_plan(g, PLAN_FORWARD, 2);
    assert_int_equal(plan_time(p, true, &e), 0);
    for (int i = 0; plan_timing(p, i, &t); i++) count += strcmp(t.what, "reorder") == 0;
    unsetenv("ADVRT_TEST_CHANNELS_LAST");
    plan_free(p), graph_free(g);
    return count;
}

/* The image goes into that layout, and the input of the average out of it; the linear layer always
 * wants the plain one. */
static void test_it_is_forced(void **state) {
    (void)state;
    assert_true(reorders("16") == 3);
    assert_true(reorders("0") < 3);
}

int main(void) {
    under_test_open();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_forced),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_all),
    };
    int failed = cmocka_run_group_tests_name("layouts", tests, NULL, NULL);
    under_test_close();
    return failed;
}
