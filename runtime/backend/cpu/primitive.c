#include "backend/cpu/primitive.h"

#include <string.h>

int onednn_check(dnnl_status_t status, const char *what, Error *e) {
    if (status == dnnl_success) return 0;
    error_set(e, "oneDNN: %s: %s", what, dnnl_status2str(status));
    return status == dnnl_out_of_memory ? error_no_memory(e) : -1;
}

Layout layout_plain(int64_t N, int64_t C, int64_t H, int64_t W) {
    return layout_by_tag(4, (dnnl_dims_t){N, C, H, W}, dnnl_nchw);
}

Layout layout_blocked(int block, int64_t N, int64_t C, int64_t H, int64_t W) {
    if (block == 1) return layout_plain(N, C, H, W);
    return layout_by_tag(4, (dnnl_dims_t){N, C, H, W}, block == 16 ? dnnl_nChw16c : dnnl_nChw8c);
}

Layout layout_channels_last(int64_t N, int64_t C, int64_t H, int64_t W) {
    return layout_by_tag(4, (dnnl_dims_t){N, C, H, W}, dnnl_nhwc);
}

Layout layout_flat(int64_t N, int64_t C) {
    return layout_by_tag(2, (dnnl_dims_t){N, C}, dnnl_nc);
}

Layout layout_vector(int64_t C) {
    return layout_by_tag(1, (dnnl_dims_t){C}, dnnl_x);
}

Layout layout_weights(int64_t G, int64_t C, int64_t K, const int64_t kernel[2], bool open) {
    int64_t R = kernel[0], S = kernel[1];
    if (G == 1)
        return layout_by_tag(4, (dnnl_dims_t){K, C, R, S}, open ? dnnl_format_tag_any : dnnl_oihw);
    return layout_by_tag(5, (dnnl_dims_t){G, K / G, C / G, R, S},
                         open ? dnnl_format_tag_any : dnnl_goihw);
}

Layout layout_open(const Layout *l) {
    return layout_by_tag(l->ndims, l->dims, dnnl_format_tag_any);
}

bool layout_same(const Layout *a, const Layout *b) {
    if (a->ndims == b->ndims) return layout_equal(a, b);
    const Layout *flat = a->ndims < b->ndims ? a : b, *grid = a->ndims < b->ndims ? b : a;
    if (flat->ndims != 2 || grid->ndims != 4 || grid->dims[2] != 1 || grid->dims[3] != 1)
        return false;
    return flat->dims[0] == grid->dims[0] && flat->dims[1] == grid->dims[1] &&
           layout_bytes(flat) == layout_bytes(grid);
}

int layout_block(const Layout *l) {
    if (l->ndims == 2) return 1;
    for (int block = 1; block <= 16; block *= block < 8 ? 8 : 2) {
        Layout blocks = layout_blocked(block, l->dims[0], l->dims[1], l->dims[2], l->dims[3]);
        if (layout_equal(l, &blocks)) return block;
    }
    return 0;
}

static int make_attributes(const PostOps *post, dnnl_primitive_attr_t *out, Error *e) {
    dnnl_post_ops_t ops = NULL;
    int status = onednn_check(dnnl_primitive_attr_create(out), "attributes", e);
    if (status) return status;
    status = onednn_check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user),
                          "scratchpad mode", e);
    if (!status && post && post->sum) {
        status = onednn_check(dnnl_post_ops_create(&ops), "post-ops", e);
        if (!status) status = onednn_check(onednn_append_sum(ops), "sum post-op", e);
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

bool descriptor_cuts_images(dnnl_primitive_desc_t pd) {
    return strstr(onednn_implementation(pd), "gemm") != NULL;
}

/* A missing implementation is not an error here; the caller reports it. */
static int found(dnnl_status_t status, const char *what, Error *e) {
    return status == dnnl_out_of_memory ? onednn_check(status, what, e) : 0;
}

int conv_descriptor(dnnl_engine_t engine, const ConvShape *s, ConvWhat what, const PostOps *post,
                    dnnl_primitive_desc_t hint, bool any_implementation, dnnl_primitive_desc_t *out,
                    Error *e) {
    dnnl_primitive_attr_t attr;
    *out = NULL;
    if (make_attributes(post, &attr, e)) return -1;
    dnnl_status_t status =
        onednn_convolution(s, what, &(Search){engine, attr, hint, any_implementation}, out);
    dnnl_primitive_attr_destroy(attr);
    return found(status, "convolution", e);
}

int batchnorm_descriptor(dnnl_engine_t engine, const Layout *l, double eps, bool backward,
                         dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out, Error *e) {
    dnnl_primitive_attr_t attr;
    *out = NULL;
    if (make_attributes(NULL, &attr, e)) return -1;
    dnnl_status_t status =
        onednn_batchnorm(l, (float)eps, backward, &(Search){engine, attr, hint, true}, out);
    dnnl_primitive_attr_destroy(attr);
    return found(status, "batch norm", e);
}

int reorder_now(dnnl_engine_t engine, dnnl_stream_t stream, const Layout *from, const void *in,
                const Layout *to, void *out, Error *e) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t a = NULL, b = NULL;
    int status = -1;
    if (onednn_check(onednn_reorder(&pd, from, to, engine, NULL), "reorder", e) ||
        onednn_check(dnnl_primitive_create(&primitive, pd), "reorder", e) ||
        onednn_check(onednn_memory(&a, from, engine, (void *)in), "memory", e) ||
        onednn_check(onednn_memory(&b, to, engine, out), "memory", e))
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
