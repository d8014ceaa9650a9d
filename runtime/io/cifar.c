#include "io/cifar.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { SIDE = 32, IMAGE = 3 * SIDE * SIDE };

/* The labels before each image, and the number of classes of each label. */
typedef struct Form {
    const char *name;
    int labels, classes[2]; /* the last label is used */
} Form;

static const Form forms[] = {{"CIFAR-10", 1, {10}}, {"CIFAR-100", 2, {20, 100}}};

static const Form *form_of(size_t bytes) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (bytes && bytes % (size_t)(IMAGE + forms[i].labels) == 0) return &forms[i];
    return NULL;
}

/* Moves images and labels into separate memory; x may be the file's bytes. */
static int split(const Form *f, const unsigned char *bytes, int64_t N, unsigned char *x,
                 unsigned char *y, Error *e) {
    for (int64_t i = 0; i < N; i++, bytes += f->labels + IMAGE) {
        for (int k = 0; k < f->labels; k++)
            if (bytes[k] >= f->classes[k])
                return error_set(e, "record %lld: label %d is not a class of %s (0 .. %d)",
                                 (long long)i, bytes[k], f->name, f->classes[k] - 1);
        y[i] = bytes[f->labels - 1];
        memmove(x + i * IMAGE, bytes + f->labels, IMAGE);
    }
    return 0;
}

static int make(const Form *f, unsigned char *bytes, size_t n, Device *d, Tensor *x, Tensor *y,
                Error *e) {
    int64_t shape[] = {(int64_t)(n / (size_t)(IMAGE + f->labels)), 3, SIDE, SIDE};
    unsigned char *labels = memory_take((size_t)shape[0], "labels", e);
    int failed = !labels || split(f, bytes, shape[0], bytes, labels, e) ||
                 tensor_new(x, d, DTYPE_U8, 4, shape, e) || tensor_from_host(x, bytes, e) ||
                 tensor_new(y, d, DTYPE_U8, 1, shape, e) || tensor_from_host(y, labels, e);
    memory_free(labels);
    return failed ? -1 : 0;
}

int cifar_load(const char *path, Device *d, Tensor *x, Tensor *y, int *classes, Error *e) {
    unsigned char *bytes;
    size_t n;
    *x = *y = (Tensor){0};
    if (file_read_whole(path, CIFAR_MOST, &bytes, &n, e) != 0) return -1;
    const Form *f = form_of(n);
    int failed = f ? make(f, bytes, n, d, x, y, e)
                   : error_set(e,
                               "has %zu bytes, no whole records of CIFAR-10 (3073 bytes each) or "
                               "CIFAR-100 (3074)",
                               n);
    memory_free(bytes);
    if (!failed) {
        *classes = f->classes[f->labels - 1];
        return 0;
    }
    tensor_free(x);
    tensor_free(y);
    return error_prefix(e, "%s", path);
}
