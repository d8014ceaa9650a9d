/* Convolutions as cuDNN calls, for lower_conv.c. */
#ifndef ADVRT_DEVICE_CUDA_CONV_H
#define ADVRT_DEVICE_CUDA_CONV_H

#include "backend/cuda/lower.h"

typedef enum ConvWhat { CONV_FORWARD, CONV_DATA, CONV_WEIGHTS } ConvWhat;

/* A convolution with the same padding on both sides, as cuDNN wants it. */
typedef struct ConvShape {
    Window window;
    int64_t K, groups, dilation[2];
} ConvShape;

enum { CONV_ALGORITHMS = 8 };

/* A convolution as cuDNN knows it. */
typedef struct ConvCall {
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    /* Of the direction that it is for, the best first: cuDNN may list one and say at its first run
     * that it does not know it. The first `deterministic` give the same bits every time. */
    int algorithm[CONV_ALGORITHMS], algorithms, deterministic, chosen;
    size_t workspace; /* the most that one of them wants */
    const char *type; /* of the numbers, for messages */
    char shapes[160];
    bool sum; /* what is there counts */
} ConvCall;

/* Descriptors and the algorithm for one direction; conv_free gives it back, which the step that is
 * made of it does by itself. */
int conv_new(Compiler *c, const ConvShape *s, ConvWhat what, Real real, ConvCall **out, Error *e);
void conv_free(ConvCall *v);

/* A step around a call, which takes it over, failed or not. at: a, b, result, workspace. */
int conv_step(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
              ConvCall *call, int a, int b, int result, Error *e);

/* Steps. at: x, w, y, workspace (forward); dy, w, dx, workspace (data); dy, x, dw, workspace
 * (weights). */
int conv_run_forward(Plan *p, const Step *s, Error *e);
int conv_run_data(Plan *p, const Step *s, Error *e);
int conv_run_weights(Plan *p, const Step *s, Error *e);

#endif
