#include "machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <map>

#include "streams.h"

namespace standin {

const Op *running;

/* --- chance --- */

static uint64_t seed_of_start() {
    const char *asked = getenv("STANDIN_SEED");
    if (asked && *asked) return strtoull(asked, NULL, 10);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec << 20;
}

static uint64_t seed() {
    static uint64_t s = seed_of_start();
    return s;
}

uint32_t choose(uint32_t n) {
    static uint64_t state = seed();
    state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = state;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)((z ^ (z >> 31)) >> 32) % n;
}

void report(const char *format, ...) {
    va_list args;
    fflush(stdout);
    fprintf(stderr, "standin: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (running) fprintf(stderr, "; in %s, operation %u", running->name.c_str(), running->serial);
    fprintf(stderr, "%s (STANDIN_SEED=%llu)\n", place().c_str(), (unsigned long long)seed());
    abort();
}

/* --- calls that fail on request --- */

static std::string fail_name;
static int fail_in;
static bool fail_happened;

static void read_environment() {
    static bool done;
    if (done) return;
    done = true;
    const char *asked = getenv("STANDIN_FAIL"), *at = asked ? strchr(asked, '@') : NULL;
    if (at) standin_fail(std::string(asked, (size_t)(at - asked)).c_str(), atoi(at + 1));
}

bool call_fails(const char *name) {
    read_environment();
    if (!*name) return false;
    /* what is given back is given back, where any call may fail: a leak is then the plugin's own */
    if (fail_name == "any" && (strstr(name, "Free") || strstr(name, "Destroy"))) return false;
    if (fail_in == 0 || (fail_name != "any" && fail_name != name)) return false;
    if (--fail_in > 0) return false;
    fail_happened = true;
    return true;
}

/* --- memory --- */

/* What is known of four bytes: the operation that wrote and read them last (0: none), and which of
 * its threads (0: not a kernel). */
struct Cell {
    uint32_t writer, reader, write_thread, read_thread;
};

struct Block {
    size_t bytes;
    bool live;
    uint32_t released_after; /* the operation, for reports */
};

static const size_t SPACE_BYTES = (size_t)1 << 36, GAP = 4096;

struct Arena {
    char *base, *alias; /* the same bytes; see memory_seen */
    Cell *cells;
    size_t used, taken;
    std::map<size_t, Block> blocks; /* by offset; never used twice */
};
static Arena arenas[2];
static size_t device_bytes = (size_t)8 << 30;
static uint32_t serials;
static std::vector<std::pair<int, uint32_t>> serial_places(1); /* stream and index by serial */

/* Address space, of a file's pages where one is given: two reservations of it show the same. */
static void *reserve(size_t bytes, int protection, int file) {
    int kind = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *p = mmap(NULL, bytes, protection, kind | MAP_NORESERVE, file, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "standin: cannot reserve address space\n");
        abort();
    }
    return p;
}

static Arena &arena(Space space) {
    Arena &a = arenas[space];
    if (a.base) return a;
    int file = space == DEVICE ? memfd_create("device memory", MFD_CLOEXEC) : -1;
    if (file >= 0 && ftruncate(file, (off_t)SPACE_BYTES)) file = -1;
    if (space == DEVICE && file < 0) report("no memory that can be seen twice");
    a.base =
        (char *)reserve(SPACE_BYTES, space == DEVICE ? PROT_NONE : PROT_READ | PROT_WRITE, file);
    a.alias = space == DEVICE ? (char *)reserve(SPACE_BYTES, PROT_READ | PROT_WRITE, file) : a.base;
    a.cells = (Cell *)reserve(SPACE_BYTES / 4 * sizeof(Cell), PROT_READ | PROT_WRITE, -1);
    if (file >= 0) close(file);
    const char *limit = getenv("STANDIN_MEMORY");
    if (space == DEVICE && limit) device_bytes = strtoull(limit, NULL, 10);
    return a;
}

static bool inside(const Arena &a, const void *at) {
    return a.base && (const char *)at >= a.base && (const char *)at < a.base + SPACE_BYTES;
}

bool memory_is(Space space, const void *at) {
    return inside(arenas[space], at);
}

static int opened;
static bool used;

void *memory_seen(const void *at) {
    const Arena &a = arenas[DEVICE];
    return inside(a, at) ? a.alias + ((const char *)at - a.base) : (char *)at;
}

void memory_open() {
    opened++;
}

void memory_use() {
    if (!used) mprotect(arenas[DEVICE].base, arenas[DEVICE].used, PROT_READ | PROT_WRITE);
    used = true;
}

void memory_close() {
    if (--opened > 0 || !used) return;
    used = false;
    mprotect(arenas[DEVICE].base, arenas[DEVICE].used, PROT_NONE);
}

void *memory_take(Space space, size_t bytes) {
    Arena &a = arena(space);
    if (space == DEVICE && bytes > device_bytes - a.taken) return NULL;
    size_t at = a.used + GAP;
    a.used = (at + bytes + GAP - 1) / GAP * GAP;
    if (a.used + GAP > SPACE_BYTES) report("address space used up");
    a.blocks[at] = {bytes, true, 0};
    a.taken += bytes;
    /* Device memory is poisoned by its shadow, which knows what was never written; of pinned
     * memory, which the host reads unseen, poison is NaN. */
    if (space == PINNED) memset(a.base + at, 0xff, bytes);
    made(space == DEVICE ? "device memory" : "pinned memory");
    return a.base + at;
}

void memory_release(Space space, void *memory) {
    Arena &a = arenas[space];
    auto b = inside(a, memory) ? a.blocks.find((size_t)((char *)memory - a.base)) : a.blocks.end();
    if (b == a.blocks.end())
        report("%p is freed and is no %s memory", memory, space == DEVICE ? "device" : "pinned");
    if (!b->second.live) report("%p is freed twice", memory);
    b->second.live = false;
    b->second.released_after = serials;
    a.taken -= b->second.bytes;
    size_t from = b->first / GAP * GAP, bytes = (b->first + b->second.bytes - from) / GAP * GAP;
    if (bytes) madvise(a.alias + from, bytes, space == DEVICE ? MADV_REMOVE : MADV_DONTNEED);
    if (bytes)
        madvise((char *)a.cells + from / 4 * sizeof(Cell), bytes / 4 * sizeof(Cell), MADV_DONTNEED);
    destroyed(space == DEVICE ? "device memory" : "pinned memory");
}

/* The allocation that `at` is in or behind; blocks.end() where there is none before it. */
static std::map<size_t, Block>::iterator block_of(Arena &a, const void *at) {
    auto b = a.blocks.upper_bound((size_t)((const char *)at - a.base));
    return b == a.blocks.begin() ? a.blocks.end() : --b;
}

size_t memory_room(const void *at) {
    for (Arena &a : arenas) {
        if (!inside(a, at)) continue;
        auto b = block_of(a, at);
        size_t offset = (size_t)((const char *)at - a.base);
        if (b == a.blocks.end() || !b->second.live || offset >= b->first + b->second.bytes)
            return 0;
        return b->first + b->second.bytes - offset;
    }
    return 0;
}

void memory_info(size_t *free, size_t *total) {
    *free = device_bytes - arena(DEVICE).taken;
    *total = device_bytes;
}

/* Explains what is wrong with an access to [at, at + bytes), which is not all in one live block. */
[[noreturn]] static void outside_of_memory(Arena &a, const char *what, const void *at,
                                           size_t bytes) {
    auto b = block_of(a, at);
    if (b == a.blocks.end()) report("%s of %zu bytes at %p, before all memory", what, bytes, at);
    size_t offset = (size_t)((const char *)at - a.base) - b->first;
    if (!b->second.live)
        report("%s of %zu bytes after free, at byte %zu of freed memory of %zu bytes", what, bytes,
               offset, b->second.bytes);
    report("%s of %zu bytes out of bounds, at byte %zu of memory of %zu bytes", what, bytes, offset,
           b->second.bytes);
}

/* The last few allocations that were accessed: kernels go to few, over and over. */
struct Near {
    const char *from, *to;
    Cell *cells;
};
static Near near_blocks[8];
static unsigned near_next;

static void forget_near() {
    memset(near_blocks, 0, sizeof near_blocks);
}

static Cell *cells_of(const char *at, size_t bytes, const char *what) {
    for (Near &n : near_blocks)
        if (at >= n.from && at + bytes <= n.to) return n.cells + (at - n.from) / 4;
    for (Arena &a : arenas) {
        if (!inside(a, at)) continue;
        auto b = block_of(a, at);
        size_t offset = (size_t)(at - a.base);
        if (b == a.blocks.end() || !b->second.live || offset + bytes > b->first + b->second.bytes)
            outside_of_memory(a, what, at, bytes);
        Near n = {a.base + b->first, a.base + b->first + b->second.bytes, a.cells + b->first / 4};
        near_blocks[near_next++ % 8] = n;
        return n.cells + (at - n.from) / 4;
    }
    report("%s of %zu bytes at %p, which is no device memory", what, bytes, (const void *)at);
}

bool ordered_before(uint32_t serial) {
    if (!running || serial == running->serial) return true;
    auto place = serial_places[serial];
    return (size_t)place.first < running->clock.size() &&
           running->clock[(size_t)place.first] >= place.second;
}

static std::string name_of(uint32_t serial);

[[noreturn]] static void unordered(const char *what, const char *other, uint32_t serial) {
    report("%s of bytes that operation %u (%s) %s and that nothing orders after it: a "
           "synchronisation between the streams is missing",
           what, serial, name_of(serial).c_str(), other);
}

/* One access of a kernel's thread to its cells; thread 0 stands for a library's operation. */
static void note_read(Cell *c, size_t n, uint32_t thread, const Launch *launch) {
    uint32_t serial = running->serial;
    for (size_t i = 0; i < n; i++) {
        if (c[i].writer == 0) report("read of memory that was never written");
        if (c[i].writer != serial && !ordered_before(c[i].writer))
            unordered("read", "wrote", c[i].writer);
        if (c[i].writer == serial && launch && launch->races(c[i].write_thread, thread))
            report("read of what thread %s wrote without a barrier between",
                   launch->name(c[i].write_thread).c_str());
        c[i].read_thread = c[i].reader == serial && c[i].read_thread != thread ? MANY : thread;
        c[i].reader = serial;
    }
}

static void note_write(Cell *c, size_t n, uint32_t thread, const Launch *launch) {
    uint32_t serial = running->serial;
    for (size_t i = 0; i < n; i++) {
        if (c[i].writer && c[i].writer != serial && !ordered_before(c[i].writer))
            unordered("write", "wrote", c[i].writer);
        if (c[i].reader && c[i].reader != serial && !ordered_before(c[i].reader))
            unordered("write", "read", c[i].reader);
        if (launch && c[i].writer == serial && launch->races(c[i].write_thread, thread))
            report("write of what thread %s wrote without a barrier between",
                   launch->name(c[i].write_thread).c_str());
        if (launch && c[i].reader == serial && launch->races(c[i].read_thread, thread))
            report("write of what thread %s read without a barrier between",
                   launch->name(c[i].read_thread).c_str());
        c[i].writer = serial;
        c[i].write_thread = thread;
    }
}

static size_t cells_in(const void *at, size_t bytes) {
    return ((size_t)at % 4 + bytes + 3) / 4;
}

void touch_read(const void *at, size_t bytes) {
    if (bytes) note_read(cells_of((const char *)at, bytes, "read"), cells_in(at, bytes), 0, NULL);
}

void touch_write(const void *at, size_t bytes) {
    if (bytes) note_write(cells_of((const char *)at, bytes, "write"), cells_in(at, bytes), 0, NULL);
}

/* An access of a kernel, told by the compiler's instrumentation. */
static inline void access(const char *at, size_t bytes, bool write) {
    if (!running && !inside(arenas[DEVICE], at)) return; /* the host's own */
    if (inside(arenas[DEVICE], at) || inside(arenas[PINNED], at)) {
        const char *what = write ? "write" : "read";
        if (!running) report("%s of %zu bytes of device memory by the host", what, bytes);
        if (bytes <= 16 && (size_t)at % bytes)
            report("%s of %zu bytes at %p, which is not aligned to them", what, bytes,
                   (const void *)at);
        if (inside(arenas[PINNED], at)) report("%s of host memory by a kernel", what);
        Cell *c = cells_of(at, bytes, what);
        /* several threads may write neighbouring bytes of one cell */
        const Launch *launch = bytes < 4 ? NULL : launch_now();
        uint32_t thread = launch_thread();
        if (write)
            note_write(c, cells_in(at, bytes), thread, launch);
        else
            note_read(c, cells_in(at, bytes), thread, launch);
        return;
    }
    launch_access(at, bytes, write);
}

/* --- operations --- */

static std::vector<std::string> recent_names(1024);

static std::string name_of(uint32_t serial) {
    return recent_names[serial % recent_names.size()];
}

uint32_t next_serial(int stream, uint32_t index, const std::string &name) {
    serial_places.push_back({stream, index});
    recent_names[(serials + 1) % recent_names.size()] = name;
    return ++serials;
}

static uint64_t operations;

void run_op(const Op &op) {
    const Op *outer = running;
    running = &op;
    forget_near();
    operations++;
    memory_open();
    op.run();
    memory_close();
    running = outer;
}

/* --- what was made --- */

static std::map<std::string, int> objects;

void made(const char *kind) {
    objects[kind]++;
}

void destroyed(const char *kind) {
    if (objects[kind]-- <= 0) report("a %s is destroyed that was not made", kind);
}

/* At the end of the program: what ran, where STANDIN_COUNT is set, and, where STANDIN_LEAKS is, a
 * leak fails it. */
struct AtEnd {
    ~AtEnd() {
        if (getenv("STANDIN_COUNT"))
            fprintf(stderr, "standin: %llu operations, %llu graphs\n",
                    (unsigned long long)standin_operations(),
                    (unsigned long long)standin_graph_launches());
        if (!getenv("STANDIN_LEAKS") || standin_leaks() == 0) return;
        fflush(stdout);
        _exit(1);
    }
};

} // namespace standin

/* --- what tests ask --- */

using namespace standin;

extern "C" {

void standin_fail(const char *name, int n) {
    fail_name = name ? name : "any";
    fail_in = n;
    fail_happened = false;
}

int standin_failed(void) {
    return fail_happened;
}

int standin_leaks(void) {
    int all = 0;
    for (auto &kind : objects) {
        if (kind.second)
            fprintf(stderr, "standin: %d %s leaked\n", kind.second, kind.first.c_str());
        all += kind.second;
    }
    return all;
}

void standin_memory(size_t bytes) {
    arena(DEVICE);
    device_bytes = bytes;
}

uint64_t standin_seed(void) {
    return seed();
}

uint64_t standin_operations(void) {
    return operations;
}

static AtEnd at_end; /* after `objects`, so that it goes first */

#define ACCESS(kind, write, n)                                                                     \
    void __asan_##kind##n##_noabort(const char *at) {                                              \
        access(at, n, write);                                                                      \
    }
ACCESS(load, false, 1)
ACCESS(load, false, 2)
ACCESS(load, false, 4)
ACCESS(load, false, 8)
ACCESS(load, false, 16)
ACCESS(store, true, 1)
ACCESS(store, true, 2)
ACCESS(store, true, 4)
ACCESS(store, true, 8)
ACCESS(store, true, 16)
void __asan_loadN_noabort(const char *at, size_t bytes) {
    access(at, bytes, false);
}
void __asan_storeN_noabort(const char *at, size_t bytes) {
    access(at, bytes, true);
}
void __asan_handle_no_return(void) {
}
}
