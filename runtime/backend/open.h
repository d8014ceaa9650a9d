/* Finding and opening the device of a run. */
#ifndef ADVRT_BACKEND_OPEN_H
#define ADVRT_BACKEND_OPEN_H

#include "device/device.h"

/* Whether there may be a device of this name: 0, or -1 and which are found. NULL is always known.
 */
int device_known(const char *name, const char *folder, Error *e);
/* Opens the device called `name`: "cpu", "cuda", "cuda:N", NAME or NAME:N of a plugin
 * advrt_NAME.so, or NULL for "cuda" where the plugin loads and a GPU answers and else the CPU.
 * "cuda" is cuda:0, or, in one of several processes that mpirun or srun started on this machine,
 * the GPU of the process's place among them. `folder` is the program's: plugins are looked for as
 * base/plugin.h says. threads are the CPU's, as in cpu_device. What stands in the way of a GPU that
 * was asked for is said in one line: the driver, the GPU, or the plugin. */
int device_open(const char *name, int threads, const char *folder, Device **out, Error *e);
/* Gives back what the device holds; none of its memory may be in use. NULL is allowed. */
void device_close(Device *d);

#endif
