#include "device/formula.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char operand_names[] = "xyzuvwpq";

/* The functions that a formula may call. */
static const struct {
    const char *name;
    FormulaCode code;
} functions[] = {
    {"abs", FORMULA_ABS},         {"erf", FORMULA_ERF},   {"exp", FORMULA_EXP},
    {"floor", FORMULA_FLOOR},     {"log", FORMULA_LOG},   {"max", FORMULA_MAX},
    {"min", FORMULA_MIN},         {"pow", FORMULA_POW},   {"select", FORMULA_SELECT},
    {"sigmoid", FORMULA_SIGMOID}, {"sign", FORMULA_SIGN}, {"softplus", FORMULA_SOFTPLUS},
    {"sqrt", FORMULA_SQRT},       {"tanh", FORMULA_TANH},
};

int formula_arity(FormulaCode code) {
    switch (code) {
    case FORMULA_OPERAND:
    case FORMULA_CONSTANT: return 0;
    case FORMULA_NEG:
    case FORMULA_ABS:
    case FORMULA_SIGN:
    case FORMULA_EXP:
    case FORMULA_LOG:
    case FORMULA_TANH:
    case FORMULA_ERF:
    case FORMULA_SQRT:
    case FORMULA_SIGMOID:
    case FORMULA_SOFTPLUS:
    case FORMULA_FLOOR: return 1;
    case FORMULA_SELECT: return 3;
    default: return 2;
    }
}

/* --- building formulas: equal steps are merged, constants are folded --- */

enum { TOO_LONG = -1 };

static int append(Formula *f, FormulaStep s) {
    for (int i = 0; i < f->n; i++) {
        const FormulaStep *t = &f->step[i];
        if (t->code == s.code && t->a == s.a && t->b == s.b && t->c == s.c &&
            t->constant == s.constant && signbit(t->constant) == signbit(s.constant))
            return i;
    }
    if (f->n == FORMULA_STEPS) return TOO_LONG;
    f->step[f->n] = s;
    return f->n++;
}

static int constant(Formula *f, double value) {
    return append(f, (FormulaStep){.code = FORMULA_CONSTANT, .constant = (float)value});
}

static bool is_constant(const Formula *f, int i, float value) {
    return f->step[i].code == FORMULA_CONSTANT && f->step[i].constant == value;
}

static float arithmetic(FormulaCode code, float a, float b) {
    switch (code) {
    case FORMULA_ADD: return a + b;
    case FORMULA_SUB: return a - b;
    case FORMULA_MUL: return a * b;
    case FORMULA_DIV: return a / b;
    default: return -a;
    }
}

static bool is_arithmetic(FormulaCode code) {
    return code == FORMULA_ADD || code == FORMULA_SUB || code == FORMULA_MUL ||
           code == FORMULA_DIV || code == FORMULA_NEG;
}

/* A step on registers a and b; either may be TOO_LONG. Simplifies x * 1, x / 1 and x - 0 to x. */
static int step(Formula *f, FormulaCode code, int a, int b, int c) {
    int arity = formula_arity(code);
    if (a < 0 || (arity > 1 && b < 0) || (arity > 2 && c < 0)) return TOO_LONG;
    bool fixed =
        f->step[a].code == FORMULA_CONSTANT && (arity < 2 || f->step[b].code == FORMULA_CONSTANT);
    if (fixed && is_arithmetic(code))
        return constant(f,
                        arithmetic(code, f->step[a].constant, arity > 1 ? f->step[b].constant : 0));
    if (code == FORMULA_MUL && is_constant(f, a, 1)) return b;
    if ((code == FORMULA_MUL || code == FORMULA_DIV) && is_constant(f, b, 1)) return a;
    if (code == FORMULA_SUB && is_constant(f, b, 0)) return a;
    return append(f, (FormulaStep){.code = code,
                                   .a = (int16_t)a,
                                   .b = (int16_t)(arity > 1 ? b : 0),
                                   .c = (int16_t)(arity > 2 ? c : 0)});
}

/* --- reading --- */

typedef struct Reader {
    const char *text, *at;
    Formula *f;
    int depth;
    bool failed;
    Error *e;
} Reader;

static int fail(Reader *r, const char *what) {
    if (!r->failed)
        error_set(r->e, "formula '%s': %s at '%s'", r->text, what, *r->at ? r->at : "the end");
    r->failed = true;
    return TOO_LONG;
}

static int made(Reader *r, int register_) {
    return register_ == TOO_LONG ? fail(r, "more steps than a formula can have") : register_;
}

static bool take(Reader *r, const char *token) {
    while (isspace((unsigned char)*r->at)) r->at++;
    size_t n = strlen(token);
    if (strncmp(r->at, token, n)) return false;
    r->at += n;
    return true;
}

static int expression(Reader *r);

static int call(Reader *r, FormulaCode code) {
    int in[3] = {0}, arity = formula_arity(code);
    for (int i = 0; i < arity; i++) {
        if (!take(r, i ? "," : "(")) return fail(r, i ? "expected ','" : "expected '('");
        in[i] = expression(r);
        if (r->failed) return TOO_LONG;
    }
    if (!take(r, ")")) return fail(r, "expected ')'");
    return made(r, step(r->f, code, in[0], in[1], in[2]));
}

static int name(Reader *r) {
    size_t n = 0;
    while (isalpha((unsigned char)r->at[n])) n++;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (strlen(functions[i].name) == n && !strncmp(functions[i].name, r->at, n)) {
            r->at += n;
            return call(r, functions[i].code);
        }
    const char *operand = n == 1 ? strchr(operand_names, *r->at) : NULL;
    if (!operand) return fail(r, "unknown name");
    if (operand - operand_names >= r->f->operands) return fail(r, "no input for the operand");
    r->at++;
    return made(r, append(r->f, (FormulaStep){.code = FORMULA_OPERAND,
                                              .a = (int16_t)(operand - operand_names)}));
}

static int number(Reader *r) {
    char *end;
    double value = strtod(r->at, &end);
    if (end == r->at) return fail(r, "expected a number, an operand or a function");
    r->at = end;
    return made(r, constant(r->f, value));
}

static int primary(Reader *r) {
    if (take(r, "(")) {
        int inner = expression(r);
        if (!r->failed && !take(r, ")")) return fail(r, "expected ')'");
        return inner;
    }
    return isalpha((unsigned char)*r->at) ? name(r) : number(r);
}

static int unary(Reader *r);

/* Integer powers up to 4 become products. */
static int power(Reader *r) {
    int base = primary(r);
    if (r->failed || !take(r, "^")) return base;
    int exponent = unary(r);
    if (r->failed) return TOO_LONG;
    for (int k = 2; k <= 4; k++) {
        if (!is_constant(r->f, exponent, (float)k)) continue;
        int product = base;
        for (int i = 1; i < k; i++) product = step(r->f, FORMULA_MUL, product, base, 0);
        return made(r, product);
    }
    return made(r, step(r->f, FORMULA_POW, base, exponent, 0));
}

static int unary(Reader *r) {
    if (++r->depth > 64) return fail(r, "nested too deeply");
    int value;
    if (take(r, "-")) {
        value = unary(r);
        if (!r->failed) value = made(r, step(r->f, FORMULA_NEG, value, 0, 0));
    } else
        value = power(r);
    r->depth--;
    return value;
}

static int term(Reader *r) {
    int value = unary(r);
    while (!r->failed) {
        FormulaCode code = take(r, "*") ? FORMULA_MUL : take(r, "/") ? FORMULA_DIV : FORMULA_CODES;
        if (code == FORMULA_CODES) break;
        int right = unary(r);
        if (!r->failed) value = made(r, step(r->f, code, value, right, 0));
    }
    return value;
}

static int sum(Reader *r) {
    int value = term(r);
    while (!r->failed) {
        FormulaCode code = take(r, "+") ? FORMULA_ADD : take(r, "-") ? FORMULA_SUB : FORMULA_CODES;
        if (code == FORMULA_CODES) break;
        int right = term(r);
        if (!r->failed) value = made(r, step(r->f, code, value, right, 0));
    }
    return value;
}

/* a < b is stored as b > a. */
static int expression(Reader *r) {
    static const struct {
        const char *token;
        FormulaCode code;
        bool swapped;
    } relations[] = {{">=", FORMULA_AT_LEAST, false},
                     {"<=", FORMULA_AT_LEAST, true},
                     {"==", FORMULA_EQUAL, false},
                     {">", FORMULA_GREATER, false},
                     {"<", FORMULA_GREATER, true}};
    int left = sum(r);
    for (size_t i = 0; i < 5 && !r->failed; i++) {
        if (!take(r, relations[i].token)) continue;
        int right = sum(r);
        if (r->failed) break;
        return made(r, relations[i].swapped ? step(r->f, relations[i].code, right, left, 0)
                                            : step(r->f, relations[i].code, left, right, 0));
    }
    return left;
}

/* Keeps only the steps that register `result` needs, and makes `result` the last one. */
static void finish(Formula *f, int result) {
    bool needed[FORMULA_STEPS] = {false};
    int place[FORMULA_STEPS], n = 0;
    needed[result] = true;
    for (int i = result; i >= 0; i--) {
        const FormulaStep *s = &f->step[i];
        int arity = formula_arity(s->code);
        if (!needed[i]) continue;
        if (arity > 0) needed[s->a] = true;
        if (arity > 1) needed[s->b] = true;
        if (arity > 2) needed[s->c] = true;
    }
    for (int i = 0; i <= result; i++) {
        if (!needed[i]) continue;
        FormulaStep s = f->step[i];
        int arity = formula_arity(s.code);
        if (arity > 0) s.a = (int16_t)place[s.a];
        if (arity > 1) s.b = (int16_t)place[s.b];
        if (arity > 2) s.c = (int16_t)place[s.c];
        place[i] = n;
        f->step[n++] = s;
    }
    f->n = n;
}

int formula_read(Formula *out, const char *text, int operands, Error *e) {
    *out = (Formula){.operands = operands};
    Reader r = {.text = text, .at = text, .f = out, .e = e};
    if (operands < 1 || operands > MAP_OPERANDS - 1)
        return error_set(e, "a formula has 1 to %d operands, got %d", MAP_OPERANDS - 1, operands);
    int result = expression(&r);
    if (!r.failed && (take(&r, ""), *r.at)) fail(&r, "unexpected text");
    if (r.failed) return -1;
    finish(out, result);
    for (int i = 0; i < operands; i++)
        if (!formula_reads(out, i))
            return error_set(e, "formula '%s' does not use its operand %c", text, operand_names[i]);
    return 0;
}

/* --- operands that a formula reads --- */

bool formula_reads(const Formula *f, int operand) {
    for (int i = 0; i < f->n; i++)
        if (f->step[i].code == FORMULA_OPERAND && f->step[i].a == operand) return true;
    return false;
}

int formula_is_operand(const Formula *f) {
    return f->n == 1 && f->step[0].code == FORMULA_OPERAND ? f->step[0].a : -1;
}

void formula_drop_operand(Formula *f, int operand) {
    for (int i = 0; i < f->n; i++)
        if (f->step[i].code == FORMULA_OPERAND && f->step[i].a > operand) f->step[i].a--;
    f->operands--;
}

/* --- derivatives in reverse mode: each step passes its derivative to the steps that it reads
 * --- */

typedef struct Derivative {
    Formula *f;
    int of[FORMULA_STEPS];       /* register with the derivative by each step; NONE: it is zero */
    bool depends[FORMULA_STEPS]; /* the step depends on the operand */
} Derivative;
enum { NONE = -2 };

static void hand(Derivative *d, int to, int contribution) {
    int known = d->of[to];
    if (!d->depends[to]) return;
    d->of[to] = known == NONE ? contribution : step(d->f, FORMULA_ADD, known, contribution, 0);
}

/* Adds g times register `factor` to the derivative by step `to`. */
static void scale(Derivative *d, int to, int g, int factor) {
    hand(d, to, step(d->f, FORMULA_MUL, g, factor, 0));
}

/* The derivative of min and max. If both operands are equal, each gets half of g. */
static void hand_extreme(Derivative *d, const FormulaStep *s, int g, bool greatest) {
    Formula *f = d->f;
    int half = constant(f, 0.5), one = constant(f, 1), zero = constant(f, 0);
    int tie = step(f, FORMULA_EQUAL, s->a, s->b, 0);
    int a_wins = greatest ? step(f, FORMULA_GREATER, s->a, s->b, 0)
                          : step(f, FORMULA_GREATER, s->b, s->a, 0);
    int b_wins = greatest ? step(f, FORMULA_GREATER, s->b, s->a, 0)
                          : step(f, FORMULA_GREATER, s->a, s->b, 0);
    int lost = step(f, FORMULA_SELECT, tie, half, zero);
    scale(d, s->a, g, step(f, FORMULA_SELECT, a_wins, one, lost));
    scale(d, s->b, g, step(f, FORMULA_SELECT, b_wins, one, lost));
}

/* The derivative of a function of one operand. a is the operand's register, y the result's. */
static int factor_of(Derivative *d, FormulaCode code, int a, int y) {
    Formula *f = d->f;
    int one = constant(f, 1);
    switch (code) {
    case FORMULA_ABS: return step(f, FORMULA_SIGN, a, 0, 0);
    case FORMULA_EXP: return y;
    case FORMULA_LOG: return step(f, FORMULA_DIV, one, a, 0);
    case FORMULA_TANH: return step(f, FORMULA_SUB, one, step(f, FORMULA_MUL, y, y, 0), 0);
    case FORMULA_ERF: {
        int square = step(f, FORMULA_NEG, step(f, FORMULA_MUL, a, a, 0), 0, 0);
        return step(f, FORMULA_MUL, constant(f, M_2_SQRTPI), step(f, FORMULA_EXP, square, 0, 0), 0);
    }
    case FORMULA_SQRT: return step(f, FORMULA_DIV, constant(f, 0.5), y, 0);
    case FORMULA_SIGMOID: /* y sigmoid(-a): near y = 1, 1 - y would lose precision */
        return step(f, FORMULA_MUL, y,
                    step(f, FORMULA_SIGMOID, step(f, FORMULA_NEG, a, 0, 0), 0, 0), 0);
    case FORMULA_SOFTPLUS: return step(f, FORMULA_SIGMOID, a, 0, 0);
    default: return TOO_LONG;
    }
}

static void hand_power(Derivative *d, const FormulaStep *s, int g, int y) {
    Formula *f = d->f;
    int less = step(f, FORMULA_SUB, s->b, constant(f, 1), 0);
    int slope = step(f, FORMULA_MUL, s->b, step(f, FORMULA_POW, s->a, less, 0), 0);
    scale(d, s->a, g, slope);
    if (f->step[s->b].code != FORMULA_CONSTANT)
        scale(d, s->b, g, step(f, FORMULA_MUL, y, step(f, FORMULA_LOG, s->a, 0, 0), 0));
}

static void hand_back(Derivative *d, const FormulaStep *s, int y, int g) {
    Formula *f = d->f;
    switch (s->code) {
    case FORMULA_ADD: hand(d, s->a, g), hand(d, s->b, g); break;
    case FORMULA_SUB: hand(d, s->a, g), hand(d, s->b, step(f, FORMULA_NEG, g, 0, 0)); break;
    case FORMULA_MUL: scale(d, s->a, g, s->b), scale(d, s->b, g, s->a); break;
    case FORMULA_DIV: {
        int over = step(f, FORMULA_DIV, g, s->b, 0);
        hand(d, s->a, over);
        hand(d, s->b, step(f, FORMULA_NEG, step(f, FORMULA_MUL, over, y, 0), 0, 0));
        break;
    }
    case FORMULA_MAX: hand_extreme(d, s, g, true); break;
    case FORMULA_MIN: hand_extreme(d, s, g, false); break;
    case FORMULA_NEG: hand(d, s->a, step(f, FORMULA_NEG, g, 0, 0)); break;
    case FORMULA_POW: hand_power(d, s, g, y); break;
    case FORMULA_SELECT: {
        int zero = constant(f, 0);
        hand(d, s->b, step(f, FORMULA_SELECT, s->a, g, zero));
        hand(d, s->c, step(f, FORMULA_SELECT, s->a, zero, g));
        break;
    }
    case FORMULA_SIGN:
    case FORMULA_FLOOR:
    case FORMULA_GREATER:
    case FORMULA_AT_LEAST:
    case FORMULA_EQUAL: break;
    default: scale(d, s->a, g, factor_of(d, s->code, s->a, y));
    }
}

int formula_derivative(Formula *out, const Formula *f, int operand, Error *e) {
    int n = f->n, result = NONE;
    Derivative d = {.f = out};
    *out = *f;
    out->operands = f->operands + 1;
    for (int i = 0; i < n; i++) {
        const FormulaStep *s = &f->step[i];
        int arity = formula_arity(s->code);
        d.depends[i] = s->code == FORMULA_OPERAND
                           ? s->a == operand
                           : (arity > 0 && d.depends[s->a]) || (arity > 1 && d.depends[s->b]) ||
                                 (arity > 2 && d.depends[s->c]);
        d.of[i] = NONE;
    }
    d.of[n - 1] = append(out, (FormulaStep){.code = FORMULA_OPERAND, .a = (int16_t)f->operands});
    for (int i = n - 1; i >= 0; i--) {
        const FormulaStep s = out->step[i];
        if (d.of[i] == NONE) continue;
        if (s.code == FORMULA_OPERAND) {
            result = d.of[i];
            continue;
        }
        hand_back(&d, &s, i, d.of[i]);
    }
    if (result == NONE) result = constant(out, 0);
    if (result == TOO_LONG)
        return error_set(e, "the derivative of this formula has more than %d steps", FORMULA_STEPS);
    finish(out, result);
    return 0;
}

/* --- comparison of formulas --- */

static bool same(const Formula *f, const Formula *g) {
    if (f->operands != g->operands || f->n != g->n) return false;
    for (int i = 0; i < f->n; i++) {
        const FormulaStep *s = &f->step[i], *t = &g->step[i];
        if (s->code != t->code || s->a != t->a || s->b != t->b || s->c != t->c ||
            s->constant != t->constant)
            return false;
    }
    return true;
}

int formula_find(const Formula *f, const char *text, int operands, int *which, Error *e) {
    Formula itself, derivative;
    *which = FORMULA_OTHER;
    if (formula_read(&itself, text, operands, e)) return -1;
    if (same(f, &itself)) *which = FORMULA_ITSELF;
    for (int j = 0; j < operands && *which == FORMULA_OTHER; j++) {
        if (formula_derivative(&derivative, &itself, j, e)) return -1;
        for (int k = derivative.operands - 1; k >= 0; k--)
            if (!formula_reads(&derivative, k)) formula_drop_operand(&derivative, k);
        if (same(f, &derivative)) *which = j;
    }
    return 0;
}
