/* Selections from rows: the largest elements, elements by index, and the adjoint. */
#include "backend/cuda/launch.h"

static __device__ inline bool before(float a, float b) {
    return a > b || (a != a && b == b);
}

/* One thread per row: it keeps the k largest elements so far in order. */
static __global__ void top(const float *a, RowShape r, int64_t k, float *value, int64_t *index) {
    EACH(i, r.outer * r.inner) {
        int64_t outer = i / r.inner, inner = i % r.inner, apart = r.inner;
        const float *row = a + outer * r.K * apart + inner;
        float *most = value + outer * k * apart + inner;
        int64_t *where = index + outer * k * apart + inner;
        for (int64_t n = 0; n < r.K; n++) {
            float v = row[n * apart];
            int64_t kept = n < k ? n : k, at = kept;
            while (at > 0 && before(v, most[(at - 1) * apart])) at--;
            if (at == k) continue;
            for (int64_t j = kept < k ? kept : k - 1; j > at; j--) {
                most[j * apart] = most[(j - 1) * apart];
                where[j * apart] = where[(j - 1) * apart];
            }
            most[at * apart] = v;
            where[at * apart] = n;
        }
    }
}

cudaError_t kernel_top(cudaStream_t s, const float *a, RowShape r, int64_t k, float *value,
                       int64_t *index) {
    int64_t rows = r.outer * r.inner;
    return rows ? LAUNCH(top, blocks_for(rows), THREADS, s, a, r, k, value, index) : cudaSuccess;
}

/* The source of element j in a row of J; row is the row's number. */
static __device__ inline int64_t source_of(bool others, const int64_t *index, int64_t row,
                                           int64_t place, int64_t j) {
    return others ? j + (j >= index[row]) : index[place];
}

static __global__ void gather(bool others, const float *a, const int64_t *index, RowShape r,
                              int64_t J, float *out) {
    EACH(i, r.outer * J * r.inner) {
        int64_t inner = i % r.inner, j = i / r.inner % J, outer = i / r.inner / J;
        int64_t k = source_of(others, index, outer * r.inner + inner, i, j);
        out[i] = a[(outer * r.K + k) * r.inner + inner];
    }
}

cudaError_t kernel_gather(cudaStream_t s, bool others, const float *a, const int64_t *index,
                          RowShape r, int64_t J, float *out) {
    int64_t n = r.outer * J * r.inner;
    return n ? LAUNCH(gather, blocks_for(n), THREADS, s, others, a, index, r, J, out) : cudaSuccess;
}

/* Each element of da looks for the elements that gather read from it: few, in the order of j,
 * without atomics. */
static __global__ void scatter(bool others, const float *dy, const int64_t *index, RowShape r,
                               int64_t J, float *da) {
    EACH(i, r.outer * r.K * r.inner) {
        int64_t inner = i % r.inner, k = i / r.inner % r.K, outer = i / r.inner / r.K;
        float sum = 0;
        for (int64_t j = 0; j < J; j++) {
            int64_t place = (outer * J + j) * r.inner + inner;
            if (source_of(others, index, outer * r.inner + inner, place, j) == k) sum += dy[place];
        }
        da[i] = sum;
    }
}

cudaError_t kernel_scatter(cudaStream_t s, bool others, const float *dy, const int64_t *index,
                           RowShape r, int64_t J, float *da) {
    int64_t n = r.outer * r.K * r.inner;
    return n ? LAUNCH(scatter, blocks_for(n), THREADS, s, others, dy, index, r, J, da)
             : cudaSuccess;
}
