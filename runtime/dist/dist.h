/* The processes of one run, as mpirun starts them, and what they say to each other.
 *
 * Each has a rank, from 0; rank 0 is the one that prints and that keeps what there is once. All of
 * them make the same calls in the same order: a call returns when the others have made it too. A
 * process that ends with another status than 0 ends the others.
 *
 * MPI is in a plugin, advrt_mpi.so, which is loaded only in a process that a launcher started as
 * one of several.
 */
#ifndef ADVRT_DIST_DIST_H
#define ADVRT_DIST_DIST_H

#include <stddef.h>

#include "device/device.h"

typedef struct Dist Dist;
struct Dist {
    Group group; /* of the CPU device, whose memory is the host's */
    int rank, size;
    int sharers; /* processes, this one included, that may run on one of this one's cores */

    /* What waits for the others does so, in the end, without using the processor, and gives up when
     * the run is asked to end. wait: until all have called it. */
    int (*wait)(Dist *d, Error *e);
    /* bytes [n] becomes what it is on rank 0. */
    int (*broadcast)(Dist *d, void *bytes, size_t n, Error *e);
    /* On rank 0 all becomes every rank's bytes, in the order of ranks, of which each has
     * sizes[rank]; elsewhere sizes and all are not used. */
    int (*gather)(Dist *d, const void *bytes, size_t n, const size_t *sizes, void *all, Error *e);
    /* Whether this process is to say why the run ends: at the first call on rank 0's machine. */
    bool (*speak)(Dist *d);
    /* Takes leave: of the others where status is 0, when they do too; else ends them. */
    void (*end)(Dist *d, int status);
};

/* *out: NULL where this process is alone, whether a launcher started it or not. `folder` is the
 * program's, as in plugin_load. Leave is taken by itself when the process exits. */
int dist_open(const char *folder, Dist **out, Error *e);

/* A plugin and the program that loads it agree on this. */
#define DIST_BUILD "advrt mpi 2"
typedef int (*DistPlugin)(Dist **out, Error *e);

#endif
