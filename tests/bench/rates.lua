--- What this machine can do, measured: FLOP/s of convolutions by the kind of their kernel and of
-- linear layers, and bytes/s of memory. A kind's rate is the best of a few shapes that caches and
-- vectors like, so that what a net's layer takes beyond its FLOPs at that rate can be asked for.

local net = require "advrt.net"
local tensor = require "advrt.tensor"
local work = require "work"

local rates = {}

local BATCH, LAYERS, RUNS = 8, 3, 5
local LINEAR = 4096            -- inputs and outputs
local TOKENS, TOKEN = 196, 768 -- of an image, and numbers in each
local LONG_RUN = 5e-3          -- seconds, beside which a launch is nothing
local MEMORY = 1 << 24         -- floats in each of two tensors, beyond any cache

-- Kind -> shapes: channels, side of the grid, and what is not {kernel = 1, pad = 0}.
local SHAPES = {
    {"1x1", {C = 256, side = 56}, {C = 512, side = 28}, {C = 1024, side = 14}},
    {"3x3", {C = 64, side = 56, kernel = 3, pad = 1}, {C = 128, side = 28, kernel = 3, pad = 1},
        {C = 256, side = 14, kernel = 3, pad = 1}},
    {"grouped", {C = 96, side = 112, kernel = 3, pad = 1, groups = 96},
        {C = 240, side = 28, kernel = 3, pad = 1, groups = 240},
        {C = 480, side = 14, kernel = 3, pad = 1, groups = 480}},
    {"other", {C = 64, side = 28, kernel = 5, pad = 2}, {C = 128, side = 28, kernel = 5, pad = 2},
        {C = 128, side = 112, kernel = 3, pad = 1, stride = 2}},
}

--- The kind of a layer of graph:layers() that has FLOPs.
function rates.kind(layer)
    if layer.kind == "linear" and #layer.shape == 1 then return "linear" end
    if not layer.kernel then return "matmul" end
    local R, S, stride = layer.kernel[1], layer.kernel[2], layer.stride
    if layer.groups > 1 then return "grouped" end
    if R == 1 and S == 1 then return "1x1" end
    return R == 3 and S == 3 and stride[1] == 1 and stride[2] == 1 and "3x3" or "other"
end

--- Seconds by layer of one run, all of a layer's steps together.
function rates.run(plan, step)
    plan:time(true)
    step()
    local seconds = {}
    for _, s in ipairs(plan:time()) do seconds[s.layer] = (seconds[s.layer] or 0) + s.seconds end
    return seconds
end

--- The most FLOP/s of any layer of a net on a batch of N; left_out: names that do not count.
local function layer_rate(g, N, left_out)
    local x, z = tensor.uniform("bench:rate", {N, table.unpack(g.input)}), tensor.new {N, g.classes}
    local _, flops = work.forward_flops(g.graph)
    local best = 0
    g:forward(x, z)
    for _ = 1, RUNS do
        for name, seconds in pairs(rates.run(g:plan("forward", N), function() g:forward(x, z) end)) do
            if flops[name] and not left_out[name] then best = math.max(best, N * flops[name] / seconds) end
        end
    end
    return best
end

--- The most FLOP/s in any of a shape's layers, the image's own left out.
local function convolution_rate(shape, plan)
    local g = assert(net.build({
        classes = shape.C, input = {shape.C, shape.side, shape.side},
        build = function(b, x)
            x = b:conv(x, "image", {out = shape.C, kernel = 1, bias = false})
            for i = 1, LAYERS do
                x = b:conv(x, "conv" .. i, {out = shape.C, kernel = shape.kernel or 1,
                    pad = shape.pad or 0, stride = shape.stride or 1, groups = shape.groups or 1,
                    bias = false})
            end
            return b:adaptive_avgpool(x, {1, 1})
        end,
    }, {init = "he", plan = plan}))
    return layer_rate(g, BATCH, {image = true})
end

local function best_of(runs, f)
    local best = math.huge
    f()
    for _ = 1, runs do best = math.min(best, work.time(f, 1)) end
    return best
end

--- The most FLOP/s of a convolution of the kind over its shapes, by the plan "fast" or "direct".
function rates.convolution(kind, plan)
    local best = 0
    for _, entry in ipairs(SHAPES) do
        for i = 2, entry[1] == kind and #entry or 1 do
            best = math.max(best, convolution_rate(entry[i], plan))
            collectgarbage()
        end
    end
    return best
end

local function linear_net(precision)
    return assert(net.build({
        classes = LINEAR, input = {LINEAR, 1, 1},
        build = function(b, x) return b:linear(x, "linear", LINEAR) end,
    }, {init = "he", precision = precision}))
end

--- FLOP/s of products of matrices, of as many rows as keep a GPU busy for a while; `precision` nil for
-- the command line's.
function rates.product(precision)
    local g, best = linear_net(precision), 0
    local flops = work.forward_flops(g.graph)
    for _, N in ipairs {256, 1024, 4096, 16384} do
        local x, z = tensor.uniform("bench:rate", {N, LINEAR, 1, 1}), tensor.new {N, LINEAR}
        local seconds = best_of(RUNS, function() g:forward(x, z) end)
        best = math.max(best, N * flops / seconds)
        if seconds > LONG_RUN then break end
    end
    return best
end

--- FLOP/s of a linear layer on tokens, TOKENS an image.
function rates.tokens(N)
    local g = assert(net.build({
        classes = TOKEN, input = {1, TOKENS, TOKEN},
        build = function(b, x)
            return b:mean(b:linear(b:reshape(x, {TOKENS, TOKEN}), "linear", TOKEN), {1})
        end,
    }, {init = "he"}))
    return layer_rate(g, N, {})
end

--- FLOP/s of a linear layer on a batch of N: its weights are read once for all of them, which
-- bounds small batches.
function rates.linear(N)
    local g = linear_net()
    local x, z = tensor.uniform("bench:rate", {N, LINEAR, 1, 1}), tensor.new {N, LINEAR}
    local seconds = best_of(RUNS, function() g:forward(x, z) end)
    return N * work.forward_flops(g.graph) / seconds
end

--- Bytes/s of a + b into a where both are larger than any cache, each counted once.
function rates.memory()
    local a, b = tensor.new {MEMORY}, tensor.new {MEMORY}
    local seconds = best_of(RUNS, function() a:add_(b) end)
    return 2 * 4 * MEMORY / seconds
end

--- All of them for a plan "fast" or "direct" and a batch of N: kind -> FLOP/s, and memory: bytes/s.
function rates.all(plan, N)
    local result = {linear = rates.linear(N), matmul = rates.tokens(N), memory = rates.memory()}
    for _, entry in ipairs(SHAPES) do result[entry[1]] = rates.convolution(entry[1], plan) end
    return result
end

return rates
