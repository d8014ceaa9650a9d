/* The CPU device: host memory, its own vector code for elementwise work and losses, and plans on
 * oneDNN. The files of this folder share this header; other code uses device/device.h.
 */
#ifndef ADVRT_DEVICE_CPU_CPU_H
#define ADVRT_DEVICE_CPU_CPU_H

#include "backend/cpu/kernels.h"

typedef enum CpuIsa { CPU_X86_64, CPU_AVX2, CPU_AVX512, CPU_ISAS } CpuIsa;

typedef struct CpuDevice {
    Device base; /* first, so that a CPU Device * can be cast to CpuDevice * */
    int threads;
    CpuIsa isa;
    const CpuKernels *kernels;
    KernelPartial *partial; /* scratch memory of norms and step; grows for larger batches */
    size_t partials;
} CpuDevice;

/* The best instruction set that the processor has and the environment allows:
 * ADVRT_ISA=x86-64|avx2|avx512. An unknown name, or a set that the processor lacks, is an error. */
int cpu_isa_choose(CpuIsa *out, Error *e);
bool cpu_isa_present(CpuIsa isa);
const CpuKernels *cpu_isa_kernels(CpuIsa isa);
/* The kernels of the CPU device, once it is open. */
const CpuKernels *cpu_kernels(void);
/* Cores this process may use: the least of its affinity, OMP_NUM_THREADS if set, and the processor
 * time that its control group grants. */
int cpu_threads_default(void);

/* The Device's functions on logits (losses.c). */
int cpu_loss(Device *d, const LossCall *call, const float *z, const int64_t *target, int64_t N,
             int64_t K, float *value, float *dz, Error *e);
int cpu_logit_stats(Device *d, const float *z, const int64_t *initial, const int64_t *target,
                    int64_t N, int64_t K, const LogitStats *out, Error *e);
int cpu_cross_entropy(Device *d, const float *z, const int64_t *label, int64_t N, int64_t K,
                      double *host_loss, int64_t *host_correct, float *dz, Error *e);

int cpu_softmax(Device *d, SoftmaxKind kind, const float *a, RowShape r, float *out, Error *e);

/* The Device's functions for autograd (algebra.c). */
int cpu_map(Device *d, MapOp op, const float *a, float *out, int64_t n, Error *e);
int cpu_broadcast(Device *d, BinaryOp op, const Broadcast *s, const float *a, const float *b,
                  float *out, Error *e);
int cpu_reduce(Device *d, ReduceOp op, const float *a, RowShape r, float *out, Error *e);
int cpu_top(Device *d, const float *a, RowShape r, int64_t k, float *value, int64_t *index,
            Error *e);
int cpu_gather(Device *d, bool others, const float *a, const int64_t *index, RowShape r, int64_t J,
               float *out, Error *e);
int cpu_scatter(Device *d, bool others, const float *dy, const int64_t *index, RowShape r,
                int64_t J, float *da, Error *e);
int cpu_matmul(Device *d, MatmulKind kind, const float *a, const float *b, float *out, int64_t M,
               int64_t K, int64_t N, Error *e);

/* The Device's lowering of programs (lower.c). */
int cpu_lower_begin(struct Compiler *c, Error *e);
int cpu_lower(struct Compiler *c, const struct Op *op, Error *e);
int cpu_lower_end(struct Compiler *c, Error *e);

#endif
