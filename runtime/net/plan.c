#include "net/plan.h"

#include "net/passes.h"

/* The program of a request that can be met. */
static int program_of(const Graph *g, const Device *d, const PlanRequest *r, Program **out,
                      Error *e) {
    const Layer *last = &g->layers[g->n_layers - 1];
    if (r->N < 1 || r->N > 1 << 20)
        return error_set(e, "a batch has 1 to 2^20 images, got %lld", (long long)r->N);
    if (r->purpose == PLAN_TRAINING && r->precision != PLAN_F32)
        return error_set(e, "training is in f32");
    if (r->precision != PLAN_F32 && !(r->precision == PLAN_TF32 ? d->tf32 : d->bf16))
        return error_set(e, "device %s does not compute in %s; use --precision f32", d->name,
                         r->precision == PLAN_TF32 ? "tf32" : "bf16");
    if (g->n_layers < 2 || last->H != 1 || last->W != 1)
        return error_set(e, "a network must end in one number per class, got [%lld,%lld,%lld]",
                         (long long)last->C, (long long)last->H, (long long)last->W);
    for (int i = 0; i < g->n_params; i++)
        if (!g->params[i].value.storage)
            return error_set(e, "parameter '%s' has no values yet: load weights or initialise them",
                             g->params[i].name);
    return program_new(out, g, r->purpose, e);
}

int plan_new(const Graph *g, Device *d, const PlanRequest *r, Plan **out, Error *e) {
    Program *p;
    if (program_of(g, d, r, &p, e)) return -1;
    int status = d->plan_new(d, p, r, out, e);
    program_free(p);
    return status;
}

int plan_size(const Graph *g, Device *d, const PlanRequest *r, size_t *bytes, size_t *free,
              Error *e) {
    Program *p;
    *bytes = *free = 0;
    if (program_of(g, d, r, &p, e)) return -1;
    int status = d->plan_size ? d->plan_size(d, p, r, bytes, free, e) : 0;
    program_free(p);
    return status;
}
