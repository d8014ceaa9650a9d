--- A formula between two linear layers is computed by their products: the same bits as by a step of its
-- own, forward and backward, and no step of its own is left.
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local TOKENS, D = 7, 24
local on_cpu = system.options.device == "cpu"

-- The golden weights of a layer depend on its name and shape alone.
local function linear(b, x, name, out) return b:linear(x, name, out, {flatten = false}) end

--- A net of the function's layers on tokens, [1, TOKENS, D] -> `classes`.
local function build(width, classes, layers)
    return assert(net.build({
        classes = classes, input = {1, TOKENS, width},
        build = function(b, x) return layers(b, b:reshape(x, {TOKENS, width})) end,
    }, {init = "golden"}))
end

--- The steps of the plan for a gradient, by name: how many.
local function steps(g, x)
    local z, counts = tensor.new {x:size(1), g.classes}, {}
    local plan = g:plan("gradient", x:size(1))
    plan:time(true)
    g:trace(x, z)
    g:backward(z, tensor.new {x:size(1), table.unpack(g.input)})
    for _, s in ipairs(plan:time()) do counts[s.what] = (counts[s.what] or 0) + 1 end
    return counts
end

local function run(g, x, dz)
    local z, dx = tensor.new {x:size(1), g.classes}, tensor.new {x:size(1), table.unpack(g.input)}
    g:trace(x, z)
    g:backward(dz or z, dx)
    return z, dx
end

describe("a formula between linear layers", function()
    -- Widths around the product's panels and stretches; the last is beyond what it computes twice.
    for _, width in ipairs {5, 33, 400, 600} do
        it("has the bits of a step of its own, width " .. width, function()
            local x = tensor.uniform("x", {3, 1, TOKENS, D}):mul_(6):sub_(3)
            local whole = build(D, TOKENS * width, function(b, v)
                v = linear(b, b:gelu(linear(b, v, "up", 2 * width)), "down", width)
                return b:flatten(v)
            end)
            local first = build(D, TOKENS * 2 * width, function(b, v)
                return b:flatten(b:gelu(linear(b, v, "up", 2 * width)))
            end)
            local second = build(2 * width, TOKENS * width, function(b, v)
                return b:flatten(linear(b, v, "down", width))
            end)
            local z, dx = run(whole, x)
            local middle = tensor.new {3, first.classes}
            first:forward(x, middle)
            local there = middle:reshape {3, 1, TOKENS, 2 * width}
            local z2, dmiddle = run(second, there, z)
            local _, dx2 = run(first, x, dmiddle:reshape {3, first.classes})
            assert.is_true(z2:equal(z), "logits")
            assert.is_true(dx2:equal(dx), "gradient")
        end)
    end

    it("is no step of its own", function()
        local x = tensor.uniform("x", {3, 1, TOKENS, D})
        local counts = steps(build(D, TOKENS * 16, function(b, v)
            return b:flatten(linear(b, b:gelu(linear(b, v, "up", 32)), "down", 16))
        end), x)
        if on_cpu then assert.is_nil(counts["map in one loop"]) end
        assert.equal(2, counts.matmul or 2)
    end)

    it("is a step where something else reads it, too", function()
        local x = tensor.uniform("x", {3, 1, TOKENS, D})
        local g = build(D, TOKENS * 32, function(b, v)
            local y = b:gelu(linear(b, v, "up", 32))
            return b:flatten(b:add(linear(b, y, "down", 32), y))
        end)
        if on_cpu then assert.is_truthy(steps(g, x)["map in one loop"]) end
    end)
end)
