#include "solve/plane.h"

#include <inttypes.h>
#include <math.h>

#include "base/memory.h"

/* Let d be the direction of the step towards the plane: w for the norm 2, sign(w) for inf. The
 * solution is z(t) = clip(x + t d) for the least t >= 0 that satisfies the equation. Element i
 * moves until it reaches the box at t_i = room_i / |d_i|. The remaining distance is
 *     F - sum_i g_i min(t, t_i),   g_i = |w_i d_i|,   F = |c + <w, x - at>|
 *
 * The sum is concave and increasing, so Newton's method from t = 0 approaches from below. It stops
 * when no t_i lies between two iterates: the last one is exact. */

typedef struct Row {
    const float *w, *low, *high; /* low, high: NULL, or the sides of the box */
    float *x;                    /* becomes z */
    int64_t D;
    PlaneNorm norm;
    double toward; /* -1 or 1: the required sign of <w, z - x> */
} Row;

/* The step of element i for t = 1. */
static double direction(const Row *r, int64_t i) {
    double w = r->toward * (double)r->w[i];
    return r->norm == PLANE_L2 ? w : (double)((w > 0) - (w < 0));
}

/* How far element i can go along d (not 0) in the box. */
static double room(const Row *r, int64_t i, double d) {
    double x = (double)r->x[i];
    if (r->low) return d > 0 ? (double)r->high[i] - x : x - (double)r->low[i];
    return d > 0 ? 1 - x : x;
}

/* The least t; INFINITY if the plane is out of reach. */
static double solve(const Row *r, double F) {
    double t = 0;
    for (;;) {
        double covered = 0, slope = 0, next_side = INFINITY;
        for (int64_t i = 0; i < r->D; i++) {
            double d = direction(r, i);
            if (d == 0) continue;
            double g = fabs((double)r->w[i] * d), side = room(r, i, d) / fabs(d);
            covered += g * (side > t ? t : side);
            if (side > t) {
                slope += g;
                if (side < next_side) next_side = side;
            }
        }
        double left = F - covered;
        if (!(left > 0)) return t;
        if (!(slope > 0)) return INFINITY;
        double next = t + left / slope;
        if (!(next > t) || next <= next_side) return next;
        t = next;
    }
}

/* Moves x to z; returns the distance. */
static double move(const Row *r, double t) {
    double length = 0;
    for (int64_t i = 0; i < r->D; i++) {
        double d = direction(r, i);
        if (d == 0) continue;
        double most = room(r, i, d), step = t * fabs(d);
        if (!(step < most)) {
            step = most;
            r->x[i] = r->low ? (d > 0 ? r->high[i] : r->low[i]) : d > 0 ? 1 : 0;
        } else
            r->x[i] = (float)((double)r->x[i] + (d > 0 ? step : -step));
        length = r->norm == PLANE_L2 ? length + step * step : fmax(length, step);
    }
    return r->norm == PLANE_L2 ? sqrt(length) : length;
}

static double project(Row r, const float *at, double c) {
    for (int64_t i = 0; i < r.D; i++) c += (double)r.w[i] * ((double)r.x[i] - (double)at[i]);
    if (c == 0) return 0;
    r.toward = c > 0 ? -1 : 1;
    return move(&r, solve(&r, fabs(c)));
}

static int check(const PlaneBatch *b, Error *e) {
    const Tensor *x = b->x;
    const struct {
        const char *name;
        const Tensor *t;
    } images[] = {{"w", b->w}, {"at", b->at}, {"z", b->z}};
    char got[128], wanted[128];
    if (x->dtype != DTYPE_F32 || x->ndim < 1)
        return error_set(e, "plane: x must be f32 [N,...], got %s %s", dtype_name(x->dtype),
                         tensor_shape_text(x, got));
    for (size_t i = 0; i < sizeof images / sizeof *images; i++)
        if (images[i].t->dtype != DTYPE_F32 || !tensor_same_shape(images[i].t, x))
            return error_set(e, "plane: %s must be f32 %s, got %s %s", images[i].name,
                             tensor_shape_text(x, wanted), dtype_name(images[i].t->dtype),
                             tensor_shape_text(images[i].t, got));
    const Tensor *const rows[] = {b->c, b->distance};
    for (size_t i = 0; i < 2; i++)
        if (rows[i]->dtype != DTYPE_F64 || rows[i]->ndim != 1 || rows[i]->shape[0] != x->shape[0])
            return error_set(e, "plane: %s must be f64 [%" PRId64 "], got %s %s",
                             i ? "distance" : "c", x->shape[0], dtype_name(rows[i]->dtype),
                             tensor_shape_text(rows[i], got));
    const Tensor *const sides[] = {b->low, b->high};
    int64_t D = x->shape[0] ? tensor_count(x) / x->shape[0] : 0;
    for (size_t i = 0; i < 2 && (b->low || b->high); i++)
        if (!sides[i] || sides[i]->dtype != DTYPE_F32 || tensor_count(sides[i]) != D)
            return error_set(e, "plane: %s must be f32 of %" PRId64 " elements", i ? "high" : "low",
                             D);
    return 0;
}

int plane_project(const PlaneBatch *b, PlaneNorm norm, Error *e) {
    if (check(b, e) != 0) return -1;
    int64_t N = b->x->shape[0], D = N ? tensor_count(b->x) / N : 0;
    size_t n = (size_t)tensor_count(b->x);
    size_t of_box = b->low ? (size_t)D : 0;
    float *host = memory_take((3 * n + 2 * of_box) * sizeof *host + 1, "planes", e);
    double *rows = memory_take(2 * (size_t)N * sizeof *rows + 1, "planes", e);
    float *x = host, *w = x + n, *at = w + n, *low = at + n, *high = low + of_box;
    double *c = rows, *distance = rows + N;
    int failed = !host || !rows || tensor_to_host(b->x, x, e) || tensor_to_host(b->w, w, e) ||
                 tensor_to_host(b->at, at, e) || tensor_to_host(b->c, c, e) ||
                 (b->low && (tensor_to_host(b->low, low, e) || tensor_to_host(b->high, high, e)));
    if (!failed) {
#pragma omp parallel for schedule(dynamic)
        for (int64_t i = 0; i < N; i++)
            distance[i] = project((Row){.w = w + i * D,
                                        .low = b->low ? low : NULL,
                                        .high = high,
                                        .x = x + i * D,
                                        .D = D,
                                        .norm = norm},
                                  at + i * D, c[i]);
        failed = tensor_from_host(b->z, x, e) || tensor_from_host(b->distance, distance, e);
    }
    memory_free(rows);
    memory_free(host);
    return failed ? -1 : 0;
}
