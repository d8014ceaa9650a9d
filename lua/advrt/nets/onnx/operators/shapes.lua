--- ONNX's operators that move elements or change the shape.

local constant = require "advrt.nets.onnx.constant"
local fold = require "advrt.nets.onnx.fold"
local help = require "advrt.nets.onnx.help"

local operators = {}
local copy, value, weight = help.copy, help.value, help.weight

-- Views ---------------------------------------------------------------------

function operators.Identity(_, _, a) return a[1] end
operators.StopGradient = operators.Identity

function operators.Dropout(_, n, a)
    local training = a[3]
    if training and not (help.is_constant(training) and training:single() == 0) then
        n:unsupported("in training mode")
    end
    return a[1]
end

function operators.Cast(_, n, a)
    local to = n:attr("to", 0)
    if to ~= 1 and to ~= 10 and to ~= 11 and to ~= 16 then n:unsupported("of a value to whole numbers") end
    return a[1]
end
operators.CastLike = operators.Identity

function operators.Flatten(d, n, a) return d:view(value(n, a, 1), fold.flattened(n, a[1].shape)) end

function operators.Reshape(d, n, a)
    local x = value(n, a, 1)
    local wanted = a[2] and weight(n, a, 2, "shape"):values() or n:list("shape") or n:wrong("names no shape")
    return d:view(x, fold.reshaped(n, x.shape, wanted, n:attr("allowzero", 0) == 1))
end

--- The axes of an input or an attribute, or nil.
local function axes_of(n, a)
    return a[2] and weight(n, a, 2, "list of axes"):values() or n:list("axes")
end

function operators.Squeeze(d, n, a)
    return d:view(value(n, a, 1), fold.squeezed(n, a[1].shape, axes_of(n, a)))
end

function operators.Unsqueeze(d, n, a)
    local axes = axes_of(n, a) or n:wrong("names no axes")
    return d:view(value(n, a, 1), fold.unsqueezed(n, a[1].shape, axes))
end

-- Order ---------------------------------------------------------------------

--- A value with its dimensions permuted (counted from 0): d:transposed(x, perm).
function help.transposed(d, x, perm)
    local shape, sizes, rank = {}, {}, {}
    local squeezed, dims = help.squeezed(x.shape)
    for i, dim in ipairs(dims) do rank[dim] = i end
    for i, from in ipairs(perm) do
        shape[i] = x.shape[from + 1]
        if rank[from + 1] then sizes[#sizes + 1] = rank[from + 1] end
    end
    local in_order = true
    for i, from in ipairs(sizes) do in_order = in_order and i == from end
    if in_order then return d:view(x, shape) end
    local y = d:later(shape, function() return d.b:permute(d:as(x, squeezed), sizes) end)
    local last, swaps = #perm - 1, true
    for i, from in ipairs(perm) do
        swaps = swaps and from == (i == last and last or i == last + 1 and last - 1 or i - 1)
    end
    y.swapped = swaps and x or nil -- matrix products read this one directly
    return y
end

function operators.Transpose(d, n, a)
    local x = value(n, a, 1)
    local perm = fold.permutation(n, #x.shape)
    if x.nhwc and help.same(perm, {0, 3, 1, 2}) then return d:value({1, table.unpack(x.v.shape)}, x.v) end
    return d:transposed(x, perm)
end

--- From [C r r, H, W] to [C, H r, W r], and back.
function operators.DepthToSpace(d, n, a)
    local x, r = value(n, a, 1), n:attr("blocksize", 1)
    local C, H, W = help.image(n, x)
    if r < 1 or C % (r * r) ~= 0 then n:wrong("has a block of %d for %d channels", r, C) end
    local depth = n:attr("mode", "DCR") == "CRD"
    local y = d:view(x, depth and {C // (r * r), r, r, H, W} or {r, r, C // (r * r), H, W})
    y = d:transposed(y, depth and {0, 3, 1, 4, 2} or {2, 3, 0, 4, 1})
    return d:view(y, {1, C // (r * r), H * r, W * r})
end

function operators.SpaceToDepth(d, n, a)
    local x, r = value(n, a, 1), n:attr("blocksize", 1)
    local C, H, W = help.image(n, x)
    if r < 1 or H % r ~= 0 or W % r ~= 0 then n:wrong("has a block of %d for %d x %d", r, H, W) end
    local y = d:transposed(d:view(x, {C, H // r, r, W // r, r}), {2, 4, 0, 1, 3})
    return d:view(y, {1, C * r * r, H // r, W // r})
end

-- Parts ---------------------------------------------------------------------

--- Elements of one axis, counted from 0: `size` elements from `first`, `step` apart (may be
-- negative).
local function part(d, x, axis, first, size, step)
    local shape, body = copy(x.shape), help.body(x.shape)
    if first == 0 and size == shape[axis + 1] and step == 1 then return x end
    shape[axis + 1] = size
    local dim = axis + 1 - (#x.shape - #body)
    if dim < 1 then body, dim = x.shape, axis + 1 end
    local v = d:as(x, body)
    if step < 0 then
        v, first, step = d.b:flip(v, dim), body[dim] - 1 - first, -step
    end
    return d:value(shape, d.b:slice(v, dim, first + 1, first + (size - 1) * step + 1, step))
end

function operators.Slice(d, n, a)
    local x = value(n, a, 1)
    for i = 2, 5 do
        if a[i] then weight(n, a, i, "place") end
    end
    local first, step, size = fold.slice(n, a, x.shape)
    for axis = 0, #x.shape - 1 do
        if size[axis + 1] < 1 then n:unsupported("of nothing") end
        x = part(d, x, axis, first[axis + 1], size[axis + 1], step[axis + 1])
    end
    return x
end

function operators.Split(d, n, a)
    local x = value(n, a, 1)
    if a[2] then weight(n, a, 2, "list of sizes") end
    local axis, from, out = fold.axis(n, n:attr("axis", 0), #x.shape), 0, {}
    for i, size in ipairs(fold.split(n, a, x.shape[axis + 1], #n.outputs)) do
        if d.wanted[n.outputs[i]] then out[i] = part(d, x, axis, from, size, 1) else out[i] = x end
        from = from + size
    end
    return table.unpack(out, 1, #n.outputs)
end

--- Values joined along an axis.
local function joined(d, list, axis)
    local shape, body = copy(list[1].shape), help.body(list[1].shape)
    local off, values = #shape - #body, {}
    if axis < off then off = 0 end
    shape[axis + 1] = 0
    for i, x in ipairs(list) do
        values[i] = d:as(x, off == 0 and x.shape or help.body(x.shape))
        shape[axis + 1] = shape[axis + 1] + x.shape[axis + 1]
    end
    return d:value(shape, d.b:concat(values, axis + 1 - off))
end

function operators.Concat(d, n, a)
    local axis, list = fold.axis(n, n:attr("axis", 0), #(a[1] or n:wrong("has no input")).shape), {}
    for i = 1, a.n do
        local x = a[i] or n:wrong("has no input %d", i)
        local fits = #x.shape == #a[1].shape
        for k, size in ipairs(x.shape) do fits = fits and (k == axis + 1 or size == a[1].shape[k]) end
        if not fits then n:wrong("joins %s and %s", constant.text(a[1].shape), constant.text(x.shape)) end
        if x.shape[axis + 1] > 0 then list[#list + 1] = help.is_constant(x) and d:parameter(n, i, x) or x end
    end
    if #list == 1 then return list[1] end
    return joined(d, list, axis)
end

local LONGEST = 64 -- indices of a Gather with unequal steps

--- Elements of an axis by their indices: a slice if the steps are equal, else joined slices.
function operators.Gather(d, n, a)
    local x, indices = value(n, a, 1), weight(n, a, 2, "list of indices")
    local axis = fold.axis(n, n:attr("axis", 0), #x.shape)
    local size, list = x.shape[axis + 1], copy(indices:values())
    for i, k in ipairs(list) do
        if k < -size or k >= size then n:wrong("gathers element %d of %d", k, size) end
        list[i] = k < 0 and k + size or k
    end
    local step = #list > 1 and list[2] - list[1] or 1
    local even = #list > 0 and step ~= 0
    for i = 2, #list do even = even and list[i] - list[i - 1] == step end
    local y
    if even then
        y = part(d, x, axis, list[1], #list, step)
    else
        if #list == 0 or #list > LONGEST then n:unsupported("with %d indices", #list) end
        local parts = {}
        for i, k in ipairs(list) do parts[i] = part(d, x, axis, k, 1, 1) end
        y = joined(d, parts, axis)
    end
    local shape = table.move(x.shape, 1, axis, 1, {})
    table.move(indices.shape, 1, #indices.shape, #shape + 1, shape)
    return d:view(y, table.move(x.shape, axis + 2, #x.shape, #shape + 1, shape))
end

function operators.Tile(d, n, a)
    local x, repeats = value(n, a, 1), weight(n, a, 2, "list of repeats"):values()
    for axis = 0, #x.shape - 1 do
        local times, list = repeats[axis + 1] or 1, {}
        if times < 1 or times > LONGEST then n:unsupported("%d times", times) end
        for i = 1, times do list[i] = x end
        if times > 1 then x = joined(d, list, axis) end
    end
    return x
end

--- `times` elements before or after an axis for a mode of Pad: the edge repeated, or its neighbours
-- in reverse order.
local function border(d, n, x, axis, times, behind, mode)
    local size, list = x.shape[axis + 1], {}
    if mode == "edge" then
        if times > LONGEST then n:unsupported("by %d", times) end
        for i = 1, times do list[i] = part(d, x, axis, behind and size - 1 or 0, 1, 1) end
        return list
    end
    local own = mode == "reflect" and 1 or 0
    if mode ~= "reflect" and mode ~= "wrap" then n:unsupported("in mode '%s'", mode) end
    if times + own > size then n:unsupported("by more than there is") end
    if times == 0 then return list end
    if mode == "wrap" then return {part(d, x, axis, behind and 0 or size - times, times, 1)} end
    return {part(d, x, axis, behind and size - 2 or times, times, -1)}
end

--- Removes or adds elements of one axis.
local function padded(d, n, x, axis, before, behind, mode)
    local cut = math.max(-before, 0)
    local left = x.shape[axis + 1] - cut - math.max(-behind, 0)
    if left < 1 then n:unsupported("that leaves nothing") end
    x = part(d, x, axis, cut, left, 1)
    before, behind = math.max(before, 0), math.max(behind, 0)
    if before + behind == 0 then return x end
    if mode ~= "constant" then
        local list = border(d, n, x, axis, before, false, mode)
        list[#list + 1] = x
        local more = border(d, n, x, axis, behind, true, mode)
        return joined(d, table.move(more, 1, #more, #list + 1, list), axis)
    end
    local shape, body = copy(x.shape), help.body(x.shape)
    local dim = axis + 1 - (#x.shape - #body)
    if dim < 1 then body, dim = x.shape, axis + 1 end
    shape[axis + 1] = shape[axis + 1] + before + behind
    return d:value(shape, d.b:pad(d:as(x, body), {before, behind}, dim))
end

function operators.Pad(d, n, a)
    local x = value(n, a, 1)
    local mode, dims = n:attr("mode", "constant"), #x.shape
    local filling = a[3] and weight(n, a, 3, "value"):single() or n:attr("value", 0.0)
    local pads = a[2] and weight(n, a, 2, "padding"):values() or n:list("pads") or n:list("paddings")
        or n:wrong("names no padding")
    local axes = a[4] and weight(n, a, 4, "list of axes"):values()
    local fill = mode == "constant" and filling ~= 0
    if fill then x = d:formula(n, x.shape, ("($1 - (%.17g))"):format(filling), {x}, {1}) end
    for i = 1, #pads // 2 do
        local axis = fold.axis(n, axes and axes[i] or i - 1, dims)
        x = padded(d, n, x, axis, pads[i], pads[#pads // 2 + i], mode)
    end
    return fill and d:formula(n, x.shape, ("($1 + (%.17g))"):format(filling), {x}, {}) or x
end

--- Repeats a value to a shape.
function operators.Expand(d, n, a)
    local x = value(n, a, 1)
    local shape = fold.broadcast_shape(n, x.shape, weight(n, a, 2, "shape"):values())
    if constant.count(shape) == constant.count(x.shape) then return d:view(x, shape) end
    local wide = d:later(shape, function()
        return d:v(d:formula(n, shape, "($1 + $2)", {x, help.filled(0, shape)}, {1, 2}))
    end)
    wide.narrow = x -- formulas repeat it themselves
    return wide
end

return operators
