/* L-BFGS in a box, on liblbfgsb by reverse communication: the solver returns the point at which it
 * needs the function. So a network can evaluate the points of many independent problems as one
 * batch.
 *
 * The problem of an image is that of Szegedy et al., c ||x - x0||^2 - L(x), where the attack
 * ascends L. The caller computes L and its gradient in float. The distance and all of the solver's
 * arithmetic are in double.
 *
 * Each solver has its own state, so solvers may run in several threads. BLAS is limited to one
 * thread. An image's numbers depend on neither.
 */
#ifndef ADVRT_SOLVE_LBFGSB_H
#define ADVRT_SOLVE_LBFGSB_H

#include "tensor/tensor.h"

typedef struct Lbfgsb Lbfgsb;

typedef enum LbfgsbState {
    LBFGSB_IDLE,      /* before the first start */
    LBFGSB_RUNNING,   /* needs the function at its point */
    LBFGSB_CONVERGED, /* its point is the minimiser, to the tolerances */
    LBFGSB_STOPPED    /* no lower value along its direction: the limit of rounding */
} LbfgsbState;

typedef struct LbfgsbOptions {
    int memory;       /* corrections kept, 1 .. 100 */
    double tolerance; /* stops when a step lowers the value by less than this fraction */
    double gradient;  /* stops when no element of the projected gradient is larger */
} LbfgsbOptions;

/* A solver for D numbers takes about (2 memory + 9) D doubles. On failure *out is NULL. */
int lbfgsb_new(Lbfgsb **out, int64_t D, const LbfgsbOptions *options, Error *e);
void lbfgsb_free(Lbfgsb *s);
/* Starts at x = x0, f32 [...] of D elements in the box. x0 and the bounds low and high, f32 of D
 * elements each, are copied; both NULL: from 0 to 1. */
int lbfgsb_start(Lbfgsb *s, const Tensor *x0, const Tensor *low, const Tensor *high, Error *e);

/* A batch: image n belongs to solver n. */
typedef struct LbfgsbBatch {
    const Tensor *x;     /* f32 [N,...] of D elements each: the points, rounded to float */
    const Tensor *q;     /* f32 like x: the gradient of L at the points */
    const Tensor *value; /* f32 [N]: L at the points */
    const Tensor *c;     /* f64 [N]; c = 0 skips the image */
    const Tensor
        *l2; /* f64 [N]: ||x - x0|| of the rounded points; skipped images keep their value */
    const Tensor *state; /* i64 [N]: the LbfgsbState; skipped images keep theirs */
} LbfgsbBatch;

/* Gives each solver with c != 0 the function at its point, and takes its next point (its last, if
 * the state is no longer RUNNING). Such a solver must be RUNNING. */
int lbfgsb_advance(Lbfgsb *const *solvers, const LbfgsbBatch *b, Error *e);

#endif
