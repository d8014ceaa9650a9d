--- ONNX's Resize and Upsample. For an image, the builder's resize does the usual modes. In any
-- other case each axis is multiplied by a matrix with one row per new element: the weights of the
-- old elements.

local constant = require "advrt.nets.onnx.constant"
local fold = require "advrt.nets.onnx.fold"
local help = require "advrt.nets.onnx.help"

local operators = {}
local value, weight = help.value, help.weight

--- The coordinate of new element o (from 0) of `out` among the `size` old elements.
local coordinates = {
    half_pixel = function(o, _, _, scale) return (o + 0.5) / scale - 0.5 end,
    half_pixel_symmetric = function(o, size, out, scale)
        return size / 2 * (1 - out / (scale * size)) + (o + 0.5) / scale - 0.5
    end,
    pytorch_half_pixel = function(o, _, out, scale) return out > 1 and (o + 0.5) / scale - 0.5 or 0 end,
    align_corners = function(o, size, out) return out > 1 and o * (size - 1) / (out - 1) or 0 end,
    asymmetric = function(o, _, _, scale) return o / scale end,
}

local nearest = {
    round_prefer_floor = function(x) return math.ceil(x - 0.5) end,
    round_prefer_ceil = function(x) return math.floor(x + 0.5) end,
    floor = math.floor,
    ceil = math.ceil,
}

--- The pairs {element, weight} of the old elements that make the element at coordinate x.
local modes = {
    nearest = function(x, how) return {{nearest[how.nearest](x), 1}} end,
    linear = function(x)
        local low = math.floor(x)
        return {{low, 1 - (x - low)}, {low + 1, x - low}}
    end,
    cubic = function(x, how)
        local low, a, list = math.floor(x), how.a, {}
        for k = -1, 2 do
            local t = math.abs(x - low - k)
            list[#list + 1] = {low + k, t <= 1 and ((a + 2) * t - (a + 3)) * t * t + 1
                or ((a * t - 5 * a) * t + 8 * a) * t - 4 * a}
        end
        return list
    end,
}

--- The matrix of an axis, as a constant [out, size].
local function matrix(how, size, out, scale)
    local values = {}
    constant.spend(out * size)
    for i = 1, out * size do values[i] = 0.0 end
    for o = 0, out - 1 do
        local sum, list = 0, how.mode(how.coordinate(o, size, out, scale), how)
        for _, tap in ipairs(list) do
            if how.exclude and (tap[1] < 0 or tap[1] >= size) then tap[2] = 0 end
            sum = sum + tap[2]
        end
        for _, tap in ipairs(list) do
            local at = o * size + math.min(math.max(tap[1], 0), size - 1) + 1
            values[at] = values[at] + tap[2] / sum
        end
    end
    return constant.new("f32", {out, size}, values)
end

--- A value with one axis multiplied by a matrix.
local function along(d, n, x, axis, m)
    local out, size = m.shape[1], m.shape[2]
    local shape = help.copy(x.shape)
    local outer = constant.count(table.move(shape, 1, axis, 1, {}))
    local inner = constant.count(table.move(shape, axis + 2, #shape, 1, {}))
    shape[axis + 1] = out
    local w = d:as(d:parameter({inputs = {}, name = ("%s.axis%d"):format(n.name, axis)}, 1, m), {out, size})
    if inner == 1 then
        return d:value(shape, d.b:matmul(d:as(x, {outer, size}), w, {transpose_y = true}))
    end
    return d:value(shape, d.b:matmul(w, d:as(x, {outer, size, inner})))
end

--- The attributes, by opset: before 11 the coordinates were o / scale, rounded down.
local function how_of(n)
    local old = n.opset < 11
    local coordinate = old and "asymmetric" or n:attr("coordinate_transformation_mode", "half_pixel")
    local mode = n:attr("mode", "nearest")
    local how = {mode = modes[mode], coordinate = coordinates[coordinate], words = {mode, coordinate},
        nearest = old and "floor" or n:attr("nearest_mode", "round_prefer_floor"),
        a = n:attr("cubic_coeff_a", -0.75), exclude = n:attr("exclude_outside", 0) ~= 0}
    if not how.mode then n:unsupported("in mode '%s'", mode) end
    if not how.coordinate then n:unsupported("with coordinates '%s'", coordinate) end
    if not nearest[how.nearest] then n:wrong("has nearest_mode '%s'", how.nearest) end
    return how
end

--- The new sizes of all axes, and their scales.
local function sizes_of(n, x, scales, wanted, axes)
    local sizes, factors = help.copy(x.shape), {}
    local list = wanted or scales or n:wrong("has neither scales nor sizes")
    for i, v in ipairs(list) do
        local axis = fold.axis(n, axes and axes[i] or i - 1, #sizes)
        local size = sizes[axis + 1]
        sizes[axis + 1] = wanted and v or math.floor(size * v)
        factors[axis + 1] = wanted and v / size or v
        if math.type(sizes[axis + 1]) ~= "integer" or sizes[axis + 1] < 1 then
            n:wrong("makes %s of a dimension of %d", tostring(sizes[axis + 1]), size)
        end
    end
    return sizes, factors
end

local function given(n, a, i, what)
    return a[i] and a[i].shape[1] ~= 0 and weight(n, a, i, what):values() or nil
end

-- The modes and coordinates that the builder's resize supports.
local OF_IMAGE = {nearest = true, linear = true, half_pixel = true, pytorch_half_pixel = true,
    asymmetric = true, align_corners = true}

--- The builder's resize of an image if it supports the request; else nil.
local function of_image(d, x, how, sizes, factors)
    local mode, coordinate = table.unpack(how.words)
    local shape = x.shape
    if #shape ~= 4 or shape[1] ~= 1 or sizes[1] ~= 1 or sizes[2] ~= shape[2] or how.exclude
        or not OF_IMAGE[mode] or not OF_IMAGE[coordinate] then
        return nil
    end
    local o = {mode = mode, coordinates = coordinate, rounding = how.nearest}
    local y, x_factor = factors[3] or 1, factors[4] or 1
    local exact = y == sizes[3] / shape[3] and x_factor == sizes[4] / shape[4]
    if exact then o.size = {sizes[3], sizes[4]} else o.factor = {y, x_factor} end
    return d:value(sizes, d.b:resize(d:as(x, {shape[2], shape[3], shape[4]}), o))
end

local function resized(d, n, a, scales, wanted)
    local x, how = value(n, a, 1), how_of(n)
    if n:attr("keep_aspect_ratio_policy", "stretch") ~= "stretch" then
        n:unsupported("that keeps the aspect")
    end
    local sizes, factors = sizes_of(n, x, scales, wanted, n:list("axes"))
    local image = n:attr("antialias", 0) == 0 and of_image(d, x, how, sizes, factors)
    if image then return image end
    for axis = #sizes - 1, 0, -1 do
        local size, out, scale = x.shape[axis + 1], sizes[axis + 1], factors[axis + 1]
        if scale and (out ~= size or scale ~= 1) then
            if n:attr("antialias", 0) ~= 0 and scale < 1 and how.mode ~= modes.nearest then
                n:unsupported("with antialias")
            end
            constant.spend(out * size)
            x = along(d, n, x, axis, matrix(how, size, out, scale))
        end
    end
    return x
end

function operators.Resize(d, n, a)
    local at = n.opset < 11 and 2 or 3
    return resized(d, n, a, given(n, a, at, "list of scales"),
        n.opset >= 11 and given(n, a, 4, "list of sizes") or nil)
end

function operators.Upsample(d, n, a)
    return resized(d, n, a, given(n, a, 2, "list of scales") or n:list("scales"))
end

return operators
