#include "tensor/batch.h"

#include <inttypes.h>

#include "base/memory.h"
#include "base/random.h"

/* How one image is changed: mirrored, then read from (h + dh, w + dw). */
typedef struct Move {
    bool flip;
    int64_t dh, dw;
} Move;

static int64_t draw_shift(const Augment *a, uint64_t i) {
    return (int64_t)(random_uniform(a->key, i) * (2 * a->shift + 1)) - a->shift;
}

static Move draw(const Augment *a, int64_t image) {
    if (!a) return (Move){0};
    uint64_t i = (uint64_t)image * 3;
    return (Move){a->flip && random_uniform(a->key, i) < 0.5, draw_shift(a, i + 1),
                  draw_shift(a, i + 2)};
}

/* Bytes become numbers in [0,1]. */
static void to_float(const uint8_t *in, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (float)in[i] / 255.0f;
}

/* in, out: one image of `planes` channels. */
static void place(const float *in, float *out, int64_t planes, int64_t H, int64_t W, Move m) {
    for (int64_t c = 0; c < planes; c++, in += H * W)
        for (int64_t h = 0; h < H; h++)
            for (int64_t w = 0; w < W; w++) {
                int64_t y = h + m.dh, x = w + m.dw;
                bool inside = y >= 0 && y < H && x >= 0 && x < W;
                if (m.flip) x = W - 1 - x;
                *out++ = inside ? in[y * W + x] : 0.0f;
            }
}

static int check(const Tensor *images, const Tensor *labels, const Tensor *order, int64_t first,
                 const Augment *a, const Tensor *x, const Tensor *y, Error *e) {
    char got[128], given[128];
    if ((images->dtype != DTYPE_U8 && images->dtype != DTYPE_F32) || images->ndim != 4)
        return error_set(e, "the images must be u8 or f32 [M,C,H,W], got %s %s",
                         dtype_name(images->dtype), tensor_shape_text(images, got));
    bool same = x->dtype == DTYPE_F32 && x->ndim == 4;
    for (int i = 1; same && i < 4; i++) same = x->shape[i] == images->shape[i];
    if (!same)
        return error_set(e, "the batch of images %s must be f32 of their size, got %s %s",
                         tensor_shape_text(images, given), dtype_name(x->dtype),
                         tensor_shape_text(x, got));
    if (labels->dtype != DTYPE_I64 || labels->ndim != 1 || labels->shape[0] != images->shape[0])
        return error_set(e, "the labels must be i64 [%" PRId64 "], got %s %s", images->shape[0],
                         dtype_name(labels->dtype), tensor_shape_text(labels, got));
    if (y->dtype != DTYPE_I64 || y->ndim != 1 || y->shape[0] != x->shape[0])
        return error_set(e, "the batch's labels must be i64 [%" PRId64 "], got %s %s", x->shape[0],
                         dtype_name(y->dtype), tensor_shape_text(y, got));
    if (order->dtype != DTYPE_I64 || order->ndim != 1)
        return error_set(e, "the order must be i64 [M], got %s %s", dtype_name(order->dtype),
                         tensor_shape_text(order, got));
    if (first < 0 || first > order->shape[0] || order->shape[0] - first < x->shape[0])
        return error_set(e, "rows %" PRId64 " to %" PRId64 " are not in an order of %" PRId64,
                         first, first + x->shape[0], order->shape[0]);
    if (a && (a->shift < 0 || a->shift > 1024))
        return error_set(e, "the shift must be 0 to 1024, got %d", a->shift);
    return 0;
}

/* Copies row `row` of a tensor to host memory. */
static int row_to_host(const Tensor *t, int64_t row, void *host, Error *e) {
    Tensor one;
    if (tensor_narrow(&one, t, row, 1, e)) return -1;
    int failed = tensor_to_host(&one, host, e);
    tensor_free(&one);
    return failed;
}

typedef struct Buffers {
    int64_t *order, *labels;
    float *batch, *image;
    uint8_t *bytes; /* of an image of u8 */
} Buffers;

static int fill(const Tensor *images, const Tensor *labels, const Augment *a, const Tensor *x,
                const Buffers *b, Error *e) {
    int64_t C = images->shape[1], H = images->shape[2], W = images->shape[3];
    bool bytes = images->dtype == DTYPE_U8;
    for (int64_t n = 0; n < x->shape[0]; n++) {
        int64_t i = b->order[n];
        if (i < 0 || i >= images->shape[0])
            return error_set(e, "the order names image %" PRId64 " of %" PRId64, i,
                             images->shape[0]);
        void *row = bytes ? (void *)b->bytes : b->image;
        if (row_to_host(images, i, row, e) || row_to_host(labels, i, &b->labels[n], e)) return -1;
        if (bytes) to_float(b->bytes, b->image, (size_t)(C * H * W));
        place(b->image, b->batch + n * C * H * W, C, H, W, draw(a, i));
    }
    return 0;
}

int batch_gather(const Tensor *images, const Tensor *labels, const Tensor *order, int64_t first,
                 const Augment *a, const Tensor *x, const Tensor *y, Error *e) {
    if (check(images, labels, order, first, a, x, y, e)) return -1;
    Tensor rows;
    if (tensor_narrow(&rows, order, first, x->shape[0], e)) return -1;
    size_t pixels = (size_t)(images->shape[1] * images->shape[2] * images->shape[3]);
    Buffers b = {.order = memory_take(tensor_bytes(&rows), "batch order", e),
                 .labels = memory_take(tensor_bytes(y), "batch labels", e),
                 .batch = memory_take(tensor_bytes(x), "batch", e),
                 .image = memory_take(pixels * sizeof(float), "image", e),
                 .bytes = memory_take(pixels, "image", e)};
    int failed = !b.order || !b.labels || !b.batch || !b.image || !b.bytes;
    failed = failed || tensor_to_host(&rows, b.order, e) || fill(images, labels, a, x, &b, e) ||
             tensor_from_host(x, b.batch, e) || tensor_from_host(y, b.labels, e);
    memory_free(b.order);
    memory_free(b.labels);
    memory_free(b.batch);
    memory_free(b.image);
    memory_free(b.bytes);
    tensor_free(&rows);
    return failed ? -1 : 0;
}
