/* Norms of gradients, the step of Eq. 11-16, and the steps of other attacks. One block per piece of
 * an image; then one warp per image adds its pieces in a fixed order. */
#include "backend/cuda/launch.h"

enum { PIECE = 8192 };

int64_t kernel_pieces(int64_t D) {
    int64_t pieces = (D + PIECE - 1) / PIECE;
    return pieces < 1 ? 1 : pieces;
}

/* The sum over the block's threads, in thread 0: first within warps, then over the warps. */
static __device__ inline CudaPartial block_sum(CudaPartial p) {
    SHARED(double, square, THREADS / WARP);
    SHARED(double, largest, THREADS / WARP);
    SHARED(int64_t, zeros, THREADS / WARP);
    int warp = threadIdx.x / WARP;
    p.square = warp_sum(p.square);
    p.largest = warp_max(p.largest);
    p.zeros = warp_sum(p.zeros);
    if (threadIdx.x % WARP == 0) {
        square[warp] = p.square;
        largest[warp] = p.largest;
        zeros[warp] = p.zeros;
    }
    __syncthreads();
    for (int w = 1; w < THREADS / WARP && threadIdx.x == 0; w++) {
        p.square += square[w];
        p.largest = largest[w] > p.largest ? largest[w] : p.largest;
        p.zeros += zeros[w];
    }
    return p;
}

static __global__ void norm_pieces(const float *q, int64_t D, int64_t pieces,
                                   CudaPartial *partial) {
    int64_t n = blockIdx.x / pieces, first = blockIdx.x % pieces * PIECE;
    int64_t end = first + PIECE < D ? first + PIECE : D;
    CudaPartial p = {0, 0, 0};
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        double v = (double)q[n * D + i], size = fabs(v);
        p.square += v * v;
        p.largest = size > p.largest ? size : p.largest;
        p.zeros += v == 0;
    }
    p = block_sum(p);
    if (threadIdx.x == 0) partial[blockIdx.x] = p;
}

static __global__ void step_pieces(float *x, const float *q, const double *a, const float *x0,
                                   Box box, int64_t D, int64_t pieces, CudaPartial *partial) {
    int64_t n = blockIdx.x / pieces, first = blockIdx.x % pieces * PIECE;
    int64_t end = first + PIECE < D ? first + PIECE : D;
    CudaPartial p = {0, 0, 0};
    double multiplier = a[n];
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        int64_t at = n * D + i;
        float to = x[at];
        if (multiplier != 0) {
            double v = (double)to + multiplier * (double)q[at];
            double low = box.low ? (double)box.low[i] : 0, high = box.low ? (double)box.high[i] : 1;
            v = v < low ? low : v;
            v = v > high ? high : v;
            to = (float)v;
            x[at] = to;
        }
        double d = fabs((double)to - (double)x0[at]);
        p.square += d * d;
        p.largest = d > p.largest ? d : p.largest;
    }
    p = block_sum(p);
    if (threadIdx.x == 0) partial[blockIdx.x] = p;
}

/* Adds the pieces of image n. largest is NaN if the sum of squares is NaN; comparisons would skip
 * NaN. linf and zero_share may be NULL. */
static __global__ void add_pieces(const CudaPartial *partial, int64_t N, int64_t D, int64_t pieces,
                                  double *l2, double *linf, double *zero_share) {
    EACH(n, N) {
        CudaPartial all = {0, 0, 0};
        for (int64_t i = 0; i < pieces; i++) {
            CudaPartial p = partial[n * pieces + i];
            all.square += p.square;
            all.largest = p.largest > all.largest ? p.largest : all.largest;
            all.zeros += p.zeros;
        }
        l2[n] = sqrt(all.square);
        if (linf) linf[n] = all.square != all.square ? all.square : all.largest;
        if (zero_share) zero_share[n] = D ? (double)all.zeros / (double)D : 0;
    }
}

cudaError_t kernel_norms(cudaStream_t s, const float *q, int64_t N, int64_t D, CudaPartial *partial,
                         double *l2, double *linf, double *zero_share) {
    int64_t pieces = kernel_pieces(D);
    if (N == 0) return cudaSuccess;
    dim3 grid((unsigned)(N * pieces));
    cudaError_t done = LAUNCH(norm_pieces, grid, THREADS, s, q, D, pieces, partial);
    if (done != cudaSuccess) return done;
    return LAUNCH(add_pieces, blocks_for(N), THREADS, s, partial, N, D, pieces, l2, linf,
                  zero_share);
}

cudaError_t kernel_step(cudaStream_t s, float *x, const float *q, const double *a, const float *x0,
                        Box box, int64_t N, int64_t D, CudaPartial *partial, double *l2,
                        double *linf) {
    int64_t pieces = kernel_pieces(D);
    double *none = NULL;
    if (N == 0) return cudaSuccess;
    dim3 grid((unsigned)(N * pieces));
    cudaError_t done = LAUNCH(step_pieces, grid, THREADS, s, x, q, a, x0, box, D, pieces, partial);
    if (done != cudaSuccess) return done;
    return LAUNCH(add_pieces, blocks_for(N), THREADS, s, partial, N, D, pieces, l2, linf, none);
}

/* --- the steps of attacks that need more than x + a q --- */

/* Maps a float's bits to an integer with the same order as floats, and back; -0 maps to 0. */
static __device__ inline int32_t in_order(int32_t bits) {
    return bits < 0 ? INT32_MIN - bits : bits;
}

/* x0 + d as a float. If rounding moved further from x0 than d, takes the next float towards x0. */
static __device__ inline float towards(double x0, double d) {
    union {
        float value;
        int32_t bits;
    } y;
    y.value = (float)(x0 + d);
    double made = (double)y.value - x0;
    y.bits = in_order(in_order(y.bits) - ((made > d && d >= 0) - (made < d && d <= 0)));
    return y.value;
}

static __global__ void project(float *x, const float *x0, const double *s, const double *r,
                               int64_t D, int64_t n) {
    EACH(i, n) {
        double scale = s[i / D], radius = r[i / D];
        double d = scale * ((double)x[i] - (double)x0[i]), held = d < -radius ? -radius : d;
        held = held > radius ? radius : held;
        if (scale == 1 && held == d) continue;
        x[i] = towards((double)x0[i], held);
    }
}

cudaError_t kernel_project(cudaStream_t stream, float *x, const float *x0, const double *s,
                           const double *r, int64_t N, int64_t D) {
    int64_t n = N * D;
    return n ? LAUNCH(project, blocks_for(n), THREADS, stream, x, x0, s, r, D, n) : cudaSuccess;
}

/* Adam's constants, which do not depend on the image. */
struct TanhRates {
    double rate, beta1, beta2;
    float eps;
};

/* dx/dw = (1 - tanh^2 w) / 2 = 2 x (1 - x). This is exact near 0 and 1, where 1 - tanh^2
 * cancels. */
static __global__ void tanh_pieces(TanhRates k, TanhStep a, int64_t D, int64_t pieces,
                                   CudaPartial *partial) {
    int64_t n = blockIdx.x / pieces, first = blockIdx.x % pieces * PIECE, t = a.t[n];
    int64_t end = first + PIECE < D ? first + PIECE : D;
    CudaPartial p = {0, 0, 0};
    float rate = (float)(k.rate / (1 - pow(k.beta1, (double)t)));
    float root = (float)sqrt(1 - pow(k.beta2, (double)t)), c = (float)a.c[n];
    float beta1 = (float)k.beta1, rest1 = (float)(1 - k.beta1);
    float beta2 = (float)k.beta2, rest2 = (float)(1 - k.beta2);
    for (int64_t i = n * D + first + threadIdx.x; i < n * D + end; i += THREADS) {
        float x = a.x[i], x0 = a.x0[i], low = 0, high = 1, slope = 2 * x * (1 - x);
        if (a.box.low) {
            low = a.box.low[i - n * D], high = a.box.high[i - n * D];
            float fall = expf(-2.0f * fabsf(a.w[i])), u = 1.0f / (1.0f + fall);
            slope = 2 * u * (fall * u) * (high - low); /* u (1 - u) is symmetric about w = 0 */
        }
        if (t > 0) {
            float d = (2 * (x - x0) - c * a.q[i]) * slope;
            float mean = beta1 * a.m[i] + rest1 * d, spread = beta2 * a.v[i] + rest2 * (d * d);
            float w = a.w[i] - rate * (mean / (sqrtf(spread) / root + k.eps));
            float e = expf(-2.0f * fabsf(w)), far = 1.0f / (1.0f + e);
            x = w != w ? w : w < 0 ? e * far : far; /* (tanh w + 1) / 2 */
            if (a.box.low) {
                x = low + (high - low) * x;
                x = x > high ? high : x; /* x may exceed high by rounding */
            }
            a.m[i] = mean;
            a.v[i] = spread;
            a.w[i] = w;
            a.x[i] = x;
        }
        double far = (double)x - (double)x0;
        p.square += far * far;
    }
    p = block_sum(p);
    if (threadIdx.x == 0) partial[blockIdx.x] = p;
}

cudaError_t kernel_tanh_step(cudaStream_t s, const AdamStep *step, const TanhStep *a, int64_t N,
                             int64_t D, CudaPartial *partial) {
    int64_t pieces = kernel_pieces(D);
    if (N == 0) return cudaSuccess;
    TanhRates rates = {step->rate, step->beta1, step->beta2, (float)step->eps};
    TanhStep copy = *a;
    double *none = NULL;
    dim3 grid((unsigned)(N * pieces));
    cudaError_t done = LAUNCH(tanh_pieces, grid, THREADS, s, rates, copy, D, pieces, partial);
    if (done != cudaSuccess) return done;
    return LAUNCH(add_pieces, blocks_for(N), THREADS, s, partial, N, D, pieces, copy.l2, none,
                  none);
}
