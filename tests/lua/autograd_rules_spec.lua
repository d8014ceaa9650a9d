-- Autograd, rule by rule: each against a scalar reference in double (tests/gradients.lua).

local autograd = require "advrt.autograd"
local gradients = require "gradients"
local tensor = require "advrt.tensor"

local track, gradient = autograd.track, autograd.gradient
local count, rows_of, along, elementwise, sum, map, soft, order, flat, near, holds =
    gradients.count, gradients.rows_of, gradients.along, gradients.elementwise, gradients.sum,
    gradients.map, gradients.soft, gradients.order, gradients.flat, gradients.near, gradients.holds
local nan = 0 / 0

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
