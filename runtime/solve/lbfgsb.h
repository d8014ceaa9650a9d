/* L-BFGS in a box, on liblbfgsb by its reverse communication: a solver
 * never calls for the function, it says at which point it wants it. So many images
 * can be minimised side by side, each its own problem, while a network takes the
 * points of all of them as one batch.
 *
 * The problem of an image is that of Szegedy et al., c ||x - x0||^2 - L(x), with L
 * what the attack ascends: its value and gradient come from outside in float, the
 * distance and all of the solver's work are in double.
 *
 * A solver's state is its own, so solvers may run in several threads; the BLAS
 * below is kept to one thread, and an image's numbers depend on neither.
 */
#ifndef ADVRT_SOLVE_LBFGSB_H
#define ADVRT_SOLVE_LBFGSB_H

#include "tensor/tensor.h"

typedef struct Lbfgsb Lbfgsb;

typedef enum LbfgsbState {
    LBFGSB_IDLE,      /* before the first start */
    LBFGSB_RUNNING,   /* wants the function at its point */
    LBFGSB_CONVERGED, /* its point is the minimiser, to the tolerances */
    LBFGSB_STOPPED    /* no lower value was found along its direction: rounding decides here */
} LbfgsbState;

typedef struct LbfgsbOptions {
    int memory;       /* corrections kept, 1 .. 100 */
    double tolerance; /* ends where a step lowers the value by less than this part of it */
    double gradient;  /* ends where no element of the projected gradient is larger */
} LbfgsbOptions;

/* A solver for D numbers; (2 memory + 9) D doubles, about. On failure *out is NULL. */
int lbfgsb_new(Lbfgsb **out, int64_t D, const LbfgsbOptions *options, Error *e);
void lbfgsb_free(Lbfgsb *s);
/* Starts from x = x0, f32 [...] of D elements in the box, which is copied as its sides are: f32 of
 * D elements each; both NULL: from 0 to 1. */
int lbfgsb_start(Lbfgsb *s, const Tensor *x0, const Tensor *low, const Tensor *high, Error *e);

/* A batch: image n belongs to solver n. */
typedef struct LbfgsbBatch {
    const Tensor *x;     /* f32 [N,...] of D elements each: the points, rounded to float */
    const Tensor *q;     /* f32 like x: the gradient of L at the points */
    const Tensor *value; /* f32 [N]: L at the points */
    const Tensor *c;     /* f64 [N]; an image whose c is 0 stays as it is */
    const Tensor *l2;    /* f64 [N]: ||x - x0|| of the rounded points, of the images that moved */
    const Tensor *state; /* i64 [N]: the LbfgsbState of the images that moved */
} LbfgsbBatch;

/* Tells each solver that moves the function at its point, and takes its next one: where the state
 * is no longer RUNNING, the last. A solver that moves must be RUNNING. */
int lbfgsb_advance(Lbfgsb *const *solvers, const LbfgsbBatch *b, Error *e);

#endif
