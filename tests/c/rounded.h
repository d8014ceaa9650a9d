/* The reference in bf16: the same loops with numbers rounded where a plan's precision says
 * (device/plan.h, OP_ROUND). What a plan fuses matters here, so the program's ops tell which
 * layers' values there are: batch norms are folded first, and an op's value is that of the last
 * layer fused into it. Sums stay in double. */
#ifndef ADVRT_TESTS_ROUNDED_H
#define ADVRT_TESTS_ROUNDED_H

#include "net/program.h"
#include "reference.h"

/* To 8 bits of mantissa, ties to even; for normal numbers. */
static inline double ref_bf16(double v) {
    int exponent;
    double mantissa = frexp((double)(float)v, &exponent);
    return ldexp(nearbyint(mantissa * 256) / 256, exponent);
}

static inline void ref_round(double *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) v[i] = ref_bf16(v[i]);
}

typedef struct Rounded {
    Reference r;
    bool *value;      /* [n_layers] the layer's value is a node's, and is rounded */
    double **weights; /* [n_params] folded and rounded, NULL for what is no weight */
    double **exact;   /* the same not rounded */
} Rounded;

/* The layer of a kind that reads `layer`, which only one does. */
static inline int ref_reader(const Graph *g, int layer, LayerKind kind) {
    for (int i = layer + 1; i < g->n_layers; i++)
        for (int j = 0; j < g->layers[i].inputs; j++)
            if (g->layers[i].input[j] == layer && g->layers[i].kind == kind) return i;
    abort();
}

/* The batch norm becomes the shift that is left of it: what it scaled is in the weights. */
static inline void ref_fold(Rounded *q, const Program *p, const Op *op) {
    Reference *r = &q->r;
    const Layer *l = &r->g->layers[op->layer_index];
    size_t count = (size_t)tensor_count(&r->g->params[l->param[0]].value);
    float *weight = malloc(count * sizeof *weight), *bias = malloc((size_t)l->C * sizeof *bias);
    if (p->weights(p, op, weight, bias, NULL)) abort();
    q->weights[l->param[0]] = malloc(count * sizeof(double));
    q->exact[l->param[0]] = malloc(count * sizeof(double));
    for (size_t i = 0; i < count; i++) {
        q->exact[l->param[0]][i] = (double)weight[i];
        q->weights[l->param[0]][i] = ref_bf16((double)weight[i]);
    }
    for (int64_t c = 0; op->folded >= 0 && c < l->C; c++) {
        const Layer *bn = &r->g->layers[op->folded];
        r->param[bn->param[0]][c] = 1;
        r->param[bn->param[1]][c] = (double)bias[c];
        r->param[bn->param[2]][c] = l->bias ? r->param[l->param[1]][c] : 0;
        r->param[bn->param[3]][c] = 1 - bn->eps;
    }
    free(weight), free(bias);
}

static inline Rounded rounded_new(const Graph *g, int64_t N) {
    Rounded q = {ref_new(g, N, false), calloc((size_t)g->n_layers, sizeof(bool)),
                 calloc((size_t)g->n_params + 1, sizeof(double *)),
                 calloc((size_t)g->n_params + 1, sizeof(double *))};
    Program *p;
    PlanRequest request = {.purpose = PLAN_GRADIENT, .N = N};
    if (program_new(&p, g, &request, false, NULL)) abort();
    q.value[0] = true;
    for (int i = 0; i < p->n_forward - 1; i++) {
        const Op *op = &p->ops[i];
        int end = op->folded >= 0 ? op->folded : op->layer_index;
        if (op->kind == OP_CONV || op->kind == OP_LINEAR) ref_fold(&q, p, op);
        if (op->add != NO_VALUE) end = ref_reader(g, end, LAYER_ADD);
        if (op->relu) end = ref_reader(g, end, LAYER_RELU);
        q.value[end] = true;
    }
    program_free(p);
    return q;
}

static inline void rounded_free(Rounded *q) {
    for (int i = 0; i < q->r.g->n_params; i++) free(q->weights[i]), free(q->exact[i]);
    ref_free(&q->r);
    free(q->value), free(q->weights), free(q->exact);
}

static inline void rounded_weights(Rounded *q, double **weights) {
    for (int i = 0; i < q->r.g->n_params; i++) {
        int64_t n = tensor_count(&q->r.g->params[i].value);
        if (weights[i]) memcpy(q->r.param[i], weights[i], (size_t)n * sizeof(double));
    }
}

/* Values of all layers from x and gradients from dz, each way in bf16 where it is asked for. */
static inline void rounded_run(Rounded *q, const float *x, const float *dz, bool forward,
                               bool backward) {
    Reference *r = &q->r;
    const Layer *l = r->g->layers;
    int last = r->g->n_layers - 1;
    rounded_weights(q, forward ? q->weights : q->exact);
    for (int64_t o = 0; o < r->N * ref_size(&l[0]); o++) r->value[0][o] = (double)x[o];
    for (int i = 0; i <= last; i++) {
        bool operand = i > 0 || l[1].kind != LAYER_NORMALIZE;
        ref_layer(r, i, false);
        if (!forward || !q->value[i] || !operand || i == last) continue;
        ref_round(r->value[i], r->N * ref_size(&l[i]));
        /* a mask is of the rounded value: 5.99 is 6 and closed */
        if (l[i].kind == LAYER_RELU) ref_round(r->value[l[i].input[0]], r->N * ref_size(&l[i]));
    }
    rounded_weights(q, backward ? q->weights : q->exact);
    for (int64_t o = 0; o < r->N * ref_size(&l[last]); o++) r->grad[last][o] = (double)dz[o];
    for (int i = last; i >= 0; i--) {
        bool image = l[i].kind == LAYER_INPUT || l[i].kind == LAYER_NORMALIZE;
        if (backward && q->value[i] && !image) ref_round(r->grad[i], r->N * ref_size(&l[i]));
        ref_layer(r, i, true);
    }
}

#endif
