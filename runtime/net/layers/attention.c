/* Attention over the rows of [.., L, 3 D]: softmax(scale q k') v, [.., L, D]. A row holds a query,
 * a key and a value for each of `groups` heads. A scale of 0 means 1 / sqrt(D / heads). */
#include <math.h>

#include "net/layer.h"

static int add(Graph *g, Layer *l, Error *e) {
    const Shape *x = &layer_input_of(g, l, 0)->shape;
    int n = x->ndim;
    if (n < 2 || n > 3 || l->groups < 1 || x->dim[n - 1] % (3 * l->groups))
        return layer_fail(
            l, e, "takes [L, 3 D] or [windows, L, 3 D] with D a multiple of the number of heads");
    l->shape = *x;
    l->shape.dim[n - 1] = x->dim[n - 1] / 3;
    return 0;
}

/* One product per window and head. The factors stay in the packed rows. */
static int emit(Build *b, const Layer *l, const int *in, Error *e) {
    int n = l->shape.ndim;
    int64_t L = l->shape.dim[n - 2], D = l->shape.dim[n - 1], H = l->groups, d = D / H;
    int64_t windows = n == 3 ? l->shape.dim[0] : 1, of_window = windows > 1 ? L : 0;
    Shape square = n == 3 ? (Shape){4, {windows, H, L, L}} : (Shape){3, {H, L, L}};
    MatmulOperand query = {{of_window * 3 * D, d}, 3 * D, 1, 0}, key = query, value = query;
    MatmulOperand scores = {{of_window * H * L, L * L}, L, 1, 0},
                  out = {{of_window * D, d}, D, 1, 0};
    key.row = 1, key.column = 3 * D, key.at = D;
    value.at = 2 * D;
    double scale = l->scale > 0 ? l->scale : 1 / sqrt((double)d);
    MatmulSpec first = {L, L, d, {windows, H}, query, key, scores, scale};
    MatmulSpec second = {L, d, L, {windows, H}, scores, value, out, 1};
    int made = emit_matmul(b, l, &square, (int[]){in[0], in[0]}, &first, e);
    if (made >= 0) made = emit_rows(b, OP_SOFTMAX, l, made, (RowsSpec){windows * H * L, L, 1}, e);
    if (made >= 0) made = emit_matmul(b, l, &l->shape, (int[]){made, in[0]}, &second, e);
    return made < 0 ? -1 : 0;
}

const LayerRule layer_attention = {"attention", 1, add, NULL, emit};
