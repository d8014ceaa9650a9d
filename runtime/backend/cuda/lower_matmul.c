/* Matrix products on cuBLAS, of contiguous values and of parameters. */
#include <stdio.h>

#include "base/memory.h"
#include "backend/cuda/lower.h"

/* The matrices of a factor, one per image and index. cuBLAS needs contiguous rows or columns, and
 * takes the distance to the next row or column. */
typedef struct Factor {
    int64_t step[3], row, column, at;
} Factor;

typedef struct MatmulJob {
    BatchedProduct product;
    int64_t n[3]; /* number of calls in each dimension */
    Factor a, b, out;
    int64_t clear; /* elements of out that are set to 0 first */
    bool add;
} MatmulJob;

/* --- the product in cuBLAS's form --- */

static void exchange(int64_t *a, int64_t *b) {
    int64_t t = *a;
    *a = *b;
    *b = t;
}

static void turn(Factor *f) {
    exchange(&f->row, &f->column);
}

/* Merges products that continue each other along the rows, or along K. */
static void join(MatmulJob *j, int d) {
    BatchedProduct *p = &j->product;
    int64_t n = j->n[d];
    if (j->b.step[d] == 0 && j->a.step[d] == p->M * j->a.row &&
        j->out.step[d] == p->M * j->out.row) {
        p->M *= n;
    } else if (j->out.step[d] == 0 && j->a.step[d] == p->K * j->a.column &&
               j->b.step[d] == p->K * j->b.row) {
        p->K *= n;
    } else {
        return;
    }
    j->n[d] = 1;
    j->a.step[d] = j->b.step[d] = j->out.step[d] = 0;
}

/* Merges two dimensions whose strides continue each other. */
static void merge(MatmulJob *j, int outer, int inner) {
    Factor *f[3] = {&j->a, &j->b, &j->out};
    for (int i = 0; i < 3; i++)
        if (f[i]->step[outer] != j->n[inner] * f[i]->step[inner] && j->n[outer] > 1) return;
    for (int i = 0; i < 3; i++) f[i]->step[outer] = f[i]->step[inner], f[i]->step[inner] = 0;
    j->n[outer] *= j->n[inner];
    j->n[inner] = 1;
}

/* Chooses the dimension for the batched calls: the longest one whose products are not summed. */
static void choose_batch(MatmulJob *j) {
    int best = -1;
    for (int d = 0; d < 3; d++)
        if (j->out.step[d] && (best < 0 || j->n[d] > j->n[best])) best = d;
    j->product.count = 1;
    if (best < 0) return;
    j->product.count = j->n[best];
    j->product.a_step = j->a.step[best], j->product.b_step = j->b.step[best];
    j->product.out_step = j->out.step[best];
    j->n[best] = 1;
}

static int64_t image_of(const Compiler *c, int value) {
    return value == NO_VALUE ? 0 : value_elements(c, value) / c->request->N;
}

static Factor factor_of(const MatmulOperand *m, int64_t image) {
    return (Factor){{image, m->step[0], m->step[1]}, m->row, m->column, m->at};
}

static MatmulJob matmul_job(const Compiler *c, const Op *op, bool *turned) {
    const MatmulSpec *s = op->matmul;
    MatmulJob j = {.product = {.M = s->M,
                               .N = s->N,
                               .K = s->K,
                               .in = op_real(c, op),
                               .to = op_real(c, op),
                               .scale = (float)s->scale,
                               .tensor_cores = c->request->precision == PLAN_TF32},
                   .n = {c->request->N, s->n[0], s->n[1]},
                   .a = factor_of(&s->a, image_of(c, op->in[0])),
                   .b = factor_of(&s->b, image_of(c, op->in[1])),
                   .out = factor_of(&s->out, image_of(c, op->out[0]))};
    *turned = j.out.column != 1 && j.out.row == 1;
    if (*turned) {
        Factor a = j.a;
        j.a = j.b, j.b = a;
        turn(&j.a), turn(&j.b), turn(&j.out);
        exchange(&j.product.M, &j.product.N);
    }
    for (int d = 2; d >= 0; d--) join(&j, d);
    merge(&j, 1, 2);
    merge(&j, 0, 1);
    choose_batch(&j);
    return j;
}

/* --- the step --- */

/* Whether the elements of a row or of a column are contiguous. *across: those of a column are. */
static bool leading(const Factor *f, int64_t rows, int64_t columns, bool *across, int64_t *ld) {
    *across = f->column != 1 && columns > 1;
    *ld = *across ? f->column : f->row;
    int64_t least = *across ? rows : columns;
    if ((*across ? columns : rows) == 1 || *ld < least) *ld = least;
    return *across ? f->row == 1 || rows == 1 : true;
}

static bool describe(MatmulJob *j) {
    BatchedProduct *p = &j->product;
    bool across;
    if (!leading(&j->a, p->M, p->K, &p->a_turned, &p->a_ld) ||
        !leading(&j->b, p->K, p->N, &p->b_turned, &p->b_ld) ||
        !leading(&j->out, p->M, p->N, &across, &p->out_ld) || across)
        return false;
    return p->M <= INT32_MAX && p->N <= INT32_MAX && p->K <= INT32_MAX && p->count <= INT32_MAX &&
           p->a_ld <= INT32_MAX && p->b_ld <= INT32_MAX && p->out_ld <= INT32_MAX;
}

static char *place(void *base, const Factor *f, const int64_t i[3], Real real) {
    int64_t at = f->at;
    for (int d = 0; d < 3; d++) at += i[d] * f->step[d];
    return (char *)base + (size_t)at * real_bytes(real);
}

/* Whether a call is the first that writes its part of out. */
static bool first_there(const MatmulJob *j, const int64_t i[3]) {
    bool first = !j->add && !j->clear;
    for (int d = 0; d < 3; d++) first = first && (j->out.step[d] || i[d] == 0);
    return first;
}

/* at: a, b, out. */
static int run_matmul(Plan *p, const Step *s, Error *e) {
    const MatmulJob *j = s->job;
    BatchedProduct product = j->product;
    char who[160];
    snprintf(who, sizeof who, "layer '%s', %s", s->layer, s->what);
    if (j->clear && step_done(p, s, kernel_fill(stream_of(p), s->at[2], 0, j->clear), e)) return -1;
    for (int64_t call = 0; call < j->n[0] * j->n[1] * j->n[2]; call++) {
        int64_t i[3] = {call / (j->n[1] * j->n[2]), call / j->n[2] % j->n[1], call % j->n[2]};
        product.sum = !first_there(j, i);
        if (cuda_batched_product(cuda_of_plan(p), &product, place(s->at[0], &j->a, i, product.in),
                                 place(s->at[1], &j->b, i, product.in),
                                 place(s->at[2], &j->out, i, product.to), who, e))
            return -1;
    }
    return 0;
}

/* --- the lowerings --- */

static int weights_of(Compiler *c, const Op *op, Real real, Error *e) {
    const ProgramParam *q = &c->program->params[op->param[0]];
    size_t count = (size_t)q->count;
    if (real == REAL_F32) return buffer_param(c, op->param[0], e);
    float *host = memory_take(count * sizeof *host, "weights", e);
    int kept = -1;
    if (host && (c->dry || !c->device->copy_out(c->device, host, q->data, count * sizeof *host, e)))
        kept = buffer_weights(c, host, count, real, e);
    memory_free(host);
    return kept;
}

/* The operand, contiguous and in the Real of the op's products. */
static int operand(Compiler *c, const Op *op, int i, Error *e) {
    int value = op->in[i];
    Real wanted = op_real(c, op);
    if (value == NO_VALUE) return weights_of(c, op, wanted, e);
    Real real = value_of(c, value)->gradient_of == NO_VALUE ? forward_real(c) : backward_real(c);
    int in = value_plain(c, value, e);
    if (in < 0 || real == wanted) return in;
    int copy = buffer_of(c, value, wanted, e);
    return copy < 0 || emit_convert(c, real, in, wanted, copy, value_elements(c, value), e) ? -1
                                                                                            : copy;
}

static bool makes_all(const Op *op, int64_t elements) {
    const MatmulSpec *s = op->matmul;
    int64_t made = s->M * s->N;
    for (int d = 0; d < 2; d++)
        if (s->out.step[d]) made *= s->n[d];
    return made >= elements;
}

static int emit_matmul(Compiler *c, const Op *op, MatmulJob *job, bool turned, int out, Error *e) {
    int a = operand(c, op, 0, e), b = a < 0 ? -1 : operand(c, op, 1, e);
    const char *what = op->kind == OP_MATMUL_PARAM ? "matmul weights"
                       : op->backward              ? "matmul back"
                                                   : "matmul";
    if (b < 0) return -1;
    if (!describe(job)) return error_set(e, "cuBLAS cannot multiply matrices of these strides");
    return step_new(c, what, run_matmul, 3, (int[]){turned ? b : a, turned ? a : b, out}, job,
                    sizeof *job, e)
               ? 0
               : -1;
}

/* bf16 numbers are cleared two at a time. An odd count is safe: no other buffer uses the last
 * word. */
int cuda_lower_matmul(Compiler *c, const Op *op, Error *e) {
    bool turned;
    MatmulJob job = matmul_job(c, op, &turned);
    int bias = op->param[1] < 0 ? NO_BUFFER : buffer_param(c, op->param[1], e);
    if (op->param[1] >= 0 && bias < 0) return -1;
    int64_t n = value_elements(c, op->out[0]);
    int out = result_ordered(c, op, true, &job.add, e);
    if (out < 0) return -1;
    if (!job.add && !makes_all(op, n / c->request->N))
        job.clear = (n * (int64_t)real_bytes(op_real(c, op)) + 3) / 4;
    if (emit_matmul(c, op, &job, turned, out, e)) return -1;
    return deliver_as(c, op, true, out, bias, true, e);
}

int cuda_lower_matmul_param(Compiler *c, const Op *op, Error *e) {
    bool turned;
    MatmulJob job = matmul_job(c, op, &turned);
    int out = buffer_param_gradient(c, op->param[0], e);
    return out < 0 ? -1 : emit_matmul(c, op, &job, turned, out, e);
}
