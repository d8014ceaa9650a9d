/* torch.matmul of two values: the last two dimensions are matrices, the earlier ones are broadcast.
 * flags: whether the first and the second matrix is transposed. scale multiplies the result. */
#include <stdio.h>

#include "net/layer.h"

/* One factor: its rows and columns after transposition, and its earlier dimensions, counted from
 * the last. */
typedef struct Side {
    int64_t row, column, rows, columns, before[2], step[2];
    bool fits;
} Side;

static Side side_of(const Shape *s, bool transpose) {
    Side m = {.before = {1, 1}};
    int n = s->ndim;
    m.fits = n >= 2 && n <= 4;
    if (!m.fits) return m;
    m.rows = s->dim[n - 2], m.columns = s->dim[n - 1];
    m.row = m.columns, m.column = 1;
    int64_t step = m.rows * m.columns;
    for (int i = 0; i < n - 2; i++) {
        int64_t size = s->dim[n - 3 - i];
        m.before[1 - i] = size;
        m.step[1 - i] = size > 1 ? step : 0;
        step *= size;
    }
    if (!transpose) return m;
    Side t = m;
    t.rows = m.columns, t.columns = m.rows, t.row = m.column, t.column = m.row;
    return t;
}

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape, *y = &layer_input_of(g, l, 1)->shape;
    Side a = side_of(x, l->flags[0]), b = side_of(y, l->flags[1]);
    bool fit = a.fits && b.fits && a.columns == b.rows;
    for (int i = 0; i < 2; i++)
        fit = fit && (a.before[i] == b.before[i] || a.before[i] == 1 || b.before[i] == 1);
    if (!fit) {
        char what[2 * SHAPE_TEXT + 64], one[SHAPE_TEXT], other[SHAPE_TEXT];
        snprintf(what, sizeof what, "cannot multiply %s%s by %s%s",
                 shape_text(x->ndim, x->dim, one), l->flags[0] ? " transposed" : "",
                 shape_text(y->ndim, y->dim, other), l->flags[1] ? " transposed" : "");
        return layer_fail(l, e, what);
    }
    l->shape.ndim = x->ndim > y->ndim ? x->ndim : y->ndim;
    l->shape.dim[l->shape.ndim - 2] = a.rows;
    l->shape.dim[l->shape.ndim - 1] = b.columns;
    for (int i = 0; i < l->shape.ndim - 2; i++) {
        int64_t p = a.before[1 - i], q = b.before[1 - i];
        l->shape.dim[l->shape.ndim - 3 - i] = p > q ? p : q;
    }
    return 0;
}

static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    Side x = side_of(&layer_input_of(b->graph, l, 0)->shape, l->flags[0]),
         y = side_of(&layer_input_of(b->graph, l, 1)->shape, l->flags[1]),
         z = side_of(&l->shape, false);
    MatmulSpec spec = {.M = x.rows,
                       .N = y.columns,
                       .K = x.columns,
                       .n = {z.before[0], z.before[1]},
                       .a = {{x.step[0], x.step[1]}, x.row, x.column, 0},
                       .b = {{y.step[0], y.step[1]}, y.row, y.column, 0},
                       .out = {{z.step[0], z.step[1]}, z.row, z.column, 0},
                       .scale = l->scale};
    return emit_matmul(b, l, &l->shape, in, &spec, e) < 0 ? -1 : 0;
}

const LayerRule layer_matmul = {"matmul", 2, add, NULL, emit};
