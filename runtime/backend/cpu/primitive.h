/* oneDNN in this device's terms: memory layouts, primitive descriptors chosen
 * without reference implementations, and errors as one line. With lower.h's
 * emitters it is where oneDNN's calls for plans stand.
 */
#ifndef ADVRT_DEVICE_CPU_PRIMITIVE_H
#define ADVRT_DEVICE_CPU_PRIMITIVE_H

#include "base/error.h"
#include "backend/cpu/onednn.h"

/* 0, or -1 with "oneDNN: WHAT: status". */
int onednn_check(dnnl_status_t status, const char *what, Error *e);

/* f32 layouts: [N,C,H,W] in plain order; in blocks of 16, 8 or 1 channels (1 is the plain order),
 * the rest of the last block zero; channels last; [N,C]; a vector; and one that leaves the choice
 * to oneDNN. */
Layout layout_plain(int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_channels_last(int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_blocked(int block, int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_flat(int64_t N, int64_t C);
Layout layout_vector(int64_t C);
/* A convolution's weights [K, C/G, R, S] from C to K channels as stored in the graph, or left
 * open. */
Layout layout_weights(int64_t G, int64_t C, int64_t K, const int64_t kernel[2], bool open);
Layout layout_open(const Layout *l);
/* The same bytes, or null, seen as [N,C,1,1] or [N,C]. */
bool layout_same(const Layout *a, const Layout *b);
/* Channels in a block of a layout that the device's own kernels can walk: [N][blocks][H][W][block].
 * 1 for [N,C]; 0 for every other layout. */
int layout_block(const Layout *l);

/* What follows a forward primitive in the same pass: dst = dst_before + result. A ReLU is none of
 * it: oneDNN's makes 0 of NaN. */
typedef struct PostOps {
    bool sum;
} PostOps;

/* Creates the descriptor of the fastest implementation that is not a reference one; with
 * `any_implementation` a reference one too. Returns 0 with *out NULL where there is none. The hint
 * is a forward descriptor for backward kinds. */
int conv_descriptor(dnnl_engine_t engine, const ConvShape *s, ConvWhat what, const PostOps *post,
                    dnnl_primitive_desc_t hint, bool any_implementation, dnnl_primitive_desc_t *out,
                    Error *e);
/* The same for batch norm in training, of any implementation. */
int batchnorm_descriptor(dnnl_engine_t engine, const Layout *l, double eps, bool backward,
                         dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out, Error *e);
/* True for convolutions by matrix products, which share a batch out among threads in pieces that
 * cut through images, so that an image's bits depend on its place. */
bool descriptor_cuts_images(dnnl_primitive_desc_t pd);

/* Copies host data between layouts at once. */
int reorder_now(dnnl_engine_t engine, dnnl_stream_t stream, const Layout *from, const void *in,
                const Layout *to, void *out, Error *e);

#endif
