/* The margin loss (Eq. 7): min(z_t - max over the other classes, kappa). */
#include <math.h>

#include "device/loss.h"

extern const Loss loss_m_logit;

/* The class with the greatest logit except t; the lowest index of a tie. */
static int64_t rival(const double *z, int64_t t, int64_t K) {
    int64_t best = -1;
    for (int64_t k = 0; k < K; k++)
        if (k != t && (best < 0 || z[k] > z[best] || isnan(z[k]))) best = k;
    return best;
}

static double value(const double *z, int64_t t, int64_t K, const double *p) {
    double margin = z[t] - z[rival(z, t, K)];
    return margin > p[0] ? p[0] : margin;
}

/* At a value of exactly kappa the gradient still passes, as in torch.clamp. */
static void gradient(const double *z, int64_t t, int64_t K, const double *p, double *dz) {
    int64_t other = rival(z, t, K);
    double margin = z[t] - z[other];
    for (int64_t k = 0; k < K; k++) dz[k] = isnan(margin) ? NAN : 0;
    if (margin <= p[0]) dz[t] = 1, dz[other] = -1;
}

const Loss loss_m_logit = {.name = "m_logit",
                           .fewest = 2,
                           .parameter = {{"kappa", 20, 0, HUGE_VAL, true}},
                           .value = value,
                           .gradient = gradient};
