-- How attacks judge what they made: success and ties, images that did not move, and numbers that are not
-- finite, which end the attack of one image and no other.

local attacks = require "advrt.attacks"
local loss = require "advrt.loss"
local method = require "advrt.attacks.method"
local support = require "support"
local tensor = require "advrt.tensor"

local INPUT, D = {1, 2, 2}, 4

local function images_of(rows)
    return tensor.from(rows):reshape {#rows, table.unpack(INPUT)}
end

local function run(g, attack, rows, labels, targets)
    return attacks.run {attack = attack, net = g, images = images_of(rows), labels = labels,
        targets = targets, batch = #rows}
end

-- An attack that returns the image as it was given.
local idle = method.new("idle", {kappa = method.not_negative(0), loss = method.loss("logit")})
function idle.advance() end
function idle:attack(image) image:begin(image.x0) end -- luacheck: ignore self

describe("success", function()
    -- Logits (s, s, 0), s the sum of the pixels: classes 0 and 1 tie.
    local tied = support.linear({{1, 1, 1, 1}, {1, 1, 1, 1}, {0, 0, 0, 0}}, {0, 0, 0}, INPUT)
    local grey = {{0.25, 0.5, 0.5, 0.25}}

    it("is decided by the first of the classes that tie", function()
        for _, case in ipairs {{2, 0, true}, {2, 1, false}, {1, nil, true}, {0, nil, false}} do
            local label, target, wanted = table.unpack(case, 1, 3)
            local r = run(tied, idle {}, grey, {label}, target and {target})
            assert.equal(wanted, r.success[1])
            assert.equal(0, r.prediction:get(1))
        end
    end)

    it("wants a margin of kappa where one is asked for, not a hair less", function()
        local g = support.linear({{0, 0, 0, 0}, {1, 1, 1, 1}}, {1, 0}, INPUT) -- a margin of s - 1
        for _, case in ipairs {{0, true}, {0.5, true}, {0.5 + 1e-6, false}} do
            for _, targets in ipairs {{1}, false} do
                local r = run(g, idle {kappa = case[1]}, grey, {0}, targets or nil)
                assert.equal(case[2], r.success[1])
            end
        end
    end)

    it("is what the attack itself saw on the way", function()
        local seen = {}
        local kind = method.new("watch", {loss = method.loss("logit")})
        kind.advance = function() end
        function kind:attack(image) -- luacheck: ignore self
            image:begin(image.x0)
            seen[image.name] = image.success
        end
        local rows, labels, seed = {}, {}, tensor.uniform("judged", {40, D}):totable()
        local g = support.linear({{1, -1, 0, 0}, {0, 1, -1, 0}, {0, 0, 1, -1}}, {0, 0, 0}, INPUT)
        for i = 1, 40 do rows[i], labels[i] = seed[i], i % 3 end
        local r, both = run(g, kind {}, rows, labels), 0
        for i = 1, 40 do
            assert.equal(seen["image " .. i], r.success[i])
            both = both + (r.success[i] and 1 or 0)
        end
        assert.is_true(both > 0 and both < 40)
    end)
end)

describe("an image that an attack does not move", function()
    -- Logits (-1e5, 0): ce's gradient is 0 in float.
    local sure = support.linear({{1, 0, 0, 0}, {-1, 0, 0, 0}}, {1e5, 0}, INPUT)
    local rows = {{0.5, 0.5, 0.5, 0.5}, {0.25, 0.5, 0.5, 0.25}}

    it("is counted for each attack, a random start or not", function()
        for _, attack in ipairs {attacks.fgs {}, attacks.ifgs {steps = 3}, attacks.pgd {steps = 3},
            attacks.pgd {norm = 2, steps = 3, restarts = 2}, attacks.lbfgs {loss = "ce", iterations = 5},
            attacks.cw {loss = "ce", iterations = 5, searches = 2}} do
            for _, targets in ipairs {{1, 1}, false} do
                if not (targets and attack.kind == "lbfgs") then
                    local own = targets and attack.loss or attack.away or attack.loss
                    local r = run(sure, attack, rows, {0, 0}, targets or nil)
                    local flat = own.name == "ce" and not targets
                    assert.same({false, false}, r.success)
                    assert.same({flat, flat}, r.unmoved, attack.kind)
                    for i = 1, 2 do
                        assert.equal(flat and r.backward:get(i) or 0, r.zero_gradients:get(i))
                    end
                end
            end
        end
    end)

    it("is none that has moved, or succeeded where it was", function()
        local r = run(sure, attacks.ifgs {steps = 3, loss = "m_logit"}, rows, {0, 0})
        assert.same({false, false}, r.unmoved)
        r = run(sure, attacks.ifgs {steps = 3}, rows, {1, 0})
        assert.same({true, false}, r.success)
        assert.same({false, true}, r.unmoved)
    end)
end)

describe("numbers that are not finite", function()
    -- Two classes; what an image meets is in its last pixel: 1 logits of NaN, 0.75 an infinite gradient.
    local function broken(what)
        local g = support.linear({{0.5, 0, 0, 0}, {-0.5, 0.5, 0, 0}}, {0.2, 0}, INPUT)
        local trace, backward, seen = g.trace, g.backward, nil
        local function has(i, mark) return math.abs(seen[i] - mark) < 0.05 end
        function g:trace(x, z)
            z, seen = trace(self, x, z), {}
            for i = 1, x:size(1) do
                seen[i] = x:get(i, 1, 2, 2)
                if has(i, 1) then z:set(0 / 0, i, 1) end
            end
            return z
        end
        function g:backward(dz, q)
            q = backward(self, dz, q)
            for i = 1, dz:size(1) do
                if has(i, 0.75) then q[i]:fill(what or math.huge) end
            end
            return q
        end
        return g
    end
    local plain = {0.4, 0.3, 0.2, 0.25}
    local rows = {plain, {0.4, 0.3, 0.2, 1}, {0.4, 0.3, 0.2, 0.75}, {0.35, 0.35, 0.2, 0.25}}
    local list = {attacks.fgs {eps = 0.02}, attacks.ifgs {eps = 0.02}, attacks.pgd {eps = 0.02},
        attacks.pgd {norm = 2, eps = 0.03}, attacks.lbfgs {loss = "ce", searches = 2},
        attacks.cw {searches = 2, iterations = 20}}

    it("end the attack of their image alone, which counts as not broken", function()
        for _, attack in ipairs(list) do
            for _, targets in ipairs {{1, 1, 1, 1}, false} do
                local r = run(broken(), attack, rows, {0, 0, 0, 0}, targets or nil)
                assert.same({[2] = "logits", [3] = "gradient"}, r.not_finite)
                for _, i in ipairs {2, 3} do
                    assert.same({false, false, 0}, {r.success[i], r.unmoved[i], r.linf:get(i)})
                end
                for _, i in ipairs {1, 4} do
                    local alone = run(broken(), attack, {rows[i], rows[i], rows[i], rows[i]}, {0, 0, 0, 0},
                        targets or nil)
                    if not attack.random then
                        assert.is_true(alone.adversarial[1]:equal(r.adversarial[i]), attack.name)
                    end
                    assert.is_true(r.linf:get(i) > 0)
                end
            end
        end
    end)

    it("end it where Adam's moments would overflow, too", function()
        local r = run(broken(1e30), attacks.cw {searches = 2, iterations = 20}, rows, {0, 0, 0, 0})
        assert.same({[2] = "logits", [3] = "gradient"}, r.not_finite)
    end)

    it("leave what was found before them", function()
        -- the last pixel of an attack that steps along it comes to 0.75
        local kind = method.new("walk", {loss = method.loss("logit")})
        function kind.advance(_, batch)
            for k = 1, batch.size do
                if batch.a:get(k) ~= 0 then batch.x[k]:add_(0.1) end
            end
        end
        function kind:attack(image) -- luacheck: ignore self
            image:begin(image.x0)
            for _ = 1, 20 do
                if image.success and not image.kept then image:keep() end
                image:step(1)
            end
        end
        -- z_1 - z_0 = 0.5 x_2 - x_1 - 0.2 falls with each step
        local r = run(broken(), kind {}, {{0.3, 0.4, 0.2, 0.25}, {0.3, 0.4, 0.2, 0.25}}, {1, 0})
        assert.same({"gradient", "gradient"}, r.not_finite)
        assert.same({true, false}, r.success)
    end)

    it("are a failure that names the first image where all images have them", function()
        local ok, problem = pcall(run, broken(), attacks.fgs {}, {rows[3], rows[2]}, {0, 0})
        assert.is_false(ok)
        assert.matches("^image 1: the gradient is not finite in attack fgs %(all 2 images have such "
            .. "numbers%); check the weights", problem.message)
    end)

    it("name a loss that is to blame", function()
        local fragile = loss.define("test_fragile", function(z, t)
            return z:gather(2, t)
        end)
        local evaluate = fragile.attempt
        rawset(fragile, "attempt", function(self, z, t)
            local v, d = evaluate(self, z, t)
            return v:set(0 / 0, 1), d
        end)
        local r = run(broken(), attacks.ifgs {loss = fragile}, {plain, plain}, {0, 0})
        assert.matches("^value of loss test_fragile %(tests/lua/judged_spec.lua:%d+%)$", r.not_finite[1])
        assert.is_nil(r.not_finite[2])
    end)
end)
