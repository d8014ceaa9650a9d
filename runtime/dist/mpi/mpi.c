/* The MPI plugin: the processes of a run on Open MPI. Only the main thread calls it. */
#define _GNU_SOURCE
#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/interrupt.h"
#include "dist/dist.h"

#define EXPORT __attribute__((visibility("default")))
EXPORT extern const char advrt_mpi_build[];
const char advrt_mpi_build[] = DIST_BUILD;
EXPORT int advrt_mpi_open(Dist **out, Error *e);

/* Polls before waiting starts to sleep, polls before it sleeps longer, and the long sleeps before
 * it stops waiting for a rank that left. */
enum { EAGER = 2000, LONG = 3000, PATIENCE = 500 };

static int check(int status, const char *call, Error *e) {
    char why[MPI_MAX_ERROR_STRING] = "";
    int n;
    if (status == MPI_SUCCESS) return 0;
    MPI_Error_string(status, why, &n);
    return error_set(e, "%s: %s", call, why);
}

static int check_count(size_t n, Error *e) {
    return n <= INT_MAX
               ? 0
               : error_set(e, "%zu bytes are too many for one message; at most %d", n, INT_MAX);
}

/* --- the functions --- */

/* After a call was abandoned, MPI must not be called again. `alone`: a rank left, and the other
 * ranks may not know it. */
static bool abandoned, alone;

/* The communicator by which rank 0 and the others announce that they leave. */
static MPI_Comm leave;

static void say_farewell(const Dist *d) {
    MPI_Request request;
    for (int i = d->rank == 0 ? 1 : 0; i < (d->rank == 0 ? d->size : 1); i++)
        if (MPI_Isend(NULL, 0, MPI_BYTE, i, 0, leave, &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
}

/* A rank that left; -1 if none is known. */
static int one_that_left(void) {
    int there = 0;
    MPI_Status from;
    if (MPI_Iprobe(MPI_ANY_SOURCE, 0, leave, &there, &from) != MPI_SUCCESS || !there) return -1;
    return from.MPI_SOURCE;
}

/* Waits for a call to complete. MPI's own wait polls forever and ignores signals, and the other
 * ranks may never make the call. So this function polls for a while, then sleeps between polls. It
 * fails on a request to stop. If a rank left, it first allows time for that rank's messages to
 * arrive. */
static int finish(MPI_Request *request, const char *call, Error *e) {
    const struct timespec pause = {0, 200000}, long_pause = {0, 2000000};
    int done = 0, missed = 0;
    for (int i = 0;; i += i < LONG) {
        if (check(MPI_Test(request, &done, MPI_STATUS_IGNORE), call, e)) return -1;
        if (done) return 0;
        if (interrupt_asked()) {
            abandoned = true;
            interrupt_note();
            return interrupt_check(e);
        }
        int gone = i < LONG ? -1 : one_that_left();
        if (gone >= 0 && ++missed > PATIENCE) {
            abandoned = alone = true;
            return error_set(e, "%s: rank %d has ended and cannot answer", call, gone);
        }
        if (i >= EAGER) nanosleep(i < LONG ? &pause : &long_pause, NULL);
    }
}

static int mpi_wait(Dist *d, Error *e) {
    MPI_Request request;
    (void)d;
    if (check(MPI_Ibarrier(MPI_COMM_WORLD, &request), "MPI_Ibarrier", e)) return -1;
    return finish(&request, "MPI_Ibarrier", e);
}

static int mpi_broadcast(Dist *d, void *bytes, size_t n, Error *e) {
    MPI_Request request;
    (void)d;
    if (check_count(n, e) ||
        check(MPI_Ibcast(bytes, (int)n, MPI_BYTE, 0, MPI_COMM_WORLD, &request), "MPI_Ibcast", e))
        return -1;
    return finish(&request, "MPI_Ibcast", e);
}

static int gather(const void *bytes, size_t n, const int *counts, const int *starts, void *all,
                  Error *e) {
    MPI_Request request;
    if (check(MPI_Igatherv(bytes, (int)n, MPI_BYTE, all, counts, starts, MPI_BYTE, 0,
                           MPI_COMM_WORLD, &request),
              "MPI_Igatherv", e))
        return -1;
    return finish(&request, "MPI_Igatherv", e);
}

static int mpi_gather(Dist *d, const void *bytes, size_t n, const size_t *sizes, void *all,
                      Error *e) {
    if (check_count(n, e)) return -1;
    if (d->rank != 0) return gather(bytes, n, NULL, NULL, NULL, e);
    int *counts = calloc(2 * (size_t)d->size, sizeof *counts), *starts = counts + d->size;
    size_t total = 0;
    int status = counts ? 0 : check(MPI_ERR_NO_MEM, "MPI_Igatherv", e);
    for (int i = 0; i < d->size && status == 0; i++) {
        starts[i] = (int)total, counts[i] = (int)sizes[i];
        total += sizes[i];
        status = check_count(total, e);
    }
    if (status == 0) status = gather(bytes, n, counts, starts, all, e);
    if (!abandoned) free(counts);
    return status;
}

/* An all-reduce gives the same bits on every rank: each sum is computed once and sent on, or
 * computed from the same two terms on both sides. */
static int sum_of(MPI_Datatype type, size_t bytes, void *x, int64_t n, Error *e) {
    const int64_t most = 1 << 28;
    for (int64_t at = 0; at < n; at += most) {
        MPI_Request request;
        int count = (int)(n - at < most ? n - at : most);
        if (check(MPI_Iallreduce(MPI_IN_PLACE, (char *)x + (size_t)at * bytes, count, type, MPI_SUM,
                                 MPI_COMM_WORLD, &request),
                  "MPI_Iallreduce", e) ||
            finish(&request, "MPI_Iallreduce", e))
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

/* --- the end --- */

/* Shared memory of the processes on rank 0's machine: whether one of them has reported why the run
 * ends. NULL on other machines. */
static atomic_int *spoken;
static MPI_Win window = MPI_WIN_NULL;

static bool mpi_speak(Dist *d) {
    (void)d;
    return spoken && atomic_exchange(spoken, 1) == 0;
}

static void mpi_end(Dist *d, int status) {
    int over;
    /* after SIGTERM the launcher itself ends all processes */
    if (status == 128 + SIGTERM || MPI_Finalized(&over) != MPI_SUCCESS || over) return;
    if (abandoned && !alone) return;
    if (status) {
        MPI_Abort(MPI_COMM_WORLD, status);
    } else {
        say_farewell(d);
        MPI_Win_free(&window);
        MPI_Finalize();
    }
}

/* --- opening --- */

/* The number of processes on this machine, `here`, that may run on one of this process's cores. */
static int count_sharers(Dist *d, MPI_Comm here, Error *e) {
    int n = 0;
    cpu_set_t mine, both, *all = NULL;
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
    return check(status, "MPI_Allgather", e);
}

/* The shared word of the processes on rank 0's machine. */
static int share_word(const Dist *d, MPI_Comm here, Error *e) {
    int place, unit, first = d->rank;
    atomic_int *word;
    MPI_Aint bytes;
    MPI_Comm_rank(here, &place);
    bytes = place == 0 ? (MPI_Aint)sizeof *word : 0;
    if (check(MPI_Bcast(&first, 1, MPI_INT, 0, here), "MPI_Bcast", e) ||
        check(MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, here, (void *)&word, &window),
              "MPI_Win_allocate_shared", e) ||
        check(MPI_Win_shared_query(window, 0, &bytes, &unit, (void *)&word), "MPI_Win_shared_query",
              e))
        return -1;
    if (place == 0) atomic_init(word, 0);
    if (first == 0) spoken = word;
    return check(MPI_Barrier(here), "MPI_Barrier", e);
}

static int look_around(Dist *d, Error *e) {
    MPI_Comm here;
    if (check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here),
              "MPI_Comm_split_type", e))
        return -1;
    int status = count_sharers(d, here, e) || share_word(d, here, e) ? -1 : 0;
    MPI_Comm_free(&here);
    return status;
}

int advrt_mpi_open(Dist **out, Error *e) {
    static Dist d = {.group = {.sum = mpi_sum, .sum_double = mpi_sum_double},
                     .wait = mpi_wait,
                     .broadcast = mpi_broadcast,
                     .gather = mpi_gather,
                     .speak = mpi_speak,
                     .end = mpi_end};
    int level = 0;
    if (check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "MPI_Init_thread", e))
        return -1;
    if (level < MPI_THREAD_FUNNELED)
        return error_set(e, "this MPI library does not support threads; use a build with "
                            "MPI_THREAD_FUNNELED or higher");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &d.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &d.size);
    if (check(MPI_Comm_dup(MPI_COMM_WORLD, &leave), "MPI_Comm_dup", e)) return -1;
    d.group.rank = d.rank, d.group.count = d.size;
    if (look_around(&d, e)) return -1;
    *out = &d;
    return 0;
}
