/* Cross-entropy (Eq. 5). The attack ascends its negative: log p_t. */
#include <math.h>

#include "device/loss.h"

extern const Loss loss_ce;

/* log sum exp(z). */
static double log_sum(const double *z, int64_t K) {
    double m = z[0], sum = 0;
    for (int64_t k = 1; k < K; k++) m = fmax(m, z[k]);
    for (int64_t k = 0; k < K; k++) sum += exp(z[k] - m);
    return m + log(sum);
}

static double value(const double *z, int64_t t, int64_t K, const double *p) {
    (void)p;
    return z[t] - log_sum(z, K);
}

static void gradient(const double *z, int64_t t, int64_t K, const double *p, double *dz) {
    double all = log_sum(z, K);
    (void)p;
    for (int64_t k = 0; k < K; k++) dz[k] = (double)(k == t) - exp(z[k] - all);
}

const Loss loss_ce = {.name = "ce", .fewest = 2, .value = value, .gradient = gradient};
