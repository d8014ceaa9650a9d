#include "device/cpu/primitive.h"

#include <math.h>
#include <string.h>

int onednn_check(dnnl_status_t status, const char *what, Error *e) {
    if (status == dnnl_success) return 0;
    return error_set(e, "oneDNN: %s: %s", what, dnnl_status2str(status));
}

/* The calls below fail only for shapes that graph.c has refused already. */
static Layout by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    Layout l;
    if (dnnl_memory_desc_init_by_tag(&l, ndims, dims, dnnl_f32, tag) != dnnl_success)
        memset(&l, 0, sizeof l);
    return l;
}

Layout layout_plain(int64_t N, int64_t C, int64_t H, int64_t W) {
    return by_tag(4, (dnnl_dims_t){N, C, H, W}, dnnl_nchw);
}

Layout layout_blocked(int block, int64_t N, int64_t C, int64_t H, int64_t W) {
    return by_tag(4, (dnnl_dims_t){N, C, H, W}, block == 16 ? dnnl_nChw16c : dnnl_nChw8c);
}

Layout layout_flat(int64_t N, int64_t C) {
    return by_tag(2, (dnnl_dims_t){N, C}, dnnl_nc);
}

Layout layout_vector(int64_t C) {
    return by_tag(1, (dnnl_dims_t){C}, dnnl_x);
}

Layout layout_weights(const Layer *l, int64_t C, bool open) {
    int64_t G = l->groups, K = l->C, R = l->kernel[0], S = l->kernel[1];
    if (G == 1) return by_tag(4, (dnnl_dims_t){K, C, R, S}, open ? dnnl_format_tag_any : dnnl_oihw);
    return by_tag(5, (dnnl_dims_t){G, K / G, C / G, R, S}, open ? dnnl_format_tag_any : dnnl_goihw);
}

Layout layout_open(const Layout *l) {
    return by_tag(l->ndims, l->dims, dnnl_format_tag_any);
}

bool layout_same(const Layout *a, const Layout *b) {
    if (a->ndims == b->ndims) return dnnl_memory_desc_equal(a, b);
    const Layout *flat = a->ndims < b->ndims ? a : b, *grid = a->ndims < b->ndims ? b : a;
    if (flat->ndims != 2 || grid->ndims != 4 || grid->dims[2] != 1 || grid->dims[3] != 1)
        return false;
    return flat->dims[0] == grid->dims[0] && flat->dims[1] == grid->dims[1] &&
           layout_bytes(flat) == layout_bytes(grid);
}

size_t layout_bytes(const Layout *l) {
    return dnnl_memory_desc_get_size(l);
}

int layout_block(const Layout *l) {
    const dnnl_blocking_desc_t *b = &l->format_desc.blocking;
    return l->format_kind == dnnl_blocked && b->inner_nblks == 1 && b->inner_idxs[0] == 1
               ? (int)b->inner_blks[0]
               : 1;
}

static int make_attributes(const PostOps *post, dnnl_primitive_attr_t *out, Error *e) {
    dnnl_post_ops_t ops = NULL;
    int status = onednn_check(dnnl_primitive_attr_create(out), "attributes", e);
    if (status) return status;
    status = onednn_check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
                          "scratchpad mode", e);
    if (!status && post && (post->sum || post->relu)) {
        status = onednn_check(dnnl_post_ops_create(&ops), "post-ops", e);
        if (!status && post->sum)
            status = onednn_check(dnnl_post_ops_append_sum(ops, 1.0F), "sum post-op", e);
        if (!status && post->relu) {
            bool bounded = isfinite(post->cap);
            status = onednn_check(dnnl_post_ops_append_eltwise(
                                      ops, 1.0F, bounded ? dnnl_eltwise_clip : dnnl_eltwise_relu,
                                      0.0F, bounded ? (float)post->cap : 0.0F),
                                  "ReLU post-op", e);
        }
        if (!status)
            status = onednn_check(dnnl_primitive_attr_set_post_ops(*out, ops), "post-ops", e);
        dnnl_post_ops_destroy(ops);
    }
    if (status) {
        dnnl_primitive_attr_destroy(*out);
        *out = NULL;
    }
    return status;
}

static const char *implementation(const_dnnl_primitive_desc_t pd) {
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return name;
}

static bool is_reference(const_dnnl_primitive_desc_t pd) {
    const char *name = implementation(pd);
    return !strncmp(name, "ref", 3) || !strncmp(name, "simple", 6);
}

bool descriptor_cuts_images(dnnl_primitive_desc_t pd) {
    return strstr(implementation(pd), "gemm") != NULL;
}

Layout layout_of_image(const Layout *l) {
    Layout one = *l;
    one.dims[0] = one.padded_dims[0] = 1;
    return one;
}

int best_descriptor(dnnl_engine_t engine, const_dnnl_op_desc_t op, const PostOps *post,
                    dnnl_primitive_desc_t hint, bool any_implementation, dnnl_primitive_desc_t *out,
                    Error *e) {
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_iterator_t it = NULL;
    *out = NULL;
    if (make_attributes(post, &attr, e)) return -1;
    dnnl_status_t status = dnnl_primitive_desc_iterator_create(&it, op, attr, engine, hint);
    while (status == dnnl_success) {
        dnnl_primitive_desc_t pd = dnnl_primitive_desc_iterator_fetch(it);
        if (!pd) {
            status = dnnl_out_of_memory;
            break;
        }
        if (any_implementation || !is_reference(pd)) {
            *out = pd;
            break;
        }
        dnnl_primitive_desc_destroy(pd);
        status = dnnl_primitive_desc_iterator_next(it);
    }
    if (it) dnnl_primitive_desc_iterator_destroy(it);
    dnnl_primitive_attr_destroy(attr);
    if (status == dnnl_out_of_memory) return onednn_check(status, "primitive descriptor", e);
    return 0;
}

int conv_descriptor(dnnl_engine_t engine, const ConvShape *s, ConvWhat what, bool winograd,
                    const PostOps *post, dnnl_primitive_desc_t hint, bool any_implementation,
                    dnnl_primitive_desc_t *out, Error *e) {
    dnnl_convolution_desc_t op;
    dnnl_alg_kind_t alg = winograd ? dnnl_convolution_winograd : dnnl_convolution_direct;
    const Layout *bias = s->has_bias ? &s->bias : NULL;
    dnnl_status_t status;
    dnnl_dims_t stride = {s->stride[0], s->stride[1]}, before = {s->pad[0], s->pad[1]};
    dnnl_dims_t after = {s->pad[2], s->pad[3]};
    *out = NULL;
    if (what == CONV_DATA)
        status = dnnl_convolution_backward_data_desc_init(&op, alg, &s->src, &s->weights, &s->dst,
                                                          stride, before, after);
    else if (what == CONV_WEIGHTS)
        status = dnnl_convolution_backward_weights_desc_init(&op, alg, &s->src, &s->weights, bias,
                                                             &s->dst, stride, before, after);
    else
        status = dnnl_convolution_forward_desc_init(
            &op, what == CONV_TRAIN ? dnnl_forward_training : dnnl_forward_inference, alg, &s->src,
            &s->weights, bias, &s->dst, stride, before, after);
    if (status == dnnl_out_of_memory) return onednn_check(status, "convolution", e);
    if (status != dnnl_success) return 0;
    return best_descriptor(engine, &op, post, hint, any_implementation, out, e);
}

Layout descriptor_layout(dnnl_primitive_desc_t pd, int arg) {
    return *dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arg);
}

int reorder_now(dnnl_engine_t engine, dnnl_stream_t stream, const Layout *from, const void *in,
                const Layout *to, void *out, Error *e) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t a = NULL, b = NULL;
    int status = -1;
    if (onednn_check(dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL),
                     "reorder", e) ||
        onednn_check(dnnl_primitive_create(&primitive, pd), "reorder", e) ||
        onednn_check(dnnl_memory_create(&a, from, engine, (void *)in), "memory", e) ||
        onednn_check(dnnl_memory_create(&b, to, engine, out), "memory", e))
        goto done;
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, a}, {DNNL_ARG_TO, b}};
    if (onednn_check(dnnl_primitive_execute(primitive, stream, 2, args), "reorder", e)) goto done;
    status = onednn_check(dnnl_stream_wait(stream), "reorder", e);
done:
    if (a) dnnl_memory_destroy(a);
    if (b) dnnl_memory_destroy(b);
    if (primitive) dnnl_primitive_destroy(primitive);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return status;
}
