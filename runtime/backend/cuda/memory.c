/* Device memory: the pool, and copies through pinned slots. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "backend/cuda/cuda.h"

static CudaDevice *cuda_of(Device *d) {
    return (CudaDevice *)d;
}

/* --- the pool --- */

enum { SMALL = 512, LARGE = 2 << 20 };

size_t cuda_taken_for(size_t bytes) {
    size_t unit = bytes <= LARGE / 4 ? SMALL : LARGE / 4;
    return bytes < 1 ? SMALL : (bytes + unit - 1) / unit * unit;
}

/* The index in the pool of the first block at or after `memory`. */
static int place_of(const Pool *p, const void *memory) {
    int low = 0, high = p->n;
    while (low < high) {
        int middle = (low + high) / 2;
        if ((const char *)p->blocks[middle].memory < (const char *)memory)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The smallest unused block that is large enough and wastes at most a quarter; NULL if there is
 * none. */
static PoolBlock *kept_block(Pool *p, size_t bytes) {
    PoolBlock *best = NULL;
    for (int i = 0; i < p->n; i++) {
        PoolBlock *b = &p->blocks[i];
        if (!b->taken && b->bytes >= bytes && b->bytes - bytes <= bytes / 4 &&
            (!best || b->bytes < best->bytes))
            best = b;
    }
    return best;
}

static PoolBlock *add_block(Pool *p, void *memory, size_t bytes) {
    int at = place_of(p, memory);
    memmove(p->blocks + at + 1, p->blocks + at, (size_t)(p->n - at) * sizeof *p->blocks);
    p->blocks[at] = (PoolBlock){memory, bytes, 0, false};
    p->n++;
    p->kept += bytes;
    return &p->blocks[at];
}

void cuda_pool_empty(CudaDevice *d) {
    Pool *p = &d->pool;
    int left = 0;
    for (int i = 0; i < p->n; i++) {
        if (p->blocks[i].taken) {
            p->blocks[left++] = p->blocks[i];
            continue;
        }
        p->kept -= p->blocks[i].bytes;
        cudaFree(p->blocks[i].memory);
    }
    p->n = left;
}

size_t cuda_free_bytes(Device *d) {
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
    return free + cuda_of(d)->pool.kept;
}

static int out_of_memory(const CudaDevice *d, size_t bytes, const char *what, Error *e) {
    size_t free = 0, total = 0;
    cudaGetLastError();
    cudaMemGetInfo(&free, &total);
    error_set(e, "%s: out of memory: %s wants %.1f MB, %.1f of %.1f MB are free", d->name, what,
              (double)bytes / 1e6, (double)free / 1e6, (double)total / 1e6);
    return error_no_memory(e);
}

int cuda_take(Device *base, size_t bytes, const char *what, void **out, Error *e) {
    CudaDevice *d = cuda_of(base);
    Pool *p = &d->pool;
    size_t size = cuda_taken_for(bytes);
    void *memory = NULL;
    if (memory_grow((void **)&p->blocks, p->n, &p->room, sizeof *p->blocks, "device memory", e) ||
        memory_charge(size, what, e))
        return -1;
    PoolBlock *b = kept_block(p, size);
    if (!b) {
        cudaError_t status = cudaMalloc(&memory, size);
        if (status == cudaErrorMemoryAllocation && p->kept) {
            cudaGetLastError();
            cuda_pool_empty(d);
            status = cudaMalloc(&memory, size);
        }
        if (status != cudaSuccess) {
            memory_discharge(size);
            return status == cudaErrorMemoryAllocation ? out_of_memory(d, size, what, e)
                                                       : cuda_check(d, status, "cudaMalloc", e);
        }
        b = add_block(p, memory, size);
    }
    b->taken = true;
    b->charged = size;
    p->kept -= b->bytes;
    p->taken += b->bytes;
    *out = b->memory;
    return 0;
}

void cuda_release(Device *base, void *memory) {
    CudaDevice *d = cuda_of(base);
    Pool *p = &d->pool;
    if (!memory) return;
    PoolBlock *b = &p->blocks[place_of(p, memory)];
    b->taken = false;
    p->kept += b->bytes;
    p->taken -= b->bytes;
    memory_discharge(b->charged);
}

/* --- slots --- */

int cuda_slots_open(CudaDevice *d, Error *e) {
    for (int i = 0; i < SLOTS; i++) {
        Slot *s = &d->slots[i];
        if (cuda_check(d, cudaMallocHost((void **)&s->host, SLOT_BYTES), "cudaMallocHost", e) ||
            cuda_check(d, cudaMalloc((void **)&s->device, SLOT_BYTES), "cudaMalloc", e) ||
            cuda_check(d, cudaEventCreateWithFlags(&s->arrived, cudaEventDisableTiming),
                       "cudaEventCreate", e) ||
            cuda_check(d, cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming),
                       "cudaEventCreate", e))
            return -1;
    }
    return 0;
}

void cuda_slots_close(CudaDevice *d) {
    for (int i = 0; i < SLOTS; i++) {
        Slot *s = &d->slots[i];
        if (s->done) cudaEventDestroy(s->done);
        if (s->arrived) cudaEventDestroy(s->arrived);
        if (s->device) cudaFree(s->device);
        if (s->host) cudaFreeHost(s->host);
        *s = (Slot){0};
    }
}

/* Returns the next slot, after the device has finished with it. */
static Slot *next_slot(CudaDevice *d, Error *e) {
    Slot *s = &d->slots[d->slot];
    if (cuda_check(d, cudaEventSynchronize(s->done), "cudaEventSynchronize", e)) return NULL;
    d->slot = (d->slot + 1) % SLOTS;
    return s;
}

/* --- copies --- */

static int copy_async(CudaDevice *d, void *to, const void *from, size_t bytes,
                      enum cudaMemcpyKind kind, cudaStream_t stream, Error *e) {
    char call[64];
    snprintf(call, sizeof call, "cudaMemcpyAsync of %zu bytes", bytes);
    return cuda_check(d, cudaMemcpyAsync(to, from, bytes, kind, stream), call, e);
}

/* Copies on the copy stream while the device computes; the device then moves the bytes in its own
 * order. */
static int copy_across(CudaDevice *d, Slot *s, void *to, size_t bytes, Error *e) {
    if (copy_async(d, s->device, s->host, bytes, cudaMemcpyHostToDevice, d->copies, e) ||
        cuda_check(d, cudaEventRecord(s->arrived, d->copies), "cudaEventRecord", e) ||
        cuda_check(d, cudaStreamWaitEvent(d->stream, s->arrived, 0), "cudaStreamWaitEvent", e))
        return -1;
    return copy_async(d, to, s->device, bytes, cudaMemcpyDeviceToDevice, d->stream, e);
}

int cuda_copy_in(Device *base, void *to, const void *host, size_t bytes, Error *e) {
    CudaDevice *d = cuda_of(base);
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t n = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
        Slot *s = next_slot(d, e);
        if (!s) return -1;
        memcpy(s->host, (const char *)host + at, n);
        int failed = n <= SMALL_COPY ? copy_async(d, (char *)to + at, s->host, n,
                                                  cudaMemcpyHostToDevice, d->stream, e)
                                     : copy_across(d, s, (char *)to + at, n, e);
        if (failed || cuda_check(d, cudaEventRecord(s->done, d->stream), "cudaEventRecord", e))
            return -1;
    }
    return 0;
}

/* A piece on its way to the host: it is taken from its slot while the next piece is copied. */
typedef struct Piece {
    Slot *slot;
    char *to;
    size_t bytes;
} Piece;

static int land(CudaDevice *d, const Piece *p, Error *e) {
    if (!p->slot) return 0;
    if (cuda_check(d, cudaEventSynchronize(p->slot->done), "cudaEventSynchronize", e)) return -1;
    memcpy(p->to, p->slot->host, p->bytes);
    return 0;
}

int cuda_copy_out(Device *base, void *host, const void *from, size_t bytes, Error *e) {
    CudaDevice *d = cuda_of(base);
    Piece last = {0};
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t n = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
        Slot *s = next_slot(d, e);
        if (!s ||
            copy_async(d, s->host, (const char *)from + at, n, cudaMemcpyDeviceToHost, d->stream,
                       e) ||
            cuda_check(d, cudaEventRecord(s->done, d->stream), "cudaEventRecord", e) ||
            land(d, &last, e))
            return -1;
        last = (Piece){s, (char *)host + at, n};
    }
    return land(d, &last, e);
}

int cuda_copy(Device *base, void *to, const void *from, size_t bytes, Error *e) {
    CudaDevice *d = cuda_of(base);
    if (bytes == 0 || to == from) return 0;
    return copy_async(d, to, from, bytes, cudaMemcpyDeviceToDevice, d->stream, e);
}
