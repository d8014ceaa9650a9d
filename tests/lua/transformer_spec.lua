-- A transformer's encoder against PyTorch's in float64: tests/golden/transformer.safetensors.

local core = require "advrt.core.tensor"
local loss = require "advrt.loss"
local net = require "advrt.net"
local support = require "tests.support"
local tensor = require "advrt.tensor"
local train = require "advrt.train"
local weights = require "advrt.core.weights"

local N = 4
-- Ten steps make rounding grow: PyTorch's own float32 is 3.3e-6 off float64, and this project's kernels 2e-6
-- to 1e-5, by instruction set and compiler options.
local TRAINED = 3e-5

-- torch's TransformerEncoderLayer with norm_first, and its names.
local function block(b, x, name)
    local y = b:attention(b:layernorm(x, name .. ".norm1"), name .. ".self_attn", {heads = 4})
    x = b:add(x, y)
    y = b:gelu(b:linear(b:layernorm(x, name .. ".norm2"), name .. ".linear1", 32, {flatten = false}))
    return b:add(x, b:linear(y, name .. ".linear2", 16, {flatten = false}))
end

local function encoder()
    return assert(net.build({classes = 4, input = {3, 6, 10}, build = function(b, x)
        x = b:linear(x, "embed", 16, {flatten = false})
        x = b:add(x, b:parameter("positions", {6, 16}, {role = "token"}))
        for i = 0, 1 do x = block(b, x, "encoder.layers." .. i) end
        return b:linear(b:layernorm(x, "encoder.norm"), "head", 4)
    end}, {init = "golden"}, "encoder"))
end

local function numbers(name) return tensor.uniform(name, {N, 3, 6, 10}) end

describe("a transformer's encoder", function()
    local golden

    setup(function() golden = assert(weights.load "tests/golden/transformer.safetensors") end)

    it("has PyTorch's logits and gradient", function()
        local z, q = encoder():gradient(numbers("input"), loss.ce, {0, 1, 2, 3})
        support.near(z, golden.logits, 1e-6, "logits")
        support.near(q, golden.gradient, 2e-6, "gradient")
    end)

    it("learns as PyTorch's does", function()
        local g, optimiser = encoder(), train.sgd {rate = 0.05, momentum = 0.9, weight_decay = 5e-4}
        local plan, dz = g:training_plan(N), tensor.new {N, 4}
        for step = 0, 9 do
            local labels = {}
            for i = 0, N - 1 do labels[i + 1] = (i + 3 * step) % 4 end
            core.cross_entropy(plan:forward(numbers("batch" .. step)), labels, dz)
            plan:train_backward(dz)
            optimiser:step(g, plan)
        end
        g:forget_plans()
        support.near(g:forward(numbers("input")), golden["trained.logits"], TRAINED, "logits")
        for name, value in pairs(g:state()) do
            local wanted = golden["trained." .. name]
            if wanted then support.near(value, wanted, TRAINED, name) end
        end
    end)
end)
