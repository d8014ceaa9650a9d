--- Layers that interpolate an image.

local arguments = require "advrt.support.check"
local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

--- Two factors, {height, width}, from one or two numbers greater than 0.
local function factors(kind, v)
    local pair = type(v) == "table" and v or {v, v}
    for i = 1, 2 do
        local fits = #pair == 2 and math.type(pair[i]) and pair[i] > 0
        if not fits then
            layer.wrong("%s: factor must be a number greater than 0 or {height, width}, got %s", kind,
                arguments.text(v))
        end
    end
    return pair
end

--- Adds the layer. o has either the grid's size or its factors.
local function resize(self, kind, x, o, made)
    if (o.size == nil) == (o.factor == nil) then
        layer.wrong("%s needs either size, the output's {height, width}, or factor", kind)
    end
    made.kind = "resize"
    made.grid = o.size ~= nil and layer.pair(o.size, nil, kind .. ": size", 1) or {0, 0}
    if o.factor ~= nil then made.factor_y, made.factor_x = table.unpack(factors(kind, o.factor)) end
    return layer.add(self, made, x)
end

local function named(kind, what, v, names)
    local found = {}
    for name in pairs(names) do found[#found + 1] = ("'%s'"):format(name) end
    table.sort(found)
    if v == nil or names[v] == nil then
        layer.wrong("%s: %s must be %s, got %s", kind, what, table.concat(found, " or "), arguments.text(v))
    end
    return names[v]
end

local FLOOR, CEIL, HALF_DOWN, HALF_UP = 0, 1, 2, 3 -- ResizeRounding of runtime/device/program.h

local modes = {
    bilinear = {flag = true, text = "half_pixel", sizes = {FLOOR}},
    nearest = {flag = false, text = "asymmetric", sizes = {FLOOR}},
    ["nearest-exact"] = {flag = false, text = "half_pixel", sizes = {HALF_UP}},
}

takes.upsample = {{"size", "factor", "mode", "align_corners"}}
--- Interpolates an image to another grid, as torch's interpolate does. o: size = {height, width} or
-- factor (one number, or two), mode = "nearest" | "bilinear" | "nearest-exact", align_corners =
-- false.
function Builder:upsample(x, o)
    o = o or {}
    local mode = named("upsample", "mode", o.mode == nil and "nearest" or o.mode, modes)
    local corners = layer.attribute("upsample", o, "align_corners", layer.SWITCH, false)
    if corners and not mode.flag then
        layer.wrong("upsample: align_corners needs mode 'bilinear'")
    end
    return resize(self, "upsample", x, o,
        {flag = mode.flag, text = corners and "align_corners" or mode.text, sizes = mode.sizes})
end

local places = {half_pixel = "half_pixel", pytorch_half_pixel = "pytorch_half_pixel",
    asymmetric = "asymmetric", align_corners = "align_corners"}
local roundings = {floor = FLOOR, ceil = CEIL, round_prefer_floor = HALF_DOWN, round_prefer_ceil = HALF_UP}
local linear = {nearest = "nearest", linear = "linear"}

takes.resize = {{"size", "factor", "mode", "coordinates", "rounding"}}
--- Interpolates an image to another grid, with ONNX's options. o: size = {height, width} or factor
-- (one number, or two), mode = "nearest" | "linear", coordinates = "half_pixel" |
-- "pytorch_half_pixel" | "asymmetric" | "align_corners", rounding (for nearest) =
-- "round_prefer_floor" | "round_prefer_ceil" | "floor" | "ceil".
function Builder:resize(x, o)
    o = o or {}
    local mode = named("resize", "mode", o.mode == nil and "nearest" or o.mode, linear)
    local place = o.coordinates == nil and "half_pixel" or o.coordinates
    local rounding = o.rounding == nil and "round_prefer_floor" or o.rounding
    return resize(self, "resize", x, o, {
        flag = mode == "linear", text = named("resize", "coordinates", place, places),
        sizes = {named("resize", "rounding", rounding, roundings)},
    })
end
