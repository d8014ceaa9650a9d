/* Strided copies between values. A move's strides are in contiguous order, [N,C,P] of each value;
 * memory is channels-last. */
#include "backend/cuda/launch.h"

static __device__ inline int64_t in_memory(int64_t at, const MoveSide &s) {
    return at % s.P * s.C + at / s.P;
}

template <typename T>
static __global__ void move(const T *x, T *y, MoveShape s, int64_t each, int64_t n, bool sum) {
    EACH(i, n) {
        int64_t image = i / each, rest = i % each, from = s.x.at, to = s.y.at;
        for (int d = s.ndim - 1; d >= 0; d--) {
            int64_t k = rest % s.n[d];
            rest /= s.n[d];
            from += k * s.x.stride[d];
            to += k * s.y.stride[d];
        }
        T *out = y + image * s.y.C * s.y.P + in_memory(to, s.y);
        float v = real_get(x + image * s.x.C * s.x.P + in_memory(from, s.x));
        real_put(out, sum ? real_get(out) + v : v);
    }
}

cudaError_t kernel_move(cudaStream_t s, Real real, const void *x, void *y, MoveShape shape,
                        bool sum) {
    int64_t each = 1;
    for (int d = 0; d < shape.ndim; d++) each *= shape.n[d];
    int64_t n = shape.N * each;
    WITH_REAL(real, LAUNCH(move<T>, blocks_for(n), THREADS, s, (const T *)x, (T *)y, shape, each, n,
                           sum));
}
