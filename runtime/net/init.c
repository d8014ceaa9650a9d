/* Parameters made from nothing: the golden formula, and He's initialisation. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "net/graph.h"

typedef struct Filler {
    const Graph *graph;
    uint64_t seed;          /* He */
    const char *salt;       /* golden */
    const char *branch_end; /* golden */
} Filler;

typedef void (*FillParam)(const Filler *f, const Param *p, float *out, int64_t n);

static int64_t fan_in(const Param *p, int64_t n) {
    return p->value.shape[0] ? n / p->value.shape[0] : 1;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static void golden(const Filler *f, const Param *p, float *out, int64_t n) {
    uint64_t key = random_hash(RANDOM_EMPTY, p->name, strlen(p->name));
    key = random_hash(key, f->salt, strlen(f->salt));
    double low, span; /* value = low + span u */
    switch (p->role) {
    case PARAM_WEIGHT:
        span = 2 * sqrt(6.0 / (double)fan_in(p, n));
        low = -span / 2;
        break;
    case PARAM_NORM_WEIGHT: {
        bool small = f->branch_end && ends_with(f->graph->layers[p->layer].name, f->branch_end);
        span = small ? 0.1 : 1;
        low = 0.5 * span;
        break;
    }
    case PARAM_RUNNING_VAR: low = 0.5, span = 1; break;
    default: low = -0.1, span = 0.2;
    }
    /* (2u - 1) s in the order the formula states it, so that the rounding agrees */
    if (low < 0) {
#pragma omp parallel for
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)((2 * random_uniform(key, (uint64_t)i) - 1) * (span / 2));
    } else {
#pragma omp parallel for
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)((0.5 + random_uniform(key, (uint64_t)i)) * span);
    }
}

static void he(const Filler *f, const Param *p, float *out, int64_t n) {
    char name[PARAM_NAME + 32];
    int length = snprintf(name, sizeof name, "%llu:he:%s", (unsigned long long)f->seed, p->name);
    uint64_t key = random_hash(RANDOM_EMPTY, name, (size_t)length);
    double deviation = sqrt(2.0 / (double)fan_in(p, n));
    float constant = p->role == PARAM_NORM_WEIGHT || p->role == PARAM_RUNNING_VAR;
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++) {
        bool drawn = p->role == PARAM_WEIGHT;
        out[i] = drawn ? (float)random_normal(key, (uint64_t)i, deviation) : constant;
    }
}

static int fill(Graph *g, Device *d, FillParam rule, const Filler *f, Error *e) {
    for (int i = 0; i < g->n_params; i++) {
        Param *p = &g->params[i];
        Tensor made;
        if (tensor_new(&made, d, DTYPE_F32, p->value.ndim, p->value.shape, e)) return -1;
        float *host = memory_take(tensor_bytes(&made), p->name, e);
        if (host) rule(f, p, host, tensor_count(&made));
        int failed = !host || tensor_from_host(&made, host, e);
        memory_free(host);
        /* What is there already is written over: plans may read it where it lies. */
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
