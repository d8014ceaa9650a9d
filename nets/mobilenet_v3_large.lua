local mobilenet_v3 = require "advrt.nets.mobilenet_v3"

return mobilenet_v3.definition("mobilenet_v3_large", {
    {3, 16, 16, false, "relu", 1},
    {3, 64, 24, false, "relu", 2},
    {3, 72, 24, false, "relu", 1},
    {5, 72, 40, true, "relu", 2},
    {5, 120, 40, true, "relu", 1},
    {5, 120, 40, true, "relu", 1},
    {3, 240, 80, false, "hardswish", 2},
    {3, 200, 80, false, "hardswish", 1},
    {3, 184, 80, false, "hardswish", 1},
    {3, 184, 80, false, "hardswish", 1},
    {3, 480, 112, true, "hardswish", 1},
    {3, 672, 112, true, "hardswish", 1},
    {5, 672, 160, true, "hardswish", 2},
    {5, 960, 160, true, "hardswish", 1},
    {5, 960, 160, true, "hardswish", 1},
}, 1280)
