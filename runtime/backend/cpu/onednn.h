/* Hides the differences between oneDNN 2 and 3, which are resolved at compile time. Every file of
 * this folder that calls oneDNN includes this header and no header of oneDNN.
 *
 * Version 2 describes memory by a struct and makes a primitive's descriptor from an operation's. In
 * version 3 both are handles, and an operation is the arguments of a call. Here, memory is a Layout
 * that can be copied and stored freely while a plan is being made, and each operation of a plan has
 * a function. Nothing else is here: the rules are in primitive.c and the lowerings. oneDNN's own
 * Winograd is never requested; version 3 has none in f32.
 */
#ifndef ADVRT_DEVICE_CPU_ONEDNN_H
#define ADVRT_DEVICE_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl_version.h>

#if DNNL_VERSION_MAJOR < 2
#error "advrt builds against oneDNN 2.x or 3.x (Debian: libdnnl-dev); found an older one"
#elif DNNL_VERSION_MAJOR > 3
#error "advrt builds against oneDNN 2.x or 3.x (Debian: libdnnl-dev); found a newer one"
#endif

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The layout of a tensor; other files may read ndims and dims. BATCHNORM_BACK_SHIFT: whether batch
 * norm's backward must receive the shift, although it does not use it. */
#if DNNL_VERSION_MAJOR == 2
typedef dnnl_memory_desc_t Layout;
enum { BATCHNORM_BACK_SHIFT = true };
#else
enum { BATCHNORM_BACK_SHIFT = false };
typedef struct Layout {
    int ndims;
    dnnl_dims_t dims;
    const_dnnl_memory_desc_t handle;
} Layout;
#endif

/* layout_by_tag: f32 in the order of a tag. descriptor_layout: the layout that a descriptor needs
 * for an argument (DNNL_ARG_...), with 0 bytes if it takes none. layout_of_image: the first image
 * of a batch. In version 3 these layouts are handles that live until layouts_forget. */
Layout layout_by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag);
Layout descriptor_layout(const_dnnl_primitive_desc_t pd, int arg);
Layout layout_of_image(const Layout *l);
bool layout_equal(const Layout *a, const Layout *b);
size_t layout_bytes(const Layout *l);
/* Call this after a plan was made, or could not be made. Returns 0, or -1 with the error set if
 * lack of memory lost a layout since the last call; do not use the plan then. */
int layouts_forget(Error *e);

dnnl_status_t onednn_memory(dnnl_memory_t *out, const Layout *l, dnnl_engine_t engine, void *at);
dnnl_status_t onednn_reorder(dnnl_primitive_desc_t *out, const Layout *from, const Layout *to,
                             dnnl_engine_t engine, const_dnnl_primitive_attr_t attr);

/* The post-op dst = dst_before + result. */
dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops);

/* How to find an operation's implementation: the first (so the fastest) that is not a reference
 * one, unless `any`. The hint is a forward descriptor for backward kinds. */
typedef struct Search {
    dnnl_engine_t engine;
    const_dnnl_primitive_attr_t attr;
    const_dnnl_primitive_desc_t hint;
    bool any;
} Search;

/* The arguments of a convolution. pad is top, left, bottom, right; a dilation of 0 means 1. */
typedef struct ConvShape {
    Layout src, weights, bias, dst;
    bool has_bias;
    int64_t stride[2], pad[4], dilation[2];
} ConvShape;

typedef enum ConvWhat { CONV_FORWARD, CONV_TRAIN, CONV_DATA, CONV_WEIGHTS } ConvWhat;

/* Direct convolution. Batch norm in training, with scale and shift. Its backward, with x, y and
 * their gradients in one layout. *out is NULL if none was found, for any status. */
dnnl_status_t onednn_convolution(const ConvShape *s, ConvWhat what, const Search *search,
                                 dnnl_primitive_desc_t *out);
dnnl_status_t onednn_batchnorm(const Layout *l, float eps, bool backward, const Search *search,
                               dnnl_primitive_desc_t *out);
/* The name of a descriptor's implementation. */
const char *onednn_implementation(const_dnnl_primitive_desc_t pd);

#endif
