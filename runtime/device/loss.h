/* A loss on logits as a record, and a call of one: what the attack ascends, of one row of logits.
 *
 * A record says what a loss is: its name, its parameters, the fewest classes that it makes sense
 * with, and its value and gradient in double. The records are in tensor/losses/, a file each. A
 * device has a function of its own for each loss, and finds it by the name. The CPU computes a loss
 * that it has no function for from the record; another device refuses it.
 *
 * Letters: K classes, z [K] a row of logits, t the target class in 0 .. K-1.
 */
#ifndef ADVRT_DEVICE_LOSS_H
#define ADVRT_DEVICE_LOSS_H

#include <stdbool.h>
#include <stdint.h>

enum { LOSS_PARAMETERS = 4 };

/* A number that variants of a loss may change, in [least, most]. */
typedef struct LossParameter {
    const char *name; /* NULL: no parameter, and none after it */
    double usual;     /* the default */
    double least, most;
    /* The value is the smaller of this number and a function that knows nothing of it; at `most`
     * nothing is cut off. */
    bool cuts;
} LossParameter;

typedef struct Loss {
    const char *name;
    int64_t fewest; /* classes */
    LossParameter parameter[LOSS_PARAMETERS];
    /* p holds the parameters in their order. NaN where a logit is NaN that counts. dz [K] is the
     * gradient of the value with respect to z, overwritten. */
    double (*value)(const double *z, int64_t t, int64_t K, const double *p);
    void (*gradient)(const double *z, int64_t t, int64_t K, const double *p, double *dz);
} Loss;

/* A loss with its parameters; those that it does not have are 0. */
typedef struct LossCall {
    const Loss *loss;
    double p[LOSS_PARAMETERS];
} LossCall;

#endif
