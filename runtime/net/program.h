/* From a network's graph to the program that a plan computes (device/program.h).
 *
 * Each layer's rule emits its primitives. For inference a batch norm is then folded into the
 * convolution or linear layer before it, and sums and ReLUs are fused into what makes their input.
 * The gradient's primitives follow: each primitive's rule emits them, from the last one back, and
 * sums and masks are fused there too. Nothing here knows a device.
 */
#ifndef ADVRT_NET_PROGRAM_H
#define ADVRT_NET_PROGRAM_H

#include "device/plan.h"
#include "net/graph.h"

/* The program keeps pointers into the graph. `rounds`: the device makes bf16's numbers with f32's
 * instructions, so the program says where numbers are rounded (OP_ROUND). */
int program_new(Program **out, const Graph *g, const PlanRequest *r, bool rounds, Error *e);
void program_free(Program *p);

#endif
