#include "net/plan.h"

#include <stdio.h>
#include <string.h>

#include "net/program.h"

/* Checks a request and makes its program. */
static int program_of(const Graph *g, const Device *d, const PlanRequest *r, Program **out,
                      Error *e) {
    const Layer *last = &g->layers[g->n_layers - 1];
    if (r->N < 1 || r->N > 1 << 20)
        return error_set(e, "a batch has 1 to 2^20 images, got %lld", (long long)r->N);
    if (r->purpose == PLAN_TRAINING && r->precision != PLAN_F32)
        return error_set(e, "training computes in f32 only");
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
    return program_new(out, g, r, d->rounds, e);
}

static int size_of(Device *d, const Program *program, const PlanRequest *r, size_t *bytes,
                   Error *e) {
    Plan *p;
    if (plan_compile(d, program, r, true, &p, e)) return -1;
    *bytes = p->owned_bytes + d->taken_for(p->arena_bytes);
    plan_free(p);
    return 0;
}

/* Whether a plan for N images fits into the device's memory. The program does not depend on the
 * batch size. */
static bool fits(Device *d, const Program *program, const PlanRequest *r, int64_t N) {
    PlanRequest smaller = *r;
    size_t bytes;
    Error lost = {0};
    smaller.N = N;
    return !size_of(d, program, &smaller, &bytes, &lost) && bytes <= d->free_bytes(d);
}

/* The largest batch below r->N whose plan fits; 0 if none does. */
static int64_t largest_batch(Device *d, const Program *program, const PlanRequest *r) {
    int64_t low = 0, high = r->N - 1;
    while (low < high) {
        int64_t middle = high - (high - low) / 2;
        if (fits(d, program, r, middle))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

int plan_new(const Graph *g, Device *d, const PlanRequest *r, Plan **out, Error *e) {
    Program *p;
    if (program_of(g, d, r, &p, e)) return -1;
    int status = plan_compile(d, p, r, false, out, e);
    if (status && e->code == ERROR_NO_MEMORY && d->free_bytes && !fits(d, p, r, r->N)) {
        size_t length = strlen(e->text);
        int64_t most = largest_batch(d, p, r);
        snprintf(e->text + length, sizeof e->text - length,
                 most ? "; a batch of %lld fits" : "; no batch fits", (long long)most);
    }
    program_free(p);
    return status;
}

int plan_size(const Graph *g, Device *d, const PlanRequest *r, size_t *bytes, size_t *free,
              Error *e) {
    Program *p;
    *bytes = *free = 0;
    if (program_of(g, d, r, &p, e)) return -1;
    int status = d->free_bytes ? size_of(d, p, r, bytes, e) : 0;
    if (!status && d->free_bytes) *free = d->free_bytes(d);
    program_free(p);
    return status;
}
