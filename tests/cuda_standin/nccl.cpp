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
/* Looks, of at least PAUSE microseconds each, while no one who is late does a thing: a clock would
 * run on while a process is stopped. LOOKS lie between questions about the others. */
const int PATIENCE = 1 << 20, PAUSE = 50, LOOKS = 1 << 11;
const int MOST_RANKS = 16;

/* Of zeros when it is new. Each rank's chunk follows it. */
struct Shared {
    std::atomic<uint32_t> arrivals[MOST_RANKS];
    std::atomic<int> process[MOST_RANKS]; /* 0: not there yet */
    int gpu[MOST_RANKS];
    alignas(64) char chunk[];
};

/* Ticks of processor time that a process has used; -1 where it is stopped, 0 where it is gone. */
long long used_by(int process) {
    char name[64], text[1024];
    snprintf(name, sizeof name, "/proc/%d/stat", process);
    FILE *f = process ? fopen(name, "r") : NULL;
    if (!f) return 0;
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    char state = 0;
    long long user = 0, kernel = 0;
    const char *after = strrchr(text, ')'); /* a name may hold anything */
    if (!after || sscanf(after + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &state,
                         &user, &kernel) != 3)
        return 0;
    return state == 'T' || state == 't' ? -1 : user + kernel;
}

} // namespace

struct ncclComm {
    int rank, count;
    Shared *shared;
    size_t bytes;
    std::shared_ptr<bool> gone; /* what is still queued then does nothing, as after an abort */

    bool late(int r) const {
        return (int32_t)(shared->arrivals[r].load() - shared->arrivals[rank].load()) < 0;
    }

    /* Returns when every rank has come here as often. One that is stopped or computes may still
     * come. */
    void wait() const {
        long long used[MOST_RANKS] = {0};
        int look = 0;
        shared->arrivals[rank]++;
        for (int r = 0; r < count; r++)
            for (; late(r); look++) {
                if (look % LOOKS == 0) {
                    long long now = used_by(shared->process[r]);
                    if (now < 0 || now != used[r]) look = 0;
                    used[r] = now;
                }
                if (look > PATIENCE)
                    report("rank %d of %d waits for the others in vain", rank, count);
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
    shared->process[rank] = (int)getpid();
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
