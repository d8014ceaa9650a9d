/* The losses on logits. A row has at most about a thousand numbers, which is little beside the
 * network's work, so these are plain loops. exp and log are the C library's: they keep subnormal
 * numbers, which are the gradients when the softmax saturates. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "base/memory.h"

/* With fewer rows times classes, threads cost more than they save. */
enum { SERIAL = 4096 };

static const double tau = 0.9; /* of Definition IV.1 */

/* The maximum of K elements `apart` from each other; NaN if one is NaN. */
static float row_max(const float *z, int64_t K, int64_t apart) {
    float m = z[0];
    for (int64_t k = 1; k < K; k++)
        if (z[k * apart] > m || isnan(z[k * apart])) m = z[k * apart];
    return m;
}

/* The index of the maximum, the lowest of a tie, without class `without` (-1: none). -1 if one of
 * these elements is NaN. */
static int64_t row_argmax(const float *z, int64_t K, int64_t without) {
    int64_t best = -1;
    for (int64_t k = 0; k < K; k++) {
        if (k == without) continue;
        if (isnan(z[k])) return -1;
        if (best < 0 || z[k] > z[best]) best = k;
    }
    return best;
}

/* log sum exp(z - m) in double, by log1p over all but the maximum. When one class is nearly
 * certain, its log p is minus the sum of the others, which a sum near 1 would lose. */
static double row_log_rest(const float *z, int64_t K, int64_t apart, float m) {
    double rest = 0;
    int64_t greatest = 0;
    for (int64_t k = 0; k < K; k++) {
        if (z[k * apart] < m)
            rest += exp((double)z[k * apart] - (double)m);
        else
            greatest++;
    }
    return isinf(m) ? NAN : log1p(rest + (double)(greatest - 1));
}

/* log p of element a of a row. */
static float log_p(float a, float m, double log_rest) {
    return (float)(((double)a - (double)m) - log_rest);
}

/* log sum exp(z - m), summed in float over the lanes of a vector, as frameworks do. Its last bit
 * decides at which margin p_t - 1 becomes 0. */
static float row_log_sum(const float *z, int64_t K, int64_t apart, float m) {
    float lane[8] = {0};
    for (int64_t k = 0; k < K; k++) lane[k % 8] += expf(z[k * apart] - m);
    for (int width = 4; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    return logf(lane[0]);
}

/* Eq. 5 ascended: log p_t, with gradient onehot - softmax. The gradient is computed in float, as in
 * frameworks: beyond a margin of about 16.7, p_t rounds to 1 and the target's element is exactly 0.
 * The value is computed in double, so that a line search sees it change even near 0. */
static void ce_row(const float *z, int64_t t, int64_t K, float *value, float *dz) {
    float m = row_max(z, K, 1), log_sum = row_log_sum(z, K, 1, m);
    *value = log_p(z[t], m, row_log_rest(z, K, 1, m));
    for (int64_t k = 0; k < K; k++) dz[k] = -expf((z[k] - m) - log_sum);
    dz[t] += 1.0f;
}

/* The loss functions for one row; p holds the parameters as in the loss's record. */
static void ce_loss(const float *z, int64_t t, int64_t K, const double *p, float *value,
                    float *dz) {
    (void)p;
    ce_row(z, t, K, value, dz);
}

static void logit_loss(const float *z, int64_t t, int64_t K, const double *p, float *value,
                       float *dz) {
    (void)p;
    *value = z[t];
    for (int64_t k = 0; k < K; k++) dz[k] = 0;
    dz[t] = 1.0f;
}

/* A NaN logit makes value and gradient NaN. */
static void m_logit_loss(const float *z, int64_t t, int64_t K, const double *p, float *value,
                         float *dz) {
    int64_t other = row_argmax(z, K, t);
    float margin = other < 0 ? NAN : z[t] - z[other], kappa = (float)p[0];
    *value = margin > kappa ? kappa : margin;
    for (int64_t k = 0; k < K; k++) dz[k] = isnan(margin) ? NAN : 0;
    if (margin <= kappa) {
        dz[t] = 1.0f;
        dz[other] = -1.0f;
    }
}

typedef void (*LossRow)(const float *z, int64_t t, int64_t K, const double *p, float *value,
                        float *dz);

static const struct {
    const char *name;
    LossRow row;
} own_losses[] = {{"ce", ce_loss}, {"logit", logit_loss}, {"m_logit", m_logit_loss}};

/* The device's own function for a loss; NULL if it has none. */
static LossRow own_loss(const char *name) {
    for (size_t i = 0; i < sizeof own_losses / sizeof own_losses[0]; i++)
        if (strcmp(own_losses[i].name, name) == 0) return own_losses[i].row;
    return NULL;
}

/* Computes a loss without its own function from its record: in double, rounded once. */
static int loss_of_record(const LossCall *call, const float *z, const int64_t *target, int64_t N,
                          int64_t K, float *value, float *dz, Error *e) {
    double *row = memory_take(2 * (size_t)K * sizeof *row, call->loss->name, e);
    if (!row) return -1;
    for (int64_t n = 0; n < N; n++) {
        for (int64_t k = 0; k < K; k++) row[k] = (double)z[n * K + k];
        value[n] = (float)call->loss->value(row, target[n], K, call->p);
        call->loss->gradient(row, target[n], K, call->p, row + K);
        for (int64_t k = 0; k < K; k++) dz[n * K + k] = (float)row[K + k];
    }
    memory_free(row);
    return 0;
}

int cpu_loss(Device *d, const LossCall *call, const float *z, const int64_t *target, int64_t N,
             int64_t K, float *value, float *dz, Error *e) {
    LossRow row = own_loss(call->loss->name);
    (void)d;
    if (!row) return loss_of_record(call, z, target, N, K, value, dz, e);
#pragma omp parallel for schedule(static) if (N * K > SERIAL)
    for (int64_t n = 0; n < N; n++) row(z + n * K, target[n], K, call->p, value + n, dz + n * K);
    return 0;
}

/* The recorded numbers of one image. Probabilities are computed in double and rounded once. The
 * subspace follows from the rounded ones, so that the record is consistent. */
static void stats_row(const float *z, int64_t c, int64_t t, int64_t K, const LogitStats *out,
                      int64_t n) {
    double m = (double)row_max(z, K, 1), sum = 0;
    bool finite = true;
    for (int64_t k = 0; k < K; k++) finite &= isfinite(z[k]) != 0;
    if (!finite) m = NAN;
    for (int64_t k = 0; k < K; k++) sum += exp((double)z[k] - m);
    int64_t best = row_argmax(z, K, -1);
    float p_best = (float)(1 / sum); /* exp(0) / sum */
    float p_target = (float)(exp((double)z[t] - m) / sum);
    out->p_initial[n] = (float)(exp((double)z[c] - m) / sum);
    out->p_target[n] = p_target;
    out->z_initial[n] = z[c];
    out->z_target[n] = z[t];
    out->prediction[n] = best;
    out->subspace[n] = (double)p_target >= tau ? 3 : best != t && (double)p_best >= tau ? 1 : 2;
}

int cpu_logit_stats(Device *d, const float *z, const int64_t *initial, const int64_t *target,
                    int64_t N, int64_t K, const LogitStats *out, Error *e) {
    (void)d, (void)e;
#pragma omp parallel for schedule(static) if (N * K > SERIAL)
    for (int64_t n = 0; n < N; n++) stats_row(z + n * K, initial[n], target[n], K, out, n);
    return 0;
}

int cpu_cross_entropy(Device *d, const float *z, const int64_t *label, int64_t N, int64_t K,
                      double *host_loss, int64_t *host_correct, float *dz, Error *e) {
    (void)d, (void)e;
    double loss = 0;
    int64_t correct = 0;
    for (int64_t n = 0; n < N; n++) {
        float value, *row = dz + n * K;
        ce_row(z + n * K, label[n], K, &value, row);
        loss -= (double)value;
        correct += row_argmax(z + n * K, K, -1) == label[n];
        for (int64_t k = 0; k < K; k++) row[k] = -row[k] / (float)N;
    }
    *host_loss = loss / (double)N;
    *host_correct = correct;
    return 0;
}

static void softmax_row(const float *a, int64_t K, int64_t apart, float *out) {
    double m = (double)row_max(a, K, apart), sum = 0;
    for (int64_t k = 0; k < K; k++) sum += exp((double)a[k * apart] - m);
    for (int64_t k = 0; k < K; k++) out[k * apart] = (float)(exp((double)a[k * apart] - m) / sum);
}

static void log_softmax_row(const float *a, int64_t K, int64_t apart, float *out) {
    float m = row_max(a, K, apart);
    double rest = row_log_rest(a, K, apart, m);
    for (int64_t k = 0; k < K; k++) out[k * apart] = log_p(a[k * apart], m, rest);
}

static void softmax_float_row(const float *a, int64_t K, int64_t apart, float *out) {
    float m = row_max(a, K, apart), log_sum = row_log_sum(a, K, apart, m);
    for (int64_t k = 0; k < K; k++) out[k * apart] = expf((a[k * apart] - m) - log_sum);
}

int cpu_softmax(Device *d, SoftmaxKind kind, const float *a, RowShape r, float *out, Error *e) {
    static void (*const rows_of[])(const float *, int64_t, int64_t, float *) = {
        [SOFTMAX] = softmax_row,
        [SOFTMAX_LOG] = log_softmax_row,
        [SOFTMAX_FLOAT] = softmax_float_row,
    };
    (void)d, (void)e;
    int64_t rows = r.K ? r.outer * r.inner : 0;
#pragma omp parallel for schedule(static) if (rows * r.K > SERIAL)
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = i / r.inner * r.K * r.inner + i % r.inner;
        rows_of[kind](a + at, r.K, r.inner, out + at);
    }
    return 0;
}
