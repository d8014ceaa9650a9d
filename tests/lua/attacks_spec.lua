-- Each attack against closed forms on linear nets, its promises, and that images are independent.

local attacks = require "advrt.attacks"
local loss = require "advrt.loss"
local method = require "advrt.attacks.method"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"

local INPUT = {1, 2, 3}

-- z_1 - z_0 = a x + b; one image of the interior, at distance -(a x + b) / |a| from the boundary.
local A, B = {0.8, -0.5, 0.3, 0.6, -0.9, 0.2}, -0.7
local X = {0.5, 0.45, 0.4, 0.55, 0.6, 0.5}
local MARGIN, NORM1, NORM2 = B, 0, 0
for i, a in ipairs(A) do
    MARGIN, NORM1, NORM2 = MARGIN + a * X[i], NORM1 + math.abs(a), NORM2 + a * a
end
NORM2 = math.sqrt(NORM2)
local LEAST = {inf = -MARGIN / NORM1, [2] = -MARGIN / NORM2}

local function linear(rows, bias) return support.linear_net(rows, bias, INPUT) end

local function two_classes(b) return linear({{0, 0, 0, 0, 0, 0}, A}, {0, b or B}) end

local function image_of(numbers)
    return tensor.from(numbers):reshape {1, table.unpack(INPUT)}
end

-- Both kinds of goal: of two classes, away from 0 is towards 1.
local goals = {targeted = {1}, untargeted = false}

local function run(attack, targets, changes)
    local spec = {attack = attack, net = two_classes(), images = image_of(X), labels = {0},
        targets = targets or nil, batch = 1}
    for key, value in pairs(changes or {}) do spec[key] = value end
    return attacks.run(spec)
end

-- How far an attack in a ball has to move each pixel: all of eps along the sign, or the gradient.
local function closed_form(norm, eps)
    local x = {}
    for i, v in ipairs(X) do
        local sign = A[i] > 0 and 1 or -1
        x[i] = v + eps * (norm == 2 and A[i] / NORM2 or sign)
    end
    return x
end

local in_balls = {
    fgs = {"inf", function(eps) return attacks.fgs {eps = eps} end},
    ifgs = {"inf", function(eps) return attacks.ifgs {eps = eps, steps = 7} end},
    ["pgd in inf"] = {"inf", function(eps) return attacks.pgd {eps = eps, steps = 10} end},
    ["pgd in 2"] = {2, function(eps)
        return attacks.pgd {norm = 2, eps = eps, alpha = eps / 2, steps = 60}
    end},
}

describe("the attacks in a ball", function()
    for name, case in pairs(in_balls) do
        for kind, targets in pairs(goals) do
            it(("%s, %s, end on the ball where the closed form is"):format(name, kind), function()
                local norm, make = table.unpack(case)
                local eps = LEAST[norm] * 1.2
                local r = run(make(eps), targets)
                local wanted, got = closed_form(norm, eps), r.adversarial:reshape {6}:totable()
                for i = 1, 6 do assert.near(wanted[i], got[i], 5e-7) end
                local distance = norm == 2 and r.l2 or r.linf
                assert.is_true(distance:get(1) <= eps * (1 + 1e-12))
                assert.near(eps, distance:get(1), 1e-7)
            end)

            it(("%s, %s, flips where eps reaches the boundary, not before"):format(name, kind),
                function()
                    local norm, make = table.unpack(case)
                    for _, share in ipairs {0.9, 0.99, 1.01, 1.1} do
                        local r = run(make(LEAST[norm] * share), targets)
                        assert.equal(share > 1, r.success[1], share)
                        assert.equal(share > 1 and 1 or 0, r.prediction:get(1))
                    end
                end)
        end
    end

    it("stay in [0,1] and in the ball where they run into a side", function()
        local edge = {0, 1, 0.999, 0.001, 1, 0}
        for _, attack in ipairs {attacks.fgs {eps = 0.3}, attacks.ifgs {eps = 0.3},
            attacks.pgd {eps = 0.3, restarts = 3}, attacks.pgd {norm = 2, eps = 0.3}} do
            for _, targets in ipairs {{1}, {0}} do
                local r = run(attack, targets, {images = image_of(edge), labels = {1 - targets[1]}})
                local x, square = r.adversarial:reshape {6}:totable(), 0
                for i = 1, 6 do
                    assert.is_true(x[i] >= 0 and x[i] <= 1)
                    local d = x[i] - tensor.from {edge[i]}:get(1)
                    square = square + d * d
                    if attack.norm == "inf" then assert.is_true(math.abs(d) <= 0.3) end
                end
                if attack.norm == 2 then assert.is_true(math.sqrt(square) <= 0.3) end
                assert.near(math.sqrt(square), r.l2:get(1), 1e-12)
            end
        end
    end)

    it("start PGD at random points of the ball, which seed, name and restart decide", function()
        local function start(norm, options)
            options.attack = attacks.pgd {norm = norm, eps = 0.2, alpha = 1e-9, steps = 1}
            options.images = image_of {0.5, 0.5, 0.5, 0.5, 0.5, 0.5}
            return run(options.attack, {1}, options)
        end
        for _, norm in ipairs {"inf", 2} do
            local r = start(norm, {})
            assert.is_true(r.adversarial:equal(start(norm, {}).adversarial))
            assert.is_false(r.adversarial:equal(start(norm, {seed = 1}).adversarial))
            assert.is_false(r.adversarial:equal(start(norm, {names = {"b"}}).adversarial))
            local distance = norm == 2 and r.l2 or r.linf
            assert.is_true(distance:get(1) > 0.002 and distance:get(1) <= 0.2)
        end
        -- uniform in the ball: in six dimensions half of the points lie beyond 0.5^(1/6) eps; by radius,
        -- in norm 2 the default, half beyond 0.5 eps
        local N, images, labels, targets = 400, {}, {}, {}
        for i = 1, N do images[i], labels[i], targets[i] = image_of(X)[1], 0, 1 end
        for median, kind in pairs {[0.5 ^ (1 / 6)] = "ball", [0.5] = "radius", [0.4999] = false} do
            local r = run(attacks.pgd {norm = 2, eps = 0.2, alpha = 1e-9, steps = 1, start = kind or nil},
                targets, {images = tensor.stack(images), labels = labels, batch = 50})
            local far = 0
            for i = 1, N do
                if r.l2:get(i) > 0.2 * median then far = far + 1 end
            end
            assert.is_true(far > 160 and far < 240, far)
        end
    end)

    it("start PGD inside the ball, however the start is rounded", function()
        -- A radius of a few units in the last place: most starts would be rounded out of such a ball.
        local N, images, labels = 200, {}, {}
        for i = 1, N do images[i], labels[i] = image_of(X)[1], 1 end -- away from 1, each start succeeds
        for _, norm in ipairs {"inf", 2} do
            for _, eps in ipairs {3e-7, 1e-6, 1e-3, 0.05} do
                local r = run(attacks.pgd {norm = norm, eps = eps, early = true, steps = 1}, false,
                    {images = tensor.stack(images), labels = labels, batch = 40})
                local distance, farthest = norm == 2 and r.l2 or r.linf, 0
                for i = 1, N do
                    farthest = math.max(farthest, distance:get(i))
                    assert.same({true, 1, 0}, {r.success[i], r.forward:get(i), r.backward:get(i)})
                end
                assert.is_true(farthest <= eps * (1 + 1e-12) and farthest > eps / 2)
            end
        end
    end)

    it("restart PGD until a start succeeds, and count what that takes", function()
        local function count(eps)
            return run(attacks.pgd {norm = 2, eps = eps, steps = 5, restarts = 4}, {1})
        end
        local r = count(LEAST[2] / 2)
        assert.same({false, 24, 20}, {r.success[1], r.forward:get(1), r.backward:get(1)})
        r = count(LEAST[2] * 2)
        assert.same({true, 6, 5}, {r.success[1], r.forward:get(1), r.backward:get(1)})
        r = run(attacks.pgd {eps = LEAST.inf * 2, steps = 40, early = true, random = false}, {1})
        assert.is_true(r.success[1] and r.linf:get(1) < LEAST.inf * 1.2 and r.backward:get(1) < 20)
        r = run(attacks.fgs {eps = 0.1}, {1})
        assert.same({1, 1, 1}, {r.forward:get(1), r.backward:get(1), r.passes})
    end)
end)

describe("the attacks of least distortion", function()
    for name, attack in pairs {lbfgs = attacks.lbfgs {searches = 14}, cw = attacks.cw {}} do
        for kind, targets in pairs(goals) do
            it(("%s, %s, finds the distance to the boundary"):format(name, kind), function()
                local r = run(attack, targets)
                assert.is_true(r.success[1])
                assert.is_true(r.l2:get(1) >= LEAST[2] - 1e-6)
                assert.near(LEAST[2], r.l2:get(1), 0.01 * LEAST[2])
                local wanted = closed_form(2, LEAST[2])
                for i, v in ipairs(r.adversarial:reshape {6}:totable()) do
                    assert.near(wanted[i], v, 0.05 * LEAST[2])
                end
            end)
        end

        it(name .. " finds it along the side of the box", function()
            -- the first pixel, near 1, runs into its side, and the others take what is left
            local x, b, rest = {0.95, 0.45, 0.4, 0.55, 0.6, 0.5}, B - 0.5, 0
            local gap = -b - A[1]
            for i = 2, 6 do
                gap = gap - A[i] * x[i]
                rest = rest + A[i] ^ 2
            end
            assert.is_true(gap * A[1] / rest > 0.05)
            local least = math.sqrt(0.05 ^ 2 + gap ^ 2 / rest)
            local r = run(attack, {1}, {images = image_of(x), net = two_classes(b)})
            assert.is_true(r.success[1])
            assert.is_true(r.l2:get(1) >= least - 1e-6)
            assert.near(least, r.l2:get(1), 0.01 * least)
        end)

        it(name .. " says where it fails", function()
            -- class 1 is nowhere in [0,1]
            local g = linear({{0, 0, 0, 0, 0, 0}, A}, {0, -20})
            local few = name == "cw" and attacks.cw {searches = 2, iterations = 10}
                or attacks.lbfgs {searches = 1, iterations = 5}
            local r = run(few, {1}, {net = g})
            assert.is_false(r.success[1])
            assert.equal(0, r.prediction:get(1))
        end)
    end

    it("cw ends at a margin of kappa, targeted and not", function()
        local kappa = 0.2
        for _, targets in pairs(goals) do
            local r = run(attacks.cw {kappa = kappa}, targets)
            local z = two_classes():forward(r.adversarial)
            assert.is_true(r.success[1])
            assert.is_true(z:get(1, 2) - z:get(1, 1) >= kappa)
            local least = (kappa - MARGIN) / NORM2
            assert.near(least, r.l2:get(1), 0.01 * least)
        end
    end)

    it("cw looks at the image of its last step, too", function()
        local r = run(attacks.cw {searches = 1, iterations = 1, rate = 1, c = 100}, {1})
        assert.same({true, 2, 1}, {r.success[1], r.forward:get(1), r.backward:get(1)})
    end)

    it("cw moves pixels that lie on a side, by the stated hair", function()
        -- Adam moves w by at most its rate in a step, so from 1e-6 it takes hundreds
        local black = {0, 0, 0, 0, 0, 0}
        local g = linear({{0, 0, 0, 0, 0, 0}, {2, 2, 2, 2, 2, 2}}, {0, -1})
        local least = 0.5 / math.sqrt(6)
        local r = run(attacks.cw {}, {1}, {net = g, images = image_of(black)})
        assert.is_true(r.success[1])
        assert.near(least, r.l2:get(1), 0.01 * least)
    end)

    it("cw starts again from random points no farther than its best", function()
        local once = run(attacks.cw {iterations = 60, rate = 0.05}, {1})
        local thrice = run(attacks.cw {iterations = 60, rate = 0.05, starts = 3}, {1})
        assert.is_true(once.success[1] and thrice.success[1])
        assert.is_true(thrice.l2:get(1) <= once.l2:get(1))
        assert.is_true(thrice.forward:get(1) > 2 * once.forward:get(1))
        local again = run(attacks.cw {iterations = 60, rate = 0.05, starts = 3}, {1})
        assert.is_true(again.adversarial:equal(thrice.adversarial))
    end)

    it("take other losses, a script's own too", function()
        -- the margin again, written in Lua
        local own = {name = "own", min_classes = 2, direction = function(_, q) return q end}
        function own.evaluate(_, z, target, value, dz)
            value, dz = value or tensor.new {z:size(1)}, dz or tensor.new(z:shape())
            for i = 1, z:size(1) do
                local t = type(target) == "table" and target[i] or target:get(i)
                value:set(z:get(i, t + 1) - z:get(i, 2 - t), i)
                dz:set(1, i, t + 1)
                dz:set(-1, i, 2 - t)
            end
            return value, dz
        end
        for _, targets in pairs(goals) do
            for _, attack in ipairs {attacks.cw {loss = own}, attacks.lbfgs {loss = own},
                attacks.cw {loss = loss.logit}} do
                local r = run(attack, targets, attack.loss == loss.logit
                    and not targets and {net = linear({{-0.4, 0.25, -0.15, -0.3, 0.45, -0.1},
                        {0.4, -0.25, 0.15, 0.3, -0.45, 0.1}}, {0.35, -0.35})} or nil)
                assert.is_true(r.success[1])
                assert.near(LEAST[2], r.l2:get(1), 0.1 * LEAST[2])
            end
            for _, case in pairs {attacks.fgs {eps = 0.1, loss = own},
                attacks.pgd {eps = 0.1, steps = 10, loss = own}} do
                local wanted = closed_form("inf", 0.1)
                local x = run(case, targets).adversarial:reshape {6}:totable()
                for i = 1, 6 do assert.near(wanted[i], x[i], 1e-7) end
            end
        end
    end)
end)

describe("attacks.run", function()
    it("measures what an attack returns, and refuses what it must not", function()
        local function liar(eps, point)
            local kind = method.new("liar", {eps = method.positive(eps), loss = method.loss("ce")})
            kind.norm, kind.advance = "inf", function() end
            function kind:attack(image) -- luacheck: ignore self
                image:begin(image_of(point)[1])
            end
            return kind {}
        end
        local r = run(liar(0.5, closed_form("inf", 0.4)), {1})
        assert.near(0.4, r.linf:get(1), 1e-7)
        assert.is_true(r.success[1])
        r = run(liar(0.5, X), {1})
        assert.same({false, 0, 0}, {r.success[1], r.l2:get(1), r.linf:get(1)})
        assert.error_matches(function() run(liar(0.3, closed_form("inf", 0.4)), {1}) end,
            "attack liar: image 1 ended at 0.4%d*, beyond eps = 0.29*")
        assert.error_matches(function() run(liar(5, {0.5, 0.5, 0.5, 0.5, 0.5, 1.25}), {1}) end,
            "attack liar: image 1 ended outside of %[0,1%]: 0.5 .. 1.25")
        assert.error_matches(function() run(liar(5, {0.5, 0.5, 0.5, 0.5, 0.5, 0 / 0}), {1}) end,
            "not finite")
    end)

    it("leaves the caller's images alone", function()
        local x = image_of(X)
        run(attacks.pgd {}, {1}, {images = x})
        assert.is_true(x:equal(image_of(X)))
    end)

    it("names the image whose logits or gradient are not finite", function()
        local nan = 0 / 0
        for _, attack in ipairs {attacks.fgs {}, attacks.pgd {}, attacks.lbfgs {}, attacks.cw {}} do
            local ok, problem = pcall(run, attack, {1},
                {net = linear({X, {nan, 0, 0, 0, 0, 0}}, {0, 0}), names = {"a.png"}})
            assert.is_false(ok)
            assert.matches("^a.png: the logits are not finite in attack ", problem.message)
            local g = two_classes()
            local backward = g.backward
            g.backward = function(self, dz, q) return backward(self, dz, q):fill(math.huge) end
            ok, problem = pcall(run, attack, {1}, {net = g, names = {"a.png"}})
            assert.is_false(ok)
            assert.matches("^a.png: the gradient is not finite in attack ", problem.message)
        end
    end)

    it("refuses arguments that make no sense, at the caller's line", function()
        for wanted, changes in pairs {
            ["net is missing"] = {net = 5},
            ["attack is missing .* got string"] = {attack = "cw"},
            ["images must be an f32 tensor"] = {images = tensor.new {2, 2}},
            ["net wants %[N,1,2,3%], got %[1,1,2,2%]"] = {images = tensor.new {1, 1, 2, 2}},
            ["labels: want 1 classes"] = {labels = {0, 1}},
            ["targets%[1%]: want a class in 0 .. 1, got 2"] = {targets = {2}},
            ["image 1: the target 0 equals the label"] = {targets = {0}},
            ["image 1 must lie in %[0,1%]"] = {images = image_of {0, 0, 0, 0, 0, 2}},
            ["batch must be an integer of at least 1, got 0"] = {batch = 0},
            ["seed must be an integer, got 1.5"] = {seed = 1.5},
        } do
            local ok, message = pcall(function() run(attacks.fgs {}, {1}, changes) end)
            assert.is_false(ok)
            assert.matches(wanted, message)
            assert.matches("^tests/lua/attacks_spec.lua:%d+: attacks.run: ", message)
        end
    end)

    it("makes attacks of parameters that make sense only", function()
        for wanted, make in pairs {
            ["fgs: eps must be a number above 0, got 0"] = function() attacks.fgs {eps = 0} end,
            ["fgs: eps must be a number above 0, got %-?nan"] = function()
                attacks.fgs {eps = 0 / 0}
            end,
            ["fgs has no parameter 'esp'; did you mean 'eps'%? %(it has eps, loss%)"] =
                function() attacks.fgs {esp = 1} end,
            ["pgd: norm must be 2 or inf, got 1"] = function() attacks.pgd {norm = 1} end,
            ["cw: hair must be a number above 0 and below 0.5"] = function()
                attacks.cw {hair = 0.5}
            end,
            ["cw: searches must be a whole number of at least 1, got 1.5"] = function()
                attacks.cw {searches = 1.5}
            end,
            ["lbfgs: memory must be a whole number from 1 to 100, got 101"] = function()
                attacks.lbfgs {memory = 101}
            end,
            ["pgd: start must be ball or radius, got centre"] = function()
                attacks.pgd {start = "centre"}
            end,
            ["pgd: loss must be a loss, got cee"] = function() attacks.pgd {loss = "cee"} end,
        } do
            local ok, message = pcall(make)
            assert.is_false(ok)
            assert.matches(wanted, message)
            assert.matches("^tests/lua/attacks_spec.lua:%d+: ", message)
        end
    end)

    it("reads attacks from text", function()
        local a = assert(attacks.parse("pgd:norm=2:eps=8/255:early=true:loss=logit"))
        assert.same({"pgd:norm=2:eps=8/255:early=true:loss=logit", 2, 8 / 255, true, loss.logit, 40},
            {a.name, a.norm, a.eps, a.early, a.loss, a.steps})
        assert.equal("inf", attacks.parse("pgd:norm=inf").norm)
        for text, wanted in pairs {
            ["pgdd"] = "unknown attack 'pgdd'; did you mean 'pgd'?",
            ["names"] = "unknown attack 'names'",
            ["pgd:espilon=1"] = "'pgd' has no parameter 'espilon'",
            ["pgd:eps"] = "want PARAMETER=VALUE, got 'eps'",
            ["pgd:eps=-1"] = "'pgd': eps must be a number above 0, got %-1",
            ["pgd:eps=1:"] = "want PARAMETER=VALUE, got ''",
            [""] = "unknown attack ''",
        } do
            local none, message = attacks.parse(text)
            assert.is_nil(none)
            assert.matches(wanted, message)
        end
    end)
end)

describe("an image's result", function()
    local g = assert(net.load("nets/fashion.lua", {init = "golden"}))
    local COUNT, PLACE = 32, 20
    local x = tensor.uniform("attacks", {COUNT, 1, 28, 28})
    local labels, targets, names = g:forward(x):argmax():totable(), {}, {}
    for i = 1, COUNT do targets[i], names[i] = (labels[i] + i % 9 + 1) % 10, "image-" .. i end

    local function run_on(attack, first, count, batch, targeted)
        local function part(list) return table.move(list, first, first + count - 1, 1, {}) end
        return attacks.run {attack = attack, net = g, images = x:narrow(first, count),
            labels = part(labels), targets = targeted and part(targets) or nil, names = part(names),
            batch = batch, seed = 3}
    end

    local function same(attack, batch, targeted)
        local all = run_on(attack, 1, COUNT, batch, targeted)
        local alone = run_on(attack, PLACE, 1, batch, targeted)
        assert.is_true(alone.adversarial[1]:equal(all.adversarial[PLACE]))
        assert.is_false(alone.adversarial[1]:equal(x[PLACE]))
        assert.equal(alone.success[1], all.success[PLACE])
        for _, name in ipairs {"l2", "linf", "prediction", "forward", "backward"} do
            assert.equal(alone[name]:get(1), all[name]:get(PLACE))
        end
        return all
    end

    local cheap = {
        attacks.fgs {}, attacks.ifgs {steps = 4}, attacks.pgd {steps = 4, restarts = 2},
        attacks.pgd {norm = 2, eps = 0.3, steps = 4, restarts = 2, early = true},
        attacks.lbfgs {searches = 2, iterations = 6, c = 0.1},
        attacks.cw {searches = 2, iterations = 8, starts = 2, rate = 0.1, c = 10},
    }

    it("has the same bits alone and among 31 others", function()
        for i, attack in ipairs(cheap) do same(attack, 32, i % 2 == 0) end
    end)

    it("has them where places in the batch are filled again from the queue", function()
        for i, attack in ipairs(cheap) do
            local r = same(attack, 5, i % 2 == 1)
            local most, sum = 0, 0
            for k = 1, COUNT do
                most, sum = math.max(most, r.forward:get(k)), sum + r.forward:get(k)
            end
            -- no pass is spent on an empty place while there is an image to fill it
            assert.is_true(r.passes <= sum // 5 + most)
        end
    end)
end)
