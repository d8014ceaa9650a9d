/* oneDNN in this device's terms: memory layouts, primitive descriptors chosen without reference
 * implementations, and errors in one line. Only this file and the emitters of lower.h call oneDNN
 * for plans.
 */
#ifndef ADVRT_DEVICE_CPU_PRIMITIVE_H
#define ADVRT_DEVICE_CPU_PRIMITIVE_H

#include "base/error.h"
#include "backend/cpu/onednn.h"

/* 0, or -1 with "oneDNN: WHAT: status". */
int onednn_check(dnnl_status_t status, const char *what, Error *e);

/* f32 layouts: contiguous [N,C,H,W]; blocks of 16, 8 or 1 channels (1 is contiguous), with zeros
 * after the last channel; channels last; [N,C]; a vector; and one that leaves the choice to
 * oneDNN. */
Layout layout_plain(int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_channels_last(int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_blocked(int block, int64_t N, int64_t C, int64_t H, int64_t W);
Layout layout_flat(int64_t N, int64_t C);
Layout layout_vector(int64_t C);
/* The layout of convolution weights [K, C/G, R, S] from C to K channels: as in the graph, or, if
 * `open`, left to oneDNN. */
Layout layout_weights(int64_t G, int64_t C, int64_t K, const int64_t kernel[2], bool open);
Layout layout_open(const Layout *l);
/* Whether both layouts have the same bytes in the same order; [N,C] equals [N,C,1,1]. */
bool layout_same(const Layout *a, const Layout *b);
/* Channels per block of a layout that the device's own kernels can read: [N][blocks][H][W][block].
 * 1 for [N,C]; 0 for every other layout. */
int layout_block(const Layout *l);

/* Work after a forward primitive in the same pass: dst = dst_before + result. ReLU is not included:
 * oneDNN's makes 0 of NaN. */
typedef struct PostOps {
    bool sum;
} PostOps;

/* Creates the descriptor of the fastest implementation that is not a reference one;
 * `any_implementation` allows a reference one too. Returns 0 with *out NULL if there is none. The
 * hint is a forward descriptor for backward kinds. */
int conv_descriptor(dnnl_engine_t engine, const ConvShape *s, ConvWhat what, const PostOps *post,
                    dnnl_primitive_desc_t hint, bool any_implementation, dnnl_primitive_desc_t *out,
                    Error *e);
/* The same for batch norm in training, of any implementation. */
int batchnorm_descriptor(dnnl_engine_t engine, const Layout *l, double eps, bool backward,
                         dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out, Error *e);
/* True for convolutions by matrix products. They split a batch among threads in pieces that cut
 * through images, so an image's bits would depend on its index. */
bool descriptor_cuts_images(dnnl_primitive_desc_t pd);

/* Copies host data between layouts at once. */
int reorder_now(dnnl_engine_t engine, dnnl_stream_t stream, const Layout *from, const void *in,
                const Layout *to, void *out, Error *e);

#endif
