#include "backend/open.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plugin.h"
#include "device/plugin.h"

/* Whether the NVIDIA driver exists and finds a GPU; *gpus is the number. Returns 0, or -1 with an
 * error that names what is missing. Without a driver it costs one failed dlopen. */
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
        return error_set(e, "the NVIDIA driver fails to start (CUDA error %d): use --device cpu",
                         status);
    *gpus = found;
    return 0;
}

/* This process's local rank on this machine under Open MPI's mpirun or Slurm's srun; 0 without
 * either. */
static int place_here(void) {
    const char *place = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    if (!place) place = getenv("SLURM_LOCALID");
    long n = place ? strtol(place, NULL, 10) : 0;
    return n > 0 && n < INT_MAX ? (int)n : 0;
}

/* Opens GPU `index`; -1 means the process's own GPU if several processes share the machine. */
static int open_cuda(int index, const char *folder, Device **out, Error *e) {
    DevicePlugin plugin;
    int gpus = 1;
    if (probe(&gpus, e)) return -1;
    if (index < 0) index = place_here() % gpus;
    if (plugin_load(folder, "advrt_cuda", DEVICE_BUILD, "advrt_cuda_device",
                    "build advrt with the CUDA toolkit, or use --device cpu", (void **)&plugin, e))
        return -1;
    return plugin(index, out, e);
}

enum { NAME = 32 };

/* Splits NAME or NAME:N. The number is -1 if it is missing. False if the text has another form. */
static bool split(const char *device, char name[NAME], int *index) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    size_t n = strspn(device, letters), digits = 0;
    if (n == 0 || n >= NAME) return false;
    if (device[n] == ':') digits = strspn(device + n + 1, "0123456789");
    if (device[n] ? !digits || digits > 4 || device[n + 1 + digits] : 0) return false;
    snprintf(name, NAME, "%.*s", (int)n, device);
    *index = digits ? (int)strtol(device + n + 1, NULL, 10) : -1;
    return true;
}

enum { FOUND = 256 };

/* advrt_mpi.so is not a device. */
static void add_found(const char *plugin, void *own) {
    char *text = own;
    const char *name = plugin + strlen("advrt_");
    size_t n = strlen(text);
    if (strcmp(name, "mpi") != 0 && !strstr(text, name))
        snprintf(text + n, FOUND - n, ", %s", name);
}

int device_known(const char *device, const char *folder, Error *e) {
    char name[NAME], plugin[2 * NAME], path[PATH_MAX];
    int index;
    char found[FOUND] = "cpu";
    if (!device || strcmp(device, "cpu") == 0) return 0;
    if (split(device, name, &index)) {
        snprintf(plugin, sizeof plugin, "advrt_%s", name);
        if (strcmp(name, "cuda") == 0 || plugin_find(folder, plugin, path)) return 0;
    }
    plugin_list(folder, "advrt_", add_found, found);
    return error_set(e,
                     "--device has no '%s'; found: %s. A device NAME or NAME:NUMBER is a file "
                     "advrt_NAME.so beside advrt, or in the folder that ADVRT_PLUGINS names",
                     device, found);
}

/* Opens any other device by its plugin. */
static int open_named(const char *name, int index, const char *folder, Device **out, Error *e) {
    char plugin[2 * NAME], entry[3 * NAME];
    DevicePlugin open;
    snprintf(plugin, sizeof plugin, "advrt_%s", name);
    snprintf(entry, sizeof entry, "%s_device", plugin);
    if (plugin_load(folder, plugin, DEVICE_BUILD, entry, "build it, or use --device cpu",
                    (void **)&open, e))
        return -1;
    return open(index < 0 ? 0 : index, out, e);
}

int device_open(const char *device, int threads, const char *folder, Device **out, Error *e) {
    Error silent = {0};
    char name[NAME];
    int index = -1;
    /* always set up the CPU's threads and kernels: image reading uses them */
    if (cpu_device(threads, out, e)) return -1;
    if (device && strcmp(device, "cpu") == 0) return 0;
    if (!device) {
        open_cuda(-1, folder, out, &silent);
        return 0;
    }
    if (!split(device, name, &index)) return error_set(e, "--device has no '%s'", device);
    int failed = strcmp(name, "cuda") == 0 ? open_cuda(index, folder, out, e)
                                           : open_named(name, index, folder, out, e);
    return failed ? error_prefix(e, "--device %s", device) : 0;
}

void device_close(Device *d) {
    if (d && d->close) d->close(d);
}
