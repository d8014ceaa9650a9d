#include "device/open.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/plugin.h"

/* Says whether the NVIDIA driver is there and finds a GPU: 0, or -1 and which of the two is
 * missing. Costs one failed dlopen where there is no driver. */
static int probe(Error *e) {
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
    return 0;
}

static int open_cuda(int index, const char *folder, Device **out, Error *e) {
    DevicePlugin plugin;
    if (probe(e) || plugin_load(folder, "advrt_cuda", DEVICE_BUILD, "advrt_cuda_device",
                                "build advrt where the CUDA toolkit is, or use --device cpu",
                                (void **)&plugin, e))
        return -1;
    return plugin(index, out, e);
}

int device_open(const char *name, int threads, const char *folder, Device **out, Error *e) {
    Error silent = {""};
    int index = 0;
    /* the CPU's threads and kernels are set up whatever the device: images are read there */
    if (cpu_device(threads, out, e)) return -1;
    if (name && strcmp(name, "cpu") == 0) return 0;
    if (!name) {
        open_cuda(index, folder, out, &silent);
        return 0;
    }
    if (name[4] == ':') index = (int)strtol(name + 5, NULL, 10);
    return open_cuda(index, folder, out, e) ? error_prefix(e, "--device %s", name) : 0;
}

void device_close(Device *d) {
    if (d && d->close) d->close(d);
}
