/* The stand-in's machine: device memory with a shadow that knows of every four bytes who wrote and
 * read them last, operations queued on streams that run as late as a program lets them, and the
 * report that ends the process where a program breaks a rule of CUDA's.
 *
 * Lazy on purpose: an operation runs when something waits for it, so that a host that reads what it
 * has not waited for reads what was there before. Between streams, order is kept as vector clocks:
 * of two operations that touch the same bytes one must happen before the other.
 *
 * Single-threaded: the plugin calls from one thread.
 */
#ifndef STANDIN_MACHINE_H
#define STANDIN_MACHINE_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "standin.h"

namespace standin {

/* Prints "standin: ..." with the operation that runs, the place in the grid and the seed; aborts.
 */
[[noreturn]] void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A number in 0 .. n-1 of the seeded stream. */
uint32_t choose(uint32_t n);

/* Counts a call of the API; true where a test asked that this one fails. */
bool call_fails(const char *name);

/* --- memory --- */

enum Space { DEVICE, PINNED };

void *memory_take(Space space, size_t bytes); /* NULL: there is no such amount */
void memory_release(Space space, void *memory);
/* Bytes from `at` to the end of its live allocation; 0 where it is in none. */
size_t memory_room(const void *at);
bool memory_is(Space space, const void *at);
void memory_info(size_t *free, size_t *total);
/* An operation is about to read or write all of these bytes. */
void touch_read(const void *at, size_t bytes);
void touch_write(const void *at, size_t bytes);

/* Device memory at its own addresses cannot be read by the host. Operations see it elsewhere, at
 * memory_seen; kernels, which follow pointers, at its own addresses from memory_use until the
 * outermost memory_close. */
void *memory_seen(const void *at);
void memory_open();
void memory_use();
void memory_close();

/* --- operations --- */

typedef std::vector<uint32_t> Clock; /* per stream, how many of its operations came before */

struct Op {
    std::string name;
    std::function<void()> run;
    uint32_t serial; /* of all operations, from 1 */
    int stream;
    uint32_t index; /* in its stream, from 1 */
    Clock clock;
};

/* Appends to a stream, or to the graph that it captures. */
cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> run);
bool stream_known(cudaStream_t stream);
/* True, and the capture is spoilt, where a stream captures: the call is not allowed then. */
bool capture_forbids();

/* --- what runs --- */

extern const Op *running;
bool ordered_before(uint32_t serial); /* that operation happens before the one that runs */

/* Objects that must be destroyed: descriptors, handles, streams, events, graphs. */
void made(const char *kind);
void destroyed(const char *kind);

/* Where the thread that runs is, for reports; "" outside of kernels. */
std::string place();

} // namespace standin

#endif
