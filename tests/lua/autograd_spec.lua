-- Autograd: every rule against a scalar reference in double, which finite differences check; ties,
-- NaN, networks and mistakes.

local autograd = require "advrt.autograd"
local loss = require "advrt.loss"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"

local track, gradient = autograd.track, autograd.gradient
local nan, inf = 0 / 0, math.huge

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

local S = {2, 3, 4}

describe("autograd's rules", function()
    local one = function() return 1 end

    it("of one operand are the derivatives", function()
        for name, case in pairs {
            exp = {-3, 3, math.exp, math.exp},
            log = {0.1, 5, math.log, function(v) return 1 / v end},
            log1p = {-0.7, 5, function(v) return math.log(1 + v) end,
                function(v) return 1 / (1 + v) end},
            tanh = {-3, 3, function(v) return 1 - 2 / (math.exp(2 * v) + 1) end,
                function(v) return 4 / (math.exp(v) + math.exp(-v)) ^ 2 end},
            sqrt = {0.1, 5, math.sqrt, function(v) return 0.5 / math.sqrt(v) end},
            abs = {-3, 3, math.abs, function(v) return v < 0 and -1 or 1 end},
            __unm = {-3, 3, function(v) return -v end, function() return -1 end},
        } do
            holds(name, {S}, case[1], case[2], function(x)
                if name == "__unm" then return -x end
                return x[name](x)
            end, elementwise(S, {S}, case[3], case[4]))
        end
        holds("clamp", {S}, -3, 3, function(x) return x:clamp(-1.25, 0.75) end,
            elementwise(S, {S}, function(v) return math.min(math.max(v, -1.25), 0.75) end,
                function(v) return v > -1.25 and v < 0.75 and 1 or 0 end))
    end)

    -- name: low, high, f, slopes, and what a script writes
    local two = {
        add = {-2, 2, function(a, b) return a + b end, one, one, function(x, y) return x + y end},
        sub = {-2, 2, function(a, b) return a - b end, one, function() return -1 end,
            function(x, y) return x - y end},
        mul = {-2, 2, function(a, b) return a * b end, function(_, b) return b end,
            function(a) return a end, function(x, y) return x * y end},
        div = {0.5, 2, function(a, b) return a / b end, function(_, b) return 1 / b end,
            function(a, b) return -a / b ^ 2 end, function(x, y) return x / y end},
        pow = {0.5, 2, function(a, b) return a ^ b end, function(a, b) return b * a ^ (b - 1) end,
            function(a, b) return a ^ b * math.log(a) end, function(x, y) return x ^ y end},
        max = {-2, 2, math.max, function(a, b) return a > b and 1 or 0 end,
            function(a, b) return a > b and 0 or 1 end, function(x, y) return x:max(y) end},
        min = {-2, 2, math.min, function(a, b) return a < b and 1 or 0 end,
            function(a, b) return a < b and 0 or 1 end, function(x, y) return x:min(y) end},
    }

    it("of two operands repeat what is smaller and sum on the way back", function()
        for name, case in pairs(two) do
            for _, shapes in ipairs {
                {S, S}, {S, {4}}, {{3, 1}, S}, {S, {2, 1, 4}}, {{2, 3, 1}, {1, 4}}, {{1}, S}, {S, {}},
                {{2, 1, 1}, {3, 1}},
            } do
                local shape = tensor.new(shapes[1]):add(tensor.new(shapes[2])):shape()
                holds(name, shapes, case[1], case[2], case[6],
                    elementwise(shape, shapes, case[3], case[4], case[5]))
            end
        end
    end)

    it("of a tensor and a number leave the number alone", function()
        for name, case in pairs(two) do
            local f, script = case[3], case[6]
            holds(name .. " number", {S}, case[1], case[2], function(x) return script(x, 1.5) end,
                elementwise(S, {S}, function(v) return f(v, 1.5) end,
                    function(v) return case[4](v, 1.5) end))
            if name ~= "max" and name ~= "min" then
                holds("number " .. name, {S}, case[1], case[2], function(x) return script(1.5, x) end,
                    elementwise(S, {S}, function(v) return f(1.5, v) end,
                        function(v) return case[5](1.5, v) end))
            end
        end
        holds("square", {S}, -2, 2, function(x) return x ^ 2 end, elementwise(S, {S},
            function(v) return v ^ 2 end, function(v) return 2 * v end))
    end)

    -- name: what a script writes for dim, f, back
    local reductions = {
        sum = {function(x, d, keep) return x:sum(d, keep) end, function(r) return {sum(r)} end,
            function(r, dy) return map(r, function() return dy[1] end) end},
        mean = {function(x, d, keep) return x:mean(d, keep) end, function(r) return {sum(r) / #r} end,
            function(r, dy) return map(r, function() return dy[1] / #r end) end},
        maximum = {function(x, d, keep) return x:maximum(d, keep) end,
            function(r) return {math.max(table.unpack(r))} end,
            function(r, dy) return map(r, function(_, k) return k == order(r)[1] and dy[1] or 0 end) end},
        minimum = {function(x, d, keep) return x:minimum(d, keep) end,
            function(r) return {math.min(table.unpack(r))} end,
            function(r, dy) return map(r, function(_, k) return k == order(r)[#r] and dy[1] or 0 end) end},
        logsumexp = {function(x, d, keep) return x:logsumexp(d, keep) end,
            function(r) return {math.log(sum(map(r, math.exp)))} end,
            function(r, dy) return map(soft(r), function(p) return p * dy[1] end) end},
        ["norm 1"] = {function(x, d, keep) return x:norm(1, d, keep) end,
            function(r) return {sum(map(r, math.abs))} end,
            function(r, dy) return map(r, function(v) return v < 0 and -dy[1] or dy[1] end) end},
        ["norm 2"] = {function(x, d, keep) return x:norm(2, d, keep) end,
            function(r) return {math.sqrt(sum(map(r, function(v) return v * v end)))} end,
            function(r, dy)
                local size = math.sqrt(sum(map(r, function(v) return v * v end)))
                return map(r, function(v) return dy[1] * v / size end)
            end},
        ["norm inf"] = {function(x, d, keep) return x:norm("inf", d, keep) end,
            function(r) return {math.max(table.unpack(map(r, math.abs)))} end,
            function(r, dy)
                local first = order(map(r, math.abs))[1]
                return map(r, function(v, k) return k == first and (v < 0 and -dy[1] or dy[1]) or 0 end)
            end},
    }

    it("reduce along any dimension", function()
        for name, case in pairs(reductions) do
            for d = 1, 3 do
                local reference = along(S, d, case[2], case[3])
                holds(name .. d, {S}, -3, 3, function(x) return case[1](x, d) end, reference)
                holds(name .. d .. " kept", {S}, -3, 3, function(x)
                    local y = case[1](x, d, true)
                    assert.equal(3, y:dim())
                    assert.equal(1, y:size(d))
                    return y
                end, reference)
            end
        end
    end)

    it("reduce all of a tensor, and each image", function()
        local x = track(tensor.uniform("all", S) - 0.5)
        for _, name in ipairs {"sum", "mean", "maximum", "minimum"} do
            local y = x[name](x)
            assert.same({}, y:shape())
            local case = reductions[name]
            local row = flat(x.value)
            near(case[2](row), {y:item()}, 1e-6, name)
            near(case[3](row, {1}), flat(gradient(y, x)), 1e-6, name)
        end
        for _, p in ipairs {1, 2, "inf"} do
            local case = reductions["norm " .. p]
            holds("images, norm " .. p, {S}, -3, 3, function(t) return t:norm(p) end,
                along({2, 12}, 2, case[2], case[3]))
        end
    end)

    it("make probabilities along any dimension", function()
        for d = 1, 3 do
            holds("softmax" .. d, {S}, -3, 3, function(x) return x:softmax(d) end,
                along(S, d, soft, function(r, dy)
                    local p = soft(r)
                    local mean = sum(map(p, function(v, k) return v * dy[k] end))
                    return map(p, function(v, k) return v * (dy[k] - mean) end)
                end))
            holds("log_softmax" .. d, {S}, -3, 3, function(x) return x:log_softmax(d) end,
                along(S, d, function(r)
                    return map(soft(r), function(p) return math.log(p) end)
                end, function(r, dy)
                    local total = sum(dy)
                    return map(soft(r), function(p, k) return dy[k] - p * total end)
                end))
        end
    end)

    it("select along any dimension", function()
        for d = 1, 3 do
            local rows, K = count(S) // S[d], S[d]
            for k = 1, K do
                holds("topk" .. d .. k, {S}, -3, 3, function(x) return (x:topk(k, d)) end,
                    along(S, d, function(r)
                        local places = order(r)
                        return map(table.move(places, 1, k, 1, {}), function(at) return r[at] end)
                    end, function(r, dy)
                        local dx = map(r, function() return 0 end)
                        for j, at in ipairs(table.move(order(r), 1, k, 1, {})) do dx[at] = dy[j] end
                        return dx
                    end))
            end
            -- one index for each row, and three, of which two may be the same
            local single, several = {}, {}
            for i = 1, rows do single[i] = (i * 7 + d) % K end
            local shape, wide = {}, table.move(S, 1, 3, 1, {})
            for i = 1, 3 do if i ~= d then shape[#shape + 1] = S[i] end end
            wide[d] = 3
            for i, places in ipairs(rows_of(wide, d)) do
                for j, at in ipairs(places) do several[at] = (i + j // 2) % K end
            end
            local t = tensor.from(single, "i64", shape)
            local u = tensor.from(several, "i64", wide)
            holds("gather" .. d, {S}, -3, 3, function(x) return x:gather(d, t) end,
                along(S, d, function(r, i) return {r[single[i] + 1]} end, function(r, dy, i)
                    return map(r, function(_, k) return k == single[i] + 1 and dy[1] or 0 end)
                end))
            holds("gather several" .. d, {S}, -3, 3, function(x) return x:gather(d, u) end,
                along(S, d, function(r, i)
                    return {r[i % K + 1], r[(i + 1) % K + 1], r[(i + 1) % K + 1]}
                end, function(r, dy, i)
                    local dx = map(r, function() return 0 end)
                    for j = 1, 3 do
                        local at = (i + j // 2) % K + 1
                        dx[at] = dx[at] + dy[j]
                    end
                    return dx
                end))
            holds("others" .. d, {S}, -3, 3, function(x) return x:others(d, t) end,
                along(S, d, function(r, i)
                    table.remove(r, single[i] + 1)
                    return r
                end, function(_, dy, i)
                    table.insert(dy, single[i] + 1, 0)
                    return dy
                end))
        end
    end)

    it("take classes as every loss does: a table, i32 or i64", function()
        local z = track(tensor.from {{1, 2, 3}, {4, 5, 6}})
        for _, t in ipairs {{2, 0}, tensor.from({2, 0}, "i64"), tensor.from({2, 0}, "i32")} do
            local y = z:gather(2, t)
            assert.same({3, 4}, y:totable())
            assert.same({{0, 0, 1}, {1, 0, 0}}, gradient(y, z):totable())
            local rest = z:others(2, t)
            assert.same({{1, 2}, {5, 6}}, rest:totable())
            assert.same({{1, 1, 0}, {0, 1, 1}}, gradient(rest, z):totable())
        end
    end)

    it("multiply matrices", function()
        for _, size in ipairs {{3, 4, 5}, {1, 9, 2}, {6, 1, 3}} do
            local M, K, N = table.unpack(size)
            holds("matmul" .. M, {{M, K}, {K, N}}, -2, 2, function(a, b) return a:matmul(b) end, {
                value = function(x)
                    local y = {}
                    for m = 0, M - 1 do
                        for n = 1, N do
                            local s = 0
                            for k = 0, K - 1 do s = s + x[1][m * K + k + 1] * x[2][k * N + n] end
                            y[m * N + n] = s
                        end
                    end
                    return y
                end,
                back = function(x, dy)
                    local da, db = {}, {}
                    for i = 1, M * K do da[i] = 0 end
                    for i = 1, K * N do db[i] = 0 end
                    for m = 0, M - 1 do
                        for n = 1, N do
                            for k = 0, K - 1 do
                                local i, j, d = m * K + k + 1, k * N + n, dy[m * N + n]
                                da[i], db[j] = da[i] + d * x[2][j], db[j] + d * x[1][i]
                            end
                        end
                    end
                    return {da, db}
                end,
            })
        end
    end)

    it("choose, cut and reshape", function()
        local mask = tensor.uniform("mask", S):gt(0.5)
        local open = flat(mask)
        holds("where", {S, S}, -2, 2, function(x, y) return autograd.where(mask, x, y) end, {
            value = function(x) return map(open, function(m, i) return x[m == 1 and 1 or 2][i] end) end,
            back = function(_, dy)
                return {map(open, function(m, i) return m * dy[i] end),
                    map(open, function(m, i) return (1 - m) * dy[i] end)}
            end,
        })
        holds("where number", {S}, -2, 2, function(x) return autograd.where(mask, x, -7) end, {
            value = function(x) return map(open, function(m, i) return m == 1 and x[1][i] or -7 end) end,
            back = function(_, dy) return {map(open, function(m, i) return m * dy[i] end)} end,
        })
        holds("narrow", {{4, 3}}, -2, 2, function(x) return x:narrow(2, 2) end, {
            value = function(x) return table.move(x[1], 4, 9, 1, {}) end,
            back = function(_, dy)
                local dx = {}
                for i = 1, 12 do dx[i] = i >= 4 and i <= 9 and dy[i - 3] or 0 end
                return {dx}
            end,
        })
        holds("reshape", {S}, -2, 2, function(x) return x:reshape {4, -1} end,
            elementwise({24}, {{24}}, function(v) return v end, one))
    end)

    it("compare", function()
        local x, y = tensor.from {1, 2, 3, nan}, tensor.from {2, 2, 2, 2}
        local wanted = {gt = {0, 0, 1, 0}, ge = {0, 1, 1, 0}, lt = {1, 0, 0, 0}, le = {1, 1, 0, 0},
            eq = {0, 1, 0, 0}}
        for name, bits in pairs(wanted) do
            assert.same(bits, x[name](x, y):totable(), name)
            assert.same(bits, x[name](x, 2):totable(), name)
            local tracked = track(x)
            assert.same(bits, tracked[name](tracked, track(y)):totable(), name)
            assert.is_false(autograd.is_tracked(tracked[name](tracked, y)))
            assert.same(bits, x[name](x, track(y)):totable(), name)
        end
    end)
end)

describe("autograd", function()
    local function same(wanted, t)
        for i, v in ipairs(flat(t)) do
            assert(wanted[i] == v or (wanted[i] ~= wanted[i] and v ~= v),
                ("element %d is %g, wanted %g"):format(i, v, wanted[i]))
        end
    end

    it("sums what comes back over every use of a tensor", function()
        local x = track(tensor.from {1, 2, 3})
        same({3, 5, 7}, gradient(x * x + x, x))
        local y = x:exp()
        near({2 * math.exp(1), 0, 0}, flat(gradient((y + y):narrow(1, 1), x)), 1e-6, "reused step")
        local a, b = track(tensor.from {2}), track(tensor.from {5})
        local da, db = gradient(a * b, a, b)
        same({5}, da)
        same({2}, db)
        da, db = gradient(a + b, a, b)
        da:mul_(3)
        same({1}, db)
        same({0}, gradient(a * 3, b))
        same({1}, gradient(a, a))
        assert.same({2}, a.value:totable())
    end)

    it("splits ties as it says", function()
        local x, y = track(tensor.from {1, 2, 0}), track(tensor.from {1, 1, 1})
        for _, name in ipairs {"max", "min"} do
            local dx, dy = gradient(x[name](x, y), x, y)
            same(name == "max" and {0.5, 1, 0} or {0.5, 0, 1}, dx)
            same(name == "max" and {0.5, 0, 1} or {0.5, 1, 0}, dy)
        end
        same({0.5, 1, 0}, gradient(x:max(1), x))
        same({1, 0, 1}, gradient(x:clamp(0, 1), x))
        local z = track(tensor.from {{3, 3, 1}, {0, 0, 0}})
        same({1, 0, 0, 1, 0, 0}, gradient(z:maximum(2), z))
        same({0, 0, 1, 1, 0, 0}, gradient(z:minimum(2), z))
        local values, index = z:topk(2, 2)
        assert.same({{0, 1}, {0, 1}}, index:totable())
        same({1, 1, 0, 1, 1, 0}, gradient(values, z))
        same({1, 0, 0, 0, 0, 0}, gradient(z:norm("inf", 2), z))
        local zero = track(tensor.new {1, 2})
        same({0, 0}, gradient(zero:norm(2), zero))
        same({0, 0}, gradient(zero:norm(1), zero))
        for _, two in ipairs {2.0, "2"} do -- the same norm, however it is written
            local v = track(tensor.from {3, 4})
            near({0.6, 0.8}, flat(gradient(v:norm(two, 1), v)), 1e-6, "norm")
        end
        same({0, 0}, gradient(zero:abs(), zero))
        same({0, 0}, gradient(zero ^ 2, zero))
        same({0, 0}, gradient(zero ^ 0, zero))
        same({inf, inf}, gradient(zero:sqrt(), zero))
        same({inf, inf}, gradient(zero:log(), zero))
        same({nan, nan}, gradient(zero:sqrt() * 0, zero))
    end)

    it("passes NaN on as it says", function()
        local x = track(tensor.from {nan, 1})
        for _, y in ipairs {x + 1, x * x, x:exp(), x:tanh(), x:abs(), x:sqrt(), x:max(0), x:min(2),
            x:clamp(-2, 2), x ^ 2} do
            assert.is_true(y:get(1) ~= y:get(1))
            assert.is_true(y:get(2) == y:get(2))
        end
        local y = track(tensor.from {0, nan})
        local dx, dy = gradient(x:max(y), x, y)
        same({nan, nan}, dx)
        same({nan, nan}, dy)
        same({1, 1}, gradient(x:clamp(-2, 2), x))
        local z = track(tensor.from {{1, nan, 3}, {3, 1, 2}})
        for _, one in ipairs {z:maximum(2), z:minimum(2), z:logsumexp(2), z:sum(2), z:norm(2, 2),
            z:norm("inf", 2), z:norm(1, 2)} do
            assert.is_true(one:get(1) ~= one:get(1))
            assert.is_true(one:get(2) == one:get(2))
        end
        same({0, 1, 0, 1, 0, 0}, gradient(z:maximum(2), z))
        same({nan, 3, 1}, z:topk(3, 2).value[1])
        for _, one in ipairs {z:softmax(2), z:log_softmax(2)} do
            same({nan, nan, nan}, one.value[1])
            assert.is_true(one:get(2, 1) == one:get(2, 1))
        end
        same({nan, 2}, autograd.where(tensor.from {nan, 0}, x, 2).value)
        same({0, 1}, autograd.where(tensor.from {0, 1}, x, 0).value)
    end)

    it("holds out against infinities in logsumexp", function()
        local z = tensor.from {{-inf, -inf}, {inf, 1}, {1000, -inf}, {-1000, -1000}}
        local y = z:logsumexp(2)
        same({-inf, inf, 1000}, y:narrow(1, 3))
        assert.near(-1000 + math.log(2), y:get(4), 4e-5)
    end)

    it("makes of log_softmax what the loss ce is, to the bit", function()
        local z = (tensor.uniform("logits", {5, 1000}) - 0.5) * 60
        z:set(90, 2, 8)
        z:set(140, 3, 1)
        local target = {3, 7, 999, 0, 5}
        local value, dz = loss.ce:evaluate(z, target)
        local x = track(z)
        local y = x:log_softmax(2):gather(2, target)
        assert.is_true(value:equal(y.value))
        assert.is_true(dz:equal(gradient(y, x)))
    end)

    it("takes sums and norms of tiny numbers in double", function()
        local x = track(tensor.from {{3e-23, 4e-23}})
        local size = x:norm(2)
        assert.near(1, size:item() / 5e-23, 1e-6)
        near({0.6, 0.8}, flat(gradient(size, x)), 1e-6, "norm")
    end)

    it("goes back through a network as through any step", function()
        local g = assert(net.load("nets/fashion.lua", {init = "golden"}))
        local images = tensor.uniform("images", {2, 1, 28, 28})
        local target = {3, 7}
        local x = track(images)
        local z = g(x)
        local wanted_z, wanted = g:gradient(images, loss.ce, target)
        assert.is_true(wanted_z:equal(z.value))
        -- the net has traced for another since: it must go forward again
        g:trace(images * 0.5)
        assert.is_true(wanted:equal(gradient(z:log_softmax(2):gather(2, target), x)))
        -- two uses of the net in one objective
        local other = track(images * 0.25)
        local J = g(x):sum(2) + g(other):sum(2)
        local dx, dother = gradient(J, x, other)
        g:trace(images)
        assert.is_true(dx:equal(g:backward(tensor.new {2, 10}:fill(1))))
        g:trace(other.value)
        assert.is_true(dother:equal(g:backward(tensor.new {2, 10}:fill(1))))
        assert.is_true(g:forward(images):equal(g(images)))
    end)

    it("differentiates what a script composes: ||x - x0||^2 + c f(g(x))", function()
        local rows, bias = {{1, -2, 0.5, 1}, {0.5, 1, -1, 2}, {-1, 0.25, 2, 0}}, {0.1, 0, -0.2}
        local g = support.linear(rows, bias, {1, 2, 2})
        local at = {0.2, 0.9, 0.4, 0.6}
        local x0 = tensor.from {{{{0.5, 0.5}, {0.25, 0.75}}}}
        local c, target = 0.7, {1}
        local function objective(v)
            local z = map(rows, function(row, k)
                return bias[k] + sum(map(row, function(w, i) return w * v[i] end))
            end)
            local f = math.max(z[1], z[3]) - z[2]
            return sum(map(flat(x0), function(p, i) return (v[i] - p) ^ 2 end)) + c * f
        end
        local x = track(tensor.from(at, "f32", {1, 1, 2, 2}))
        local d, z = x - x0, autograd.net(g, x)
        local J = (d * d):reshape {1, -1}:sum(2)
            + c * (z:others(2, target):maximum(2) - z:gather(2, target))
        near({objective(at)}, flat(J.value), 1e-6, "objective")
        local slopes, h = {}, 1e-6
        for i = 1, 4 do
            local v = at[i]
            at[i] = v + h
            local up = objective(at)
            at[i] = v - h
            slopes[i] = (up - objective(at)) / (2 * h)
            at[i] = v
        end
        near(slopes, flat(gradient(J, x)), 1e-5, "composition")
    end)

    it("works across threads' limits and on long rows alike", function()
        local x = track(tensor.uniform("long", {3, 40000}) - 0.5)
        local rows = x.value:totable()
        local y = x:sum(2)
        for i = 1, 3 do assert.near(sum(rows[i]), y:get(i), 1e-4 * math.abs(sum(rows[i]))) end
        local shifted = x - x:mean(2, true)
        for i = 1, 3 do assert.near(0, shifted.value[i]:sum(), 1e-2) end
        local columns = x:sum(1)
        assert.near(rows[1][39999] + rows[2][39999] + rows[3][39999], columns:get(39999), 1e-6)
    end)

    it("blames the line that is wrong", function()
        local x = track(tensor.new {2, 3})
        local function refuses(f, ...)
            local ok, message = pcall(f)
            assert.is_false(ok)
            assert.matches("^[^\n]*autograd_spec%.lua:%d+: ", message)
            for _, text in ipairs {...} do
                assert.truthy(message:find(text, 1, true), message)
            end
        end
        refuses(function() local _ = x:gather(3, {0, 0}) end, "'gather'", "no dimension 3", "[2,3]")
        refuses(function() local _ = x:gather(2, {0, 3}) end, "'gather'", "0 .. 2, got 3")
        refuses(function() local _ = x:gather(2, {0}) end, "wanted 2 classes, got 1")
        refuses(function() local _ = x:others(2, {0, -1}) end, "got -1")
        refuses(function() local _ = x + tensor.new {2} end, "'add'", "[2,3]", "[2]")
        refuses(function() local _ = x * "a" end, "'mul'", "string")
        refuses(function() local _ = x:matmul(x) end, "no factors")
        refuses(function() local _ = x:topk(4, 2) end, "1 to 3", "got 4")
        refuses(function() local _ = x:clamp(1, 0) end, "below")
        refuses(function() local _ = x:norm(3, 1) end, "1, 2 or")
        refuses(function() local _ = x:reshape {5} end, "'reshape'")
        refuses(function() local _ = x:narrow(2, 2) end, "'narrow'")
        refuses(function() local _ = track(tensor.new({1}, "f64")) end, "f64")
        refuses(function() local _ = track {1} end, "got table")
        refuses(function() local _ = gradient(x, tensor.new {1}) end, "#2", "a plain one")
        refuses(function() local _ = gradient(1) end, "#1", "got number")
        refuses(function() local _ = autograd.net({}, x) end, "a net expected")
        refuses(function() local _ = autograd.where(x:gt(0), x) end, "#3 to 'where'", "got nil")
        refuses(function() local _ = autograd.where(true, x, 1) end, "#1 to 'where'", "got boolean")
    end)
end)
