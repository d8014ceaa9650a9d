-- Ten training steps of a small net with each kind of layer against PyTorch's in float64:
-- tests/golden/kinds.safetensors, which make_kinds.py writes.

local core = require "advrt.core.tensor"
local net = require "advrt.net"
local support = require "tests.support"
local tensor = require "advrt.tensor"
local train = require "advrt.train"
local weights = require "advrt.core.weights"

local N, CLASSES = 4, 3
-- Rounding grows in ten steps: PyTorch's own float32 ends up to 5.2e-6 from float64.
local FOLLOWED = 3e-5

local function named(layer, ...)
    local more = {...}
    return function(b, x) return b[layer](b, x, table.unpack(more)) end
end
local function of_parameters(layer, o) return named(layer, "l", o) end

-- Swin's bias of each pair of 2 tokens, read from a table by offset.
local function offsets(b, x)
    local table_of = b:parameter("l.table", {3}, {role = "token"})
    local first, second = b:narrow(table_of, 1, 2, 2), b:narrow(table_of, 1, 1, 2)
    return b:add(b:reshape(x, {-1, 2, 2}), b:reshape(b:concat({first, second}, 1), {2, 2}))
end

local function excite(b, x)
    local s = b:silu(b:conv(b:adaptive_avgpool(x), "l.fc1", {out = 2, kernel = 1}))
    return b:mul(x, b:sigmoid(b:conv(s, "l.fc2", {out = 4, kernel = 1})))
end

local kinds = {
    ["concat"] = function(b, x) return b:concat {x, b:conv(x, "l", {out = 3, kernel = 1})} end,
    ["average"] = named("avgpool", {kernel = 3, stride = 2, pad = 1}),
    ["average, ceil"] = named("avgpool", {kernel = {2, 3}, stride = {3, 2}, pad = 1, ceil_mode = true}),
    ["average, inside"] = named("avgpool", {kernel = 3, stride = 2, pad = 1, count_include_pad = false}),
    ["adaptive average"] = named("adaptive_avgpool", {4, 5}),
    ["adaptive maximum"] = named("adaptive_maxpool", {2, 3}),
    ["maximum"] = named("maxpool", {kernel = 3, stride = 2, pad = 1}),
    ["dilated"] = of_parameters("conv", {out = 3, kernel = {3, 2}, stride = {1, 2}, pad = {2, 1},
        dilation = {2, 3}}),
    ["grouped"] = of_parameters("conv", {out = 6, kernel = 3, pad = 1, groups = 2}),
    ["transposed"] = of_parameters("conv_transpose", {out = 3, kernel = {3, 2}, stride = {2, 1}, pad = 1,
        output_padding = {1, 0}}),
    ["transposed in groups"] = of_parameters("conv_transpose", {out = 4, kernel = 3, stride = 2, pad = 1,
        groups = 2, dilation = 2, bias = false}),
    ["nearest"] = named("upsample", {size = {7, 4}}),
    ["bilinear"] = named("upsample", {factor = {1.7, 2}, mode = "bilinear"}),
    ["response"] = named("lrn", {size = 3, alpha = 0.5, beta = 0.75, k = 2}),
    ["relu"] = named "relu",
    ["relu6"] = function(b, x) return b:relu6(b:map("8 * x", x)) end,
    ["sigmoid"] = named "sigmoid",
    ["silu"] = named "silu",
    ["tanh"] = named "tanh",
    ["softplus"] = named "softplus",
    ["mish"] = named "mish",
    ["hardsigmoid"] = function(b, x) return b:hardsigmoid(b:map("4 * x", x)) end,
    ["hardswish"] = function(b, x) return b:hardswish(b:map("4 * x", x)) end,
    ["selu"] = named "selu",
    ["gelu"] = named "gelu",
    ["gelu by tanh"] = named("gelu", {approximate = "tanh"}),
    ["leakyrelu"] = named("leakyrelu", {slope = 0.2}),
    ["elu"] = named("elu", {alpha = 0.7}),
    ["clip"] = named("clip", -0.5, 0.8),
    ["prelu"] = named("prelu", "l"),
    ["prelu by channels"] = named("prelu", "l", {channels = 4}),
    ["layer norm"] = named("layernorm", "l"),
    ["layer norm of images"] = named("layernorm", "l", {dims = 3}),
    ["layer norm of channels"] = named("layernorm", "l", {dims = "channels"}),
    ["group norm"] = named("groupnorm", "l", {groups = 2}),
    ["instance norm"] = named("instancenorm", {name = "l"}),
    ["instance norm without weights"] = named "instancenorm",
    ["batch norm"] = named("batchnorm", "l"),
    ["attention"] = function(b, x)
        return b:attention(b:transpose(b:flatten(x, 2), 1, 2), "l.a", {heads = 2})
    end,
    ["squeeze and excite"] = excite,
    ["depthwise, shuffled"] = function(b, x)
        return b:channel_shuffle(b:conv(x, "l", {out = 4, kernel = 3, pad = 1, groups = 4}), 2)
    end,
    ["permuted"] = function(b, x) return b:linear(b:permute(x, {2, 3, 1}), "l", 3, {flatten = false}) end,
    ["reshaped"] = function(b, x) return b:linear(b:reshape(x, {18, 8}), "l", 3) end,
    ["split"] = function(b, x)
        local top, bottom = b:split(x, {2, 4}, 2)
        return b:concat({b:flip(top, 3), b:sigmoid(bottom)}, 2)
    end,
    ["padded"] = function(b, x) return b:conv(b:pad(x, {3, 1, 0, 2}), "l", {out = 3, kernel = 3}) end,
    ["table of offsets"] = offsets,
    ["features, batch norm"] = named("batchnorm", "l"),
    ["features, layer norm"] = named("layernorm", "l"),
    ["features, group norm"] = named("groupnorm", "l", {groups = 2}),
}

local function built(name)
    return assert(net.build({classes = CLASSES, input = {2, 6, 6}, build = function(b, x)
        x = name:find "^features" and b:linear(x, "first", 8)
            or b:conv(x, "first", {out = 4, kernel = 3, pad = 1})
        return b:linear(b:flatten(kinds[name](b, x)), "head", CLASSES)
    end}, {init = "golden", plan = "direct"}, name))
end

local function numbers(name) return tensor.uniform(name, {N, 2, 6, 6}) end

describe("ten training steps of a net with a layer", function()
    local golden = assert(weights.load "tests/golden/kinds.safetensors")

    for name in pairs(kinds) do
        it("follow PyTorch's: " .. name, function()
            local g, optimiser = built(name), train.sgd {rate = 0.05, momentum = 0.9, weight_decay = 5e-4}
            local plan, dz, losses = g:training_plan(N), tensor.new {N, CLASSES}, {}
            for step = 0, 9 do
                local labels = {}
                for i = 0, N - 1 do labels[i + 1] = (i + 3 * step // 2) % CLASSES end
                losses[step + 1] = core.cross_entropy(plan:forward(numbers("batch" .. step)), labels, dz)
                plan:train_backward(dz)
                optimiser:step(g, plan)
            end
            g:forget_plans()
            support.near(tensor.from(losses), golden[name .. ":losses"], FOLLOWED, "losses")
            support.near(g:forward(numbers "batch0"), golden[name .. ":logits"], FOLLOWED, "logits")
            local compared = 0
            for key, value in pairs(g:state()) do
                if key ~= "head.weight" then
                    support.near(value, golden[name .. ":" .. key], FOLLOWED, key)
                    compared = compared + 1
                end
            end
            assert.is_true(compared >= 3)
        end)
    end

    it("are there for all golden numbers", function()
        for key in pairs(golden) do assert.truthy(kinds[key:match "^(.*):"], key) end
    end)
end)
