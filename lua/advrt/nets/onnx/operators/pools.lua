--- ONNX's operators that pool and reduce.

local constant = require "advrt.nets.onnx.constant"
local fold = require "advrt.nets.onnx.fold"
local help = require "advrt.nets.onnx.help"

local operators = {}
local copy, image, value, weight = help.copy, help.image, help.value, help.weight

-- Pooling and reductions ----------------------------------------------------

--- Kernel, stride and padding of a window.
local function window(n, x)
    if not n:list("kernel_shape") then n:wrong("has no kernel_shape") end
    local kernel, stride = help.pair(n, x, "kernel_shape"), help.pair(n, x, "strides", 1)
    local dilation = help.pair(n, x, "dilations", 1)
    if dilation[1] ~= 1 or dilation[2] ~= 1 then n:unsupported("with dilations") end
    return kernel, stride, help.padding(n, x, kernel, stride, dilation)
end

function operators.MaxPool(d, n, a)
    local x = value(n, a, 1)
    local C, H, W = image(n, x)
    local kernel, stride, pad = window(n, x)
    if d.wanted[n.outputs[2]] then n:unsupported("with indices") end
    local v = d.b:maxpool(d:as(x, {C, H, W}), {kernel = kernel, stride = stride, pad = pad,
        ceil_mode = n:attr("ceil_mode", 0) ~= 0})
    return d:value(help.shape_of_image(x, C, v.H, v.W), v)
end

--- The average, or the maximum, of each channel.
local function of_channels(d, n, x, method)
    local C, H, W = image(n, x)
    return d:value(help.shape_of_image(x, C, 1, 1), d.b[method](d.b, d:as(x, {C, H, W}), {1, 1}))
end

function operators.GlobalAveragePool(d, n, a) return of_channels(d, n, value(n, a, 1), "adaptive_avgpool") end
function operators.GlobalMaxPool(d, n, a) return of_channels(d, n, value(n, a, 1), "adaptive_maxpool") end

function operators.AveragePool(d, n, a)
    local x = value(n, a, 1)
    local C, H, W = image(n, x)
    local kernel, stride, pad = window(n, x)
    local plain = pad[1] + pad[2] + pad[3] + pad[4] == 0
    if plain and kernel[1] * kernel[2] * stride[1] * stride[2] == 1 then return x end
    if plain and kernel[1] == H and kernel[2] == W then return of_channels(d, n, x, "adaptive_avgpool") end
    local v = d.b:avgpool(d:as(x, {C, H, W}), {kernel = kernel, stride = stride, pad = pad,
        ceil_mode = n:attr("ceil_mode", 0) ~= 0, count_include_pad = n:attr("count_include_pad", 0) ~= 0})
    return d:value(help.shape_of_image(x, C, v.H, v.W), v)
end

--- Each number divided by a power of the mean square over the neighbouring channels at its
-- position.
function operators.LRN(d, n, a)
    local x, size = value(n, a, 1), n:attr("size", 1)
    local C, H, W = image(n, x)
    local before = (size - 1) // 2
    local squares = d:as(d:formula(n, x.shape, "($1 * $1)", {x}, {1}), {1, C, H * W})
    local mean = d:value(x.shape, d.b:avgpool(squares, {kernel = {size, 1}, stride = 1,
        pad = {before, 0, size - 1 - before, 0}}))
    return d:formula(n, x.shape, ("($1 / pow((%.17g) + (%.17g) * $2, (%.17g)))"):format(n:attr("bias", 1.0),
        n:attr("alpha", 0.0001), n:attr("beta", 0.75)), {x, mean}, {1})
end

--- The axes of a reduction, as a set, from 0; and the remaining shape.
local function reduced(n, a, shape)
    local list = a[2] and weight(n, a, 2, "list of axes"):values() or n:list("axes")
    if list and #list == 0 then list = nil end
    if not list and n:attr("noop_with_empty_axes", 0) == 1 then return {}, copy(shape) end
    local axes, left = fold.axes(n, list, #shape), {}
    for d, size in ipairs(shape) do
        if not axes[d - 1] then left[#left + 1] = size
        elseif n:attr("keepdims", 1) == 1 then left[#left + 1] = 1 end
    end
    return axes, left
end

--- The mean over axes, which stay with size 1: d:mean(x, {[axis] = true}).
function help.mean(d, x, axes)
    local shape, body, dims = copy(x.shape), help.body(x.shape), {}
    local off = #x.shape - #body
    for axis = 0, #shape - 1 do
        if axes[axis] and shape[axis + 1] > 1 then
            shape[axis + 1], dims[#dims + 1] = 1, axis + 1 - off
        end
    end
    if #dims == 0 then return x end
    local v, one = d:as(x, body), #body == 3 and off == 1 and #dims == 2 and dims[1] == 2
    if one then return d:value(shape, d.b:adaptive_avgpool(v, {1, 1})) end
    return d:value(shape, d.b:mean(v, dims, {keep = true}))
end

function operators.ReduceMean(d, n, a)
    local x = value(n, a, 1)
    local axes, left = reduced(n, a, x.shape)
    return d:view(d:mean(x, axes), left)
end

--- A sum over axes of a formula of the input, and a formula of that sum.
local function summed(before, after)
    return function(d, n, a)
        local x = value(n, a, 1)
        local axes, left = reduced(n, a, x.shape)
        local y = before and d:formula(n, x.shape, before, {x}, {1}) or x
        y = d:mean(y, axes)
        local each = constant.count(x.shape) // math.max(constant.count(y.shape), 1)
        return d:view(d:formula(n, y.shape, after:format(("(%d * $1)"):format(each)), {y}, {}), left)
    end
end

operators.ReduceSum = summed(nil, "%s")
operators.ReduceL1 = summed("abs($1)", "%s")
operators.ReduceL2 = summed("($1 * $1)", "sqrt(%s)")
operators.ReduceSumSquare = summed("($1 * $1)", "%s")
operators.ReduceLogSum = summed(nil, "log(%s)")

--- The maximum over consecutive axes, as a window's maximum.
local function largest(d, n, x, axes)
    local shape, outer, size, inner = copy(x.shape), 1, 1, 1
    local before = true
    for axis = 0, #shape - 1 do
        if axes[axis] then
            if inner > 1 then n:unsupported("over dimensions apart from each other") end
            size, before, shape[axis + 1] = size * shape[axis + 1], false, 1
        elseif before then
            outer = outer * shape[axis + 1]
        else
            inner = inner * shape[axis + 1]
        end
    end
    return d:value(shape, d.b:maxpool(d:as(x, {outer, size, inner}), {kernel = {size, 1}}))
end

function operators.ReduceMax(d, n, a)
    local x = value(n, a, 1)
    local axes, left = reduced(n, a, x.shape)
    return d:view(largest(d, n, x, axes), left)
end

function operators.ReduceMin(d, n, a)
    local x = value(n, a, 1)
    local axes, left = reduced(n, a, x.shape)
    local y = largest(d, n, d:formula(n, x.shape, "(0 - $1)", {x}, {1}), axes)
    return d:view(d:formula(n, y.shape, "(0 - $1)", {y}, {}), left)
end

return operators
