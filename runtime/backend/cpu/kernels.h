/* The CPU device's own vector code: one table of functions over plain arrays for
 * each instruction set, made from one source (kernels.inc) and chosen when the
 * device is made.
 *
 * Every function is threaded by OpenMP over the whole of its arrays, and gives the
 * same bits for any number of threads, any alignment of its arrays, and any of the
 * instruction sets: work is cut into pieces whose size does not depend on the
 * threads, sums are kept in a fixed number of lanes, pieces are added in order, and
 * products and sums are not contracted. `formula` alone contracts some where the
 * processor can, so the last bits of exp, log, tanh and erf depend on the instruction set.
 *
 * Letters: N images, D elements of an image, C channels, HW pixels of a channel.
 */
#ifndef ADVRT_DEVICE_CPU_KERNELS_H
#define ADVRT_DEVICE_CPU_KERNELS_H

#include "backend/cpu/convolve.h"
#include "backend/cpu/product.h"
#include "device/device.h"
#include "device/resize.h"
#include "device/program.h"

/* What norms and step keep of one piece of an image until the pieces are added up. */
typedef struct KernelPartial {
    double square, largest;
    int64_t zeros;
} KernelPartial;

/* A pooling over planes of H x W cells of B channels, a multiple of 8 but for averages. A window
 * has a place in the image, and of a maximum at most 65536. */
typedef struct PoolShape {
    int64_t planes, B, H, W, OH, OW, kernel[2], stride[2];
    int64_t pad[4]; /* top, left, bottom, right */
    bool count_pad; /* of an average: the padding counts */
} PoolShape;

/* A formula with a loop of its own, and the loops of its derivatives by each operand, whose
 * operands are those that the derivative reads, and the gradient. NULL: step by step. */
typedef struct FusedFormula {
    const char *text;
    int operands;
    FormulaLoop *value, *derivative[MAP_OPERANDS];
} FusedFormula;

/* A formula over dimensions n, the last two of which are rows and columns; out is contiguous.
 * reg: where the result of each step is kept; constants have a register of their own. pair: the
 * later step whose result this one, sigmoid(a), makes too, that of -a; FORMULA_MADE: nothing is
 * left to do for this step. loop, where there is one, computes all steps. */
enum { FORMULA_ALONE = 0, FORMULA_MADE = -1 };
enum { FORMULA_CHUNK = 512, FORMULA_REGISTERS = 40, MAP_DIMS = SHAPE_DIMS + 3 };
typedef struct FormulaMap {
    Formula formula;
    FormulaLoop *loop;
    int8_t reg[FORMULA_STEPS], pair[FORMULA_STEPS];
    int ndim; /* 2 or more */
    int64_t n[MAP_DIMS], stride[MAP_OPERANDS][MAP_DIMS];
} FormulaMap;

/* Sums of x over the dimensions `over`, one for each place of the dimensions `kept`, times scale.
 */
enum { REDUCE_STRIP = 64 };
typedef struct Reduction {
    int kept, over;
    int64_t kept_n[MAP_DIMS], kept_stride[MAP_DIMS], over_n[MAP_DIMS], over_stride[MAP_DIMS];
    double scale;
} Reduction;
/* out[to_at + i . to] = x[from_at + i . from] for every i below n; no element is written twice.
 * ndim is 2 or more, and the inner two dimensions are the last ones. */
enum { MOVE_LEVELS = 10 };
typedef struct MoveShape {
    int ndim;
    int64_t n[MOVE_LEVELS], from[MOVE_LEVELS], to[MOVE_LEVELS], from_at, to_at;
} MoveShape;

typedef struct CpuKernels {
    const char *isa; /* "x86-64", "avx2", "avx512" */

    /* Elementwise over n floats; out may be an input. */
    void (*fill)(float *out, float value, int64_t n);
    /* min and max: NaN where either is. */
    void (*binary)(BinaryOp op, const float *a, const float *b, float *out, int64_t n);
    void (*binary_scalar)(BinaryOp op, const float *a, float b, float *out, int64_t n);
    void (*scalar_binary)(BinaryOp op, float a, const float *b, float *out, int64_t n);
    void (*clamp)(const float *a, float low, float high, float *out, int64_t n);
    void (*quantize)(const float *a, float levels, float *out, int64_t n);
    void (*sign)(const float *a, float *out, int64_t n);
    /* To the nearest bf16 number, ties to even; beyond its largest infinity; NaN stays NaN. */
    void (*round_bf16)(const float *a, float *out, int64_t n);
    /* out += b */
    void (*add)(float *out, const float *b, int64_t n);

    /* Device.norms and Device.step. partial has room for kernel_partials(N, D). */
    void (*norms)(const float *q, int64_t N, int64_t D, KernelPartial *partial, double *l2,
                  double *linf, double *zero_share);
    void (*step)(float *x, const float *q, const double *a, const float *x0, Box box, int64_t N,
                 int64_t D, KernelPartial *partial, double *l2, double *linf);

    /* Device.project and Device.tanh_step. */
    void (*project)(float *x, const float *x0, const double *s, const double *r, int64_t N,
                    int64_t D);
    void (*tanh_step)(const AdamStep *s, const TanhStep *a, int64_t N, int64_t D,
                      KernelPartial *partial);

    /* out may be an operand that is not repeated. */
    void (*formula)(const FormulaMap *m, const float *const *in, float *out);
    const FusedFormula *fused; /* the last one has no text */

    void (*reduce)(const Reduction *r, const float *x, float *out);

    void (*sgd)(const SgdStep *s, float *p, const float *g, float *m, int64_t P);
    void (*adam)(const AdamStep *s, float *p, const float *g, float *m, float *v, int64_t P);

    /* x, out [N,C,HW]: out = (x - mean[c]) / std[c] in double, rounded once: a mean rounded to
     * float would shift a whole channel. out may be x. */
    void (*normalize)(const float *x, const double *mean, const double *std, float *out, int64_t N,
                      int64_t C, int64_t HW);
    /* dx [N,C,HW]: dx *= scale[c]. */
    void (*scale_channels)(float *dx, const float *scale, int64_t N, int64_t C, int64_t HW);
    /* Batch norm with the statistics of the batch, or of several that are parts of one, in double
     * and rounded once. x, y, dy, dx [N, blocks, cells, B] in blocks of B = 1, 8 or 16 channels, of
     * which those from C on hold zeros; doubles are [blocks B], one for each channel.
     *   norm_moment    sum = sum of (x - mean)^power, power 1 or 2; part [N, blocks B]
     *   norm_apply     y = (x - mean) factor + shift; y may be x
     *   norm_products  sum = sum of dy, product = sum of dy (x - mean); part [2, N, blocks B]
     *   norm_back      dx = (dy - shift - (x - mean) slope) factor; dx may be dy */
    void (*norm_moment)(const float *x, const double *mean, int power, double *part, double *sum,
                        int64_t N, int64_t C, int64_t cells, int64_t B);
    void (*norm_apply)(const float *x, const double *mean, const double *factor,
                       const double *shift, float *y, int64_t N, int64_t C, int64_t cells,
                       int64_t B);
    void (*norm_products)(const float *x, const float *dy, const double *mean, double *part,
                          double *sum, double *product, int64_t N, int64_t C, int64_t cells,
                          int64_t B);
    void (*norm_back)(const float *x, const float *dy, const double *mean, const double *factor,
                      const double *shift, const double *slope, float *dx, int64_t N, int64_t C,
                      int64_t cells, int64_t B);

    /* y = min(max(x, 0), cap), where cap may be infinite; NaN stays NaN. y may be x. */
    void (*relu)(const float *x, float cap, float *y, int64_t n);
    /* One bit per element, element i in bit i % 8 of bits[i / 8]; n is a multiple of 8.
     * relu_mask: the bit is set where 0 < y < cap (cap may be infinite), and where y is NaN.
     * relu_save: relu and relu_mask in one pass.
     * apply_mask: g becomes +0 where the bit is clear, whatever it was, NaN too. */
    void (*relu_mask)(const float *y, float cap, uint8_t *bits, int64_t n);
    void (*relu_save)(const float *x, float cap, float *y, uint8_t *bits, int64_t n);
    void (*apply_mask)(float *g, const uint8_t *bits, int64_t n);

    /* Linear layers of C inputs and K outputs: x [N,C], w [K,C], bias [K] or NULL, y [N,K].
     * linear: y = x w' + bias. linear_data: dx = dy w. linear_weights: dw = dy' x, and db, where
     * it is not NULL, the sum of dy over images. */
    void (*linear)(const float *x, const float *w, const float *bias, float *y, int64_t N,
                   int64_t C, int64_t K);
    void (*linear_data)(const float *dy, const float *w, float *dx, int64_t N, int64_t C,
                        int64_t K);
    void (*linear_weights)(const float *dy, const float *x, float *dw, float *db, int64_t N,
                           int64_t C, int64_t K);

    /* x [planes,H,W,B], y and winner [planes,OH,OW,B]: y is the largest of each window, NaN where
     * one is in it, winner the place in the window, row after row, of the first that is as large,
     * or of the last NaN. winner may be NULL. maxpool_data: dx is the sum of dy over the windows
     * that each input won.
     */
    void (*maxpool)(const PoolShape *s, const float *x, float *y, uint16_t *winner);
    void (*maxpool_data)(const PoolShape *s, const float *dy, const uint16_t *winner, float *dx);

    /* x [planes,H,W,B], y [planes,OH,OW,B]: y is the average of each window. avgwindow_data: dx is
     * the sum of dy, each divided by its window's count, over the windows that an input is in. */
    void (*avgwindow)(const PoolShape *s, const float *x, float *y);
    void (*avgwindow_data)(const PoolShape *s, const float *dy, float *dx);
    /* The same of the cells from floor(i H / OH) to ceil((i + 1) H / OH) and of columns so; what
     * else is in s is not read. add: to what is in dx. */
    void (*average)(const PoolShape *s, const float *x, float *y);
    void (*average_data)(const PoolShape *s, const float *dy, bool add, float *dx);

    /* x [planes,H,W,B], y [planes,OH,OW,B], of which s has the sizes alone: interpolation between
     * the cells that rows [OH] and columns [OW] name. resize_data is its gradient; down [H], across
     * [W].
     */
    void (*resize)(const PoolShape *s, bool linear, const ResizeCell *rows,
                   const ResizeCell *columns, const float *x, float *y);
    void (*resize_data)(const PoolShape *s, bool linear, const ResizeCell *rows,
                        const ResizeCell *columns, const ResizeReach *down,
                        const ResizeReach *across, const float *dy, float *dx);

    /* x and y are at from_at and to_at. Added to what is there where `sum`. */
    void (*move)(const MoveShape *s, const float *x, float *y, bool sum);

    /* Rows of [outer,K,inner]: the K elements at one place of outer and inner. Results may lie over
     * any of the inputs of their size.
     *   softmax           y = exp(x - max) / sum
     *   softmax_back      dx = y (dy - sum of dy y)
     *   standardize       y = (x - mean) f, and, where factors is not NULL, f = 1 / sqrt(variance +
     *                     eps) [outer,inner]
     *   standardize_back  dx = f (dy - mean of dy - y mean of dy y) */
    void (*softmax)(const float *x, float *y, int64_t outer, int64_t K, int64_t inner);
    void (*softmax_back)(const float *dy, const float *y, float *dx, int64_t outer, int64_t K,
                         int64_t inner);
    void (*standardize)(const float *x, double eps, float *y, float *factors, int64_t outer,
                        int64_t K, int64_t inner);
    void (*standardize_back)(const float *dy, const float *y, const float *factors, float *dx,
                             int64_t outer, int64_t K, int64_t inner);

    const ProductKernel *product;
    const ConvolutionKernels *convolutions; /* or NULL */
} CpuKernels;

/* Elements of an image that one thread takes at a time where sums are made. */
enum { KERNEL_PIECE = 8192 };

/* The number of partial results that norms and step need. */
static inline size_t kernel_partials(int64_t N, int64_t D) {
    return (size_t)N * (size_t)((D + KERNEL_PIECE - 1) / KERNEL_PIECE);
}

extern const CpuKernels cpu_kernels_x86_64, cpu_kernels_avx2, cpu_kernels_avx512;

#endif
