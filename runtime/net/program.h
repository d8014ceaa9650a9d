/* Turns a network's graph into the program that a plan computes (device/program.h).
 *
 * Each layer's rule emits its primitives. For inference, a batch norm is then folded into the
 * convolution or linear layer before it; sums and ReLUs are fused into the op that makes their
 * input. Each primitive's rule then emits its gradient, from the last primitive to the first. Sums
 * and masks are fused there too. This module does not depend on a device.
 */
#ifndef ADVRT_NET_PROGRAM_H
#define ADVRT_NET_PROGRAM_H

#include "device/plan.h"
#include "net/graph.h"

/* The program keeps pointers into the graph. `rounds`: the device emulates bf16 with f32
 * instructions, so the program says where to round (OP_ROUND). */
int program_new(Program **out, const Graph *g, const PlanRequest *r, bool rounds, Error *e);
void program_free(Program *p);

#endif
