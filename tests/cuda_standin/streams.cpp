/* The CUDA runtime's API: memory, streams, events, graphs. Everything asynchronous is queued. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <deque>

#include "streams.h"

using namespace standin;

struct CUgraph_st {
    std::vector<std::pair<std::string, std::function<void()>>> nodes;
};

struct CUgraphExec_st {
    CUgraph_st graph;
};

struct CUstream_st {
    int number;
    std::deque<Op> queue;
    Clock clock; /* of the next operation */
    uint32_t enqueued, ran;
    bool busy;           /* its first operation runs, and waits for another stream */
    CUgraph_st *capture; /* NULL: none */
    bool spoilt;
};

struct CUevent_st {
    CUstream_st *stream; /* NULL: not recorded yet */
    uint32_t index;      /* the operation in it that records */
    Clock clock;
    double at; /* seconds, once it has run */
    bool timed;
};

namespace standin {

static std::vector<CUstream_st *> streams;
static int stream_numbers;
static Clock host_clock;
static cudaError_t last_error, sticky_error;
static uint64_t graph_launches;
static int device_now;

static void join(Clock &into, const Clock &from) {
    if (into.size() < from.size()) into.resize(from.size());
    for (size_t i = 0; i < from.size(); i++)
        if (from[i] > into[i]) into[i] = from[i];
}

static cudaError_t result(cudaError_t status) {
    if (status != cudaSuccess) last_error = status;
    return status;
}

cudaError_t launch_error(cudaError_t status) {
    return result(status);
}

bool stream_known(cudaStream_t stream) {
    for (CUstream_st *s : streams)
        if (s == stream) return true;
    return false;
}

static CUstream_st *check_stream(cudaStream_t stream, const char *call) {
    if (!stream) report("%s on the default stream, which waits for every other", call);
    if (!stream_known(stream)) report("%s on a stream that was destroyed or never made", call);
    return stream;
}

bool capture_forbids() {
    bool any = false;
    for (CUstream_st *s : streams)
        if (s->capture) any = s->spoilt = true;
    return any;
}

cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> run) {
    CUstream_st *s = check_stream(stream, name);
    if (sticky_error) return sticky_error;
    if (s->capture) {
        s->capture->nodes.push_back({name, run});
        return cudaSuccess;
    }
    size_t place = (size_t)s->number;
    join(s->clock, host_clock);
    if (s->clock.size() <= place) s->clock.resize(place + 1);
    s->clock[place] = ++s->enqueued;
    s->queue.push_back(
        {name, run, next_serial(s->number, s->enqueued, name), s->number, s->enqueued, s->clock});
    return cudaSuccess;
}

static void run_until(CUstream_st *s, uint32_t index);

static void run_one(CUstream_st *s) {
    Op op = s->queue.front();
    s->queue.pop_front();
    s->busy = true;
    run_op(op);
    s->busy = false;
    s->ran = op.index;
}

/* Runs the stream up to its operation `index`; others go on a little, by chance. */
static void run_until(CUstream_st *s, uint32_t index) {
    if (s->ran >= index) return;
    memory_open();
    while (s->ran < index && !s->queue.empty()) {
        CUstream_st *other = streams[choose((uint32_t)streams.size())];
        if (other != s && !other->busy && !other->queue.empty() && choose(4) == 0) run_one(other);
        if (s->ran < index && !s->queue.empty()) run_one(s);
    }
    memory_close();
}

static void sync_stream(CUstream_st *s) {
    run_until(s, s->enqueued);
    join(host_clock, s->clock);
}

static void sync_device() {
    for (CUstream_st *s : streams) sync_stream(s);
}

/* The checks that begin every call. */
#define CALL(name)                                                                                 \
    do {                                                                                           \
        if (call_fails(name)) return result(cudaErrorUnknown);                                     \
        if (sticky_error) return result(sticky_error);                                             \
    } while (0)
#define NOT_IN_CAPTURE                                                                             \
    do {                                                                                           \
        if (capture_forbids()) return result(cudaErrorStreamCaptureUnsupported);                   \
    } while (0)

static double seconds() {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int gpus() {
    const char *count = getenv("STANDIN_GPUS");
    return count && *count ? atoi(count) : 1;
}

} // namespace standin

extern "C" {

void standin_reset_error(void) {
    last_error = sticky_error = cudaSuccess;
}

uint64_t standin_graph_launches(void) {
    return graph_launches;
}

/* --- devices --- */

cudaError_t cudaGetDeviceCount(int *count) {
    CALL("cudaGetDeviceCount");
    *count = gpus();
    return result(*count ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    CALL("cudaSetDevice");
    if (device < 0 || device >= gpus()) return result(cudaErrorInvalidDevice);
    device_now = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    CALL("cudaGetDevice");
    *device = device_now;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    CALL("cudaDeviceGetAttribute");
    if (device < 0 || device >= gpus()) return result(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    default: return result(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
    cudaError_t was = sticky_error ? sticky_error : last_error;
    last_error = cudaSuccess;
    return was;
}

static const char *const error_names[][3] = {
    {"2", "cudaErrorMemoryAllocation", "out of memory"},
    {"9", "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {"100", "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {"701", "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {"900", "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {"999", "cudaErrorUnknown", "unknown error"},
};

const char *cudaGetErrorName(cudaError_t error) {
    for (auto &e : error_names)
        if (atoi(e[0]) == (int)error) return e[1];
    return "cudaError";
}

const char *cudaGetErrorString(cudaError_t error) {
    for (auto &e : error_names)
        if (atoi(e[0]) == (int)error) return e[2];
    return "an error";
}

/* --- memory --- */

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    if (call_fails("cudaMalloc")) return result(cudaErrorMemoryAllocation);
    CALL("");
    NOT_IN_CAPTURE;
    *memory = memory_take(DEVICE, bytes);
    return *memory ? cudaSuccess : result(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *memory) {
    CALL("cudaFree");
    NOT_IN_CAPTURE;
    sync_device();
    if (memory) memory_release(DEVICE, memory);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes) {
    if (call_fails("cudaMallocHost")) return result(cudaErrorMemoryAllocation);
    CALL("");
    NOT_IN_CAPTURE;
    *memory = memory_take(PINNED, bytes);
    return *memory ? cudaSuccess : result(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *memory) {
    CALL("cudaFreeHost");
    NOT_IN_CAPTURE;
    sync_device();
    if (memory) memory_release(PINNED, memory);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    CALL("cudaMemGetInfo");
    memory_info(free, total);
    return cudaSuccess;
}

/* One end of a copy: in memory of its kind, all of it. */
static void check_end(const char *what, const void *at, size_t bytes, bool device) {
    Space space = device ? DEVICE : PINNED, other = device ? PINNED : DEVICE;
    if (memory_is(other, at))
        report("a copy's %s is %s memory where its kind says otherwise", what,
               device ? "host" : "device");
    if (!memory_is(space, at))
        report("a copy's %s is %s", what,
               device ? "no device memory" : "pageable: an asynchronous copy wants pinned memory");
    if (memory_room(at) < bytes)
        report("a copy's %s has %zu bytes of %zu", what, memory_room(at), bytes);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    CALL("cudaMemcpyAsync");
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!to_device && !from_device) report("a copy of kind %d", (int)kind);
    if (bytes == 0) return cudaSuccess;
    check_end("destination", to, bytes, to_device);
    check_end("source", from, bytes, from_device);
    if ((const char *)to < (const char *)from + bytes &&
        (const char *)from < (const char *)to + bytes)
        report("a copy's ends overlap");
    return result(enqueue(stream, "cudaMemcpyAsync", [=]() {
        if (from_device) touch_read(from, bytes);
        touch_write(to, bytes);
        memcpy(memory_seen(to), memory_seen(from), bytes);
    }));
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream) {
    CALL("cudaMemsetAsync");
    if (bytes == 0) return cudaSuccess;
    check_end("destination", at, bytes, true);
    return result(enqueue(stream, "cudaMemsetAsync", [=]() {
        touch_write(at, bytes);
        memset(memory_seen(at), value, bytes);
    }));
}

/* --- streams --- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    CALL("cudaStreamCreateWithFlags");
    (void)flags;
    *stream = new CUstream_st{stream_numbers++, {}, {}, 0, 0, false, NULL, false};
    streams.push_back(*stream);
    made("stream");
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    CALL("cudaStreamDestroy");
    CUstream_st *s = check_stream(stream, "cudaStreamDestroy");
    sync_stream(s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (long)i);
    delete s;
    destroyed("stream");
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    CALL("cudaStreamSynchronize");
    NOT_IN_CAPTURE;
    sync_stream(check_stream(stream, "cudaStreamSynchronize"));
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    CALL("cudaDeviceSynchronize");
    NOT_IN_CAPTURE;
    sync_device();
    return cudaSuccess;
}

/* --- events --- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    CALL("cudaEventCreateWithFlags");
    *event = new CUevent_st{NULL, 0, {}, 0, !(flags & cudaEventDisableTiming)};
    made("event");
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    CALL("cudaEventDestroy");
    if (event->stream && stream_known(event->stream)) sync_stream(event->stream);
    delete event;
    destroyed("event");
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    CALL("cudaEventRecord");
    CUstream_st *s = check_stream(stream, "cudaEventRecord");
    if (s->capture) report("an event is recorded in a capture, which the stand-in does not know");
    cudaError_t status = enqueue(stream, "cudaEventRecord", [=]() { event->at = seconds(); });
    event->stream = s;
    event->index = s->enqueued;
    event->clock = s->clock;
    return result(status);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    CALL("cudaStreamWaitEvent");
    (void)flags;
    CUstream_st *s = check_stream(stream, "cudaStreamWaitEvent"), *other = event->stream;
    if (!other || other == s) return cudaSuccess; /* nothing to wait for */
    uint32_t index = event->index;
    join(s->clock, event->clock);
    return result(enqueue(stream, "cudaStreamWaitEvent", [=]() {
        if (stream_known(other)) run_until(other, index);
    }));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    CALL("cudaEventSynchronize");
    NOT_IN_CAPTURE;
    if (!event->stream || !stream_known(event->stream)) return cudaSuccess;
    run_until(event->stream, event->index);
    join(host_clock, event->clock);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    CALL("cudaEventElapsedTime");
    if (!start->timed || !end->timed || !start->stream || !end->stream)
        return result(cudaErrorInvalidResourceHandle);
    if (start->stream->ran < start->index || end->stream->ran < end->index)
        return result(cudaErrorNotReady);
    *milliseconds = (float)(1e3 * (end->at - start->at));
    return cudaSuccess;
}

/* --- graphs --- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    CALL("cudaStreamBeginCapture");
    (void)mode;
    CUstream_st *s = check_stream(stream, "cudaStreamBeginCapture");
    if (s->capture) return result(cudaErrorIllegalState);
    s->capture = new CUgraph_st;
    s->spoilt = false;
    made("graph");
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    CUstream_st *s = check_stream(stream, "cudaStreamEndCapture");
    if (!s->capture) return result(cudaErrorIllegalState);
    CUgraph_st *g = s->capture;
    bool fails = call_fails("cudaStreamEndCapture");
    s->capture = NULL;
    *graph = NULL;
    if (fails || s->spoilt || sticky_error) {
        delete g;
        destroyed("graph");
        return result(fails ? cudaErrorUnknown : cudaErrorStreamCaptureInvalidated);
    }
    *graph = g;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags) {
    CALL("cudaGraphInstantiate");
    (void)flags;
    *exec = new CUgraphExec_st{*graph};
    made("executable graph");
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    CALL("cudaGraphDestroy");
    delete graph;
    destroyed("graph");
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    CALL("cudaGraphExecDestroy");
    delete exec;
    destroyed("executable graph");
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    CALL("cudaGraphLaunch");
    NOT_IN_CAPTURE;
    graph_launches++;
    for (auto &node : exec->graph.nodes) {
        cudaError_t status = enqueue(stream, node.first.c_str(), node.second);
        if (status != cudaSuccess) return result(status);
    }
    return cudaSuccess;
}
}
