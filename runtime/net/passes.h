/* The passes between a network's graph and a device: what a plan really has to
 * compute. A program is a list of nodes, each one layer of the graph with what was
 * fused into it:
 *
 *   value = activation(layer(inputs) [batch norm folded] + residual)
 *
 * Passes know nothing of devices. For inference purposes dropout and pooling to
 * the same grid vanish, batch norm is folded into the convolution or linear layer
 * before it (else it becomes a channel-wise affine map), a sum is fused into the
 * convolution that makes its later term, and ReLU into whatever makes its input. For
 * training only what does nothing vanishes.
 */
#ifndef ADVRT_NET_PASSES_H
#define ADVRT_NET_PASSES_H

#include "net/plan.h"

typedef struct Node {
    const Layer *layer;
    int input[2], inputs; /* nodes whose values it reads */
    int batchnorm;        /* layer folded into a convolution or linear layer, or -1 */
    int residual;         /* node whose value is added before the activation, or -1: it has no
                             reader after this node, so its memory may become this one's */
    bool relu;            /* min(max(v, 0), cap) follows: fused, not a ReLU layer of its own */
    bool mask;            /* the gradient is masked where the value is not in (0, cap) */
    double cap;
    int readers; /* how many nodes read the value, residual sums counted */
} Node;

typedef struct Program {
    const Graph *graph;
    Node *nodes; /* node 0 is the input; the last one makes the logits */
    int n;
} Program;

int program_new(Program **out, const Graph *g, PlanPurpose purpose, Error *e);
void program_free(Program *p);

/* A convolution's or linear layer's weight and bias in the graph's layout with the batch norm
 * folded in: w' = w gamma / sqrt(var + eps), b' = (b - mean) gamma / sqrt(var + eps) + beta, in
 * double, rounded once. weight has room for the parameter's elements, bias for C (zeros where there
 * is none). Fails where weights have not been loaded. */
int node_weights(const Program *p, const Node *node, float *weight, float *bias, Error *e);
/* A batch norm that stands alone: scale[C] and shift[C]. */
int node_affine(const Program *p, const Node *node, float *scale, float *shift, Error *e);

#endif
