/* An attack's steps as one captured graph, launched again and again. */
#ifndef ADVRT_DEVICE_CUDA_ASCENT_H
#define ADVRT_DEVICE_CUDA_ASCENT_H

#include "backend/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is known of the batch at one step, each [N]; a is the multiplier, l2 and linf the distance
 * from the original that the step before it made. */
typedef struct AscentRow {
    LogitStats stats;
    double *grad_l2, *grad_linf, *zero_share, *q_l2, *q_linf, *q_zero, *a, *l2, *linf;
} AscentRow;

/* Writes step *step of the series, the multipliers and what is new of flips; then *step += 1. */
cudaError_t kernel_observe(cudaStream_t s, const Ascent *a, const AscentRow *row, int64_t *step,
                           uint8_t *flipped, int64_t N, int64_t D);

#ifdef __cplusplus
}
#endif

#endif
