#define _GNU_SOURCE
#include "dist/dist.h"

#include <stdlib.h>

#include "base/plugin.h"

/* The number of processes that the launcher reports: 1 without a launcher, 0 if only the library
 * knows. Reads the variables of Open MPI's mpirun, then of Slurm's srun --mpi=pmix. */
static long launched(void) {
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (size) return strtol(size, NULL, 10);
    if (!getenv("PMIX_RANK")) return 1;
    size = getenv("SLURM_STEP_NUM_TASKS");
    return size ? strtol(size, NULL, 10) : 0;
}

static void take_leave(int status, void *dist) {
    Dist *d = dist;
    d->end(d, status);
}

int dist_open(const char *folder, Dist **out, Error *e) {
    DistPlugin plugin;
    Dist *d;
    *out = NULL;
    if (launched() == 1) return 0;
    if (plugin_load(folder, "advrt_mpi", DIST_BUILD, "advrt_mpi_open",
                    "build advrt where Open MPI is (libopenmpi-dev), or start one process",
                    (void **)&plugin, e) ||
        plugin(&d, e))
        return error_prefix(e, "started as one of several processes");
    /* not atexit: its handlers do not get the status, and a failing process must not wait */
    if (on_exit(take_leave, d)) return error_set(e, "not enough memory to start");
    if (d->size > 1) *out = d;
    return 0;
}
