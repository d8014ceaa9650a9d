#include "io/feed.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"

enum { AHEAD = 4, MOST_THREADS = 64, MOST_SHIFT = 1024 };

typedef enum SourceKind { SOURCE_FILE, SOURCE_RAW, SOURCE_PIXELS } SourceKind;

/* A sequence of consecutive images. */
typedef struct Source {
    SourceKind kind;
    Dtype dtype;
    char *path;
    uint8_t *pixels;
    uint64_t offset;
    int64_t first, count; /* its images' range in the feed */
} Source;

/* A batch in progress, or finished and waiting. */
typedef struct Slot {
    float *x;
    int64_t *y;
    int64_t left; /* images still to come */
} Slot;

/* The buffers of one thread. */
typedef struct Worker {
    pthread_t thread;
    Feed *feed;
    uint8_t *bytes; /* one image, u8 or f32 */
    float *values;
} Worker;

struct Feed {
    FeedSpec spec;
    size_t pixels; /* C H W */
    Source *sources;
    int n_sources, source_room;
    int64_t *labels, count, label_room;

    /* A pass. The lock protects what changes while threads run. */
    pthread_mutex_t lock;
    pthread_cond_t room, ready;
    int64_t *order, *numbers, batch, batches, taken, given;
    Augment augment;
    bool changed, stop;
    Slot slots[AHEAD];
    Worker *workers;
    int n_workers, running;
    int64_t failed_at; /* index in the order; -1: no failure */
    Error error;
    double waited;
};

/* --- the list --- */

int feed_new(Feed **out, const FeedSpec *spec, Error *e) {
    size_t pixels, bytes;
    *out = NULL;
    if (spec->C < 1 || spec->H < 1 || spec->W < 1 ||
        size_mul((size_t)spec->C, (size_t)spec->H, &pixels) ||
        size_mul(pixels, (size_t)spec->W, &pixels) || size_mul(pixels, sizeof(float), &bytes))
        return error_set(e, "a feed's images cannot be [%" PRId64 ",%" PRId64 ",%" PRId64 "]",
                         spec->C, spec->H, spec->W);
    Feed *f = memory_zeroed(1, sizeof *f, "a feed", e);
    if (!f) return -1;
    f->spec = *spec;
    f->spec.wish.channels = (int)spec->C;
    f->pixels = pixels;
    f->failed_at = -1;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->room, NULL);
    pthread_cond_init(&f->ready, NULL);
    *out = f;
    return 0;
}

int64_t feed_count(const Feed *f) {
    return f->count;
}

static int grow_labels(Feed *f, int64_t count, const int64_t *labels, Error *e) {
    if (f->count + count > f->label_room) {
        int64_t room = f->label_room > 0 ? f->label_room : 256;
        while (room < f->count + count) room *= 2;
        int64_t *more = memory_take((size_t)room * sizeof *more, "labels", e);
        if (!more) return -1;
        if (f->count > 0) memcpy(more, f->labels, (size_t)f->count * sizeof *more);
        memory_free(f->labels);
        f->labels = more;
        f->label_room = room;
    }
    memcpy(f->labels + f->count, labels, (size_t)count * sizeof *labels);
    return 0;
}

/* Appends a source. Copies the path; takes ownership of the pixels. */
static int add(Feed *f, const Source *s, const char *path, const int64_t *labels, Error *e) {
    if (s->count < 1 || s->count > INT64_MAX / 4 - f->count || f->n_sources == INT32_MAX)
        return error_set(e, "a feed cannot take %" PRId64 " images more", s->count);
    if (f->n_workers > 0) return error_set(e, "cannot add images to a feed during a pass");
    void *sources = f->sources;
    int grown = memory_grow(&sources, f->n_sources, &f->source_room, sizeof *s, "a feed", e);
    f->sources = sources;
    if (grown || grow_labels(f, s->count, labels, e)) return -1;
    Source *made = &f->sources[f->n_sources];
    *made = *s;
    made->first = f->count;
    if (path) {
        made->path = memory_take(strlen(path) + 1, "a path", e);
        if (!made->path) return -1;
        strcpy(made->path, path);
    }
    f->count += s->count;
    f->n_sources++;
    return 0;
}

int feed_add_file(Feed *f, const char *path, int64_t label, Error *e) {
    if (f->spec.C != 1 && f->spec.C != 3)
        return error_set(e, "%s: image files have 1 or 3 channels, the feed's images %" PRId64,
                         path, f->spec.C);
    Source s = {.kind = SOURCE_FILE, .count = 1};
    return add(f, &s, path, &label, e);
}

int feed_add_raw(Feed *f, const char *path, Dtype type, uint64_t offset, int64_t count,
                 const int64_t *labels, Error *e) {
    if (type != DTYPE_U8 && type != DTYPE_F32)
        return error_set(e, "raw images are u8 or f32, not %s", dtype_name(type));
    Source s = {.kind = SOURCE_RAW, .dtype = type, .offset = offset, .count = count};
    return add(f, &s, path, labels, e);
}

static int check_values(const FeedSpec *spec, const void *bytes, size_t n, Error *e) {
    const float *values = bytes;
    bool unit = spec->low == 0 && spec->high == 0;
    float low = unit ? 0 : spec->low, high = unit ? 1 : spec->high;
    for (size_t i = 0; i < n; i++)
        if (!(values[i] >= low && values[i] <= high))
            return error_set(e, "an image has the value %g, outside [%g,%g]", (double)values[i],
                             (double)low, (double)high);
    return 0;
}

int feed_add_pixels(Feed *f, const Tensor *images, const int64_t *labels, Error *e) {
    char text[128];
    const int64_t *shape = images->shape;
    if ((images->dtype != DTYPE_U8 && images->dtype != DTYPE_F32) || images->ndim != 4 ||
        shape[1] != f->spec.C || shape[2] != f->spec.H || shape[3] != f->spec.W)
        return error_set(
            e, "the images must be u8 or f32 [M,%" PRId64 ",%" PRId64 ",%" PRId64 "], got %s %s",
            f->spec.C, f->spec.H, f->spec.W, dtype_name(images->dtype),
            tensor_shape_text(images, text));
    Source s = {.kind = SOURCE_PIXELS, .dtype = images->dtype, .count = shape[0]};
    s.pixels = memory_take(tensor_bytes(images), "images", e);
    if (!s.pixels) return -1;
    int failed = tensor_to_host(images, s.pixels, e);
    if (!failed && s.dtype == DTYPE_F32)
        failed = check_values(&f->spec, s.pixels, (size_t)tensor_count(images), e);
    failed = failed || add(f, &s, NULL, labels, e);
    if (failed) memory_free(s.pixels);
    return failed ? -1 : 0;
}

static const Source *source_of(const Feed *f, int64_t image) {
    int low = 0, high = f->n_sources - 1;
    while (low < high) {
        int middle = low + (high - low + 1) / 2;
        if (f->sources[middle].first <= image)
            low = middle;
        else
            high = middle - 1;
    }
    return &f->sources[low];
}

/* --- one image --- */

static int read_file(const Feed *f, const Source *s, uint8_t *out, Error *e) {
    Image image;
    if (image_load(s->path, &f->spec.wish, &image, e)) return -1;
    int failed = 0;
    if (image.H != f->spec.H || image.W != f->spec.W)
        failed = error_set(e,
                           "%s: the image is %" PRIu32 " x %" PRIu32 " (width x height), wanted "
                           "%" PRId64 " x %" PRId64,
                           s->path, image.W, image.H, f->spec.W, f->spec.H);
    else
        image_planes(&image, out);
    image_free(&image);
    return failed;
}

static int read_raw(const Feed *f, const Source *s, size_t i, void *out, Error *e) {
    int fd;
    uint64_t size;
    size_t bytes = f->pixels * dtype_size(s->dtype);
    if (file_open_read(s->path, &fd, &size, e)) return -1;
    int failed = file_read_at(fd, out, bytes, s->offset + i * bytes, e);
    close(fd);
    return failed ? error_prefix(e, "%s", s->path) : 0;
}

/* Decodes image `image` into w->values. */
static int read_image(const Feed *f, int64_t image, Worker *w, Error *e) {
    const Source *s = source_of(f, image);
    size_t i = (size_t)(image - s->first), n = f->pixels;
    bool levels = s->kind == SOURCE_FILE || s->dtype == DTYPE_U8;
    void *to = levels ? (void *)w->bytes : w->values;
    if (s->kind == SOURCE_PIXELS)
        memcpy(to, s->pixels + i * n * dtype_size(s->dtype), n * dtype_size(s->dtype));
    else if (s->kind == SOURCE_FILE ? read_file(f, s, to, e) : read_raw(f, s, i, to, e))
        return -1;
    if (s->kind == SOURCE_RAW && !levels && check_values(&f->spec, w->values, n, e))
        return error_prefix(e, "%s", s->path);
    if (!levels && !f->spec.round) return 0;
    for (size_t k = 0; k < n; k++) {
        uint8_t level = levels ? w->bytes[k] : image_level(w->values[k]);
        w->values[k] = (float)level / 255.0f;
    }
    return 0;
}

/* Mirrors an image, then reads it from (h + dh, w + dw). */
typedef struct Move {
    bool flip;
    int64_t dh, dw;
} Move;

static int64_t draw_shift(const Augment *a, uint64_t i) {
    return (int64_t)(random_uniform(a->key, i) * (2 * a->shift + 1)) - a->shift;
}

static Move draw(const Feed *f, int64_t at) {
    const Augment *a = &f->augment;
    if (!f->changed) return (Move){0};
    uint64_t i = (uint64_t)(f->numbers ? f->numbers : f->order)[at] * 3;
    return (Move){a->flip && random_uniform(a->key, i) < 0.5, draw_shift(a, i + 1),
                  draw_shift(a, i + 2)};
}

static void place(const Feed *f, const float *in, float *out, Move m) {
    int64_t H = f->spec.H, W = f->spec.W;
    for (int64_t c = 0; c < f->spec.C; c++, in += H * W)
        for (int64_t h = 0; h < H; h++)
            for (int64_t w = 0; w < W; w++) {
                int64_t y = h + m.dh, x = w + m.dw;
                bool inside = y >= 0 && y < H && x >= 0 && x < W;
                if (m.flip) x = W - 1 - x;
                *out++ = inside ? in[y * W + x] : 0.0f;
            }
}

/* --- threads --- */

static void make_image(Feed *f, Worker *w, int64_t at) {
    Slot *slot = &f->slots[at / f->batch % AHEAD];
    int64_t k = at % f->batch, image = f->order[at];
    Error e = {0};
    int failed = read_image(f, image, w, &e);
    if (!failed) {
        place(f, w->values, slot->x + (size_t)k * f->pixels, draw(f, at));
        slot->y[k] = f->labels[image];
    }
    pthread_mutex_lock(&f->lock);
    if (failed && (f->failed_at < 0 || at < f->failed_at)) {
        f->failed_at = at;
        f->error = e;
    }
    if (--slot->left == 0) pthread_cond_signal(&f->ready);
}

static void *work(void *worker) {
    Worker *w = worker;
    Feed *f = w->feed;
    int64_t total = f->batches * f->batch;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (!f->stop && f->taken < total && f->taken / f->batch >= f->given + AHEAD)
            pthread_cond_wait(&f->room, &f->lock);
        if (f->stop || f->taken >= total) break;
        int64_t at = f->taken++;
        pthread_mutex_unlock(&f->lock);
        make_image(f, w, at); /* locks again */
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static void end_pass(Feed *f) {
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_cond_broadcast(&f->room);
    pthread_mutex_unlock(&f->lock);
    for (int i = 0; i < f->running; i++) pthread_join(f->workers[i].thread, NULL);
    for (int i = 0; i < f->n_workers; i++) {
        memory_free(f->workers[i].bytes);
        memory_free(f->workers[i].values);
    }
    memory_free(f->workers);
    f->workers = NULL;
    f->n_workers = f->running = 0;
    for (int i = 0; i < AHEAD; i++) {
        memory_free(f->slots[i].x);
        memory_free(f->slots[i].y);
        f->slots[i] = (Slot){0};
    }
    memory_free(f->order);
    memory_free(f->numbers);
    f->order = f->numbers = NULL;
    f->batches = f->given = f->taken = 0;
    f->stop = false;
}

void feed_free(Feed *f) {
    if (!f) return;
    end_pass(f);
    for (int i = 0; i < f->n_sources; i++) {
        memory_free(f->sources[i].path);
        memory_free(f->sources[i].pixels);
    }
    memory_free(f->sources);
    memory_free(f->labels);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->room);
    pthread_cond_destroy(&f->ready);
    memory_free(f);
}

/* --- a pass --- */

static int take_buffers(Feed *f, int threads, Error *e) {
    size_t batch = (size_t)f->batch, values, bytes;
    if (size_mul(batch, f->pixels, &values) || size_mul(values, sizeof(float), &bytes))
        return error_set(e, "a batch of %" PRId64 " images is too large", f->batch);
    for (int i = 0; i < AHEAD; i++) {
        f->slots[i].x = memory_take(bytes, "a batch of images", e);
        f->slots[i].y = memory_zeroed(batch, sizeof(int64_t), "labels", e);
        f->slots[i].left = f->batch;
        if (!f->slots[i].x || !f->slots[i].y) return -1;
    }
    f->workers = memory_zeroed((size_t)threads, sizeof *f->workers, "a feed's threads", e);
    if (!f->workers) return -1;
    f->n_workers = threads;
    for (int i = 0; i < threads; i++) {
        Worker *w = &f->workers[i];
        w->feed = f;
        w->bytes = memory_take(f->pixels, "an image", e);
        w->values = memory_take(f->pixels * sizeof(float), "an image", e);
        if (!w->bytes || !w->values) return -1;
    }
    return 0;
}

static int begin(Feed *f, const int64_t *order, int64_t n, int threads, Error *e) {
    f->order = memory_take((size_t)n * sizeof *order, "an order of images", e);
    if (!f->order || take_buffers(f, threads, e)) return -1;
    memcpy(f->order, order, (size_t)n * sizeof *order);
    if (f->changed && f->augment.numbers) {
        f->numbers = memory_take((size_t)n * sizeof *order, "an order of images", e);
        if (!f->numbers) return -1;
        memcpy(f->numbers, f->augment.numbers, (size_t)n * sizeof *order);
    }
    f->batches = n / f->batch;
    f->failed_at = -1;
    f->error = (Error){0};
    f->waited = 0;
    for (int i = 0; i < threads; i++, f->running++)
        if (pthread_create(&f->workers[i].thread, NULL, work, &f->workers[i]))
            return error_set(e, "a thread that reads images cannot be started");
    return 0;
}

int feed_start(Feed *f, const int64_t *order, int64_t n, int64_t batch, const Augment *a,
               int threads, Error *e) {
    if (batch < 1 || n < 0 || threads < 1 || threads > MOST_THREADS)
        return error_set(e, "a pass needs a batch of 1 or more and 1 to %d threads", MOST_THREADS);
    if (a && (a->shift < 0 || a->shift > MOST_SHIFT))
        return error_set(e, "the shift must be 0 to %d, got %d", MOST_SHIFT, a->shift);
    for (int64_t i = 0; i < n; i++)
        if (order[i] < 0 || order[i] >= f->count)
            return error_set(e, "the order names image %" PRId64 " of %" PRId64, order[i],
                             f->count);
    end_pass(f);
    f->batch = batch;
    f->changed = a != NULL;
    if (a) f->augment = *a;
    if (begin(f, order, n, threads, e) == 0) return 0;
    end_pass(f);
    return -1;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Waits until a batch is complete; -1 if one of its images failed. */
static int await(Feed *f, const Slot *slot, Error *e) {
    double from = now();
    pthread_mutex_lock(&f->lock);
    while (slot->left > 0) pthread_cond_wait(&f->ready, &f->lock);
    bool failed = f->failed_at >= 0 && f->failed_at / f->batch == f->given;
    pthread_mutex_unlock(&f->lock);
    f->waited += now() - from;
    return failed ? error_set(e, "%s", f->error.text) : 0;
}

int feed_next(Feed *f, const Tensor *x, const Tensor *y, bool *more, Error *e) {
    char text[128];
    *more = f->given < f->batches;
    if (!*more) return 0;
    if (x->dtype != DTYPE_F32 || x->ndim != 4 || x->shape[0] != f->batch ||
        tensor_count(x) != f->batch * (int64_t)f->pixels || x->shape[1] != f->spec.C ||
        x->shape[2] != f->spec.H)
        return error_set(e,
                         "the batch of images must be f32 [%" PRId64 ",%" PRId64 ",%" PRId64
                         ",%" PRId64 "], got %s %s",
                         f->batch, f->spec.C, f->spec.H, f->spec.W, dtype_name(x->dtype),
                         tensor_shape_text(x, text));
    if (y->dtype != DTYPE_I64 || y->ndim != 1 || y->shape[0] != f->batch)
        return error_set(e, "the batch's labels must be i64 [%" PRId64 "], got %s %s", f->batch,
                         dtype_name(y->dtype), tensor_shape_text(y, text));
    Slot *slot = &f->slots[f->given % AHEAD];
    if (await(f, slot, e) || tensor_from_host(x, slot->x, e) || tensor_from_host(y, slot->y, e))
        return -1;
    pthread_mutex_lock(&f->lock);
    slot->left = f->batch;
    f->given++;
    pthread_cond_broadcast(&f->room);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

double feed_waited(const Feed *f) {
    return f->waited;
}
