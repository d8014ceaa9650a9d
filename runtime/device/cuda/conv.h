/* Convolutions as cuDNN calls, for lower_conv.c. */
#ifndef ADVRT_DEVICE_CUDA_CONV_H
#define ADVRT_DEVICE_CUDA_CONV_H

#include "device/cuda/plan.h"

typedef enum ConvWhat { CONV_FORWARD, CONV_DATA, CONV_WEIGHTS } ConvWhat;

/* A convolution with the same padding on both sides, as cuDNN wants it. */
typedef struct ConvShape {
    Window window;
    int64_t K, groups;
} ConvShape;

/* Descriptors and the algorithm for one direction; the plan frees it. */
int conv_new(Compiler *c, const ConvShape *s, ConvWhat what, Real real, ConvCall **out, Error *e);

/* Steps. at: x, w, y, workspace (forward); dy, w, dx, workspace (data); dy, x, dw, workspace
 * (weights). Bias and ReLU follow a forward in a step of their own: cuDNN's call that has them all
 * may make 0 of NaN. */
int conv_run_forward(CudaPlan *p, const Step *s, Error *e);
int conv_run_data(CudaPlan *p, const Step *s, Error *e);
int conv_run_weights(CudaPlan *p, const Step *s, Error *e);

#endif
