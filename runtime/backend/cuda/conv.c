/* Convolutions as cuDNN calls: makes descriptors, chooses an algorithm, and runs it. */
#include "backend/cuda/conv.h"

#include <stdio.h>

#include "base/memory.h"

/* The most scratch memory for the first algorithm. The alternatives may use as much as it does, and
 * at least SPARE_WORKSPACE. */
static const size_t MOST_WORKSPACE = (size_t)1 << 30, SPARE_WORKSPACE = (size_t)16 << 20;

static int fail(Compiler *c, const ConvCall *v, cudnnStatus_t status, const char *call, Error *e) {
    char text[256];
    snprintf(text, sizeof text, "%.60s (%s)", call, v->shapes);
    return cuda_check_dnn(cuda_of_compiler(c), status, text, e);
}

static int set_descriptors(Compiler *c, ConvCall *v, const ConvShape *s, Real real, Error *e) {
    const Window *w = &s->window;
    cudnnDataType_t type = real == REAL_F32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
    /* full f32 unless the user requested tf32; cuDNN's default would use tf32 */
    cudnnMathType_t math = real == REAL_F32 && c->request->precision != PLAN_TF32
                               ? CUDNN_FMA_MATH
                               : CUDNN_TENSOR_OP_MATH;
    int N = (int)w->N, C = (int)w->C, K = (int)s->K;
    cudnnStatus_t status = cudnnCreateTensorDescriptor(&v->x);
    if (!status) status = cudnnCreateTensorDescriptor(&v->y);
    if (!status) status = cudnnCreateFilterDescriptor(&v->w);
    if (!status) status = cudnnCreateConvolutionDescriptor(&v->conv);
    if (!status)
        status =
            cudnnSetTensor4dDescriptor(v->x, CUDNN_TENSOR_NHWC, type, N, C, (int)w->H, (int)w->W);
    if (!status)
        status =
            cudnnSetTensor4dDescriptor(v->y, CUDNN_TENSOR_NHWC, type, N, K, (int)w->OH, (int)w->OW);
    if (!status)
        status =
            cudnnSetFilter4dDescriptor(v->w, type, CUDNN_TENSOR_NHWC, K, (int)(w->C / s->groups),
                                       (int)w->kernel[0], (int)w->kernel[1]);
    if (!status)
        status = cudnnSetConvolution2dDescriptor(
            v->conv, (int)w->pad[0], (int)w->pad[1], (int)w->stride[0], (int)w->stride[1],
            (int)s->dilation[0], (int)s->dilation[1], CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
    if (!status) status = cudnnSetConvolutionGroupCount(v->conv, (int)s->groups);
    if (!status) status = cudnnSetConvolutionMathType(v->conv, math);
    return fail(c, v, status, "convolution descriptors", e);
}

/* Whether the status is one of the family by which cuDNN reports unsupported cases. */
static bool not_supported(cudnnStatus_t status) {
    return status >= CUDNN_STATUS_NOT_SUPPORTED && status < CUDNN_STATUS_INTERNAL_ERROR;
}

/* --- the choice of an algorithm --- */

/* Whether the algorithm uses Winograd or Fourier transforms, which round more. A plan of direct
 * convolutions excludes them. */
static bool transforms(ConvWhat what, int algorithm) {
    switch (what) {
    case CONV_FORWARD:
        return algorithm == CUDNN_CONVOLUTION_FWD_ALGO_FFT ||
               algorithm == CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING ||
               algorithm == CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD ||
               algorithm == CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED;
    case CONV_DATA:
        return algorithm == CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT ||
               algorithm == CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING ||
               algorithm == CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD ||
               algorithm == CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED;
    default:
        return algorithm == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT ||
               algorithm == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING ||
               algorithm == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD ||
               algorithm == CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED;
    }
}

/* Algorithms that are deterministic by cuDNN's documentation and support channels-last tensors.
 * They are tried after those that the heuristics list. */
static const int documented[][2] = {
    [CONV_FORWARD] = {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                      CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM},
    [CONV_DATA] = {CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1},
    [CONV_WEIGHTS] = {CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1}};

/* The algorithms of the heuristics, in their order, without those reported as unsupported. */
typedef struct Listed {
    int algorithm[2 * CONV_ALGORITHMS], count;
    bool deterministic[2 * CONV_ALGORITHMS];
} Listed;

#define LIST(PERF, COUNT, FUNCTION, ...)                                                           \
    do {                                                                                           \
        PERF perf[COUNT];                                                                          \
        int found = 0;                                                                             \
        _Static_assert(COUNT <= 2 * CONV_ALGORITHMS, "room for all that there are");               \
        cudnnStatus_t status =                                                                     \
            FUNCTION(cuda_of_compiler(c)->dnn, __VA_ARGS__, COUNT, &found, perf);                  \
        if (status) return status;                                                                 \
        for (int i = 0; i < found; i++) {                                                          \
            if (perf[i].status) continue;                                                          \
            out->algorithm[out->count] = (int)perf[i].algo;                                        \
            out->deterministic[out->count++] = perf[i].determinism == CUDNN_DETERMINISTIC;         \
        }                                                                                          \
        return CUDNN_STATUS_SUCCESS;                                                               \
    } while (0)

static cudnnStatus_t list_algorithms(const Compiler *c, const ConvCall *v, ConvWhat what,
                                     Listed *out) {
    switch (what) {
    case CONV_FORWARD:
        LIST(cudnnConvolutionFwdAlgoPerf_t, CUDNN_CONVOLUTION_FWD_ALGO_COUNT,
             cudnnGetConvolutionForwardAlgorithm_v7, v->x, v->w, v->conv, v->y);
    case CONV_DATA:
        LIST(cudnnConvolutionBwdDataAlgoPerf_t, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT,
             cudnnGetConvolutionBackwardDataAlgorithm_v7, v->w, v->y, v->conv, v->x);
    default:
        LIST(cudnnConvolutionBwdFilterAlgoPerf_t, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT,
             cudnnGetConvolutionBackwardFilterAlgorithm_v7, v->x, v->y, v->conv, v->w);
    }
}

static cudnnStatus_t workspace_of(const Compiler *c, const ConvCall *v, ConvWhat what,
                                  int algorithm, size_t *bytes) {
    cudnnHandle_t h = cuda_of_compiler(c)->dnn;
    switch (what) {
    case CONV_FORWARD:
        return cudnnGetConvolutionForwardWorkspaceSize(h, v->x, v->w, v->conv, v->y,
                                                       (cudnnConvolutionFwdAlgo_t)algorithm, bytes);
    case CONV_DATA:
        return cudnnGetConvolutionBackwardDataWorkspaceSize(
            h, v->w, v->y, v->conv, v->x, (cudnnConvolutionBwdDataAlgo_t)algorithm, bytes);
    default:
        return cudnnGetConvolutionBackwardFilterWorkspaceSize(
            h, v->x, v->y, v->conv, v->w, (cudnnConvolutionBwdFilterAlgo_t)algorithm, bytes);
    }
}

/* Adds the algorithm to the list, except in these cases: it is in the list; it transforms and the
 * plan is direct; cuDNN does not support it; it needs too much scratch memory. */
static int keep(Compiler *c, ConvCall *v, ConvWhat what, int algorithm, Error *e) {
    size_t bytes = 0, spare = v->workspace > SPARE_WORKSPACE ? v->workspace : SPARE_WORKSPACE;
    for (int i = 0; i < v->algorithms; i++)
        if (v->algorithm[i] == algorithm) return 0;
    if (v->algorithms == CONV_ALGORITHMS || (c->request->direct && transforms(what, algorithm)))
        return 0;
    cudnnStatus_t status = workspace_of(c, v, what, algorithm, &bytes);
    if (not_supported(status)) return 0;
    if (status) return fail(c, v, status, "the size of a workspace", e);
    if (bytes > (v->algorithms ? spare : MOST_WORKSPACE)) return 0;
    v->algorithm[v->algorithms++] = algorithm;
    if (bytes > v->workspace) v->workspace = bytes;
    return 0;
}

/* Deterministic algorithms come first; the others are used only if cuDNN accepts none of them. */
static int choose(Compiler *c, ConvCall *v, ConvWhat what, Error *e) {
    Listed l = {0};
    cudnnStatus_t status = list_algorithms(c, v, what, &l);
    if (status && !not_supported(status))
        return fail(c, v, status, "the choice of an algorithm", e);
    for (int i = 0; i < l.count; i++)
        if (l.deterministic[i] && keep(c, v, what, l.algorithm[i], e)) return -1;
    for (int i = 0; i < 2; i++)
        if (keep(c, v, what, documented[what][i], e)) return -1;
    v->deterministic = v->algorithms;
    for (int i = 0; i < l.count; i++)
        if (!l.deterministic[i] && keep(c, v, what, l.algorithm[i], e)) return -1;
    if (v->algorithms) return 0;
    return error_set(e,
                     "%s: cuDNN has no algorithm for a convolution of %s in %s that takes no more "
                     "than %zu MiB of scratch memory",
                     c->device->name, v->shapes, v->type, MOST_WORKSPACE >> 20);
}

void conv_free(ConvCall *v) {
    if (v->x) cudnnDestroyTensorDescriptor(v->x);
    if (v->y) cudnnDestroyTensorDescriptor(v->y);
    if (v->w) cudnnDestroyFilterDescriptor(v->w);
    if (v->conv) cudnnDestroyConvolutionDescriptor(v->conv);
    memory_free(v);
}

int conv_new(Compiler *c, const ConvShape *s, ConvWhat what, Real real, ConvCall **out, Error *e) {
    const Window *w = &s->window;
    ConvCall *v = memory_zeroed(1, sizeof *v, "plan", e);
    if (!v) return -1;
    snprintf(v->shapes, sizeof v->shapes,
             "x [%lld,%lld,%lld,%lld], w [%lld,%lld,%lld,%lld], y [%lld,%lld,%lld,%lld]",
             (long long)w->N, (long long)w->H, (long long)w->W, (long long)w->C, (long long)s->K,
             (long long)w->kernel[0], (long long)w->kernel[1], (long long)(w->C / s->groups),
             (long long)w->N, (long long)w->OH, (long long)w->OW, (long long)s->K);
    v->type = real == REAL_F32 ? "f32" : "bf16";
    *out = v;
    if (!set_descriptors(c, v, s, real, e) && !choose(c, v, what, e)) return 0;
    conv_free(v);
    return -1;
}

static void drop_call(Step *s) {
    conv_free(*(ConvCall **)s->job);
}

int conv_step(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
              ConvCall *call, int a, int b, int result, Error *e) {
    int workspace = call->workspace ? buffer_new(c, call->workspace, e) : NO_BUFFER;
    Step *s =
        call->workspace && workspace < 0
            ? NULL
            : step_new(c, what, run, 4, (int[]){a, b, result, workspace}, &call, sizeof call, e);
    if (!s) {
        conv_free(call);
        return -1;
    }
    s->drop = drop_call;
    return 0;
}

/* --- running --- */

static const float one = 1, zero = 0;

static ConvCall *call_of(const Step *s) {
    return *(ConvCall **)s->job;
}

/* Warns once per device. Such a run is repeatable except in its last bits. */
static void tell_of_chance(CudaDevice *d, const Step *s) {
    if (d->told_of_chance) return;
    d->told_of_chance = true;
    fprintf(stderr,
            "advrt: %s: layer '%s', %s: cuDNN has no deterministic algorithm for %s: results may "
            "differ in their last bits from run to run\n",
            d->name, s->layer, s->what, call_of(s)->shapes);
}

static int conv_done(Plan *p, const Step *s, cudnnStatus_t status, const char *call, Error *e) {
    if (status == CUDNN_STATUS_SUCCESS) {
        if (call_of(s)->chosen >= call_of(s)->deterministic) tell_of_chance(cuda_of_plan(p), s);
        return 0;
    }
    char text[384];
    snprintf(text, sizeof text, "layer '%s', %s: %s (%s)", s->layer, s->what, call,
             call_of(s)->shapes);
    return cuda_check_dnn(cuda_of_plan(p), status, text, e);
}

/* Moves to the next algorithm of the list if the present one is not supported. Returns whether to
 * call again. */
static bool try_next(ConvCall *v, cudnnStatus_t status) {
    if (!not_supported(status) || v->chosen + 1 >= v->algorithms) return false;
    v->chosen++;
    return true;
}

int conv_run_forward(Plan *p, const Step *s, Error *e) {
    ConvCall *v = call_of(s);
    cudnnStatus_t status;
    do
        status =
            cudnnConvolutionForward(cuda_of_plan(p)->dnn, &one, v->x, s->at[0], v->w, s->at[1],
                                    v->conv, (cudnnConvolutionFwdAlgo_t)v->algorithm[v->chosen],
                                    s->at[3], v->workspace, v->sum ? &one : &zero, v->y, s->at[2]);
    while (try_next(v, status));
    return conv_done(p, s, status, "cudnnConvolutionForward", e);
}

int conv_run_data(Plan *p, const Step *s, Error *e) {
    ConvCall *v = call_of(s);
    cudnnStatus_t status;
    do
        status = cudnnConvolutionBackwardData(
            cuda_of_plan(p)->dnn, &one, v->w, s->at[1], v->y, s->at[0], v->conv,
            (cudnnConvolutionBwdDataAlgo_t)v->algorithm[v->chosen], s->at[3], v->workspace,
            v->sum ? &one : &zero, v->x, s->at[2]);
    while (try_next(v, status));
    return conv_done(p, s, status, "cudnnConvolutionBackwardData", e);
}

int conv_run_weights(Plan *p, const Step *s, Error *e) {
    ConvCall *v = call_of(s);
    cudnnStatus_t status;
    do
        status = cudnnConvolutionBackwardFilter(
            cuda_of_plan(p)->dnn, &one, v->x, s->at[1], v->y, s->at[0], v->conv,
            (cudnnConvolutionBwdFilterAlgo_t)v->algorithm[v->chosen], s->at[3], v->workspace, &zero,
            v->w, s->at[2]);
    while (try_next(v, status));
    return conv_done(p, s, status, "cudnnConvolutionBackwardFilter", e);
}
