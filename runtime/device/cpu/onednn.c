#include "device/cpu/onednn.h"

#include <stdio.h>

#include "device/device.h"

const char *cpu_onednn_version(void) {
    static char text[48];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}
