--- Pooling layers.

local arguments = require "advrt.support.check"
local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

local function window(kind, x, o)
    local kernel = layer.pair(o.kernel, nil, kind .. ": kernel", 1)
    local stride = layer.pair(o.stride, kernel, kind .. ": stride", 1)
    return {
        kind = kind, kernel = kernel, stride = stride, pad = layer.padding(kind, x, o.pad, kernel, stride),
        ceil_mode = layer.attribute(kind, o, "ceil_mode", layer.SWITCH, false),
    }
end

takes.maxpool = {{"kernel", "stride", "pad", "ceil_mode"}}
--- Maximum over windows. o: kernel, stride = kernel, pad = 0, ceil_mode = false.
function Builder:maxpool(x, o) return layer.add(self, window("maxpool", x, o or {}), x) end

local of_average = {"kernel", "stride", "pad", "ceil_mode", "count_include_pad"}

takes.avgpool = {"o"}
--- Average over windows. o: kernel, stride = kernel, pad = 0, ceil_mode = false,
-- count_include_pad = true.
function Builder:avgpool(x, o)
    if type(o) ~= "table" or #o > 0 then
        layer.wrong("avgpool takes a table of attributes (%s), got %s; for an output of a given size use "
            .. "adaptive_avgpool",
            table.concat(of_average, ", "), arguments.text(o))
    end
    local problem = arguments.keys(o, of_average)
    if problem then layer.wrong("avgpool: %s", problem) end
    local made = window("avgpool", x, o)
    made.flag = layer.attribute("avgpool", o, "count_include_pad", layer.SWITCH, true)
    return layer.add(self, made, x)
end

local GRID = "grid (the size of the output)"

takes.adaptive_avgpool = {"grid"}
--- Average pooling to grid = {height, width}, with cells that may overlap; the default {1, 1} is
-- the global average.
function Builder:adaptive_avgpool(x, grid)
    local size = layer.pair(grid, 1, "adaptive_avgpool: " .. GRID, 1)
    return layer.add(self, {kind = "adaptive_avgpool", grid = size}, x)
end

takes.adaptive_maxpool = {"grid"}
--- Max pooling to grid = {height, width}. The height and width of x must be multiples of these. The
-- default {1, 1} is the global maximum.
function Builder:adaptive_maxpool(x, grid)
    local size = layer.pair(grid, 1, "adaptive_maxpool: " .. GRID, 1)
    if x.H % size[1] ~= 0 or x.W % size[2] ~= 0 then
        layer.wrong("adaptive_maxpool: a grid of %d x %d does not divide %d x %d", size[1], size[2], x.H, x.W)
    end
    return self:maxpool(x, {kernel = {x.H // size[1], x.W // size[2]}})
end
