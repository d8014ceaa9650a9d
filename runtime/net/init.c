/* Initial parameters: the golden formula, and He's initialisation. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "net/graph.h"

typedef struct Filler {
    const Graph *graph;
    uint64_t seed;          /* He: seed of the random numbers */
    const char *salt;       /* golden: follows the parameter's name */
    const char *branch_end; /* golden: see graph_init_golden */
} Filler;

typedef void (*FillParam)(const Filler *f, const Param *p, float *out, int64_t n);

static int64_t fan_in(const Param *p, int64_t n) {
    return p->value.shape[0] ? n / p->value.shape[0] : 1;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* value = (2u - 1) reach; if `spread` is not 0, value = (base + u) spread. The operations keep the
 * formula's order, so that rounding agrees. */
typedef struct Range {
    double reach, base, spread;
} Range;

static Range golden_range(const Filler *f, const Param *p, int64_t n) {
    bool small = f->branch_end && ends_with(f->graph->layers[p->layer].name, f->branch_end);
    switch (p->role) {
    case PARAM_WEIGHT: return (Range){.reach = sqrt(6.0 / (double)fan_in(p, n))};
    case PARAM_ATTENTION_WEIGHT: return (Range){.reach = sqrt(3.0 / (double)fan_in(p, n))};
    case PARAM_NORM_WEIGHT: return (Range){.base = 0.5, .spread = small ? 0.1 : 1};
    case PARAM_RUNNING_VAR: return (Range){.base = 0.5, .spread = 1};
    case PARAM_LAYER_SCALE: return (Range){.base = 1, .spread = 0.1};
    case PARAM_LOGIT_SCALE: return (Range){.base = 1, .spread = 1};
    case PARAM_SLOPE: return (Range){.base = 0, .spread = 0.25};
    default: return (Range){.reach = 0.1};
    }
}

static void golden(const Filler *f, const Param *p, float *out, int64_t n) {
    uint64_t key = random_hash(RANDOM_EMPTY, p->name, strlen(p->name));
    key = random_hash(key, f->salt, strlen(f->salt));
    Range r = golden_range(f, p, n);
    if (r.spread == 0) {
#pragma omp parallel for
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)((2 * random_uniform(key, (uint64_t)i) - 1) * r.reach);
    } else {
#pragma omp parallel for
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)((r.base + random_uniform(key, (uint64_t)i)) * r.spread);
    }
}

/* A parameter's initial values: normal with this standard deviation or, if that is 0, a
 * constant. */
typedef struct Start {
    double deviation;
    float constant;
} Start;

static Start he_start(const Param *p, int64_t n) {
    switch (p->role) {
    case PARAM_WEIGHT: return (Start){sqrt(2.0 / (double)fan_in(p, n)), 0};
    case PARAM_ATTENTION_WEIGHT: return (Start){sqrt(1.0 / (double)fan_in(p, n)), 0};
    case PARAM_TOKEN: return (Start){0.02, 0};
    case PARAM_NORM_WEIGHT:
    case PARAM_RUNNING_VAR: return (Start){0, 1};
    case PARAM_LAYER_SCALE: return (Start){0, 1e-6F};
    case PARAM_LOGIT_SCALE: return (Start){0, 2.30258509F}; /* exp of this is 10 */
    case PARAM_SLOPE: return (Start){0, 0.25F};
    default: return (Start){0, 0};
    }
}

static void he(const Filler *f, const Param *p, float *out, int64_t n) {
    char name[PARAM_NAME + 32];
    int length = snprintf(name, sizeof name, "%llu:he:%s", (unsigned long long)f->seed, p->name);
    uint64_t key = random_hash(RANDOM_EMPTY, name, (size_t)length);
    Start s = he_start(p, n);
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++)
        out[i] = s.deviation > 0 ? (float)random_normal(key, (uint64_t)i, s.deviation) : s.constant;
}

static int fill(Graph *g, Device *d, FillParam rule, const Filler *f, Error *e) {
    for (int i = 0; i < g->n_params; i++) {
        Param *p = &g->params[i];
        Tensor made;
        if (p->role == PARAM_CONSTANT) continue;
        if (tensor_new(&made, d, DTYPE_F32, p->value.ndim, p->value.shape, e)) return -1;
        float *host = memory_take(tensor_bytes(&made), p->name, e);
        if (host) rule(f, p, host, tensor_count(&made));
        int failed = !host || tensor_from_host(&made, host, e);
        memory_free(host);
        /* Overwrite existing memory in place: plans may read it there. */
        bool there = p->value.storage != NULL;
        failed = failed || (there && tensor_copy(&p->value, &made, e));
        if (there || failed) tensor_free(&made);
        if (failed) return -1;
        if (!there) p->value = made;
    }
    return 0;
}

int graph_init_golden(Graph *g, Device *d, const char *salt, const char *branch_end, Error *e) {
    Filler f = {.graph = g, .salt = salt, .branch_end = branch_end};
    return fill(g, d, golden, &f, e);
}

int graph_init_he(Graph *g, Device *d, uint64_t seed, Error *e) {
    Filler f = {.graph = g, .seed = seed};
    return fill(g, d, he, &f, e);
}
