#include "base/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int plugin_load(const char *folder, const char *name, const char *build, const char *entry,
                const char *advice, void **out, Error *e) {
    static const char *const places[] = {"", "/../lib/advrt"};
    char path[PATH_MAX], symbol[64];
    size_t i = 0, n = sizeof places / sizeof *places;
    for (; i < n; i++) {
        snprintf(path, sizeof path, "%s%s/%s.so", folder, places[i], name);
        if (access(path, F_OK) == 0) break;
    }
    if (i == n) return error_set(e, "there is no %s.so in %s: %s", name, folder, advice);
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) return error_set(e, "the plugin cannot be loaded: %s", dlerror());
    snprintf(symbol, sizeof symbol, "%s_build", name);
    const char *built = dlsym(plugin, symbol);
    *out = dlsym(plugin, entry);
    if (!built || !*out || strcmp(built, build) != 0)
        return error_set(e, "%s is of another build than this advrt", path);
    return 0;
}
