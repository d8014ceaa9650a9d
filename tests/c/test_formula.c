/* Formulas: how they are read, their derivatives against differences in double, and the kernels
 * that compute them against the C library in double, on every instruction set of this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "device/formula.h"
#include "../plain/formula.h"

static Formula read_formula(const char *text, int operands) {
    Formula f;
    Error e;
    if (formula_read(&f, text, operands, &e)) fail_msg("%s", e.text);
    return f;
}

/* --- reading --- */

static void reads_values(void **state) {
    static const struct {
        const char *text;
        int operands;
        double x, y, value;
    } cases[] = {
        {"x + 2 * y", 2, 3, 5, 13},
        {"-x^2", 1, 3, 0, -9},
        {"2^-x", 1, 2, 0, 0.25},
        {"(x - y) - 1", 2, 7, 2, 4},
        {"x / y / 2", 2, 12, 3, 2},
        {"select(x > y, 1, 0) + (x <= y) * 10", 2, 1, 1, 10},
        {"select(x == y, x, -1)", 2, 2, 2, 2},
        {"max(min(x, 3), -y)", 2, 9, 4, 3},
        {"x ^ 3 ^ 1", 1, 2, 0, 8},
        {"x < 1e1", 1, 2, 0, 1},
        {" abs( x ) ", 1, -2.5, 0, 2.5},
        {"floor(x) + sign(x)", 1, -2.5, 0, -4},
        {"pow(x, 0.5) * sqrt(x)", 1, 4, 0, 4},
        {"--x", 1, 4, 0, 4},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Formula f = read_formula(cases[i].text, cases[i].operands);
        double x[] = {cases[i].x, cases[i].y}, got = formula_value(&f, x);
        if (fabs(got - cases[i].value) > 1e-12)
            fail_msg("%s is %g, got %g", cases[i].text, cases[i].value, got);
    }
}

static void shares_and_folds_steps(void **state) {
    (void)state;
    assert_int_equal(read_formula("x * sigmoid(x) + x * sigmoid(x)", 1).n, 4);
    assert_int_equal(read_formula("x * (1 + 1 - 1) / 1 - 0", 1).n, 1);
    assert_int_equal(read_formula("x + 2 * 3 - 4", 1).n, 5);
    assert_int_equal(read_formula("x + (2 * 3 - 4)", 1).n, 3);
}

static void refuses_what_is_wrong(void **state) {
    static const struct {
        const char *text;
        int operands;
        const char *message;
    } cases[] = {
        {"", 1, "formula '': expected a number, an operand or a function at 'the end'"},
        {"x +", 1, "formula 'x +': expected a number, an operand or a function at 'the end'"},
        {"x y", 2, "formula 'x y': unexpected text at 'y'"},
        {"(x", 1, "formula '(x': expected ')' at 'the end'"},
        {"y", 1, "formula 'y': no input for the operand at 'y'"},
        {"relu(x)", 1, "formula 'relu(x)': unknown name at 'relu(x)'"},
        {"max(x)", 1, "formula 'max(x)': expected ',' at ')'"},
        {"exp x", 1, "formula 'exp x': expected '(' at 'x'"},
        {"1 + 1", 1, "formula '1 + 1' does not use its operand x"},
        {"x", 2, "formula 'x' does not use its operand y"},
        {"x", 0, "a formula has 1 to 7 operands, got 0"},
    };
    char deep[512];
    Formula f;
    Error e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(formula_read(&f, cases[i].text, cases[i].operands, &e), -1);
        assert_string_equal(e.text, cases[i].message);
    }
    memset(deep, '(', 200);
    strcpy(deep + 200, "x");
    assert_int_equal(formula_read(&f, deep, 1, &e), -1);
    assert_non_null(strstr(e.text, "nested too deeply"));
    deep[0] = '\0';
    for (int i = 0; i < 60; i++) sprintf(deep + strlen(deep), "%sx+%d", i ? "*" : "", i);
    assert_int_equal(formula_read(&f, deep, 1, &e), -1);
    assert_non_null(strstr(e.text, "more steps than a formula can have"));
}

/* --- derivatives --- */

static void has_the_derivatives_of_differences(void **state) {
    static const char *const texts[] = {
        "x * y + x / y",
        "exp(x) - log(y)",
        "tanh(x) * erf(y)",
        "sqrt(x * x + y)",
        "x * sigmoid(x) + softplus(y)",
        "pow(x * x + 1, y)",
        "x^3 + y^4 - 2^y",
        "max(x, y) + min(x, 2 * y)",
        "abs(x) * sign(y) + floor(x) * y",
        "select(x > y, x * y, y - x)",
        "0.5 * x * (1 + erf(x * 0.7071067811865476)) * y",
        "0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x^3))) + y",
        "(x >= 0.3) * x * x + (x == y) + y",
        "exp(-x^2) * exp(-x^2) / (1 + exp(-y))",
    };
    static const double points[][2] = {{0.4, 1.3}, {-0.7, 0.9}, {1.9, 0.35}, {-2.3, 2.1}};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (size_t k = 0; k < 4; k++)
            for (int j = 0; j < 2; j++) {
                Formula f = read_formula(texts[i], 2), d;
                Error e;
                double x[3] = {points[k][0], points[k][1], 1.7}, h = 1e-5;
                assert_int_equal(formula_derivative(&d, &f, j, &e), 0);
                double got = formula_value(&d, x);
                x[j] += h;
                double up = formula_value(&f, x);
                x[j] -= 2 * h;
                double wanted = 1.7 * (up - formula_value(&f, x)) / (2 * h);
                if (fabs(got - wanted) > 1e-6 * (1 + fabs(wanted)))
                    fail_msg("%s by operand %d at %g, %g: %.9g, differences %.9g", texts[i], j,
                             points[k][0], points[k][1], got, wanted);
            }
}

static void halves_the_derivative_at_a_tie(void **state) {
    Error e;
    Formula f = read_formula("max(x, y)", 2), d;
    double at[3] = {0.5, 0.5, 1};
    (void)state;
    assert_int_equal(formula_derivative(&d, &f, 0, &e), 0);
    assert_true(formula_value(&d, at) == 0.5);
    f = read_formula("abs(x)", 1);
    assert_int_equal(formula_derivative(&d, &f, 0, &e), 0);
    assert_true(formula_value(&d, (double[]){0, 1}) == 0);
    f = read_formula("x + y", 2);
    assert_int_equal(formula_derivative(&d, &f, 1, &e), 0);
    assert_int_equal(formula_is_operand(&d), 2);
    assert_false(formula_reads(&d, 0));
}

/* --- kernels --- */

static double unit(double y) {
    double a = fabs(y) < 1.17549435e-38 ? 1.17549435e-38 : fabs(y);
    return exp2(floor(log2(a)) - 23);
}

typedef struct Accuracy {
    const char *text;
    double low, high, units; /* of float's last place */
} Accuracy;

static void check_accuracy(const CpuKernels *k, const Accuracy *a) {
    enum { N = 4096 };
    static float x[N], y[N];
    FormulaMap m = {
        .formula = read_formula(a->text, 1), .ndim = 2, .n = {1, N}, .stride = {{0, 1}}};
    const float *in[] = {x};
    double worst = 0;
    for (int i = 0; i < m.formula.n; i++) m.reg[i] = (int8_t)i;
    for (int i = 0; i < N; i++) x[i] = (float)(a->low + (a->high - a->low) * i / (N - 1));
    k->formula(&m, in, y);
    for (int i = 0; i < N; i++) {
        double at = (double)x[i], wanted = formula_value(&m.formula, &at);
        if ((float)wanted == y[i]) continue;
        double off = fabs((double)y[i] - wanted) / unit(wanted);
        worst = off > worst ? off : worst;
        if (!(off <= a->units))
            fail_msg("%s of %.9g with %s: %.9g, wanted %.9g, off by %.2f units", a->text, at,
                     k->isa, (double)y[i], wanted, off);
    }
}

static void functions_are_right_to_the_last_bits(void **state) {
    static const Accuracy cases[] = {
        {"exp(x)", -1, 1, 1},         {"exp(x)", -110, 95, 1.5},   {"log(x)", 0.5, 2, 1},
        {"log(x)", 1e-42, 1e-36, 1},  {"log(x)", 1, 3e38, 1},      {"tanh(x)", -0.7, 0.7, 2},
        {"tanh(x)", -12, 12, 2},      {"erf(x)", -1.2, 1.2, 2},    {"erf(x)", -6, 6, 2},
        {"sigmoid(x)", -90, 90, 2.5}, {"softplus(x)", -40, 40, 3}, {"sqrt(x)", 0, 9, 0.51},
        {"pow(x, 1.5)", 0, 9, 1},
    };
    (void)state;
    for (int isa = CPU_X86_64; isa <= CPU_AVX512; isa++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            if (cpu_isa_present((CpuIsa)isa))
                check_accuracy(cpu_isa_kernels((CpuIsa)isa), &cases[i]);
}

/* What a sigmoid's derivative holds, made of one exp as the CPU does, beside two made alone. */
static void makes_both_sigmoids_at_once(void **state) {
    static const char *const texts[] = {"sigmoid(x) * sigmoid(-x)", "sigmoid(-x) + 2 * sigmoid(x)"};
    static const float ends[] = {INFINITY, -INFINITY, NAN, 0, -0.0f};
    enum { N = 3001, ENDS = sizeof ends / sizeof *ends };
    static float x[N], alone[N], paired[N];
    (void)state;
    for (int i = 0; i < N; i++) x[i] = -100 + 200 * (float)i / (N - 1);
    memcpy(x, ends, sizeof ends);
    for (int isa = CPU_X86_64; isa <= CPU_AVX512; isa++)
        for (int t = 0; t < 2; t++) {
            if (!cpu_isa_present((CpuIsa)isa)) continue;
            FormulaMap m = {
                .formula = read_formula(texts[t], 1), .ndim = 2, .n = {1, N}, .stride = {{0, 1}}};
            int first = 0, second = 0;
            for (int i = 0; i < m.formula.n; i++) {
                m.reg[i] = (int8_t)i;
                if (m.formula.step[i].code != FORMULA_SIGMOID) continue;
                *(first ? &second : &first) = i;
            }
            assert_true(first && second);
            cpu_isa_kernels((CpuIsa)isa)->formula(&m, (const float *const[]){x}, alone);
            m.pair[first] = (int8_t)second, m.pair[second] = FORMULA_MADE;
            cpu_isa_kernels((CpuIsa)isa)->formula(&m, (const float *const[]){x}, paired);
            for (int i = 0; i < N; i++) {
                double off = fabs((double)paired[i] - (double)alone[i]);
                bool same =
                    isnan(alone[i]) ? isnan(paired[i]) != 0 : off <= 3 * unit((double)alone[i]);
                if (!same)
                    fail_msg("%s of %g: %.9g, alone %.9g", texts[t], (double)x[i],
                             (double)paired[i], (double)alone[i]);
            }
        }
}

static void keeps_what_is_not_finite(void **state) {
    static const struct {
        const char *text;
        float x, y;
    } cases[] = {
        {"exp(x)", INFINITY, INFINITY},
        {"exp(x)", -INFINITY, 0},
        {"log(x)", 0, -INFINITY},
        {"log(x)", -1, NAN},
        {"log(x)", INFINITY, INFINITY},
        {"tanh(x)", INFINITY, 1},
        {"tanh(x)", -INFINITY, -1},
        {"erf(x)", INFINITY, 1},
        {"erf(x)", -INFINITY, -1},
        {"sigmoid(x)", INFINITY, 1},
        {"sigmoid(x)", -INFINITY, 0},
        {"softplus(x)", INFINITY, INFINITY},
        {"softplus(x)", -INFINITY, 0},
        {"exp(x)", NAN, NAN},
        {"log(x)", NAN, NAN},
        {"tanh(x)", NAN, NAN},
        {"erf(x)", NAN, NAN},
        {"sigmoid(x)", NAN, NAN},
        {"softplus(x)", NAN, NAN},
        {"max(x, 0)", NAN, NAN},
        {"min(0, x)", NAN, NAN},
        {"select(x < 0, 0, x)", NAN, NAN},
        {"select(x > 3, x, select(x < -3, 0, x * (x / 6 + 0.5)))", INFINITY, INFINITY},
    };
    (void)state;
    for (int isa = CPU_X86_64; isa <= CPU_AVX512; isa++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            if (!cpu_isa_present((CpuIsa)isa)) continue;
            const CpuKernels *k = cpu_isa_kernels((CpuIsa)isa);
            FormulaMap m = {.formula = read_formula(cases[i].text, 1),
                            .ndim = 2,
                            .n = {1, 1},
                            .stride = {{0, 1}}};
            const float *in[] = {&cases[i].x};
            float y;
            for (int s = 0; s < m.formula.n; s++) m.reg[s] = (int8_t)s;
            k->formula(&m, in, &y);
            if (isnan(cases[i].y) ? !isnan(y) : y != cases[i].y)
                fail_msg("%s of %g with %s: %g", cases[i].text, (double)cases[i].x, k->isa,
                         (double)y);
        }
}

/* --- formulas with a loop of their own --- */

/* Numbers of every size, and those that are not finite. */
static float number_at(int i, int operand) {
    static const float odd[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1e-42f, -3e38f, 88.8f, -104.5f};
    enum { ODD = sizeof odd / sizeof odd[0] };
    if (i < ODD * ODD) return odd[operand ? i / ODD : i % ODD];
    return (float)(sin(i * (0.37 + operand)) * exp2(i % 13 - 8));
}

/* Step by step, and by the loop, to the bit. */
static void check_loop(const CpuKernels *k, const char *text, const Formula *f, FormulaLoop *loop) {
    enum { N = 3 * FORMULA_CHUNK + 7 };
    static float in[MAP_OPERANDS][N], steps[N], own[N];
    FormulaMap m = {.formula = *f, .ndim = 2, .n = {1, N}};
    const float *at[MAP_OPERANDS];
    for (int j = 0; j < f->operands; j++) {
        for (int i = 0; i < N; i++) in[j][i] = number_at(i, j);
        m.stride[j][1] = 1, at[j] = in[j];
    }
    for (int i = 0; i < f->n; i++) m.reg[i] = (int8_t)i;
    k->formula(&m, at, steps);
    m.loop = loop;
    k->formula(&m, at, own);
    for (int i = 0; i < N; i++)
        if (isnan(steps[i]) ? !isnan(own[i]) : memcmp(&steps[i], &own[i], sizeof own[i]) != 0)
            fail_msg("%s with %s at %.9g: %.9g by steps, %.9g by its loop", text, k->isa,
                     (double)in[0][i], (double)steps[i], (double)own[i]);
}

static void loops_give_what_steps_give(void **state) {
    (void)state;
    for (int isa = CPU_X86_64; isa <= CPU_AVX512; isa++) {
        if (!cpu_isa_present((CpuIsa)isa)) continue;
        const CpuKernels *k = cpu_isa_kernels((CpuIsa)isa);
        assert_non_null(k->fused->text);
        for (const FusedFormula *r = k->fused; r->text; r++) {
            Formula f = read_formula(r->text, r->operands), d;
            Error e;
            if (r->value) check_loop(k, r->text, &f, r->value);
            for (int j = 0; j < r->operands; j++) {
                assert_int_equal(formula_derivative(&d, &f, j, &e), 0);
                for (int o = d.operands - 1; o >= 0; o--)
                    if (!formula_reads(&d, o)) formula_drop_operand(&d, o);
                if (r->derivative[j]) check_loop(k, r->text, &d, r->derivative[j]);
            }
        }
    }
}

static int found(const char *text, int operands, const Formula *f) {
    Error e;
    int which;
    assert_int_equal(formula_find(f, text, operands, &which, &e), 0);
    return which;
}

static void finds_a_formula_and_its_derivatives(void **state) {
    Formula f = read_formula("x * sigmoid(y)", 2), d;
    Error e;
    (void)state;
    assert_int_equal(found(" x*sigmoid( y )", 2, &f), FORMULA_ITSELF);
    assert_int_equal(found("sigmoid(y) * x", 2, &f), FORMULA_OTHER);
    assert_int_equal(found("x * sigmoid(x)", 1, &f), FORMULA_OTHER);
    assert_int_equal(found("x * tanh(y)", 2, &f), FORMULA_OTHER);
    assert_int_equal(formula_derivative(&d, &f, 1, &e), 0);
    assert_int_equal(found("x * sigmoid(y)", 2, &d), 1);
    assert_int_equal(formula_derivative(&d, &f, 0, &e), 0);
    assert_int_equal(found("x * sigmoid(y)", 2, &d), FORMULA_OTHER); /* it reads x no more */
    formula_drop_operand(&d, 0);
    assert_int_equal(found("x * sigmoid(y)", 2, &d), 0);
    f = read_formula("x * 2.5", 1);
    assert_int_equal(found("x * 2.25", 1, &f), FORMULA_OTHER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values),
        cmocka_unit_test(shares_and_folds_steps),
        cmocka_unit_test(refuses_what_is_wrong),
        cmocka_unit_test(has_the_derivatives_of_differences),
        cmocka_unit_test(halves_the_derivative_at_a_tie),
        cmocka_unit_test(functions_are_right_to_the_last_bits),
        cmocka_unit_test(makes_both_sigmoids_at_once),
        cmocka_unit_test(keeps_what_is_not_finite),
        cmocka_unit_test(loops_give_what_steps_give),
        cmocka_unit_test(finds_a_formula_and_its_derivatives),
    };
    return cmocka_run_group_tests_name("formula", tests, NULL, NULL);
}
