#include "backend/cpu/onednn.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "device/device.h"

const char *cpu_onednn_version(void) {
    static char text[48];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

const char *onednn_implementation(const_dnnl_primitive_desc_t pd) {
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return name;
}

static bool accepted(const_dnnl_primitive_desc_t pd, const Search *s) {
    const char *name = onednn_implementation(pd);
    return s->any || (strncmp(name, "ref", 3) != 0 && strncmp(name, "simple", 6) != 0);
}

static dnnl_prop_kind_t forward_kind(ConvWhat what) {
    return what == CONV_TRAIN ? dnnl_forward_training : dnnl_forward_inference;
}

/* The dilation in oneDNN's form: the number of inputs between two that the kernel reads. */
static void left_out(const ConvShape *s, dnnl_dims_t between) {
    for (int i = 0; i < 2; i++) between[i] = s->dilation[i] > 1 ? s->dilation[i] - 1 : 0;
}

enum { NORM_FLAGS = dnnl_use_scale | dnnl_use_shift };

#if DNNL_VERSION_MAJOR == 2

/* --- version 2 --- */

/* Fails only for shapes that graph.c has already rejected. */
Layout layout_by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    Layout l;
    if (dnnl_memory_desc_init_by_tag(&l, ndims, dims, dnnl_f32, tag) != dnnl_success)
        memset(&l, 0, sizeof l);
    return l;
}

Layout descriptor_layout(const_dnnl_primitive_desc_t pd, int arg) {
    return *dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arg);
}

Layout layout_of_image(const Layout *l) {
    Layout one = *l;
    one.dims[0] = one.padded_dims[0] = 1;
    return one;
}

bool layout_equal(const Layout *a, const Layout *b) {
    return dnnl_memory_desc_equal(a, b);
}

size_t layout_bytes(const Layout *l) {
    return dnnl_memory_desc_get_size(l);
}

int layouts_forget(Error *e) {
    (void)e;
    return 0;
}

dnnl_status_t onednn_memory(dnnl_memory_t *out, const Layout *l, dnnl_engine_t engine, void *at) {
    return dnnl_memory_create(out, l, engine, at);
}

dnnl_status_t onednn_reorder(dnnl_primitive_desc_t *out, const Layout *from, const Layout *to,
                             dnnl_engine_t engine, const_dnnl_primitive_attr_t attr) {
    return dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, attr);
}

dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0F);
}

static dnnl_status_t seek(const_dnnl_op_desc_t op, const Search *s, dnnl_primitive_desc_t *out) {
    dnnl_primitive_desc_iterator_t it = NULL;
    dnnl_status_t status =
        dnnl_primitive_desc_iterator_create(&it, op, s->attr, s->engine, s->hint);
    while (status == dnnl_success) {
        dnnl_primitive_desc_t pd = dnnl_primitive_desc_iterator_fetch(it);
        if (!pd) {
            status = dnnl_out_of_memory;
            break;
        }
        if (accepted(pd, s)) {
            *out = pd;
            break;
        }
        dnnl_primitive_desc_destroy(pd);
        status = dnnl_primitive_desc_iterator_next(it);
    }
    if (it) dnnl_primitive_desc_iterator_destroy(it);
    return status;
}

dnnl_status_t onednn_convolution(const ConvShape *s, ConvWhat what, const Search *search,
                                 dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t op;
    const Layout *bias = s->has_bias ? &s->bias : NULL;
    dnnl_dims_t stride = {s->stride[0], s->stride[1]}, before = {s->pad[0], s->pad[1]};
    dnnl_dims_t after = {s->pad[2], s->pad[3]}, between;
    dnnl_alg_kind_t direct = dnnl_convolution_direct;
    dnnl_status_t status;
    *out = NULL;
    left_out(s, between);
    if (what == CONV_DATA)
        status = dnnl_dilated_convolution_backward_data_desc_init(
            &op, direct, &s->src, &s->weights, &s->dst, stride, between, before, after);
    else if (what == CONV_WEIGHTS)
        status = dnnl_dilated_convolution_backward_weights_desc_init(
            &op, direct, &s->src, &s->weights, bias, &s->dst, stride, between, before, after);
    else
        status = dnnl_dilated_convolution_forward_desc_init(&op, forward_kind(what), direct,
                                                            &s->src, &s->weights, bias, &s->dst,
                                                            stride, between, before, after);
    return status == dnnl_success ? seek(&op, search, out) : status;
}

dnnl_status_t onednn_batchnorm(const Layout *l, float eps, bool backward, const Search *search,
                               dnnl_primitive_desc_t *out) {
    dnnl_batch_normalization_desc_t op;
    *out = NULL;
    dnnl_status_t status =
        backward
            ? dnnl_batch_normalization_backward_desc_init(&op, dnnl_backward, l, l, eps, NORM_FLAGS)
            : dnnl_batch_normalization_forward_desc_init(&op, dnnl_forward_training, l, eps,
                                                         NORM_FLAGS);
    return status == dnnl_success ? seek(&op, search, out) : status;
}

#else

/* --- version 3 --- */

/* The handles of the layouts of the plan in progress. A layout that could not be made or stored has
 * no handle. A oneDNN call with such a layout fails or sees 0 bytes, and the plan is rejected at
 * the end. */
static dnnl_memory_desc_t *kept;
static int n_kept, kept_room;
static bool lost;

static Layout keep(dnnl_status_t made, const dnnl_memory_desc_t *handle) {
    Layout l = {0};
    const dnnl_dim_t *dims;
    lost = lost || made != dnnl_success;
    if (made != dnnl_success) return l;
    if (memory_grow((void **)&kept, n_kept, &kept_room, sizeof *kept, "layouts", NULL)) {
        dnnl_memory_desc_destroy(*handle);
        lost = true;
        return l;
    }
    kept[n_kept++] = *handle;
    l.handle = *handle;
    dnnl_memory_desc_query(*handle, dnnl_query_ndims_s32, &l.ndims);
    dnnl_memory_desc_query(*handle, dnnl_query_dims, (void *)&dims);
    if (l.ndims) memcpy(l.dims, dims, (size_t)l.ndims * sizeof *dims);
    return l;
}

Layout layout_by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t handle = NULL;
    return keep(dnnl_memory_desc_create_with_tag(&handle, ndims, dims, dnnl_f32, tag), &handle);
}

Layout descriptor_layout(const_dnnl_primitive_desc_t pd, int arg) {
    const_dnnl_memory_desc_t own = dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arg);
    dnnl_memory_desc_t handle = NULL;
    if (!own) return (Layout){0};
    return keep(dnnl_memory_desc_clone(&handle, own), &handle);
}

Layout layout_of_image(const Layout *l) {
    dnnl_memory_desc_t handle = NULL;
    dnnl_dims_t dims, start = {0};
    memcpy(dims, l->dims, sizeof dims);
    dims[0] = 1;
    return keep(dnnl_memory_desc_create_submemory(&handle, l->handle, dims, start), &handle);
}

bool layout_equal(const Layout *a, const Layout *b) {
    return dnnl_memory_desc_equal(a->handle, b->handle);
}

size_t layout_bytes(const Layout *l) {
    return l->handle ? dnnl_memory_desc_get_size(l->handle) : 0;
}

int layouts_forget(Error *e) {
    for (int i = 0; i < n_kept; i++) dnnl_memory_desc_destroy(kept[i]);
    memory_free(kept);
    kept = NULL;
    n_kept = kept_room = 0;
    bool failed = lost;
    lost = false;
    if (!failed) return 0;
    error_set(e, "out of memory for a plan's layouts");
    return error_no_memory(e);
}

dnnl_status_t onednn_memory(dnnl_memory_t *out, const Layout *l, dnnl_engine_t engine, void *at) {
    return dnnl_memory_create(out, l->handle, engine, at);
}

dnnl_status_t onednn_reorder(dnnl_primitive_desc_t *out, const Layout *from, const Layout *to,
                             dnnl_engine_t engine, const_dnnl_primitive_attr_t attr) {
    return dnnl_reorder_primitive_desc_create(out, from->handle, engine, to->handle, engine, attr);
}

dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0F, 0, dnnl_data_type_undef);
}

/* Starts with the first implementation; creating the operation has already found it. */
static dnnl_status_t seek(dnnl_status_t status, dnnl_primitive_desc_t first, const Search *s,
                          dnnl_primitive_desc_t *out) {
    if (status != dnnl_success) return status;
    while (status == dnnl_success && !accepted(first, s))
        status = dnnl_primitive_desc_next_impl(first);
    if (status == dnnl_success)
        *out = first;
    else
        dnnl_primitive_desc_destroy(first);
    return status;
}

dnnl_status_t onednn_convolution(const ConvShape *s, ConvWhat what, const Search *search,
                                 dnnl_primitive_desc_t *out) {
    dnnl_primitive_desc_t first = NULL;
    const_dnnl_memory_desc_t src = s->src.handle, weights = s->weights.handle, dst = s->dst.handle;
    const_dnnl_memory_desc_t bias = s->has_bias ? s->bias.handle : NULL;
    dnnl_dims_t stride = {s->stride[0], s->stride[1]}, before = {s->pad[0], s->pad[1]};
    dnnl_dims_t after = {s->pad[2], s->pad[3]}, between;
    dnnl_alg_kind_t direct = dnnl_convolution_direct;
    dnnl_status_t status;
    *out = NULL;
    left_out(s, between);
    if (what == CONV_DATA)
        status = dnnl_convolution_backward_data_primitive_desc_create(
            &first, search->engine, direct, src, weights, dst, stride, between, before, after,
            search->hint, search->attr);
    else if (what == CONV_WEIGHTS)
        status = dnnl_convolution_backward_weights_primitive_desc_create(
            &first, search->engine, direct, src, weights, bias, dst, stride, between, before, after,
            search->hint, search->attr);
    else
        status = dnnl_convolution_forward_primitive_desc_create(
            &first, search->engine, forward_kind(what), direct, src, weights, bias, dst, stride,
            between, before, after, search->attr);
    return seek(status, first, search, out);
}

dnnl_status_t onednn_batchnorm(const Layout *l, float eps, bool backward, const Search *search,
                               dnnl_primitive_desc_t *out) {
    dnnl_primitive_desc_t first = NULL;
    *out = NULL;
    dnnl_status_t status = backward
                               ? dnnl_batch_normalization_backward_primitive_desc_create(
                                     &first, search->engine, dnnl_backward, l->handle, l->handle,
                                     l->handle, eps, NORM_FLAGS, search->hint, search->attr)
                               : dnnl_batch_normalization_forward_primitive_desc_create(
                                     &first, search->engine, dnnl_forward_training, l->handle,
                                     l->handle, eps, NORM_FLAGS, search->attr);
    return seek(status, first, search, out);
}

#endif
