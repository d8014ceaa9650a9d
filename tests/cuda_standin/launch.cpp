/* Blocks and threads: blocks in shuffled order, the threads of a block as fibers in shuffled order.
 * A thread that comes to a barrier or a warp's exchange waits there for the others. Fibers switch
 * by longjmp, which costs no system call; a thread that never waits needs no switch at all. */
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>

#include "kernel.h"
#include "streams.h"

StandinThread standin_thread;

namespace standin {

enum { THREADS_MOST = 1024, STACK = 256 << 10, SHARED_BYTES = 48 << 10, SHARED_GAP = 64 };

enum State { RUNNING, AT_BARRIER, IN_EXCHANGE, RELEASED };

struct Fiber {
    ucontext_t start;
    jmp_buf here;
    bool begun;
    State state;
    uint3 thread;  /* that it runs */
    unsigned rank; /* its number in the block */
    size_t shared; /* bytes of shared memory that it has declared so far */
};

/* What one lane of a warp brought to an exchange. */
struct Warp {
    unsigned mask, arrived;
    uint64_t value[32];
    unsigned left; /* lanes that have yet to read */
};

struct SharedArray {
    size_t at, bytes;
    std::string name;
};
struct SharedCell {
    uint32_t write_thread, write_epoch, read_thread, read_epoch;
};

static struct BlockState {
    const char *arguments;
    size_t bytes;
    void (*body)(const void *);
    std::vector<unsigned> order; /* of threads */
    unsigned next, count, done;
    uint32_t epoch; /* barriers passed, from 1 */
    std::vector<Fiber *> idle, waiting;
    Fiber *current;
    jmp_buf scheduler;
    Warp warps[THREADS_MOST / 32];
    std::vector<SharedArray> arrays;
} now;

static Launch launched;
static bool in_kernel;
static char *stacks, *shared_memory;
static std::vector<Fiber> fibers;
static std::vector<SharedCell> shared_cells(SHARED_BYTES / 4);
static uint64_t block_number;

const Launch *launch_now() {
    return in_kernel ? &launched : NULL;
}

uint32_t launch_thread() {
    return in_kernel ? (uint32_t)(block_number * launched.threads_of_block + now.current->rank + 1)
                     : 0;
}

bool Launch::races(uint32_t one, uint32_t other) const {
    if (one == 0 || other == 0 || one == other) return false;
    if (one == MANY) return now.epoch == 1;
    bool same_block = (one - 1) / threads_of_block == (other - 1) / threads_of_block;
    return !same_block || now.epoch == 1;
}

std::string Launch::name(uint32_t thread) const {
    if (thread == MANY) return "of several";
    uint64_t b = (thread - 1) / threads_of_block;
    char text[96];
    snprintf(text, sizeof text, "%llu of block (%llu,%llu,%llu)",
             (unsigned long long)((thread - 1) % threads_of_block),
             (unsigned long long)(b % grid.x), (unsigned long long)(b / grid.x % grid.y),
             (unsigned long long)(b / grid.x / grid.y));
    return text;
}

std::string place() {
    return in_kernel ? ", thread " + launched.name(launch_thread()) : "";
}

/* --- fibers --- */

static void leave_to_scheduler(State state) {
    Fiber *f = now.current;
    f->state = state;
    if (!_setjmp(f->here)) _longjmp(now.scheduler, 1);
    /* here again: the scheduler has set who runs */
}

/* A fiber's life: threads of the block, one after the other, while there are any. */
static void fiber_main() {
    Fiber *f = now.current;
    for (;;) {
        while (now.next < now.count) {
            f->rank = now.order[now.next++];
            f->thread = {f->rank, 0, 0};
            f->shared = 0;
            standin_thread.thread = f->thread;
            now.body(now.arguments);
            now.done++;
        }
        now.idle.push_back(f);
        if (!_setjmp(f->here)) _longjmp(now.scheduler, 1);
        f = now.current;
    }
}

static void enter(Fiber *f) {
    now.current = f;
    standin_thread.thread = f->thread;
    f->state = RUNNING;
    if (_setjmp(now.scheduler)) return;
    if (f->begun) _longjmp(f->here, 1);
    f->begun = true;
    setcontext(&f->start);
}

static void make_fibers() {
    if (!fibers.empty()) return;
    fibers.resize(THREADS_MOST);
    stacks = (char *)mmap(NULL, (size_t)THREADS_MOST * STACK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    shared_memory = (char *)mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED || shared_memory == MAP_FAILED) report("no memory for threads");
    for (size_t i = 0; i < fibers.size(); i++) {
        Fiber *f = &fibers[i];
        getcontext(&f->start);
        f->start.uc_stack.ss_sp = stacks + i * STACK;
        f->start.uc_stack.ss_size = STACK;
        makecontext(&f->start, fiber_main, 0);
        now.idle.push_back(f);
    }
}

/* --- a block --- */

static void shuffle(std::vector<unsigned> &v) {
    for (size_t i = v.size(); i > 1; i--) std::swap(v[i - 1], v[choose((uint32_t)i)]);
}

[[noreturn]] static void stuck() {
    for (Fiber *f : now.waiting)
        if (f->state == IN_EXCHANGE) {
            now.current = f;
            standin_thread.thread = f->thread;
            const Warp &w = now.warps[f->rank / 32];
            report("lanes %08x never come to a warp's exchange for %08x", w.mask & ~w.arrived,
                   w.mask);
        }
    report("threads never come to a barrier that others wait at");
}

/* Lets the waiting threads go on that may; false where there are none. */
static bool release() {
    bool all = true, any = false;
    for (Fiber *f : now.waiting) all = all && f->state == AT_BARRIER;
    if (all) {
        if (now.done) stuck(); /* some have ended: the barrier is not all threads' */
        now.epoch++;
        for (Fiber *f : now.waiting) f->state = RELEASED;
    }
    for (Fiber *f : now.waiting) any = any || f->state == RELEASED;
    return any;
}

static void run_block(unsigned threads) {
    now.count = threads;
    now.next = now.done = 0;
    now.epoch = 1;
    now.order.resize(threads);
    for (unsigned i = 0; i < threads; i++) now.order[i] = i;
    shuffle(now.order);
    now.arrays.clear();
    memset((void *)now.warps, 0, sizeof now.warps);
    while (now.done < now.count) {
        if (now.next < now.count) {
            Fiber *f = now.idle.back();
            now.idle.pop_back();
            enter(f);
            if (f->state != RUNNING) now.waiting.push_back(f);
            continue;
        }
        if (!release()) stuck();
        std::vector<Fiber *> ready;
        for (Fiber *f : now.waiting)
            if (f->state == RELEASED) ready.push_back(f);
        now.waiting.erase(std::remove_if(now.waiting.begin(), now.waiting.end(),
                                         [](Fiber *f) { return f->state == RELEASED; }),
                          now.waiting.end());
        for (size_t i = ready.size(); i > 1; i--)
            std::swap(ready[i - 1], ready[choose((uint32_t)i)]);
        for (Fiber *f : ready) {
            enter(f);
            if (f->state != RUNNING) now.waiting.push_back(f);
        }
    }
}

static void run_grid(dim3 grid, dim3 block, const std::vector<char> &arguments,
                     void (*thread)(const void *)) {
    make_fibers();
    memory_use();
    launched = {grid, block, block.x};
    standin_thread.threads = block;
    standin_thread.blocks = grid;
    now.arguments = arguments.data();
    now.bytes = arguments.size();
    now.body = thread;
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, start = choose((uint32_t)blocks);
    uint64_t stride = 1; /* visits every block once where it has no factor in common with blocks */
    for (uint64_t tries = 0; tries < 64; tries++) {
        uint64_t s = 1 + choose((uint32_t)blocks), a = s, b = blocks;
        while (b) std::swap(a %= b, b);
        if (a == 1) {
            stride = s;
            break;
        }
    }
    in_kernel = true;
    for (uint64_t i = 0; i < blocks; i++) {
        block_number = (start + i * stride) % blocks;
        standin_thread.block = {(unsigned)(block_number % grid.x),
                                (unsigned)(block_number / grid.x % grid.y),
                                (unsigned)(block_number / grid.x / grid.y)};
        run_block(block.x);
    }
    in_kernel = false;
}

/* --- shared memory --- */

static void shared_access(const char *at, size_t bytes, bool write) {
    size_t offset = (size_t)(at - shared_memory);
    uint32_t me = now.current->rank + 1;
    const SharedArray *in = NULL;
    for (const SharedArray &a : now.arrays)
        if (offset >= a.at && offset + bytes <= a.at + a.bytes) in = &a;
    if (!in)
        report("%s of %zu bytes outside of every shared array", write ? "write" : "read", bytes);
    for (size_t i = offset / 4; i <= (offset + bytes - 1) / 4; i++) {
        SharedCell &c = shared_cells[i];
        bool written = c.write_epoch != 0;
        if (!write && !written)
            report("read of shared array %s before it was written", in->name.c_str());
        if (written && c.write_epoch == now.epoch && c.write_thread != me)
            report("%s of shared array %s that thread %u wrote, with no barrier between",
                   write ? "write" : "read", in->name.c_str(), c.write_thread - 1);
        if (write && c.read_epoch == now.epoch && c.read_thread != me)
            report("write of shared array %s that another thread reads, with no barrier between",
                   in->name.c_str());
        if (write)
            c.write_thread = me, c.write_epoch = now.epoch;
        else {
            c.read_thread = c.read_epoch == now.epoch && c.read_thread != me ? MANY : me;
            c.read_epoch = now.epoch;
        }
    }
}

void launch_access(const char *at, size_t bytes, bool write) {
    if (!in_kernel) return;
    if (at >= stacks && at < stacks + (size_t)THREADS_MOST * STACK) return;
    if (at >= shared_memory && at < shared_memory + SHARED_BYTES)
        return shared_access(at, bytes, write);
    if (at >= (char *)&standin_thread && at < (char *)(&standin_thread + 1)) return;
    if (at >= now.arguments && at < now.arguments + now.bytes) return;
    static const char *known; /* a page of constants in a module's image */
    const char *page = (const char *)((size_t)at & ~(size_t)4095);
    Dl_info info;
    if (page == known) return;
    if (write || !dladdr(at, &info))
        report("%s of %zu bytes of host memory at %p by a kernel", write ? "write" : "read", bytes,
               (const void *)at);
    known = page;
}

} // namespace standin

using namespace standin;

void standin_barrier() {
    leave_to_scheduler(AT_BARRIER);
}

static Warp *arrive(unsigned mask, uint64_t value) {
    unsigned lane = now.current->rank % 32, bit = 1U << lane;
    Warp *w = &now.warps[now.current->rank / 32];
    if (!(mask & bit)) report("lane %u is not in the mask %08x of its own exchange", lane, mask);
    while (w->left) leave_to_scheduler(RELEASED); /* the exchange before it is still being read */
    if (w->arrived && w->mask != mask)
        report("lanes of one warp exchange with masks %08x and %08x", w->mask, mask);
    w->mask = mask;
    w->arrived |= bit;
    w->value[lane] = value;
    if (w->arrived == mask) {
        w->left = mask;
        for (Fiber *f : now.waiting)
            if (f->state == IN_EXCHANGE && f->rank / 32 == now.current->rank / 32)
                f->state = RELEASED;
    } else
        leave_to_scheduler(IN_EXCHANGE);
    return w;
}

static void depart(Warp *w) {
    w->left &= ~(1U << now.current->rank % 32);
    if (!w->left) w->arrived = w->mask = 0;
}

uint64_t standin_exchange(unsigned mask, uint64_t value, int from) {
    if (!(mask >> from & 1)) report("a lane reads lane %d, which is not in mask %08x", from, mask);
    Warp *w = arrive(mask, value);
    uint64_t got = w->value[from];
    depart(w);
    return got;
}

unsigned standin_ballot(unsigned mask, bool value) {
    Warp *w = arrive(mask, value);
    unsigned bits = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1 && w->value[i]) bits |= 1U << i;
    depart(w);
    return bits;
}

void *standin_shared(size_t bytes, const char *name) {
    Fiber *f = now.current;
    size_t at = f->shared;
    f->shared += (bytes + SHARED_GAP + 15) / 16 * 16;
    if (f->shared > SHARED_BYTES) report("more than %d bytes of shared memory", SHARED_BYTES);
    for (const SharedArray &a : now.arrays)
        if (a.at == at && a.bytes == bytes) return shared_memory + at;
    now.arrays.push_back({at, bytes, name});
    memset(shared_memory + at, 0xff, bytes);
    std::fill(shared_cells.begin() + (long)(at / 4), shared_cells.begin() + (long)(f->shared / 4),
              SharedCell{0, 0, 0, 0});
    return shared_memory + at;
}

cudaError_t standin_enqueue(const char *name, dim3 grid, dim3 block, cudaStream_t stream,
                            const void *arguments, size_t bytes, void (*thread)(const void *)) {
    if (call_fails("launch")) return launch_error(cudaErrorLaunchOutOfResources);
    if (block.x < 1 || block.x > THREADS_MOST || block.y != 1 || block.z != 1 || grid.x < 1 ||
        grid.x > INT32_MAX || grid.y < 1 || grid.y > 65535 || grid.z < 1 || grid.z > 65535)
        return launch_error(cudaErrorInvalidConfiguration);
    std::vector<char> copy((const char *)arguments, (const char *)arguments + bytes);
    cudaError_t status = enqueue(stream, name, [=]() { run_grid(grid, block, copy, thread); });
    return status == cudaSuccess ? status : launch_error(status);
}
