/* oneDNN 2 or 3, told apart when this is compiled: the one place that knows what differs between
 * them. Every file of this folder that calls oneDNN includes this header and no other of its.
 *
 * Version 2 describes memory by a struct and makes a primitive's descriptor from an operation's;
 * in version 3 both are handles, and an operation is a call's arguments. So memory is a Layout
 * here, to be copied and kept at will while a plan is being made, and there is a function for each
 * operation that plans ask for. It chooses and remembers nothing else: rules are in primitive.c
 * and the lowerings. oneDNN's own Winograd, which version 3 has none of in f32, is never asked for.
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

/* How a tensor lies in memory: ndims and dims may be read. BATCHNORM_BACK_SHIFT: whether batch
 * norm's backward must be given the shift, which it has no use for. */
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

/* f32 in the order of a tag; what a descriptor wants for an argument (DNNL_ARG_...), of no bytes
 * where it takes none; the first of the images of a batch. Of these, in version 3, layouts are
 * handles that last until layouts_forget. */
Layout layout_by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag);
Layout descriptor_layout(const_dnnl_primitive_desc_t pd, int arg);
Layout layout_of_image(const Layout *l);
bool layout_equal(const Layout *a, const Layout *b);
size_t layout_bytes(const Layout *l);
/* Called when a plan has been made, or could not be: 0, or -1 with the error set where a layout
 * was lost for want of memory since the call before, and the plan is not to be used. */
int layouts_forget(Error *e);

dnnl_status_t onednn_memory(dnnl_memory_t *out, const Layout *l, dnnl_engine_t engine, void *at);
dnnl_status_t onednn_reorder(dnnl_primitive_desc_t *out, const Layout *from, const Layout *to,
                             dnnl_engine_t engine, const_dnnl_primitive_attr_t attr);

/* The post-op dst = dst_before + result. */
dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops);

/* How an operation's implementation is sought: the first, and so the fastest, that is not a
 * reference one unless `any`. The hint is a forward descriptor for backward kinds. */
typedef struct Search {
    dnnl_engine_t engine;
    const_dnnl_primitive_attr_t attr;
    const_dnnl_primitive_desc_t hint;
    bool any;
} Search;

/* What a convolution is made of. pad is top, left, bottom, right; a dilation of 0 is 1. */
typedef struct ConvShape {
    Layout src, weights, bias, dst;
    bool has_bias;
    int64_t stride[2], pad[4], dilation[2];
} ConvShape;

typedef enum ConvWhat { CONV_FORWARD, CONV_TRAIN, CONV_DATA, CONV_WEIGHTS } ConvWhat;

/* Direct convolution; batch norm in training, with scale and shift, or its backward, with x, y and
 * their gradients in one layout. *out is NULL, whatever the status, where none was found. */
dnnl_status_t onednn_convolution(const ConvShape *s, ConvWhat what, const Search *search,
                                 dnnl_primitive_desc_t *out);
dnnl_status_t onednn_batchnorm(const Layout *l, float eps, bool backward, const Search *search,
                               dnnl_primitive_desc_t *out);
/* The name of a descriptor's implementation. */
const char *onednn_implementation(const_dnnl_primitive_desc_t pd);

#endif
