--- References in double that gradients are held against, which finite differences check themselves.

local assert = require "luassert"
local autograd = require "advrt.autograd"
local tensor = require "advrt.tensor"

local track, gradient = autograd.track, autograd.gradient

-- References --------------------------------------------------------------------------------
-- Values are flat arrays of doubles beside a shape. A reference has `value(inputs) -> array` and
-- `back(inputs, dy) -> array of arrays`, what comes back to each input.

local function count(shape)
    local n = 1
    for _, size in ipairs(shape) do n = n * size end
    return n
end

-- Where each row along dim of a shape has its elements.
local function rows_of(shape, dim)
    local K, inner, rows = shape[dim], 1, {}
    for i = dim + 1, #shape do inner = inner * shape[i] end
    for outer = 0, count(shape) // (K * inner) - 1 do
        for i = 0, inner - 1 do
            local row = {}
            for k = 0, K - 1 do row[k + 1] = (outer * K + k) * inner + i + 1 end
            rows[#rows + 1] = row
        end
    end
    return rows
end

-- A rule on rows: f(row, i) -> array of its results, back(row, dy, i) -> array; i is the row's number.
local function along(shape, dim, f, back)
    local rows = rows_of(shape, dim)
    local function pick(array, places)
        local row = {}
        for k, at in ipairs(places) do row[k] = array[at] end
        return row
    end
    -- The results of row i lie where a shape with J along dim has them.
    local function placed(J)
        local out = table.move(shape, 1, #shape, 1, {})
        out[dim] = J
        return rows_of(out, dim)
    end
    return {
        value = function(x)
            local y, places = {}, nil
            for i, row in ipairs(rows) do
                local part = f(pick(x[1], row), i)
                places = places or placed(#part)
                for j, at in ipairs(places[i]) do y[at] = part[j] end
            end
            return y
        end,
        back = function(x, dy)
            local dx, places = {}, placed(#dy // #rows)
            for i, row in ipairs(rows) do
                local part = back(pick(x[1], row), pick(dy, places[i]), i)
                for k, at in ipairs(row) do dx[at] = part[k] end
            end
            return {dx}
        end,
    }
end

-- The element of an operand of shape `own` that meets element i of a result of shape `shape`.
local function meets(i, shape, own)
    local at, stride = 0, 1
    i = i - 1
    for d = #shape, 1, -1 do
        local size = own[d - #shape + #own] or 1
        if size > 1 then at, stride = at + i % shape[d] * stride, stride * size end
        i = i // shape[d]
    end
    return at + 1
end

-- Elementwise rules: f(a[, b]) and its derivatives, as functions of a, b.
local function elementwise(shape, shapes, f, ...)
    local slopes = {...}
    local function operands(x, i)
        return x[1][meets(i, shape, shapes[1])], x[2] and x[2][meets(i, shape, shapes[2])]
    end
    return {
        value = function(x)
            local y = {}
            for i = 1, count(shape) do y[i] = f(operands(x, i)) end
            return y
        end,
        back = function(x, dy)
            local out = {}
            for k = 1, #x do
                out[k] = {}
                for i = 1, #x[k] do out[k][i] = 0 end
                for i = 1, count(shape) do
                    local at = meets(i, shape, shapes[k])
                    out[k][at] = out[k][at] + dy[i] * slopes[k](operands(x, i))
                end
            end
            return out
        end,
    }
end

local function sum(row)
    local s = 0
    for _, v in ipairs(row) do s = s + v end
    return s
end

local function map(row, f)
    local out = {}
    for k, v in ipairs(row) do out[k] = f(v, k) end
    return out
end

local function soft(row)
    local s = sum(map(row, math.exp))
    return map(row, function(v) return math.exp(v) / s end)
end

-- Places of a row's elements from the largest on.
local function order(row)
    local places = map(row, function(_, k) return k end)
    table.sort(places, function(p, q) return row[p] > row[q] end)
    return places
end

-- Checking ----------------------------------------------------------------------------------

local function flat(t) return t:dim() == 0 and {t:item()} or t:reshape {-1}:totable() end

local function near(wanted, got, tolerance, what)
    assert.equal(#wanted, #got, what)
    for i = 1, #wanted do
        local bound = tolerance * math.max(1, math.abs(wanted[i]))
        assert(math.abs(wanted[i] - got[i]) <= bound,
            ("%s: element %d is %.9g, wanted %.9g"):format(what, i, got[i], wanted[i]))
    end
end

-- Random inputs of given shapes in low .. high, no two closer than 0.003 of the range, so that no
-- finite difference crosses a tie.
local function sample(what, shapes, low, high)
    local inputs, n = {}, 0
    for _, shape in ipairs(shapes) do n = n + count(shape) end
    local place = flat(tensor.uniform("autograd/" .. what, {n}))
    local sorted = order(place)
    local value = {}
    for r, i in ipairs(sorted) do value[i] = low + (high - low) * (r - 0.5 + 0.4 * place[i]) / n end
    local at = 0
    for k, shape in ipairs(shapes) do
        inputs[k] = {}
        for i = 1, count(shape) do inputs[k][i] = value[at + i] end
        at = at + count(shape)
    end
    return inputs
end

local function differences(what, reference, inputs, dy)
    local h = 1e-5
    local function weighted()
        return sum(map(reference.value(inputs), function(v, i) return v * dy[i] end))
    end
    local back = reference.back(inputs, dy)
    for k, x in ipairs(inputs) do
        local slopes = {}
        for i, v in ipairs(x) do
            x[i] = v + h
            local up = weighted()
            x[i] = v - h
            slopes[i] = (up - weighted()) / (2 * h)
            x[i] = v
        end
        near(slopes, back[k], 2e-8, what .. ", the reference's own gradient")
    end
    return back
end

-- f(tracked...) against a reference, each input tracked, and plain beside the others.
local function holds(what, shapes, low, high, f, reference)
    local inputs = sample(what, shapes, low, high)
    local tensors = map(inputs, function(x, k) return tensor.from(x, "f32", shapes[k]) end)
    -- what float made of them is what the reference sees
    for k, t in ipairs(tensors) do inputs[k] = flat(t) end
    local value = reference.value(inputs)
    local weights = tensor.uniform(what .. "/dy", {#value}) - 0.5
    local dy = flat(weights)
    local back = differences(what, reference, inputs, dy)
    for only = 0, #tensors > 1 and #tensors or 0 do
        local operands = map(tensors, function(t, k)
            return (only == 0 or only == k) and track(t) or t
        end)
        local y = f(table.unpack(operands))
        near(value, flat(y.value), 2e-6, what)
        local J = (y:reshape {-1} * weights):sum()
        for k, x in ipairs(operands) do
            if autograd.is_tracked(x) then
                local dx = gradient(J, x)
                assert.same(tensors[k]:shape(), dx:shape(), what)
                near(back[k], flat(dx), 5e-6, what .. ", gradient " .. k)
            end
        end
    end
    near(value, flat(f(table.unpack(tensors))), 2e-6, what .. " of plain tensors")
end

return {along = along, count = count, elementwise = elementwise, flat = flat, holds = holds,
    map = map, near = near, order = order, rows_of = rows_of, soft = soft, sum = sum}
