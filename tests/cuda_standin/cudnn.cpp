/* cuDNN's convolutions by its descriptor API, on oneDNN. Arguments are held to what NVIDIA
 * documents of the functions that the plugin calls; channels-last only, since the plugin is. */
#include <cudnn.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "machine.h"
#include "numbers.h"

using namespace standin;

struct cudnnContext {
    cudaStream_t stream;
};
struct cudnnTensorStruct {
    bool set;
    cudnnTensorFormat_t format;
    cudnnDataType_t type;
    int n, c, h, w;
};
struct cudnnFilterStruct {
    bool set;
    cudnnTensorFormat_t format;
    cudnnDataType_t type;
    int k, c, h, w;
};
struct cudnnConvolutionStruct {
    bool set;
    int pad[2], stride[2], dilation[2], groups;
    cudnnMathType_t math;
    cudnnConvolutionMode_t mode;
    cudnnDataType_t compute;
};

#define CALL(name)                                                                                 \
    if (call_fails(name)) return CUDNN_STATUS_EXECUTION_FAILED

/* A descriptor's two functions. */
#define DESCRIPTOR(NAME, TYPE, KIND)                                                               \
    cudnnStatus_t cudnnCreate##NAME(TYPE *d) {                                                     \
        if (call_fails("cudnnCreate" #NAME)) return CUDNN_STATUS_ALLOC_FAILED;                     \
        *d = new std::remove_pointer<TYPE>::type();                                                \
        made(KIND);                                                                                \
        return CUDNN_STATUS_SUCCESS;                                                               \
    }                                                                                              \
    cudnnStatus_t cudnnDestroy##NAME(TYPE d) {                                                     \
        CALL("cudnnDestroy" #NAME);                                                                \
        delete d;                                                                                  \
        destroyed(KIND);                                                                           \
        return CUDNN_STATUS_SUCCESS;                                                               \
    }

/* --- what a convolution is, taken from its descriptors --- */

namespace {

struct Conv {
    cudnnTensorStruct x, y;
    cudnnFilterStruct w;
    cudnnConvolutionStruct conv;
};

size_t size_of(cudnnDataType_t type) {
    return type == CUDNN_DATA_BFLOAT16 ? 2 : 4;
}

size_t bytes_of(const cudnnTensorStruct &t) {
    return size_of(t.type) * (size_t)t.n * (size_t)t.c * (size_t)t.h * (size_t)t.w;
}

size_t bytes_of(const cudnnFilterStruct &f) {
    return size_of(f.type) * (size_t)f.k * (size_t)f.c * (size_t)f.h * (size_t)f.w;
}

int slide(int in, int kernel, const cudnnConvolutionStruct &c, int axis) {
    return (in + 2 * c.pad[axis] - (kernel - 1) * c.dilation[axis] - 1) / c.stride[axis] + 1;
}

cudnnStatus_t describe(const cudnnTensorStruct *x, const cudnnFilterStruct *w,
                       const cudnnConvolutionStruct *conv, const cudnnTensorStruct *y, Conv *out) {
    if (!x || !w || !conv || !y) return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    if (!x->set || !w->set || !conv->set || !y->set) return CUDNN_STATUS_BAD_PARAM;
    if (x->type != w->type || x->type != y->type || conv->mode != CUDNN_CROSS_CORRELATION)
        return CUDNN_STATUS_NOT_SUPPORTED;
    if (x->format != CUDNN_TENSOR_NHWC || w->format != CUDNN_TENSOR_NHWC ||
        y->format != CUDNN_TENSOR_NHWC)
        return CUDNN_STATUS_NOT_SUPPORTED_LAYOUT;
    if (conv->compute != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE;
    if (x->n != y->n || x->c != w->c * conv->groups || w->k != y->c || w->k % conv->groups ||
        y->h != slide(x->h, w->h, *conv, 0) || y->w != slide(x->w, w->w, *conv, 1))
        return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    *out = {*x, *y, *w, *conv};
    return CUDNN_STATUS_SUCCESS;
}

/* Scratch memory that an algorithm of this number wants; two kinds, so that both occur. */
size_t workspace_of(const Conv &c, int algorithm) {
    return algorithm == 0 ? 0 : 256 + 8 * (size_t)c.y.h * (size_t)c.y.w;
}

/* --- the arithmetic, on oneDNN --- */

dnnl::engine &engine() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
}

typedef dnnl::memory::format_tag Tag;

dnnl::memory::dims dims_of(const cudnnTensorStruct &t) {
    return {t.n, t.c, t.h, t.w};
}

dnnl::memory::dims dims_of(const Conv &c) {
    const auto &w = c.w;
    int g = c.conv.groups;
    if (g == 1) return {w.k, w.c, w.h, w.w};
    return {g, w.k / g, w.c, w.h, w.w};
}

dnnl::memory::desc floats(const dnnl::memory::dims &dims, Tag tag) {
    return dnnl::memory::desc(dims, dnnl::memory::data_type::f32, tag);
}

dnnl::memory wrap(const dnnl::memory::desc &d, std::vector<float> &v) {
    return dnnl::memory(d, engine(), v.data());
}

dnnl::memory reordered(dnnl::stream &s, dnnl::memory from, const dnnl::memory::desc &to) {
    if (from.get_desc() == to) return from;
    dnnl::memory m(to, engine());
    dnnl::reorder(from, m).execute(s, from, m);
    return m;
}

/* oneDNN 2 makes a primitive's descriptor of an operation's, oneDNN 3 of the operation's parts. */
#if DNNL_VERSION_MAJOR == 2
template <typename Primitive, typename... Parts>
typename Primitive::primitive_desc described(Parts... parts) {
    return {typename Primitive::desc(parts...), engine()};
}
template <typename Primitive, typename... Parts>
typename Primitive::primitive_desc
described_back(const dnnl::convolution_forward::primitive_desc &hint, Parts... parts) {
    return {typename Primitive::desc(parts...), engine(), hint};
}
#else
template <typename Primitive, typename... Parts>
typename Primitive::primitive_desc described(Parts... parts) {
    return {engine(), parts...};
}
template <typename Primitive, typename... Parts>
typename Primitive::primitive_desc
described_back(const dnnl::convolution_forward::primitive_desc &hint, Parts... parts) {
    return {engine(), parts..., hint};
}
#endif

struct Problem {
    dnnl::memory::desc x, y, w, w_any;
    dnnl::memory::dims strides, gaps, pads;
    explicit Problem(const Conv &c)
        : x(floats(dims_of(c.x), Tag::nhwc)), y(floats(dims_of(c.y), Tag::nhwc)),
          w(floats(dims_of(c), c.conv.groups > 1 ? Tag::gohwi : Tag::ohwi)),
          w_any(floats(dims_of(c), Tag::any)), strides{c.conv.stride[0], c.conv.stride[1]},
          gaps{c.conv.dilation[0] - 1, c.conv.dilation[1] - 1}, pads{c.conv.pad[0], c.conv.pad[1]} {
    }
    dnnl::convolution_forward::primitive_desc forward() const {
        return described<dnnl::convolution_forward>(dnnl::prop_kind::forward_training,
                                                    dnnl::algorithm::convolution_direct, x, w_any,
                                                    y, strides, gaps, pads, pads);
    }
};

size_t count_of(const cudnnTensorStruct &t) {
    return bytes_of(t) / size_of(t.type);
}

std::vector<float> forward(const Conv &c, std::vector<float> &x, std::vector<float> &w) {
    Problem p(c);
    dnnl::stream s(engine());
    std::vector<float> y(count_of(c.y));
    auto pd = p.forward();
    dnnl::convolution_forward(pd).execute(
        s, {{DNNL_ARG_SRC, wrap(p.x, x)},
            {DNNL_ARG_WEIGHTS, reordered(s, wrap(p.w, w), pd.weights_desc())},
            {DNNL_ARG_DST, wrap(p.y, y)}});
    s.wait();
    return y;
}

std::vector<float> backward_data(const Conv &c, std::vector<float> &dy, std::vector<float> &w) {
    Problem p(c);
    dnnl::stream s(engine());
    std::vector<float> dx(count_of(c.x));
    auto pd = described_back<dnnl::convolution_backward_data>(
        p.forward(), dnnl::algorithm::convolution_direct, p.x, p.w_any, p.y, p.strides, p.gaps,
        p.pads, p.pads);
    dnnl::convolution_backward_data(pd).execute(
        s, {{DNNL_ARG_DIFF_DST, wrap(p.y, dy)},
            {DNNL_ARG_WEIGHTS, reordered(s, wrap(p.w, w), pd.weights_desc())},
            {DNNL_ARG_DIFF_SRC, wrap(p.x, dx)}});
    s.wait();
    return dx;
}

std::vector<float> backward_weights(const Conv &c, std::vector<float> &x, std::vector<float> &dy) {
    Problem p(c);
    dnnl::stream s(engine());
    std::vector<float> dw(bytes_of(c.w) / size_of(c.w.type));
    auto pd = described_back<dnnl::convolution_backward_weights>(
        p.forward(), dnnl::algorithm::convolution_direct, p.x, p.w_any, p.y, p.strides, p.gaps,
        p.pads, p.pads);
    dnnl::memory made(pd.diff_weights_desc(), engine()), out = wrap(p.w, dw);
    dnnl::convolution_backward_weights(pd).execute(s, {{DNNL_ARG_SRC, wrap(p.x, x)},
                                                       {DNNL_ARG_DIFF_DST, wrap(p.y, dy)},
                                                       {DNNL_ARG_DIFF_WEIGHTS, made}});
    dnnl::reorder(made, out).execute(s, made, out);
    s.wait();
    return dw;
}

bool is_half(cudnnDataType_t type) {
    return type == CUDNN_DATA_BFLOAT16;
}

/* A tensor's numbers as the arithmetic sees them: cuDNN's default rounds f32 to tf32. */
std::vector<float> read(const Conv &c, const void *at, size_t bytes) {
    touch_read(at, bytes);
    bool half = is_half(c.x.type);
    return to_floats(memory_seen(at), bytes / size_of(c.x.type), half,
                     c.conv.math != CUDNN_FMA_MATH);
}

void write(const Conv &c, const std::vector<float> &values, float beta, void *at) {
    bool half = is_half(c.x.type);
    size_t bytes = values.size() * size_of(c.x.type);
    if (beta != 0) touch_read(at, bytes);
    touch_write(at, bytes);
    from_floats(values, beta, memory_seen(at), half);
}

/* Whether Winograd's transforms know the convolution. */
bool winograd_fits(const Conv &c) {
    return c.w.h == 3 && c.w.w == 3 && c.conv.stride[0] == 1 && c.conv.stride[1] == 1 &&
           c.conv.dilation[0] == 1 && c.conv.dilation[1] == 1 && c.conv.groups == 1;
}

cudnnStatus_t check_workspace(const Conv &c, int algorithm, int algorithms, const void *workspace,
                              size_t bytes) {
    if (algorithm < 0 || algorithm >= algorithms) return CUDNN_STATUS_BAD_PARAM;
    if (algorithm > 1 && getenv("STANDIN_DIRECT"))
        report("algorithm %d transforms, where a test wants direct convolutions alone", algorithm);
    size_t wanted = workspace_of(c, algorithm);
    if (bytes < wanted || (wanted && memory_room(workspace) < wanted))
        return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
    return CUDNN_STATUS_SUCCESS;
}

/* Kernels read 16 bytes at a time, wherever a tensor lies. */
bool aligned(std::initializer_list<const void *> pointers) {
    for (const void *p : pointers)
        if ((size_t)p % 16) return false;
    return true;
}

/* Winograd's transforms do not know bf16; the heuristics list them all the same. */
bool knows(const Conv &c, int algorithm, int winograd) {
    return c.x.type != CUDNN_DATA_BFLOAT16 || algorithm != winograd;
}

cudnnStatus_t queued(cudnnHandle_t h, const char *name, std::function<void()> run) {
    return enqueue(h->stream, name, run) == cudaSuccess ? CUDNN_STATUS_SUCCESS
                                                        : CUDNN_STATUS_EXECUTION_FAILED;
}

/* STANDIN_HEURISTICS: "none" lists nothing; with "chance" no backward knows an algorithm but 0,
 * which is not deterministic. */
bool heuristics_are(const char *kind) {
    const char *asked = getenv("STANDIN_HEURISTICS");
    return asked && !strcmp(asked, kind);
}

/* What the heuristics say: Winograd is the fastest, the next gives other bits every time where it
 * is of a backward, one is not supported. */
template <typename Perf, typename Algorithm>
cudnnStatus_t list(const Conv &c, int asked, int *found, Perf *perf, Algorithm winograd,
                   bool first_is_random) {
    const int order[] = {(int)winograd, 0, 1, 2};
    *found = 0;
    if (heuristics_are("none")) return CUDNN_STATUS_SUCCESS;
    for (int i = winograd_fits(c) ? 0 : 1; i < 4 && *found < asked; i++) {
        Perf p = {};
        p.algo = (Algorithm)order[i];
        bool known =
            order[i] != 2 && (order[i] == 0 || !first_is_random || !heuristics_are("chance"));
        p.status = known ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
        p.time = -1;
        p.memory = workspace_of(c, order[i]);
        p.determinism =
            order[i] == 0 && first_is_random ? CUDNN_NON_DETERMINISTIC : CUDNN_DETERMINISTIC;
        p.mathType = c.conv.math;
        perf[(*found)++] = p;
    }
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    if (call_fails("cudnnCreate")) return CUDNN_STATUS_NOT_INITIALIZED;
    *handle = new cudnnContext{NULL};
    made("cuDNN handle");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    CALL("cudnnDestroy");
    delete handle;
    destroyed("cuDNN handle");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    CALL("cudnnSetStream");
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
    switch (status) {
    case CUDNN_STATUS_NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER:
        return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
    case CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH: return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT:
        return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_NOT_SUPPORTED_LAYOUT: return "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT";
    case CUDNN_STATUS_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}

void cudnnGetLastErrorString(char *message, size_t size) {
    snprintf(message, size, "the stand-in says no more\nof it");
}

DESCRIPTOR(TensorDescriptor, cudnnTensorDescriptor_t, "tensor descriptor")
DESCRIPTOR(FilterDescriptor, cudnnFilterDescriptor_t, "filter descriptor")
DESCRIPTOR(ConvolutionDescriptor, cudnnConvolutionDescriptor_t, "convolution descriptor")

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
    CALL("cudnnSetTensor4dDescriptor");
    if (n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    if ((double)n * c * h * w > 2147483647.0) return CUDNN_STATUS_NOT_SUPPORTED;
    *d = {true, format, type, n, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
    CALL("cudnnSetFilter4dDescriptor");
    if (k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
    *d = {true, format, type, k, c, h, w};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w,
                                              int u, int v, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode,
                                              cudnnDataType_t compute) {
    CALL("cudnnSetConvolution2dDescriptor");
    if (pad_h < 0 || pad_w < 0 || u < 1 || v < 1 || dilation_h < 1 || dilation_w < 1)
        return CUDNN_STATUS_BAD_PARAM;
    *d = {true, {pad_h, pad_w},     {u, v}, {dilation_h, dilation_w},
          1,    CUDNN_DEFAULT_MATH, mode,   compute};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups) {
    CALL("cudnnSetConvolutionGroupCount");
    if (groups < 1) return CUDNN_STATUS_BAD_PARAM;
    d->groups = groups;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
    CALL("cudnnSetConvolutionMathType");
    d->math = math;
    return CUDNN_STATUS_SUCCESS;
}

/* --- algorithms --- */

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, const cudnnTensorDescriptor_t x,
                                                     const cudnnFilterDescriptor_t w,
                                                     const cudnnConvolutionDescriptor_t conv,
                                                     const cudnnTensorDescriptor_t y,
                                                     const int asked, int *found,
                                                     cudnnConvolutionFwdAlgoPerf_t *perf) {
    CALL("cudnnGetConvolutionForwardAlgorithm_v7");
    Conv c;
    cudnnStatus_t status = describe(x, w, conv, y, &c);
    return status ? status
                  : list<cudnnConvolutionFwdAlgoPerf_t, cudnnConvolutionFwdAlgo_t>(
                        c, asked, found, perf, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, false);
}

cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t dx, const int asked,
    int *found, cudnnConvolutionBwdDataAlgoPerf_t *perf) {
    CALL("cudnnGetConvolutionBackwardDataAlgorithm_v7");
    Conv c;
    cudnnStatus_t status = describe(dx, w, conv, dy, &c);
    return status ? status
                  : list<cudnnConvolutionBwdDataAlgoPerf_t, cudnnConvolutionBwdDataAlgo_t>(
                        c, asked, found, perf, CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD, true);
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t dw, const int asked,
    int *found, cudnnConvolutionBwdFilterAlgoPerf_t *perf) {
    CALL("cudnnGetConvolutionBackwardFilterAlgorithm_v7");
    Conv c;
    cudnnStatus_t status = describe(x, dw, conv, dy, &c);
    return status ? status
                  : list<cudnnConvolutionBwdFilterAlgoPerf_t, cudnnConvolutionBwdFilterAlgo_t>(
                        c, asked, found, perf, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
                        true);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
    const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t y,
    cudnnConvolutionFwdAlgo_t algorithm, size_t *bytes) {
    CALL("cudnnGetConvolutionForwardWorkspaceSize");
    Conv c;
    cudnnStatus_t status = describe(x, w, conv, y, &c);
    if (!status) *bytes = workspace_of(c, algorithm);
    return status;
}

cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t, const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t conv, const cudnnTensorDescriptor_t dx,
    cudnnConvolutionBwdDataAlgo_t algorithm, size_t *bytes) {
    CALL("cudnnGetConvolutionBackwardDataWorkspaceSize");
    Conv c;
    cudnnStatus_t status = describe(dx, w, conv, dy, &c);
    if (!status) *bytes = workspace_of(c, algorithm);
    return status;
}

cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t, const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t dy,
    const cudnnConvolutionDescriptor_t conv, const cudnnFilterDescriptor_t dw,
    cudnnConvolutionBwdFilterAlgo_t algorithm, size_t *bytes) {
    CALL("cudnnGetConvolutionBackwardFilterWorkspaceSize");
    Conv c;
    cudnnStatus_t status = describe(x, dw, conv, dy, &c);
    if (!status) *bytes = workspace_of(c, algorithm);
    return status;
}

/* --- convolutions --- */

/* Scratch memory is really written, so that who shares it by mistake finds out. */
static void use_workspace(const Conv &c, int algorithm, void *workspace) {
    size_t bytes = workspace_of(c, algorithm);
    if (!bytes) return;
    touch_write(workspace, bytes);
    memset(memory_seen(workspace), 0xff, bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t h, const void *alpha,
                                      const cudnnTensorDescriptor_t xd, const void *x,
                                      const cudnnFilterDescriptor_t wd, const void *w,
                                      const cudnnConvolutionDescriptor_t conv,
                                      cudnnConvolutionFwdAlgo_t algorithm, void *workspace,
                                      size_t bytes, const void *beta,
                                      const cudnnTensorDescriptor_t yd, void *y) {
    CALL("cudnnConvolutionForward");
    Conv c;
    cudnnStatus_t status = describe(xd, wd, conv, yd, &c);
    if (!status)
        status = check_workspace(c, algorithm, CUDNN_CONVOLUTION_FWD_ALGO_COUNT, workspace, bytes);
    if (!status && !aligned({x, w, y, workspace}))
        status = CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    if (!status &&
        (*(const float *)alpha != 1 || !knows(c, algorithm, CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD)))
        status = CUDNN_STATUS_NOT_SUPPORTED;
    /* the heuristics may list what turns out not to be known */
    if (!status && c.x.c % 2 && algorithm == 0) status = CUDNN_STATUS_NOT_SUPPORTED_SHAPE;
    if (status) return status;
    float b = *(const float *)beta;
    return queued(h, "cudnnConvolutionForward", [=]() {
        std::vector<float> from = read(c, x, bytes_of(c.x)), weights = read(c, w, bytes_of(c.w));
        use_workspace(c, algorithm, workspace);
        write(c, forward(c, from, weights), b, y);
    });
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t h, const void *alpha,
                                           const cudnnFilterDescriptor_t wd, const void *w,
                                           const cudnnTensorDescriptor_t dyd, const void *dy,
                                           const cudnnConvolutionDescriptor_t conv,
                                           cudnnConvolutionBwdDataAlgo_t algorithm, void *workspace,
                                           size_t bytes, const void *beta,
                                           const cudnnTensorDescriptor_t dxd, void *dx) {
    CALL("cudnnConvolutionBackwardData");
    Conv c;
    cudnnStatus_t status = describe(dxd, wd, conv, dyd, &c);
    if (!status)
        status =
            check_workspace(c, algorithm, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, workspace, bytes);
    if (!status && !aligned({w, dy, dx, workspace}))
        status = CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    if (!status && (*(const float *)alpha != 1 || (algorithm && heuristics_are("chance")) ||
                    !knows(c, algorithm, CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD)))
        status = CUDNN_STATUS_NOT_SUPPORTED;
    if (status) return status;
    float b = *(const float *)beta;
    return queued(h, "cudnnConvolutionBackwardData", [=]() {
        std::vector<float> from = read(c, dy, bytes_of(c.y)), weights = read(c, w, bytes_of(c.w));
        use_workspace(c, algorithm, workspace);
        write(c, backward_data(c, from, weights), b, dx);
    });
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t h, const void *alpha,
                                             const cudnnTensorDescriptor_t xd, const void *x,
                                             const cudnnTensorDescriptor_t dyd, const void *dy,
                                             const cudnnConvolutionDescriptor_t conv,
                                             cudnnConvolutionBwdFilterAlgo_t algorithm,
                                             void *workspace, size_t bytes, const void *beta,
                                             const cudnnFilterDescriptor_t dwd, void *dw) {
    CALL("cudnnConvolutionBackwardFilter");
    Conv c;
    cudnnStatus_t status = describe(xd, dwd, conv, dyd, &c);
    if (!status)
        status = check_workspace(c, algorithm, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, workspace,
                                 bytes);
    if (!status && !aligned({x, dy, dw, workspace}))
        status = CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    if (!status && (*(const float *)alpha != 1 || (algorithm && heuristics_are("chance")) ||
                    !knows(c, algorithm, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED)))
        status = CUDNN_STATUS_NOT_SUPPORTED;
    if (status) return status;
    float b = *(const float *)beta;
    return queued(h, "cudnnConvolutionBackwardFilter", [=]() {
        std::vector<float> from = read(c, x, bytes_of(c.x)), out = read(c, dy, bytes_of(c.y));
        use_workspace(c, algorithm, workspace);
        write(c, backward_weights(c, from, out), b, dw);
    });
}
}
