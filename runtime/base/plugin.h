/* Plugins: parts of the program with optional libraries, in separate files. */
#ifndef ADVRT_BASE_PLUGIN_H
#define ADVRT_BASE_PLUGIN_H

#include <stdbool.h>

#include "base/error.h"

/* Finds a plugin. The folders are: ADVRT_PLUGINS, then `folder` (the program's), then ../lib/advrt
 * relative to it. Writes the path of NAME.so to `path` [PATH_MAX]; returns false if there is none.
 */
bool plugin_find(const char *folder, const char *name, char *path);
/* Calls `each` with the name, without .so, of every plugin whose name begins with `prefix`. */
void plugin_list(const char *folder, const char *prefix, void (*each)(const char *, void *),
                 void *own);
/* Loads NAME.so and finds its function `entry`. The plugin's text NAME_build must equal `build`,
 * the version of their interface. `advice` ends the message if the file is missing. A plugin is
 * never unloaded. */
int plugin_load(const char *folder, const char *name, const char *build, const char *entry,
                const char *advice, void **out, Error *e);

#endif
