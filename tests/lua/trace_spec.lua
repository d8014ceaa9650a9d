--- A backward goes to the images of its own trace, or fails: what runs the net in between, as a loss may,
-- does not change where it goes.
local attack = require "advrt.attack"
local attacks = require "advrt.attacks"
local fail = require "advrt.support.fail"
local loss = require "advrt.loss"
local net = require "advrt.net"
local support = require "tests.support"
local tensor = require "advrt.tensor"
local theorem = require "advrt.theorem"

local x, other = tensor.uniform("x", {2, 1, 28, 28}), tensor.uniform("other", {2, 1, 28, 28})
local three = tensor.uniform("three", {3, 1, 28, 28})
local labels, targets = {0, 1}, {2, 3}

local function bundled() return assert(net.load("nets/fashion.lua")) end

describe("a backward", function()
    local g, second, peek
    local margin = loss.define("peeking", function(z, t)
        if peek then peek() end
        return z:gather(2, t) - z:others(2, t):maximum(2)
    end)

    before_each(function()
        g, second, peek = bundled(), bundled(), nil
    end)

    -- Each function that goes back from a loss; what it returns is compared.
    local ways = {
        ["attack.run"] = function()
            return attack.run {net = g, images = x, labels = labels, targets = targets, loss = margin,
                multiplier = attack.equal_perturbation(0.05), iterations = 2}.adversarial
        end,
        ["attacks.run"] = function()
            return attacks.run {attack = attacks.pgd {loss = margin, steps = 2, eps = 0.1}, net = g,
                images = x, labels = labels, targets = targets, batch = 2}.adversarial
        end,
        ["theorem.raise_margin"] = function()
            return tensor.from(theorem.raise_margin(g, x, targets, {margin}, {0, 1})[1][2].l2, "f64")
        end,
        ["g:gradient"] = function() return select(2, g:gradient(x, margin, targets)) end,
        ["g:gradients"] = function() return select(2, g:gradients(x, {margin, 0}, targets))[1] end,
        ["g:gradients, of a class behind the loss"] = function()
            return select(2, g:gradients(x, {margin, 0}, targets))[2]
        end,
    }

    it("fails in one line that names the loss where that ran the same net", function()
        local peeks = {
            function() g:gradient(other, loss.ce, targets) end,
            function() g:trace(other) end,
            function()
                local before = peek
                peek = nil
                attack.run {net = g, images = other, labels = labels, targets = targets, loss = loss.ce,
                    multiplier = attack.equal_multiplier(0.05), iterations = 1}
                peek = before
            end,
        }
        for name, run in pairs(ways) do
            for i, one in ipairs(peeks) do
                peek = one
                local ok, problem = pcall(run)
                assert.is_false(ok, name .. i)
                assert.is_true(fail.is(problem), name .. ": " .. tostring(problem))
                assert.equal("loss peeking ran net fashion on other images between its trace and its "
                    .. "backward; load a second net for that", problem.message)
            end
        end
    end)

    it("goes where it would, where the loss ran another net, or other numbers of images", function()
        local peeks = {
            function() second:gradient(other, loss.ce, targets) end,
            function() g:gradient(three, loss.ce, {1, 2, 3}) end,
            function() g:forward(other) end,
            function() g:forget_plans() end,
        }
        for name, run in pairs(ways) do
            local wanted = run():clone()
            for i, one in ipairs(peeks) do
                peek = one
                assert.is_true(run():equal(wanted), name .. i)
                peek = nil
            end
        end
    end)

    it("goes to the last trace where it is given none, and to none that is gone", function()
        local dz = tensor.uniform("dz", {2, 10})
        local _, first = g:trace(x)
        local wanted = g:backward(dz)
        assert.is_true(g:holds(first))
        assert.is_true(g:backward(dz, nil, first):equal(wanted))
        g:trace(three)
        assert.is_true(g:backward(dz, nil, first):equal(wanted))
        local _, last = g:trace(other)
        assert.is_false(g:holds(first))
        assert.is_true(g:holds(last))
        local ok, problem = pcall(g.backward, g, dz, nil, first)
        assert.is_false(ok)
        assert.matches("^something ran net fashion on other images", problem.message)
        assert.is_true(g:backward(dz):equal(g:backward(dz, nil, last)))
        for _, wrong in ipairs {1, "x", {}} do
            assert.error_matches(function() g:backward(dz, nil, wrong) end, "a trace expected")
            assert.error_matches(function() g:holds(wrong) end, "a trace expected")
        end
    end)

    it("of a plan wants the number of its last forward", function()
        local dz = tensor.uniform("dz", {2, 10})
        local a, b = g:plan("gradient", 2), second:plan("gradient", 2)
        local _, one = a:forward(x)
        local _, two = b:forward(x)
        assert.is_true(a:backward(one, dz):equal(b:backward(two, dz)))
        assert.error_matches(function() a:backward(two, dz) end, "has replaced this trace")
        local _, last = a:forward(x)
        assert.error_matches(function() a:backward(one, dz) end, "has replaced this trace")
        assert.error_matches(function() a:backward(0, dz) end, "has replaced this trace")
        assert.error_matches(function() a:backward(dz) end, "number expected")
        a:backward(last, dz)
        assert.equal(1, select("#", g:plan("forward", 2):forward(x)))
    end)

    -- Nets whose backward half reads the images or the logits themselves, not what the forward made of them.
    local readers = {
        images = "b:linear(b:sigmoid(x), 'l', 3)",
        ["images in another shape"] = "b:linear(b:sigmoid(b:flatten(x)), 'l', 3)",
        logits = "b:tanh(b:linear(x, 'l', 3))",
        ["images by weights"] = "b:linear(x, 'l', 3)",
        ["images by two layers"] = "b:add(b:linear(x, 'l', 3), b:linear(b:slice(x, 2, 1, 2), 'm', 3))",
    }

    it("reads neither images nor logits that were changed or freed since the forward", function()
        local folder = support.folder()
        finally(function() support.remove(folder) end)
        for name, layers in pairs(readers) do
            local path = support.write(folder .. "/net.lua",
                "return {classes = 3, input = {1, 4, 5}, build = function(b, x) return " .. layers .. " end}")
            local net_of = assert(net.load(path, {init = "golden"}))
            local dz = tensor.uniform("dz", {2, 3})
            local plan, training = net_of:plan("gradient", 2), net_of:training_plan(2, 0)
            local function forward(p, spoil)
                local images, z = tensor.uniform("x", {2, 1, 4, 5}), tensor.new {2, 3}
                local _, trace = p:forward(images, z)
                spoil(images, z)
                return trace
            end
            local function gradients(spoil)
                local dx = plan:backward(forward(plan, spoil), dz)
                forward(training, spoil)
                collectgarbage()
                training:train_backward(dz)
                return dx:totable(), training:gradient("l.weight"):totable()
            end
            local wanted = {gradients(function() end)}
            assert.same(wanted, {gradients(function(images, z)
                images:mul_(0)
                z:mul_(0)
            end)}, name)
        end
    end)
end)
