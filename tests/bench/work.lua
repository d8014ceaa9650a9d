--- What the bench times: one work, a step of which is a function without arguments; and the counts
-- that its time is set against.

local attack = require "advrt.attack"
local fail = require "advrt.support.fail"
local loss = require "advrt.loss"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local work = {}

work.ON_GPU = system.options.device ~= "cpu"
work.ATTACK = {steps = 10, norm = 0.05}
work.SGD = {rate = 1e-4, momentum = 0.9, weight_decay = 5e-4}

-- A whole experiment: the bundled net's, without the pictures.
work.EXPERIMENT = {iterations = 25, losses = {"ce", "ce_sign", "logit", "m_logit"}, kappa = 20}

--- How many times the FLOPs of one forward pass each work takes: the gradient with respect to a
-- layer's input costs what the layer costs, and so does that with respect to its weights. An
-- attack takes a gradient before each step and after the last, and tries its result rounded; an
-- experiment attacks with each loss what it has found right.
work.PASSES = {
    forward = 1, gradient = 2, training = 3, attack = 2 * (work.ATTACK.steps + 1) + 1,
    experiment = 1 + #work.EXPERIMENT.losses * (2 * (work.EXPERIMENT.iterations + 1) + 1),
}

-- Counting -------------------------------------------------------------------

local function product(dims)
    local n = 1
    for _, d in ipairs(dims) do n = n * d end
    return n
end

-- Multiply-adds of a layer for one image, by its kind. weight: the shape of its weight; from: the
-- shapes of its inputs.
local multiplies = {}

-- Each element of the output reads one row of the weight [K, ...].
function multiplies.conv(layer, weight) return product(layer.shape) * product(weight) / weight[1] end
multiplies.linear = multiplies.conv

-- Each element of the input reads one row of the weight [C, ...].
function multiplies.conv_transpose(_, weight, from) return product(from[1]) * product(weight) / weight[1] end

-- [.., M, K] times [.., K, N], either of them transposed.
function multiplies.matmul(layer, _, from)
    local first, M = from[1], layer.shape[#layer.shape - 1]
    return product(layer.shape) * (first[#first - 1] * first[#first] // M)
end

-- Every token's query times every key, and the weights times the values.
function multiplies.attention(layer)
    return 2 * layer.shape[#layer.shape - 1] * product(layer.shape)
end

--- FLOPs of a forward pass of one image, 2 per multiply-add: the sum, and by the layers' names.
-- Convolutions, linear layers, attention and products of matrices count.
function work.forward_flops(graph)
    local layers, weights, total, by_layer = graph:layers(), {}, 0, {}
    for _, p in ipairs(graph:parameters()) do
        if #p.shape > 1 then weights[p.layer] = p.shape end
    end
    for i, layer in ipairs(layers) do
        if multiplies[layer.kind] then
            local from = {}
            for j, input in ipairs(layer.inputs) do from[j] = layers[input].shape end
            local flops = 2 * math.tointeger(multiplies[layer.kind](layer, weights[i], from))
            if layer.name ~= "" then by_layer[layer.name] = flops end
            total = total + flops
        end
    end
    return total, by_layer
end

--- The most memory that this process has had resident, in bytes; on a device with memory of its own,
-- the most that was counted, nearly all of which is there.
function work.peak_rss()
    if work.ON_GPU then return system.memory().peak end
    local file <close> = assert(io.open("/proc/self/status"))
    return 1024 * math.tointeger(file:read("a"):match("VmHWM:%s*(%d+)"))
end

function work.median(samples)
    local sorted = table.move(samples, 1, #samples, 1, {})
    table.sort(sorted)
    local n = #sorted
    return (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2, sorted[1], sorted[n]
end

local probe

--- Waits for what the device has been asked to do: it may go on while calls return.
local function settle()
    probe = probe or tensor.new {1}
    probe:item()
end

--- Seconds a step, of `steps` steps.
function work.time(step, steps)
    settle()
    local began = system.clock()
    for _ = 1, steps do step() end
    settle()
    return (system.clock() - began) / steps
end

--- Steps that fill a round of `seconds`, from what one took.
function work.steps_for(seconds, one) return math.max(1, math.ceil(seconds / one)) end

-- Works ------------------------------------------------------------------------

--- Images, and where the work has them: logits, their gradient, the images' gradient.
function work.tensors(g, N)
    local t = {
        x = tensor.uniform("bench:images", {N, table.unpack(g.input)}),
        z = tensor.new {N, g.classes},
        dz = tensor.uniform("bench:dz", {N, g.classes}):sub_(0.5):div_(N),
        q = tensor.new {N, table.unpack(g.input)},
    }
    return t
end

--- Labels and targets of N images, tables of classes.
function work.classes(g, N)
    local labels, targets = {}, {}
    for i = 1, N do labels[i], targets[i] = (i - 1) % g.classes, i % g.classes end
    return labels, targets
end

local set_up = {}

function set_up.forward(g, t)
    return function() g:forward(t.x, t.z) end, g:plan("forward", t.x:size(1))
end

function set_up.gradient(g, t)
    return function()
        g:trace(t.x, t.z)
        g:backward(t.dz, t.q)
    end, g:plan("gradient", t.x:size(1))
end

function set_up.training(g, t, labels)
    local plan, optimiser = g:training_plan(t.x:size(1), 0), train.sgd(work.SGD)
    local y, dz = tensor.from(labels, "i64"), tensor.new(t.z:shape())
    return function()
        plan:forward(t.x, t.z)
        local value = tensor.cross_entropy(t.z, y, dz)
        if value ~= value then fail("training: the loss is not a number") end
        plan:train_backward(dz)
        optimiser:step(g, plan)
    end, plan
end

function set_up.attack(g, t, labels, targets)
    local spec = {
        net = g, images = t.x, labels = labels, targets = targets, loss = loss.ce,
        multiplier = attack.equal_perturbation(work.ATTACK.norm), iterations = work.ATTACK.steps,
        workspace = {},
    }
    return function() t.q = attack.run(spec).adversarial - t.x end, g:plan("gradient", t.x:size(1))
end

--- The step of a work on a net and its tensors, and the plan that it spends its time in.
function work.step(what, g, t, labels, targets) return set_up[what](g, t, labels, targets) end

return work
