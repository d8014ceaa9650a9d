#define _GNU_SOURCE /* memfd_create */
#include "targets.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/arrays.h"
#include "io/cifar.h"
#include "io/idx.h"
#include "io/image.h"
#include "io/onnx.h"
#include "io/record.h"
#include "io/weights.h"

/* Larger images are looked at, not decoded, so that an input takes milliseconds. */
enum { PIXELS = 1 << 14 };

/* libFuzzer looks at what is in this section as it does at its own counters. */
static uint8_t seen[1 << 9] __attribute__((section("__libfuzzer_extra_counters")));

void fuzz_seen(const char *text, unsigned number) {
    for (int quoted = 0; *text; text++) {
        if (*text == '\'') quoted = !quoted;
        if (!quoted && islower((unsigned char)*text)) number = number * 31 + (unsigned char)*text;
    }
    seen[number % sizeof seen]++;
}

Device *fuzz_device(void) {
    static Device *device;
    Error e = {0};
    if (!device) fuzz_check(cpu_device(1, &device, &e) == 0, "the CPU device", e.text);
    return device;
}

void fuzz_check(int ok, const char *what, const char *detail) {
    if (ok) return;
    fprintf(stderr, "finding: %s: %s\n", what, detail);
    abort();
}

void fuzz_check_message(const char *path, const char *message) {
    size_t n = strlen(path);
    fuzz_check(strncmp(message, path, n) == 0 && message[n] == ':' && strlen(message) > n + 3,
               "a message without path or reason", message);
    fuzz_seen(message + n, 0);
    char clean[ERROR_TEXT];
    snprintf(clean, sizeof clean, "%s", message);
    clean[text_clean(clean, strlen(clean), "")] = 0;
    fuzz_check(strcmp(clean, message) == 0, "a control character", message);
}

static void load_weights(const char *path, const char *key) {
    Error e = {0};
    TensorList list;
    if (weights_load(path, key, fuzz_device(), &list, &e) != 0) {
        fuzz_check(!list.items, "tensors in spite of a failure", e.text);
        fuzz_check_message(path, e.text);
    }
    tensors_free(&list);
}

/* The file's own choice, and each of its dictionaries with all of their names. */
static void run_weights(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes, (void)n;
    enum { MOST = 4 };
    Error e = {0};
    PthContents c;
    load_weights(path, NULL);
    if (weights_list(path, &c, &e) != 0) {
        fuzz_check_message(path, e.text);
        return;
    }
    for (size_t i = 0; i < c.objects.group_count && i < MOST; i++) {
        const PthGroup *g = &c.objects.groups[i];
        PthEntries entries;
        fuzz_check(pth_group(&c.objects, g->key) != NULL, "a key of its own", g->key);
        fuzz_check(g->tensors > 0, "tensors in a dictionary", g->key);
        if (pth_entries(g, &entries, &e) == 0)
            for (size_t k = 0; k < entries.tensors + entries.opaque; k++)
                fuzz_check((k < entries.tensors) == (entries.items[k].tensor != NULL) &&
                               strlen(entries.items[k].name) < PTH_NAME,
                           "an entry of its kind", entries.items[k].name);
        memory_free(entries.items);
        load_weights(path, g->key);
    }
    pth_contents_free(&c);
}

/* An index, whose files are not there. */
static void run_index(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes, (void)n;
    Error e = {0};
    bool is_index;
    Shards s;
    if (weights_shards(path, &is_index, &s, &e) != 0) {
        fuzz_check_message(path, e.text);
        return;
    }
    for (size_t i = 0, count; i < s.count; i += count) {
        char *file;
        fuzz_check(shards_file(&s, i, path, &file, &count, &e) == 0, "a file's name", e.text);
        fuzz_check(strncmp(file, "/proc/self/fd/", 14) == 0 && !strchr(file + 14, '/') && count > 0,
                   "a file of the index's folder", file);
        memory_free(file);
    }
    shards_free(&s);
}

/* Every tensor of a model. */
static void run_onnx(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes, (void)n;
    Error e = {0};
    Onnx m;
    if (onnx_open(&m, path, &e) != 0) {
        fuzz_check(!m.path && !m.items, "a model in spite of a failure", e.text);
        fuzz_check_message(path, e.text);
        return;
    }
    for (int i = 1; i < m.count; i++) {
        const OnnxField *f = m.items[i].field;
        fuzz_check(m.items[i].next < m.count && m.items[i].first < m.count, "items of its own",
                   f->name);
        if (f->form == ONNX_STRING)
            fuzz_check(strlen(onnx_text(&m, &m.items[i])) == m.items[i].bytes, "a whole text",
                       f->name);
        if (f->form != ONNX_MESSAGE || f->message != ONNX_TENSOR) continue;
        Tensor t;
        Error why = {0};
        if (onnx_tensor(&m, &m.items[i], fuzz_device(), &t, &why) != 0) {
            fuzz_check(!t.storage, "a tensor in spite of a failure", why.text);
            fuzz_check_message(path, why.text);
        }
        tensor_free(&t);
    }
    onnx_close(&m);
}

static void run_image(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes;
    static const int channels[] = {0, 1, 3};
    ImageWish wish = {n & 1 ? 16 : 0, n & 2 ? 12 : 0, channels[n / 4 % 3]};
    Error e = {0}, f = {0};
    Image image;
    uint32_t W = 0, H = 0;
    int C = 0, failed = image_size(path, &W, &H, &C, &e);
    if (failed) fuzz_check_message(path, e.text);
    if (!failed && (uint64_t)W * H > PIXELS) return;
    int refused = image_load(path, &wish, &image, &f);
    fuzz_check(refused || !failed, "an image without a size", e.text);
    if (refused) {
        fuzz_check(!image.pixels, "pixels in spite of a failure", f.text);
        fuzz_check_message(path, f.text);
    } else if (!wish.resize && !wish.crop) {
        fuzz_check(image.W == W && image.H == H, "another size", path);
        fuzz_check(image.C == (wish.channels ? wish.channels : C), "other channels", path);
    }
    image_free(&image);
}

static void run_idx(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes, (void)n;
    Error e = {0};
    IdxArray a;
    if (idx_load(path, &a, &e) != 0) {
        fuzz_check(!a.data, "data in spite of a failure", e.text);
        fuzz_check_message(path, e.text);
    }
    idx_free(&a);
}

/* Arrays of an .npy, an .npz or a .safetensors. */
static void run_arrays(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes, (void)n;
    static const char *const names[] = {"x", "y"};
    Error e = {0};
    TensorList list;
    if (arrays_load(path, names, 2, fuzz_device(), &list, &e) != 0) {
        fuzz_check(!list.items, "arrays in spite of a failure", e.text);
        fuzz_check_message(path, e.text);
    } else {
        fuzz_check(list.count >= 1 && strcmp(list.items[0].name, "x") == 0, "the arrays", path);
    }
    tensors_free(&list);
}

static void run_cifar(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes, (void)n;
    Error e = {0};
    Tensor x, y;
    int classes = 0;
    if (cifar_load(path, fuzz_device(), &x, &y, &classes, &e) != 0) {
        fuzz_check(!x.storage && !y.storage, "images in spite of a failure", e.text);
        fuzz_check_message(path, e.text);
    } else {
        fuzz_check(x.shape[0] == y.shape[0] && (classes == 10 || classes == 100), "labels", path);
    }
    tensor_free(&x);
    tensor_free(&y);
}

/* All records that a reader gives; returns how many. */
static size_t read_records(RecordReader *r, const char *path) {
    const RecordField *fields;
    Error e = {0};
    size_t count, records = 0, failed;
    while (!(failed = record_next(r, &fields, &count, &e) != 0) && fields) {
        for (size_t i = 0; i < count; i++) {
            fuzz_check(strlen(fields[i].key) < RECORD_KEY, "a long key", fields[i].key);
            if (fields[i].kind == RECORD_TEXT)
                fuzz_check(fields[i].text[fields[i].count] == 0, "a text without end", path);
        }
        records++;
    }
    if (failed) fuzz_check_message(path, e.text);
    return records;
}

static void run_records(const char *path, const uint8_t *bytes, size_t n) {
    (void)bytes, (void)n;
    Error e = {0};
    RecordReader *r;
    if (record_open(&r, path, &e) != 0) fuzz_check(0, "no reader", e.text);
    read_records(r, path);
    record_close(r);
}

static void read_frames(const RecordPart *p, const char *path) {
    for (size_t i = 0; i < record_part_frames(p); i++) {
        Error e = {0};
        Buffer b = {0};
        RecordReader *r;
        fuzz_check(record_part_read(p, i, &b, &e) == 0, "a frame that is there", e.text);
        buffer_free(&b);
        if (record_part_kind(p, i) == FRAME_BYTES) continue;
        fuzz_check(record_part_reader(p, i, &r, &e) == 0, "a frame of records", e.text);
        read_records(r, path);
        record_close(r);
    }
}

/* Read as it is, then cut to its whole frames, one more added, and opened again. */
static void run_part(const char *path, const uint8_t *bytes, size_t n) {
    Error e = {0};
    RecordPart *p;
    run_records(path, bytes, n);
    if (record_part_open(&p, path, true, &e) != 0) {
        fuzz_check(!p, "a part in spite of a failure", e.text);
        fuzz_check_message(path, e.text);
        return;
    }
    size_t frames = record_part_frames(p);
    read_frames(p, path);
    fuzz_check(record_part_add(p, FRAME_RECORDS, "\x80", 1, &e) == 0, "a new frame", e.text);
    record_part_close(p);
    fuzz_check(record_part_open(&p, path, true, &e) == 0, "the part again", e.text);
    fuzz_check(record_part_frames(p) == frames + 1, "frames that were there", path);
    record_part_close(p);
}

const FuzzTarget fuzz_targets[FUZZ_TARGETS] = {
    {"png", run_image, fuzz_repair_png},
    {"jpeg", run_image, NULL},
    {"webp", run_image, NULL},
    {"bmp", run_image, NULL},
    {"pnm", run_image, NULL},
    {"safetensors", run_weights, NULL},
    {"pth_zip", run_weights, fuzz_repair_zip},
    {"pth_legacy", run_weights, NULL},
    {"msgpack", run_weights, NULL},
    {"index", run_index, NULL},
    {"onnx", run_onnx, NULL},
    {"records", run_records, NULL},
    {"part", run_part, fuzz_repair_part},
    {"idx", run_idx, NULL},
    {"npy", run_arrays, NULL},
    {"npz", run_arrays, fuzz_repair_zip},
    {"cifar", run_cifar, NULL},
    {"labels", fuzz_labels, NULL},
};

const FuzzTarget *fuzz_find(const char *name) {
    for (int i = 0; i < FUZZ_TARGETS; i++)
        if (strcmp(fuzz_targets[i].name, name) == 0) return &fuzz_targets[i];
    return NULL;
}

void fuzz_run(const FuzzTarget *target, const uint8_t *bytes, size_t n) {
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        fuzz_device();
    }
    fuzz_check(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n, "a file", path);
    size_t before = memory_count().in_use;
    target->run(path, bytes, n);
    fuzz_check(memory_count().in_use == before, "memory that is kept", target->name);
}
