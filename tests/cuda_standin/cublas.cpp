/* cuBLAS: the functions that the plugin calls, on oneDNN's matrix product. */
#include <cublas_v2.h>
#include <oneapi/dnnl/dnnl.h>

#include "machine.h"
#include "numbers.h"

using namespace standin;

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
    size_t bytes;
};

#define CALL(name)                                                                                 \
    if (call_fails(name)) return CUBLAS_STATUS_EXECUTION_FAILED

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle) {
    if (call_fails("cublasCreate")) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasContext{NULL, NULL, 0};
    made("cuBLAS handle");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    CALL("cublasDestroy");
    delete handle;
    destroyed("cuBLAS handle");
    return CUBLAS_STATUS_SUCCESS;
}

/* The workspace is the library's own again after it, as documented. */
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    CALL("cublasSetStream");
    *handle = {stream, NULL, 0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t bytes) {
    CALL("cublasSetWorkspace");
    if ((size_t)workspace % 256 || memory_room(workspace) < bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    handle->workspace = workspace;
    handle->bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasGetStatusString(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality requested is not supported";
    default: return "the function failed to launch on the GPU";
    }
}

/* Bytes of a column-major matrix from its first element to its last. */
static size_t extent(int rows, int columns, int ld, size_t size) {
    return ((size_t)ld * (size_t)(columns - 1) + (size_t)rows) * size;
}

static std::vector<float> dense(const void *m, int rows, int columns, int ld, bool bf16,
                                bool tf32) {
    size_t size = bf16 ? 2 : 4;
    return to_floats(memory_seen(m), extent(rows, columns, ld, size) / size, bf16, tf32);
}

/* One of a batch: out = alpha A B + beta out, column-major. */
struct Gemm {
    bool aT, bT, narrow, narrow_out, tf32;
    int m, n, k, lda, ldb, ldc;
    float alpha, beta;
};

static bool gemm_of(Gemm *g, cublasOperation_t opA, cublasOperation_t opB, cudaDataType Atype,
                    cudaDataType Btype, cudaDataType Ctype, cublasComputeType_t compute,
                    cublasStatus_t *status) {
    g->aT = opA == CUBLAS_OP_T, g->bT = opB == CUBLAS_OP_T, g->narrow = Atype == CUDA_R_16BF;
    g->narrow_out = Ctype == CUDA_R_16BF, g->tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    *status = CUBLAS_STATUS_INVALID_VALUE;
    if (g->m < 1 || g->n < 1 || g->k < 1 || g->lda < (g->aT ? g->k : g->m) ||
        g->ldb < (g->bT ? g->n : g->k) || g->ldc < g->m)
        return false;
    *status = CUBLAS_STATUS_NOT_SUPPORTED;
    return Atype == Btype && (Atype == CUDA_R_32F || g->narrow) &&
           (Ctype == CUDA_R_32F || (g->narrow && g->narrow_out)) &&
           (!g->narrow || compute == CUBLAS_COMPUTE_32F);
}

static void multiply(const Gemm &g, const void *A, const void *B, void *C) {
    size_t size = g.narrow ? 2 : 4, out = g.narrow_out ? 2 : 4;
    int rowsA = g.aT ? g.k : g.m, columnsA = g.aT ? g.m : g.k, rowsB = g.bT ? g.n : g.k,
        columnsB = g.bT ? g.k : g.n;
    touch_read(A, extent(rowsA, columnsA, g.lda, size));
    touch_read(B, extent(rowsB, columnsB, g.ldb, size));
    std::vector<float> left = dense(A, rowsA, columnsA, g.lda, g.narrow, g.tf32);
    std::vector<float> right = dense(B, rowsB, columnsB, g.ldb, g.narrow, g.tf32);
    std::vector<float> product((size_t)g.m * (size_t)g.n);
    /* row-major, so everything is transposed: C' = B' A' */
    if (dnnl_sgemm(g.bT ? 'T' : 'N', g.aT ? 'T' : 'N', g.n, g.m, g.k, g.alpha, right.data(), g.ldb,
                   left.data(), g.lda, 0, product.data(), g.m) != dnnl_success)
        report("dnnl_sgemm failed");
    for (int j = 0; j < g.n; j++) {
        char *column = (char *)C + (size_t)j * (size_t)g.ldc * out;
        if (g.beta != 0) touch_read(column, (size_t)g.m * out);
        touch_write(column, (size_t)g.m * out);
        from_floats(std::vector<float>(product.begin() + (long)j * g.m,
                                       product.begin() + (long)(j + 1) * g.m),
                    g.beta, memory_seen(column), g.narrow_out);
    }
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t opA, cublasOperation_t opB,
                            int m, int n, int k, const void *alpha, const void *A,
                            cudaDataType Atype, int lda, const void *B, cudaDataType Btype, int ldb,
                            const void *beta, void *C, cudaDataType Ctype, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    CALL("cublasGemmEx");
    return cublasGemmStridedBatchedEx(handle, opA, opB, m, n, k, alpha, A, Atype, lda, 0, B, Btype,
                                      ldb, 0, beta, C, Ctype, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t opA, cublasOperation_t opB, int m, int n, int k,
    const void *alpha, const void *A, cudaDataType Atype, int lda, long long stepA, const void *B,
    cudaDataType Btype, int ldb, long long stepB, const void *beta, void *C, cudaDataType Ctype,
    int ldc, long long stepC, int count, cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    CALL("cublasGemmStridedBatchedEx");
    (void)algorithm;
    cublasStatus_t status;
    Gemm g = {};
    g.m = m, g.n = n, g.k = k, g.lda = lda, g.ldb = ldb, g.ldc = ldc;
    g.alpha = *(const float *)alpha, g.beta = *(const float *)beta;
    if (count < 1 || !gemm_of(&g, opA, opB, Atype, Btype, Ctype, compute, &status))
        return count < 1 ? CUBLAS_STATUS_INVALID_VALUE : status;
    if (!handle->workspace) report("cuBLAS would take memory of its own in a call");
    auto run = [=]() {
        size_t size = g.narrow ? 2 : 4, out = g.narrow_out ? 2 : 4;
        touch_write(handle->workspace, handle->bytes < 4096 ? handle->bytes : 4096);
        for (long long i = 0; i < count; i++)
            multiply(g, (const char *)A + (size_t)(i * stepA) * size,
                     (const char *)B + (size_t)(i * stepB) * size,
                     (char *)C + (size_t)(i * stepC) * out);
    };
    return enqueue(handle->stream, "cublasGemm", run) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
