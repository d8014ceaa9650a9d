/* oneDNN, of the major version that this folder is written for. Every file here that calls it
 * includes this header and no other of oneDNN's. */
#ifndef ADVRT_DEVICE_CPU_ONEDNN_H
#define ADVRT_DEVICE_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl_version.h>

#if DNNL_VERSION_MAJOR < 2
#error "advrt builds against oneDNN 2.x (Debian: libdnnl-dev); found an older one"
#elif DNNL_VERSION_MAJOR == 3
#error "advrt builds against oneDNN 2.x (Debian: libdnnl-dev); found 3.x"
#elif DNNL_VERSION_MAJOR > 3
#error "advrt builds against oneDNN 2.x (Debian: libdnnl-dev); found a newer one"
#else
#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>
#endif

#endif
