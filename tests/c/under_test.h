/* The device that a test is for: the CPU, or what ADVRT_TEST_DEVICE names, with its plugin in the
 * folder ADVRT_TEST_FOLDER. And plans run on host memory, through copies. */
#ifndef ADVRT_TESTS_UNDER_TEST_H
#define ADVRT_TESTS_UNDER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/open.h"
#include "net/plan.h"

static Device *device;

/* Opens it, or says why not and ends the program. */
static inline void under_test_open(void) {
    const char *name = getenv("ADVRT_TEST_DEVICE"), *folder = getenv("ADVRT_TEST_FOLDER");
    Error e = {0};
    if (device_open(name ? name : "cpu", 0, folder ? folder : "build", &device, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    /* tests/run gathers these */
    if (strcmp(device->name, "cpu") == 0) fprintf(stderr, "# instruction set %s\n", device->isa);
}

/* Device memory for the plan's x, z, dz and dx, kept so that a run takes none. */
static void *under_test_memory[4];
static size_t under_test_bytes[4];

static inline void *under_test_buffer(int slot, int64_t n) {
    Error e = {0};
    size_t bytes = (size_t)n * sizeof(float);
    if (under_test_bytes[slot] < bytes) {
        device->release(device, under_test_memory[slot]);
        if (device->take(device, bytes, "a test", &under_test_memory[slot], &e))
            fail_msg("%s", e.text);
        under_test_bytes[slot] = bytes;
    }
    return under_test_memory[slot];
}

static inline void under_test_close(void) {
    for (int i = 0; i < 4; i++) device->release(device, under_test_memory[i]);
    device_close(device);
}

/* Plan.forward, backward and train_backward with host memory. */
static inline int host_forward(Plan *p, const float *x, float *z, Error *e) {
    int64_t in = p->request.N * p->C * p->H * p->W, out = p->request.N * p->K;
    void *dx = under_test_buffer(0, in), *dz = under_test_buffer(1, out);
    return device->copy_in(device, dx, x, (size_t)in * sizeof *x, e) ||
           plan_forward(p, dx, dz, e) ||
           device->copy_out(device, z, dz, (size_t)out * sizeof *z, e);
}

static inline int host_backward(Plan *p, const float *dz, float *dx, Error *e) {
    int64_t in = p->request.N * p->C * p->H * p->W, out = p->request.N * p->K;
    void *from = under_test_buffer(2, out), *to = under_test_buffer(3, in);
    return device->copy_in(device, from, dz, (size_t)out * sizeof *dz, e) ||
           plan_backward(p, from, to, e) ||
           device->copy_out(device, dx, to, (size_t)in * sizeof *dx, e);
}

static inline int host_train_backward(Plan *p, const float *dz, Error *e) {
    int64_t out = p->request.N * p->K;
    void *from = under_test_buffer(2, out);
    return device->copy_in(device, from, dz, (size_t)out * sizeof *dz, e) ||
           plan_train_backward(p, from, e);
}

/* n floats of the device's memory; the caller frees them. NULL of NULL. */
static inline float *host_copy(const float *from, int64_t n) {
    Error e = {0};
    float *out = from ? malloc((size_t)n * sizeof *out) : NULL;
    if (out && device->copy_out(device, out, from, (size_t)n * sizeof *out, &e))
        fail_msg("%s", e.text);
    return out;
}

#endif
