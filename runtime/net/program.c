#include "net/program.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "net/layer.h"

/* --- building blocks --- */

int build_value(Build *b, ValueKind kind, int64_t C, int64_t H, int64_t W, Error *e) {
    return build_shaped(b, kind, &(Shape){3, {C, H, W}}, e);
}

int build_shaped(Build *b, ValueKind kind, const Shape *shape, Error *e) {
    Program *p = b->program;
    int room = b->values_room, gradients = b->values_room, flags = b->values_room;
    if (memory_grow((void **)&p->values, p->n_values, &room, sizeof *p->values, "plan", e) ||
        memory_grow((void **)&b->gradient, p->n_values, &gradients, sizeof *b->gradient, "plan",
                    e) ||
        memory_grow((void **)&b->flags, p->n_values, &flags, sizeof *b->flags, "plan", e))
        return -1;
    b->values_room = room;
    Value *v = &p->values[p->n_values];
    *v = (Value){.kind = kind, .shape = *shape, .gradient_of = NO_VALUE, .made_by = -1};
    shape_as_image(shape, &v->C, &v->H, &v->W);
    b->gradient[p->n_values] = NO_VALUE;
    b->flags[p->n_values] = (ValueFlags){0};
    return p->n_values++;
}

const void *build_spec(Build *b, const void *spec, size_t bytes, Error *e) {
    Program *p = b->program;
    if (memory_grow((void **)&p->specs, p->n_specs, &p->specs_room, sizeof *p->specs, "plan", e))
        return NULL;
    void *copy = memory_take(bytes, "plan", e);
    if (!copy) return NULL;
    p->specs[p->n_specs++] = copy;
    return memcpy(copy, spec, bytes);
}

Op *build_op(Build *b, OpKind kind, const Op *like, int n, const int *in, Error *e) {
    Program *p = b->program;
    Op op = like ? *like : (Op){.twin = -1, .folded = -1, .param = {-1, -1, -1, -1}};
    if (memory_grow((void **)&p->ops, p->n_ops, &b->ops_room, sizeof *p->ops, "plan", e))
        return NULL;
    op.kind = kind;
    op.add = op.mask = op.open = NO_VALUE;
    op.relu = false;
    for (int i = 0; i < OP_INPUTS; i++) op.in[i] = i < n ? in[i] : NO_VALUE;
    for (int i = 0; i < OP_OUTPUTS; i++) op.out[i] = NO_VALUE;
    p->ops[p->n_ops] = op;
    return &p->ops[p->n_ops++];
}

Op *layer_op(Build *b, OpKind kind, const Layer *l, int n, const int *in, Error *e) {
    return layer_op_shaped(b, kind, l, &l->shape, n, in, e);
}

Op *layer_op_shaped(Build *b, OpKind kind, const Layer *l, const Shape *shape, int n, const int *in,
                    Error *e) {
    int out = build_shaped(b, VALUE_REAL, shape, e);
    Op *op = out < 0 ? NULL : build_op(b, kind, NULL, n, in, e);
    if (!op) return NULL;
    op->layer = l->name;
    op->layer_index = b->layer;
    op->out[0] = out;
    op->cap = l->cap;
    op->groups = l->groups;
    op->eps = l->eps;
    op->momentum = l->momentum;
    op->p = l->p;
    op->mean = l->mean;
    op->std = l->std;
    memcpy(op->kernel, l->kernel, sizeof op->kernel);
    memcpy(op->stride, l->stride, sizeof op->stride);
    memcpy(op->dilation, l->dilation, sizeof op->dilation);
    memcpy(op->pad, l->pad, sizeof op->pad);
    memcpy(op->param, l->param, sizeof op->param);
    return op;
}

int layer_move(Build *b, OpKind kind, const Layer *l, int x, int base, const MoveSpec *m,
               Error *e) {
    const MoveSpec *spec = build_spec(b, m, sizeof *m, e);
    Op *op = spec ? layer_op(b, kind, l, 2, (int[]){x, base}, e) : NULL;
    if (!op) return -1;
    op->move = spec;
    return 0;
}

/* --- constants of ops --- */

static int read_param(const Graph *g, int index, float *out, Error *e) {
    const Param *q = &g->params[index];
    if (!q->value.storage) return error_set(e, "parameter '%s' has no values yet", q->name);
    return tensor_to_host(&q->value, out, e);
}

/* Batch norm at inference as the affine map y = scale x + shift, in double. */
static int batchnorm_map(const Graph *g, const Layer *bn, double *scale, double *shift, Error *e) {
    size_t C = (size_t)bn->C;
    float *four = memory_take(4 * C * sizeof *four, bn->name, e);
    if (!four) return -1;
    int status = 0;
    for (int i = 0; i < 4 && !status; i++)
        status = read_param(g, bn->param[i], four + (size_t)i * C, e);
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

static int read_channels(const Program *p, const Op *op, float *scale, float *shift, Error *e) {
    const Graph *g = p->graph;
    const Layer *l = &g->layers[op->layer_index];
    size_t C = (size_t)l->C;
    if (l->kind == LAYER_NORMALIZE) {
        for (size_t c = 0; c < C; c++) {
            scale[c] = (float)(1 / l->std[c]);
            if (shift) shift[c] = (float)(-l->mean[c] / l->std[c]);
        }
        return 0;
    }
    double *map = memory_take(2 * C * sizeof *map, l->name, e);
    if (!map) return -1;
    int status = batchnorm_map(g, l, map, map + C, e);
    for (size_t c = 0; c < C && !status; c++) {
        scale[c] = (float)map[c];
        if (shift) shift[c] = (float)map[C + c];
    }
    memory_free(map);
    return status;
}

static int read_weights(const Program *p, const Op *op, float *weight, float *bias, Error *e) {
    const Graph *g = p->graph;
    const Layer *l = &g->layers[op->layer_index];
    const Tensor *w = &g->params[op->param[0]].value;
    size_t K = (size_t)w->shape[0], each = (size_t)tensor_count(w) / K;
    if (read_param(g, op->param[0], weight, e)) return -1;
    memset(bias, 0, K * sizeof *bias);
    if (op->param[1] >= 0 && read_param(g, op->param[1], bias, e)) return -1;
    if (op->folded < 0) return 0;
    double *map = memory_take(2 * K * sizeof *map, l->name, e);
    if (!map) return -1;
    int status = batchnorm_map(g, &g->layers[op->folded], map, map + K, e);
    for (size_t k = 0; k < K && !status; k++) {
        for (size_t i = 0; i < each; i++)
            weight[k * each + i] = (float)((double)weight[k * each + i] * map[k]);
        bias[k] = (float)((double)bias[k] * map[k] + map[K + k]);
    }
    memory_free(map);
    return status;
}

/* --- the forward half --- */

static int outside_values(Build *b, Error *e) {
    const Layer *x = &b->graph->layers[0], *z = &b->graph->layers[b->graph->n_layers - 1];
    for (int i = 0; i < VALUES_OUTSIDE; i++) {
        const Layer *l = i == VALUE_X || i == VALUE_DX ? x : z;
        if (build_shaped(b, VALUE_REAL, &l->shape, e) < 0) return -1;
    }
    b->program->values[VALUE_DX].gradient_of = VALUE_X;
    return 0;
}

static int emit_layers(Build *b, Error *e) {
    const Graph *g = b->graph;
    b->value_of[0] = VALUE_X;
    for (int i = 1; i < g->n_layers; i++) {
        const Layer *l = &g->layers[i];
        const LayerRule *rule = layer_rule(l->kind);
        int in[LAYER_INPUTS] = {0};
        for (int j = 0; j < l->inputs; j++) in[j] = b->value_of[l->input[j]];
        b->layer = i;
        if (rule->vanishes && rule->vanishes(g, l, b->training)) {
            b->value_of[i] = in[0];
            continue;
        }
        b->emitted++;
        if (rule->emit(b, l, in, e)) return -1;
        b->value_of[i] = b->program->ops[b->program->n_ops - 1].out[0];
    }
    return 0;
}

/* Fails unless the last layer makes the logits and every other layer is read. */
static int check_uses(const Build *b, Error *e) {
    const Program *p = b->program;
    const Graph *g = b->graph;
    int last = p->n_ops - 1;
    if (last < 0 || p->ops[last].out[0] != b->value_of[g->n_layers - 1])
        return error_set(e, "the network's last layer must be the one that makes the logits");
    for (int i = 0; i < last; i++) {
        const Op *op = &p->ops[i];
        if (count_readers(p, op->out[0])) continue;
        return error_set(e, "no layer reads layer '%s' (%s)", op->layer,
                         layer_kind_name(g->layers[op->layer_index].kind));
    }
    return 0;
}

static int emit_output(Build *b, int value, int outside, Error *e) {
    const Program *p = b->program;
    Op like = p->ops[maker_of(p, value)];
    Op *op = build_op(b, OP_OUTPUT, &like, 1, &value, e);
    if (!op) return -1;
    op->out[0] = outside;
    return 0;
}

static int emit_forward(Build *b, Error *e) {
    if (outside_values(b, e) || emit_layers(b, e)) return -1;
    if (inline_parameters(b, e)) return -1;
    close_gaps(b->program);
    if (!b->training) fuse_forward(b);
    if (check_uses(b, e) || (b->rounds_forward && round_forward(b, e)) ||
        emit_output(b, b->value_of[b->graph->n_layers - 1], VALUE_Z, e))
        return -1;
    b->program->n_forward = b->program->n_ops;
    return 0;
}

static int list_params(Program *p, const Graph *g, Error *e) {
    p->params = memory_zeroed((size_t)g->n_params + 1, sizeof *p->params, "plan", e);
    if (!p->params) return -1;
    p->n_params = g->n_params;
    for (int i = 0; i < g->n_params; i++)
        p->params[i] = (ProgramParam){g->params[i].value.data, tensor_count(&g->params[i].value)};
    return 0;
}

int program_new(Program **out, const Graph *g, const PlanRequest *r, bool rounds, Error *e) {
    Program *p = memory_zeroed(1, sizeof *p, "plan", e);
    if (!p) return -1;
    p->graph = g;
    p->weights = read_weights;
    p->channels = read_channels;
    Build b = {.program = p,
               .graph = g,
               .request = r,
               .training = r->purpose == PLAN_TRAINING,
               .rounds_forward = rounds && r->precision == PLAN_BF16,
               .rounds_backward =
                   rounds && (r->precision == PLAN_BF16 || r->precision == PLAN_MIXED)};
    b.value_of = memory_zeroed((size_t)g->n_layers, sizeof *b.value_of, "plan", e);
    int status = -1;
    if (!b.value_of || list_params(p, g, e) || emit_forward(&b, e)) goto done;
    if (r->purpose != PLAN_FORWARD) {
        if (emit_gradient(&b, e)) goto done;
        fuse_backward(&b);
    }
    finish_program(&b);
    status = 0;
done:
    memory_free(b.value_of);
    memory_free(b.gradient);
    memory_free(b.flags);
    if (status)
        program_free(p);
    else
        *out = p;
    return status;
}

void program_free(Program *p) {
    if (!p) return;
    for (int i = 0; i < p->n_specs; i++) memory_free(p->specs[i]);
    memory_free(p->specs);
    memory_free(p->ops);
    memory_free(p->values);
    memory_free(p->params);
    memory_free(p);
}
