-- Small nets, each with layers to be tested, and what a device makes of them: advrt [--device D]
-- tests/layers.lua FILE writes logits, the image's gradient by two losses, and all parameters after two
-- steps of training, as tensors named NET:WHAT. tests/lua/layers_spec.lua holds the devices to each other.

local loss = require "advrt.loss"
local net = require "advrt.net"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local N, CLASSES = 5, 3
local nets = {}

--- One net: input is its image's shape, body draws from x what a last linear layer reads.
local function define(name, input, body)
    nets[#nets + 1] = {name = name, classes = CLASSES, input = input, build = function(b, x)
        return b:linear(body(b, x), "fc", CLASSES)
    end}
end

local elementwise = {"leakyrelu", "elu"}
for name in pairs(require "advrt.nets.activations") do elementwise[#elementwise + 1] = name end
table.sort(elementwise)
for _, name in ipairs(elementwise) do
    define(name, {3, 9, 7}, function(b, x)
        return b[name](b, b:conv(x, "c", {out = 20, kernel = 3, pad = 1}))
    end)
end
define("gelu by tanh", {3, 5, 6}, function(b, x)
    return b:gelu(b:conv(x, "c", {out = 16, kernel = 3}), {approximate = "tanh"})
end)
define("clip", {2, 5, 6}, function(b, x) return b:clip(b:conv(x, "c", {out = 9, kernel = 3}), -0.3, 0.4) end)
define("prelu", {2, 5, 6}, function(b, x)
    local y = b:prelu(b:conv(x, "c", {out = 9, kernel = 3}), "one")
    return b:prelu(b:conv(y, "d", {out = 16, kernel = 1}), "each", {channels = 16})
end)
define("squeeze and excite", {3, 8, 8}, function(b, x)
    local y = b:silu(b:batchnorm(b:conv(x, "c", {out = 24, kernel = 3, pad = 1}), "bn"))
    local s = b:relu(b:conv(b:mean(y, {2, 3}, {keep = true}), "fc1", {out = 6, kernel = 1}))
    s = b:sigmoid(b:conv(s, "fc2", {out = 24, kernel = 1}))
    return b:conv(b:mul(y, s), "project", {out = 10, kernel = 1})
end)
define("layer scale", {3, 8, 8}, function(b, x)
    local y = b:conv(x, "c", {out = 12, kernel = 2, stride = 2})
    local scale = b:parameter("gamma", {12, 1, 1}, {role = "norm_weight"})
    return b:add(y, b:mul(b:gelu(b:conv(y, "d", {out = 12, kernel = 1})), scale))
end)
define("a formula of four", {3, 4, 4}, function(b, x)
    local y = b:conv(x, "c", {out = 8, kernel = 1})
    local rows, columns = b:mean(y, 2, {keep = true}), b:mean(y, {1, 3}, {keep = true})
    return b:map("(x - y) / (2 + exp(-z^2)) + max(u, y) * abs(x)^1.5", y, rows, columns,
        b:parameter("shift", {4}))
end)
define("means", {3, 6, 5}, function(b, x)
    local y = b:conv(x, "c", {out = 7, kernel = 1})
    return b:mul(b:mean(y, 3, {keep = true}), b:mean(y, {1}, {keep = true}), b:mean(y, {1, 2, 3}))
end)

define("a transformer", {3, 6, 10}, function(b, x)
    local y = b:linear(x, "embed", 24, {flatten = false})
    y = b:add(y, b:parameter("positions", {6, 24}, {role = "token"}))
    for i = 1, 2 do
        local name = "blocks." .. i
        local a = b:attention(b:layernorm(y, name .. ".norm1", {eps = 1e-6}), name .. ".attn",
            {heads = 3, bias = i == 1})
        y = b:add(y, b:mul(a, b:parameter(name .. ".scale", {24}, {role = "layer_scale"})))
        local m = b:gelu(b:linear(b:layernorm(y, name .. ".norm2"), name .. ".fc1", 40, {flatten = false}))
        y = b:add(y, b:linear(m, name .. ".fc2", 24, {flatten = false}))
    end
    return b:layernorm(y, "norm", {dims = 2})
end)
define("attention drawn by hand", {4, 5, 7}, function(b, x)
    local q, k = b:linear(x, "q", 6, {flatten = false}), b:linear(x, "k", 6, {flatten = false})
    local bias = b:parameter("bias", {4, 5, 5}, {role = "token"})
    local s = b:add(b:matmul(q, k, {transpose_y = true, scale = 0.4}), bias)
    return b:matmul(b:softmax(s), b:softmax(x, 1))
end)
define("norms", {3, 8, 8}, function(b, x)
    local y = b:conv(x, "c", {out = 12, kernel = 3})
    y = b:silu(b:layernorm(y, "ln", {dims = "channels", eps = 1e-6}))
    y = b:silu(b:groupnorm(b:conv(y, "d", {out = 12, kernel = 1}), "gn", {groups = 4}))
    return b:instancenorm(b:silu(b:instancenorm(b:conv(y, "e", {out = 8, kernel = 3}), {name = "in"})))
end)
define("batch norm of features", {3, 5, 6}, function(b, x)
    local y = b:silu(b:batchnorm(b:linear(x, "c", 24), "bn1"))
    local z = b:mean(b:conv(x, "d", {out = 7, kernel = 3}), 3) -- [7, 3]
    return b:add(b:linear(b:silu(b:batchnorm(z, "bn2")), "e", 24, {flatten = true}), y)
end)
define("a transposed convolution", {3, 5, 6}, function(b, x)
    local y = b:conv_transpose(x, "up", {out = 20, kernel = 3, stride = 2, pad = 1, output_padding = 1})
    y = b:relu(y)
    return b:conv_transpose(y, "again", {out = 8, kernel = 4, stride = {2, 1}, groups = 4})
end)
define("local response", {3, 5, 7}, function(b, x)
    local y = b:lrn(b:conv(x, "c", {out = 20, kernel = 2}), {size = 5, alpha = 0.5})
    return b:lrn(b:relu(y), {size = 4, alpha = 2, beta = 0.5, k = 2})
end)
define("upsample", {3, 5, 4}, function(b, x)
    local y = b:conv(x, "c", {out = 9, kernel = 2})
    return b:add(b:upsample(y, {factor = 2, mode = "bilinear"}), b:upsample(y, {size = {8, 6}}))
end)
define("expand", {3, 4, 5}, function(b, x)
    local y = b:conv(x, "c", {out = 6, kernel = 1})
    local rows = b:expand(b:mean(y, 2, {keep = true}), {6, 4, 5})
    return b:mul(b:add(y, rows), b:expand(b:narrow(b:flatten(y), 1, 4, 1), {6, 4, 5}))
end)

local function state_of(g)
    local images = tensor.uniform("train", {N, table.unpack(g.input)})
    local labels = tensor.from({0, 1, 2, 0, 1}, "i64")
    train.run {net = g, images = images, labels = labels, batch = N, epochs = 2,
        optimiser = train.sgd {rate = 0.05}}
    return g:state()
end

local function results()
    local all = {}
    for _, d in ipairs(nets) do
        local function keep(what, t) all[d.name .. ":" .. what] = t end
        local g = assert(net.build(d, {init = "golden"}, d.name))
        local x = tensor.uniform("x", {N, table.unpack(g.input)})
        for _, name in ipairs {"ce", "logit"} do
            local z, q = g:gradient(x, loss[name], {1, 2, 0, 1, 2})
            keep("logits", z)
            keep("gradient by " .. name, q)
        end
        keep("logits of one", g:forward(x:narrow(1, 3, 1)))
        for parameter, t in pairs(state_of(g)) do keep(parameter, t) end
    end
    return all
end

if arg and arg[0] and arg[0]:find("tests/layers%.lua$") then
    assert(tensor.save(arg[1], results()))
end

return {nets = nets, results = results, N = N}
