-- Theorem IV.2's approximations and bounds on linear nets, whose gradients are the rows of a matrix, so
-- that every error can be had in double; and that a gradient which breaks a bound is told.

local loss = require "advrt.loss"
local net = require "advrt.net"
local tensor = require "advrt.tensor"
local theorem = require "advrt.theorem"

local D = 12

-- A linear net of K classes and its rows.
local function linear(K)
    local g = assert(net.build({name = "linear", classes = K, input = {D, 1, 1},
        build = function(b, x) return b:linear(x, "out", K) end}, {init = "he"}))
    local rows = tensor.uniform("theorem", {K, D}):sub_(0.5)
    g.graph:set("out.weight", rows)
    return g, rows:totable()
end

-- Logits of K classes: the largest, `top`, at `best`, the target's, others falling slowly.
local function logits(K, best, top, target, own)
    local z = {}
    for i = 1, K do z[i] = -0.003 * i end
    z[best + 1] = top
    if target then z[target + 1] = own end
    return z
end

local function norm(v)
    local sum = 0
    for _, x in ipairs(v) do sum = sum + x * x end
    return math.sqrt(sum)
end

-- sum_i weights_i rows_i
local function combine(rows, weights)
    local v = {}
    for d = 1, D do
        v[d] = 0
        for i, row in ipairs(rows) do v[d] = v[d] + (weights[i] or 0) * row[d] end
    end
    return v
end

-- The bias that makes the logits at x what they are to be.
local function with_logits(g, rows, x, z)
    local bias = {}
    for i, row in ipairs(rows) do
        local sum = 0
        for d = 1, D do sum = sum + row[d] * x:get(1, d, 1, 1) end
        bias[i] = z[i] - sum
    end
    g.graph:set("out.bias", tensor.from(bias))
    g:forget_plans()
    return g:trace(x)
end

local places = { -- K, cut, largest logit's class and value, target and its value, subspace
    {4, 0, 2, 6, 0, -1, 1}, {4, 0, 2, 1.5, 0, 0.2, 2}, {4, 0, 0, 7, 0, 7, 3}, {2, 0, 1, 9, 0, 0, 1},
    {1000, 1e-2, 17, 12, 3, 2, 1}, {1000, 1e-2, 17, 6, 3, 5, 2}, {1000, 1e-2, 3, 14, 3, 14, 3},
    {1000, 1e-4, 17, 7, 3, 6.5, 2}, {1000, 0, 17, 6, 999, 4, 2},
}

describe("Theorem IV.2 at a point", function()
    it("is told by its logits, with 1 - p from the other classes", function()
        local point = theorem.approximate({0, 60, -1}, 0, 0)
        assert.equal(1, point.subspace)
        assert.equal(1, point.best)
        assert.near(math.exp(-60) + math.exp(-61), point.gap, 1e-40)
        assert.equal(-60, point.margin)
        point = theorem.approximate({0, 60, -1}, 1, 0)
        assert.equal(3, point.subspace)
        assert.equal(60, point.margin)
        point = theorem.approximate({0, math.log(9) - 1e-9}, 1, 0)
        assert.equal(2, point.subspace)
        assert.equal(3, theorem.approximate({0, math.log(9) + 1e-9}, 1, 0).subspace)
        assert.equal(1, theorem.approximate({0, math.log(9) + 1e-9}, 0, 0).subspace)
    end)

    it("drops no class: those below the cut are one, the target and the first never", function()
        for _, place in ipairs(places) do
            local K, cut, best, top, target, own = table.unpack(place)
            local point = theorem.approximate(logits(K, best, top, target, own), target, cut)
            local sum, seen, factors = 0, {}, 0
            for _, term in ipairs(point.terms) do
                sum, factors = sum + term.p, factors + term.factor
                seen[term.class or "rest"] = true
                assert.is_true(term.class == nil or term.p >= cut or term.class == target
                    or term.class == best)
            end
            assert.near(1, sum, 1e-12)
            assert.near(0, factors, 1e-12)
            assert.is_true(seen[target] and seen[best])
            assert.equal(cut > 0 and K > 4, seen.rest == true)
        end
    end)

    it("has the error of the equations in double, and holds", function()
        for number, place in ipairs(places) do
            local K, cut, best, top, target, own, subspace = table.unpack(place)
            local g, rows = linear(K)
            local x = tensor.uniform("theorem:x", {1, D, 1, 1})
            local z = with_logits(g, rows, x, logits(K, best, top, target, own))
            local tester = theorem.tester(g, 1, cut)
            local point = tester:test(z, {target})[1]
            assert.equal(subspace, point.subspace, "place " .. number)

            local weights, others = {}, 0 -- of grad J less its approximation
            for i = 1, K do
                weights[i] = point.p[i]
                if i ~= target + 1 then others = others + point.p[i] end
            end
            weights[target + 1] = -others
            if subspace == 1 then
                weights[best + 1] = weights[best + 1] - 1
                weights[target + 1] = weights[target + 1] + 1
            end
            local scale = 0
            for i, row in ipairs(rows) do
                if cut == 0 or point.p[i] >= cut or i == target + 1 then
                    scale = math.max(scale, norm(row))
                end
            end
            -- The pseudo-class is a mean of many rows, shorter than the longest.
            assert.near(scale, point.scale, 1e-5 * scale)
            local wanted = subspace == 2 and 0 or norm(combine(rows, weights))
            assert.near(wanted, point.error, 3e-6 * scale)
            assert.near((subspace == 2 and 0 or 2 * point.gap * scale) + 1e-5 * scale, point.bound,
                1e-5 * point.bound + 1e-12)
            assert.is_true(point.held)
        end
    end)

    it("tells of a gradient that breaks its bound, in every subspace", function()
        local evaluate = rawget(loss.ce, "evaluate")
        finally(function() rawset(loss.ce, "evaluate", evaluate) end)
        local honest = loss.ce.evaluate
        for _, place in ipairs(places) do
            local K, cut, best, top, target, own, subspace = table.unpack(place)
            local g, rows = linear(K)
            local x = tensor.uniform("theorem:x", {1, D, 1, 1})
            local z = with_logits(g, rows, x, logits(K, best, top, target, own))
            local tester = theorem.tester(g, 1, cut)
            assert.is_true(tester:test(z, {target})[1].held)
            -- A share more of the target's gradient: just past what the bound allows.
            local gap = theorem.approximate(z[1]:totable(), target, cut).gap
            local excess = (subspace == 2 and 0 or 4 * gap) + 1e-4
            rawset(loss.ce, "evaluate", function(self, logits_, t, value, dz)
                value, dz = honest(self, logits_, t, value, dz)
                dz:set(dz:get(1, target + 1) + 2 * excess, 1, target + 1)
                return value, dz
            end)
            assert.is_false(tester:test(z, {target})[1].held)
            rawset(loss.ce, "evaluate", evaluate)
        end
    end)

    it("tests the points of a batch each on its own", function()
        local g = assert(net.load("nets/mlp.lua", {init = "he"}))
        local x = tensor.uniform("theorem:batch", {5, 1, 28, 28})
        local targets = {3, 1, 4, 1, 5}
        local together = theorem.tester(g, 5, 0.09):test(g:trace(x), targets)
        local tester = theorem.tester(g, 1, 0.09)
        for i = 1, 5 do
            local alone = tester:test(g:trace(x:narrow(i, 1)), {targets[i]})[1]
            assert.equal(alone.subspace, together[i].subspace)
            assert.near(alone.scale, together[i].scale, 1e-5 * alone.scale)
            assert.near(alone.error, together[i].error, 1e-5 * alone.scale)
            assert.is_true(together[i].held)
        end
    end)
end)

describe("A raised margin", function()
    it("ends float32's gradients where it must", function()
        local g, rows = linear(3)
        local x = tensor.uniform("theorem:x", {1, D, 1, 1})
        with_logits(g, rows, x, {0.3, -0.2, -50})
        local margins = {}
        for i = 0, 440 do margins[i + 1] = 0.25 * i end
        local results = theorem.raise_margin(g, x, {1}, {loss.ce, loss.ce_sign, loss.logit}, margins)
        local ce = theorem.first_lost(results[1], margins, 1)
        -- 1 - p_t = exp(-margin) is below half a unit in the last place of 1, 2^-25, past 17.3; the
        -- least number there is in float32, 2^-149, ends at 103.97; weights are below 1/2 here.
        assert.is_true(ce.target >= 16.5 and ce.target <= 17.75)
        assert.is_true(ce.first > 99 and ce.first <= ce.half and ce.half <= ce.zero)
        assert.is_true(ce.zero <= 104.25)
        local sign = theorem.first_lost(results[2], margins, 1)
        assert.same({ce.first, ce.half, ce.zero}, {sign.first, sign.half, sign.zero})
        local logit = theorem.first_lost(results[3], margins, 1)
        for _, what in ipairs {"target", "first", "half", "zero"} do
            assert.is_true(logit[what] ~= logit[what])
        end
        -- Before either end, each unit of margin takes a factor of e.
        local at = function(m) return results[1][4 * m + 1].l2[1] end
        assert.near(math.exp(-10), at(40) / at(30), 1e-3 * math.exp(-10))
    end)
end)
