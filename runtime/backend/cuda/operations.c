/* The operations of device.h on tensors. Each one launches kernels; only those that copy numbers to
 * the host wait. */
#include <stdio.h>

#include "base/memory.h"
#include "backend/cuda/cuda.h"

static CudaDevice *cuda_of(Device *d) {
    return (CudaDevice *)d;
}

/* Turns the status of a launch over n elements into an error. */
static int launched(Device *base, cudaError_t status, const char *operation, int64_t n, Error *e) {
    if (status == cudaSuccess) return 0;
    char call[64];
    snprintf(call, sizeof call, "%s of %lld elements", operation, (long long)n);
    return cuda_check(cuda_of(base), status, call, e);
}

/* The same for N rows of K elements. */
static int launched_rows(Device *base, cudaError_t status, const char *operation, int64_t N,
                         int64_t K, Error *e) {
    if (status == cudaSuccess) return 0;
    char call[96];
    snprintf(call, sizeof call, "%s of [%lld,%lld]", operation, (long long)N, (long long)K);
    return cuda_check(cuda_of(base), status, call, e);
}

static int fill(Device *d, float *out, float value, int64_t n, Error *e) {
    return launched(d, kernel_fill(cuda_of(d)->stream, out, value, n), "fill", n, e);
}

static int binary(Device *d, BinaryOp op, const float *a, const float *b, float *out, int64_t n,
                  Error *e) {
    return launched(d, kernel_binary(cuda_of(d)->stream, op, a, b, out, n), "arithmetic", n, e);
}

static int binary_scalar(Device *d, BinaryOp op, const float *a, float b, float *out, int64_t n,
                         Error *e) {
    return launched(d, kernel_binary_scalar(cuda_of(d)->stream, op, a, b, out, n), "arithmetic", n,
                    e);
}

static int clamp(Device *d, const float *a, float low, float high, float *out, int64_t n,
                 Error *e) {
    return launched(d, kernel_clamp(cuda_of(d)->stream, a, low, high, out, n), "clamp", n, e);
}

static int quantize(Device *d, const float *a, float levels, float *out, int64_t n, Error *e) {
    return launched(d, kernel_quantize(cuda_of(d)->stream, a, levels, out, n), "quantize", n, e);
}

static int sign(Device *d, const float *a, float *out, int64_t n, Error *e) {
    return launched(d, kernel_sign(cuda_of(d)->stream, a, out, n), "sign", n, e);
}

static int sgd(Device *d, const SgdStep *s, float *p, const float *g, float *m, int64_t P,
               Error *e) {
    return launched(d, kernel_sgd(cuda_of(d)->stream, s, p, g, m, P), "sgd", P, e);
}

static int adam(Device *d, const AdamStep *s, float *p, const float *g, float *m, float *v,
                int64_t P, Error *e) {
    return launched(d, kernel_adam(cuda_of(d)->stream, s, p, g, m, v, P), "adam", P, e);
}

static int loss(Device *d, const LossCall *call, const float *z, const int64_t *target, int64_t N,
                int64_t K, float *value, float *dz, Error *e) {
    LossKernel kernel = kernel_of_loss(call->loss->name);
    if (!kernel)
        return error_set(e, "device %s does not compute loss %s: use --device cpu", d->name,
                         call->loss->name);
    return launched_rows(d, kernel(cuda_of(d)->stream, call->p, z, target, N, K, value, dz), "loss",
                         N, K, e);
}

static int logit_stats(Device *d, const float *z, const int64_t *initial, const int64_t *target,
                       int64_t N, int64_t K, const LogitStats *out, Error *e) {
    return launched_rows(d, kernel_logit_stats(cuda_of(d)->stream, z, initial, target, N, K, out),
                         "stats", N, K, e);
}

/* Copies each row's loss and correctness to the host and sums them there, in double. */
static int cross_entropy(Device *d, const float *z, const int64_t *label, int64_t N, int64_t K,
                         double *host_loss, int64_t *host_correct, float *dz, Error *e) {
    size_t rows = (size_t)N;
    void *device = NULL;
    char *host = memory_take(rows * 12, "losses of a batch", e);
    if (!host || d->take(d, rows * 12, "losses of a batch", &device, e)) {
        memory_free(host);
        return -1;
    }
    int64_t *correct = device, *host_rows = (int64_t *)host;
    float *value = (float *)(correct + N), *host_value = (float *)(host_rows + N);
    int failed =
        launched_rows(d,
                      kernel_cross_entropy(cuda_of(d)->stream, z, label, N, K, value, correct, dz),
                      "cross_entropy", N, K, e) ||
        d->copy_out(d, host, device, rows * 12, e);
    *host_loss = 0;
    *host_correct = 0;
    for (int64_t n = 0; n < N && !failed; n++) {
        *host_loss -= (double)host_value[n];
        *host_correct += host_rows[n];
    }
    *host_loss /= (double)N;
    d->release(d, device);
    memory_free(host);
    return failed ? -1 : 0;
}

/* Makes room for the partial results of the blocks of a batch [N,D]. */
static int want_partials(CudaDevice *d, int64_t N, int64_t D, Error *e) {
    size_t n = (size_t)(N * kernel_pieces(D));
    void *larger;
    if (n <= d->partials) return 0;
    if (N * kernel_pieces(D) > INT32_MAX)
        return error_set(e, "%s: a batch of [%lld,%lld] has too many pieces", d->name, (long long)N,
                         (long long)D);
    if (d->base.take(&d->base, n * sizeof *d->partial, "partial sums", &larger, e)) return -1;
    cuda_ascent_forget(d); /* a captured step uses the old buffers */
    d->base.release(&d->base, d->partial);
    d->partial = larger;
    d->partials = n;
    return 0;
}

static int norms(Device *base, const float *q, int64_t N, int64_t D, double *l2, double *linf,
                 double *zero_share, Error *e) {
    CudaDevice *d = cuda_of(base);
    if (want_partials(d, N, D, e)) return -1;
    return launched_rows(base, kernel_norms(d->stream, q, N, D, d->partial, l2, linf, zero_share),
                         "norms", N, D, e);
}

static int step(Device *base, float *x, const float *q, const double *a, const float *x0, Box box,
                int64_t N, int64_t D, double *l2, double *linf, Error *e) {
    CudaDevice *d = cuda_of(base);
    if (want_partials(d, N, D, e)) return -1;
    return launched_rows(base, kernel_step(d->stream, x, q, a, x0, box, N, D, d->partial, l2, linf),
                         "step", N, D, e);
}

static int project(Device *d, float *x, const float *x0, const double *s, const double *r,
                   int64_t N, int64_t D, Error *e) {
    return launched_rows(d, kernel_project(cuda_of(d)->stream, x, x0, s, r, N, D), "project", N, D,
                         e);
}

static int tanh_step(Device *base, const AdamStep *s, const TanhStep *a, int64_t N, int64_t D,
                     Error *e) {
    CudaDevice *d = cuda_of(base);
    if (want_partials(d, N, D, e)) return -1;
    return launched_rows(base, kernel_tanh_step(d->stream, s, a, N, D, d->partial), "tanh_step", N,
                         D, e);
}

/* --- the operations of autograd --- */

static int map(Device *d, MapOp op, const float *a, float *out, int64_t n, Error *e) {
    return launched(d, kernel_map(cuda_of(d)->stream, op, a, out, n), "map", n, e);
}

static int broadcast(Device *d, BinaryOp op, const Broadcast *s, const float *a, const float *b,
                     float *out, Error *e) {
    return launched(d, kernel_broadcast(cuda_of(d)->stream, op, s, a, b, out), "broadcast",
                    s->shape[0], e);
}

static int reduce(Device *d, ReduceOp op, const float *a, RowShape r, float *out, Error *e) {
    return launched_rows(d, kernel_reduce(cuda_of(d)->stream, op, a, r, out), "reduce",
                         r.outer * r.inner, r.K, e);
}

static int softmax(Device *d, SoftmaxKind kind, const float *a, RowShape r, float *out, Error *e) {
    return launched_rows(d, kernel_softmax(cuda_of(d)->stream, kind, a, r, out), "softmax",
                         r.outer * r.inner, r.K, e);
}

static int top(Device *d, const float *a, RowShape r, int64_t k, float *value, int64_t *index,
               Error *e) {
    return launched_rows(d, kernel_top(cuda_of(d)->stream, a, r, k, value, index), "top",
                         r.outer * r.inner, r.K, e);
}

static int gather(Device *d, bool others, const float *a, const int64_t *index, RowShape r,
                  int64_t J, float *out, Error *e) {
    return launched_rows(d, kernel_gather(cuda_of(d)->stream, others, a, index, r, J, out),
                         "gather", r.outer * r.inner, r.K, e);
}

static int scatter(Device *d, bool others, const float *dy, const int64_t *index, RowShape r,
                   int64_t J, float *da, Error *e) {
    return launched_rows(d, kernel_scatter(cuda_of(d)->stream, others, dy, index, r, J, da),
                         "scatter", r.outer * r.inner, r.K, e);
}

static cudaDataType_t type_of(Real r) {
    return r == REAL_F32 ? CUDA_R_32F : CUDA_R_16BF;
}

/* cuBLAS reads a row-major matrix as its transpose, so out' = b' a'. */
int cuda_product(CudaDevice *d, const Product *p, const void *a, const void *b, void *out,
                 const char *who, Error *e) {
    static const float one = 1, zero = 0;
    int M = (int)p->M, K = (int)p->K, N = (int)p->N;
    bool aT = p->kind == MATMUL_TN, bT = p->kind == MATMUL_NT;
    cublasComputeType_t compute = p->in != REAL_F32 ? CUBLAS_COMPUTE_32F
                                  : p->tensor_cores ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                    : CUBLAS_COMPUTE_32F_PEDANTIC;
    cublasStatus_t status =
        cublasGemmEx(d->blas, bT ? CUBLAS_OP_T : CUBLAS_OP_N, aT ? CUBLAS_OP_T : CUBLAS_OP_N, N, M,
                     K, &one, b, type_of(p->in), bT ? K : N, a, type_of(p->in), aT ? M : K,
                     p->sum ? &one : &zero, out, type_of(p->to), N, compute, CUBLAS_GEMM_DEFAULT);
    if (status == CUBLAS_STATUS_SUCCESS) return 0;
    char call[256];
    snprintf(call, sizeof call, "%s: cublasGemmEx of [%d,%d] and [%d,%d]", who, M, K, K, N);
    return cuda_check_blas(d, status, call, e);
}

int cuda_batched_product(CudaDevice *d, const BatchedProduct *p, const void *a, const void *b,
                         void *out, const char *who, Error *e) {
    const float one = 1, zero = 0;
    cublasComputeType_t compute = p->in != REAL_F32 ? CUBLAS_COMPUTE_32F
                                  : p->tensor_cores ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                    : CUBLAS_COMPUTE_32F_PEDANTIC;
    cublasStatus_t status = cublasGemmStridedBatchedEx(
        d->blas, p->b_turned ? CUBLAS_OP_T : CUBLAS_OP_N, p->a_turned ? CUBLAS_OP_T : CUBLAS_OP_N,
        (int)p->N, (int)p->M, (int)p->K, &p->scale, b, type_of(p->in), (int)p->b_ld, p->b_step, a,
        type_of(p->in), (int)p->a_ld, p->a_step, p->sum ? &one : &zero, out, type_of(p->to),
        (int)p->out_ld, p->out_step, (int)p->count, compute, CUBLAS_GEMM_DEFAULT);
    if (status == CUBLAS_STATUS_SUCCESS) return 0;
    char call[256];
    snprintf(call, sizeof call, "%s: cublasGemmStridedBatchedEx of %d [%d,%d] and [%d,%d]", who,
             (int)p->count, (int)p->M, (int)p->K, (int)p->K, (int)p->N);
    return cuda_check_blas(d, status, call, e);
}

static int matmul(Device *base, MatmulKind kind, const float *a, const float *b, float *out,
                  int64_t M, int64_t K, int64_t N, Error *e) {
    CudaDevice *d = cuda_of(base);
    if (M > INT32_MAX || K > INT32_MAX || N > INT32_MAX)
        return error_set(e, "%s: a product of [%lld,%lld] and [%lld,%lld] is too large", d->name,
                         (long long)M, (long long)K, (long long)K, (long long)N);
    if (M == 0 || N == 0) return 0;
    if (K == 0) return fill(base, out, 0, M * N, e);
    Product p = {.kind = kind, .M = M, .K = K, .N = N};
    return cuda_product(d, &p, a, b, out, "matmul", e);
}

void cuda_operations(Device *d) {
    d->take = cuda_take;
    d->release = cuda_release;
    d->copy_in = cuda_copy_in;
    d->copy_out = cuda_copy_out;
    d->copy = cuda_copy;
    d->fill = fill;
    d->binary = binary;
    d->binary_scalar = binary_scalar;
    d->clamp = clamp;
    d->quantize = quantize;
    d->sign = sign;
    d->loss = loss;
    d->logit_stats = logit_stats;
    d->cross_entropy = cross_entropy;
    d->norms = norms;
    d->step = step;
    d->sgd = sgd;
    d->adam = adam;
    d->project = project;
    d->tanh_step = tanh_step;
    d->map = map;
    d->broadcast = broadcast;
    d->reduce = reduce;
    d->softmax = softmax;
    d->top = top;
    d->gather = gather;
    d->scatter = scatter;
    d->matmul = matmul;
    d->ascend = cuda_ascend;
    d->alignment = 256;
    d->lower_begin = cuda_lower_begin;
    d->lower = cuda_lower;
    d->lower_end = cuda_lower_end;
    d->run_timed = cuda_run_timed;
    d->plan_ends = cuda_plan_ends;
    d->free_bytes = cuda_free_bytes;
    d->taken_for = cuda_taken_for;
#if __has_include(<nccl.h>)
    d->group_id = cuda_group_id;
    d->group_new = cuda_group_new;
#endif
}
