/* A network computed in double by loops that read like the formulas, forward and
 * backward, straight from the graph: what plans are held against. Nothing is fused,
 * folded or fast here. */
#ifndef ADVRT_TESTS_REFERENCE_H
#define ADVRT_TESTS_REFERENCE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "net/graph.h"
#include "reference_tokens.h"

typedef struct Reference {
    const Graph *g;
    int64_t N;
    bool training;
    double **value, **grad;   /* per layer [N,C,H,W] */
    double **param, **dparam; /* per parameter */
    double **mean, **var;     /* batch statistics per layer */
} Reference;

static inline int64_t ref_size(const Layer *l) {
    return l->C * l->H * l->W;
}

static inline Reference ref_new(const Graph *g, int64_t N, bool training) {
    Reference r = {.g = g, .N = N, .training = training};
    size_t L = (size_t)g->n_layers, P = (size_t)g->n_params;
    r.value = calloc(L, sizeof(double *));
    r.grad = calloc(L, sizeof(double *));
    r.mean = calloc(L, sizeof(double *));
    r.var = calloc(L, sizeof(double *));
    r.param = calloc(P + 1, sizeof(double *));
    r.dparam = calloc(P + 1, sizeof(double *));
    for (size_t i = 0; i < L; i++) {
        r.value[i] = calloc((size_t)(N * ref_size(&g->layers[i])), sizeof(double));
        r.grad[i] = calloc((size_t)(N * ref_size(&g->layers[i])), sizeof(double));
        r.mean[i] = calloc((size_t)g->layers[i].C, sizeof(double));
        r.var[i] = calloc((size_t)g->layers[i].C, sizeof(double));
    }
    for (size_t i = 0; i < P; i++) {
        size_t n = (size_t)tensor_count(&g->params[i].value);
        float *host = malloc(n * sizeof *host);
        r.param[i] = calloc(n, sizeof(double));
        r.dparam[i] = calloc(n, sizeof(double));
        if (tensor_to_host(&g->params[i].value, host, NULL)) abort();
        for (size_t k = 0; k < n; k++) r.param[i][k] = host[k];
        free(host);
    }
    return r;
}

static inline void ref_free(Reference *r) {
    for (int i = 0; i < r->g->n_layers; i++)
        free(r->value[i]), free(r->grad[i]), free(r->mean[i]), free(r->var[i]);
    for (int i = 0; i < r->g->n_params; i++) free(r->param[i]), free(r->dparam[i]);
    free(r->value), free(r->grad), free(r->mean), free(r->var), free(r->param), free(r->dparam);
}

/* Visits every product of a convolution: output o, input x, weight w, all flat indices. A weight's
 * products follow one another, along rows: a sweep over shapes spends most of its time here. */
#define REF_CONV_EACH(l, in, N, BODY)                                                              \
    do {                                                                                           \
        int64_t Kg = (l)->C / (l)->groups, Cg = (in)->C / (l)->groups;                             \
        int64_t R = (l)->kernel[0], S = (l)->kernel[1], SY = (l)->stride[0], SX = (l)->stride[1];  \
        int64_t DY = (l)->dilation[0], DX = (l)->dilation[1];                                      \
        for (int64_t n = 0; n < (N); n++)                                                          \
            for (int64_t k = 0; k < (l)->C; k++)                                                   \
                for (int64_t c = 0; c < Cg; c++)                                                   \
                    for (int64_t kr = 0; kr < R; kr++)                                             \
                        for (int64_t ks = 0; ks < S; ks++)                                         \
                            for (int64_t oh = 0; oh < (l)->H; oh++) {                              \
                                int64_t h = oh * SY + kr * DY - (l)->pad[0];                       \
                                int64_t v = ks * DX - (l)->pad[1];                                 \
                                int64_t first = v < 0 ? (SX - 1 - v) / SX : 0;                     \
                                int64_t end = ((in)->W - 1 - v + SX) / SX;                         \
                                if (h < 0 || h >= (in)->H || v >= (in)->W) continue;               \
                                if (end > (l)->W) end = (l)->W;                                    \
                                int64_t w = ((k * Cg + c) * R + kr) * S + ks;                      \
                                int64_t o = ((n * (l)->C + k) * (l)->H + oh) * (l)->W + first;     \
                                int64_t x =                                                        \
                                    ((n * (in)->C + k / Kg * Cg + c) * (in)->H + h) * (in)->W +    \
                                    v + first * SX;                                                \
                                for (int64_t ow = first; ow < end; ow++, o++, x += SX) {           \
                                    BODY                                                           \
                                }                                                                  \
                            }                                                                      \
    } while (0)

static inline void ref_conv(Reference *r, int i) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    double *y = r->value[i], *X = r->value[l->input[0]], *W = r->param[l->param[0]];
    int64_t HW = l->H * l->W;
    for (int64_t o = 0; o < r->N * ref_size(l); o++)
        y[o] = l->bias ? r->param[l->param[1]][o / HW % l->C] : 0;
    REF_CONV_EACH(l, in, r->N, y[o] += X[x] * W[w];);
}

static inline void ref_conv_back(Reference *r, int i) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    double *dy = r->grad[i], *X = r->value[l->input[0]], *dX = r->grad[l->input[0]];
    double *W = r->param[l->param[0]], *dW = r->dparam[l->param[0]];
    int64_t HW = l->H * l->W;
    REF_CONV_EACH(l, in, r->N, dX[x] += dy[o] * W[w]; dW[w] += dy[o] * X[x];);
    for (int64_t o = 0; l->bias && o < r->N * ref_size(l); o++)
        r->dparam[l->param[1]][o / HW % l->C] += dy[o];
}

/* The convolution's products from the output to the input. */
static inline void ref_conv_transpose(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    double *X = r->value[l->input[0]], *Y = r->value[i], *dX = r->grad[l->input[0]];
    double *dY = r->grad[i], *W = r->param[l->param[0]], *dW = r->dparam[l->param[0]];
    double *B = l->bias ? r->param[l->param[1]] : NULL;
    Layer turned = *l;
    turned.C = in->C, turned.H = in->H, turned.W = in->W;
    for (int64_t o = 0; o < r->N * ref_size(l); o++) {
        int64_t k = o / (l->H * l->W) % l->C;
        if (!back) Y[o] = B ? B[k] : 0;
        if (back && B) r->dparam[l->param[1]][k] += dY[o];
    }
    if (back)
        REF_CONV_EACH(&turned, l, r->N, dX[o] += dY[x] * W[w]; dW[w] += X[o] * dY[x];);
    else
        REF_CONV_EACH(&turned, l, r->N, Y[x] += X[o] * W[w];);
}

static inline void ref_linear(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    int64_t D = ref_size(in);
    double *W = r->param[l->param[0]], *dW = r->dparam[l->param[0]];
    for (int64_t n = 0; n < r->N; n++)
        for (int64_t k = 0; k < l->C; k++) {
            double *x = r->value[l->input[0]] + n * D, *dx = r->grad[l->input[0]] + n * D;
            double dy = r->grad[i][n * l->C + k], sum = l->bias ? r->param[l->param[1]][k] : 0;
            for (int64_t d = 0; d < D; d++) {
                sum += x[d] * W[k * D + d];
                if (back) dx[d] += dy * W[k * D + d], dW[k * D + d] += dy * x[d];
            }
            if (!back) r->value[i][n * l->C + k] = sum;
            if (back && l->bias) r->dparam[l->param[1]][k] += dy;
        }
}

static inline void ref_batchnorm(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i];
    int64_t HW = l->H * l->W, M = r->N * HW;
    double *x = r->value[l->input[0]], *dx = r->grad[l->input[0]], *y = r->value[i],
           *dy = r->grad[i];
    for (int64_t c = 0; c < l->C; c++) {
        double mean = r->param[l->param[2]][c], var = r->param[l->param[3]][c];
#define REF_CHANNEL(BODY)                                                                          \
    for (int64_t n = 0; n < r->N; n++)                                                             \
        for (int64_t q = 0; q < HW; q++) {                                                         \
            int64_t o = (n * l->C + c) * HW + q;                                                   \
            BODY                                                                                   \
        }
        if (r->training) {
            mean = var = 0;
            REF_CHANNEL(mean += x[o] / (double)M;)
            REF_CHANNEL(var += (x[o] - mean) * (x[o] - mean) / (double)M;)
        }
        r->mean[i][c] = mean;
        r->var[i][c] = var;
        double gamma = r->param[l->param[0]][c], beta = r->param[l->param[1]][c];
        double inv = 1 / sqrt(var + l->eps), sum_dy = 0, sum_dyx = 0;
        if (!back) {
            REF_CHANNEL(y[o] = (x[o] - mean) * inv * gamma + beta;)
            continue;
        }
        REF_CHANNEL(sum_dy += dy[o]; sum_dyx += dy[o] * (x[o] - mean) * inv;)
        r->dparam[l->param[0]][c] += sum_dyx;
        r->dparam[l->param[1]][c] += sum_dy;
        if (r->training) {
            REF_CHANNEL(dx[o] +=
                        gamma * inv *
                        (dy[o] - sum_dy / (double)M - (x[o] - mean) * inv * sum_dyx / (double)M);)
        } else {
            REF_CHANNEL(dx[o] += gamma * inv * dy[o];)
        }
    }
}

static inline void ref_maxpool(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    double *x = r->value[l->input[0]];
    for (int64_t o = 0; o < r->N * ref_size(l); o++) {
        int64_t j = o % l->W, h = o / l->W % l->H, plane = o / (l->W * l->H), best = -1;
        for (int64_t a = 0; a < l->kernel[0]; a++)
            for (int64_t b = 0; b < l->kernel[1]; b++) {
                int64_t p = h * l->stride[0] + a - l->pad[0], q = j * l->stride[1] + b - l->pad[1];
                if (p < 0 || p >= in->H || q < 0 || q >= in->W) continue;
                int64_t at = (plane * in->H + p) * in->W + q;
                if (best < 0 || x[at] > x[best]) best = at;
            }
        if (back)
            r->grad[l->input[0]][best] += r->grad[i][o];
        else
            r->value[i][o] = x[best];
    }
}

static inline void ref_adaptive_avgpool(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    for (int64_t o = 0; o < r->N * ref_size(l); o++) {
        int64_t j = o % l->W, h = o / l->W % l->H, plane = o / (l->W * l->H);
        int64_t y0 = h * in->H / l->H, y1 = ((h + 1) * in->H + l->H - 1) / l->H;
        int64_t x0 = j * in->W / l->W, x1 = ((j + 1) * in->W + l->W - 1) / l->W;
        double count = (double)((y1 - y0) * (x1 - x0));
        if (!back) r->value[i][o] = 0;
        for (int64_t p = y0; p < y1; p++)
            for (int64_t q = x0; q < x1; q++) {
                int64_t at = (plane * in->H + p) * in->W + q;
                if (back)
                    r->grad[l->input[0]][at] += r->grad[i][o] / count;
                else
                    r->value[i][o] += r->value[l->input[0]][at] / count;
            }
    }
}

/* torch's avg_pool2d: places of the padded image count where flags[0] says so, none behind it. */
static inline void ref_avgpool(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    for (int64_t o = 0; o < r->N * ref_size(l); o++) {
        int64_t j = o % l->W, h = o / l->W % l->H, plane = o / (l->W * l->H), inside = 0, all = 0;
        double sum = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t t = 0; t < l->kernel[0] * l->kernel[1]; t++) {
                int64_t p = h * l->stride[0] + t / l->kernel[1] - l->pad[0];
                int64_t q = j * l->stride[1] + t % l->kernel[1] - l->pad[1];
                if (!pass) all += p < in->H + l->pad[2] && q < in->W + l->pad[3];
                if (p < 0 || p >= in->H || q < 0 || q >= in->W) continue;
                int64_t at = (plane * in->H + p) * in->W + q;
                if (!pass) inside++, sum += r->value[l->input[0]][at];
                if (pass && back)
                    r->grad[l->input[0]][at] +=
                        r->grad[i][o] / (double)(l->flags[0] ? all : inside);
            }
        if (!back) r->value[i][o] = sum / (double)(l->flags[0] ? all : inside);
    }
}

/* Where an output cell lies along an axis, by the formulas of torch and ONNX. */
static inline double ref_place(const Layer *l, const Layer *in, int axis, int64_t i) {
    int64_t size = axis ? in->W : in->H, out = l->out[axis];
    double x = (double)i / l->factor[axis];
    if (!strcmp(l->text, "half_pixel") || (!strcmp(l->text, "pytorch_half_pixel") && out > 1))
        x = ((double)i + 0.5) / l->factor[axis] - 0.5;
    else if (!strcmp(l->text, "pytorch_half_pixel"))
        x = 0;
    else if (!strcmp(l->text, "align_corners"))
        x = out > 1 ? (double)i * (double)(size - 1) / (double)(out - 1) : 0;
    return x;
}

static inline void ref_resize(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
    for (int64_t o = 0; o < r->N * ref_size(l); o++) {
        int64_t plane = o / (l->W * l->H), at[2] = {o / l->W % l->H, o % l->W}, cell[2][2];
        double weight[2][2];
        for (int a = 0; a < 2; a++) {
            double most = (double)((a ? in->W : in->H) - 1), x = ref_place(l, in, a, at[a]);
            if (fabs(x - round(x)) < 1e-9) x = round(x);
            double low = floor(x);
            weight[a][1] = l->flags[0] ? x - low : 0;
            if (!l->flags[0] && l->sizes[0] == RESIZE_CEIL) low = ceil(x);
            if (!l->flags[0] && l->sizes[0] == RESIZE_HALF_DOWN) low = ceil(x - 0.5);
            if (!l->flags[0] && l->sizes[0] == RESIZE_HALF_UP) low = floor(x + 0.5);
            weight[a][0] = 1 - weight[a][1];
            cell[a][0] = (int64_t)fmin(fmax(low, 0), most);
            cell[a][1] = (int64_t)fmin(fmax(low + 1, 0), most);
        }
        if (!back) r->value[i][o] = 0;
        for (int k = 0; k < 4; k++) {
            double w = weight[0][k / 2] * weight[1][k % 2];
            int64_t x = (plane * in->H + cell[0][k / 2]) * in->W + cell[1][k % 2];
            if (back)
                r->grad[l->input[0]][x] += w * r->grad[i][o];
            else
                r->value[i][o] += w * r->value[l->input[0]][x];
        }
    }
}

static inline void ref_pointwise(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i];
    double *a = r->value[l->input[0]], *da = r->grad[l->input[0]], *dy = r->grad[i];
    double *b = l->inputs > 1 ? r->value[l->input[1]] : NULL, *db = b ? r->grad[l->input[1]] : NULL;
    for (int64_t o = 0; o < r->N * ref_size(l); o++) {
        int64_t c = o / (l->H * l->W) % l->C;
        double slope = 1, y = a[o];
        if (l->kind == LAYER_RELU)
            slope = a[o] > 0 && a[o] < l->cap, y = fmin(fmax(a[o], 0), l->cap);
        if (l->kind == LAYER_NORMALIZE) slope = 1 / l->std[c], y = (a[o] - l->mean[c]) / l->std[c];
        if (b) y += b[o];
        if (!back) r->value[i][o] = y;
        if (back) da[o] += slope * dy[o];
        if (back && b) db[o] += dy[o];
    }
}

/* Layers that only put numbers elsewhere: element o of the output is element *at of input *which;
 * false where it is 0. */
static inline bool ref_source(const Graph *g, const Layer *l, int64_t o, int *which, int64_t *at) {
    int64_t index[SHAPE_DIMS], rest = o;
    const int64_t *sizes = l->sizes;
    const Shape *x;
    *which = 0;
    if (l->kind == LAYER_RESHAPE) return *at = o, true;
    for (int d = l->shape.ndim - 1; d >= 0; d--) {
        index[d] = rest % l->shape.dim[d];
        rest /= l->shape.dim[d];
    }
    if (l->kind == LAYER_CONCAT)
        while (index[sizes[0]] >= g->layers[l->input[*which]].shape.dim[sizes[0]])
            index[sizes[0]] -= g->layers[l->input[(*which)++]].shape.dim[sizes[0]];
    x = &g->layers[l->input[*which]].shape;
    int64_t from[SHAPE_DIMS];
    memcpy(from, index, sizeof from);
    if (l->kind == LAYER_PERMUTE)
        for (int d = 0; d < x->ndim; d++) from[sizes[d]] = index[d];
    if (l->kind == LAYER_SLICE) from[sizes[0]] = sizes[1] + index[sizes[0]] * sizes[3];
    if (l->kind == LAYER_FLIP)
        for (int k = 0; k < l->n_sizes; k++)
            from[sizes[k]] = x->dim[sizes[k]] - 1 - index[sizes[k]];
    *at = 0;
    for (int d = 0; d < x->ndim; d++) {
        if (l->kind == LAYER_PAD) from[d] -= sizes[2 * d];
        if (from[d] < 0 || from[d] >= x->dim[d]) return false;
        *at = *at * x->dim[d] + from[d];
    }
    return true;
}

static inline void ref_moves(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i];
    for (int64_t o = 0; o < r->N * ref_size(l); o++) {
        int which;
        int64_t at, n = o / ref_size(l);
        bool there = ref_source(r->g, l, o % ref_size(l), &which, &at);
        int input = l->input[which];
        at += n * ref_size(&r->g->layers[input]);
        if (!back) r->value[i][o] = there ? r->value[input][at] : 0;
        if (back && there) r->grad[input][at] += r->grad[i][o];
    }
}

static inline double *ref_of(double **list, const Layer *l, int i) {
    return l->param[i] < 0 ? NULL : list[l->param[i]];
}

/* Layers of products and rows, image by image; parameters' gradients add up. */
static inline void ref_tokens(Reference *r, int i, bool back) {
    const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]],
                *other = &r->g->layers[l->input[l->inputs - 1]];
    int64_t D = in->shape.dim[in->shape.ndim - 1];
    for (int64_t n = 0; n < r->N; n++) {
        double *x = r->value[l->input[0]] + n * ref_size(in),
               *dx = r->grad[l->input[0]] + n * ref_size(in);
        double *y = r->value[l->input[l->inputs - 1]] + n * ref_size(other),
               *dy = r->grad[l->input[l->inputs - 1]] + n * ref_size(other);
        double *z = r->value[i] + n * ref_size(l), *dz = r->grad[i] + n * ref_size(l);
        double *w = ref_of(r->param, l, 0), *dw = ref_of(r->dparam, l, 0),
               *b = ref_of(r->param, l, 1), *db = ref_of(r->dparam, l, 1);
        if (l->kind == LAYER_LINEAR)
            ref_linear_last(l, ref_size(in) / D, D, x, dx, w, dw, b, db, z, dz, back);
        if (l->kind == LAYER_MATMUL) ref_matmul(l, in, other, x, dx, y, dy, z, dz, back);
        if (l->kind == LAYER_ATTENTION) ref_attention(l, x, dx, z, dz, back);
        if (l->kind == LAYER_SOFTMAX) {
            RowsSpec rows = {1, l->shape.dim[l->sizes[0]], 1};
            for (int d = 0; d < l->shape.ndim; d++)
                if (d != l->sizes[0])
                    *(d < l->sizes[0] ? &rows.outer : &rows.inner) *= l->shape.dim[d];
            ref_softmax(rows, x, dx, z, dz, back);
        }
        if (l->kind == LAYER_LAYERNORM || l->kind == LAYER_GROUPNORM ||
            l->kind == LAYER_INSTANCENORM) {
            RefNorm p = ref_norm_of(l);
            p.w = w, p.dw = dw, p.b = b, p.db = db;
            ref_norm(l, &p, x, dx, z, dz, back);
        }
    }
}

static inline void ref_layer(Reference *r, int i, bool back) {
    switch (r->g->layers[i].kind) {
    case LAYER_INPUT: break;
    case LAYER_CONV: back ? ref_conv_back(r, i) : ref_conv(r, i); break;
    case LAYER_CONV_TRANSPOSE: ref_conv_transpose(r, i, back); break;
    case LAYER_LINEAR: (r->g->layers[i].flags[0] ? ref_tokens : ref_linear)(r, i, back); break;
    case LAYER_MATMUL:
    case LAYER_ATTENTION:
    case LAYER_SOFTMAX:
    case LAYER_LAYERNORM:
    case LAYER_GROUPNORM:
    case LAYER_INSTANCENORM: ref_tokens(r, i, back); break;
    case LAYER_BATCHNORM: ref_batchnorm(r, i, back); break;
    case LAYER_MAXPOOL: ref_maxpool(r, i, back); break;
    case LAYER_ADAPTIVE_AVGPOOL: ref_adaptive_avgpool(r, i, back); break;
    case LAYER_AVGPOOL: ref_avgpool(r, i, back); break;
    case LAYER_RESIZE: ref_resize(r, i, back); break;
    case LAYER_CONCAT:
    case LAYER_RESHAPE:
    case LAYER_PERMUTE:
    case LAYER_SLICE:
    case LAYER_FLIP:
    case LAYER_PAD: ref_moves(r, i, back); break;
    default: ref_pointwise(r, i, back);
    }
}

/* Values of all layers from x; the logits are the last layer's. */
static inline void ref_forward(Reference *r, const float *x) {
    for (int64_t o = 0; o < r->N * ref_size(&r->g->layers[0]); o++) r->value[0][o] = (double)x[o];
    for (int i = 0; i < r->g->n_layers; i++) ref_layer(r, i, false);
}

/* Gradients of all values (grad[0] is the image's) and parameters from dz. */
static inline void ref_backward(Reference *r, const float *dz) {
    int last = r->g->n_layers - 1;
    for (int64_t o = 0; o < r->N * ref_size(&r->g->layers[last]); o++)
        r->grad[last][o] = (double)dz[o];
    for (int i = last; i >= 0; i--) ref_layer(r, i, true);
}

/* How near the values are to where a rounding changes a gradient by much: the least distance of a
 * ReLU's input from its bounds, and of a maximum from the next value of its window, against the
 * root mean square of what the layer reads. Exact ties are none: they do not depend on a rounding.
 */
static inline double ref_relu_margin(const Layer *l, const double *a, int64_t n) {
    double least = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (a[i] != 0) least = fmin(least, fabs(a[i]));
        if (isfinite(l->cap)) least = fmin(least, fabs(a[i] - l->cap));
    }
    return least;
}

static inline double ref_pool_margin(const Layer *l, const Layer *in, const double *x, int64_t N) {
    double least = INFINITY;
    for (int64_t o = 0; o < N * ref_size(l); o++) {
        int64_t j = o % l->W, h = o / l->W % l->H, plane = o / (l->W * l->H);
        double best = -INFINITY, next = -INFINITY;
        for (int64_t t = 0; t < l->kernel[0] * l->kernel[1]; t++) {
            int64_t p = h * l->stride[0] + t / l->kernel[1] - l->pad[0];
            int64_t q = j * l->stride[1] + t % l->kernel[1] - l->pad[1];
            if (p < 0 || p >= in->H || q < 0 || q >= in->W) continue;
            double v = x[(plane * in->H + p) * in->W + q];
            next = fmax(next, fmin(best, v));
            best = fmax(best, v);
        }
        if (best > next) least = fmin(least, best - next);
    }
    return least;
}

static inline double ref_margin(const Reference *r) {
    double least = INFINITY;
    for (int i = 0; i < r->g->n_layers; i++) {
        const Layer *l = &r->g->layers[i], *in = &r->g->layers[l->input[0]];
        if (l->kind != LAYER_RELU && l->kind != LAYER_MAXPOOL) continue;
        const double *x = r->value[l->input[0]];
        double square = 0, n = (double)(r->N * ref_size(in));
        for (int64_t k = 0; k < r->N * ref_size(in); k++) square += x[k] * x[k] / n;
        double margin = l->kind == LAYER_RELU ? ref_relu_margin(l, x, r->N * ref_size(in))
                                              : ref_pool_margin(l, in, x, r->N);
        least = fmin(least, margin / sqrt(square));
    }
    return least;
}

#endif
