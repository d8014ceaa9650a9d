/* Projects a point onto a hyperplane within a box, in the norm 2 or inf. FAB uses it for each step.
 * The problem of an image is
 *
 *     minimise ||z - x||_p   subject to   c + <w, z - at> = 0,   low <= z <= high
 *
 * (Croce & Hein, arXiv:1907.02044, Eq. 3). It is solved in double on the host for every device. If
 * the plane misses the box, z is the point of the box with the least residual: every element with
 * w_i != 0 lies on the box.
 *
 * Images are independent; the number of threads changes no result.
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
