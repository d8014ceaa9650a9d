/* Convolutions as cuDNN calls, for lower_conv.c. */
#ifndef ADVRT_DEVICE_CUDA_CONV_H
#define ADVRT_DEVICE_CUDA_CONV_H

#include "backend/cuda/lower.h"

typedef enum ConvWhat { CONV_FORWARD, CONV_DATA, CONV_WEIGHTS } ConvWhat;

/* A convolution with equal padding on both sides, as cuDNN requires. */
typedef struct ConvShape {
    Window window;
    int64_t K, groups, dilation[2];
} ConvShape;

enum { CONV_ALGORITHMS = 8 };

/* A convolution in cuDNN's form. */
typedef struct ConvCall {
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    /* The algorithms for this direction, the best first. cuDNN may list one and report at its first
     * run that it is not supported. The first `deterministic` ones give the same bits every
     * time. */
    int algorithm[CONV_ALGORITHMS], algorithms, deterministic, chosen;
    size_t workspace; /* the most that one of them needs, in bytes */
    const char *type; /* of the numbers, for messages */
    char shapes[160];
    bool sum; /* adds to the existing result */
} ConvCall;

/* Makes descriptors and chooses the algorithms for one direction. conv_free frees them; a step made
 * by conv_step does so itself. */
int conv_new(Compiler *c, const ConvShape *s, ConvWhat what, Real real, ConvCall **out, Error *e);
void conv_free(ConvCall *v);

/* Adds a step around a call and takes ownership of the call, even on failure. at: a, b, result,
 * workspace. */
int conv_step(Compiler *c, const char *what, int (*run)(Plan *, const Step *, Error *),
              ConvCall *call, int a, int b, int result, Error *e);

/* The steps. Their slots: x, w, y, workspace (forward); dy, w, dx, workspace (data); dy, x, dw,
 * workspace (weights). */
int conv_run_forward(Plan *p, const Step *s, Error *e);
int conv_run_data(Plan *p, const Step *s, Error *e);
int conv_run_weights(Plan *p, const Step *s, Error *e);

#endif
