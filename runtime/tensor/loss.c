#include "tensor/loss.h"

#include <inttypes.h>
#include <string.h>

#define LOSS(name) extern const Loss loss_##name;
#include "losses.inc"
#undef LOSS

#define LOSS(name) &loss_##name,
static const Loss *const losses[] = {
#include "losses.inc"
    NULL};
#undef LOSS

const Loss *loss_at(int i) {
    return losses[i];
}

const Loss *loss_find(const char *name) {
    for (int i = 0; losses[i]; i++)
        if (strcmp(losses[i]->name, name) == 0) return losses[i];
    return NULL;
}

LossCall loss_usual(const Loss *loss) {
    LossCall call = {.loss = loss};
    for (int i = 0; i < LOSS_PARAMETERS && loss->parameter[i].name; i++)
        call.p[i] = loss->parameter[i].usual;
    return call;
}

int loss_check(const LossCall *call, int64_t K, Error *e) {
    const Loss *loss = call->loss;
    for (int i = 0; i < LOSS_PARAMETERS && loss->parameter[i].name; i++) {
        const LossParameter *p = &loss->parameter[i];
        if (!(call->p[i] >= p->least && call->p[i] <= p->most))
            return error_set(e, "%s: %s must be a number from %g to %g, got %g", loss->name,
                             p->name, p->least, p->most, call->p[i]);
    }
    if (K < loss->fewest)
        return error_set(e, "%s needs at least %" PRId64 " classes, got %" PRId64, loss->name,
                         loss->fewest, K);
    return 0;
}
