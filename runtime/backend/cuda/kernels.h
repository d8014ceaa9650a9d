/* The CUDA device's own kernels; each C function launches one. All run on stream s, take device
 * memory, and return the status of the launch. Equal arguments give equal bits, and an image's
 * numbers do not depend on the other images.
 *
 * Activations and their gradients are channels-last, [N,H,W,C], in f32 or bf16 (Real). A caller
 * sees [N,C,H,W] in f32. Products and sums are not contracted (-fmad=false), so that elementwise
 * results equal the CPU's.
 */
#ifndef ADVRT_DEVICE_CUDA_KERNELS_H
#define ADVRT_DEVICE_CUDA_KERNELS_H

#include <cuda_runtime_api.h>

#include "device/device.h"
#include "device/resize.h"
#include "device/program.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum Real { REAL_F32, REAL_BF16 } Real;
static inline size_t real_bytes(Real r) {
    return r == REAL_F32 ? 4 : 2;
}

/* --- device.h's operations (elementwise.cu, losses.cu, images.cu) --- */

cudaError_t kernel_fill(cudaStream_t s, float *out, float value, int64_t n);
cudaError_t kernel_binary(cudaStream_t s, BinaryOp op, const float *a, const float *b, float *out,
                          int64_t n);
cudaError_t kernel_binary_scalar(cudaStream_t s, BinaryOp op, const float *a, float b, float *out,
                                 int64_t n);
cudaError_t kernel_clamp(cudaStream_t s, const float *a, float low, float high, float *out,
                         int64_t n);
cudaError_t kernel_quantize(cudaStream_t s, const float *a, float levels, float *out, int64_t n);
cudaError_t kernel_sign(cudaStream_t s, const float *a, float *out, int64_t n);
cudaError_t kernel_sgd(cudaStream_t s, const SgdStep *step, float *p, const float *g, float *m,
                       int64_t n);
cudaError_t kernel_adam(cudaStream_t s, const AdamStep *step, float *p, const float *g, float *m,
                        float *v, int64_t n);

/* The function of a loss, found by its record's name; p holds the parameters as in the record. NULL
 * if there is none. */
typedef cudaError_t (*LossKernel)(cudaStream_t s, const double *p, const float *z,
                                  const int64_t *target, int64_t N, int64_t K, float *value,
                                  float *dz);
LossKernel kernel_of_loss(const char *name);
cudaError_t kernel_logit_stats(cudaStream_t s, const float *z, const int64_t *initial,
                               const int64_t *target, int64_t N, int64_t K, const LogitStats *out);
/* value [N] is minus the loss of each row; correct [N] is whether its argmax is the label. dz [N,K]
 * is the gradient of the mean. */
cudaError_t kernel_cross_entropy(cudaStream_t s, const float *z, const int64_t *label, int64_t N,
                                 int64_t K, float *value, int64_t *correct, float *dz);

/* The operations of autograd, as defined in device.h (elementwise.cu, losses.cu, select.cu). */
cudaError_t kernel_map(cudaStream_t s, MapOp op, const float *a, float *out, int64_t n);
cudaError_t kernel_broadcast(cudaStream_t s, BinaryOp op, const Broadcast *b, const float *x,
                             const float *y, float *out);
cudaError_t kernel_reduce(cudaStream_t s, ReduceOp op, const float *a, RowShape r, float *out);
cudaError_t kernel_softmax(cudaStream_t s, SoftmaxKind kind, const float *a, RowShape r,
                           float *out);
cudaError_t kernel_top(cudaStream_t s, const float *a, RowShape r, int64_t k, float *value,
                       int64_t *index);
cudaError_t kernel_gather(cudaStream_t s, bool others, const float *a, const int64_t *index,
                          RowShape r, int64_t J, float *out);
cudaError_t kernel_scatter(cudaStream_t s, bool others, const float *dy, const int64_t *index,
                           RowShape r, int64_t J, float *da);

/* The partial result of one block over its piece of an image. */
typedef struct CudaPartial {
    double square, largest;
    int64_t zeros;
} CudaPartial;
/* The number of pieces of an image of D elements; partial has room for N times as many. */
int64_t kernel_pieces(int64_t D);
cudaError_t kernel_norms(cudaStream_t s, const float *q, int64_t N, int64_t D, CudaPartial *partial,
                         double *l2, double *linf, double *zero_share);
cudaError_t kernel_step(cudaStream_t s, float *x, const float *q, const double *a, const float *x0,
                        Box box, int64_t N, int64_t D, CudaPartial *partial, double *l2,
                        double *linf);

cudaError_t kernel_project(cudaStream_t stream, float *x, const float *x0, const double *s,
                           const double *r, int64_t N, int64_t D);
cudaError_t kernel_tanh_step(cudaStream_t s, const AdamStep *step, const TanhStep *a, int64_t N,
                             int64_t D, CudaPartial *partial);

/* --- layers (layers.cu) --- */

/* From planes [N,C,P] in f32 to [N,P,C]. If mean is not NULL: (x - mean[c]) / std[c] in double. */
cudaError_t kernel_from_planes(cudaStream_t s, const float *x, const double *mean,
                               const double *std, Real real, void *y, int64_t N, int64_t C,
                               int64_t P);
/* From [N,P,C] to planes [N,C,P] in f32, times scale[c] unless scale is NULL. With `sum`, adds to
 * the planes. */
cudaError_t kernel_to_planes(cudaStream_t s, Real real, const void *x, const float *scale, float *y,
                             int64_t N, int64_t C, int64_t P, bool sum);
cudaError_t kernel_convert(cudaStream_t s, Real from, const void *x, Real to, void *y, int64_t n);
/* y = activation(y + bias[c]), in place. bias may be NULL. The activation is min(max(v, 0), cap) if
 * `relu`. mask (may be NULL) receives one bit per element, element i in bit i % 32 of word i / 32.
 * A bit is set if 0 < y < cap or y is NaN. */
cudaError_t kernel_epilogue(cudaStream_t s, Real real, void *y, const float *bias, bool relu,
                            float cap, uint32_t *mask, int64_t n, int64_t C);
cudaError_t kernel_mask(cudaStream_t s, Real real, const void *y, float cap, uint32_t *mask,
                        int64_t n);
/* g becomes +0 where the bit is clear, even if g is NaN. */
cudaError_t kernel_apply_mask(cudaStream_t s, Real real, void *g, const uint32_t *mask, int64_t n);
/* out = min(max(a, 0), cap); out = a + b. out may be a. */
cudaError_t kernel_relu(cudaStream_t s, Real real, const void *a, float cap, void *out, int64_t n);
cudaError_t kernel_sum(cudaStream_t s, Real real, const void *a, const void *b, void *out,
                       int64_t n);
/* out = a * scale[c] + shift[c]; shift may be NULL. With `sum`, adds to out. */
cudaError_t kernel_affine(cudaStream_t s, Real real, const void *a, const float *scale,
                          const float *shift, void *out, int64_t n, int64_t C, bool sum);
/* Training: out = a / (1 - p) if the random stream `key` keeps the element's index in [N,C,P], else
 * 0. Backward does the same to the gradient and draws the decision again. `first` images of the
 * batch come before these. */
cudaError_t kernel_dropout(cudaStream_t s, const float *a, const uint64_t *run, uint64_t seed,
                           double p, float *out, int64_t N, int64_t C, int64_t P, int64_t first,
                           bool sum);
/* *run += 1 */
cudaError_t kernel_count(cudaStream_t s, uint64_t *run);
/* --- moves (moves.cu) --- */

/* One side of a move: a value of C channels of P cells, and the positions of the elements in its
 * contiguous order [C,P]. */
enum { MOVE_LEVELS = 8 };
typedef struct MoveSide {
    int64_t C, P, at, stride[MOVE_LEVELS];
} MoveSide;
typedef struct MoveShape {
    int ndim;
    int64_t N, n[MOVE_LEVELS];
    MoveSide x, y;
} MoveShape;
/* y[y.at + i . y.stride] = x[x.at + i . x.stride] for each image and every i below n. With `sum`,
 * adds to y. */
cudaError_t kernel_move(cudaStream_t s, Real real, const void *x, void *y, MoveShape shape,
                        bool sum);
/* --- rows (rows.cu) --- */

/* As defined in device/program.h. Values have one Real and gradients another. factors [outer,inner]
 * are f32 and may be NULL. */
cudaError_t kernel_softmax_rows(cudaStream_t s, Real real, const void *x, void *y, RowShape r);
cudaError_t kernel_softmax_rows_back(cudaStream_t s, Real gradients, Real values, const void *dy,
                                     const void *y, void *dx, RowShape r);
cudaError_t kernel_standardize_rows(cudaStream_t s, Real real, const void *x, double eps, void *y,
                                    float *factors, RowShape r);
cudaError_t kernel_standardize_rows_back(cudaStream_t s, Real gradients, Real values,
                                         const void *dy, const void *y, const float *factors,
                                         void *dx, RowShape r);
/* y [N,B,A] = x [N,A,B]. */
cudaError_t kernel_turn(cudaStream_t s, Real real, const void *x, void *y, int64_t N, int64_t A,
                        int64_t B);

/* --- windows (windows.cu) --- */

/* A window that slides over [H,W] of N images of C channels; the output grid is [OH,OW]. */
typedef struct Window {
    int64_t N, C, H, W, OH, OW;
    int64_t kernel[2], stride[2], pad[2]; /* pad: top and left */
} Window;

/* winner [N,OH,OW,C] is the index h * W + w of the maximum, the first of a tie; may be NULL. */
cudaError_t kernel_maxpool(cudaStream_t s, Real real, const void *x, void *y, int32_t *winner,
                           Window w);
cudaError_t kernel_maxpool_back(cudaStream_t s, Real real, const void *dy, const int32_t *winner,
                                void *dx, Window w, bool sum);
/* torch's adaptive average: cell i of OH averages rows floor(i H / OH) .. ceil((i+1) H / OH). */
cudaError_t kernel_average(cudaStream_t s, Real real, const void *x, void *y, Window w);
cudaError_t kernel_average_back(cudaStream_t s, Real real, const void *dy, void *dx, Window w,
                                bool sum);
/* The average of each window over its elements in the image. If the padding counts, also over its
 * padding, up to `end`, where the padding ends. */
typedef struct AverageWindow {
    int64_t end[2];
    bool count_pad;
} AverageWindow;
cudaError_t kernel_avgwindow(cudaStream_t s, Real real, const void *x, void *y, Window w,
                             AverageWindow a);
cudaError_t kernel_avgwindow_back(cudaStream_t s, Real real, const void *dy, void *dx, Window w,
                                  AverageWindow a, bool sum);
/* Interpolates between the cells that `cells` names: those of OH rows, then of OW columns
 * (resize.cu). Reads only the sizes in w. reaches: those of H rows, then of W columns. */
cudaError_t kernel_resize(cudaStream_t s, Real real, const void *x, const ResizeCell *cells,
                          void *y, Window w, bool linear);
cudaError_t kernel_resize_back(cudaStream_t s, Real real, const void *dy, const ResizeCell *cells,
                               const ResizeReach *reaches, void *dx, Window w, bool linear,
                               bool sum);
/* y [N,OH,OW,C] is x padded with zero rows and columns: pad before, the remaining ones after. */
cudaError_t kernel_pad(cudaStream_t s, Real real, const void *x, void *y, Window w);
cudaError_t kernel_crop(cudaStream_t s, Real real, const void *y, void *x, Window w, bool sum);
/* Depthwise convolution, weight [R,S,C]. y is overwritten; with `sum`, dx is added to. */
cudaError_t kernel_depthwise(cudaStream_t s, Real real, const void *x, const void *weight, void *y,
                             Window w);
cudaError_t kernel_depthwise_data(cudaStream_t s, Real real, const void *dy, const void *weight,
                                  void *dx, Window w, bool sum);
cudaError_t kernel_depthwise_weights(cudaStream_t s, const float *x, const float *dy,
                                     float *dweight, Window w);

/* --- maps and sums over dimensions (formula.cu) --- */

/* A formula over dimensions n, in the memory order of out. stride[j] holds the strides of in[j]. */
enum { MAP_DIMS = SHAPE_DIMS + 1 };
typedef struct FormulaArgs {
    Formula formula;
    int ndim;
    int64_t n[MAP_DIMS], stride[MAP_OPERANDS][MAP_DIMS];
    const void *in[MAP_OPERANDS];
    Real real[MAP_OPERANDS], out;
} FormulaArgs;
cudaError_t kernel_formula(cudaStream_t s, const FormulaArgs *m, void *out);

/* out [kept] = scale times the sum of x over the dimensions `over`, in double. */
typedef struct SumArgs {
    int kept, over;
    int64_t kept_n[MAP_DIMS], kept_stride[MAP_DIMS], over_n[MAP_DIMS], over_stride[MAP_DIMS];
    double scale;
    Real in, out;
} SumArgs;
cudaError_t kernel_sum_over(cudaStream_t s, const SumArgs *m, const void *x, void *out);

/* --- sums over rows, and batch norm in training (batchnorm.cu) --- */

/* Number of doubles that the functions below need in `work`. */
int64_t kernel_rows_work(int64_t C);
/* out [C] = the sum of dy [rows,C] over rows, in double, rounded once. */
cudaError_t kernel_column_sums(cudaStream_t s, const float *dy, float *out, double *work,
                               int64_t rows, int64_t C);

/* x, y [rows,C]: this process's rows of a batch of `count` rows; all of them without a group. mean
 * and variance [C] are double; the variance is biased. */
typedef struct BatchNorm {
    int64_t rows, C, count;
    double eps, momentum;
    const float *scale, *shift;
    double *mean, *variance;
    float *running_mean, *running_var;
} BatchNorm;
/* mean [C]; then, when the mean is known, variance [C]. Each is the contribution of these rows; the
 * sum over processes completes it. */
cudaError_t kernel_norm_mean(cudaStream_t s, const float *x, double *work, BatchNorm b);
cudaError_t kernel_norm_variance(cudaStream_t s, const float *x, double *work, BatchNorm b);
/* y = (x - mean) / sqrt(variance + eps) * scale + shift, rounded once. Running statistics move
 * towards the batch's by momentum, with the unbiased variance. */
cudaError_t kernel_norm_apply(cudaStream_t s, const float *x, float *y, BatchNorm b);
/* For these rows: dscale, dshift [C], overwritten, and sum [2,C] of dy and of dy (x - mean).
 * kernel_norm_back needs sum over all processes. With `add`, it adds to dx. */
cudaError_t kernel_norm_products(cudaStream_t s, const float *x, const float *dy, float *dscale,
                                 float *dshift, double *sum, double *work, BatchNorm b);
cudaError_t kernel_norm_back(cudaStream_t s, const float *x, const float *dy, float *dx,
                             const double *sum, BatchNorm b, bool add);

#ifdef __cplusplus
}
#endif

#endif
