#include "net/passes.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

/* Working state: where the value of a layer is to be found while nodes vanish. */
typedef struct Builder {
    Program *program;
    int *node_of;     /* [n_layers] layer's value -> node */
    int *last_reader; /* [n_layers], in layers, of the value as the graph has it */
    int *readers;     /* [n_layers] */
    bool training;
} Builder;

static Node *value_of(const Builder *b, int layer) {
    return &b->program->nodes[b->node_of[layer]];
}

static bool same_grid(const Graph *g, const Layer *l) {
    const Layer *x = &g->layers[l->input[0]];
    return l->H == x->H && l->W == x->W;
}

/* Layers that are the identity here, and so make no node. */
static bool vanishes(const Builder *b, int i) {
    const Graph *g = b->program->graph;
    const Layer *l = &g->layers[i];
    return (l->kind == LAYER_AVGPOOL && same_grid(g, l)) ||
           (l->kind == LAYER_DROPOUT && (!b->training || l->p == 0));
}

/* The layer whose value `layer` really has: readers are counted there alone. */
static int origin(const Builder *b, int layer) {
    while (vanishes(b, layer)) layer = b->program->graph->layers[layer].input[0];
    return layer;
}

static bool has_weights(const Node *n) {
    return n->layer->kind == LAYER_CONV || n->layer->kind == LAYER_LINEAR;
}

/* Nothing else reads the value of `layer`, so a follower may be fused into it. */
static bool only_reader(const Builder *b, int layer) {
    return b->readers[origin(b, layer)] == 1;
}

/* A sum of a and b, where one is a convolution's bare result that nothing else
 * reads and the other is made earlier and read by nothing after that convolution. */
static bool fuse_sum(const Builder *b, int i, int conv_layer, int other_layer) {
    int conv = b->node_of[conv_layer], other = b->node_of[other_layer];
    Node *n = &b->program->nodes[conv];
    if (n->layer->kind != LAYER_CONV || n->relu || n->residual >= 0) return false;
    if (!only_reader(b, conv_layer) || other >= conv || n->input[0] == other) return false;
    LayerKind made_by = b->program->nodes[other].layer->kind;
    if (made_by == LAYER_INPUT || made_by == LAYER_NORMALIZE) return false;
    for (int k = conv + 1; k < b->program->n; k++) {
        const Node *m = &b->program->nodes[k];
        for (int j = 0; j < m->inputs; j++)
            if (m->input[j] == other) return false;
        if (m->residual == other) return false;
    }
    if (b->last_reader[origin(b, other_layer)] > i) return false;
    n->residual = other;
    b->node_of[i] = conv;
    return true;
}

/* True where the layer vanished into a node that is there already. */
static bool fuse(Builder *b, int i) {
    const Graph *g = b->program->graph;
    const Layer *l = &g->layers[i];
    if (vanishes(b, i)) {
        int from = origin(b, i);
        b->node_of[i] = b->node_of[l->input[0]];
        /* whoever reads this layer reads that value */
        b->readers[from] += b->readers[i] - 1;
        if (b->last_reader[i] > b->last_reader[from]) b->last_reader[from] = b->last_reader[i];
        return true;
    }
    if (b->training) return false;
    switch (l->kind) {
    case LAYER_BATCHNORM: {
        Node *n = value_of(b, l->input[0]);
        if (!has_weights(n) || n->relu || n->residual >= 0 || n->batchnorm >= 0 ||
            !only_reader(b, l->input[0]))
            return false;
        n->batchnorm = i;
        b->node_of[i] = b->node_of[l->input[0]];
        return true;
    }
    case LAYER_RELU: {
        Node *n = value_of(b, l->input[0]);
        if (n->relu || n->layer->kind == LAYER_INPUT || n->layer->kind == LAYER_NORMALIZE ||
            !only_reader(b, l->input[0]))
            return false;
        n->relu = n->mask = true;
        n->cap = l->cap;
        b->node_of[i] = b->node_of[l->input[0]];
        return true;
    }
    case LAYER_ADD:
        return fuse_sum(b, i, l->input[1], l->input[0]) || fuse_sum(b, i, l->input[0], l->input[1]);
    default: return false;
    }
}

/* max(relu(x)) = relu(max(x)): the gradient is masked after the pool, where there is less of it.
 * The largest element of a window is active exactly if the pooled value is. */
static void mask_after_pools(Program *p) {
    for (int i = 0; i < p->n; i++) {
        Node *pool = &p->nodes[i], *x = &p->nodes[pool->input[0]];
        if (pool->layer->kind != LAYER_MAXPOOL || !x->mask || x->readers != 1 || pool->mask)
            continue;
        x->mask = false;
        pool->mask = true;
        pool->cap = x->cap;
    }
}

static void count_graph(Builder *b) {
    const Graph *g = b->program->graph;
    for (int i = 0; i < g->n_layers; i++)
        for (int j = 0; j < g->layers[i].inputs; j++) {
            b->readers[g->layers[i].input[j]]++;
            b->last_reader[g->layers[i].input[j]] = i;
        }
}

static void build(Builder *b) {
    const Graph *g = b->program->graph;
    Program *p = b->program;
    count_graph(b);
    for (int i = 0; i < g->n_layers; i++) {
        if (fuse(b, i)) continue;
        const Layer *l = &g->layers[i];
        Node *n = &p->nodes[p->n];
        *n = (Node){.layer = l, .inputs = l->inputs, .batchnorm = -1, .residual = -1};
        n->mask = l->kind == LAYER_RELU;
        n->cap = l->cap;
        for (int j = 0; j < l->inputs; j++) n->input[j] = b->node_of[l->input[j]];
        b->node_of[i] = p->n++;
    }
    for (int i = 0; i < p->n; i++) {
        for (int j = 0; j < p->nodes[i].inputs; j++) p->nodes[p->nodes[i].input[j]].readers++;
        if (p->nodes[i].residual >= 0) p->nodes[p->nodes[i].residual].readers++;
    }
    mask_after_pools(p);
}

int program_new(Program **out, const Graph *g, PlanPurpose purpose, Error *e) {
    int status = -1;
    Program *p = memory_zeroed(1, sizeof *p, "plan", e);
    if (!p) return -1;
    p->graph = g;
    p->nodes = memory_zeroed((size_t)g->n_layers, sizeof *p->nodes, "plan", e);
    int *scratch = memory_zeroed((size_t)g->n_layers * 3, sizeof *scratch, "plan", e);
    if (!p->nodes || !scratch) goto done;
    Builder b = {.program = p,
                 .node_of = scratch,
                 .last_reader = scratch + g->n_layers,
                 .readers = scratch + 2 * g->n_layers,
                 .training = purpose == PLAN_TRAINING};
    build(&b);
    if (b.node_of[g->n_layers - 1] != p->n - 1) {
        error_set(e, "the network's last layer must be the one that makes the logits");
        goto done;
    }
    for (int i = 0; i < p->n - 1; i++)
        if (p->nodes[i].readers == 0) {
            error_set(e, "layer '%s' (%s) is read by no other", p->nodes[i].layer->name,
                      layer_kind_name(p->nodes[i].layer->kind));
            goto done;
        }
    *out = p;
    status = 0;
done:
    memory_free(scratch);
    if (status) program_free(p);
    return status;
}

void program_free(Program *p) {
    if (!p) return;
    memory_free(p->nodes);
    memory_free(p);
}

static int read_param(const Program *p, int index, float *out, Error *e) {
    const Param *q = &p->graph->params[index];
    if (!q->value.storage) return error_set(e, "parameter '%s' has no values yet", q->name);
    return tensor_to_host(&q->value, out, e);
}

/* The affine map y = scale x + shift that a batch norm is at inference, in double. */
static int batchnorm_map(const Program *p, const Layer *bn, double *scale, double *shift,
                         Error *e) {
    size_t C = (size_t)bn->C;
    float *four = memory_take(4 * C * sizeof *four, bn->name, e);
    if (!four) return -1;
    int status = 0;
    for (int i = 0; i < 4 && !status; i++)
        status = read_param(p, bn->param[i], four + (size_t)i * C, e);
    for (size_t c = 0; c < C && !status; c++) {
        double spread = (double)four[3 * C + c] + bn->eps;
        scale[c] = (double)four[c] / sqrt(spread);
        shift[c] = (double)four[C + c] - (double)four[2 * C + c] * scale[c];
        if (!(spread > 0))
            status = error_set(e, "batch norm '%s': running_var + eps of channel %zu is %g",
                               bn->name, c, spread);
    }
    memory_free(four);
    return status;
}

int node_affine(const Program *p, const Node *node, float *scale, float *shift, Error *e) {
    size_t C = (size_t)node->layer->C;
    double *map = memory_take(2 * C * sizeof *map, node->layer->name, e);
    if (!map) return -1;
    int status = batchnorm_map(p, node->layer, map, map + C, e);
    for (size_t c = 0; c < C && !status; c++) {
        scale[c] = (float)map[c];
        shift[c] = (float)map[C + c];
    }
    memory_free(map);
    return status;
}

int node_weights(const Program *p, const Node *node, float *weight, float *bias, Error *e) {
    const Layer *l = node->layer;
    size_t K = (size_t)l->C, each = (size_t)tensor_count(&p->graph->params[l->param[0]].value) / K;
    if (read_param(p, l->param[0], weight, e)) return -1;
    memset(bias, 0, K * sizeof *bias);
    if (l->param[1] >= 0 && read_param(p, l->param[1], bias, e)) return -1;
    if (node->batchnorm < 0) return 0;
    double *map = memory_take(2 * K * sizeof *map, l->name, e);
    if (!map) return -1;
    int status = batchnorm_map(p, &p->graph->layers[node->batchnorm], map, map + K, e);
    for (size_t k = 0; k < K && !status; k++) {
        for (size_t i = 0; i < each; i++)
            weight[k * each + i] = (float)((double)weight[k * each + i] * map[k]);
        bias[k] = (float)((double)bias[k] * map[k] + map[K + k]);
    }
    memory_free(map);
    return status;
}
