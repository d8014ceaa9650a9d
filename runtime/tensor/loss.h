/* The records of the losses on logits (device/loss.h), and checked calls of them. Each file of
 * tensor/losses/ defines one record, `const Loss loss_NAME`. */
#ifndef ADVRT_TENSOR_LOSS_H
#define ADVRT_TENSOR_LOSS_H

#include "base/error.h"
#include "device/loss.h"

/* Loss number i in the order of the names; NULL past the last one. */
const Loss *loss_at(int i);
/* The loss with this name; NULL if there is none. */
const Loss *loss_find(const char *name);
/* A call with the loss's default parameters. */
LossCall loss_usual(const Loss *loss);
/* Fails unless each parameter is in its range and the loss accepts K classes. */
int loss_check(const LossCall *call, int64_t K, Error *e);

#endif
