/* What a device's plugin exports for the program that loads it: see base/plugin.h. */
#ifndef ADVRT_DEVICE_PLUGIN_H
#define ADVRT_DEVICE_PLUGIN_H

#include "device/device.h"

/* A plugin and the program agree on this text, the plugin's advrt_NAME_build. */
#define DEVICE_BUILD "advrt device 4"
/* The plugin's advrt_NAME_device: opens the device of a number. */
typedef int (*DevicePlugin)(int index, Device **out, Error *e);

#endif
