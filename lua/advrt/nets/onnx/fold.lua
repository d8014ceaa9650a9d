--- Operators computed on constants while a net is drawn; exporters use them for shapes, masks and
-- position tables. There is one function per operator: operators.Add(n, a) takes the node
-- (advrt.nets.onnx.node) and its inputs, constants or nil, and returns the outputs. The other
-- functions compute shapes for operators; operators on the net's values use them too.

local constant = require "advrt.nets.onnx.constant"
local model = require "advrt.nets.onnx.model"
local tensor = require "advrt.core.tensor"

local new, count, walk = constant.new, constant.count, constant.walk

local M, fold = {}, {}
M.operators = fold

-- Shapes --------------------------------------------------------------------

--- An axis counted from 0, from one that may count from the end.
function M.axis(n, axis, dims)
    if axis < 0 then axis = axis + dims end
    if axis < 0 or axis >= dims then n:wrong("has axis %d of %d dimensions", axis, dims) end
    return axis
end

--- Axes as a set, counted from 0; nil means all.
function M.axes(n, axes, dims)
    local set = {}
    for _, axis in ipairs(axes or {}) do set[M.axis(n, axis, dims)] = true end
    if not axes then
        for d = 0, dims - 1 do set[d] = true end
    end
    return set
end

--- The shape that two shapes are broadcast to.
function M.broadcast_shape(n, a, b)
    local out, dims = {}, math.max(#a, #b)
    for d = 1, dims do
        local x, y = a[d - dims + #a] or 1, b[d - dims + #b] or 1
        if x ~= y and x ~= 1 and y ~= 1 then
            n:wrong("cannot broadcast %s with %s", constant.text(a), constant.text(b))
        end
        out[d] = x == 1 and y or x
    end
    return out
end

--- The strides of a shape that is broadcast to another one.
local function broadcast_strides(shape, out)
    local own, strides = constant.strides(shape), {}
    for d = 1, #out do
        local at = d - #out + #shape
        strides[d] = at >= 1 and shape[at] ~= 1 and own[at] or 0
    end
    return strides
end

local function expanded(c, shape)
    local values, out = c:values(), {}
    walk(shape, broadcast_strides(c.shape, shape), function(i, at) out[i] = values[at] end)
    return out
end

--- The sizes that Reshape's second input requests for a value of this shape.
function M.reshaped(n, shape, wanted, allow_zero)
    local out, known, open = {}, 1, nil
    for d, size in ipairs(wanted) do
        if size == 0 and not allow_zero then
            size = shape[d] or n:wrong("copies dimension %d of %d", d - 1, #shape)
        end
        if math.type(size) ~= "integer" or size < -1 or size == -1 and open then
            n:wrong("asks for the shape %s", constant.text(wanted))
        end
        out[d] = size
        if size == -1 then open = d else known = known * size end
    end
    local total = count(shape)
    if open and known > 0 then out[open] = total // known end
    if open and known == 0 or count(out) ~= total then
        n:wrong("cannot reshape %s to %s", constant.text(shape), constant.text(wanted))
    end
    return out
end

function fold.Reshape(n, a)
    local wanted = a[2] and a[2]:values() or (n:list("shape") or n:wrong("names no shape"))
    return a[1]:reshape(M.reshaped(n, a[1].shape, wanted, n:attr("allowzero", 0) == 1))
end

function M.flattened(n, shape)
    local axis = n:attr("axis", 1)
    if axis < 0 then axis = axis + #shape end
    local out = {1, 1}
    for d, size in ipairs(shape) do
        local side = d <= axis and 1 or 2
        out[side] = out[side] * size
    end
    return out
end

function fold.Flatten(n, a) return a[1]:reshape(M.flattened(n, a[1].shape)) end

function M.squeezed(n, shape, axes)
    local set, out = {}, {}
    for d, size in ipairs(shape) do
        if not axes and size == 1 then set[d - 1] = true end
    end
    if axes then set = M.axes(n, axes, #shape) end
    for d, size in ipairs(shape) do
        if not set[d - 1] then
            out[#out + 1] = size
        elseif size ~= 1 then
            n:wrong("squeezes dimension %d of %s", d - 1, constant.text(shape))
        end
    end
    return out
end

function M.unsqueezed(n, shape, axes)
    local set, out, next_one = M.axes(n, axes, #shape + #axes), {}, 1
    for d = 0, #shape + #axes - 1 do
        if set[d] then
            out[d + 1] = 1
        else
            out[d + 1], next_one = shape[next_one] or n:wrong("has an axis twice"), next_one + 1
        end
    end
    return out
end

--- Axes: an input from opset 13 on, an attribute before.
function M.axes_of(n, a, i)
    return a[i] and a[i]:values() or n:list("axes")
end

function fold.Squeeze(n, a) return a[1]:reshape(M.squeezed(n, a[1].shape, M.axes_of(n, a, 2))) end

function fold.Unsqueeze(n, a)
    return a[1]:reshape(M.unsqueezed(n, a[1].shape, M.axes_of(n, a, 2) or n:wrong("names no axes")))
end

--- The order of dimensions that Transpose requests, from 0.
function M.permutation(n, dims)
    local perm, seen = n:list("perm"), {}
    if not perm then
        perm = {}
        for d = 1, dims do perm[d] = dims - d end
    end
    for _, p in ipairs(perm) do
        if p < 0 or p >= dims or seen[p] then n:wrong("has no order of %d dimensions", dims) end
        seen[p] = true
    end
    if #perm ~= dims then n:wrong("has no order of %d dimensions", dims) end
    return perm
end

function fold.Transpose(n, a) return a[1]:transpose(M.permutation(n, #a[1].shape)) end

function fold.Identity(_, a) return a[1] end
fold.Dropout = fold.Identity
fold.StopGradient = fold.Identity

-- Also for Shape and Size of values that are not constants: they only need `shape`.
function M.shape_of(n, shape)
    local first, last = n:attr("start", 0), n:attr("end", #shape)
    if first < 0 then first = first + #shape end
    if last < 0 then last = last + #shape end
    return constant.whole(table.move(shape, math.max(first, 0) + 1, math.min(last, #shape), 1, {}))
end

function fold.Shape(n, a) return M.shape_of(n, a[1].shape) end
function fold.Size(_, a) return constant.whole(a[1]:count()) end

-- Making --------------------------------------------------------------------

function fold.Constant(n)
    local value, v = n:constant("value"), n.attributes
    if value then return value end
    if v.value_float then return new("f32", {}, {n:attr("value_float", 0.0)}) end
    if v.value_int then return constant.whole(n:attr("value_int", 0)) end
    if v.value_ints then return constant.whole(n:list("value_ints")) end
    local list = n:list("value_floats") or n:unsupported("without numbers")
    return new("f32", {#list}, list)
end

local FEW = 1 << 16 -- numbers that are stored one by one

local function filled(type_name, shape, value)
    local n, out = count(shape), {}
    if type_name == "f32" and n > FEW then
        return constant.filled(shape, function() return tensor.new(shape):fill(value) end)
    end
    constant.spend(n)
    for i = 1, n do out[i] = value end
    return new(type_name, shape, out)
end

local function check_sizes(n, shape)
    for _, size in ipairs(shape) do
        if math.type(size) ~= "integer" or size < 0 then
            n:wrong("asks for the shape %s", constant.text(shape))
        end
    end
    return shape
end

function fold.ConstantOfShape(n, a)
    local value = n:constant("value")
    local shape = check_sizes(n, a[1]:values())
    if not value then return filled("f32", shape, 0.0) end
    return filled(value.type, shape, value:single() or n:wrong("has a value of several numbers"))
end

function fold.Range(n, a)
    local first, limit, step = a[1]:single(), a[2]:single(), a[3]:single()
    if not (first and limit and step) or step == 0 then n:wrong("has no start, limit and step") end
    local out, size = {}, math.max(math.ceil((limit - first) / step), 0)
    constant.spend(size)
    for i = 1, size do out[i] = first + (i - 1) * step end
    return new(a[1].type, {#out}, out)
end

function fold.Expand(n, a)
    local shape = M.broadcast_shape(n, a[1].shape, check_sizes(n, a[2]:values()))
    return new(a[1].type, shape, expanded(a[1], shape))
end

function fold.Tile(n, a)
    local repeats, shape, steps, sizes = a[2]:values(), {}, {}, {}
    local own, values, out = constant.strides(a[1].shape), a[1]:values(), {}
    for d, size in ipairs(a[1].shape) do -- each dimension becomes two: its repetition, and itself
        shape[d] = size * (repeats[d] or 1)
        sizes[2 * d - 1], sizes[2 * d], steps[2 * d - 1], steps[2 * d] = repeats[d] or 1, size, 0, own[d]
    end
    check_sizes(n, shape)
    walk(sizes, steps, function(i, at) out[i] = values[at] end)
    return new(a[1].type, shape, out)
end

-- Elements ------------------------------------------------------------------

local function towards_zero(v) return v >= 0 and math.floor(v) or math.ceil(v) end

local LARGEST = math.maxinteger

function fold.Cast(n, a)
    local to = model.types[n:attr("to", 0)]
    if not to then n:unsupported("to a type that is no number") end
    if to == a[1].type then return a[1] end
    if constant.is_real(to) then
        if a[1].read then
            return constant.of(to, a[1].shape, function() return a[1]:kept():to(to) end)
        end
        local out = {}
        for i, v in ipairs(a[1]:values()) do out[i] = v + 0.0 end
        return new(to, a[1].shape, out)
    end
    local out = {}
    for i, v in ipairs(a[1]:values()) do
        if to == "bool" then
            out[i] = v ~= 0 and 1 or 0
        else
            out[i] = math.tointeger(towards_zero(v)) or (v > 0 and LARGEST or v < 0 and -LARGEST or 0)
        end
    end
    return new(to, a[1].shape, out)
end

function fold.CastLike(n, a)
    if a[2].type == a[1].type then return a[1] end
    for number, name in pairs(model.types) do
        if name == a[2].type then
            return fold.Cast(setmetatable({attr = function() return number end}, {__index = n}), a)
        end
    end
end

--- Applies f to both inputs, broadcast; the type is the first one's or `out_type`.
local function binary(f, out_type)
    return function(n, a)
        local shape = M.broadcast_shape(n, a[1].shape, a[2].shape)
        local x, y, out = expanded(a[1], shape), expanded(a[2], shape), {}
        local real = constant.is_real(a[1].type)
        for i = 1, #x do out[i] = f(x[i], y[i], real) end
        return new(out_type or a[1].type, shape, out)
    end
end

local function unary(f, out_type)
    return function(_, a)
        local out = {}
        for i, v in ipairs(a[1]:values()) do out[i] = f(v) end
        return new(out_type or a[1].type, a[1].shape, out)
    end
end

local function flag(v) return v and 1 or 0 end

fold.Add = binary(function(x, y) return x + y end)
fold.Sub = binary(function(x, y) return x - y end)
fold.Mul = binary(function(x, y) return x * y end)
fold.Pow = binary(function(x, y, real) return real and x ^ y or math.tointeger(x ^ y) or x ^ y end)
fold.Div = binary(function(x, y, real)
    if real then return x / y end
    if y == 0 then return 0 end
    local q = x // y
    return q < 0 and q * y ~= x and q + 1 or q
end)
fold.Mod = function(n, a)
    local c = n:attr("fmod", 0) == 1 and math.fmod
    return binary(function(x, y)
        if y == 0 then return 0 end
        return c and c(x, y) or x % y
    end)(n, a)
end
fold.Equal = binary(function(x, y) return flag(x == y) end, "bool")
fold.Greater = binary(function(x, y) return flag(x > y) end, "bool")
fold.GreaterOrEqual = binary(function(x, y) return flag(x >= y) end, "bool")
fold.Less = binary(function(x, y) return flag(x < y) end, "bool")
fold.LessOrEqual = binary(function(x, y) return flag(x <= y) end, "bool")
fold.And = binary(function(x, y) return flag(x ~= 0 and y ~= 0) end, "bool")
fold.Or = binary(function(x, y) return flag(x ~= 0 or y ~= 0) end, "bool")
fold.Xor = binary(function(x, y) return flag((x ~= 0) ~= (y ~= 0)) end, "bool")
fold.Not = unary(function(x) return flag(x == 0) end, "bool")
fold.IsNaN = unary(function(x) return flag(x ~= x) end, "bool")

--- The same for any number of inputs.
local function variadic(f)
    local two = binary(f)
    return function(n, a)
        local out = a[1]
        for i = 2, #a do out = two(n, {out, a[i]}) end
        return out
    end
end

fold.Min = variadic(math.min)
fold.Max = variadic(math.max)
fold.Sum = variadic(function(x, y) return x + y end)

local function whole_or(f)
    return function(x) return math.type(x) == "integer" and x or f(x) end
end

local function half_to_even(x)
    local low = math.floor(x)
    local rest = x - low
    if rest > 0.5 or rest == 0.5 and low % 2 ~= 0 then return low + 1.0 end
    return low + 0.0
end

for name, f in pairs {
    Neg = function(x) return -x end, Abs = math.abs, Sqrt = math.sqrt, Exp = math.exp, Log = math.log,
    Sin = math.sin, Cos = math.cos, Reciprocal = function(x) return 1 / x end,
    Floor = whole_or(function(x) return math.floor(x) + 0.0 end),
    Ceil = whole_or(function(x) return math.ceil(x) + 0.0 end), Round = whole_or(half_to_even),
    Relu = function(x) return math.max(x, 0) end,
    Sigmoid = function(x) return 1 / (1 + math.exp(-x)) end,
    Tanh = function(x)
        local e = math.exp(-2 * math.abs(x))
        local t = (1 - e) / (1 + e)
        return x < 0 and -t or t
    end,
    Sign = function(x) return x > 0 and 1 or x < 0 and -1 or 0 end,
} do
    fold[name] = unary(f)
end

function fold.Clip(n, a)
    local low = a[2] and a[2]:single() or n:attr("min", -math.huge)
    local high = a[3] and a[3]:single() or n:attr("max", math.huge)
    return unary(function(x) return math.min(math.max(x, low), high) end)(n, a)
end

--- Products in f32, as tensors: of matrices, or of a stack of matrices with one matrix.
function fold.MatMul(n, a)
    local x, y = a[1].shape, a[2].shape
    local K = x[#x]
    if #x < 1 or #y ~= 2 or y[1] ~= K or not constant.is_real(a[1].type) then
        n:unsupported("of constants %s and %s", constant.text(x), constant.text(y))
    end
    local shape, rows = table.move(x, 1, #x - 1, 1, {}), count(x) // math.max(K, 1)
    shape[#x] = y[2]
    for _, size in ipairs {rows * K, K * y[2], rows * y[2]} do constant.spend(size) end
    return constant.of("f32", shape, function()
        return a[1]:tensor({rows, K}):matmul(a[2]:tensor()):reshape(shape)
    end)
end

function fold.Gemm(n, a)
    local w = n:attr("transB", 0) ~= 0 and a[2]:transpose {1, 0} or a[2]
    local x = n:attr("transA", 0) ~= 0 and a[1]:transpose {1, 0} or a[1]
    if n:attr("alpha", 1.0) ~= 1 or n:attr("beta", 1.0) ~= 1 then n:unsupported("of constants, scaled") end
    local y = fold.MatMul(n, {x, w})
    return a[3] and fold.Add(n, {y, a[3]}) or y
end

function fold.Where(n, a)
    local shape = M.broadcast_shape(n, M.broadcast_shape(n, a[1].shape, a[2].shape), a[3].shape)
    local c, x, y, out = expanded(a[1], shape), expanded(a[2], shape), expanded(a[3], shape), {}
    for i = 1, #c do
        if c[i] ~= 0 then out[i] = x[i] else out[i] = y[i] end
    end
    return new(a[2].type, shape, out)
end

-- Parts ---------------------------------------------------------------------

function fold.Concat(n, a)
    local axis = M.axis(n, n:attr("axis", 0), #a[1].shape) + 1
    local shape, outer = table.move(a[1].shape, 1, #a[1].shape, 1, {}), 1
    shape[axis] = 0
    for _, c in ipairs(a) do
        for d, size in ipairs(c.shape) do
            if d ~= axis and size ~= shape[d] then n:wrong("joins %s and %s", constant.text(a[1].shape),
                constant.text(c.shape)) end
        end
        shape[axis] = shape[axis] + (c.shape[axis] or n:wrong("joins inputs of different dimensions"))
    end
    for d = 1, axis - 1 do outer = outer * shape[d] end
    constant.spend(count(shape))
    local out = {}
    for o = 0, outer - 1 do
        for _, c in ipairs(a) do
            local size = c:count() // outer
            table.move(c:values(), o * size + 1, (o + 1) * size, #out + 1, out)
        end
    end
    return new(a[1].type, shape, out)
end

--- The elements that a Slice takes from a shape: arrays of first indices, steps and sizes, one per
-- dimension.
function M.slice(n, a, shape)
    local starts = a[2] and a[2]:values() or (n:list("starts") or n:wrong("names no starts"))
    local ends = a[3] and a[3]:values() or (n:list("ends") or n:wrong("names no ends"))
    local axes, steps = M.axes_of(n, a, 4), a[5] and a[5]:values() or {}
    local first, step, sizes = {}, {}, {}
    for d, size in ipairs(shape) do first[d], step[d], sizes[d] = 0, 1, size end
    for i, from in ipairs(starts) do
        local d = M.axis(n, axes and axes[i] or i - 1, #shape) + 1
        local s, to, size = steps[i] or 1, ends[i], shape[d]
        if s == 0 or not to then n:wrong("slices with no end or a step of 0") end
        if from < 0 then from = from + size end
        if to < 0 then to = math.max(to, -size - 1) + size end
        if s > 0 then
            from, to = math.min(math.max(from, 0), size), math.min(math.max(to, 0), size)
            sizes[d] = math.max((to - from + s - 1) // s, 0)
        else
            from, to = math.min(math.max(from, 0), size - 1), math.min(math.max(to, -1), size - 1)
            sizes[d] = math.max((from - to - s - 1) // -s, 0)
        end
        first[d], step[d] = from, s
    end
    return first, step, sizes
end

function fold.Slice(n, a)
    local first, step, sizes = M.slice(n, a, a[1].shape)
    local own, steps, at, values, out = constant.strides(a[1].shape), {}, 0, a[1]:values(), {}
    for d = 1, #sizes do
        steps[d], at = own[d] * step[d], at + own[d] * first[d]
    end
    walk(sizes, steps, function(i, from) out[i] = values[from] end, at)
    return new(a[1].type, sizes, out)
end

--- The start and the length of each part of a Split.
function M.split(n, a, size, outputs)
    local parts = a[2] and a[2]:values() or n:list("split")
    if not parts then
        local each = (size + outputs - 1) // outputs
        parts = {}
        for i = 1, outputs do parts[i] = math.min(each, size - each * (i - 1)) end
    end
    local total = 0
    for _, part in ipairs(parts) do total = total + part end
    if total ~= size or #parts ~= outputs then n:wrong("splits %d into %s", size, constant.text(parts)) end
    return parts
end

function fold.Split(n, a)
    local axis = M.axis(n, n:attr("axis", 0), #a[1].shape)
    local from, out = 0, {}
    for i, size in ipairs(M.split(n, a, a[1].shape[axis + 1], #n.outputs)) do
        local whole = constant.whole
        out[i] = fold.Slice(n, {a[1], whole {from}, whole {from + size}, whole {axis}})
        from = from + size
    end
    return table.unpack(out)
end

function fold.Gather(n, a)
    local shape = a[1].shape
    local axis, out = M.axis(n, n:attr("axis", 0), #shape) + 1, {}
    local sizes, inner, outer = {}, 1, 1
    for d = 1, axis - 1 do sizes[d], outer = shape[d], outer * shape[d] end
    table.move(a[2].shape, 1, #a[2].shape, #sizes + 1, sizes)
    for d = axis + 1, #shape do sizes[#sizes + 1], inner = shape[d], inner * shape[d] end
    constant.spend(count(sizes))
    local values, picked = a[1]:values(), a[2]:values()
    for o = 0, outer - 1 do
        for _, k in ipairs(picked) do
            if k < 0 then k = k + shape[axis] end
            if k < 0 or k >= shape[axis] then n:wrong("gathers element %d of %d", k, shape[axis]) end
            local from = (o * shape[axis] + k) * inner
            table.move(values, from + 1, from + inner, #out + 1, out)
        end
    end
    return new(a[1].type, sizes, out)
end

--- The position in a shape, from 0, of each index tuple of a [...,k] constant, and the number of
-- elements per tuple.
local function points(n, indices, shape)
    local k = indices.shape[#indices.shape] or n:wrong("has no indices")
    local strides, list, values = constant.strides(shape), {}, indices:values()
    if k < 1 or k > #shape then n:wrong("has indices of %d of %d dimensions", k, #shape) end
    for i = 0, indices:count() // k - 1 do
        local at = 0
        for d = 1, k do
            local v = values[i * k + d]
            if v < 0 then v = v + shape[d] end
            if v < 0 or v >= shape[d] then n:wrong("has an index of %d of %d", v, shape[d]) end
            at = at + v * strides[d]
        end
        list[i + 1] = at
    end
    return list, strides[k]
end

function fold.ScatterND(n, a)
    if n:attr("reduction", "none") ~= "none" then n:unsupported("with a reduction") end
    local list, size = points(n, a[2], a[1].shape)
    local values, out = a[3]:values(), table.move(a[1]:values(), 1, a[1]:count(), 1, {})
    if #values ~= #list * size then n:wrong("scatters %d numbers to %d places", #values, #list * size) end
    for i, at in ipairs(list) do table.move(values, (i - 1) * size + 1, i * size, at + 1, out) end
    return new(a[1].type, a[1].shape, out)
end

function fold.GatherND(n, a)
    if n:attr("batch_dims", 0) ~= 0 then n:unsupported("with batch_dims") end
    local list, size = points(n, a[2], a[1].shape)
    constant.spend(#list * size)
    local values, out, shape = a[1]:values(), {}, table.move(a[2].shape, 1, #a[2].shape - 1, 1, {})
    for i, at in ipairs(list) do table.move(values, at + 1, at + size, (i - 1) * size + 1, out) end
    table.move(a[1].shape, a[2].shape[#a[2].shape] + 1, #a[1].shape, #shape + 1, shape)
    return new(a[1].type, shape, out)
end

function fold.Trilu(n, a)
    local shape, values, out = a[1].shape, a[1]:values(), {}
    local rows, columns = shape[#shape - 1] or n:wrong("wants two dimensions"), shape[#shape]
    local k, upper = a[2] and a[2]:single() or 0, n:attr("upper", 1) == 1
    for i, v in ipairs(values) do
        local row, column = (i - 1) // columns % rows, (i - 1) % columns
        local inside = upper and column >= row + k or not upper and column <= row + k
        out[i] = inside and v or 0
    end
    return new(a[1].type, shape, out)
end

-- Reductions ----------------------------------------------------------------

local function reduction(first, f, last)
    return function(n, a)
        local shape, axes = a[1].shape, M.axes_of(n, a, 2)
        if axes and #axes == 0 then axes = nil end
        if not axes and n:attr("noop_with_empty_axes", 0) == 1 then return a[1] end
        local set, kept, sizes, own = M.axes(n, axes, #shape), {}, {}, {}
        for d, size in ipairs(shape) do
            kept[d] = set[d - 1] and 1 or size
            if not set[d - 1] or n:attr("keepdims", 1) == 1 then sizes[#sizes + 1] = kept[d] end
        end
        local strides = constant.strides(kept)
        for d = 1, #shape do own[d] = set[d - 1] and 0 or strides[d] end
        local values, out = a[1]:values(), {}
        for i = 1, count(kept) do out[i] = first end
        walk(shape, own, function(i, at) out[at] = f(out[at], values[i]) end)
        local each = #values // math.max(#out, 1)
        for i, v in ipairs(out) do out[i] = last and last(v, each) or v end
        return new(a[1].type, sizes, out)
    end
end

fold.ReduceSum = reduction(0, function(s, v) return s + v end)
fold.ReduceProd = reduction(1, function(s, v) return s * v end)
fold.ReduceMax = reduction(-math.huge, math.max)
fold.ReduceMin = reduction(math.huge, math.min)
fold.ReduceMean = reduction(0, function(s, v) return s + v end, function(s, n) return s / n end)
fold.ReduceL2 = reduction(0, function(s, v) return s + v * v end, math.sqrt)

function fold.CumSum(n, a)
    local axis = M.axis(n, a[2]:single() or 0, #a[1].shape) + 1
    if n:attr("exclusive", 0) == 1 or n:attr("reverse", 0) == 1 then
        n:unsupported("exclusive or reversed")
    end
    local step, size = constant.strides(a[1].shape)[axis], a[1].shape[axis]
    local out = table.move(a[1]:values(), 1, a[1]:count(), 1, {})
    for i = 1, #out do
        if (i - 1) // step % size > 0 then out[i] = out[i] + out[i - step] end
    end
    return new(a[1].type, a[1].shape, out)
end

return M
