/* The CUDA device: a plugin that advrt loads (backend/open.h). It uses the core's functions from
 * the program that loads it.
 *
 * All work runs on one stream, in the order of the calls. Only copies to the host wait for it. So
 * freed memory may be reused at once.
 */
#ifndef ADVRT_DEVICE_CUDA_CUDA_H
#define ADVRT_DEVICE_CUDA_CUDA_H

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "backend/cuda/kernels.h"

/* A block of the pool. Freed device memory is kept for a later request of about the same size. */
typedef struct PoolBlock {
    void *memory;
    size_t bytes,
        charged; /* charged: the size that base/memory.h counts while the block is in use */
    bool taken;
} PoolBlock;
typedef struct Pool {
    PoolBlock *blocks; /* sorted by address */
    int n, room;
    size_t taken, kept; /* bytes */
} Pool;

/* Pinned host memory for copies; each slot has equal space on the device. A large copy to the
 * device crosses on its own stream while kernels run. A copy within the device then moves it to its
 * destination. `done` marks the end of the slot's last use. */
enum { SLOTS = 4, SLOT_BYTES = 4 << 20, SMALL_COPY = 256 << 10 };
typedef struct Slot {
    char *host, *device;
    cudaEvent_t arrived, done;
} Slot;

typedef struct CudaDevice {
    Device base; /* first */
    int index;
    char name[16], isa[16]; /* "cuda:0", "sm_90" */
    cudaStream_t stream, copies;
    cublasHandle_t blas;
    cudnnHandle_t dnn;
    void *blas_workspace;
    Pool pool;
    Slot slots[SLOTS];
    int slot; /* index of the next slot */
    CudaPartial *partial;
    size_t partials;
    struct CudaAscent *ascent; /* the captured step of the last attack; NULL: none */
    bool told_of_chance;       /* the warning about nondeterministic convolutions was given */
} CudaDevice;

/* Returns 0 for success; else -1 with the error "DEVICE: CALL: what it says". `call` may name
 * shapes. */
int cuda_check(const CudaDevice *d, cudaError_t status, const char *call, Error *e);
int cuda_check_blas(const CudaDevice *d, cublasStatus_t status, const char *call, Error *e);
int cuda_check_dnn(const CudaDevice *d, cudnnStatus_t status, const char *call, Error *e);

/* --- memory.c --- */

int cuda_take(Device *d, size_t bytes, const char *what, void **out, Error *e);
void cuda_release(Device *d, void *memory);
int cuda_copy_in(Device *d, void *to, const void *host, size_t bytes, Error *e);
int cuda_copy_out(Device *d, void *host, const void *from, size_t bytes, Error *e);
int cuda_copy(Device *d, void *to, const void *from, size_t bytes, Error *e);
int cuda_slots_open(CudaDevice *d, Error *e);
void cuda_slots_close(CudaDevice *d);
/* Returns all unused memory to the driver. */
void cuda_pool_empty(CudaDevice *d);
/* The size that the pool uses for a request of this many bytes: the next of its sizes. */
size_t cuda_taken_for(size_t bytes);
/* Bytes that a request could still get, with the pool's unused blocks. */
size_t cuda_free_bytes(Device *d);

/* --- operations.c --- */

void cuda_operations(Device *d);

/* A product of matrices by cuBLAS, row-major: out [M,N] of a and b, as `kind` says. The factors
 * have type `in`, the result `to`. With `sum`, adds to out. f32 is full f32 unless tensor_cores. */
typedef struct Product {
    MatmulKind kind;
    int64_t M, K, N;
    Real in, to;
    bool sum, tensor_cores;
} Product;
int cuda_product(CudaDevice *d, const Product *p, const void *a, const void *b, void *out,
                 const char *who, Error *e);
/* `count` products; consecutive operands lie a fixed number of elements apart. If `turned`, a
 * factor's memory holds its transpose. ld: distance of rows in memory. out = scale a b. */
typedef struct BatchedProduct {
    int64_t M, K, N, count;
    int64_t a_ld, b_ld, out_ld, a_step, b_step, out_step;
    bool a_turned, b_turned;
    Real in, to;
    bool sum, tensor_cores;
    float scale;
} BatchedProduct;
int cuda_batched_product(CudaDevice *d, const BatchedProduct *p, const void *a, const void *b,
                         void *out, const char *who, Error *e);

/* --- group.c --- */

int cuda_group_id(Device *d, char id[GROUP_ID], Error *e);
int cuda_group_new(Device *d, int rank, int count, const char id[GROUP_ID], Group **out, Error *e);

/* --- ascent.c --- */

int cuda_ascend(Device *d, const Ascent *a, int64_t first, int64_t end, Error *e);
void cuda_ascent_free(CudaDevice *d);
/* Drops only the captured step; it is captured again when needed. */
void cuda_ascent_forget(CudaDevice *d);

/* --- lower.c: the Device's lowering of programs --- */

int cuda_lower_begin(struct Compiler *c, Error *e);
int cuda_lower(struct Compiler *c, const struct Op *op, Error *e);
int cuda_lower_end(struct Compiler *c, Error *e);
int cuda_run_timed(Plan *p, int first, int end, Error *e);
void cuda_plan_ends(Plan *p);

#endif
