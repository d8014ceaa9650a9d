/* Maps and sums over dimensions. A map runs in contiguous layout. If its operands are images and
 * per-channel numbers, it runs in the images' blocks of channels. */
#include <string.h>

#include "backend/cpu/lower.h"
#include "device/formula.h"

/* --- the layout of a map --- */

static bool is_channels(const MapSpec *m, int j) {
    const int64_t *stride = m->operand[j].stride;
    return stride[0] <= 1 && stride[1] == 0 && stride[2] == 0;
}

static bool is_one(const MapSpec *m, int j) {
    return is_channels(m, j) && m->operand[j].stride[0] == 0;
}

/* The channels per block of the map's layout; 1 for contiguous layout. */
static int64_t block_of(const Compiler *c, const Op *op) {
    const MapSpec *m = op->map;
    int of = value_of(c, op->out[0])->gradient_of, first = NO_VALUE;
    if (m->shape.ndim != 3) return 1;
    for (int j = 0; j < m->formula.operands; j++) {
        const MapOperand *o = &m->operand[j];
        bool whole = map_reads_whole(m, j);
        if (!whole && !is_channels(m, j)) return 1;
        if (whole && !is_channels(m, j) && o->input < 0) return 1;
        if (whole && o->input >= 0 && first == NO_VALUE) first = op->in[o->input];
    }
    if (first == NO_VALUE) return 1;
    int64_t block = layout_block(layout_of(c, of == NO_VALUE ? first : of));
    return block ? block : cpu_block(c);
}

/* --- formulas with their own loop --- */

static int find_loop(const CpuKernels *k, const Formula *formula, FormulaLoop **loop, Error *e) {
    *loop = NULL;
    for (const FusedFormula *f = k->fused; f->text && !*loop; f++) {
        int which;
        if (formula_find(formula, f->text, f->operands, &which, e)) return -1;
        if (which != FORMULA_OTHER)
            *loop = which == FORMULA_ITSELF ? f->value : f->derivative[which];
    }
    return 0;
}

int map_in_rows(const Compiler *c, const Op *op, FormulaLoop **loop, Error *e) {
    const MapSpec *m = op->map;
    *loop = NULL;
    if (block_of(c, op) > 1) return 0;
    for (int j = 0; j < m->formula.operands; j++)
        if (m->operand[j].input < 0 || !map_reads_whole(m, j)) return 0;
    return find_loop(cpu_of(c)->kernels, &m->formula, loop, e);
}

/* --- registers --- */

/* If step i is sigmoid(a): the later step that is sigmoid(-a), unless it is the last step; else 0.
 * A sigmoid's derivative is the product of both. */
static int negated_sigmoid(const Formula *f, int i) {
    for (int k = i + 1; k < f->n - 1 && f->step[i].code == FORMULA_SIGMOID; k++) {
        const FormulaStep *s = &f->step[k], *of = &f->step[s->a];
        if (s->code == FORMULA_SIGMOID && of->code == FORMULA_NEG && of->a == f->step[i].a)
            return k;
    }
    return 0;
}

static void pair_sigmoids(FormulaMap *m) {
    memset(m->pair, FORMULA_ALONE, sizeof m->pair);
    for (int i = 0; i < m->formula.n; i++) {
        int k = m->pair[i] == FORMULA_ALONE ? negated_sigmoid(&m->formula, i) : 0;
        if (!k || m->pair[k] != FORMULA_ALONE) continue;
        m->pair[i] = (int8_t)k;
        m->pair[k] = FORMULA_MADE;
    }
}

/* Gives each constant its own register. Every other step gets a register whose value is no longer
 * read. */
static int give_registers(FormulaMap *m, Error *e) {
    const Formula *f = &m->formula;
    int until[FORMULA_STEPS] = {0}, busy[FORMULA_REGISTERS], used = 0;
    for (int i = 0; i < f->n; i++) {
        const FormulaStep *s = &f->step[i];
        if (s->code == FORMULA_CONSTANT) until[i] = f->n;
        if (s->code == FORMULA_CONSTANT || s->code == FORMULA_OPERAND) continue;
        until[s->a] = until[s->a] > i ? until[s->a] : i;
        until[s->b] = until[s->b] > i ? until[s->b] : i;
        until[s->c] = until[s->c] > i ? until[s->c] : i;
    }
    for (int i = 0; i < f->n; i++) {
        if (f->step[i].code == FORMULA_OPERAND || m->pair[i] == FORMULA_MADE) continue;
        for (int made = i; made >= i; made = made == i && m->pair[i] ? m->pair[i] : -1) {
            int r = 0;
            while (r < used && busy[r] > i) r++;
            if (f->step[i].code == FORMULA_CONSTANT) r = used; /* it is filled before all steps */
            if (r == FORMULA_REGISTERS)
                return error_set(e, "a formula needs more than %d numbers at once",
                                 FORMULA_REGISTERS);
            used += r == used;
            busy[r] = until[made];
            m->reg[made] = (int8_t)r;
        }
    }
    return 0;
}

/* --- dimensions --- */

/* Merges neighbouring dimensions that every operand traverses evenly. At least two dimensions
 * remain. */
static void merge_dimensions(FormulaMap *m) {
    int n = 1;
    for (int d = 1; d < m->ndim; d++) {
        bool even = true, single = m->n[n - 1] == 1;
        if (m->n[d] == 1) continue;
        for (int j = 0; j < m->formula.operands; j++)
            even = even && m->stride[j][n - 1] == m->stride[j][d] * m->n[d];
        if (!even && !single) n++;
        int64_t before = even || single ? m->n[n - 1] : 1;
        m->n[n - 1] = before * m->n[d];
        for (int j = 0; j < m->formula.operands; j++) m->stride[j][n - 1] = m->stride[j][d];
    }
    m->ndim = n;
    if (n > 1) return;
    m->n[1] = m->n[0], m->n[0] = 1, m->ndim = 2;
    for (int j = 0; j < m->formula.operands; j++)
        m->stride[j][1] = m->stride[j][0], m->stride[j][0] = 0;
}

static void plain_dimensions(const Compiler *c, const Op *op, FormulaMap *m) {
    const MapSpec *spec = op->map;
    m->ndim = spec->shape.ndim + 1;
    m->n[0] = c->request->N;
    for (int d = 0; d < spec->shape.ndim; d++) m->n[d + 1] = spec->shape.dim[d];
    for (int j = 0; j < spec->formula.operands; j++) {
        const MapOperand *o = &spec->operand[j];
        m->stride[j][0] = o->input < 0 ? 0 : value_elements(c, op->in[o->input]) / c->request->N;
        memcpy(&m->stride[j][1], o->stride, (size_t)spec->shape.ndim * sizeof *o->stride);
    }
}

/* [N, blocks, cells, B] */
static void blocked_dimensions(const Compiler *c, const Op *op, int64_t B, FormulaMap *m) {
    const MapSpec *spec = op->map;
    int64_t blocks = (spec->shape.dim[0] + B - 1) / B,
            cells = spec->shape.dim[1] * spec->shape.dim[2];
    m->ndim = 4;
    m->n[0] = c->request->N, m->n[1] = blocks, m->n[2] = cells, m->n[3] = B;
    for (int j = 0; j < spec->formula.operands; j++) {
        bool value = spec->operand[j].input >= 0, whole = map_reads_whole(spec, j) && value;
        int64_t wide = whole ? cells : 1;
        int64_t stride[4] = {value ? blocks * wide * B : 0, wide * B, whole ? B : 0, 1};
        if (!whole && is_one(spec, j)) stride[0] = value, stride[1] = stride[3] = 0;
        memcpy(m->stride[j], stride, sizeof stride);
    }
}

/* --- lowering --- */

/* tail: channels in the last block, or 0 if it is full; the block's other channels stay zero. */
typedef struct MapJob {
    FormulaMap map;
    int64_t blocks, cells, B, tail, N;
} MapJob;

/* at: y, the operands. */
static int run_map(Plan *p, const Step *s, Error *e) {
    const MapJob *job = s->job;
    (void)e;
    kernels_of(p)->formula(&job->map, (const float *const *)(s->at + 1), s->at[0]);
    if (!job->tail) return 0;
    float *y = s->at[0];
    for (int64_t n = 0; n < job->N; n++) {
        float *block = y + ((n + 1) * job->blocks - 1) * job->cells * job->B;
        for (int64_t i = 0; i < job->cells; i++)
            memset(block + i * job->B + job->tail, 0, (size_t)(job->B - job->tail) * sizeof *y);
    }
    return 0;
}

typedef struct PadJob {
    int64_t n, padded;
} PadJob;

/* at: parameter, copy. */
static int run_pad(Plan *p, const Step *s, Error *e) {
    const PadJob *job = s->job;
    (void)p, (void)e;
    memcpy(s->at[1], s->at[0], (size_t)job->n * sizeof(float));
    memset((float *)s->at[1] + job->n, 0, (size_t)(job->padded - job->n) * sizeof(float));
    return 0;
}

/* A per-channel parameter, padded with zeros to whole blocks. */
static int padded_param(Compiler *c, int param, int64_t C, int64_t B, Error *e) {
    PadJob job = {C, (C + B - 1) / B * B};
    int own = buffer_param(c, param, e);
    if (own < 0 || job.n == job.padded) return own;
    int copy = buffer_new(c, (size_t)job.padded * sizeof(float), e);
    if (copy < 0 || !step_new(c, "pad", run_pad, 2, (int[]){own, copy}, &job, sizeof job, e))
        return -1;
    return copy;
}

static int operand_buffer(Compiler *c, const Op *op, int j, int64_t B, Error *e) {
    const MapSpec *m = op->map;
    const MapOperand *o = &m->operand[j];
    bool channels = B > 1 && !is_one(m, j);
    if (o->input < 0)
        return channels ? padded_param(c, op->param[o->param], m->shape.dim[0], B, e)
                        : buffer_param(c, op->param[o->param], e);
    int value = op->in[o->input];
    const Value *v = value_of(c, value);
    Layout layout =
        channels ? layout_blocked((int)B, c->request->N, v->C, v->H, v->W) : plain_layout(c, value);
    return value_as(c, value, &layout, e);
}

/* Leaves the map to the product that is its only reader, and lowers that product next. Until then
 * no step overwrites the map's operands. */
static int leave_to_product(Compiler *c, const Op *op, Error *e) {
    int next = value_only_reader(c, op->out[0], OP_MATMUL);
    bool plain = op->map->formula.operands == 1 && op_is_bare(op);
    FormulaLoop **loop = &note_of(c, c->op)->loop;
    if (next != c->op + 1 || !plain || !product_computes(c, &c->program->ops[next], op->out[0]))
        return 0;
    if (map_in_rows(c, op, loop, e)) return -1;
    *layout_of(c, op->out[0]) = plain_layout(c, op->out[0]);
    return 0;
}

int cpu_lower_map(Compiler *c, const Op *op, Error *e) {
    const MapSpec *m = op->map;
    if (leave_to_product(c, op, e)) return -1;
    if (note_of(c, c->op)->loop) return 0;
    const Value *v = value_of(c, op->out[0]);
    int64_t B = block_of(c, op);
    Layout layout = B > 1 ? layout_blocked((int)B, c->request->N, v->C, v->H, v->W)
                          : plain_layout(c, op->out[0]);
    MapJob job = {.map.formula = m->formula, .N = c->request->N, .B = B};
    int buffers[MAP_OPERANDS + 1] = {NO_BUFFER};
    if (B > 1) {
        job.blocks = (v->C + B - 1) / B, job.cells = v->H * v->W, job.tail = v->C % B;
        blocked_dimensions(c, op, B, &job.map);
    } else
        plain_dimensions(c, op, &job.map);
    merge_dimensions(&job.map);
    pair_sigmoids(&job.map);
    if (find_loop(cpu_of(c)->kernels, &m->formula, &job.map.loop, e) || give_registers(&job.map, e))
        return -1;
    for (int j = 0; j < m->formula.operands; j++) {
        int in = m->operand[j].input, b = buffers[j + 1] = operand_buffer(c, op, j, B, e);
        if (b < 0) return -1;
        if (in >= 0 && map_reads_whole(m, j) && b == c->buffer[op->in[in]] &&
            value_dies(c, op->in[in]))
            buffers[0] = b;
    }
    if (buffers[0] == NO_BUFFER && (buffers[0] = buffer_of(c, &layout, e)) < 0) return -1;
    if (!step_new(c, job.map.loop ? "map in one loop" : "map", run_map, m->formula.operands + 1,
                  buffers, &job, sizeof job, e))
        return -1;
    return deliver(c, op, &layout, buffers[0], (Done){0}, e);
}

/* --- sums --- */

/* at: x, y. */
static int run_reduce(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->reduce(s->job, s->at[0], s->at[1]);
    return 0;
}

static void add_dimension(Reduction *r, bool over, int64_t n, int64_t stride) {
    int *count = over ? &r->over : &r->kept;
    int64_t *ns = over ? r->over_n : r->kept_n, *strides = over ? r->over_stride : r->kept_stride;
    if (*count > 0 && strides[*count - 1] == stride * n) {
        ns[*count - 1] *= n;
        strides[*count - 1] = stride;
        return;
    }
    ns[*count] = n;
    strides[(*count)++] = stride;
}

static Reduction reduction_of(const Compiler *c, const ReduceSpec *s, bool batch) {
    Reduction r = {.scale = s->scale};
    int64_t stride[SHAPE_DIMS], step = 1;
    for (int d = s->shape.ndim - 1; d >= 0; d--) {
        stride[d] = step;
        step *= s->shape.dim[d];
    }
    add_dimension(&r, batch, c->request->N, step);
    for (int d = 0; d < s->shape.ndim; d++)
        if (s->shape.dim[d] > 1) add_dimension(&r, s->over[d], s->shape.dim[d], stride[d]);
    if (!r.over) add_dimension(&r, true, 1, 1);
    return r;
}

/* The sum of each plane of an image in blocks of channels. */
static bool sums_planes(const ReduceSpec *s) {
    return s->shape.ndim == 3 && !s->over[0] && (s->over[1] || s->shape.dim[1] == 1) &&
           (s->over[2] || s->shape.dim[2] == 1);
}

int cpu_lower_reduce(Compiler *c, const Op *op, Error *e) {
    const Value *v = value_of(c, op->out[0]), *x = value_of(c, op->in[0]);
    int64_t N = c->request->N, B = layout_block(layout_of(c, op->in[0]));
    bool planes = sums_planes(op->reduce) && B > 1 && v->H == 1 && v->W == 1;
    Layout from = planes ? *layout_of(c, op->in[0]) : plain_layout(c, op->in[0]);
    Layout layout = planes ? layout_blocked((int)B, N, v->C, 1, 1) : plain_layout(c, op->out[0]);
    Reduction r = reduction_of(c, op->reduce, false);
    if (planes) {
        int64_t blocks = (v->C + B - 1) / B, cells = x->H * x->W;
        r = (Reduction){.scale = op->reduce->scale};
        add_dimension(&r, false, N * blocks, cells * B);
        add_dimension(&r, true, cells, B);
        add_dimension(&r, false, B, 1);
    }
    int in = value_as(c, op->in[0], &from, e), out = in < 0 ? -1 : buffer_of(c, &layout, e);
    if (out < 0 || !step_new(c, "sum", run_reduce, 2, (int[]){in, out}, &r, sizeof r, e)) return -1;
    return deliver(c, op, &layout, out, (Done){0}, e);
}

int cpu_lower_reduce_param(Compiler *c, const Op *op, Error *e) {
    Layout from = plain_layout(c, op->in[0]);
    Reduction r = reduction_of(c, op->reduce, true);
    int in = value_as(c, op->in[0], &from, e);
    int out = in < 0 ? -1 : buffer_param_gradient(c, op->param[0], e);
    if (out < 0) return -1;
    return step_new(c, "parameter sum", run_reduce, 2, (int[]){in, out}, &r, sizeof r, e) ? 0 : -1;
}
