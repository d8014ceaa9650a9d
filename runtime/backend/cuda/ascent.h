/* Runs the steps of an attack as one captured CUDA graph that is launched repeatedly. */
#ifndef ADVRT_DEVICE_CUDA_ASCENT_H
#define ADVRT_DEVICE_CUDA_ASCENT_H

#include "backend/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The state of the batch at one step, each [N]. a is the multiplier; l2 and linf are the distances
 * from the original after the previous step. */
typedef struct AscentRow {
    LogitStats stats;
    double *grad_l2, *grad_linf, *zero_share, *q_l2, *q_linf, *q_zero, *a, *l2, *linf;
} AscentRow;

/* Writes step *step of the series, the multipliers, and new flips; then *step += 1. */
cudaError_t kernel_observe(cudaStream_t s, const Ascent *a, const AscentRow *row, int64_t *step,
                           uint8_t *flipped, int64_t N, int64_t D);

#ifdef __cplusplus
}
#endif

#endif
