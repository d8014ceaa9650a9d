/* What machine.cpp, launch.cpp and streams.cpp share. */
#ifndef STANDIN_STREAMS_H
#define STANDIN_STREAMS_H

#include "machine.h"

namespace standin {

/* In the place of a thread: more than one. */
static const uint32_t MANY = UINT32_MAX;

/* A grid that runs. A thread is known by 1 + its number in the grid. */
struct Launch {
    dim3 grid, block;
    uint64_t threads_of_block;
    /* Whether two threads touch the same bytes with nothing to order them. */
    bool races(uint32_t one, uint32_t other) const;
    std::string name(uint32_t thread) const;
};
const Launch *launch_now(); /* NULL outside of kernels */
uint32_t launch_thread();
/* An access of a kernel to what is neither device nor pinned memory. */
void launch_access(const char *at, size_t bytes, bool write);

uint32_t next_serial(int stream, uint32_t index, const std::string &name);
void run_op(const Op &op);
/* What cudaGetLastError says next. */
cudaError_t launch_error(cudaError_t status);

} // namespace standin

#endif
