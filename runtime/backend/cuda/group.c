/* Groups of processes by NCCL. NCCL is loaded when a group is first requested; a machine with one
 * GPU does not need it. */
#if __has_include(<nccl.h>)
#include <dlfcn.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "backend/cuda/cuda.h"

_Static_assert(sizeof(ncclUniqueId) == GROUP_ID, "a group's name is NCCL's");

typedef struct Nccl {
    ncclResult_t (*get_id)(ncclUniqueId *id);
    ncclResult_t (*init)(ncclComm_t *comm, int count, ncclUniqueId id, int rank);
    ncclResult_t (*all_reduce)(const void *from, void *to, size_t n, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream);
    ncclResult_t (*async_error)(ncclComm_t comm, ncclResult_t *status);
    ncclResult_t (*destroy)(ncclComm_t comm);
    ncclResult_t (*abort)(ncclComm_t comm);
    const char *(*error)(ncclResult_t status);
} Nccl;

typedef struct CudaGroup {
    Group base; /* first */
    CudaDevice *device;
    ncclComm_t comm;
    Nccl nccl;
    bool broken;
} CudaGroup;

static int load(const CudaDevice *d, Nccl *out, Error *e) {
    void *lib = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return error_set(e, "%s: a group of GPUs needs NCCL, and libnccl.so.2 is not found",
                         d->name);
    *(void **)&out->get_id = dlsym(lib, "ncclGetUniqueId");
    *(void **)&out->init = dlsym(lib, "ncclCommInitRank");
    *(void **)&out->all_reduce = dlsym(lib, "ncclAllReduce");
    *(void **)&out->async_error = dlsym(lib, "ncclCommGetAsyncError");
    *(void **)&out->destroy = dlsym(lib, "ncclCommDestroy");
    *(void **)&out->abort = dlsym(lib, "ncclCommAbort");
    *(void **)&out->error = dlsym(lib, "ncclGetErrorString");
    if (out->get_id && out->init && out->all_reduce && out->async_error && out->destroy &&
        out->abort && out->error)
        return 0;
    return error_set(e, "%s: libnccl.so.2 lacks functions of NCCL 2", d->name);
}

static int check(const CudaDevice *d, const Nccl *nccl, ncclResult_t status, const char *call,
                 Error *e) {
    if (status == ncclSuccess) return 0;
    return error_set(e, "%s: %s: %s%s", d->name, call, nccl->error(status),
                     status == ncclInvalidUsage ? " (each rank needs a GPU of its own)" : "");
}

int cuda_group_id(Device *base, char id[GROUP_ID], Error *e) {
    CudaDevice *d = (CudaDevice *)base;
    Nccl nccl;
    ncclUniqueId made;
    if (load(d, &nccl, e) || check(d, &nccl, nccl.get_id(&made), "ncclGetUniqueId", e)) return -1;
    memcpy(id, &made, GROUP_ID);
    return 0;
}

/* A lost peer causes an error of the group, not of a call. A group with an error is aborted when it
 * is freed, because the other ranks may never answer. */
static int all_reduce(Group *base, void *x, int64_t n, ncclDataType_t type, Error *e) {
    CudaGroup *g = (CudaGroup *)base;
    CudaDevice *d = g->device;
    ncclResult_t later = ncclSuccess;
    char call[96];
    snprintf(call, sizeof call, "ncclAllReduce of %lld elements, rank %d of %d", (long long)n,
             base->rank, base->count);
    if (n == 0) return 0;
    ncclResult_t status = g->nccl.all_reduce(x, x, (size_t)n, type, ncclSum, g->comm, d->stream);
    if (status == ncclSuccess) status = g->nccl.async_error(g->comm, &later);
    if (status == ncclSuccess) status = later;
    g->broken = g->broken || status != ncclSuccess;
    return check(d, &g->nccl, status, call, e);
}

static int group_sum(Group *g, float *x, int64_t n, Error *e) {
    return all_reduce(g, x, n, ncclFloat, e);
}

static int group_sum_double(Group *g, double *x, int64_t n, Error *e) {
    return all_reduce(g, x, n, ncclDouble, e);
}

static void group_free(Group *base) {
    CudaGroup *g = (CudaGroup *)base;
    if (!g) return;
    if (g->comm) {
        if (!g->broken) cudaStreamSynchronize(g->device->stream);
        (g->broken ? g->nccl.abort : g->nccl.destroy)(g->comm);
    }
    memory_free(g);
}

int cuda_group_new(Device *base, int rank, int count, const char id[GROUP_ID], Group **out,
                   Error *e) {
    CudaDevice *d = (CudaDevice *)base;
    ncclUniqueId name;
    char call[64];
    if (count < 1 || rank < 0 || rank >= count)
        return error_set(e, "%s: a group of %d has no rank %d", d->name, count, rank);
    CudaGroup *g = memory_zeroed(1, sizeof *g, "group", e);
    if (!g) return -1;
    g->base = (Group){.rank = rank,
                      .count = count,
                      .sum = group_sum,
                      .sum_double = group_sum_double,
                      .free = group_free};
    g->device = d;
    memcpy(&name, id, GROUP_ID);
    snprintf(call, sizeof call, "ncclCommInitRank, rank %d of %d", rank, count);
    if (load(d, &g->nccl, e) ||
        check(d, &g->nccl, g->nccl.init(&g->comm, count, name, rank), call, e)) {
        group_free(&g->base);
        return -1;
    }
    *out = &g->base;
    return 0;
}
#endif
