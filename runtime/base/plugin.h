/* Plugins: parts of the program whose libraries need not be there, in files of their own. */
#ifndef ADVRT_BASE_PLUGIN_H
#define ADVRT_BASE_PLUGIN_H

#include "base/error.h"

/* Loads NAME.so from `folder`, the program's, or ../lib/advrt, and finds its function `entry`. The
 * plugin's text NAME_build must be `build`: what it and the program agree on. `advice` ends the
 * message where there is no such file. It is never unloaded. */
int plugin_load(const char *folder, const char *name, const char *build, const char *entry,
                const char *advice, void **out, Error *e);

#endif
