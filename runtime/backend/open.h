/* Finds and opens the device of a run. */
#ifndef ADVRT_BACKEND_OPEN_H
#define ADVRT_BACKEND_OPEN_H

#include "device/device.h"

/* Returns 0 if a device of this name may exist; else -1 with an error that lists those found. NULL
 * is always accepted. */
int device_known(const char *name, const char *folder, Error *e);
/* Opens the device called `name`: "cpu", "cuda", "cuda:N", or NAME or NAME:N of a plugin
 * advrt_NAME.so. NULL means "cuda" if the plugin loads and a GPU answers, else the CPU. "cuda" is
 * cuda:0. If mpirun or srun started several processes on this machine, "cuda" is the GPU of the
 * process's local rank. `folder` is the program's; base/plugin.h says where plugins are searched.
 * threads are the CPU's, as in cpu_device. If a requested GPU cannot be used, the error names the
 * driver, the GPU, or the plugin. */
int device_open(const char *name, int threads, const char *folder, Device **out, Error *e);
/* Frees what the device holds; none of its memory may be in use. NULL is allowed. */
void device_close(Device *d);

#endif
