/* The records of the losses on logits (device/loss.h), and checked calls of them. The list is that
 * of the files of tensor/losses/: each defines `const Loss loss_NAME`. */
#ifndef ADVRT_TENSOR_LOSS_H
#define ADVRT_TENSOR_LOSS_H

#include "base/error.h"
#include "device/loss.h"

/* Loss number i, in the order of the names; NULL past the last one. */
const Loss *loss_at(int i);
/* The loss of a name; NULL where there is none. */
const Loss *loss_find(const char *name);
/* A call with the loss's defaults. */
LossCall loss_usual(const Loss *loss);
/* Whether each parameter is in its range and K classes are enough. */
int loss_check(const LossCall *call, int64_t K, Error *e);

#endif
