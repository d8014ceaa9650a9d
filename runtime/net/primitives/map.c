/* Maps, elementwise formulas of several operands, and their gradients. The gradient of a broadcast
 * operand is a sum.
 */
#include <string.h>

#include "net/build.h"
#include "device/formula.h"

/* --- shapes that broadcast --- */

/* The size of dimension i of s after s is extended to `ndim` dimensions. */
static int64_t aligned(const Shape *s, int ndim, int i) {
    int own = i - (ndim - s->ndim);
    return own < 0 ? 1 : s->dim[own];
}

bool shape_repeats(const Shape *s, const Shape *whole) {
    if (s->ndim > whole->ndim) return false;
    for (int i = 0; i < whole->ndim; i++) {
        int64_t n = aligned(s, whole->ndim, i);
        if (n != 1 && n != whole->dim[i]) return false;
    }
    return true;
}

bool shape_join(const Shape *a, const Shape *b, Shape *out) {
    Shape made = {.ndim = a->ndim > b->ndim ? a->ndim : b->ndim};
    for (int i = 0; i < made.ndim; i++) {
        int64_t n = aligned(a, made.ndim, i), m = aligned(b, made.ndim, i);
        if (n != m && n != 1 && m != 1) return false;
        made.dim[i] = n == 1 ? m : n;
    }
    *out = made;
    return true;
}

/* The strides that broadcast s to `whole`. */
static void repeat_strides(const Shape *s, const Shape *whole, int64_t *stride) {
    int64_t step = 1;
    for (int i = whole->ndim - 1; i >= 0; i--) {
        int64_t n = aligned(s, whole->ndim, i);
        stride[i] = n == 1 ? 0 : step;
        step *= n;
    }
}

/* --- building --- */

Op *build_map(Build *b, const char *text, int n, const MapInput *in, const Shape *out, Error *e) {
    MapSpec spec = {.shape = *out};
    int values[OP_INPUTS], params[OP_PARAMS] = {-1, -1, -1, -1}, n_values = 0, n_params = 0;
    Formula formula;
    if (formula_read(&formula, text, n, e)) return NULL;
    for (int i = 0; i < n; i++) {
        bool value = in[i].value != NO_VALUE;
        spec.operand[i] =
            (MapOperand){.input = value ? n_values : -1, .param = value ? -1 : n_params};
        if (value)
            values[n_values++] = in[i].value;
        else
            params[n_params++] = in[i].param;
        repeat_strides(&in[i].shape, out, spec.operand[i].stride);
    }
    spec.formula = formula;
    const MapSpec *kept = build_spec(b, &spec, sizeof spec, e);
    int made = kept ? build_shaped(b, VALUE_REAL, out, e) : -1;
    Op *op = made < 0 ? NULL : build_op(b, OP_MAP, NULL, n_values, values, e);
    if (!op) return NULL;
    op->layer = b->graph->layers[b->layer].name;
    op->layer_index = b->layer;
    op->out[0] = made;
    op->map = kept;
    memcpy(op->param, params, sizeof params);
    return op;
}

/* --- the gradient --- */

/* Emits the derivative by an operand, as a map of the same shape without the operands that it does
 * not read. Returns its value, or g if the derivative is g itself. NO_VALUE with the error set. */
static int derivative(Build *b, int i, int operand, int of, int g, Error *e) {
    const Op f = b->program->ops[i];
    MapSpec spec = *f.map;
    int in[OP_INPUTS], params[OP_PARAMS] = {-1, -1, -1, -1}, n = 0, n_params = 0;
    if (formula_derivative(&spec.formula, &f.map->formula, operand, e)) return NO_VALUE;
    MapOperand *last = &spec.operand[f.map->formula.operands]; /* g; the input OP_INPUTS marks it */
    *last = (MapOperand){.input = OP_INPUTS, .param = -1};
    repeat_strides(&spec.shape, &spec.shape, last->stride);
    for (int j = spec.formula.operands - 1; j >= 0; j--) {
        if (formula_reads(&spec.formula, j)) continue;
        memmove(&spec.operand[j], &spec.operand[j + 1],
                (size_t)(spec.formula.operands - 1 - j) * sizeof *last);
        formula_drop_operand(&spec.formula, j);
    }
    for (int j = 0; j < spec.formula.operands; j++) {
        MapOperand *o = &spec.operand[j];
        if (o->param >= 0) {
            params[n_params] = f.param[o->param];
            o->param = n_params++;
        } else {
            in[n] = o->input == OP_INPUTS ? g : f.in[o->input];
            o->input = n++;
        }
    }
    if (formula_is_operand(&spec.formula) == 0 && n == 1 && in[0] == g) return g;
    const MapSpec *kept = build_spec(b, &spec, sizeof spec, e);
    Op *op = kept ? gradient_op(b, OP_MAP, i, of, n, in, e) : NULL;
    if (!op) return NO_VALUE;
    op->map = kept;
    memcpy(op->param, params, sizeof params);
    return op->out[0];
}

/* Sums over the dimensions in which the operand was repeated. */
static const ReduceSpec *repeats_of(Build *b, const MapSpec *map, const MapOperand *o, Error *e) {
    ReduceSpec spec = {.shape = map->shape, .scale = 1};
    for (int d = 0; d < spec.shape.ndim; d++)
        spec.over[d] = spec.shape.dim[d] > 1 && o->stride[d] == 0;
    return build_spec(b, &spec, sizeof spec, e);
}

static int to_value(Build *b, int i, int operand, int g, Error *e) {
    const Op f = b->program->ops[i];
    const MapOperand *o = &f.map->operand[operand];
    int x = f.in[o->input];
    if (!gradient_wanted(b, x)) return 0;
    bool whole = map_reads_whole(f.map, operand);
    int made = derivative(b, i, operand, whole ? x : f.out[0], g, e);
    if (made == NO_VALUE) return -1;
    if (!whole) {
        const ReduceSpec *spec = repeats_of(b, f.map, o, e);
        Op *op = spec ? gradient_op(b, OP_REDUCE, i, x, 1, &made, e) : NULL;
        if (!op) return -1;
        op->reduce = spec;
        made = op->out[0];
    }
    return gradient_add(b, i, x, made, e);
}

static int to_param(Build *b, int i, int operand, int g, Error *e) {
    const Op f = b->program->ops[i];
    const MapOperand *o = &f.map->operand[operand];
    if (!b->training) return 0;
    int made = derivative(b, i, operand, f.out[0], g, e);
    const ReduceSpec *spec = made == NO_VALUE ? NULL : repeats_of(b, f.map, o, e);
    Op *op = spec ? gradient_to_params(b, OP_REDUCE_PARAM, i, 1, &made, e) : NULL;
    if (!op) return -1;
    op->reduce = spec;
    op->param[0] = f.param[o->param];
    op->param[1] = op->param[2] = op->param[3] = -1;
    return 0;
}

int gradient_map(Build *b, int i, int g, Error *e) {
    const MapSpec *map = b->program->ops[i].map;
    for (int j = 0; j < map->formula.operands; j++)
        if ((map->operand[j].input >= 0 ? to_value : to_param)(b, i, j, g, e)) return -1;
    return 0;
}

/* --- parameters as values --- */

/* The parameter that an op copies, element by element, into a value; -1 if it does not. */
static int handed_on(const Op *op) {
    if (op->kind != OP_MAP || formula_is_operand(&op->map->formula) != 0) return -1;
    const MapOperand *o = &op->map->operand[0];
    return o->param >= 0 && map_reads_whole(op->map, 0) ? op->param[o->param] : -1;
}

static int free_param(const Op *op) {
    for (int k = 0; k < OP_PARAMS; k++)
        if (op->param[k] < 0) return k;
    return -1;
}

/* Makes operand j of map i read the parameter itself. */
static int inline_operand(Build *b, int i, int j, int param, Error *e) {
    Op *op = &b->program->ops[i];
    MapSpec spec = *op->map;
    int gone = spec.operand[j].input, slot = free_param(op);
    spec.operand[j].input = -1;
    spec.operand[j].param = slot;
    for (int k = 0; k < spec.formula.operands; k++)
        if (spec.operand[k].input > gone) spec.operand[k].input--;
    for (int k = gone; k < OP_INPUTS; k++) op->in[k] = k + 1 < OP_INPUTS ? op->in[k + 1] : NO_VALUE;
    op->param[slot] = param;
    op->map = build_spec(b, &spec, sizeof spec, e);
    return op->map ? 0 : -1;
}

int inline_parameters(Build *b, Error *e) {
    Program *p = b->program;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != OP_MAP) continue;
        for (int j = 0; j < p->ops[i].map->formula.operands; j++) {
            int in = p->ops[i].map->operand[j].input;
            int maker = in < 0 ? -1 : maker_of(p, p->ops[i].in[in]);
            int param = maker < 0 ? -1 : handed_on(&p->ops[maker]);
            if (param < 0 || free_param(&p->ops[i]) < 0) continue;
            if (inline_operand(b, i, j, param, e)) return -1;
            if (!count_readers(p, p->ops[maker].out[0])) p->ops[maker].kind = OP_KINDS;
        }
    }
    return 0;
}

/* Each element of a sum gets the sum's gradient, scaled. */
int gradient_reduce(Build *b, int i, int g, Error *e) {
    const Op f = b->program->ops[i];
    const ReduceSpec *sum = f.reduce;
    if (!gradient_wanted(b, f.in[0])) return 0;
    MapSpec spec = {.shape = sum->shape, .operand = {{.input = 0, .param = -1}}};
    spec.formula = (Formula){.operands = 1,
                             .n = 3,
                             .step = {{.code = FORMULA_OPERAND},
                                      {.code = FORMULA_CONSTANT, .constant = (float)sum->scale},
                                      {.code = FORMULA_MUL, .a = 0, .b = 1}}};
    int64_t step = 1;
    for (int d = sum->shape.ndim - 1; d >= 0; d--) {
        spec.operand[0].stride[d] = sum->over[d] ? 0 : step;
        if (!sum->over[d]) step *= sum->shape.dim[d];
    }
    const MapSpec *kept = build_spec(b, &spec, sizeof spec, e);
    Op *op = kept ? gradient_op(b, OP_MAP, i, f.in[0], 1, &g, e) : NULL;
    if (!op) return -1;
    op->map = kept;
    memset(op->param, -1, sizeof op->param);
    return gradient_add(b, i, f.in[0], op->out[0], e);
}
