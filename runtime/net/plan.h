/* Plans for networks: the graph becomes a program (net/program.h), the program a device's plan
 * (device/plan.h, which says what a plan is and runs it). */
#ifndef ADVRT_NET_PLAN_H
#define ADVRT_NET_PLAN_H

#include "device/plan.h"
#include "net/graph.h"

int plan_new(const Graph *g, Device *d, const PlanRequest *r, Plan **out, Error *e);
/* Bytes of the device's own memory that such a plan would take, and how many are free; both 0 where
 * the device has none of its own. Fails as plan_new does, but not for want of that memory. */
int plan_size(const Graph *g, Device *d, const PlanRequest *r, size_t *bytes, size_t *free,
              Error *e);

#endif
