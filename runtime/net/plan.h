/* Plans for networks. A graph becomes a program (net/program.h); a device lowers the program into a
 * plan (device/plan.h), which it can run. */
#ifndef ADVRT_NET_PLAN_H
#define ADVRT_NET_PLAN_H

#include "device/plan.h"
#include "net/graph.h"

int plan_new(const Graph *g, Device *d, const PlanRequest *r, Plan **out, Error *e);
/* The bytes of device memory that a plan would take, and how many are free; both 0 on a device
 * without its own memory. Fails as plan_new does, except for lack of that memory. */
int plan_size(const Graph *g, Device *d, const PlanRequest *r, size_t *bytes, size_t *free,
              Error *e);

#endif
