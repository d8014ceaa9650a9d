-- The attack loop against steps worked out by hand on linear nets.

local attack = require "advrt.attack"
local loss = require "advrt.loss"
local support = require "support"
local tensor = require "advrt.tensor"

local INPUT = {1, 1, 2}

local function run(changes)
    local spec = {
        net = support.linear({{1, 0}, {0, 2}, {-1, -1}}, {0, 0, 0}, INPUT),
        images = tensor.from {{{{0.5, 0.25}}}, {{{0.5, 0.125}}}}, labels = {0, 0}, targets = {1, 2},
        loss = loss.logit, multiplier = attack.equal_multiplier(0.25), iterations = 2,
    }
    for key, value in pairs(changes or {}) do spec[key] = value end
    return attack.run(spec), spec
end

describe("multipliers", function()
    local l2, linf = tensor.from({5, 0, 1e-24}, "f64"), tensor.from({4, 0, 1e-24}, "f64")

    it("have a magnitude for each norm: the net's own, or one that suits its images", function()
        local function of(defaults, norm, input)
            return {attack.magnitude_of({defaults = defaults, input = input or {3, 20, 30}}, norm)}
        end
        assert.same({0.05, "the default"}, of {})
        assert.same({0.02, "the net's own"}, of({magnitude = 0.02}, 2))
        assert.same({0.3, "the net's own for this norm"}, of({magnitude = 0.02, magnitude_inf = 0.3}, "inf"))
        local size = "the default for images of this size"
        assert.same({4 * 0.02 / math.sqrt(1800), size}, of({magnitude = 0.02}, "inf"))
        assert.same({4 * 0.05 / 2, size}, of({alpha = 1}, "inf", {1, 2, 2}))
        assert.error_matches(function() of({}, 1) end, "norm must be 2 or \"inf\", got 1")
    end)

    it("are constant, or hold the norm of the step", function()
        local a = tensor.new({3}, "f64")
        assert.same({0.5, 0, 0.5}, attack.equal_multiplier(0.5)(l2, linf, a):totable())
        attack.equal_perturbation(0.05)(l2, linf, a)
        assert.near(0.01, a:get(1), 1e-17)
        assert.equal(0, a:get(2))
        assert.near(0.05, a:get(3) * 1e-24, 1e-17)
        attack.equal_perturbation(0.05, {norm = "inf"})(l2, linf, a)
        assert.near(0.0125, a:get(1), 1e-17)
    end)

    it("refuse sizes and norms that make no sense", function()
        for _, bad in ipairs {0, -1, 0 / 0, math.huge, "1"} do
            assert.error_matches(function() attack.equal_multiplier(bad) end, "alpha")
            assert.error_matches(function() attack.equal_perturbation(bad) end, "magnitude")
        end
        assert.error_matches(function() attack.equal_perturbation(1, {norm = 1}) end, "norm")
    end)
end)

describe("attack.run", function()
    it("adds alpha times the gradient and clips to [0,1]", function()
        local r = run()
        -- logit: the gradients are (0, 2) and (-1, -1)
        assert.same({{{{0.5, 1}}}, {{{0, 0}}}}, r.adversarial:totable())
        assert.same({{0, 0}, {0.5, math.sqrt(0.25 ^ 2 + 0.125 ^ 2)},
            {0.75, math.sqrt(0.5 ^ 2 + 0.125 ^ 2)}}, r.series.l2:totable())
        assert.same({{0, 0}, {0.5, 0.25}, {0.75, 0.5}}, r.series.linf:totable())
        assert.same({2, math.sqrt(2)}, r.series.grad_l2[1]:totable())
        assert.same({0.5, math.sqrt(2) / 4}, r.series.step_l2[3]:totable())
        assert.same({0.5, 0}, r.series.zero_share[1]:totable())
    end)

    it("goes on from any state that it was asked to keep as if it had not stopped", function()
        local states, path = {}, os.tmpname() .. ".safetensors"
        finally(function() os.remove(path) end)
        local function keep(state)
            assert(tensor.save(path, state.tensors))
            states[#states + 1] = {step = state.step, seconds = state.seconds,
                tensors = assert(tensor.load(path))}
        end
        local changes = {iterations = 4, loss = loss.m_logit {kappa = 0.125}}
        local whole = run(changes)
        assert.equal(3, whole.zero_steps:get(1))
        changes.checkpoint = keep
        run(changes)
        assert.equal(4, #states)
        for n, state in ipairs(states) do
            assert.equal(n, state.step)
            local calls = 0
            changes.checkpoint, changes.from = function() calls = calls + 1 end, state
            local r = run(changes)
            assert.equal(4 - n, calls)
            assert.is_true(r.seconds >= state.seconds)
            for _, name in ipairs {"adversarial", "first", "flip_iteration", "zero_steps",
                "survives_8bit"} do
                assert.is_true(whole[name]:equal(r[name]), name)
            end
            assert.equal(whole.flip_l2:bytes(), r.flip_l2:bytes())
            for name, all in pairs(whole.series) do
                assert.equal(all:bytes(), r.series[name]:bytes(), name)
            end
        end
    end)

    it("keeps the norm of every step under equal perturbation, for every loss", function()
        for _, norm in ipairs {2, "inf"} do
            for _, name in ipairs(loss.names()) do
                local r = run {loss = loss[name], iterations = 3,
                    images = tensor.from {{{{0.5, 0.4}}}, {{{0.5, 0.4}}}},
                    multiplier = attack.equal_perturbation(0.01, {norm = norm})}
                local distance = norm == 2 and r.series.l2 or r.series.linf
                for i = 1, 2 do
                    assert.near(0.01, distance:get(2, i), 6e-8) -- float32 pixels near 0.5
                    if norm == 2 then assert.near(0.01, r.series.step_l2:get(4, i), 1e-15) end
                end
            end
        end
    end)

    it("records the gradient before the sign and steps along it", function()
        local r = run {loss = loss.ce_sign, multiplier = attack.equal_multiplier(0.125),
            iterations = 1, images = tensor.from {{{{0.5, 0.5}}}, {{{0.5, 0.5}}}}}
        assert.near(math.sqrt(2) * 0.125, r.series.step_l2:get(1, 1), 1e-15)
        assert.is_true(r.series.grad_l2:get(1, 1) ~= math.sqrt(2))
        local x = r.adversarial:totable()
        assert.same({0.375, 0.625}, x[1][1][1])
        assert.same({0.375, 0.375}, x[2][1][1])
    end)

    it("keeps each image at its first flip and runs on to the end", function()
        local r = run {iterations = 3}
        -- image 1: z = (0.5, 0.5) at n = 0 is a tie, which the lower class wins; n = 1: (0.5, 1.5)
        assert.same({1, -1}, r.flip_iteration:totable())
        assert.same({0.5, 0.75}, r.first[1]:totable()[1][1])
        assert.same({0.5, 0.125}, r.first[2]:totable()[1][1])
        assert.equal(0.5, r.flip_l2:get(1))
        assert.equal(0.5, r.flip_linf:get(1))
        assert.is_true(r.flip_l2:get(2) ~= r.flip_l2:get(2))
        assert.same({1, 0}, r.survives_8bit:totable())
        assert.equal(0.75, r.series.l2:get(4, 1))
    end)

    it("tells a flip that rounding to 8 bits undoes", function()
        -- z_1 - z_0 = x_2 - x_1: the flip is far smaller than half a level, and rounds away
        local r = run {net = support.linear({{1, 0}, {0, 1}}, {0, 0}, INPUT), targets = {1, 1},
            images = tensor.from {{{{128 / 255, 128 / 255}}}, {{{128 / 255, 127 / 255}}}},
            multiplier = attack.equal_multiplier(0.001), iterations = 10}
        assert.same({1, 4}, r.flip_iteration:totable())
        assert.same({0, 0}, r.survives_8bit:totable()) -- image 2 rounds back to a tie
        r = run {net = support.linear({{1, 0}, {0, 1}}, {0, 0}, INPUT), targets = {1, 1},
            multiplier = attack.equal_multiplier(0.3), iterations = 3}
        assert.same({1, 1}, r.survives_8bit:totable())
    end)

    it("takes no step where the direction is exactly zero, and counts it", function()
        for _, multiplier in ipairs {attack.equal_multiplier(1), attack.equal_perturbation(0.05)} do
            local r = run {loss = loss.m_logit {kappa = 0}, targets = {1, 1}, iterations = 4,
                images = tensor.from {{{{0, 1}}}, {{{1, 0.75}}}}, labels = {0, 0},
                multiplier = multiplier}
            -- both margins are above kappa from the start
            assert.same({4, 4}, r.zero_steps:totable())
            assert.same({0, 0}, r.series.l2[5]:totable())
            assert.same({1, 1}, r.series.zero_share[5]:totable())
            assert.same({0, 0}, r.series.step_l2[1]:totable())
        end
    end)

    it("moves where a gradient is too small for a float32 norm", function()
        local tiny = 1e-30
        local r = run {net = support.linear({{0, 0}, {tiny, 0}}, {0, 0}, INPUT), targets = {1, 1},
            multiplier = attack.equal_perturbation(0.125), iterations = 1}
        assert.near(0.125, r.series.l2:get(2, 1), 1e-12)
        assert.equal(0, r.zero_steps:get(1))
    end)

    it("has series of all steps with probabilities and subspaces", function()
        local r = run {iterations = 5, multiplier = attack.equal_multiplier(2)}
        for _, s in ipairs(attack.series) do
            assert.same({6, 2}, r.series[s[1]]:shape())
            assert.equal(s[2], r.series[s[1]]:dtype())
        end
        local p = math.exp(0.5) / (2 * math.exp(0.5) + math.exp(-0.75))
        assert.near(p, r.series.p_initial:get(1, 1), 1e-6)
        assert.near(p, r.series.p_target:get(1, 1), 1e-6)
        assert.near(-0.75, 3 * r.series.z_target:get(1, 1) - 2.25, 1e-6)
        assert.equal(2, r.series.subspace:get(1, 1))
        assert.is_true(r.seconds >= 0)
        assert.near(r.seconds, r.time.forward + r.time.backward + r.time.step, 1e-12)
    end)

    it("gives the same numbers with a workspace used before", function()
        local kept = {}
        local rests = run {workspace = kept, loss = loss.m_logit {kappa = 0}, iterations = 3,
            images = tensor.from {{{{0, 1}}}, {{{1, 0.75}}}}, targets = {1, 1}}
        assert.same({3, 3}, rests.zero_steps:totable())
        local again = run {workspace = kept, iterations = 3}
        local fresh = run {iterations = 3}
        assert.is_true(again.adversarial:equal(fresh.adversarial))
        assert.is_true(again.first:equal(fresh.first))
        assert.same(fresh.flip_iteration:totable(), again.flip_iteration:totable())
        assert.same(fresh.zero_steps:totable(), again.zero_steps:totable())
        for name, series in pairs(fresh.series) do
            assert.same(series:totable(), again.series[name]:totable())
        end
        run {workspace = kept, iterations = 4}
        assert.equal(5, #run({workspace = kept, iterations = 4}).series.l2)
    end)

    it("leaves the caller's images alone and reports each step", function()
        local seen = {}
        local _, spec = run {iterations = 3, progress = function(n, last)
            seen[#seen + 1] = n .. "/" .. last
        end}
        assert.equal(0.25, spec.images:get(1, 1, 1, 2))
        assert.same({"0/3", "1/3", "2/3", "3/3"}, seen)
    end)

    it("shows every point to a watcher, whose gradients change nothing", function()
        local g = support.linear({{1, 0}, {0, 1}}, {0, 0}, INPUT)
        function g:backward(dz, q) -- any number of times after a trace
            q = q or tensor.new {2, table.unpack(INPUT)}
            q:reshape({2, 2}):copy(dz)
            return q
        end
        local spec = {net = g, targets = {1, 1}, multiplier = attack.equal_multiplier(0.1),
            iterations = 3}
        local last, seen = run(spec).adversarial:clone(), {}
        spec.watch = function(n, x, z)
            seen[#seen + 1] = n
            assert.is_true(g:forward(x):equal(z))
            g:backward(z)
            if n == 3 then assert.is_true(x:equal(last)) end
        end
        assert.is_true(run(spec).adversarial:equal(last))
        assert.same({0, 1, 2, 3}, seen)
    end)

    it("names the image whose target equals its label, as a failure", function()
        local ok, problem = pcall(run, {targets = {1, 0}, names = {"a.png", "b.png"}})
        assert.is_false(ok)
        assert.equal(1, problem.status)
        assert.matches("image 2 %(b.png%): the target 0 equals the label", problem.message)
    end)

    it("names the image whose logits or gradient are not finite", function()
        local nan = 0 / 0
        local ok, problem = pcall(run, {net = support.linear({{1, 0}, {nan, 0}}, {0, 0}, INPUT),
            targets = {1, 1}})
        assert.is_false(ok)
        assert.matches("image 1: the logits are not finite at step 0 of loss logit", problem.message)
        local g = support.linear({{1, 0}, {0, 1}}, {0, 0}, INPUT)
        local backward = g.backward
        g.backward = function(self, dz, q) return backward(self, dz, q):fill(math.huge) end
        ok, problem = pcall(run, {net = g, targets = {1, 1}})
        assert.is_false(ok)
        assert.matches("the gradient is not finite", problem.message)
    end)

    it("refuses arguments that make no sense", function()
        for wanted, changes in pairs {
            ["net is missing"] = {net = 5},
            ["loss wants a loss"] = {loss = "ce"},
            ["multiplier is missing .* got number"] = {multiplier = 0.05},
            ["iterations must be an integer"] = {iterations = 0},
            ["iterations must be an integer of at least 1, got 2.5"] = {iterations = 2.5},
            ["images must be an f32 tensor %[N,C,H,W%]"] = {images = tensor.new {2, 2}},
            ["net wants %[N,1,1,2%], got %[2,1,2,2%]"] = {images = tensor.new {2, 1, 2, 2}},
            ["images must be an f32 tensor %[N,C,H,W%], got file"] = {images = io.stdout},
            ["labels: want 2 classes, one for each image, got 1"] = {labels = {0}},
            ["labels: want 2 classes, one for each image, got userdata"] = {labels = io.stdout},
            ["targets: want 2 classes, one for each image, got boolean"] = {targets = false},
            ["targets%[2%]: want a class in 0 .. 2, got 3"] = {targets = {1, 3}},
            ["targets%[1%]: want a class in 0 .. 2, got x"] = {targets = {"x", 1}},
            ["image 2 must lie in %[0,1%]"] = {images = tensor.from {{{{0, 1}}}, {{{0, 1.5}}}}},
            ["image 1 must lie in"] = {images = tensor.from {{{{0, 0 / 0}}}, {{{0, 1}}}}},
        } do
            assert.error_matches(function() run(changes) end, wanted)
        end
        for _, changes in ipairs {{net = 5}, {iterations = 0}, {labels = {0}}, {targets = {1, 3}},
            {loss = "ce"}, {images = io.stdout}, {labels = io.stdout}} do
            local ok, message = pcall(run, changes)
            assert.is_false(ok)
            assert.matches("^tests/lua/attack_spec.lua:%d+: ", message)
        end
        assert.error_matches(function() attack.run {net = support.linear({{1}}, {0}, {1, 1, 1}),
            iterations = 1, loss = loss.logit} end, "multiplier is missing")
    end)
end)
