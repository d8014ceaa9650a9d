/* The nearest point of a hyperplane within a box, in the norm 2 or inf: what FAB takes each step
 * to. The problem of an image is
 *
 *     minimise ||z - x||_p   subject to   c + <w, z - at> = 0,   low <= z <= high
 *
 * (Croce & Hein, arXiv:1907.02044, Eq. 3), solved in double on the host, whatever the device. Where
 * the plane does not meet the box, z is the box's point that comes nearest to satisfying the
 * equation: every element that w moves lies on its side of the box.
 *
 * Images are independent, and their numbers depend on no number of threads.
 */
#ifndef ADVRT_SOLVE_PLANE_H
#define ADVRT_SOLVE_PLANE_H

#include "tensor/tensor.h"

typedef enum PlaneNorm { PLANE_L2, PLANE_LINF } PlaneNorm;

typedef struct PlaneBatch {
    const Tensor *x;          /* f32 [N,...] in the box */
    const Tensor *w;          /* f32 like x */
    const Tensor *at;         /* f32 like x */
    const Tensor *c;          /* f64 [N] */
    const Tensor *low, *high; /* f32 of an image's elements; both NULL: from 0 to 1 */
    const Tensor *z;          /* f32 like x, overwritten; may be x */
    const Tensor *distance;   /* f64 [N], overwritten: ||z - x|| before z is rounded to float */
} PlaneBatch;

int plane_project(const PlaneBatch *b, PlaneNorm norm, Error *e);

#endif
