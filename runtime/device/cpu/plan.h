/* The compiled plan and its machinery, shared by plan.c (making and running it) and
 * compile.c (emitting its steps). Lowerings see compile.h only. */
#ifndef ADVRT_DEVICE_CPU_PLAN_H
#define ADVRT_DEVICE_CPU_PLAN_H

#include "device/cpu/compile.h"

/* Where a step reads an address that the caller gives anew at every run. */
typedef struct OutsideUse {
    int buffer, step, slot;
    size_t offset;
} OutsideUse;

struct CpuPlan {
    Plan base; /* first */
    const CpuKernels *kernels;
    Step *steps;
    int n_steps, steps_room, n_forward;
    Buffer *buffers;
    int n_buffers, buffers_room;
    OutsideUse *uses;
    int n_uses, uses_room;
    void **owned; /* memory given back with the plan */
    int n_owned, owned_room;
    char *arena;
    size_t arena_bytes;
    void *outside[BUFFERS_OUTSIDE];
    int *param_buffer; /* [n_params] of a training plan, NO_BUFFER where it has no gradient */
    int n_params;
    uint64_t runs;   /* forwards so far: dropout's place in its stream */
    bool traced;     /* a forward has run whose backward has not */
    double *seconds; /* [n_steps] once steps have been timed */
    bool timed;      /* they are now */
};

#endif
