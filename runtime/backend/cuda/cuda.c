/* The CUDA device itself: opens it, closes it, and reports its libraries' errors. */
#include "backend/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "device/plugin.h"

/* Scratch memory for cuBLAS, allocated once, so that no call allocates. */
enum { BLAS_WORKSPACE = 32 << 20 };

int cuda_check(const CudaDevice *d, cudaError_t status, const char *call, Error *e) {
    if (status == cudaSuccess) return 0;
    cudaGetLastError();
    return error_set(e, "%s: %s: %s (%s)", d->name, call, cudaGetErrorString(status),
                     cudaGetErrorName(status));
}

int cuda_check_blas(const CudaDevice *d, cublasStatus_t status, const char *call, Error *e) {
    if (status == CUBLAS_STATUS_SUCCESS) return 0;
    return error_set(e, "%s: %s: %s", d->name, call, cublasGetStatusString(status));
}

int cuda_check_dnn(const CudaDevice *d, cudnnStatus_t status, const char *call, Error *e) {
    char detail[160] = "";
    if (status == CUDNN_STATUS_SUCCESS) return 0;
    cudnnGetLastErrorString(detail, sizeof detail);
    detail[strcspn(detail, "\n")] = '\0';
    return error_set(e, "%s: %s: %s%s%s", d->name, call, cudnnGetErrorString(status),
                     *detail ? ": " : "", detail);
}

static void close_device(Device *base) {
    CudaDevice *d = (CudaDevice *)base;
    if (d->stream) cudaStreamSynchronize(d->stream);
    cuda_ascent_free(d);
    cuda_release(base, d->partial);
    cuda_release(base, d->blas_workspace);
    if (d->dnn) cudnnDestroy(d->dnn);
    if (d->blas) cublasDestroy(d->blas);
    cuda_slots_close(d);
    cuda_pool_empty(d);
    memory_free(d->pool.blocks);
    if (d->copies) cudaStreamDestroy(d->copies);
    if (d->stream) cudaStreamDestroy(d->stream);
    memory_free(d);
}

/* Selects GPU `index` for this thread and sets the device's name. */
static int choose(CudaDevice *d, int index, Error *e) {
    int count = 0, major = 0, minor = 0;
    snprintf(d->name, sizeof d->name, "cuda:%d", index);
    if (cuda_check(d, cudaGetDeviceCount(&count), "cudaGetDeviceCount", e)) return -1;
    if (index < 0 || index >= count)
        return error_set(e, "this machine has %d GPU%s, counted from 0", count,
                         count == 1 ? "" : "s");
    if (cuda_check(d, cudaSetDevice(index), "cudaSetDevice", e) ||
        cuda_check(d, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
                   "cudaDeviceGetAttribute", e) ||
        cuda_check(d, cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
                   "cudaDeviceGetAttribute", e))
        return -1;
    snprintf(d->isa, sizeof d->isa, "sm_%d%d", major, minor);
    d->base.bf16 = d->base.tf32 = major >= 8;
    return 0;
}

/* Capacity of the pool's list, so that it need not grow while plans are made. */
enum { POOL_BLOCKS = 4096 };

static int open_libraries(CudaDevice *d, Error *e) {
    d->pool.blocks = memory_zeroed(POOL_BLOCKS, sizeof *d->pool.blocks, "device memory", e);
    if (!d->pool.blocks) return -1;
    d->pool.room = POOL_BLOCKS;
    if (cuda_check(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
                   "cudaStreamCreate", e) ||
        cuda_check(d, cudaStreamCreateWithFlags(&d->copies, cudaStreamNonBlocking),
                   "cudaStreamCreate", e) ||
        cuda_slots_open(d, e) || cuda_check_blas(d, cublasCreate(&d->blas), "cublasCreate", e) ||
        cuda_check_dnn(d, cudnnCreate(&d->dnn), "cudnnCreate", e) ||
        cuda_take(&d->base, BLAS_WORKSPACE, "cuBLAS's workspace", &d->blas_workspace, e))
        return -1;
    if (cuda_check_blas(d, cublasSetStream(d->blas, d->stream), "cublasSetStream", e) ||
        cuda_check_blas(d, cublasSetWorkspace(d->blas, d->blas_workspace, BLAS_WORKSPACE),
                        "cublasSetWorkspace", e) ||
        cuda_check_dnn(d, cudnnSetStream(d->dnn, d->stream), "cudnnSetStream", e))
        return -1;
    return 0;
}

#define EXPORTED __attribute__((visibility("default")))

extern const char advrt_cuda_build[] EXPORTED;
const char advrt_cuda_build[] = DEVICE_BUILD;

/* The plugin's entry: opens GPU `index` as a device. */
EXPORTED int advrt_cuda_device(int index, Device **out, Error *e) {
    CudaDevice *d = memory_zeroed(1, sizeof *d, "device", e);
    if (!d) return -1;
    d->index = index;
    d->base.name = d->name;
    d->base.isa = d->isa;
    d->base.close = close_device;
    cuda_operations(&d->base);
    if (choose(d, index, e) || open_libraries(d, e)) {
        close_device(&d->base);
        return -1;
    }
    *out = &d->base;
    return 0;
}
