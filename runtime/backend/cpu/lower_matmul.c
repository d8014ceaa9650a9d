/* Products of matrices on the device's own kernel (product.h): it reads values and the graph's
 * weights where they lie, by their strides. */
#include <string.h>

#include "base/memory.h"
#include "backend/cpu/lower.h"

typedef struct ProductJob {
    MatrixProduct product;
    int64_t a_at, b_at, out_at;
    int64_t clear; /* elements of out that become 0 before */
    bool turned;   /* computed as out' = b' a' */
} ProductJob;

/* at: a, b, out, scratch, and the bias where there is one. */
static int run_product(Plan *p, const Step *s, Error *e) {
    const ProductJob *job = s->job;
    const float *a = (const float *)s->at[0] + job->a_at, *b = (const float *)s->at[1] + job->b_at;
    float *out = s->at[2];
    (void)e;
    if (job->clear) memset(out, 0, (size_t)job->clear * sizeof *out);
    kernels_of(p)->product->run(&job->product, job->turned ? b : a, job->turned ? a : b,
                                s->buffers > 4 ? s->at[4] : NULL, out + job->out_at, s->at[3]);
    return 0;
}

/* --- the product as the kernel takes it --- */

static ProductFactor factor_of(const MatmulOperand *m, int64_t image) {
    return (ProductFactor){{image, m->step[0], m->step[1]}, m->row, m->column};
}

static ProductFactor transposed(ProductFactor f) {
    int64_t row = f.row;
    f.row = f.column;
    f.column = row;
    return f;
}

/* Products that follow one another along the rows, or along K, are one. */
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

/* Elements of an image of a value; 0 of a parameter. */
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

/* Whether the products make every element of out. */
static bool makes_all(const MatmulSpec *s, int64_t elements) {
    int64_t made = s->M * s->N;
    for (int d = 0; d < 2; d++)
        if (s->out.step[d]) made *= s->n[d];
    return made >= elements;
}

static int emit_product(Compiler *c, const char *what, const ProductJob *job, int a, int b, int out,
                        int bias, Error *e) {
    const ProductKernel *kernel = cpu_of(c)->kernels->product;
    int scratch = buffer_new(c, kernel->scratch(&job->product) * sizeof(float), e);
    if (scratch < 0) return -1;
    return step_new(c, what, run_product, bias == NO_BUFFER ? 4 : 5,
                    (int[]){a, b, out, scratch, bias}, job, sizeof *job, e)
               ? 0
               : -1;
}

/* --- the lowerings --- */

/* A parameter, or its copy rounded as the op asks. */
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

/* Forward's values are rounded in the program, but not where forward is of f32. */
static int operand(Compiler *c, const Op *op, int i, Error *e) {
    if (op->in[i] == NO_VALUE) return weights_of(c, op, e);
    Layout layout = plain_layout(c, op->in[i]);
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
    int bias = op->param[1] < 0 ? NO_BUFFER : buffer_param(c, op->param[1], e);
    int a = operand(c, op, 0, e), b = a < 0 ? -1 : operand(c, op, 1, e);
    if (b < 0 || (op->param[1] >= 0 && bias < 0)) return -1;
    int out = done.added ? value_to_overwrite(c, op->add, &layout, e) : buffer_of(c, &layout, e);
    if (out < 0) return -1;
    job.product.add = done.added;
    if (!done.added && !makes_all(op->matmul, image_of(c, op->out[0]))) {
        job.clear = layout_elements(&layout);
        job.product.add = true;
    }
    if (emit_product(c, op->backward ? "matmul back" : "matmul", &job, a, b, out, bias, e))
        return -1;
    return deliver(c, op, &layout, out, done, e);
}

int cpu_lower_matmul_param(Compiler *c, const Op *op, Error *e) {
    ProductJob job = product_job(c, op);
    int a = operand(c, op, 0, e), b = a < 0 ? -1 : operand(c, op, 1, e);
    int out = b < 0 ? -1 : buffer_param_gradient(c, op->param[0], e);
    return out < 0 ? -1 : emit_product(c, "matmul weights", &job, a, b, out, NO_BUFFER, e);
}
