--- Layers that pool.

local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.maxpool = {{"kernel", "stride", "pad", "ceil_mode"}}
--- Maximum over windows. o: kernel, stride = kernel, pad = 0, ceil_mode = false.
function Builder:maxpool(x, o)
    o = o or {}
    local kernel = layer.pair(o.kernel, nil, "maxpool: kernel", 1)
    local stride = layer.pair(o.stride, kernel, "maxpool: stride", 1)
    return layer.add(self, {
        kind = "maxpool", kernel = kernel, stride = stride,
        pad = layer.padding("maxpool", x, o.pad, kernel, stride),
        ceil_mode = layer.attribute("maxpool", o, "ceil_mode", layer.SWITCH, false),
    }, x)
end

takes.avgpool = {"grid"}
--- Adaptive average pooling to grid = {height, width}; {1, 1} is the global average.
function Builder:avgpool(x, grid)
    local size = layer.pair(grid, 1, "avgpool: the grid, its output's size,", 1)
    return layer.add(self, {kind = "avgpool", grid = size}, x)
end
