/* Matrix products on the device's own kernel (product.h). The kernel reads values and the graph's
 * weights in place, by their strides. A formula between two linear layers, as in a transformer,
 * becomes part of a product: forward, the product that reads the formula computes it; backward, the
 * product whose result the formula reads. */
#include <string.h>

#include "base/memory.h"
#include "backend/cpu/lower.h"

typedef struct ProductJob {
    MatrixProduct product;
    int64_t a_at, b_at, out_at;
    int64_t clear; /* elements of out that are set to 0 first */
    bool turned;   /* computed as out' = b' a' */
    bool biased;
} ProductJob;

/* at: a, b, out, scratch, the bias if there is one, and the formula's other operand if it has one.
 */
static int run_product(Plan *p, const Step *s, Error *e) {
    const ProductJob *job = s->job;
    const float *a = (const float *)s->at[0] + job->a_at, *b = (const float *)s->at[1] + job->b_at;
    float *out = s->at[2];
    (void)e;
    if (job->clear) memset(out, 0, (size_t)job->clear * sizeof *out);
    kernels_of(p)->product->run(
        &job->product, job->turned ? b : a, job->turned ? a : b, job->biased ? s->at[4] : NULL,
        s->buffers > 4 + job->biased ? s->at[4 + job->biased] : NULL, out + job->out_at, s->at[3]);
    return 0;
}

/* --- the product in the kernel's form --- */

static ProductFactor factor_of(const MatmulOperand *m, int64_t image) {
    return (ProductFactor){{image, m->step[0], m->step[1]}, m->row, m->column};
}

static ProductFactor transposed(ProductFactor f) {
    int64_t row = f.row;
    f.row = f.column;
    f.column = row;
    return f;
}

/* Merges products that continue each other along the rows, or along K. */
static void join(MatrixProduct *p, int d) {
    int64_t n = p->n[d];
    if (p->b.step[d] == 0 && p->a.step[d] == p->M * p->a.row &&
        p->out.step[d] == p->M * p->out.row) {
        p->M *= n;
    } else if (p->out.step[d] == 0 && p->a.step[d] == p->K * p->a.column &&
               p->b.step[d] == p->K * p->b.row) {
        p->K *= n;
    } else {
        return;
    }
    p->n[d] = 1;
    p->a.step[d] = p->b.step[d] = p->out.step[d] = 0;
}

/* Elements of one image of a value; 0 for a parameter. */
static int64_t image_of(const Compiler *c, int value) {
    const Value *v = value == NO_VALUE ? NULL : value_of(c, value);
    return v ? shape_elements(&v->shape) : 0;
}

static ProductJob product_job(const Compiler *c, const Op *op) {
    const MatmulSpec *s = op->matmul;
    ProductJob job = {.product = {.M = s->M,
                                  .N = s->N,
                                  .K = s->K,
                                  .n = {c->request->N, s->n[0], s->n[1]},
                                  .a = factor_of(&s->a, image_of(c, op->in[0])),
                                  .b = factor_of(&s->b, image_of(c, op->in[1])),
                                  .out = factor_of(&s->out, image_of(c, op->out[0])),
                                  .scale = (float)s->scale,
                                  .threads = cpu_of(c)->threads},
                      .a_at = s->a.at,
                      .b_at = s->b.at,
                      .out_at = s->out.at};
    MatrixProduct *p = &job.product;
    if (p->out.column != 1 && p->out.row == 1) {
        ProductFactor a = p->a;
        int64_t M = p->M;
        p->a = transposed(p->b), p->b = transposed(a), p->out = transposed(p->out);
        p->M = p->N, p->N = M;
        job.turned = true;
    }
    for (int d = PRODUCT_DIMS - 1; d >= 0; d--) join(p, d);
    return job;
}

/* Whether the products write every element of out. */
static bool makes_all(const MatmulSpec *s, int64_t elements) {
    int64_t made = s->M * s->N;
    for (int d = 0; d < 2; d++)
        if (s->out.step[d]) made *= s->n[d];
    return made >= elements;
}

/* What a product's step reads and writes. bias and beside may be NO_BUFFER. */
typedef struct ProductBuffers {
    int a, b, out, bias, beside;
} ProductBuffers;

static int emit_product(Compiler *c, const char *what, ProductJob *job, const ProductBuffers *at,
                        Error *e) {
    const ProductKernel *kernel = cpu_of(c)->kernels->product;
    int scratch = buffer_new(c, kernel->scratch(&job->product) * sizeof(float), e), n = 4;
    int buffers[6] = {at->a, at->b, at->out, scratch};
    if (scratch < 0) return -1;
    job->biased = at->bias != NO_BUFFER;
    if (job->biased) buffers[n++] = at->bias;
    if (at->beside != NO_BUFFER) buffers[n++] = at->beside;
    return step_new(c, what, run_product, n, buffers, job, sizeof *job, e) ? 0 : -1;
}

/* --- formulas that become part of a product --- */

/* Whether the whole of an op is one product, whose out is written in rows. */
static bool is_one(const MatrixProduct *p) {
    return p->n[0] * p->n[1] * p->n[2] == 1 && p->out.column == 1;
}

bool product_computes(const Compiler *c, const Op *matmul, int value) {
    ProductJob job = product_job(c, matmul);
    const MatrixProduct *p = &job.product;
    return is_one(p) && matmul->in[0] == value && matmul->in[1] == NO_VALUE && !job.turned &&
           p->a.column == 1 && p->N <= 2 * PRODUCT_COLUMNS && !op_rounds(c, matmul);
}

/* Whether the product's step can compute a map of the product's whole result. */
static bool computes_map(const Compiler *c, const Op *op, const ProductJob *job, const Op *map) {
    return map->map->formula.operands <= 2 && op_is_bare(op) && is_one(&job->product) &&
           !job->turned && makes_all(op->matmul, image_of(c, op->out[0]));
}

/* Whether every operand of a map that runs along rows has its place, now or as op's result. */
static bool has_operands(const Compiler *c, const Op *op, const Op *map) {
    for (int j = 0; j < map->map->formula.operands; j++) {
        int value = map->in[map->map->operand[j].input];
        if (value != op->out[0] && c->buffer[value] == NO_BUFFER) return false;
    }
    return true;
}

/* Makes the map that alone reads op's result, *map, a part of op's step: its loop, the operand that
 * the result is, and the buffer of the other one. *map is NULL if there is no such map. */
static int take_map(Compiler *c, const Op *op, ProductJob *job, ProductBuffers *at, const Op **map,
                    Error *e) {
    int next = value_only_reader(c, op->out[0], OP_MAP);
    const Op *m = next < 0 ? NULL : &c->program->ops[next];
    FormulaLoop *loop = NULL;
    *map = NULL;
    if (!m || !computes_map(c, op, job, m)) return 0;
    if (map_in_rows(c, m, &loop, e)) return -1;
    if (!loop || !has_operands(c, op, m)) return 0;
    Layout layout = plain_layout(c, m->out[0]);
    for (int j = 0; j < m->map->formula.operands; j++) {
        int value = m->in[m->map->operand[j].input];
        if (value == op->out[0])
            job->product.out_operand = j;
        else if ((at->beside = value_as(c, value, &layout, e)) < 0)
            return -1;
    }
    job->product.of_out = loop;
    c->claimed[next] = true;
    *map = m;
    return 0;
}

/* --- the lowerings --- */

/* A parameter, or a rounded copy if the op requires it. */
static int weights_of(Compiler *c, const Op *op, Error *e) {
    const ProgramParam *q = &c->program->params[op->param[0]];
    void *copy;
    if (!op_rounds(c, op)) return buffer_param(c, op->param[0], e);
    int kept = buffer_owned(c, (size_t)q->count * sizeof(float), "weights", &copy, e);
    if (kept >= 0 && !c->dry) cpu_of(c)->kernels->round_bf16(q->data, copy, q->count);
    return kept;
}

/* at: x, out. */
static int run_round(Plan *p, const Step *s, Error *e) {
    (void)e;
    kernels_of(p)->round_bf16(s->at[0], s->at[1], *(const int64_t *)s->job);
    return 0;
}

/* The op that maps this product's operand `value` and was left to the product; -1 if there is none.
 */
static int map_before(const Compiler *c, int value) {
    int maker = value_of(c, value)->made_by;
    return maker >= 0 && note_of(c, maker)->loop ? maker : -1;
}

/* The program rounds forward values, except when the forward half is in f32. */
static int operand(Compiler *c, const Op *op, int i, ProductJob *job, Error *e) {
    if (op->in[i] == NO_VALUE) return weights_of(c, op, e);
    Layout layout = plain_layout(c, op->in[i]);
    int before = map_before(c, op->in[i]);
    if (before >= 0) {
        const Op *map = &c->program->ops[before];
        job->product.of_a = note_of(c, before)->loop;
        return value_as(c, map->in[map->map->operand[0].input], &layout, e);
    }
    int in = value_as(c, op->in[i], &layout, e);
    bool gradient = value_of(c, op->in[i])->gradient_of != NO_VALUE;
    if (in < 0 || gradient || !op_rounds(c, op) || c->request->precision != PLAN_MIXED) return in;
    int64_t n = layout_elements(&layout);
    int rounded = buffer_of(c, &layout, e);
    if (rounded < 0 || !step_new(c, "round", run_round, 2, (int[]){in, rounded}, &n, sizeof n, e))
        return -1;
    return rounded;
}

int cpu_lower_matmul(Compiler *c, const Op *op, Error *e) {
    Layout layout = plain_layout(c, op->out[0]);
    ProductJob job = product_job(c, op);
    Done done = {.added = op->add != NO_VALUE};
    ProductBuffers at = {.beside = NO_BUFFER};
    const Op *map;
    at.bias = op->param[1] < 0 ? NO_BUFFER : buffer_param(c, op->param[1], e);
    at.a = operand(c, op, 0, &job, e), at.b = at.a < 0 ? -1 : operand(c, op, 1, &job, e);
    if (at.b < 0 || (op->param[1] >= 0 && at.bias < 0)) return -1;
    if (take_map(c, op, &job, &at, &map, e)) return -1;
    at.out = done.added ? value_to_overwrite(c, op->add, &layout, e) : buffer_of(c, &layout, e);
    if (at.out < 0) return -1;
    job.product.add = done.added;
    if (!done.added && !makes_all(op->matmul, image_of(c, op->out[0]))) {
        job.clear = layout_elements(&layout);
        job.product.add = true;
    }
    if (emit_product(c, op->backward ? "matmul back" : "matmul", &job, &at, e)) return -1;
    return deliver(c, map ? map : op, &layout, at.out, done, e);
}

int cpu_lower_matmul_param(Compiler *c, const Op *op, Error *e) {
    ProductJob job = product_job(c, op);
    ProductBuffers at = {.bias = NO_BUFFER, .beside = NO_BUFFER};
    at.a = operand(c, op, 0, &job, e), at.b = at.a < 0 ? -1 : operand(c, op, 1, &job, e);
    at.out = at.b < 0 ? -1 : buffer_param_gradient(c, op->param[0], e);
    return at.out < 0 ? -1 : emit_product(c, "matmul weights", &job, &at, e);
}
