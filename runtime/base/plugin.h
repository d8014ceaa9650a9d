/* Plugins: parts of the program whose libraries need not be there, in files of their own. */
#ifndef ADVRT_BASE_PLUGIN_H
#define ADVRT_BASE_PLUGIN_H

#include <stdbool.h>

#include "base/error.h"

/* Where plugins lie: the folder that ADVRT_PLUGINS names, `folder` (the program's), and
 * ../lib/advrt from there. The path of NAME.so is written to `path` [PATH_MAX]; false where there
 * is none. */
bool plugin_find(const char *folder, const char *name, char *path);
/* Calls `each` with the name, without .so, of every plugin whose name begins with `prefix`. */
void plugin_list(const char *folder, const char *prefix, void (*each)(const char *, void *),
                 void *own);
/* Loads NAME.so and finds its function `entry`. The
 * plugin's text NAME_build must be `build`: what it and the program agree on. `advice` ends the
 * message where there is no such file. It is never unloaded. */
int plugin_load(const char *folder, const char *name, const char *build, const char *entry,
                const char *advice, void **out, Error *e);

#endif
