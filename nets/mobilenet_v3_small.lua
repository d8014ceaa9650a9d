local mobilenet_v3 = require "advrt.nets.mobilenet_v3"

return mobilenet_v3.definition("mobilenet_v3_small", {
    {3, 16, 16, true, "relu", 2},
    {3, 72, 24, false, "relu", 2},
    {3, 88, 24, false, "relu", 1},
    {5, 96, 40, true, "hardswish", 2},
    {5, 240, 40, true, "hardswish", 1},
    {5, 240, 40, true, "hardswish", 1},
    {5, 120, 48, true, "hardswish", 1},
    {5, 144, 48, true, "hardswish", 1},
    {5, 288, 96, true, "hardswish", 2},
    {5, 576, 96, true, "hardswish", 1},
    {5, 576, 96, true, "hardswish", 1},
}, 1024)
