/* The interface that a device's plugin exports to the program: see base/plugin.h. */
#ifndef ADVRT_DEVICE_PLUGIN_H
#define ADVRT_DEVICE_PLUGIN_H

#include "device/device.h"

/* The text advrt_NAME_build of a plugin must equal this text. */
#define DEVICE_BUILD "advrt device 4"
/* The plugin's function advrt_NAME_device: opens device number `index`. */
typedef int (*DevicePlugin)(int index, Device **out, Error *e);

#endif
