/* The logit loss: z_t. */
#include "device/loss.h"

extern const Loss loss_logit;

static double value(const double *z, int64_t t, int64_t K, const double *p) {
    (void)K, (void)p;
    return z[t];
}

static void gradient(const double *z, int64_t t, int64_t K, const double *p, double *dz) {
    (void)z, (void)p;
    for (int64_t k = 0; k < K; k++) dz[k] = (double)(k == t);
}

const Loss loss_logit = {.name = "logit", .fewest = 1, .value = value, .gradient = gradient};
