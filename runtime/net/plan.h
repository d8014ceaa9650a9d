/* A plan: a graph compiled for one batch size and one purpose on one device. It
 * owns its arena and its own form of the weights; a step allocates nothing.
 *
 *   forward   x -> logits
 *   gradient  x -> logits, then dz -> dx, the gradient with respect to x. Inference
 *             mode: batch norm uses its running statistics and is folded away.
 *   training  x -> logits with batch statistics and dropout, then dz -> the gradient of
 *             every parameter; running statistics are updated in the graph's tensors.
 *
 * A run and the making of a plan end at the user's interrupt (base/interrupt.h) between two steps.
 * What the run was to write is then undefined, and a training plan has updated the running
 * statistics of the layers that it came through; the plan itself is whole.
 *
 * A training plan reads the weights from the graph's tensors at every forward. The other two
 * may keep copies of some: where weights have changed, make a new plan.
 */
#ifndef ADVRT_NET_PLAN_H
#define ADVRT_NET_PLAN_H

#include "net/graph.h"

typedef enum PlanPurpose { PLAN_FORWARD, PLAN_GRADIENT, PLAN_TRAINING } PlanPurpose;

/* What products are made of: f32; mixed: f32 forward, bf16 backward; bf16: both; tf32: f32 rounded
 * to 10 bits of mantissa. Sums are f32's in any case, and so are x, z, dz and dx. Training is f32.
 */
typedef enum PlanPrecision { PLAN_F32, PLAN_MIXED, PLAN_BF16, PLAN_TF32 } PlanPrecision;

typedef struct PlanRequest {
    PlanPurpose purpose;
    int64_t N;   /* images in a batch */
    bool direct; /* no Winograd */
    PlanPrecision precision;
    uint64_t seed; /* dropout's stream */
    uint64_t runs; /* forwards that count as done: dropout's place in its stream */
    Group *group;  /* training: the N images are rank's part of a batch that all ranks share, whose
                    * statistics batch norm takes; the parameters' gradients are not summed. NULL:
                    * the batch is whole */
    int64_t first, whole; /* with a group: the part is the images first .. first + N - 1 of the
                           * shared batch's `whole` */
} PlanRequest;

/* Where a plan's time goes: one step of it. */
typedef struct PlanTiming {
    const char *what;  /* "conv", "mask", ... */
    const char *layer; /* the layer's name */
    bool backward;
    int64_t bytes;  /* of memory that a run of it touches: each of its buffers once */
    double seconds; /* over all runs since timing began */
} PlanTiming;

struct Plan {
    Device *device;
    PlanRequest request;
    int64_t C, H, W, K; /* input shape, number of logits */

    /* x [N,C,H,W] -> z [N,K], device memory. */
    int (*forward)(Plan *p, const float *x, float *z, Error *e);
    /* dz [N,K] -> dx [N,C,H,W] at the last forward's x; as often as wanted. Gradient plans only. */
    int (*backward)(Plan *p, const float *dz, float *dx, Error *e);
    /* dz [N,K] -> the gradient of every parameter; uses the last forward up. Training plans only.
     */
    int (*train_backward)(Plan *p, const float *dz, Error *e);
    /* The gradient of parameter i in the graph's own layout; NULL where it has none
     * (running statistics). Valid until the next backward. Training plans only. */
    float *(*gradient_of)(Plan *p, int param);
    /* Starts (from zero) or ends timing every step; while it is on, a step costs a clock's reading.
     */
    int (*time)(Plan *p, bool on, Error *e);
    /* Step i of what has been timed; false past the last. */
    bool (*timing)(Plan *p, int i, PlanTiming *out);
    void (*free)(Plan *p);
};

int plan_new(const Graph *g, Device *d, const PlanRequest *r, Plan **out, Error *e);
/* Bytes of the device's own memory that such a plan would take, and how many are free; both 0 where
 * the device has none of its own. Fails as plan_new does, but not for want of that memory. */
int plan_size(const Graph *g, Device *d, const PlanRequest *r, size_t *bytes, size_t *free,
              Error *e);

#endif
