/* Interpolation of channels-last images. Backward gathers, as in windows.cu. */
#include "backend/cuda/launch.h"

static __device__ inline float between(ResizeCell c, float low, float high) {
    return (1 - c.weight) * low + c.weight * high;
}

template <typename T>
static __global__ void resize(const T *x, const ResizeCell *cells, T *y, Window w, bool linear,
                              int64_t n) {
    EACH(i, n) {
        int64_t c = i % w.C, column = i / w.C % w.OW, row = i / w.C / w.OW % w.OH;
        const T *plane = x + i / w.C / w.OW / w.OH * w.H * w.W * w.C + c;
        ResizeCell v = cells[row], h = cells[w.OH + column];
        const T *top = plane + v.low * w.W * w.C, *bottom = plane + v.high * w.W * w.C;
        float value = real_get(top + h.low * w.C);
        if (linear)
            value = between(
                v, between(h, value, real_get(top + h.high * w.C)),
                between(h, real_get(bottom + h.low * w.C), real_get(bottom + h.high * w.C)));
        real_put(y + i, value);
    }
}

cudaError_t kernel_resize(cudaStream_t s, Real real, const void *x, const ResizeCell *cells,
                          void *y, Window w, bool linear) {
    int64_t n = w.N * w.OH * w.OW * w.C;
    WITH_REAL(real, LAUNCH(resize<T>, blocks_for(n), THREADS, s, (const T *)x, cells, (T *)y, w,
                           linear, n));
}

/* The weight of input cell h in output cell c. */
static __device__ inline float counts_for(ResizeCell c, bool linear, int64_t h) {
    if (!linear) return c.low == h ? 1.0f : 0.0f;
    return (c.low == h ? 1 - c.weight : 0) + (c.high == h ? c.weight : 0);
}

template <typename T>
static __global__ void resize_back(const T *dy, const ResizeCell *cells, const ResizeReach *reaches,
                                   T *dx, Window w, bool linear, int64_t n, bool sum) {
    EACH(i, n) {
        int64_t c = i % w.C, column = i / w.C % w.W, row = i / w.C / w.W % w.H;
        const T *plane = dy + i / w.C / w.W / w.H * w.OH * w.OW * w.C + c;
        ResizeReach down = reaches[row], across = reaches[w.H + column];
        float g = 0;
        for (int64_t oh = down.first; oh < down.end; oh++) {
            float part = 0;
            for (int64_t ow = across.first; ow < across.end; ow++)
                part += counts_for(cells[w.OH + ow], linear, column) *
                        real_get(plane + (oh * w.OW + ow) * w.C);
            g += counts_for(cells[oh], linear, row) * part;
        }
        real_put(dx + i, sum ? real_get(dx + i) + g : g);
    }
}

cudaError_t kernel_resize_back(cudaStream_t s, Real real, const void *dy, const ResizeCell *cells,
                               const ResizeReach *reaches, void *dx, Window w, bool linear,
                               bool sum) {
    int64_t n = w.N * w.H * w.W * w.C;
    WITH_REAL(real, LAUNCH(resize_back<T>, blocks_for(n), THREADS, s, (const T *)dy, cells, reaches,
                           (T *)dx, w, linear, n, sum));
}
