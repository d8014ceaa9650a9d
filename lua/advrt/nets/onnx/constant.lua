--- Constants of an ONNX graph: initializers, and results computed from constants and shapes.
--
-- A constant has `type` (the names of advrt.tensor's element types), `shape` (an array of sizes,
-- empty for a scalar), and its numbers. They are a flat array of Lua numbers (booleans are 0 and
-- 1) or a tensor. The tensor of an initializer is read when it is first needed, so that only the
-- layer with the weights reads them, once. A tensor that is needed again is kept.

local tensor = require "advrt.core.tensor"

local Constant = {}
Constant.__index = Constant

local M = {}

--- The most numbers of a constant in a computation, and of all computations while one net is drawn:
-- FREE, and PER_BYTE more for each byte of the model. A small file can neither keep advrt busy nor
-- take much memory.
M.MOST, M.MOST_OF_ALL = 1 << 24, 1 << 28
local FREE, PER_BYTE = 1 << 25, 16

local spent, most = 0, FREE

--- Resets the count for a net of a model with `bytes` bytes.
function M.begin(bytes) spent, most = 0, math.min(FREE + PER_BYTE * bytes, M.MOST_OF_ALL) end

--- Counts n more numbers of computations. Call it before they take memory.
function M.spend(n)
    spent = spent + n
    if n > M.MOST then
        error({too_large = ("constants of %d numbers, more than %d"):format(n, M.MOST)}, 0)
    elseif spent > most then
        error({too_large = ("constants, more than the %d numbers that the file's size allows")
            :format(most)}, 0)
    end
end

local REAL = {f32 = true, f64 = true, f16 = true, bf16 = true}

--- Whether a type's numbers are real, not integers.
function M.is_real(type_name) return REAL[type_name] == true end

local COUNTABLE = 1 << 52 -- numbers of a shape

--- The number of a shape's elements.
function M.count(shape)
    local n, real = 1, 1.0
    for _, size in ipairs(shape) do
        n, real = n * size, real * size
    end
    if real > COUNTABLE then error({too_large = "values of more elements than can be counted"}, 0) end
    return n
end

function M.text(shape) return "[" .. table.concat(shape, ",") .. "]" end

--- A constant of numbers in row-major order.
function M.new(type_name, shape, values)
    M.spend(#values)
    return setmetatable({type = type_name, shape = shape, numbers = values}, Constant)
end

--- A constant whose tensor `read` returns; read fails if it cannot.
function M.of(type_name, shape, read)
    return setmetatable({type = type_name, shape = shape, read = read}, Constant)
end

--- A constant of equal f32 numbers, whose tensor `read` makes. They take memory only when needed.
function M.filled(shape, read)
    return setmetatable({type = "f32", shape = shape, read = read, filled = true}, Constant)
end

--- An integer or an array of integers, as i64.
function M.whole(values)
    if type(values) == "table" then return M.new("i64", {#values}, values) end
    return M.new("i64", {}, {values})
end

function M.is(v) return getmetatable(v) == Constant end

function Constant:count() return M.count(self.shape) end

--- The numbers in row-major order. The caller must not change the array.
function Constant:values()
    if not self.numbers then
        local n = self:count()
        M.spend(n)
        local t = self:kept()
        local list = n > 0 and t:reshape({n}):totable() or {}
        for i, v in ipairs(list) do
            if type(v) == "boolean" then list[i] = v and 1 or 0 end
        end
        self.numbers = list
    end
    return self.numbers
end

--- The tensor of a constant that is read. It is kept from the second call on, because a computation
-- on constants may read it many times.
function Constant:kept()
    local t = self.whole or self.read()
    if self.once then self.whole = t end
    self.once = true
    return t
end

--- The number of a constant with one element, else nil.
function Constant:single()
    return self:count() == 1 and self:values()[1] or nil
end

--- The numbers as an f32 tensor of a shape, by default the constant's.
function Constant:tensor(shape)
    shape = shape or self.shape
    if self.read then
        local t = self:kept()
        return (t:dtype() == "f32" and t or t:to("f32")):reshape(shape)
    end
    return tensor.from(self.numbers, "f32", shape)
end

--- The same numbers in another shape.
function Constant:reshape(shape)
    return setmetatable({type = self.type, shape = shape, numbers = self.numbers, filled = self.filled,
        read = self.read and function() return self:kept() end}, Constant)
end

--- Permutes the dimensions: dimension d of the result is dimension perm[d] of the constant, counted
-- from 0. Large constants stay tensors.
function Constant:transpose(perm)
    local shape, one_based = {}, {}
    for d, from in ipairs(perm) do shape[d], one_based[d] = self.shape[from + 1], from + 1 end
    if self.numbers then
        return M.new(self.type, shape, M.permuted(self.numbers, self.shape, perm))
    end
    return M.of(self.type, shape, function()
        return self:kept():reshape(self.shape):permute(one_based)
    end)
end

--- Row-major strides of a shape.
function M.strides(shape)
    local strides, step = {}, 1
    for d = #shape, 1, -1 do
        strides[d] = step
        step = step * shape[d]
    end
    return strides
end

--- Calls f(i, at) for i = 1 .. count of a shape; at - 1 is `first` plus the sum of the indices
-- times `strides`.
function M.walk(shape, strides, f, first)
    local n, dims = M.count(shape), #shape
    M.spend(n)
    local index, at = {}, (first or 0) + 1
    for d = 1, dims do index[d] = 0 end
    for i = 1, n do
        f(i, at)
        local d = dims
        while d > 0 do
            index[d] = index[d] + 1
            at = at + strides[d]
            if index[d] < shape[d] then break end
            at = at - strides[d] * shape[d]
            index[d] = 0
            d = d - 1
        end
    end
end

function M.permuted(values, shape, perm)
    local from, sizes, steps, out = M.strides(shape), {}, {}, {}
    for d, p in ipairs(perm) do sizes[d], steps[d] = shape[p + 1], from[p + 1] end
    M.walk(sizes, steps, function(i, at) out[i] = values[at] end)
    return out
end

return M
