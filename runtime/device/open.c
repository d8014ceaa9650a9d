#include "device/open.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/plugin.h"

/* Says whether the NVIDIA driver is there and how many GPUs it finds: 0, or -1 and which of the two
 * is missing. Costs one failed dlopen where there is no driver. */
static int probe(int *gpus, Error *e) {
    enum { NO_DEVICE = 100 };
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!driver)
        return error_set(e, "there is no NVIDIA driver (libcuda.so.1 is not found): install it, or "
                            "use --device cpu");
    int (*init)(unsigned), (*count)(int *), found = 0;
    *(void **)&init = dlsym(driver, "cuInit");
    *(void **)&count = dlsym(driver, "cuDeviceGetCount");
    int status = !init || !count ? -1 : init(0);
    if (status == 0) status = count(&found);
    if (status == NO_DEVICE || (status == 0 && found < 1))
        return error_set(e, "the NVIDIA driver finds no GPU: use --device cpu");
    if (status)
        return error_set(e, "the NVIDIA driver does not start (CUDA error %d): use --device cpu",
                         status);
    *gpus = found;
    return 0;
}

/* This process's place among those that Open MPI's mpirun or Slurm's srun started on this machine;
 * 0 where none of them did. */
static int place_here(void) {
    const char *place = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    if (!place) place = getenv("SLURM_LOCALID");
    long n = place ? strtol(place, NULL, 10) : 0;
    return n > 0 && n < INT_MAX ? (int)n : 0;
}

/* GPU `index`; -1 for the process's own, where several share the machine. */
static int open_cuda(int index, const char *folder, Device **out, Error *e) {
    DevicePlugin plugin;
    int gpus = 1;
    if (probe(&gpus, e)) return -1;
    if (index < 0) index = place_here() % gpus;
    if (plugin_load(folder, "advrt_cuda", DEVICE_BUILD, "advrt_cuda_device",
                    "build advrt where the CUDA toolkit is, or use --device cpu", (void **)&plugin,
                    e))
        return -1;
    return plugin(index, out, e);
}

int device_open(const char *name, int threads, const char *folder, Device **out, Error *e) {
    Error silent = {0};
    int index = -1;
    /* the CPU's threads and kernels are set up whatever the device: images are read there */
    if (cpu_device(threads, out, e)) return -1;
    if (name && strcmp(name, "cpu") == 0) return 0;
    if (!name) {
        open_cuda(-1, folder, out, &silent);
        return 0;
    }
    if (name[4] == ':') index = (int)strtol(name + 5, NULL, 10);
    return open_cuda(index, folder, out, e) ? error_prefix(e, "--device %s", name) : 0;
}

void device_close(Device *d) {
    if (d && d->close) d->close(d);
}
