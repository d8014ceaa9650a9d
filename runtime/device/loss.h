/* A loss on logits as a record, and a call of a loss. The loss of one row of logits is what the
 * attack ascends.
 *
 * A record holds the loss's name, its parameters, the least number of classes, and its value and
 * gradient in double. Each file of tensor/losses/ defines one record. A device finds its own
 * function for a loss by the name. The CPU computes a loss without such a function from the record;
 * any other device fails.
 *
 * Letters: K classes, z [K] a row of logits, t the target class in 0 .. K-1.
 */
#ifndef ADVRT_DEVICE_LOSS_H
#define ADVRT_DEVICE_LOSS_H

#include <stdbool.h>
#include <stdint.h>

enum { LOSS_PARAMETERS = 4 };

/* A parameter of a loss, which variants may change within [least, most]. */
typedef struct LossParameter {
    const char *name; /* NULL ends the list */
    double usual;     /* the default */
    double least, most;
    /* The parameter is an upper bound: value = min(parameter, f), and f does not depend on it. At
     * `most` the bound has no effect. */
    bool cuts;
} LossParameter;

typedef struct Loss {
    const char *name;
    int64_t fewest; /* least number of classes */
    LossParameter parameter[LOSS_PARAMETERS];
    /* p holds the parameters in their order. If a logit that the loss reads is NaN, the result is
     * NaN. dz [K] is the gradient of the value with respect to z, overwritten. */
    double (*value)(const double *z, int64_t t, int64_t K, const double *p);
    void (*gradient)(const double *z, int64_t t, int64_t K, const double *p, double *dz);
} Loss;

/* A loss with its parameters; unused entries of p are 0. */
typedef struct LossCall {
    const Loss *loss;
    double p[LOSS_PARAMETERS];
} LossCall;

#endif
