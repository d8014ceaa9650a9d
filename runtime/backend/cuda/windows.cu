/* Windows over channels-last images: pooling, padding, depthwise convolutions. Backward gathers:
 * each element of dx looks for the windows that contain it. So sums have a fixed order and need no
 * atomics. Max pooling stores the winner's index. cuDNN's pooling would need the input and output
 * instead. It supports neither windows that extend past the edge nor torch's uneven averages. */
#include "backend/cuda/launch.h"

/* Splits the index i of [N,rows,columns,C]. */
struct Place {
    int64_t n, h, w, c;
};

static __device__ inline Place place_of(int64_t i, int64_t rows, int64_t columns, int64_t C) {
    Place p;
    p.c = i % C;
    p.w = i / C % columns;
    p.h = i / C / columns % rows;
    p.n = i / C / columns / rows;
    return p;
}

/* The outputs first .. end-1 whose windows contain row or column h. */
struct Range {
    int64_t first, end;
};

static __device__ inline Range outputs_of(int64_t h, const Window &w, int axis) {
    int64_t at = h + w.pad[axis], out = axis ? w.OW : w.OH;
    int64_t first = at < w.kernel[axis] ? 0 : (at - w.kernel[axis]) / w.stride[axis] + 1;
    int64_t end = at / w.stride[axis] + 1;
    Range r = {first, end < out ? end : out};
    return r;
}

template <typename T>
static __global__ void maxpool(const T *x, T *y, int32_t *winner, Window w, int64_t n) {
    EACH(i, n) {
        Place p = place_of(i, w.OH, w.OW, w.C);
        int64_t best = -1;
        float most = 0;
        for (int64_t r = 0; r < w.kernel[0]; r++)
            for (int64_t q = 0; q < w.kernel[1]; q++) {
                int64_t h = p.h * w.stride[0] + r - w.pad[0], v = p.w * w.stride[1] + q - w.pad[1];
                if (h < 0 || h >= w.H || v < 0 || v >= w.W) continue;
                float value = real_get(x + ((p.n * w.H + h) * w.W + v) * w.C + p.c);
                if (best < 0 || value > most || value != value) best = h * w.W + v, most = value;
            }
        real_put(y + i, most);
        if (winner) winner[i] = (int32_t)best;
    }
}

cudaError_t kernel_maxpool(cudaStream_t s, Real real, const void *x, void *y, int32_t *winner,
                           Window w) {
    int64_t n = w.N * w.OH * w.OW * w.C;
    WITH_REAL(real,
              LAUNCH(maxpool<T>, blocks_for(n), THREADS, s, (const T *)x, (T *)y, winner, w, n));
}

template <typename T>
static __global__ void maxpool_back(const T *dy, const int32_t *winner, T *dx, Window w, int64_t n,
                                    bool sum) {
    EACH(i, n) {
        Place p = place_of(i, w.H, w.W, w.C);
        Range rows = outputs_of(p.h, w, 0), columns = outputs_of(p.w, w, 1);
        float g = 0;
        for (int64_t oh = rows.first; oh < rows.end; oh++)
            for (int64_t ow = columns.first; ow < columns.end; ow++) {
                int64_t o = ((p.n * w.OH + oh) * w.OW + ow) * w.C + p.c;
                if (winner[o] == p.h * w.W + p.w) g += real_get(dy + o);
            }
        real_put(dx + i, sum ? real_get(dx + i) + g : g);
    }
}

cudaError_t kernel_maxpool_back(cudaStream_t s, Real real, const void *dy, const int32_t *winner,
                                void *dx, Window w, bool sum) {
    int64_t n = w.N * w.H * w.W * w.C;
    WITH_REAL(real, LAUNCH(maxpool_back<T>, blocks_for(n), THREADS, s, (const T *)dy, winner,
                           (T *)dx, w, n, sum));
}

/* --- average --- */

/* The rows or columns of output i's window inside the image, and how many count. */
static __device__ inline Range inside(int64_t i, const Window &w, int axis) {
    int64_t start = i * w.stride[axis] - w.pad[axis], end = start + w.kernel[axis];
    int64_t size = axis ? w.W : w.H;
    Range r = {start < 0 ? 0 : start, end < size ? end : size};
    return r;
}

static __device__ inline int64_t counted(int64_t i, const Window &w, const AverageWindow &a,
                                         int axis) {
    Range r = inside(i, w, axis);
    if (!a.count_pad) return r.end - r.first;
    int64_t start = i * w.stride[axis] - w.pad[axis], end = start + w.kernel[axis];
    return (end < a.end[axis] ? end : a.end[axis]) - start;
}

template <typename T>
static __global__ void avgwindow(const T *x, T *y, Window w, AverageWindow a, int64_t n) {
    EACH(i, n) {
        Place p = place_of(i, w.OH, w.OW, w.C);
        Range rows = inside(p.h, w, 0), columns = inside(p.w, w, 1);
        float total = 0;
        for (int64_t h = rows.first; h < rows.end; h++)
            for (int64_t v = columns.first; v < columns.end; v++)
                total += real_get(x + ((p.n * w.H + h) * w.W + v) * w.C + p.c);
        real_put(y + i, total / (float)(counted(p.h, w, a, 0) * counted(p.w, w, a, 1)));
    }
}

cudaError_t kernel_avgwindow(cudaStream_t s, Real real, const void *x, void *y, Window w,
                             AverageWindow a) {
    int64_t n = w.N * w.OH * w.OW * w.C;
    WITH_REAL(real, LAUNCH(avgwindow<T>, blocks_for(n), THREADS, s, (const T *)x, (T *)y, w, a, n));
}

template <typename T>
static __global__ void avgwindow_back(const T *dy, T *dx, Window w, AverageWindow a, int64_t n,
                                      bool sum) {
    EACH(i, n) {
        Place p = place_of(i, w.H, w.W, w.C);
        Range rows = outputs_of(p.h, w, 0), columns = outputs_of(p.w, w, 1);
        float g = 0;
        for (int64_t oh = rows.first; oh < rows.end; oh++)
            for (int64_t ow = columns.first; ow < columns.end; ow++)
                g += real_get(dy + ((p.n * w.OH + oh) * w.OW + ow) * w.C + p.c) /
                     (float)(counted(oh, w, a, 0) * counted(ow, w, a, 1));
        real_put(dx + i, sum ? real_get(dx + i) + g : g);
    }
}

cudaError_t kernel_avgwindow_back(cudaStream_t s, Real real, const void *dy, void *dx, Window w,
                                  AverageWindow a, bool sum) {
    int64_t n = w.N * w.H * w.W * w.C;
    WITH_REAL(real, LAUNCH(avgwindow_back<T>, blocks_for(n), THREADS, s, (const T *)dy, (T *)dx, w,
                           a, n, sum));
}

/* --- adaptive average --- */

static __device__ inline Range averaged_by(int64_t i, int64_t size, int64_t out) {
    Range r = {i * size / out, ((i + 1) * size + out - 1) / out};
    return r;
}

/* The cells that average over row h. */
static __device__ inline Range averages_of(int64_t h, int64_t size, int64_t out) {
    Range r = {h * out / size, ((h + 1) * out + size - 1) / size};
    return r;
}

template <typename T> static __global__ void average(const T *x, T *y, Window w, int64_t n) {
    EACH(i, n) {
        Place p = place_of(i, w.OH, w.OW, w.C);
        Range rows = averaged_by(p.h, w.H, w.OH), columns = averaged_by(p.w, w.W, w.OW);
        float total = 0;
        for (int64_t h = rows.first; h < rows.end; h++)
            for (int64_t v = columns.first; v < columns.end; v++)
                total += real_get(x + ((p.n * w.H + h) * w.W + v) * w.C + p.c);
        real_put(y + i, total / (float)((rows.end - rows.first) * (columns.end - columns.first)));
    }
}

cudaError_t kernel_average(cudaStream_t s, Real real, const void *x, void *y, Window w) {
    int64_t n = w.N * w.OH * w.OW * w.C;
    WITH_REAL(real, LAUNCH(average<T>, blocks_for(n), THREADS, s, (const T *)x, (T *)y, w, n));
}

template <typename T>
static __global__ void average_back(const T *dy, T *dx, Window w, int64_t n, bool sum) {
    EACH(i, n) {
        Place p = place_of(i, w.H, w.W, w.C);
        Range rows = averages_of(p.h, w.H, w.OH), columns = averages_of(p.w, w.W, w.OW);
        float g = 0;
        for (int64_t oh = rows.first; oh < rows.end; oh++)
            for (int64_t ow = columns.first; ow < columns.end; ow++) {
                Range down = averaged_by(oh, w.H, w.OH), across = averaged_by(ow, w.W, w.OW);
                float cells = (float)((down.end - down.first) * (across.end - across.first));
                g += real_get(dy + ((p.n * w.OH + oh) * w.OW + ow) * w.C + p.c) / cells;
            }
        real_put(dx + i, sum ? real_get(dx + i) + g : g);
    }
}

cudaError_t kernel_average_back(cudaStream_t s, Real real, const void *dy, void *dx, Window w,
                                bool sum) {
    int64_t n = w.N * w.H * w.W * w.C;
    WITH_REAL(real, LAUNCH(average_back<T>, blocks_for(n), THREADS, s, (const T *)dy, (T *)dx, w, n,
                           sum));
}

/* --- padding --- */

template <typename T> static __global__ void pad(const T *x, T *y, Window w, int64_t n) {
    EACH(i, n) {
        Place p = place_of(i, w.OH, w.OW, w.C);
        int64_t h = p.h - w.pad[0], v = p.w - w.pad[1];
        bool in = h >= 0 && h < w.H && v >= 0 && v < w.W;
        real_put(y + i, in ? real_get(x + ((p.n * w.H + h) * w.W + v) * w.C + p.c) : 0);
    }
}

cudaError_t kernel_pad(cudaStream_t s, Real real, const void *x, void *y, Window w) {
    int64_t n = w.N * w.OH * w.OW * w.C;
    WITH_REAL(real, LAUNCH(pad<T>, blocks_for(n), THREADS, s, (const T *)x, (T *)y, w, n));
}

template <typename T> static __global__ void crop(const T *y, T *x, Window w, int64_t n, bool sum) {
    EACH(i, n) {
        Place p = place_of(i, w.H, w.W, w.C);
        float v = real_get(y + ((p.n * w.OH + p.h + w.pad[0]) * w.OW + p.w + w.pad[1]) * w.C + p.c);
        real_put(x + i, sum ? real_get(x + i) + v : v);
    }
}

cudaError_t kernel_crop(cudaStream_t s, Real real, const void *y, void *x, Window w, bool sum) {
    int64_t n = w.N * w.H * w.W * w.C;
    WITH_REAL(real, LAUNCH(crop<T>, blocks_for(n), THREADS, s, (const T *)y, (T *)x, w, n, sum));
}

/* --- depthwise convolutions: too little arithmetic per byte for a matrix product --- */

template <typename T>
static __global__ void depthwise(const T *x, const T *weight, T *y, Window w, int64_t n) {
    EACH(i, n) {
        Place p = place_of(i, w.OH, w.OW, w.C);
        float total = 0;
        for (int64_t r = 0; r < w.kernel[0]; r++)
            for (int64_t q = 0; q < w.kernel[1]; q++) {
                int64_t h = p.h * w.stride[0] + r - w.pad[0], v = p.w * w.stride[1] + q - w.pad[1];
                if (h < 0 || h >= w.H || v < 0 || v >= w.W) continue;
                total += real_get(x + ((p.n * w.H + h) * w.W + v) * w.C + p.c) *
                         real_get(weight + (r * w.kernel[1] + q) * w.C + p.c);
            }
        real_put(y + i, total);
    }
}

cudaError_t kernel_depthwise(cudaStream_t s, Real real, const void *x, const void *weight, void *y,
                             Window w) {
    int64_t n = w.N * w.OH * w.OW * w.C;
    WITH_REAL(real, LAUNCH(depthwise<T>, blocks_for(n), THREADS, s, (const T *)x, (const T *)weight,
                           (T *)y, w, n));
}

template <typename T>
static __global__ void depthwise_data(const T *dy, const T *weight, T *dx, Window w, int64_t n,
                                      bool sum) {
    EACH(i, n) {
        Place p = place_of(i, w.H, w.W, w.C);
        Range rows = outputs_of(p.h, w, 0), columns = outputs_of(p.w, w, 1);
        float g = 0;
        for (int64_t oh = rows.first; oh < rows.end; oh++)
            for (int64_t ow = columns.first; ow < columns.end; ow++) {
                int64_t r = p.h + w.pad[0] - oh * w.stride[0],
                        q = p.w + w.pad[1] - ow * w.stride[1];
                g += real_get(dy + ((p.n * w.OH + oh) * w.OW + ow) * w.C + p.c) *
                     real_get(weight + (r * w.kernel[1] + q) * w.C + p.c);
            }
        real_put(dx + i, sum ? real_get(dx + i) + g : g);
    }
}

cudaError_t kernel_depthwise_data(cudaStream_t s, Real real, const void *dy, const void *weight,
                                  void *dx, Window w, bool sum) {
    int64_t n = w.N * w.H * w.W * w.C;
    WITH_REAL(real, LAUNCH(depthwise_data<T>, blocks_for(n), THREADS, s, (const T *)dy,
                           (const T *)weight, (T *)dx, w, n, sum));
}

/* One warp per weight: its lanes share the outputs. */
static __global__ void depthwise_weights(const float *x, const float *dy, float *dweight, Window w,
                                         int64_t weights) {
    int64_t i = (int64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    int64_t outputs = w.N * w.OH * w.OW;
    int lane = threadIdx.x % WARP;
    if (i >= weights) return;
    int64_t c = i % w.C, q = i / w.C % w.kernel[1], r = i / w.C / w.kernel[1];
    double total = 0;
    for (int64_t o = lane; o < outputs; o += WARP) {
        int64_t ow = o % w.OW, oh = o / w.OW % w.OH, n = o / w.OW / w.OH;
        int64_t h = oh * w.stride[0] + r - w.pad[0], v = ow * w.stride[1] + q - w.pad[1];
        if (h < 0 || h >= w.H || v < 0 || v >= w.W) continue;
        total += (double)x[((n * w.H + h) * w.W + v) * w.C + c] * (double)dy[o * w.C + c];
    }
    total = warp_sum(total);
    if (lane == 0) dweight[i] = (float)total;
}

cudaError_t kernel_depthwise_weights(cudaStream_t s, const float *x, const float *dy,
                                     float *dweight, Window w) {
    int64_t weights = w.kernel[0] * w.kernel[1] * w.C, warps = THREADS / WARP;
    dim3 grid((unsigned)((weights + warps - 1) / warps));
    return LAUNCH(depthwise_weights, grid, THREADS, s, x, dy, dweight, w, weights);
}
