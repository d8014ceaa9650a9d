/* The plugin: the processes of a run on Open MPI. One thread, the main one, calls it. */
#define _GNU_SOURCE
#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/interrupt.h"
#include "dist/dist.h"

#define EXPORT __attribute__((visibility("default")))
EXPORT extern const char advrt_mpi_build[];
const char advrt_mpi_build[] = DIST_BUILD;
EXPORT int advrt_mpi_open(Dist **out, Error *e);

static int check(int status, const char *call, Error *e) {
    char why[MPI_MAX_ERROR_STRING] = "";
    int n;
    if (status == MPI_SUCCESS) return 0;
    MPI_Error_string(status, why, &n);
    return error_set(e, "%s: %s", call, why);
}

static int check_count(size_t n, Error *e) {
    return n <= INT_MAX ? 0 : error_set(e, "%zu bytes are too many to send at once", n);
}

/* --- the functions --- */

/* The library itself waits by asking without end. */
static int mpi_wait(Dist *d, Error *e) {
    const struct timespec pause = {0, 2000000};
    MPI_Request request;
    int done = 0;
    (void)d;
    if (check(MPI_Ibarrier(MPI_COMM_WORLD, &request), "MPI_Ibarrier", e)) return -1;
    for (;;) {
        if (check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test", e)) return -1;
        if (done) return 0;
        if (interrupt_check(e)) return -1;
        nanosleep(&pause, NULL);
    }
}

static int mpi_broadcast(Dist *d, void *bytes, size_t n, Error *e) {
    (void)d;
    if (check_count(n, e)) return -1;
    return check(MPI_Bcast(bytes, (int)n, MPI_BYTE, 0, MPI_COMM_WORLD), "MPI_Bcast", e);
}

static int mpi_gather(Dist *d, const void *bytes, size_t n, const size_t *sizes, void *all,
                      Error *e) {
    if (check_count(n, e)) return -1;
    if (d->rank != 0)
        return check(
            MPI_Gatherv(bytes, (int)n, MPI_BYTE, NULL, NULL, NULL, MPI_BYTE, 0, MPI_COMM_WORLD),
            "MPI_Gatherv", e);
    int *counts = calloc(2 * (size_t)d->size, sizeof *counts), *starts = counts + d->size;
    size_t total = 0;
    int status = counts ? 0 : check(MPI_ERR_NO_MEM, "MPI_Gatherv", e);
    for (int i = 0; i < d->size && status == 0; i++) {
        starts[i] = (int)total, counts[i] = (int)sizes[i];
        total += sizes[i];
        status = check_count(total, e);
    }
    if (status == 0)
        status = check(
            MPI_Gatherv(bytes, (int)n, MPI_BYTE, all, counts, starts, MPI_BYTE, 0, MPI_COMM_WORLD),
            "MPI_Gatherv", e);
    free(counts);
    return status;
}

/* An all-reduce makes the same bits everywhere: whatever order it adds in, each sum is made once,
 * or of the same two terms on both sides. */
static int sum_of(MPI_Datatype type, size_t bytes, void *x, int64_t n, Error *e) {
    const int64_t most = 1 << 28;
    for (int64_t at = 0; at < n; at += most) {
        int count = (int)(n - at < most ? n - at : most);
        if (check(MPI_Allreduce(MPI_IN_PLACE, (char *)x + (size_t)at * bytes, count, type, MPI_SUM,
                                MPI_COMM_WORLD),
                  "MPI_Allreduce", e))
            return -1;
    }
    return 0;
}

static int mpi_sum(Group *g, float *x, int64_t n, Error *e) {
    (void)g;
    return sum_of(MPI_FLOAT, sizeof *x, x, n, e);
}

static int mpi_sum_double(Group *g, double *x, int64_t n, Error *e) {
    (void)g;
    return sum_of(MPI_DOUBLE, sizeof *x, x, n, e);
}

static void mpi_end(Dist *d, int status) {
    int over;
    (void)d;
    /* after SIGTERM the launcher is ending all by itself */
    if (status == 128 + SIGTERM || MPI_Finalized(&over) != MPI_SUCCESS || over) return;
    if (status)
        MPI_Abort(MPI_COMM_WORLD, status);
    else
        MPI_Finalize();
}

/* --- opening --- */

/* How many of the processes on this machine may run on a core of this one's. */
static int count_sharers(Dist *d, Error *e) {
    MPI_Comm here;
    int n = 0;
    cpu_set_t mine, both, *all = NULL;
    if (check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here),
              "MPI_Comm_split_type", e))
        return -1;
    CPU_ZERO(&mine);
    sched_getaffinity(0, sizeof mine, &mine);
    MPI_Comm_size(here, &n);
    all = calloc((size_t)n, sizeof *all);
    int status = all ? MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, here)
                     : MPI_ERR_NO_MEM;
    for (int i = 0; i < n && status == MPI_SUCCESS; i++) {
        CPU_AND(&both, &mine, &all[i]);
        d->sharers += CPU_COUNT(&both) > 0;
    }
    if (d->sharers < 1) d->sharers = 1;
    free(all);
    MPI_Comm_free(&here);
    return check(status, "MPI_Allgather", e);
}

int advrt_mpi_open(Dist **out, Error *e) {
    static Dist d = {.group = {.sum = mpi_sum, .sum_double = mpi_sum_double},
                     .wait = mpi_wait,
                     .broadcast = mpi_broadcast,
                     .gather = mpi_gather,
                     .end = mpi_end};
    int level = 0;
    if (check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread", e))
        return -1;
    if (level < MPI_THREAD_FUNNELED)
        return error_set(e, "this MPI allows no threads beside its own");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &d.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &d.size);
    d.group.rank = d.rank, d.group.count = d.size;
    if (count_sharers(&d, e)) return -1;
    *out = &d;
    return 0;
}
