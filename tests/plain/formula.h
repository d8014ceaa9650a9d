/* Formulas in double, by the C library: the reference of devices and of tests. */
#ifndef ADVRT_TESTS_PLAIN_FORMULA_H
#define ADVRT_TESTS_PLAIN_FORMULA_H

#include <math.h>

#include "device/program.h"

/* The step of a formula on numbers in double. */
static inline double formula_step(const FormulaStep *s, const double *reg, const double *operand) {
    double a = reg[s->a], b = reg[s->b];
    switch (s->code) {
    case FORMULA_OPERAND: return operand[s->a];
    case FORMULA_CONSTANT: return (double)s->constant;
    case FORMULA_ADD: return a + b;
    case FORMULA_SUB: return a - b;
    case FORMULA_MUL: return a * b;
    case FORMULA_DIV: return a / b;
    case FORMULA_MIN: return isnan(a) || a < b ? a : b;
    case FORMULA_MAX: return isnan(a) || a > b ? a : b;
    case FORMULA_NEG: return -a;
    case FORMULA_ABS: return fabs(a);
    case FORMULA_SIGN: return a > 0 ? 1 : a < 0 ? -1 : 0;
    case FORMULA_EXP: return exp(a);
    case FORMULA_LOG: return log(a);
    case FORMULA_TANH: return tanh(a);
    case FORMULA_ERF: return erf(a);
    case FORMULA_SQRT: return sqrt(a);
    case FORMULA_SIGMOID: return 1 / (1 + exp(-a));
    case FORMULA_SOFTPLUS: return a > 30 ? a : log1p(exp(a));
    case FORMULA_POW: return pow(a, b);
    case FORMULA_FLOOR: return floor(a);
    case FORMULA_GREATER: return a > b;
    case FORMULA_AT_LEAST: return a >= b;
    case FORMULA_EQUAL: return a == b;
    case FORMULA_SELECT: return a != 0 ? b : reg[s->c];
    default: return NAN;
    }
}

/* The formula's result. */
static inline double formula_value(const Formula *f, const double *operand) {
    double reg[FORMULA_STEPS] = {0};
    for (int i = 0; i < f->n; i++) reg[i] = formula_step(&f->step[i], reg, operand);
    return reg[f->n - 1];
}

#endif
