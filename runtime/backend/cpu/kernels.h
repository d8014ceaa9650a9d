/* The CPU device's own vector code: one table of functions over plain arrays per instruction set.
 * All tables come from one source (kernels.inc). The device chooses one when it is made.
 *
 * OpenMP threads each function over its whole arrays. A function gives the same bits for any number
 * of threads, any alignment and any instruction set. For that, work is cut into pieces whose size
 * does not depend on the threads. Sums have a fixed number of lanes, pieces are added in order, and
 * products and sums are not contracted. The exception is `formula`: it contracts some where the
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

/* The partial sums of norms and step over one piece of an image. */
typedef struct KernelPartial {
    double square, largest;
    int64_t zeros;
} KernelPartial;

/* Pooling over planes of H x W cells of B channels. B is a multiple of 8, except for averages. Each
 * window overlaps the image. A window of max pooling has at most 65536 cells. */
typedef struct PoolShape {
    int64_t planes, B, H, W, OH, OW, kernel[2], stride[2];
    int64_t pad[4]; /* top, left, bottom, right */
    bool count_pad; /* averages: the padding counts */
} PoolShape;

/* A formula with its own loop, and loops for its derivatives by each operand. The operands of a
 * derivative's loop are those that it reads, then the gradient. NULL: computed step by step. */
typedef struct FusedFormula {
    const char *text;
    int operands;
    FormulaLoop *value, *derivative[MAP_OPERANDS];
} FusedFormula;

/* A formula over dimensions n; the last two are rows and columns. out is contiguous. reg: the
 * register of each step's result; each constant has its own. pair: if this step is sigmoid(a), the
 * later step sigmoid(-a) that it computes too. FORMULA_MADE: an earlier step computes this one.
 * loop: if not NULL, computes all steps. */
enum { FORMULA_ALONE = 0, FORMULA_MADE = -1 };
enum { FORMULA_CHUNK = 512, FORMULA_REGISTERS = 40, MAP_DIMS = SHAPE_DIMS + 3 };
typedef struct FormulaMap {
    Formula formula;
    FormulaLoop *loop;
    int8_t reg[FORMULA_STEPS], pair[FORMULA_STEPS];
    int ndim; /* 2 or more */
    int64_t n[MAP_DIMS], stride[MAP_OPERANDS][MAP_DIMS];
} FormulaMap;

/* Sums of x over the dimensions `over`, times scale: one sum per index of the dimensions `kept`. */
enum { REDUCE_STRIP = 64 };
typedef struct Reduction {
    int kept, over;
    int64_t kept_n[MAP_DIMS], kept_stride[MAP_DIMS], over_n[MAP_DIMS], over_stride[MAP_DIMS];
    double scale;
} Reduction;
/* out[to_at + i . to] = x[from_at + i . from] for every i below n; no element is written twice.
 * ndim is at least 2, and the inner two dimensions come last. */
enum { MOVE_LEVELS = 10 };
typedef struct MoveShape {
    int ndim;
    int64_t n[MOVE_LEVELS], from[MOVE_LEVELS], to[MOVE_LEVELS], from_at, to_at;
} MoveShape;

typedef struct CpuKernels {
    const char *isa; /* "x86-64", "avx2", "avx512" */

    /* Elementwise over n floats; out may be an input. */
    void (*fill)(float *out, float value, int64_t n);
    /* min and max: NaN if either operand is NaN. */
    void (*binary)(BinaryOp op, const float *a, const float *b, float *out, int64_t n);
    void (*binary_scalar)(BinaryOp op, const float *a, float b, float *out, int64_t n);
    void (*scalar_binary)(BinaryOp op, float a, const float *b, float *out, int64_t n);
    void (*clamp)(const float *a, float low, float high, float *out, int64_t n);
    void (*quantize)(const float *a, float levels, float *out, int64_t n);
    void (*sign)(const float *a, float *out, int64_t n);
    /* Rounds to the nearest bf16 number, ties to even. Beyond bf16's largest number: infinity. NaN
     * stays NaN. */
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
    const FusedFormula *fused; /* ends with an entry whose text is NULL */

    void (*reduce)(const Reduction *r, const float *x, float *out);

    void (*sgd)(const SgdStep *s, float *p, const float *g, float *m, int64_t P);
    void (*adam)(const AdamStep *s, float *p, const float *g, float *m, float *v, int64_t P);

    /* x, out [N,C,HW]: out = (x - mean[c]) / std[c], in double and rounded once. A mean rounded to
     * float would shift a whole channel. out may be x. */
    void (*normalize)(const float *x, const double *mean, const double *std, float *out, int64_t N,
                      int64_t C, int64_t HW);
    /* dx [N,C,HW]: dx *= scale[c]. */
    void (*scale_channels)(float *dx, const float *scale, int64_t N, int64_t C, int64_t HW);
    /* Batch norm with the statistics of the batch, or of a batch of which these images are a part;
     * in double, rounded once. x, y, dy, dx [N, blocks, cells, B] are in blocks of B = 1, 8 or 16
     * channels; channels from C on hold zeros. Arrays of doubles are [blocks B], one number per
     * channel.
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

    /* y = min(max(x, 0), cap); cap may be infinite; NaN stays NaN. y may be x. */
    void (*relu)(const float *x, float cap, float *y, int64_t n);
    /* One bit per element, element i in bit i % 8 of bits[i / 8]; n is a multiple of 8. relu_mask:
     * the bit is set if 0 < y < cap (cap may be infinite) or y is NaN. relu_save: relu and
     * relu_mask in one pass. apply_mask: g becomes +0 where the bit is clear, even if g is NaN. */
    void (*relu_mask)(const float *y, float cap, uint8_t *bits, int64_t n);
    void (*relu_save)(const float *x, float cap, float *y, uint8_t *bits, int64_t n);
    void (*apply_mask)(float *g, const uint8_t *bits, int64_t n);

    /* Linear layers of C inputs and K outputs: x [N,C], w [K,C], bias [K] or NULL, y [N,K]. linear:
     * y = x w' + bias. linear_data: dx = dy w. linear_weights: dw = dy' x, and db (unless NULL) is
     * the sum of dy over images. */
    void (*linear)(const float *x, const float *w, const float *bias, float *y, int64_t N,
                   int64_t C, int64_t K);
    void (*linear_data)(const float *dy, const float *w, float *dx, int64_t N, int64_t C,
                        int64_t K);
    void (*linear_weights)(const float *dy, const float *x, float *dw, float *db, int64_t N,
                           int64_t C, int64_t K);

    /* x [planes,H,W,B]; y, winner [planes,OH,OW,B]. y is the maximum of each window, NaN if the
     * window contains NaN. winner is the row-major index in the window of the first maximum, or of
     * the last NaN. winner may be NULL. maxpool_data: dx is the sum of dy over the windows that
     * each input won. */
    void (*maxpool)(const PoolShape *s, const float *x, float *y, uint16_t *winner);
    void (*maxpool_data)(const PoolShape *s, const float *dy, const uint16_t *winner, float *dx);

    /* x [planes,H,W,B], y [planes,OH,OW,B]: y is the average of each window. avgwindow_data: dx
     * sums dy, divided by the window's count, over the windows that contain an input. */
    void (*avgwindow)(const PoolShape *s, const float *x, float *y);
    void (*avgwindow_data)(const PoolShape *s, const float *dy, float *dx);
    /* Adaptive average: cell i averages rows floor(i H / OH) to ceil((i + 1) H / OH), and columns
     * in the same way. Reads only the sizes in s. add: adds to dx. */
    void (*average)(const PoolShape *s, const float *x, float *y);
    void (*average_data)(const PoolShape *s, const float *dy, bool add, float *dx);

    /* x [planes,H,W,B], y [planes,OH,OW,B]: interpolates between the cells that rows [OH] and
     * columns [OW] name. Reads only the sizes in s. resize_data is the gradient; down [H], across
     * [W]. */
    void (*resize)(const PoolShape *s, bool linear, const ResizeCell *rows,
                   const ResizeCell *columns, const float *x, float *y);
    void (*resize_data)(const PoolShape *s, bool linear, const ResizeCell *rows,
                        const ResizeCell *columns, const ResizeReach *down,
                        const ResizeReach *across, const float *dy, float *dx);

    /* x and y start at from_at and to_at. With `sum`, adds to y. */
    void (*move)(const MoveShape *s, const float *x, float *y, bool sum);

    /* Rows of [outer,K,inner]: K elements per pair of outer and inner index. A result may overwrite
     * any input of its size.
     *   softmax           y = exp(x - max) / sum
     *   softmax_back      dx = y (dy - sum of dy y)
     *   standardize       y = (x - mean) f; factors [outer,inner], unless NULL, receives
     *                     f = 1 / sqrt(variance + eps)
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

/* Elements of an image per piece when sums are made; one thread takes one piece. */
enum { KERNEL_PIECE = 8192 };

/* The number of partial results that norms and step need. */
static inline size_t kernel_partials(int64_t N, int64_t D) {
    return (size_t)N * (size_t)((D + KERNEL_PIECE - 1) / KERNEL_PIECE);
}

extern const CpuKernels cpu_kernels_x86_64, cpu_kernels_avx2, cpu_kernels_avx512;

#endif
