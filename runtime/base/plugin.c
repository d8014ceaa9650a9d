#include "base/plugin.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PLACES = 3 };

/* The i-th folder to search for plugins; false after the last. */
static bool place(const char *folder, int i, char *path) {
    const char *more = getenv("ADVRT_PLUGINS");
    if (i == 0 && (!more || !*more)) return false;
    snprintf(path, PATH_MAX, "%s%s", i ? folder : more, i == 2 ? "/../lib/advrt" : "");
    return true;
}

bool plugin_find(const char *folder, const char *name, char *path) {
    for (int i = 0; i < PLACES; i++) {
        char where[PATH_MAX];
        if (!place(folder, i, where)) continue;
        if (snprintf(path, PATH_MAX, "%s/%s.so", where, name) < PATH_MAX && access(path, F_OK) == 0)
            return true;
    }
    return false;
}

void plugin_list(const char *folder, const char *prefix, void (*each)(const char *, void *),
                 void *own) {
    for (int i = 0; i < PLACES; i++) {
        char where[PATH_MAX], name[NAME_MAX + 1];
        DIR *d = place(folder, i, where) ? opendir(where) : NULL;
        for (const struct dirent *f = d ? readdir(d) : NULL; f; f = readdir(d)) {
            size_t n = strlen(f->d_name);
            if (n < 4 || strcmp(f->d_name + n - 3, ".so") != 0 ||
                strncmp(f->d_name, prefix, strlen(prefix)) != 0)
                continue;
            snprintf(name, sizeof name, "%.*s", (int)n - 3, f->d_name);
            each(name, own);
        }
        if (d) closedir(d);
    }
}

int plugin_load(const char *folder, const char *name, const char *build, const char *entry,
                const char *advice, void **out, Error *e) {
    char path[PATH_MAX], symbol[64];
    if (!plugin_find(folder, name, path))
        return error_set(e, "there is no %s.so in %s: %s", name, folder, advice);
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) return error_set(e, "the plugin cannot be loaded: %s", dlerror());
    snprintf(symbol, sizeof symbol, "%s_build", name);
    const char *built = dlsym(plugin, symbol);
    *out = dlsym(plugin, entry);
    if (!built || !*out || strcmp(built, build) != 0)
        return error_set(e, "%s belongs to another build of advrt; rebuild it", path);
    return 0;
}
