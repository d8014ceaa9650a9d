#define _GNU_SOURCE
#include "backend/cpu/cpu.h"

#include <limits.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "backend/cpu/onednn.h"

/* Instruction sets ------------------------------------------------------------------------- */

bool cpu_isa_present(CpuIsa isa) {
    __builtin_cpu_init();
    switch (isa) {
    case CPU_X86_64: return true;
    case CPU_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
    case CPU_AVX512:
        return cpu_isa_present(CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
    default: return false;
    }
}

bool cpu_has_bf16(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16");
}

const CpuKernels *cpu_isa_kernels(CpuIsa isa) {
    static const CpuKernels *const tables[CPU_ISAS] = {&cpu_kernels_x86_64, &cpu_kernels_avx2,
                                                       &cpu_kernels_avx512};
    return tables[isa];
}

int cpu_isa_choose(CpuIsa *out, Error *e) {
    const char *name = getenv("ADVRT_ISA");
    if (!name || !*name) {
        *out = cpu_isa_present(CPU_AVX512) ? CPU_AVX512
               : cpu_isa_present(CPU_AVX2) ? CPU_AVX2
                                           : CPU_X86_64;
        return 0;
    }
    for (int isa = 0; isa < CPU_ISAS; isa++) {
        if (strcmp(name, cpu_isa_kernels((CpuIsa)isa)->isa) != 0) continue;
        if (!cpu_isa_present((CpuIsa)isa))
            return error_set(e, "ADVRT_ISA=%s: this processor does not have it", name);
        *out = (CpuIsa)isa;
        return 0;
    }
    return error_set(e, "ADVRT_ISA=%s: must be x86-64, avx2 or avx512", name);
}

/* Limits oneDNN to the instruction set of the environment variable. oneDNN accepts this only before
 * its first other call. */
static int limit_onednn(CpuIsa isa, Error *e) {
    const char *name = getenv("ADVRT_ISA");
    if (!name || !*name || isa == CPU_AVX512) return 0;
    dnnl_cpu_isa_t most = isa == CPU_AVX2 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_sse41;
    if (dnnl_set_max_cpu_isa(most) == dnnl_success) return 0;
    return error_set(e, "ADVRT_ISA=%s: oneDNN does not accept the limit", name);
}

/* Threads ---------------------------------------------------------------------------------- */

/* The processor time that the control group grants, in cores, rounded down; 0: no limit. */
static int quota_of_group(void) {
    long long quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) return 0;
    int read = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    if (read != 2 || quota <= 0 || period <= 0 || quota / period > INT_MAX) return 0;
    return quota < period ? 1 : (int)(quota / period);
}

int cpu_threads_default(void) {
    cpu_set_t allowed;
    int threads = 1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        threads = CPU_COUNT(&allowed);
    else
        threads = omp_get_num_procs();
    const char *wish = getenv("OMP_NUM_THREADS");
    long wished = wish ? strtol(wish, NULL, 10) : 0;
    if (wished > 0 && wished < threads) threads = (int)wished;
    int quota = quota_of_group();
    if (quota > 0 && quota < threads) threads = quota;
    return threads;
}

/* The device's functions ------------------------------------------------------------------- */

/* The only host device; it lives as long as the process. Its functions ignore their Device
 * argument, because another device with host memory may borrow them. */
static CpuDevice cpu;

const CpuKernels *cpu_kernels(void) {
    return cpu.kernels;
}

static const CpuKernels *kernels_of(const Device *d) {
    (void)d;
    return cpu.kernels;
}

static int take(Device *d, size_t bytes, const char *what, void **out, Error *e) {
    (void)d;
    *out = memory_take(bytes, what, e);
    return *out ? 0 : -1;
}

static void release(Device *d, void *memory) {
    (void)d;
    memory_free(memory);
}

static int copy(Device *d, void *to, const void *from, size_t bytes, Error *e) {
    (void)d, (void)e;
    if (bytes) memmove(to, from, bytes);
    return 0;
}

static int fill(Device *d, float *out, float value, int64_t n, Error *e) {
    (void)e;
    kernels_of(d)->fill(out, value, n);
    return 0;
}

static int binary(Device *d, BinaryOp op, const float *a, const float *b, float *out, int64_t n,
                  Error *e) {
    (void)e;
    kernels_of(d)->binary(op, a, b, out, n);
    return 0;
}

static int binary_scalar(Device *d, BinaryOp op, const float *a, float b, float *out, int64_t n,
                         Error *e) {
    (void)e;
    kernels_of(d)->binary_scalar(op, a, b, out, n);
    return 0;
}

static int clamp(Device *d, const float *a, float low, float high, float *out, int64_t n,
                 Error *e) {
    (void)e;
    kernels_of(d)->clamp(a, low, high, out, n);
    return 0;
}

static int quantize(Device *d, const float *a, float levels, float *out, int64_t n, Error *e) {
    (void)e;
    kernels_of(d)->quantize(a, levels, out, n);
    return 0;
}

static int sign(Device *d, const float *a, float *out, int64_t n, Error *e) {
    (void)e;
    kernels_of(d)->sign(a, out, n);
    return 0;
}

/* Makes room for the partial sums of a batch [N,D]. */
static int want_partials(CpuDevice *c, int64_t N, int64_t D, Error *e) {
    size_t n = kernel_partials(N, D), bytes;
    if (n <= c->partials) return 0;
    if (size_mul(n, sizeof *c->partial, &bytes) != 0)
        return error_set(e, "norms: a batch of this size has too many pieces");
    KernelPartial *larger = memory_take(bytes, "partial sums", e);
    if (!larger) return -1;
    memory_free(c->partial);
    c->partial = larger;
    c->partials = n;
    return 0;
}

static int norms(Device *d, const float *q, int64_t N, int64_t D, double *l2, double *linf,
                 double *zero_share, Error *e) {
    CpuDevice *c = &cpu;
    (void)d;
    if (want_partials(c, N, D, e) != 0) return -1;
    c->kernels->norms(q, N, D, c->partial, l2, linf, zero_share);
    return 0;
}

static int step(Device *d, float *x, const float *q, const double *a, const float *x0, Box box,
                int64_t N, int64_t D, double *l2, double *linf, Error *e) {
    CpuDevice *c = &cpu;
    (void)d;
    if (want_partials(c, N, D, e) != 0) return -1;
    c->kernels->step(x, q, a, x0, box, N, D, c->partial, l2, linf);
    return 0;
}

static int project(Device *d, float *x, const float *x0, const double *s, const double *r,
                   int64_t N, int64_t D, Error *e) {
    (void)e;
    kernels_of(d)->project(x, x0, s, r, N, D);
    return 0;
}

static int tanh_step(Device *d, const AdamStep *s, const TanhStep *a, int64_t N, int64_t D,
                     Error *e) {
    CpuDevice *c = &cpu;
    (void)d;
    if (want_partials(c, N, D, e) != 0) return -1;
    c->kernels->tanh_step(s, a, N, D, c->partial);
    return 0;
}

static int sgd(Device *d, const SgdStep *s, float *p, const float *g, float *m, int64_t P,
               Error *e) {
    (void)e;
    kernels_of(d)->sgd(s, p, g, m, P);
    return 0;
}

static int adam(Device *d, const AdamStep *s, float *p, const float *g, float *m, float *v,
                int64_t P, Error *e) {
    (void)e;
    kernels_of(d)->adam(s, p, g, m, v, P);
    return 0;
}

int cpu_device(int threads, Device **out, Error *e) {
    enum { MOST_THREADS = 4096 };
    if (threads < 0 || threads > MOST_THREADS)
        return error_set(e, "threads must be in 1 .. %d, got %d", MOST_THREADS, threads);
    if (!cpu.kernels) {
        CpuIsa isa;
        if (cpu_isa_choose(&isa, e) != 0 || limit_onednn(isa, e) != 0) return -1;
        cpu.isa = isa;
        cpu.kernels = cpu_isa_kernels(isa);
        cpu.base = (Device){.name = "cpu",
                            .isa = cpu.kernels->isa,
                            .host = true,
                            .bf16 = true,
                            .rounds = true,
                            .alignment = 64,
                            .take = take,
                            .release = release,
                            .copy_in = copy,
                            .copy_out = copy,
                            .copy = copy,
                            .fill = fill,
                            .binary = binary,
                            .binary_scalar = binary_scalar,
                            .clamp = clamp,
                            .quantize = quantize,
                            .sign = sign,
                            .map = cpu_map,
                            .broadcast = cpu_broadcast,
                            .reduce = cpu_reduce,
                            .softmax = cpu_softmax,
                            .top = cpu_top,
                            .gather = cpu_gather,
                            .scatter = cpu_scatter,
                            .matmul = cpu_matmul,
                            .loss = cpu_loss,
                            .logit_stats = cpu_logit_stats,
                            .cross_entropy = cpu_cross_entropy,
                            .norms = norms,
                            .step = step,
                            .project = project,
                            .tanh_step = tanh_step,
                            .sgd = sgd,
                            .adam = adam,
                            .lower_begin = cpu_lower_begin,
                            .lower = cpu_lower,
                            .lower_end = cpu_lower_end};
    }
    cpu.threads = threads ? threads : cpu_threads_default();
    omp_set_num_threads(cpu.threads);
    *out = &cpu.base;
    return 0;
}
