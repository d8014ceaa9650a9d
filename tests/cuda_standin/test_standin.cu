/* The stand-in itself: what it lets pass, and the mistakes that it must catch, each made on purpose
 * in a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}
#include <cublas_v2.h>
#include <cudnn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cuda/launch.h"
#include "standin.h"

static cudaStream_t stream_new() {
    cudaStream_t s;
    assert_int_equal(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    return s;
}

template <typename T> static T *device_new(int64_t n) {
    T *p;
    assert_int_equal(cudaMalloc((void **)&p, (size_t)n * sizeof(T)), cudaSuccess);
    return p;
}

static float *pinned_new(int64_t n) {
    float *p;
    assert_int_equal(cudaMallocHost((void **)&p, (size_t)n * sizeof(float)), cudaSuccess);
    return p;
}

static void sync(cudaStream_t s) {
    assert_int_equal(cudaStreamSynchronize(s), cudaSuccess);
}

/* Runs `work` in a child that must be ended by `signal` having said `text` (NULL: nothing). */
static void caught(void (*work)(), int signal, const char *text) {
    int ends[2];
    char said[4096] = "";
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        ::signal(SIGSEGV, SIG_DFL); /* cmocka's own would turn it into a failure */
        work();
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; (got = read(ends[0], said + n, sizeof said - 1 - n)) > 0;) n += (size_t)got;
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != signal)
        fail_msg("not caught: '%s', status %d, '%s'", text, status, said);
    if (text && !strstr(said, text)) fail_msg("wanted '%s', it said '%s'", text, said);
}

/* --- kernels, good and broken --- */

static __global__ void scale(const float *a, float *out, float factor, int64_t n) {
    EACH(i, n) out[i] = factor * a[i];
}

static __global__ void off_by_one(float *out, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) out[i] = 1;
}

/* Turns each block's stretch around in shared memory. */
static __global__ void turn(float *a, bool barrier) {
    SHARED(float, kept, 64);
    kept[threadIdx.x] = a[blockIdx.x * 64 + threadIdx.x];
    if (barrier) __syncthreads();
    a[blockIdx.x * 64 + threadIdx.x] = kept[63 - threadIdx.x];
}

static __global__ void outside_of_shared(float *out) {
    SHARED(float, few, 32);
    few[threadIdx.x + 1] = 1;
    __syncthreads();
    out[threadIdx.x] = few[threadIdx.x];
}

static __global__ void half_at_barrier(float *out) {
    if (threadIdx.x < 16) __syncthreads();
    out[threadIdx.x] = 1;
}

static __global__ void half_of_warp(float *out) {
    float v = 1;
    if (threadIdx.x < 16) v = warp_sum(v);
    out[threadIdx.x] = v;
}

static __global__ void all_to_one(float *out) {
    out[0] = (float)blockIdx.x;
}

static __global__ void sum_of_warps(const float *a, float *out) {
    float v = warp_sum(a[blockIdx.x * 64 + threadIdx.x]);
    if (threadIdx.x % WARP == 0) out[blockIdx.x * 2 + threadIdx.x / WARP] = v;
}

static __global__ void add_one(float *a) {
    a[threadIdx.x] += 1;
}

/* --- what is right --- */

static void test_threads(void **) {
    enum { N = 64 * 50 };
    cudaStream_t s = stream_new();
    float *host = pinned_new(N), *a = device_new<float>(N), *sums = device_new<float>(100);
    for (int i = 0; i < N; i++) host[i] = (float)i;
    assert_int_equal(cudaMemcpyAsync(a, host, N * 4, cudaMemcpyHostToDevice, s), 0);
    assert_int_equal(LAUNCH(turn, 50, 64, s, a, true), 0);
    assert_int_equal(LAUNCH(sum_of_warps, 50, 64, s, a, sums), 0);
    sync(s);
    assert_int_equal(cudaMemcpyAsync(host, a, N * 4, cudaMemcpyDeviceToHost, s), 0);
    sync(s);
    for (int i = 0; i < N; i++) assert_true(host[i] == (float)(i / 64 * 64 + 63 - i % 64));
    assert_int_equal(cudaMemcpyAsync(host, sums, 400, cudaMemcpyDeviceToHost, s), 0);
    sync(s);
    for (int i = 0; i < 100; i++) {
        int first = i / 2 * 64 + (i % 2 ? 0 : 32); /* turned around, the later half comes first */
        assert_true(host[i] == (float)(32 * first + 31 * 16));
    }
    cudaFree(a), cudaFree(sums), cudaFreeHost(host), cudaStreamDestroy(s);
    assert_int_equal(standin_leaks(), 0);
}

/* Nothing runs before something waits for it: a host that does not wait reads poison. */
static void test_laziness(void **) {
    cudaStream_t s = stream_new();
    float *host = pinned_new(4), *back = pinned_new(4), *a = device_new<float>(4);
    for (int i = 0; i < 4; i++) host[i] = 5;
    assert_int_equal(cudaMemcpyAsync(a, host, 16, cudaMemcpyHostToDevice, s), 0);
    assert_int_equal(cudaMemcpyAsync(back, a, 16, cudaMemcpyDeviceToHost, s), 0);
    assert_true(back[0] != back[0]);
    sync(s);
    assert_true(back[3] == 5);
    cudaFree(a), cudaFreeHost(host), cudaFreeHost(back), cudaStreamDestroy(s);
}

static void test_graphs(void **) {
    cudaStream_t s = stream_new();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float *a = device_new<float>(32), *host = pinned_new(32), *never;
    assert_int_equal(cudaMemsetAsync(a, 0, 128, s), 0);
    assert_int_equal(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), 0);
    assert_int_equal(LAUNCH(add_one, 1, 32, s, a), 0);
    assert_int_equal(cudaStreamEndCapture(s, &graph), 0);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), 0);
    for (int i = 0; i < 7; i++) assert_int_equal(cudaGraphLaunch(exec, s), 0);
    assert_int_equal(cudaMemcpyAsync(host, a, 128, cudaMemcpyDeviceToHost, s), 0);
    sync(s);
    assert_true(host[0] == 7 && host[31] == 7);
    cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
    /* what a capture forbids spoils it */
    assert_int_equal(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), 0);
    assert_int_equal(cudaMalloc((void **)&never, 4), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    cudaFree(a), cudaFreeHost(host), cudaStreamDestroy(s);
    assert_int_equal(standin_leaks(), 0);
}

static void test_failures(void **) {
    float *p;
    standin_fail("cudaMalloc", 2);
    assert_int_equal(cudaMalloc((void **)&p, 4), 0);
    cudaFree(p);
    assert_int_equal(cudaMalloc((void **)&p, 4), cudaErrorMemoryAllocation);
    assert_true(standin_failed());
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    standin_memory(1000);
    assert_int_equal(cudaMalloc((void **)&p, 1001), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc((void **)&p, 1000), 0);
    assert_int_equal(standin_leaks(), 1);
    cudaFree(p);
    standin_memory((size_t)8 << 30);
}

/* --- what is wrong --- */

static void write_too_far() {
    cudaStream_t s = stream_new();
    float *a = device_new<float>(100);
    LAUNCH(off_by_one, 1, 128, s, a, 100);
    sync(s);
}

static void turn_without_barrier() {
    cudaStream_t s = stream_new();
    float *a = device_new<float>(64);
    cudaMemsetAsync(a, 0, 256, s);
    LAUNCH(turn, 1, 64, s, a, false);
    sync(s);
}

static void leave_shared() {
    cudaStream_t s = stream_new();
    LAUNCH(outside_of_shared, 1, 32, s, device_new<float>(32));
    sync(s);
}

static void split_barrier() {
    cudaStream_t s = stream_new();
    LAUNCH(half_at_barrier, 1, 32, s, device_new<float>(32));
    sync(s);
}

static void split_warp() {
    cudaStream_t s = stream_new();
    LAUNCH(half_of_warp, 1, 32, s, device_new<float>(32));
    sync(s);
}

static void write_one_place() {
    cudaStream_t s = stream_new();
    LAUNCH(all_to_one, 2, 1, s, device_new<float>(1));
    sync(s);
}

static void use_after_free() {
    cudaStream_t s = stream_new();
    float *a = device_new<float>(32);
    cudaMemsetAsync(a, 0, 128, s);
    cudaFree(a);
    LAUNCH(add_one, 1, 32, s, a);
    sync(s);
}

static void read_unwritten() {
    cudaStream_t s = stream_new();
    LAUNCH(add_one, 1, 32, s, device_new<float>(32));
    sync(s);
}

/* Code that is not instrumented, as the plugin's own is not: the memory cannot be read. */
__attribute__((no_sanitize_address, no_sanitize("kernel-address"))) static void read_by_host() {
    volatile float *a = device_new<float>(32);
    (void)a[3];
}

static void read_host_memory() {
    cudaStream_t s = stream_new();
    float *a = device_new<float>(4), *host = (float *)calloc(4, 4);
    LAUNCH(scale, 1, 32, s, host, a, 2.0f, 4);
    sync(s);
}

static void copy_pageable() {
    float host[4] = {0};
    cudaMemcpyAsync(device_new<float>(4), host, 16, cudaMemcpyHostToDevice, stream_new());
}

static void free_twice() {
    float *a = device_new<float>(4);
    cudaFree(a);
    cudaFree(a);
}

/* A copy on one stream, a kernel that reads it on another, an event between them or not. */
static void two_streams(bool ordered) {
    cudaStream_t copies = stream_new(), s = stream_new();
    cudaEvent_t arrived;
    float *host = pinned_new(32), *a = device_new<float>(32), *out = device_new<float>(32);
    for (int i = 0; i < 32; i++) host[i] = 1;
    cudaEventCreateWithFlags(&arrived, cudaEventDisableTiming);
    cudaMemsetAsync(a, 0, 128, copies); /* so that it is not the first to read what is not there */
    sync(copies);
    cudaMemcpyAsync(a, host, 128, cudaMemcpyHostToDevice, copies);
    cudaEventRecord(arrived, copies);
    if (ordered) cudaStreamWaitEvent(s, arrived, 0);
    LAUNCH(scale, 1, 32, s, a, out, 2.0f, 32);
    cudaMemcpyAsync(host, out, 128, cudaMemcpyDeviceToHost, s);
    if (!ordered) sync(copies); /* the order in which they happen to run says nothing */
    sync(s);
    assert_true(host[31] == 2);
    cudaEventDestroy(arrived), cudaStreamDestroy(s), cudaStreamDestroy(copies);
    cudaFree(a), cudaFree(out), cudaFreeHost(host);
}

/* Both are queued before the host waits for the copy, so its waiting does not order them. */
static void streams_without_event() {
    two_streams(false);
}

static void test_mistakes(void **) {
    two_streams(true);
    caught(write_too_far, SIGABRT, "write of 4 bytes out of bounds, at byte 400");
    caught(turn_without_barrier, SIGABRT, "shared array kept");
    caught(leave_shared, SIGABRT, "outside of every shared array");
    caught(split_barrier, SIGABRT, "never come to a barrier");
    caught(split_warp, SIGABRT, "never come to a warp's exchange");
    caught(write_one_place, SIGABRT, "write of what thread 0 of block");
    caught(use_after_free, SIGABRT, "after free");
    caught(read_unwritten, SIGABRT, "never written");
    caught(read_by_host, SIGSEGV, NULL);
    caught(read_host_memory, SIGABRT, "host memory");
    caught(copy_pageable, SIGABRT, "pinned memory");
    caught(free_twice, SIGABRT, "freed twice");
    caught(streams_without_event, SIGABRT, "synchronisation between the streams is missing");
}

/* --- the libraries' arguments --- */

static void test_descriptors(void **) {
    static const float one = 1, zero = 0;
    cudaStream_t s = stream_new();
    cudnnHandle_t h;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    size_t bytes;
    float *memory = device_new<float>(4096);
    cudnnCreate(&h), cudnnSetStream(h, s);
    cudnnCreateTensorDescriptor(&x), cudnnCreateTensorDescriptor(&y);
    cudnnCreateFilterDescriptor(&w), cudnnCreateConvolutionDescriptor(&conv);
    cudnnConvolutionFwdAlgo_t gemm = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
#define FORWARD(BYTES)                                                                             \
    cudnnConvolutionForward(h, &one, x, memory, w, memory + 512, conv, gemm, memory + 1024, BYTES, \
                            &zero, y, memory + 2048)
    cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 1, 3, 5, 5);
    cudnnSetFilter4dDescriptor(w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 4, 3, 3, 3);
    cudnnSetConvolution2dDescriptor(conv, 1, 1, 2, 2, 1, 1, CUDNN_CROSS_CORRELATION,
                                    CUDNN_DATA_FLOAT);
    assert_int_equal(FORWARD(4096), CUDNN_STATUS_BAD_PARAM); /* y was never set */
    cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 1, 4, 5, 5);
    assert_int_equal(FORWARD(4096), CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
    cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, 4, 3, 3);
    assert_int_equal(FORWARD(4096), CUDNN_STATUS_NOT_SUPPORTED_LAYOUT);
    cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 1, 4, 3, 3);
    assert_int_equal(cudnnGetConvolutionForwardWorkspaceSize(h, x, w, conv, y, gemm, &bytes), 0);
    assert_true(bytes > 0);
    assert_int_equal(FORWARD(bytes - 1), CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
    cudaMemsetAsync(memory, 0, 4096, s);
    assert_int_equal(FORWARD(bytes), CUDNN_STATUS_SUCCESS);
    assert_int_equal(cudnnConvolutionForward(h, &one, x, memory + 1, w, memory + 512, conv, gemm,
                                             memory + 1024, bytes, &zero, y, memory + 2048),
                     CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    sync(s);
    assert_int_equal(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 0, 3, 5, 5),
                     CUDNN_STATUS_BAD_PARAM);
    cudnnDestroyTensorDescriptor(x), cudnnDestroyTensorDescriptor(y);
    cudnnDestroyFilterDescriptor(w), cudnnDestroyConvolutionDescriptor(conv), cudnnDestroy(h);
    cublasHandle_t blas;
    cublasCreate(&blas), cublasSetStream(blas, s);
    cublasSetWorkspace(blas, memory + 1024, 4096);
    assert_int_equal(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, memory, CUDA_R_32F,
                                  3, memory, CUDA_R_32F, 4, &zero, memory + 64, CUDA_R_32F, 4,
                                  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_INVALID_VALUE); /* 3 is less than the 4 rows */
    cublasDestroy(blas);
    cudaFree(memory), cudaStreamDestroy(s);
    assert_int_equal(standin_leaks(), 0);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_laziness),
        cmocka_unit_test(test_graphs),   cmocka_unit_test(test_failures),
        cmocka_unit_test(test_mistakes), cmocka_unit_test(test_descriptors),
    };
    print_message("STANDIN_SEED=%llu\n", (unsigned long long)standin_seed());
    return cmocka_run_group_tests_name("standin", tests, NULL, NULL);
}
