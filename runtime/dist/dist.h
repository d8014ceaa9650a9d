/* The processes of one run under mpirun, and their communication.
 *
 * Each process has a rank, from 0. Rank 0 prints and owns everything that exists once. All
 * processes make the same calls in the same order; a call returns when all have made it. A process
 * that exits with a nonzero status ends the others.
 *
 * MPI is in a plugin, advrt_mpi.so. It is loaded only if a launcher started several processes.
 */
#ifndef ADVRT_DIST_DIST_H
#define ADVRT_DIST_DIST_H

#include <stddef.h>

#include "device/device.h"

typedef struct Dist Dist;
struct Dist {
    Group group; /* of the CPU device, whose memory is host memory */
    int rank, size;
    int sharers; /* processes, including this one, that may share one of its cores */

    /* Waiting polls at first, then sleeps. It fails on a request to stop. wait: returns when all
     * processes have called it. */
    int (*wait)(Dist *d, Error *e);
    /* Broadcast: bytes [n] are copied from rank 0. */
    int (*broadcast)(Dist *d, void *bytes, size_t n, Error *e);
    /* Gather: on rank 0, `all` becomes the bytes of all ranks in order; rank r sends sizes[r]. On
     * other ranks sizes and all are unused. */
    int (*gather)(Dist *d, const void *bytes, size_t n, const size_t *sizes, void *all, Error *e);
    /* Whether this process reports why the run ends: true for the first caller on rank 0's machine.
     */
    bool (*speak)(Dist *d);
    /* Ends this process's membership. Status 0: waits until all others leave too. Otherwise ends
     * the others. */
    void (*end)(Dist *d, int status);
};

/* *out is NULL for a single process, with or without a launcher. `folder` is the program's, as in
 * plugin_load. The exit of the process leaves automatically. */
int dist_open(const char *folder, Dist **out, Error *e);

/* The version of the interface between plugin and program. */
#define DIST_BUILD "advrt mpi 2"
typedef int (*DistPlugin)(Dist **out, Error *e);

#endif
