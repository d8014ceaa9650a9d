/* oneDNN in this device's terms: memory layouts, primitive descriptors chosen
 * without reference implementations, and errors as one line. With compile.h's
 * emitters it is where oneDNN's calls for plans stand.
 */
#ifndef ADVRT_DEVICE_CPU_PRIMITIVE_H
#define ADVRT_DEVICE_CPU_PRIMITIVE_H

#include "base/error.h"
#include "device/cpu/onednn.h"
#include "net/graph.h"

typedef dnnl_memory_desc_t Layout;

/* 0, or -1 with "oneDNN: WHAT: status". */
int onednn_check(dnnl_status_t status, const char *what, Error *e);

/* f32 layouts: [N,C,H,W] in plain order; blocked by `block` channels, the rest of the last block
 * zero; [N,C]; a vector; and one that leaves the choice to oneDNN. */
Layout layout_plain(int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_blocked(int block, int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_flat(int64_t N, int64_t C);
Layout layout_vector(int64_t C);
/* A convolution's weights [K, C/groups, R, S] as stored in the graph, or left open. */
Layout layout_weights(const Layer *l, int64_t C, bool open);
Layout layout_open(const Layout *l);
/* The same bytes, or null, seen as [N,C,1,1] or [N,C]. */
bool layout_same(const Layout *a, const Layout *b);
size_t layout_bytes(const Layout *l);
/* Channels in a block: 1 for plain and flat layouts. */
int layout_block(const Layout *l);

/* What a convolution is made of; bias may be NULL. pad is top, left, bottom, right. */
typedef struct ConvShape {
    Layout src, weights, bias, dst;
    bool has_bias;
    int64_t stride[2], pad[4];
} ConvShape;

typedef enum ConvWhat { CONV_FORWARD, CONV_TRAIN, CONV_DATA, CONV_WEIGHTS } ConvWhat;

/* What follows a forward primitive in the same pass: dst = relu(dst_before + result). */
typedef struct PostOps {
    bool sum, relu;
    double cap;
} PostOps;

/* Creates the descriptor of the fastest implementation that is not a reference one; with
 * `any_implementation` a reference one too. Returns 0 with *out NULL where there is none. The hint
 * is a forward descriptor for backward kinds. */
int conv_descriptor(dnnl_engine_t engine, const ConvShape *s, ConvWhat what, bool winograd,
                    const PostOps *post, dnnl_primitive_desc_t hint, bool any_implementation,
                    dnnl_primitive_desc_t *out, Error *e);
/* The same for any operation descriptor. */
int best_descriptor(dnnl_engine_t engine, const_dnnl_op_desc_t op, const PostOps *post,
                    dnnl_primitive_desc_t hint, bool any_implementation, dnnl_primitive_desc_t *out,
                    Error *e);
/* True for convolutions by matrix products, which share a batch out among threads in pieces that
 * cut through images, so that an image's bits depend on its place. */
bool descriptor_cuts_images(dnnl_primitive_desc_t pd);
/* One image of a batch's layout. */
Layout layout_of_image(const Layout *l);
/* The layout that a descriptor wants for an argument (DNNL_ARG_...). */
Layout descriptor_layout(dnnl_primitive_desc_t pd, int arg);

/* Copies host data between layouts at once. */
int reorder_now(dnnl_engine_t engine, dnnl_stream_t stream, const Layout *from, const void *in,
                const Layout *to, void *out, Error *e);

#endif
