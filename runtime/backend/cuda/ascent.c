#include "backend/cuda/ascent.h"

#include <string.h>

#include "base/interrupt.h"
#include "base/memory.h"
#include "backend/cuda/cuda.h"
#include "device/plan.h"

/* A captured step, kept for the next call with equal buffers and plan. */
struct CudaAscent {
    Ascent of;
    uint64_t plan_serial;
    cudaGraphExec_t graph; /* NULL until captured */
    void *memory;          /* the block that holds everything below */
    int64_t *step;
    uint8_t *flipped;
    AscentRow row;
};

void cuda_ascent_forget(CudaDevice *d) {
    struct CudaAscent *k = d->ascent;
    if (k && k->graph) cudaGraphExecDestroy(k->graph);
    if (k) k->graph = NULL;
}

void cuda_ascent_free(CudaDevice *d) {
    struct CudaAscent *k = d->ascent;
    if (!k) return;
    cuda_ascent_forget(d);
    cuda_release(&d->base, k->memory);
    memory_free(k);
    d->ascent = NULL;
}

/* Splits one block into the arrays of a row for N images. */
static void cut(struct CudaAscent *k, int64_t N) {
    int64_t *whole = k->memory;
    k->step = whole;
    k->row.stats.prediction = whole + 1;
    double *d = (double *)(whole + 1 + N);
    double **doubles[] = {&k->row.grad_l2, &k->row.grad_linf, &k->row.zero_share,
                          &k->row.q_l2,    &k->row.q_linf,    &k->row.q_zero,
                          &k->row.a,       &k->row.l2,        &k->row.linf};
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++, d += N) *doubles[i] = d;
    float *f = (float *)d;
    k->row.stats.p_initial = f, k->row.stats.p_target = f + N;
    k->row.stats.z_initial = f + 2 * N, k->row.stats.z_target = f + 3 * N;
    k->row.stats.subspace = (uint8_t *)(f + 4 * N);
    k->flipped = k->row.stats.subspace + N;
    if (!k->of.sign) k->row.q_l2 = k->row.grad_l2, k->row.q_linf = k->row.grad_linf;
}

static bool same_buffers(const Ascent *a, const Ascent *b) {
    return a->initial == b->initial && a->target == b->target && a->x0 == b->x0 && a->x == b->x &&
           a->q == b->q && a->first == b->first && a->z == b->z && a->dz == b->dz &&
           a->value == b->value && a->flip_iteration == b->flip_iteration &&
           a->zero_steps == b->zero_steps && a->flip_l2 == b->flip_l2 &&
           a->flip_linf == b->flip_linf && a->p_initial == b->p_initial &&
           a->p_target == b->p_target && a->z_initial == b->z_initial &&
           a->z_target == b->z_target && a->grad_l2 == b->grad_l2 && a->step_l2 == b->step_l2 &&
           a->l2 == b->l2 && a->linf == b->linf && a->zero_share == b->zero_share &&
           a->subspace == b->subspace;
}

/* Whether the captured step of one attack also serves the other. */
static bool same(const Ascent *a, const Ascent *b) {
    for (int i = 0; i < LOSS_PARAMETERS; i++)
        if (a->loss.p[i] != b->loss.p[i]) return false;
    return a->plan == b->plan && a->loss.loss == b->loss.loss && a->sign == b->sign &&
           a->rule == b->rule && a->size == b->size && a->iterations == b->iterations &&
           a->box.low == b->box.low && a->box.high == b->box.high && same_buffers(a, b);
}

static int prepare(CudaDevice *d, const Ascent *a, Error *e) {
    int64_t N = a->plan->request.N;
    uint64_t serial = a->plan->serial;
    if (d->ascent && d->ascent->plan_serial == serial && same(&d->ascent->of, a)) return 0;
    cuda_ascent_free(d);
    struct CudaAscent *k = memory_zeroed(1, sizeof *k, "attack", e);
    if (!k) return -1;
    k->of = *a;
    k->plan_serial = serial;
    d->ascent = k;
    size_t bytes = (size_t)(8 * (1 + 10 * N) + 18 * N);
    if (cuda_take(&d->base, bytes, "attack", &k->memory, e)) {
        cuda_ascent_free(d);
        return -1;
    }
    cut(k, N);
    return 0;
}

/* Queues one step: Eq. 11-16 and everything recorded about it. */
static int run_step(CudaDevice *d, struct CudaAscent *k, Error *e) {
    const Ascent *a = &k->of;
    const AscentRow *r = &k->row;
    Plan *p = a->plan;
    Device *base = &d->base;
    int64_t N = p->request.N, D = p->C * p->H * p->W, K = p->K;
    if (plan_forward(p, a->x, a->z, e) ||
        base->logit_stats(base, a->z, a->initial, a->target, N, K, &r->stats, e) ||
        base->loss(base, &a->loss, a->z, a->target, N, K, a->value, a->dz, e) ||
        plan_backward(p, a->dz, a->q, e) ||
        base->norms(base, a->q, N, D, r->grad_l2, r->grad_linf, r->zero_share, e))
        return -1;
    if (a->sign && (base->sign(base, a->q, a->q, N * D, e) ||
                    base->norms(base, a->q, N, D, r->q_l2, r->q_linf, r->q_zero, e)))
        return -1;
    if (cuda_check(d, kernel_observe(d->stream, a, r, k->step, k->flipped, N, D), "a step's notes",
                   e))
        return -1;
    return base->step(base, a->x, a->q, r->a, a->x0, a->box, N, D, r->l2, r->linf, e);
}

static int capture(CudaDevice *d, struct CudaAscent *k, Error *e) {
    cudaGraph_t graph = NULL;
    Error lost = {0};
    if (cuda_check(d, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal),
                   "cudaStreamBeginCapture", e))
        return -1;
    int failed = run_step(d, k, e);
    failed = cuda_check(d, cudaStreamEndCapture(d->stream, &graph), "cudaStreamEndCapture",
                        failed ? &lost : e) ||
             failed;
    if (!failed)
        failed =
            cuda_check(d, cudaGraphInstantiate(&k->graph, graph, 0), "cudaGraphInstantiate", e);
    if (graph) cudaGraphDestroy(graph);
    return failed ? -1 : 0;
}

int cuda_ascend(Device *base, const Ascent *a, int64_t first, int64_t end, Error *e) {
    CudaDevice *d = (CudaDevice *)base;
    int64_t N = a->plan->request.N;
    size_t row = (size_t)N * sizeof(double);
    if (prepare(d, a, e)) return -1;
    struct CudaAscent *k = d->ascent;
    if (cuda_copy_in(base, k->step, &first, sizeof first, e) ||
        cuda_copy(base, k->row.l2, a->l2 + first * N, row, e) ||
        cuda_copy(base, k->row.linf, a->linf + first * N, row, e))
        return -1;
    for (int64_t n = first; n < end; n++) {
        /* The first step is not captured: libraries load their kernels at the first call, and only
         * then does cuDNN report what it cannot fuse. A plan that is being timed is not captured
         * either. */
        bool alone = n == first && !k->graph;
        bool timed = a->plan->timed;
        if (interrupt_check(e)) return -1;
        if (!alone && !timed && !k->graph && capture(d, k, e)) return -1;
        if (alone || timed
                ? run_step(d, k, e)
                : cuda_check(d, cudaGraphLaunch(k->graph, d->stream), "cudaGraphLaunch", e))
            return -1;
    }
    if (end <= a->iterations && (cuda_copy(base, a->l2 + end * N, k->row.l2, row, e) ||
                                 cuda_copy(base, a->linf + end * N, k->row.linf, row, e)))
        return -1;
    return cuda_check(d, cudaStreamSynchronize(d->stream), "cudaStreamSynchronize", e);
}
