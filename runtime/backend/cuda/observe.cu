/* Records one step of an attack for each image, from the results of the loss and the step. */
#include "backend/cuda/ascent.h"
#include "backend/cuda/launch.h"

/* a_n (Eq. 16), in double; 0 if q_n is exactly zero. */
static __device__ inline double multiplier_of(const Ascent &a, double l2, double linf) {
    if (!(linf > 0)) return 0;
    return a.rule == ASCENT_CONSTANT ? a.size : a.size / (a.rule == ASCENT_L2 ? l2 : linf);
}

static __global__ void observe(Ascent a, AscentRow row, const int64_t *step, uint8_t *flipped,
                               int64_t N) {
    int64_t n = *step;
    EACH(i, N) {
        int64_t at = n * N + i;
        double l2 = row.q_l2[i], linf = row.q_linf[i];
        double m = n < a.iterations ? multiplier_of(a, l2, linf) : 0;
        a.p_initial[at] = row.stats.p_initial[i];
        a.p_target[at] = row.stats.p_target[i];
        a.z_initial[at] = row.stats.z_initial[i];
        a.z_target[at] = row.stats.z_target[i];
        a.subspace[at] = row.stats.subspace[i];
        a.grad_l2[at] = row.grad_l2[i];
        a.zero_share[at] = row.zero_share[i];
        a.step_l2[at] = multiplier_of(a, l2, linf) * l2;
        a.l2[at] = row.l2[i];
        a.linf[at] = row.linf[i];
        row.a[i] = m;
        if (n < a.iterations && linf == 0) a.zero_steps[i] += 1;
        bool now = a.flip_iteration[i] < 0 && row.stats.prediction[i] == a.target[i];
        flipped[i] = now;
        if (now) {
            a.flip_iteration[i] = n;
            a.flip_l2[i] = row.l2[i];
            a.flip_linf[i] = row.linf[i];
        }
    }
}

/* first = x for the images that flip at this step. */
static __global__ void keep_flipped(const float *x, const uint8_t *flipped, float *first, int64_t D,
                                    int64_t n) {
    EACH(i, n) {
        if (flipped[i / D]) first[i] = x[i];
    }
}

static __global__ void next_step(int64_t *step) {
    *step += 1;
}

cudaError_t kernel_observe(cudaStream_t s, const Ascent *a, const AscentRow *row, int64_t *step,
                           uint8_t *flipped, int64_t N, int64_t D) {
    Ascent ascent = *a;
    AscentRow numbers = *row;
    const float *x = a->x;
    float *first = a->first;
    int64_t n = N * D;
    cudaError_t done =
        LAUNCH(observe, blocks_for(N), THREADS, s, ascent, numbers, step, flipped, N);
    if (done == cudaSuccess)
        done = LAUNCH(keep_flipped, blocks_for(n), THREADS, s, x, flipped, first, D, n);
    return done == cudaSuccess ? LAUNCH(next_step, 1, 1, s, step) : done;
}
