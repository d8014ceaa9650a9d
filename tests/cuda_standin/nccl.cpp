/* NCCL: the functions that the plugin calls, between processes of this machine through shared
 * memory, which the group's id names. A rank that the others wait for in vain is a report. */
#if __has_include(<nccl.h>)
#include <fcntl.h>
#include <nccl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#include "machine.h"

using namespace standin;

namespace {

const size_t CHUNK = 1 << 16; /* bytes of each rank at a time */
const int PATIENCE = 1 << 20; /* looks, of at least PAUSE each: a clock would run on while the */
const int PAUSE = 50;         /* process is stopped; microseconds */
const int MOST_RANKS = 16;

/* Of zeros when it is new. Each rank's chunk follows it. */
struct Shared {
    std::atomic<uint32_t> arrivals;
    int gpu[MOST_RANKS];
    alignas(64) char chunk[];
};

} // namespace

struct ncclComm {
    int rank, count;
    Shared *shared;
    size_t bytes;
    std::shared_ptr<bool> gone; /* what is still queued then does nothing, as after an abort */

    /* Returns when every rank has come here as often. */
    void wait() const {
        uint32_t n = (uint32_t)count, mine = shared->arrivals.fetch_add(1);
        uint32_t all = (mine / n + 1) * n;
        for (int look = 0; (int32_t)(shared->arrivals.load() - all) < 0; look++) {
            if (look > PATIENCE) report("rank %d of %d waits for the others in vain", rank, count);
            usleep(PAUSE); /* there may be fewer cores than ranks */
        }
    }
};

/* Ranks are added in their order. */
template <typename T> void add_up(ncclComm_t comm, const char *from, char *to, size_t bytes) {
    char *chunk = comm->shared->chunk, *own = chunk + (size_t)comm->rank * CHUNK;
    for (size_t at = 0; at < bytes; at += CHUNK) {
        size_t part = bytes - at < CHUNK ? bytes - at : CHUNK;
        memcpy(own, from + at, part);
        comm->wait();
        for (size_t i = 0; i < part; i += sizeof(T)) {
            T sum = 0;
            for (int r = 0; r < comm->count; r++) sum += *(T *)(chunk + (size_t)r * CHUNK + i);
            memcpy(to + at + i, &sum, sizeof sum);
        }
        comm->wait();
    }
}

static void forget(ncclComm_t comm) {
    *comm->gone = true;
    munmap(comm->shared, comm->bytes);
    delete comm;
    destroyed("NCCL communicator");
}

#define CALL(name)                                                                                 \
    if (call_fails(name)) return ncclSystemError

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int made;
    CALL("ncclGetUniqueId");
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/advrt-standin-%d-%d", (int)getpid(), made++);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int count, ncclUniqueId id, int rank) {
    CALL("ncclCommInitRank");
    if (count < 1 || count > MOST_RANKS || rank < 0 || rank >= count || id.internal[0] != '/')
        return ncclInvalidArgument;
    size_t bytes = sizeof(Shared) + (size_t)count * CHUNK;
    int file = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, (off_t)bytes)) return ncclSystemError;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (p == MAP_FAILED) return ncclSystemError;
    *comm = new ncclComm{rank, count, (Shared *)p, bytes, std::make_shared<bool>(false)};
    made("NCCL communicator");
    Shared *shared = (*comm)->shared;
    cudaGetDevice(&shared->gpu[rank]);
    (*comm)->wait();
    if (rank == 0) shm_unlink(id.internal);
    for (int r = 0; r < count; r++)
        if (r != rank && shared->gpu[r] == shared->gpu[rank]) { /* one GPU for two, as documented */
            forget(*comm);
            *comm = NULL;
            return ncclInvalidUsage;
        }
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    CALL("ncclCommDestroy");
    forget(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    forget(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *status) {
    *status = call_fails("ncclCommGetAsyncError") ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t status) {
    switch (status) {
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    default: return "unknown result code";
    }
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    CALL("ncclAllReduce");
    size_t bytes = n * (type == ncclDouble ? sizeof(double) : sizeof(float));
    if ((type != ncclFloat && type != ncclDouble) || op != ncclSum || memory_room(from) < bytes ||
        memory_room(to) < bytes)
        return ncclInvalidArgument;
    std::shared_ptr<bool> gone = comm->gone;
    cudaError_t status = enqueue(stream, "ncclAllReduce", [=]() {
        if (*gone) return;
        touch_read(from, bytes);
        touch_write(to, bytes);
        (type == ncclDouble ? add_up<double> : add_up<float>)(comm, (const char *)memory_seen(from),
                                                              (char *)memory_seen(to), bytes);
    });
    return status == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}
}
#endif
