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

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t opA, cublasOperation_t opB,
                            int m, int n, int k, const void *alpha, const void *A,
                            cudaDataType Atype, int lda, const void *B, cudaDataType Btype, int ldb,
                            const void *beta, void *C, cudaDataType Ctype, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    CALL("cublasGemmEx");
    (void)algorithm;
    bool aT = opA == CUBLAS_OP_T, bT = opB == CUBLAS_OP_T, narrow = Atype == CUDA_R_16BF;
    if (m < 1 || n < 1 || k < 1 || lda < (aT ? k : m) || ldb < (bT ? n : k) || ldc < m)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (Atype != Btype || (Atype != CUDA_R_32F && !narrow) ||
        (Ctype != CUDA_R_32F && !(narrow && Ctype == CUDA_R_16BF)) ||
        (narrow && compute != CUBLAS_COMPUTE_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32, narrow_out = Ctype == CUDA_R_16BF;
    float a = *(const float *)alpha, b = *(const float *)beta;
    if (!handle->workspace) report("cuBLAS would take memory of its own in a call");
    auto run = [=]() {
        size_t size = narrow ? 2 : 4, out = narrow_out ? 2 : 4;
        int rowsA = aT ? k : m, columnsA = aT ? m : k, rowsB = bT ? n : k, columnsB = bT ? k : n;
        touch_read(A, extent(rowsA, columnsA, lda, size));
        touch_read(B, extent(rowsB, columnsB, ldb, size));
        if (b != 0) touch_read(C, extent(m, n, ldc, out));
        touch_write(C, extent(m, n, ldc, out));
        touch_write(handle->workspace, handle->bytes < 4096 ? handle->bytes : 4096);
        std::vector<float> left = dense(A, rowsA, columnsA, lda, narrow, tf32);
        std::vector<float> right = dense(B, rowsB, columnsB, ldb, narrow, tf32);
        std::vector<float> product((size_t)m * (size_t)n);
        /* row-major, so everything is transposed: C' = B' A' */
        if (dnnl_sgemm(bT ? 'T' : 'N', aT ? 'T' : 'N', n, m, k, a, right.data(), ldb, left.data(),
                       lda, 0, product.data(), m) != dnnl_success)
            report("dnnl_sgemm failed");
        for (int j = 0; j < n; j++) {
            std::vector<float> column(product.begin() + (long)j * m,
                                      product.begin() + (long)(j + 1) * m);
            from_floats(column, b, (char *)memory_seen(C) + (size_t)j * (size_t)ldc * out,
                        narrow_out);
        }
    };
    return enqueue(handle->stream, "cublasGemmEx", run) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
