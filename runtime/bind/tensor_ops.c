/* "advrt.core.tensor": arithmetic on tensors, reductions to host numbers, norms, the step of Eq.
 * 11-16, and the optimisers. Images and logits are f32 and stay on their device. The few f64
 * numbers per image (norms, multipliers) are computed here, on the host. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bind/fields.h"
#include "bind/tensor.h"
#include "tensor/algebra.h"
#include "tensor/ops.h"

enum { BLOCK = 512 };

static void want_done(lua_State *L, int failed, const Error *e) {
    if (failed) bind_error(L, e);
}

/* Arithmetic ------------------------------------------------------------------------------- */

static double apply(BinaryOp op, double a, double b) {
    switch (op) {
    case BINARY_ADD: return a + b;
    case BINARY_SUB: return a - b;
    case BINARY_MUL: return a * b;
    case BINARY_DIV: return a / b;
    case BINARY_MIN: return a < b || isnan(a) ? a : b;
    case BINARY_MAX: return a > b || isnan(a) ? a : b;
    case BINARY_POW: return pow(a, b);
    case BINARY_GREATER: return a > b;
    case BINARY_AT_LEAST: return a >= b;
    case BINARY_EQUAL: return a == b;
    case BINARY_SHARE: return a > b ? 1 : a < b ? 0 : a == b ? 0.5 : NAN;
    case BINARY_KEEP: return b != 0 ? a : 0;
    default: return NAN;
    }
}

/* f64 operands: a or b may be NULL; the number then takes its place. */
static int binary_f64(BinaryOp op, const Tensor *a, double a_number, const Tensor *b,
                      double b_number, const Tensor *out, Error *e) {
    double left[BLOCK], right[BLOCK];
    Device *d = tensor_device(out);
    int64_t n = tensor_count(out);
    for (int64_t i = 0; i < n; i += BLOCK) {
        size_t m = (size_t)(n - i < BLOCK ? n - i : BLOCK), bytes = m * sizeof *left;
        if (a && d->copy_out(d, left, (double *)a->data + i, bytes, e) != 0) return -1;
        if (b && d->copy_out(d, right, (double *)b->data + i, bytes, e) != 0) return -1;
        for (size_t j = 0; j < m; j++)
            left[j] = apply(op, a ? left[j] : a_number, b ? right[j] : b_number);
        if (d->copy_in(d, (double *)out->data + i, left, bytes, e) != 0) return -1;
    }
    return 0;
}

/* number OP b. */
static int number_first(BinaryOp op, float a, const Tensor *b, const Tensor *out, Error *e) {
    Tensor number;
    if (tensor_new(&number, tensor_device(b), DTYPE_F32, 0, NULL, e) != 0) return -1;
    int failed = tensor_fill(&number, a, e) || tensor_broadcast(op, &number, b, out, e);
    tensor_free(&number);
    return failed;
}

/* The result's shape for two tensors. f64 does not broadcast. In place, the result must have the
 * first operand's shape. */
static int result_shape(lua_State *L, const Tensor *a, const Tensor *b, bool in_place,
                        int64_t shape[TENSOR_DIMS]) {
    Error e;
    int ndim;
    char p[128], q[128];
    bool fits = a->dtype == b->dtype &&
                (a->dtype == DTYPE_F32 ? tensor_broadcast_shape(a, b, &ndim, shape, &e) == 0
                                       : tensor_same_shape(a, b));
    if (fits && a->dtype == DTYPE_F64) {
        ndim = a->ndim;
        memcpy(shape, a->shape, sizeof a->shape);
    }
    if (fits && in_place)
        fits = ndim == a->ndim && memcmp(shape, a->shape, (size_t)ndim * sizeof *shape) == 0;
    if (!fits) {
        lua_pushfstring(L, "wanted %s %s%s, got %s %s", dtype_name(a->dtype),
                        tensor_shape_text(a, p),
                        a->dtype == DTYPE_F32 ? " or a shape that broadcasts to it" : "",
                        dtype_name(b->dtype), tensor_shape_text(b, q));
        luaL_argerror(L, 2, lua_tostring(L, -1));
    }
    return ndim;
}

/* The second operand of an operation in place. If it overlaps the first one's memory other than
 * element by element, as x[1] in x:sub_(x[1]), returns a copy, which replaces argument 2. */
static const Tensor *undisturbed(lua_State *L, const Tensor *a, const Tensor *b) {
    Error e;
    if (a->storage != b->storage || (a->data == b->data && tensor_same_shape(a, b))) return b;
    Tensor *own = bind_make_tensor(L, b->dtype, b->ndim, b->shape);
    want_done(L, tensor_copy(own, b, &e), &e);
    lua_replace(L, 2);
    return own;
}

/* Arguments 1 and 2 are the operands; at least one is a tensor. The result is a new tensor, or, in
 * place, the first operand. If an operand is a table with a metamethod `name`, such as a tracked
 * tensor, that metamethod does the work. */
static int arithmetic(lua_State *L, BinaryOp op, bool in_place, const char *name) {
    Error e;
    bool number[2];
    int64_t shape[TENSOR_DIMS];
    if (!in_place && bind_defer(L, name)) return 1;
    for (int i = 0; i < 2; i++) number[i] = lua_type(L, i + 1) == LUA_TNUMBER;
    const Tensor *a = number[0] && !number[1] && !in_place ? NULL : bind_check_tensor(L, 1);
    const Tensor *b = number[1] ? NULL : bind_check_tensor(L, 2);
    const Tensor *like = a ? a : b;
    if (like->dtype != DTYPE_F32 && like->dtype != DTYPE_F64) {
        lua_pushfstring(L, "wanted a tensor of f32 or f64, got %s", dtype_name(like->dtype));
        luaL_argerror(L, a ? 1 : 2, lua_tostring(L, -1));
    }
    int ndim = like->ndim;
    memcpy(shape, like->shape, sizeof shape);
    if (a && b) ndim = result_shape(L, a, b, in_place, shape);
    const Tensor *out = a;
    if (in_place) {
        lua_settop(L, 2);
        if (b) b = undisturbed(L, a, b);
    } else
        out = bind_make_tensor(L, like->dtype, ndim, shape);
    int failed;
    if (like->dtype == DTYPE_F64)
        failed = binary_f64(op, a, lua_tonumber(L, 1), b, lua_tonumber(L, 2), out, &e);
    else if (!a)
        failed = number_first(op, (float)lua_tonumber(L, 1), b, out, &e);
    else if (!b)
        failed = tensor_binary_scalar(op, a, (float)lua_tonumber(L, 2), out, &e);
    else
        failed = tensor_broadcast(op, a, b, out, &e);
    want_done(L, failed, &e);
    if (in_place) lua_settop(L, 1);
    return 1;
}

#define NEW(name, op, known)                                                                       \
    static int name(lua_State *L) {                                                                \
        return arithmetic(L, op, false, known);                                                    \
    }
#define ARITHMETIC(name, op, known)                                                                \
    NEW(name, op, known)                                                                           \
    static int name##_in_place(lua_State *L) {                                                     \
        return arithmetic(L, op, true, known);                                                     \
    }
ARITHMETIC(add, BINARY_ADD, "__add")
ARITHMETIC(sub, BINARY_SUB, "__sub")
ARITHMETIC(mul, BINARY_MUL, "__mul")
ARITHMETIC(divide, BINARY_DIV, "__div")
ARITHMETIC(least, BINARY_MIN, "min")
ARITHMETIC(greatest, BINARY_MAX, "max")
NEW(power, BINARY_POW, "__pow")
NEW(greater, BINARY_GREATER, "gt")
NEW(at_least, BINARY_AT_LEAST, "ge")
NEW(same, BINARY_EQUAL, "eq")
NEW(share, BINARY_SHARE, "share")
NEW(keep, BINARY_KEEP, "keep")

/* The same with the arguments exchanged. */
static int turned(lua_State *L, BinaryOp op, const char *name) {
    if (bind_defer(L, name)) return 1;
    if (lua_type(L, 2) != LUA_TNUMBER) bind_check_tensor(L, 2);
    lua_settop(L, 2);
    lua_insert(L, 1);
    return arithmetic(L, op, false, name);
}

static int less(lua_State *L) {
    return turned(L, BINARY_GREATER, "lt");
}

static int at_most(lua_State *L) {
    return turned(L, BINARY_AT_LEAST, "le");
}

static int negative(lua_State *L) {
    lua_settop(L, 1);
    lua_pushinteger(L, -1);
    return arithmetic(L, BINARY_MUL, false, "__mul");
}

static int fill(lua_State *L) {
    Error e;
    Tensor *t = bind_check_tensor(L, 1);
    double value = luaL_checknumber(L, 2);
    if (t->dtype == DTYPE_F64)
        want_done(L, binary_f64(BINARY_ADD, NULL, value, NULL, -0.0, t, &e), &e);
    else
        want_done(L, tensor_fill(t, (float)value, &e), &e);
    lua_settop(L, 1);
    return 1;
}

/* Leaves on top a new tensor like argument 1, which must be f32; in place, argument 1 itself. */
static const Tensor *result(lua_State *L, const Tensor *a, bool in_place) {
    if (!in_place) return bind_make_tensor(L, DTYPE_F32, a->ndim, a->shape);
    lua_pushvalue(L, 1);
    return a;
}

static int clamp_to(lua_State *L, bool in_place) {
    Error e;
    Tensor *a = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    float low = (float)luaL_checknumber(L, 2), high = (float)luaL_checknumber(L, 3);
    luaL_argcheck(L, low <= high, 3, "the upper limit is below the lower");
    want_done(L, tensor_clamp(a, low, high, result(L, a, in_place), &e), &e);
    return 1;
}

static int clamp(lua_State *L) {
    return clamp_to(L, false);
}

static int clamp_in_place(lua_State *L) {
    return clamp_to(L, true);
}

/* abs() -> max(x, -x); of -0 it is 0, although that maximum may be -0. */
static int absolute(lua_State *L) {
    Error e;
    Tensor *a = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    const Tensor *out = result(L, a, false);
    want_done(L, tensor_binary_scalar(BINARY_MUL, a, -1, out, &e), &e);
    want_done(L, tensor_binary(BINARY_MAX, a, out, out, &e), &e);
    want_done(L, tensor_binary_scalar(BINARY_ADD, out, 0, out, &e), &e);
    return 1;
}

/* sign_(): replaces elements by -1, 0 or 1; sign(0) = 0. */
static int sign_in_place(lua_State *L) {
    Error e;
    Tensor *a = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    want_done(L, tensor_sign(a, a, &e), &e);
    lua_settop(L, 1);
    return 1;
}

/* quantize_(levels): rounds to the nearest multiple of 1/levels, half to even. */
static int quantize_in_place(lua_State *L) {
    Error e;
    Tensor *a = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    float levels = (float)luaL_checknumber(L, 2);
    luaL_argcheck(L, levels > 0, 2, "levels must be above 0");
    want_done(L, tensor_quantize(a, levels, a, &e), &e);
    lua_settop(L, 1);
    return 1;
}

/* Reductions ------------------------------------------------------------------------------- */

/* The result of one pass over a tensor of any type; least and greatest ignore NaN. */
typedef struct Scan {
    double sum, least, greatest;
    int64_t count, nans;
} Scan;

static int scan(const Tensor *t, Scan *s, Error *e) {
    double raw[BLOCK], v[BLOCK];
    Device *d = tensor_device(t);
    size_t bytes = dtype_size(t->dtype);
    *s = (Scan){.least = INFINITY, .greatest = -INFINITY, .count = tensor_count(t)};
    for (int64_t i = 0; i < s->count; i += BLOCK) {
        int64_t m = s->count - i < BLOCK ? s->count - i : BLOCK;
        const char *at = (const char *)t->data + (size_t)i * bytes;
        if (d->copy_out(d, raw, at, (size_t)m * bytes, e) != 0) return -1;
        dtype_convert(DTYPE_F64, v, t->dtype, raw, m);
        for (int64_t j = 0; j < m; j++) {
            s->sum += v[j];
            s->nans += isnan(v[j]) != 0;
            if (v[j] < s->least) s->least = v[j];
            if (v[j] > s->greatest) s->greatest = v[j];
        }
    }
    return 0;
}

static Scan scanned(lua_State *L) {
    Error e;
    Scan s = {0};
    want_done(L, scan(bind_check_tensor(L, 1), &s, &e), &e);
    return s;
}

/* sum(), mean(), minimum(), maximum() -> a number, over all elements; with (dim[, keep]) a tensor.
 * Minimum and maximum are NaN if an element is NaN, or if there are no elements. */
static int sum(lua_State *L) {
    if (!lua_isnoneornil(L, 2)) return bind_tensor_sum(L);
    lua_pushnumber(L, scanned(L).sum);
    return 1;
}

static int mean(lua_State *L) {
    if (!lua_isnoneornil(L, 2)) return bind_tensor_mean(L);
    Scan s = scanned(L);
    lua_pushnumber(L, s.sum / (double)s.count);
    return 1;
}

static int minimum(lua_State *L) {
    if (!lua_isnoneornil(L, 2)) return bind_tensor_extreme(L, true);
    Scan s = scanned(L);
    lua_pushnumber(L, s.nans || !s.count ? NAN : s.least);
    return 1;
}

static int maximum(lua_State *L) {
    if (!lua_isnoneornil(L, 2)) return bind_tensor_extreme(L, false);
    Scan s = scanned(L);
    lua_pushnumber(L, s.nans || !s.count ? NAN : s.greatest);
    return 1;
}

static int to_string(lua_State *L) {
    char text[128], range[80] = "";
    Tensor *t = bind_test_tensor(L, 1);
    if (!t) {
        lua_pushliteral(L, "tensor (emptied)");
        return 1;
    }
    Scan s = scanned(L);
    if (s.count > s.nans) snprintf(range, sizeof range, " in %.6g .. %.6g", s.least, s.greatest);
    lua_pushfstring(L, "tensor %s %s%s, %I NaN", dtype_name(t->dtype), tensor_shape_text(t, text),
                    range, (lua_Integer)s.nans);
    return 1;
}

/* equal(other) -> whether type, shape and elements are equal; NaN equals nothing. */
static int equal(lua_State *L) {
    Error e;
    double a[BLOCK], b[BLOCK], raw[BLOCK];
    const Tensor *t[2] = {bind_check_tensor(L, 1), bind_check_tensor(L, 2)};
    bool same = t[0]->dtype == t[1]->dtype && tensor_same_shape(t[0], t[1]);
    bool whole = t[0]->dtype == DTYPE_I64; /* doubles cannot hold all i64 values */
    int64_t n = tensor_count(t[0]);
    size_t bytes = dtype_size(t[0]->dtype);
    for (int64_t i = 0; i < n && same; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        for (int k = 0; k < 2; k++) {
            Device *d = tensor_device(t[k]);
            const char *at = (const char *)t[k]->data + (size_t)i * bytes;
            want_done(L, d->copy_out(d, raw, at, (size_t)m * bytes, &e), &e);
            dtype_convert(whole ? DTYPE_I64 : DTYPE_F64, k ? b : a, t[k]->dtype, raw, m);
        }
        if (whole) same = memcmp(a, b, (size_t)m * sizeof *a) == 0;
        for (int64_t j = 0; j < m && !whole; j++) same = same && a[j] == b[j];
    }
    lua_pushboolean(L, same);
    return 1;
}

/* Copies row `row`, of K elements, of t to the host as doubles. raw has room for K elements of any
 * type. */
static void row_to_host(lua_State *L, const Tensor *t, int64_t row, int64_t K, void *raw,
                        double *out) {
    Error e;
    Device *d = tensor_device(t);
    size_t bytes = (size_t)K * dtype_size(t->dtype);
    want_done(L, d->copy_out(d, raw, (const char *)t->data + (size_t)row * bytes, bytes, &e), &e);
    dtype_convert(DTYPE_F64, out, t->dtype, raw, K);
}

/* argmax() -> i64, over the last dimension, counted from 0: the lowest index of a tie; -1 if an
 * element is NaN. */
static int argmax(lua_State *L) {
    Error e;
    Tensor *t = bind_check_tensor(L, 1);
    luaL_argcheck(L, t->ndim > 0 && t->shape[t->ndim - 1] > 0, 1, "the rows have no elements");
    int64_t K = t->shape[t->ndim - 1], rows = tensor_count(t) / K;
    double *raw = lua_newuserdatauv(L, (size_t)K * 2 * sizeof *raw, 0), *v = raw + K;
    int64_t *best = lua_newuserdatauv(L, (size_t)rows * sizeof *best + 1, 0);
    for (int64_t i = 0; i < rows; i++) {
        row_to_host(L, t, i, K, raw, v);
        best[i] = isnan(v[0]) ? -1 : 0;
        for (int64_t k = 1; k < K && best[i] >= 0; k++)
            if (isnan(v[k]))
                best[i] = -1;
            else if (v[k] > v[best[i]])
                best[i] = k;
    }
    Tensor *out = bind_make_tensor(L, DTYPE_I64, t->ndim - 1, t->shape);
    want_done(L, tensor_from_host(out, best, &e), &e);
    return 1;
}

/* rank(labels): [N,K] -> i64 [N], the number of classes before the label when classes are sorted by
 * falling logit. In a tie the lower class comes first. A rank below 5 means within the top five. */
static int rank(lua_State *L) {
    Error e;
    Tensor *z = bind_check_tensor(L, 1);
    luaL_argcheck(L, z->ndim == 2, 1, "wanted logits [N,K]");
    int64_t N = z->shape[0], K = z->shape[1];
    int64_t *host = lua_newuserdatauv(L, (size_t)N * sizeof *host + 1, 0);
    double *raw = lua_newuserdatauv(L, (size_t)K * 2 * sizeof *raw + 1, 0), *v = raw + K;
    /* Check last: a finaliser may write to them. */
    want_done(L, tensor_to_host(bind_check_classes(L, 2, N, K), host, &e), &e);
    for (int64_t i = 0; i < N; i++) {
        int64_t own = host[i], before = 0;
        row_to_host(L, z, i, K, raw, v);
        for (int64_t k = 0; k < K; k++)
            before += k != own && !(v[k] < v[own] || (v[k] == v[own] && k > own));
        host[i] = before;
    }
    want_done(L, tensor_from_host(bind_make_tensor(L, DTYPE_I64, 1, &N), host, &e), &e);
    return 1;
}

/* Norms and the step ----------------------------------------------------------------------- */

/* norms(q[, l2, linf, zero_share]) -> f64 [N] each, for every image of q [N,...]: the l2 and linf
 * norms and the fraction of exact zeros. */
static int norms(lua_State *L) {
    Error e;
    Tensor *q = bind_check_tensor_of(L, 1, DTYPE_F32, -1), *out[3];
    luaL_argcheck(L, q->ndim > 0, 1, "wanted images [N,...]");
    lua_settop(L, 4);
    for (int i = 0; i < 3; i++) out[i] = bind_output(L, 2 + i, DTYPE_F64, 1, q->shape);
    want_done(L, tensor_norms(q, out[0], out[1], out[2], &e), &e);
    return 3;
}

/* The box at arguments i and i + 1, each f32 with the elements of one image; nil: 0 to 1. */
static TensorBox check_box(lua_State *L, int i) {
    if (lua_isnoneornil(L, i) && lua_isnoneornil(L, i + 1)) return (TensorBox){0};
    return (TensorBox){bind_check_tensor_of(L, i, DTYPE_F32, -1),
                       bind_check_tensor_of(L, i + 1, DTYPE_F32, -1)};
}

/* step_(q, a, x0[, l2, linf[, low, high]]): x = clip(x + a_n q_n), Eq. 11-16. l2 and linf, f64 [N],
 * are the distances from x0. */
static int step_in_place(lua_State *L) {
    Error e;
    Tensor *x = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    luaL_argcheck(L, x->ndim > 0, 1, "wanted images [N,...]");
    Tensor *q = bind_check_tensor_of(L, 2, DTYPE_F32, -1);
    Tensor *a = bind_check_tensor_of(L, 3, DTYPE_F64, 1);
    Tensor *x0 = bind_check_tensor_of(L, 4, DTYPE_F32, -1), *out[2];
    lua_settop(L, 8);
    TensorBox box = check_box(L, 7);
    for (int i = 0; i < 2; i++) out[i] = bind_output(L, 5 + i, DTYPE_F64, 1, x->shape);
    want_done(L, tensor_step(x, q, a, x0, box, out[0], out[1], &e), &e);
    return 2;
}

/* project_(x0, scale, radius): x = x0 + s_n (x - x0), with each element of the difference clamped
 * to [-r_n, r_n] and rounded towards x0. scale and radius are f64 [N]. */
static int project_in_place(lua_State *L) {
    Error e;
    Tensor *x = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    Tensor *x0 = bind_check_tensor_of(L, 2, DTYPE_F32, -1);
    Tensor *scale = bind_check_tensor_of(L, 3, DTYPE_F64, 1);
    Tensor *radius = bind_check_tensor_of(L, 4, DTYPE_F64, 1);
    want_done(L, tensor_project(x, x0, scale, radius, &e), &e);
    lua_settop(L, 1);
    return 1;
}

/* tanh_enter_(w, hair[, low, high]): moves x into the box by the fraction hair of its width, and
 * sets w to the point of x in the tanh space. */
static int tanh_enter_in_place(lua_State *L) {
    Error e;
    Tensor *x = bind_check_tensor_of(L, 1, DTYPE_F32, -1);
    Tensor *w = bind_check_tensor_of(L, 2, DTYPE_F32, -1);
    want_done(L, tensor_tanh_enter(x, w, check_box(L, 4), luaL_checknumber(L, 3), &e), &e);
    lua_settop(L, 1);
    return 1;
}

/* Optimisers ------------------------------------------------------------------------------- */

/* sgd(p, g, m, {rate=, momentum=0, weight_decay=0, nesterov=false}): updates one parameter by
 * SGD. */
static int sgd(lua_State *L) {
    static const char *const known[] = {"rate", "momentum", "weight_decay", "nesterov", NULL};
    Error e;
    Tensor *t[3];
    for (int i = 0; i < 3; i++) t[i] = bind_check_tensor(L, i + 1);
    Fields f = fields_of(L, 4, known);
    SgdStep s = {.rate = fields_number(&f, "rate", FIELDS_NONE, -HUGE_VAL, HUGE_VAL),
                 .momentum = fields_number(&f, "momentum", 0, -HUGE_VAL, HUGE_VAL),
                 .weight_decay = fields_number(&f, "weight_decay", 0, -HUGE_VAL, HUGE_VAL),
                 .nesterov = fields_flag(&f, "nesterov")};
    want_done(L, tensor_sgd(&s, t[0], t[1], t[2], &e), &e);
    return 0;
}

/* Reads the fields that all variants of Adam share. */
static AdamStep adam_fields(const Fields *f) {
    return (AdamStep){.rate = fields_number(f, "rate", FIELDS_NONE, -HUGE_VAL, HUGE_VAL),
                      .beta1 = fields_number(f, "beta1", 0.9, -HUGE_VAL, HUGE_VAL),
                      .beta2 = fields_number(f, "beta2", 0.999, -HUGE_VAL, HUGE_VAL),
                      .eps = fields_number(f, "eps", 1e-8, -HUGE_VAL, HUGE_VAL)};
}

/* adam(p, g, m, v, {rate=, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0, decoupled=false, t=}):
 * updates one parameter by Adam; t is the number of the step, counted from 1. */
static int adam(lua_State *L) {
    static const char *const known[] = {"rate",         "beta1",     "beta2", "eps",
                                        "weight_decay", "decoupled", "t",     NULL};
    Error e;
    Tensor *t[4];
    for (int i = 0; i < 4; i++) t[i] = bind_check_tensor(L, i + 1);
    Fields f = fields_of(L, 5, known);
    AdamStep s = adam_fields(&f);
    s.weight_decay = fields_number(&f, "weight_decay", 0, -HUGE_VAL, HUGE_VAL);
    s.decoupled = fields_flag(&f, "decoupled");
    s.t = fields_integer(&f, "t", FIELDS_NO_INTEGER, 1, INT64_MAX);
    want_done(L, tensor_adam(&s, t[0], t[1], t[2], t[3], &e), &e);
    return 0;
}

/* tanh_step({x=, w=, m=, v=, q=, x0=, c=, t=, l2=, low=nil, high=nil}, {rate=, beta1=0.9,
 * beta2=0.999, eps=1e-8}): Adam's step number t_n on w for the objective ||x - x0||^2 - c_n L. q is
 * the gradient of L, and x = low + (high - low) (tanh w + 1) / 2, by default from 0 to 1. l2 is the
 * distance from x0 after the step. Images with t_n = 0 do not move. */
static int tanh_step(lua_State *L) {
    static const char *const names[] = {"x", "w", "m",  "v",   "q",   "x0",
                                        "c", "t", "l2", "low", "high"};
    static const char *const known[] = {"rate", "beta1", "beta2", "eps", NULL};
    enum { TENSORS = sizeof names / sizeof *names, LOW = TENSORS - 2 };
    Error e;
    TanhTensors a = {.box = {0}};
    Tensor low, high;
    Tensor *fields[TENSORS] = {&a.x, &a.w, &a.m, &a.v, &a.q, &a.x0, &a.c, &a.t, &a.l2, &low, &high};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    Fields f = fields_of(L, 2, known);
    AdamStep s = adam_fields(&f);
    /* The stack keeps the tensors. Check them when no metamethod can close one any more. */
    bind_room(L, TENSORS + 4);
    for (int i = 0; i < TENSORS; i++) lua_getfield(L, 1, names[i]);
    for (int i = 0; i < TENSORS; i++) {
        const Tensor *t = bind_test_tensor(L, 3 + i);
        if (i >= LOW && lua_isnil(L, 3 + i)) continue;
        if (!t) luaL_argerror(L, 1, lua_pushfstring(L, "no tensor '%s'", names[i]));
        *fields[i] = *t;
    }
    if (!lua_isnil(L, 3 + LOW)) a.box.low = &low;
    if (!lua_isnil(L, 3 + LOW + 1)) a.box.high = &high;
    want_done(L, tensor_tanh_step(&s, &a, &e), &e);
    return 0;
}

/* cross_entropy(z, labels, dz) -> the mean loss and the number of correctly classified rows; dz
 * becomes the gradient of the mean. */
static int cross_entropy(lua_State *L) {
    Error e;
    double loss;
    int64_t correct;
    Tensor *z = bind_check_tensor_of(L, 1, DTYPE_F32, 2);
    Tensor *dz = bind_check_tensor_of(L, 3, DTYPE_F32, 2);
    Tensor *label = bind_check_classes(L, 2, z->shape[0], z->shape[1]);
    want_done(L, tensor_cross_entropy(z, label, &loss, &correct, dz, &e), &e);
    lua_pushnumber(L, loss);
    lua_pushinteger(L, correct);
    return 2;
}

const luaL_Reg bind_tensor_operations[] = {
    {"add", add},
    {"sub", sub},
    {"mul", mul},
    {"div", divide},
    {"min", least},
    {"max", greatest},
    {"pow", power},
    {"gt", greater},
    {"ge", at_least},
    {"lt", less},
    {"le", at_most},
    {"eq", same},
    {"share", share},
    {"keep", keep},
    {"add_", add_in_place},
    {"sub_", sub_in_place},
    {"mul_", mul_in_place},
    {"div_", divide_in_place},
    {"min_", least_in_place},
    {"max_", greatest_in_place},
    {"fill", fill},
    {"clamp", clamp},
    {"clamp_", clamp_in_place},
    {"abs", absolute},
    {"sign_", sign_in_place},
    {"quantize_", quantize_in_place},
    {"sum", sum},
    {"mean", mean},
    {"minimum", minimum},
    {"maximum", maximum},
    {"argmax", argmax},
    {"rank", rank},
    {"equal", equal},
    {"norms", norms},
    {"step_", step_in_place},
    {"project_", project_in_place},
    {"tanh_enter_", tanh_enter_in_place},
    {NULL, NULL},
};

const luaL_Reg bind_tensor_operators[] = {
    {"__add", add},
    {"__sub", sub},
    {"__mul", mul},
    {"__div", divide},
    {"__pow", power},
    {"__unm", negative},
    {"__tostring", to_string},
    {NULL, NULL},
};

const luaL_Reg bind_tensor_functions[] = {
    {"norms", norms},
    {"sgd", sgd},
    {"adam", adam},
    {"tanh_step", tanh_step},
    {"cross_entropy", cross_entropy},
    {NULL, NULL},
};
