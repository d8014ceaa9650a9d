#include "image/transform.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "io/image.h"
#include "io/jpeg.h"

enum { TV_STEPS = 100, MEDIAN_SIDE = 15, GAUSSIAN_SIGMA = 16, BITS = 16 };

/* Scratch memory for one image. plane: H W; scratch: 4 H W floats. */
typedef struct Job {
    double strength;
    int64_t C, H, W;
    uint64_t key;
    float *scratch;
} Job;

static int64_t clamp(int64_t i, int64_t n) {
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* --- total variation --- */

/* div p, with backward differences truncated at the edges. */
static void divergence(const float *px, const float *py, float *out, int64_t H, int64_t W) {
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < W; x++) {
            int64_t i = y * W + x;
            float dx = x == 0 ? px[i] : x == W - 1 ? -px[i - 1] : px[i] - px[i - 1];
            float dy = y == 0 ? py[i] : y == H - 1 ? -py[i - W] : py[i] - py[i - W];
            out[i] = (W > 1 ? dx : 0) + (H > 1 ? dy : 0);
        }
}

static int tv(const Job *j, float *image, Error *e) {
    (void)e;
    int64_t H = j->H, W = j->W, n = H * W;
    float *px = j->scratch, *py = px + n, *v = py + n, lambda = (float)j->strength, tau = 0.248f;
    if (lambda <= 0) return 0;
    for (int64_t c = 0; c < j->C; c++) {
        float *f = image + c * n;
        memset(px, 0, (size_t)n * 2 * sizeof *px);
        for (int step = 0; step <= TV_STEPS; step++) {
            divergence(px, py, v, H, W);
            if (step == TV_STEPS) break;
            for (int64_t i = 0; i < n; i++) v[i] -= f[i] / lambda;
            for (int64_t y = 0; y < H; y++)
                for (int64_t x = 0; x < W; x++) {
                    int64_t i = y * W + x;
                    float gx = x < W - 1 ? v[i + 1] - v[i] : 0,
                          gy = y < H - 1 ? v[i + W] - v[i] : 0;
                    float norm = 1 + tau * sqrtf(gx * gx + gy * gy);
                    px[i] = (px[i] + tau * gx) / norm;
                    py[i] = (py[i] + tau * gy) / norm;
                }
        }
        for (int64_t i = 0; i < n; i++) f[i] = fminf(fmaxf(f[i] - lambda * v[i], 0), 1);
    }
    return 0;
}

/* --- filters --- */

static float middle_of(float *values, int count) {
    for (int i = 1; i < count; i++) {
        float v = values[i];
        int k = i;
        for (; k > 0 && values[k - 1] > v; k--) values[k] = values[k - 1];
        values[k] = v;
    }
    return values[count / 2];
}

static int median(const Job *j, float *image, Error *e) {
    (void)e;
    float window[MEDIAN_SIDE * MEDIAN_SIDE];
    int64_t H = j->H, W = j->W, r = (int64_t)j->strength / 2;
    for (int64_t c = 0; c < j->C; c++, image += H * W) {
        memcpy(j->scratch, image, (size_t)(H * W) * sizeof *image);
        for (int64_t y = 0; y < H; y++)
            for (int64_t x = 0; x < W; x++) {
                int count = 0;
                for (int64_t dy = -r; dy <= r; dy++)
                    for (int64_t dx = -r; dx <= r; dx++)
                        window[count++] = j->scratch[clamp(y + dy, H) * W + clamp(x + dx, W)];
                image[y * W + x] = middle_of(window, count);
            }
    }
    return 0;
}

static int gaussian(const Job *j, float *image, Error *e) {
    (void)e;
    double weights[6 * GAUSSIAN_SIGMA + 1], total = 0;
    int64_t H = j->H, W = j->W, r = (int64_t)ceil(3 * j->strength);
    for (int64_t d = -r; d <= r; d++)
        total += weights[d + r] = exp(-0.5 * (double)(d * d) / (j->strength * j->strength));
    for (int64_t c = 0; c < j->C; c++, image += H * W)
        for (int pass = 0; pass < 2; pass++) { /* along the rows, then along the columns */
            memcpy(j->scratch, image, (size_t)(H * W) * sizeof *image);
            for (int64_t y = 0; y < H; y++)
                for (int64_t x = 0; x < W; x++) {
                    double sum = 0;
                    for (int64_t d = -r; d <= r; d++)
                        sum += weights[d + r] * (double)(pass == 0
                                                             ? j->scratch[y * W + clamp(x + d, W)]
                                                             : j->scratch[clamp(y + d, H) * W + x]);
                    image[y * W + x] = (float)(sum / total);
                }
        }
    return 0;
}

static int bits(const Job *j, float *image, Error *e) {
    (void)e;
    float levels = (float)(exp2(j->strength) - 1);
    for (int64_t i = 0; i < j->C * j->H * j->W; i++) image[i] = rintf(image[i] * levels) / levels;
    return 0;
}

/* --- through 8-bit pixels --- */

static int to_pixels(const Job *j, const float *image, Image *out, Error *e) {
    if (image_new(out, (uint64_t)j->W, (uint64_t)j->H, (int)j->C, e)) return -1;
    for (int64_t i = 0; i < j->H * j->W; i++)
        for (int64_t c = 0; c < j->C; c++)
            out->pixels[i * j->C + c] = image_level(image[c * j->H * j->W + i]);
    return 0;
}

/* Copies the pixels to (top, left) of the image; the rest of the image stays. */
static void from_pixels(const Job *j, const Image *in, float *image, int64_t top, int64_t left) {
    for (int64_t c = 0; c < j->C; c++)
        for (int64_t y = 0; y < in->H; y++)
            for (int64_t x = 0; x < in->W; x++)
                image[(c * j->H + top + y) * j->W + left + x] =
                    (float)in->pixels[(y * in->W + x) * j->C + c] / 255.0f;
}

static int jpeg(const Job *j, float *image, Error *e) {
    Image pixels;
    if (to_pixels(j, image, &pixels, e)) return -1;
    int failed = image_jpeg_again(&pixels, (int)j->strength, e);
    if (!failed) from_pixels(j, &pixels, image, 0, 0);
    image_free(&pixels);
    return failed;
}

static int pad(const Job *j, float *image, Error *e) {
    Image pixels;
    int64_t h = clamp(llround(j->strength * (double)j->H), j->H + 1),
            w = clamp(llround(j->strength * (double)j->W), j->W + 1);
    if (h < 1) h = 1;
    if (w < 1) w = 1;
    if (to_pixels(j, image, &pixels, e) || image_resize(&pixels, (uint64_t)w, (uint64_t)h, e))
        return -1;
    int64_t top = (int64_t)(random_uniform(j->key, 0) * (double)(j->H - h + 1)),
            left = (int64_t)(random_uniform(j->key, 1) * (double)(j->W - w + 1));
    memset(image, 0, (size_t)(j->C * j->H * j->W) * sizeof *image);
    from_pixels(j, &pixels, image, top, left);
    image_free(&pixels);
    return 0;
}

/* --- entry point --- */

static const struct {
    const char *name;
    int (*apply)(const Job *j, float *image, Error *e);
    double least, most;
    bool whole, colours; /* whole strengths; 1 or 3 channels */
} kinds[TRANSFORM_KINDS] = {
    [TRANSFORM_TV] = {"tv", tv, 0, 1e3, false, false},
    [TRANSFORM_MEDIAN] = {"median", median, 1, MEDIAN_SIDE, true, false},
    [TRANSFORM_GAUSSIAN] = {"gaussian", gaussian, 1e-3, GAUSSIAN_SIGMA, false, false},
    [TRANSFORM_BITS] = {"bits", bits, 1, BITS, true, false},
    [TRANSFORM_JPEG] = {"jpeg", jpeg, 1, 100, true, true},
    [TRANSFORM_PAD] = {"pad", pad, 1e-3, 1, false, true},
};

const char *transform_name(TransformKind kind) {
    return kinds[kind].name;
}

static int check(TransformKind kind, double strength, const Tensor *x, Error *e) {
    char text[128];
    if (x->dtype != DTYPE_F32 || x->ndim != 4 || tensor_count(x) == 0)
        return error_set(e, "%s wants images f32 [N,C,H,W], got %s %s", kinds[kind].name,
                         dtype_name(x->dtype), tensor_shape_text(x, text));
    if (!(strength >= kinds[kind].least && strength <= kinds[kind].most) ||
        (kinds[kind].whole && strength != floor(strength)) ||
        (kind == TRANSFORM_MEDIAN && fmod(strength, 2) != 1))
        return error_set(e, "%s takes %s from %g to %g, got %g", kinds[kind].name,
                         kind == TRANSFORM_MEDIAN ? "an odd number"
                         : kinds[kind].whole      ? "a whole number"
                                                  : "a number",
                         kinds[kind].least, kinds[kind].most, strength);
    if (kinds[kind].colours && x->shape[1] != 1 && x->shape[1] != 3)
        return error_set(e, "%s wants images of 1 or 3 channels, got %" PRId64, kinds[kind].name,
                         x->shape[1]);
    return 0;
}

static int apply_all(TransformKind kind, double strength, const Tensor *x, float *images,
                     const uint64_t *keys, Error *e) {
    int64_t N = x->shape[0], C = x->shape[1], H = x->shape[2], W = x->shape[3];
    int failed = 0;
#pragma omp parallel
    {
        Error own = {0};
        Job j = {.strength = strength, .C = C, .H = H, .W = W};
        j.scratch = memory_take((size_t)(4 * H * W) * sizeof(float), "an image", &own);
        int bad = j.scratch ? 0 : -1;
#pragma omp for
        for (int64_t i = 0; i < N; i++) {
            j.key = keys[i];
            if (!bad) bad = kinds[kind].apply(&j, images + i * C * H * W, &own);
        }
        memory_free(j.scratch);
#pragma omp critical
        if (bad && !failed) failed = error_set(e, "%s", own.text);
    }
    return failed;
}

int transform_apply(TransformKind kind, double strength, const Tensor *x, const uint64_t *keys,
                    Error *e) {
    if (check(kind, strength, x, e)) return -1;
    float *images = memory_take(tensor_bytes(x), "images", e);
    if (!images) return -1;
    int failed = tensor_to_host(x, images, e) || apply_all(kind, strength, x, images, keys, e) ||
                 tensor_from_host(x, images, e);
    memory_free(images);
    return failed ? -1 : 0;
}
