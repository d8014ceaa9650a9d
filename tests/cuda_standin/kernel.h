/* Lets g++ compile the plugin's .cu files: CUDA's words for functions and threads, over the
 * stand-in's fibers. Memory accesses of the kernels reach the stand-in because these files are
 * compiled with -fsanitize=kernel-address, whose calls machine.cpp answers. */
#ifndef STANDIN_KERNEL_H
#define STANDIN_KERNEL_H

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>

#undef __global__
#undef __device__
#undef __host__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

struct StandinThread {
    uint3 thread, block;
    dim3 threads, blocks;
};
extern StandinThread standin_thread;
#define threadIdx standin_thread.thread
#define blockIdx standin_thread.block
#define blockDim standin_thread.threads
#define gridDim standin_thread.blocks

void standin_barrier();
/* The value that lane `from` of the warp put in; every lane of mask has to come. */
uint64_t standin_exchange(unsigned mask, uint64_t value, int from);
/* Lanes of mask whose value is not 0. */
unsigned standin_ballot(unsigned mask, bool value);
void *standin_shared(size_t bytes, const char *name);
/* Queues a grid; `arguments` are copied, and `thread` is called with the copy by every thread. */
cudaError_t standin_enqueue(const char *name, dim3 grid, dim3 block, cudaStream_t stream,
                            const void *arguments, size_t bytes, void (*thread)(const void *));

#define __syncthreads() standin_barrier()

template <typename T> static inline T standin_shuffle(unsigned mask, T value, int from) {
    uint64_t bits = 0;
    static_assert(sizeof value <= sizeof bits, "a shuffle moves at most 8 bytes");
    memcpy(&bits, &value, sizeof value);
    bits = standin_exchange(mask, bits, from);
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    int lane = (int)(threadIdx.x & 31);
    return standin_shuffle(mask, value, lane ^ lanes);
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int lane) {
    return standin_shuffle(mask, value, lane & 31);
}

static inline unsigned __ballot_sync(unsigned mask, bool value) {
    return standin_ballot(mask, value);
}

static const char all_kernels = 0; /* where functions without state are said to be */

/* The arguments are evaluated here, once, as at a real launch; every thread then calls `kernel`
 * with the copies. */
template <typename Kernel, typename... Args>
static inline cudaError_t standin_launch(const char *name, dim3 grid, dim3 block,
                                         cudaStream_t stream, Kernel, Args... args) {
    static_assert((std::is_trivially_copyable<Args>::value && ...), "arguments are plain data");
    typedef std::tuple<Args...> Copies;
    Copies copies(args...);
    return standin_enqueue(name, grid, block, stream, &copies, sizeof copies, [](const void *all) {
        std::apply([](Args... copied) { (*(const Kernel *)&all_kernels)(copied...); },
                   *(const Copies *)all);
    });
}

/* The kernel is wrapped in a function without state, so that it may be a template. */
#define LAUNCH(kernel, grid, block, stream, ...)                                                   \
    standin_launch(                                                                                \
        #kernel, grid, block, stream, [](auto... copied) { kernel(copied...); }, __VA_ARGS__)
/* An array that the threads of a block share. */
#define SHARED(type, name, count) type *name = (type *)standin_shared(sizeof(type) * (count), #name)

#endif
