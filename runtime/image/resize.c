#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "io/image.h"

/* Weights are multiples of 2^-WEIGHT_BITS: a sum of 8-bit values fits in 32 bits with two to spare.
 */
enum { WEIGHT_BITS = 32 - 8 - 2 };

/* One direction: output index i is the sum over k < n[i] of weight[i*most+k] * input[first[i]+k].
 */
typedef struct Filter {
    size_t count, most;
    uint32_t *first, *n;
    int32_t *weight;
} Filter;

static void filter_free(Filter *f) {
    memory_free(f->first);
    memory_free(f->n);
    memory_free(f->weight);
}

static double triangle(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* The weights of one output index; `centre` is its centre in input pixels. */
static void set_weights(Filter *f, size_t i, double centre, double scale, size_t in,
                        double *exact) {
    int32_t *weight = f->weight + i * f->most;
    double sum = 0;
    ptrdiff_t from = (ptrdiff_t)(centre - scale + 0.5), to = (ptrdiff_t)(centre + scale + 0.5);
    if (from < 0) from = 0;
    if (to > (ptrdiff_t)in) to = (ptrdiff_t)in;
    size_t n = (size_t)(to - from);
    for (size_t k = 0; k < n; k++) {
        exact[k] = triangle(((double)(from + (ptrdiff_t)k) - centre + 0.5) * (1 / scale));
        sum += exact[k];
    }
    for (size_t k = 0; k < n; k++) {
        if (sum != 0) exact[k] /= sum;
        weight[k] = (int32_t)(exact[k] * (1 << WEIGHT_BITS) + 0.5);
    }
    f->first[i] = (uint32_t)from;
    f->n[i] = (uint32_t)n;
}

static int filter_new(Filter *f, size_t in, size_t out, Error *e) {
    double step = (double)in / (double)out, scale = step < 1 ? 1 : step;
    size_t bytes;
    *f = (Filter){.count = out, .most = 2 * (size_t)ceil(scale) + 1};
    double *exact = memory_take(f->most * sizeof *exact, "an image filter", e);
    if (!exact) return -1;
    f->first = memory_take(out * sizeof *f->first, "an image filter", e);
    if (f->first) f->n = memory_take(out * sizeof *f->n, "an image filter", e);
    if (f->n && size_mul(out * sizeof *f->weight, f->most, &bytes) == 0)
        f->weight = memory_take(bytes, "an image filter", e);
    for (size_t i = 0; i < out && f->weight; i++)
        set_weights(f, i, ((double)i + 0.5) * step, scale, in, exact);
    memory_free(exact);
    if (f->weight) return 0;
    filter_free(f);
    return -1;
}

static unsigned char rounded(int32_t sum) {
    sum >>= WEIGHT_BITS;
    return (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* One row; a constant C lets the compiler keep the sums in registers. */
static inline void filter_row(const Filter *f, const unsigned char *in, unsigned char *out,
                              const size_t C) {
    for (size_t i = 0; i < f->count; i++) {
        const int32_t *weight = f->weight + i * f->most;
        const unsigned char *p = in + f->first[i] * C;
        int32_t sum[3] = {1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1)};
        for (size_t k = 0; k < f->n[i]; k++, p += C)
            for (size_t c = 0; c < C; c++) sum[c] += p[c] * weight[k];
        for (size_t c = 0; c < C; c++) out[i * C + c] = rounded(sum[c]);
    }
}

static int resize_rows(Image *image, size_t W, Error *e) {
    Filter f;
    Image out;
    if (filter_new(&f, image->W, W, e) != 0) return -1;
    int failed = image_new(&out, W, image->H, image->C, e);
    for (size_t y = 0, C = (size_t)image->C; y < image->H && !failed; y++) {
        const unsigned char *from = image->pixels + y * image->W * C;
        if (C == 3)
            filter_row(&f, from, out.pixels + y * W * 3, 3);
        else
            filter_row(&f, from, out.pixels + y * W, 1);
    }
    filter_free(&f);
    if (failed) return -1;
    image_free(image);
    *image = out;
    return 0;
}

/* A whole output row at once: reads memory in order. sum is [n]. */
static void filter_column(const Filter *f, size_t i, const unsigned char *in, size_t n,
                          int32_t *sum, unsigned char *out) {
    for (size_t x = 0; x < n; x++) sum[x] = 1 << (WEIGHT_BITS - 1);
    for (size_t k = 0; k < f->n[i]; k++) {
        const unsigned char *row = in + (f->first[i] + k) * n;
        int32_t weight = f->weight[i * f->most + k];
        for (size_t x = 0; x < n; x++) sum[x] += row[x] * weight;
    }
    for (size_t x = 0; x < n; x++) out[x] = rounded(sum[x]);
}

static int resize_columns(Image *image, size_t H, Error *e) {
    Filter f;
    Image out;
    size_t n = image->W * (size_t)image->C;
    if (filter_new(&f, image->H, H, e) != 0) return -1;
    int failed = image_new(&out, image->W, H, image->C, e);
    int32_t *sum = failed ? NULL : memory_take(n * sizeof *sum, "a row of an image", e);
    if (!failed && !sum) {
        image_free(&out);
        failed = -1;
    }
    for (size_t y = 0; y < H && !failed; y++)
        filter_column(&f, y, image->pixels, n, sum, out.pixels + y * n);
    memory_free(sum);
    filter_free(&f);
    if (failed) return -1;
    image_free(image);
    *image = out;
    return 0;
}

/* Whether to resize columns first: if they shrink the image by more than twice as many pixels as
 * rows do. Each pass rounds, so the order changes pixels; the rule is Pillow 13's. */
static bool columns_first(const Image *in, uint64_t W, uint64_t H) {
    int64_t rows = (int64_t)in->H - (int64_t)H, columns = (int64_t)in->W - (int64_t)W;
    return rows > 0 && rows > 2 * columns;
}

int image_resize(Image *in, uint64_t W, uint64_t H, Error *e) {
    int failed = image_check_size(W, H, e);
    bool early = !failed && columns_first(in, W, H);
    if (!failed && early) failed = resize_columns(in, (size_t)H, e);
    if (!failed && W != in->W) failed = resize_rows(in, (size_t)W, e);
    if (!failed && !early && H != in->H) failed = resize_columns(in, (size_t)H, e);
    if (failed) image_free(in);
    return failed;
}
