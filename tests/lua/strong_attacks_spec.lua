-- The attacks that measure robustness: closed forms on linear nets, their promises, and that an image's
-- result is its own.

local attacks = require "advrt.attacks"
local data = require "advrt.data"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"

local INPUT = {1, 2, 3}

-- z_1 - z_0 = a x + b; the image lies inside of [0,1], on the side of class 0.
local A, B = {0.8, -0.5, 0.3, 0.6, -0.9, 0.2}, -0.7
local X = {0.5, 0.45, 0.4, 0.55, 0.6, 0.5}
local MARGIN, NORM1, NORM2 = B, 0, 0
for i, a in ipairs(A) do
    MARGIN, NORM1, NORM2 = MARGIN + a * X[i], NORM1 + math.abs(a), NORM2 + a * a
end
NORM2 = math.sqrt(NORM2)
local LEAST = {inf = -MARGIN / NORM1, [2] = -MARGIN / NORM2}

local function two_classes() return support.linear_net({{0, 0, 0, 0, 0, 0}, A}, {0, B}, INPUT) end

local function image_of(numbers) return tensor.from(numbers):reshape {1, table.unpack(INPUT)} end

-- Both kinds of goal: of two classes, away from 0 is towards 1.
local goals = {targeted = {1}, untargeted = false}

local function run(attack, targets, changes)
    local spec = {attack = attack, net = two_classes(), images = image_of(X), labels = {0},
        targets = targets or nil, batch = 1}
    for key, value in pairs(changes or {}) do spec[key] = value end
    return attacks.run(spec)
end

local function distance(r, norm) return (norm == 2 and r.l2 or r.linf):get(1) end

local fashion = assert(net.load("fashion"))
local COUNT = 32
local photos, targets, names = tensor.new {COUNT, 1, 28, 28}, {}, {}
local labels
do
    local folder = data.folder("nets/fashion-images", {classes = 10, input = {1, 28, 28}})
    for batch in folder:batches(1, COUNT, COUNT) do photos:copy(batch) end
    labels = fashion:forward(photos):argmax():totable() -- each image begins right
    for i = 1, COUNT do targets[i], names[i] = (labels[i] + i % 9 + 1) % 10, "image-" .. i end
end

local function run_photos(attack, options)
    local first, count = options.first or 1, options.count or COUNT
    local function part(list) return table.move(list, first, first + count - 1, 1, {}) end
    return attacks.run {attack = attack, net = fashion, images = photos:narrow(first, count),
        labels = part(labels), targets = options.targeted and part(targets) or nil, names = part(names),
        batch = options.batch or count, seed = options.seed or 3}
end

describe("an attack in a ball", function()
    local in_balls = {
        ["apgd in inf"] = {"inf", function(eps) return attacks.apgd {eps = eps, steps = 20} end},
        ["apgd in 2"] = {2, function(eps) return attacks.apgd {norm = 2, eps = eps, steps = 40} end},
        ["square in inf"] = {"inf", function(eps)
            return attacks.square {eps = eps, queries = 300}
        end},
    }
    for name, case in pairs(in_balls) do
        for kind, goal in pairs(goals) do
            it(("%s, %s, flips where eps reaches the boundary, not before"):format(name, kind), function()
                local norm, make = table.unpack(case)
                for _, share in ipairs {0.9, 0.99, 1.01, 1.1} do
                    local r = run(make(LEAST[norm] * share), goal)
                    assert.equal(share > 1, r.success[1], share)
                    assert.is_true(distance(r, norm) <= LEAST[norm] * share * (1 + 1e-12))
                end
            end)
        end
    end

    it("stays in it and in [0,1] where it runs into a side", function()
        local edge = {0, 1, 0.999, 0.001, 1, 0}
        for _, attack in ipairs {attacks.apgd {eps = 0.3, steps = 20},
            attacks.apgd {norm = 2, eps = 0.3, steps = 20, early = false},
            attacks.square {eps = 0.3, queries = 50}, attacks.square {norm = 2, eps = 0.3, queries = 50}} do
            for _, goal in ipairs {{1}, {0}} do
                local r = run(attack, goal, {images = image_of(edge), labels = {1 - goal[1]}})
                assert.is_true(r.adversarial:minimum() >= 0 and r.adversarial:maximum() <= 1)
                assert.is_true(distance(r, attack.norm) <= 0.3 * (1 + 1e-12))
            end
        end
    end)
end)

describe("apgd", function()
    -- z_1 = -|x_1 - a| - 0.3 |x_2 - b| - 1 is always below z_0 = 0: the loss z_1 is climbed to its peak
    -- and beyond, and no point succeeds.
    local PEAK = {0.6137, 0.3871}

    local function tent(visited)
        local g = {classes = 2, input = {1, 1, 2}}
        function g:trace(x, z)
            self.at = x:reshape {2}:totable()
            visited[#visited + 1] = self.at
            z:set(0, 1, 1)
            z:set(-math.abs(self.at[1] - PEAK[1]) - 0.3 * math.abs(self.at[2] - PEAK[2]) - 1, 1, 2)
            return z
        end
        function g:backward(dz, q)
            local slope = dz:get(1, 2)
            q:set(slope * (self.at[1] < PEAK[1] and 1 or -1), 1, 1, 1, 1)
            q:set(slope * (self.at[2] < PEAK[2] and 0.3 or -0.3), 1, 1, 1, 2)
            return q
        end
        return g
    end

    -- Algorithm 1 in double, norm inf: the points for N steps from `start`.
    local function by_hand(start, x0, eps, N, marks)
        local function P(x)
            local y = {}
            for i, v in ipairs(x) do
                y[i] = math.max(0, math.min(1, math.max(x0[i] - eps, math.min(x0[i] + eps, v))))
            end
            return y
        end
        local function f(x) return -math.abs(x[1] - PEAK[1]) - 0.3 * math.abs(x[2] - PEAK[2]) end
        local points, eta, before, x = {start}, 2 * eps, start, start
        local top, halved, top_at_mark, rises, last = start, false, f(start), 0, 0
        for n = 1, N do
            local z, y = {}, {}
            for i = 1, 2 do z[i] = x[i] + eta * (x[i] < PEAK[i] and 1 or -1) end
            z = P(z)
            for i = 1, 2 do
                y[i] = n == 1 and z[i] or x[i] + 0.75 * (z[i] - x[i]) + 0.25 * (x[i] - before[i])
            end
            y = P(y)
            points[n + 1] = y
            if f(y) > f(x) then rises = rises + 1 end
            before, x = x, y
            if f(y) > f(top) then top = y end
            if marks[n] then
                halved = rises < 0.75 * (n - last) or (not halved and f(top) == top_at_mark)
                if halved then eta, x = eta / 2, top end
                rises, last, top_at_mark = 0, n, f(top)
            end
        end
        return points
    end

    it("takes the steps of Algorithm 1: momentum, checkpoints, halvings, the best point again", function()
        local visited, eps = {}, 0.17
        local r = run(attacks.apgd {eps = eps, steps = 40, loss = "logit"}, {1},
            {net = tent(visited), images = tensor.from {{{{0.5, 0.5}}}}})
        assert.is_false(r.success[1])
        -- 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of 40, rounded up
        local marks = {[9] = true, [17] = true, [23] = true, [28] = true, [32] = true, [35] = true,
            [38] = true, [40] = true}
        local wanted = by_hand(visited[1], {0.5, 0.5}, eps, 40, marks)
        assert.equal(41, r.forward:get(1))
        local nearest = math.huge
        for n = 1, 41 do
            for i = 1, 2 do assert.near(wanted[n][i], visited[n][i], 2e-6, ("x_%d"):format(n - 1)) end
            nearest = math.min(nearest, math.abs(visited[n][1] - PEAK[1]))
        end
        -- halving brings it to the peak, and the result is the best point
        assert.is_true(nearest < 0.01)
        local z = tensor.new {1, 2}
        local top = -math.huge
        for n = 1, 41 do
            top = math.max(top, -math.abs(visited[n][1] - PEAK[1]) - 0.3 * math.abs(visited[n][2] - PEAK[2]))
        end
        tent({}):trace(r.adversarial, z)
        assert.near(top - 1, z:get(1, 2), 1e-6)
    end)

    it("tries the classes of the largest logits, by dlr too, and ends at the first success", function()
        local direct = run_photos(attacks.apgd {eps = 0.02, steps = 6, loss = "dlr"}, {})
        local aimed = run_photos(attacks.apgd {eps = 0.02, steps = 6, loss = "dlr", classes = 2}, {})
        local broken, both = 0, 0
        for i = 1, COUNT do
            local forward = aimed.forward:get(i)
            if aimed.success[i] then
                broken = broken + 1
                assert.is_true(forward <= 1 + 2 * 7)
                assert.not_equal(labels[i], aimed.prediction:get(i))
            else
                assert.equal(1 + 2 * 7, forward)
            end
            if direct.success[i] and aimed.success[i] then both = both + 1 end
        end
        assert.is_true(broken > 8 and broken < COUNT and both > 8)
    end)

    it("is not weaker than PGD of as many evaluations", function()
        local function count(attack)
            local n = 0
            for _, won in ipairs(run_photos(attack, {}).success) do n = n + (won and 1 or 0) end
            return n
        end
        for _, case in ipairs {{"inf", 0.018}, {2, 0.35}} do
            local apgd = count(attacks.apgd {norm = case[1], eps = case[2], steps = 30})
            local pgd = count(attacks.pgd {norm = case[1], eps = case[2], steps = 30, early = true})
            assert.is_true(apgd >= pgd and apgd < COUNT, ("%d %d"):format(apgd, pgd))
        end
    end)
end)

describe("square", function()
    it("asks for logits alone, as often as it is told, and its loss never falls", function()
        for _, norm in ipairs {"inf", 2} do
            local visited, best = {}, {}
            -- no stripes are its optimum
            local g = support.linear_net({{0, 0, 0, 0, 0, 0}, {0.8, -0.5, 0.3, -0.6, 0.9, -0.2}},
                {0, -1}, INPUT)
            local trace = g.trace
            g.backward = function() error("square needs no gradient") end
            g.trace = function(self, x, z)
                z = trace(self, x, z)
                visited[#visited + 1] = z:get(1, 2) - z:get(1, 1)
                return z
            end
            local attack = attacks.square {norm = norm, eps = 0.01, queries = 60}
            local r = run(attack, false, {net = g})
            assert.same({false, 60, 0}, {r.success[1], r.forward:get(1), r.backward:get(1)})
            -- the result, which the last of the traces measures, is the best of all
            local top = -math.huge
            for n = 1, 60 do
                top = math.max(top, visited[n])
                best[n] = top
            end
            assert.equal(61, #visited)
            assert.equal(top, visited[61])
            assert.is_true(best[60] > best[1])
        end
    end)

    it("halves its squares by the paper's schedule", function()
        local a = attacks.square {queries = 10000, p = 0.8}
        local side = function(i) return a:side(i, 100, 100) end
        assert.same({89, 89, 63, 45, 32, 22, 16, 11, 8, 6, 4}, {side(1), side(10), side(11), side(51),
            side(201), side(501), side(1001), side(2001), side(4001), side(6001), side(8001)})
        assert.equal(1, a:side(10000, 3, 3))
        assert.equal(3, a:side(1, 3, 50))
    end)

    it("breaks the bundled images in both norms", function()
        for _, case in ipairs {{"inf", 0.1}, {2, 1.5}} do
            local r, n = run_photos(attacks.square {norm = case[1], eps = case[2], queries = 60}, {}), 0
            for _, won in ipairs(r.success) do n = n + (won and 1 or 0) end
            assert.is_true(n > COUNT / 3, n)
        end
    end)
end)

describe("fab", function()
    for _, norm in ipairs {"inf", 2} do
        for kind, goal in pairs(goals) do
            it(("finds the distance to the boundary in norm %s, %s"):format(norm, kind), function()
                local r = run(attacks.fab {norm = norm, steps = 20}, goal)
                assert.is_true(r.success[1])
                assert.is_true(distance(r, norm) >= LEAST[norm] - 1e-6)
                assert.near(LEAST[norm], distance(r, norm), 0.01 * LEAST[norm])
            end)
        end
    end

    it("finds it along a side of the box, where the first pixel ends", function()
        -- z_1 - z_0 is -0.4 at x; the pixel would go on by 0.4 A_1 / |A|^2, beyond 1
        local x, gap, b, rest = {0.95, 0.45, 0.4, 0.55, 0.6, 0.5}, 0.4, -0.4, 0
        for i, a in ipairs(A) do b = b - a * x[i] end
        for i = 2, 6 do rest = rest + A[i] ^ 2 end
        assert.is_true(gap * A[1] / NORM2 ^ 2 > 0.05)
        local least = math.sqrt(0.05 ^ 2 + (gap - 0.05 * A[1]) ^ 2 / rest)
        local r = run(attacks.fab {norm = 2, steps = 30}, {1}, {images = image_of(x),
            net = support.linear_net({{0, 0, 0, 0, 0, 0}, A}, {0, b}, INPUT)})
        assert.is_true(r.success[1])
        assert.near(least, r.l2:get(1), 0.01 * least)
    end)

    it("with eps ends at the first success within it, and fails without one, in the ball", function()
        local r = run(attacks.fab {norm = 2, eps = LEAST[2] * 1.2}, {1})
        assert.is_true(r.success[1] and r.l2:get(1) <= LEAST[2] * 1.2 and r.backward:get(1) <= 2)
        r = run(attacks.fab {norm = 2, eps = LEAST[2] * 0.99, steps = 10}, {1})
        assert.is_true(not r.success[1] and r.l2:get(1) > 0 and r.l2:get(1) <= LEAST[2] * 0.99)
    end)

end)

describe("the attacks of least distortion", function()
    local cases = {
        ["deepfool in 2"] = {2, attacks.deepfool {overshoot = 0.002}},
        ["deepfool in inf"] = {"inf", attacks.deepfool {norm = "inf", overshoot = 0.002}},
        ddn = {2, attacks.ddn {steps = 300, gamma = 0.02}},
        ["fmn in 2"] = {2, attacks.fmn {}}, ["fmn in inf"] = {"inf", attacks.fmn {norm = "inf", steps = 200}},
    }
    for name, case in pairs(cases) do
        for kind, goal in pairs(goals) do
            it(("%s, %s, finds the distance to the boundary"):format(name, kind), function()
                local norm, attack = table.unpack(case)
                local r = run(attack, goal)
                assert.is_true(r.success[1])
                assert.is_true(distance(r, norm) >= LEAST[norm] - 1e-6)
                assert.near(LEAST[norm], distance(r, norm), 0.01 * LEAST[norm])
            end)
        end
    end

    it("deepfool crosses a linear boundary at the first step, beyond it by the overshoot", function()
        for _, norm in ipairs {"inf", 2} do
            local r = run(attacks.deepfool {norm = norm, overshoot = 0.1}, false)
            assert.same({true, 2, 1}, {r.success[1], r.forward:get(1), r.backward:get(1)})
            assert.near(1.1 * (LEAST[norm] + 1e-4), distance(r, norm), 1e-6)
        end
    end)

    it("deepfool takes the nearest of several boundaries, and a gradient for each", function()
        -- from 0 the classes 1, 2, 3 are 0.3, 0.2, 0.4 away; 2's gap is not the least
        local rows = {{0, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0}, {0, 4, 0, 0, 0, 0}, {0, 0, 1, 0, 0, 0}}
        local bias = {0, -X[1] - 0.3, -4 * X[2] - 0.8, -X[3] - 0.4}
        local r = run(attacks.deepfool {}, false, {net = support.linear_net(rows, bias, INPUT)})
        assert.same({true, 2, 3}, {r.success[1], r.prediction:get(1), r.backward:get(1)})
        assert.near(1.02 * (0.2 + 1e-4), r.l2:get(1), 1e-6)
        r = run(attacks.deepfool {}, {3}, {net = support.linear_net(rows, bias, INPUT)})
        assert.same({true, 3, 1}, {r.success[1], r.prediction:get(1), r.backward:get(1)})
    end)

    it("come near C&W on the bundled images", function()
        local function sum(attack)
            local r, l2 = run_photos(attack, {count = 8}), 0
            for i = 1, 8 do
                assert.is_true(r.success[i])
                l2 = l2 + r.l2:get(i)
            end
            return l2
        end
        local cw = sum(attacks.cw {searches = 4, iterations = 80, rate = 0.1})
        assert.is_true(sum(attacks.fab {norm = 2, steps = 15, classes = 3}) < 1.05 * cw)
        assert.is_true(sum(attacks.ddn {steps = 60}) < 1.1 * cw)
        assert.is_true(sum(attacks.fmn {steps = 60}) < 1.1 * cw)
        assert.is_true(sum(attacks.deepfool {}) < 1.6 * cw)
    end)
end)

describe("autoattack", function()
    for _, case in ipairs {{"inf", 0.015, {}}, {2, 0.3, {}}, {"inf", 0.02, {targeted = true}}} do
        local norm, eps, options = table.unpack(case)
        it(("leaves the images that each of its four attacks leaves: norm %s%s"):format(norm,
            options.targeted and ", targeted" or ""), function()
            local given = {norm = norm, eps = eps, steps = 4, classes = 2, queries = 10}
            local all = attacks.autoattack(given)
            assert.equal(4, #all.stages)
            local robust, forward, backward, count = {}, {}, {}, 0
            for i = 1, COUNT do robust[i], forward[i], backward[i] = true, 0, 0 end
            local alone = {}
            for s, stage in ipairs(all.stages) do
                local r = run_photos(stage, options)
                alone[s] = 0
                for i = 1, COUNT do
                    if robust[i] then
                        forward[i] = forward[i] + r.forward:get(i)
                        backward[i] = backward[i] + r.backward:get(i)
                    end
                    alone[s] = alone[s] + (r.success[i] and 0 or 1)
                    robust[i] = robust[i] and not r.success[i]
                end
            end
            local r = run_photos(all, options)
            for i = 1, COUNT do
                assert.equal(not robust[i], r.success[i], i)
                assert.equal(forward[i], r.forward:get(i))
                assert.equal(backward[i], r.backward:get(i))
                assert.is_true((norm == 2 and r.l2 or r.linf):get(i) <= eps * (1 + 1e-12))
                count = count + (robust[i] and 1 or 0)
            end
            assert.is_true(count > 0 and count < COUNT, count)
            for s = 1, 4 do assert.is_true(count <= alone[s]) end
        end)
    end

    it("takes as many images as the queue has, in rooms of several batches", function()
        local items, at, seen, measured = {}, 0, {}, 0
        for i = 1, 70 do
            local k = (i - 1) % COUNT + 1
            items[i] = {image = photos[k], label = labels[k], name = "n" .. i, index = i}
        end
        local about = attacks.stream {attack = attacks.autoattack {eps = 0.02, steps = 2, classes = 1,
            queries = 2}, net = fashion, targeted = false, batch = 2,
            next = function()
                at = at + 1
                return items[at]
            end,
            done = function(item, one)
                assert.is_nil(seen[item.index])
                seen[item.index] = one.forward
            end,
            measured = function(batch) measured = batch.passes end}
        assert.equal(71, at) -- the end of the queue is asked for once
        assert.equal(70, #seen)
        assert.is_true(measured > 0 and measured <= about.passes and about.evaluations > 70)
    end)
end)

describe("numbers that are not finite", function()
    local all = {attacks.apgd {}, attacks.apgd {norm = 2, loss = "m_logit", classes = 1}, attacks.fab {},
        attacks.fab {norm = 2, eps = 1}, attacks.deepfool {}, attacks.deepfool {norm = "inf"},
        attacks.ddn {}, attacks.fmn {}, attacks.fmn {norm = "inf"}}

    it("end the attack of an image, which is named", function()
        local nan = 0 / 0
        local blind = {attacks.square {queries = 5}, attacks.square {norm = 2, queries = 5}}
        for _, list in ipairs {all, blind} do
            for _, attack in ipairs(list) do
                local ok, problem = pcall(run, attack, false, {names = {"a.png"},
                    net = support.linear_net({X, {nan, 0, 0, 0, 0, 0}}, {0, 0}, INPUT)})
                assert.is_false(ok)
                assert.matches("^a.png: the logits are not finite in attack " .. attack.kind, problem.message)
            end
        end
        for _, attack in ipairs(all) do
            local g = two_classes()
            local backward = g.backward
            g.backward = function(self, dz, q) return backward(self, dz, q):fill(math.huge) end
            local ok, problem = pcall(run, attack, false, {net = g, names = {"a.png"}})
            assert.is_false(ok)
            assert.matches("^a.png: the gradient is not finite in attack " .. attack.kind, problem.message)
        end
    end)

    it("or a flat loss leave an image in the ball, and it counts as not moved", function()
        local flat = support.linear_net({{0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}}, {1, 0}, INPUT)
        for _, attack in ipairs(all) do
            local r = run(attack, false, {net = flat})
            assert.is_false(r.success[1])
            assert.is_true(r.unmoved[1], attack.name)
        end
    end)
end)

describe("an image's result", function()
    local PLACE = 20

    local function same(attack, batch, targeted)
        local all = run_photos(attack, {batch = batch, targeted = targeted})
        local alone = run_photos(attack, {first = PLACE, count = 1, batch = batch, targeted = targeted})
        assert.is_true(alone.adversarial[1]:equal(all.adversarial[PLACE]), attack.kind)
        assert.equal(alone.success[1], all.success[PLACE])
        for _, name in ipairs {"l2", "linf", "prediction", "forward", "backward"} do
            assert.equal(alone[name]:get(1), all[name]:get(PLACE))
        end
    end

    local cheap = {
        attacks.apgd {eps = 0.02, steps = 8, restarts = 2}, attacks.apgd {norm = 2, eps = 0.3, steps = 8},
        attacks.apgd {eps = 0.01, steps = 5, loss = "dlr", classes = 2},
        attacks.fab {steps = 4, classes = 2, restarts = 2}, attacks.fab {norm = 2, eps = 0.2, steps = 4},
        attacks.autoattack {eps = 0.01, steps = 3, classes = 2, queries = 4},
        attacks.deepfool {steps = 2}, attacks.deepfool {norm = "inf", steps = 2, classes = 3},
        attacks.ddn {steps = 6}, attacks.fmn {steps = 6}, attacks.fmn {norm = "inf", steps = 6},
        attacks.square {eps = 0.01, queries = 12}, attacks.square {norm = 2, eps = 0.3, queries = 12},
    }

    it("has the same bits alone and among 31 others", function()
        for i, attack in ipairs(cheap) do same(attack, 32, i % 2 == 0) end
    end)

    it("has them where places in the batch are filled again from the queue", function()
        for i = 1, #cheap, 2 do same(cheap[i], 5, i % 4 == 1) end
    end)
end)
