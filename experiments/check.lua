--- Compares a net's logits with another program's logits. Run it first for each new net. A wrong
-- pooling or eps may cost only a percent of accuracy, which nobody notices.

local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local options = require "advrt.support.options"
local tensor = require "advrt.tensor"

local LEAST_COSINE = 0.999 -- between gradients: a ReLU at its kink may take either side

local o = options.parse(arg, {
    name = "check.lua",
    description = "Compares a net's logits, and its input gradients, with those in a file.",
    uses = {
        {"--net model.onnx --expect model.safetensors",
            "compare a model with the logits that PyTorch computed"},
        {"--net resnet50 --weights resnet50.pth --expect resnet50.safetensors",
            "a definition with its weights"},
        {"--net mynet.lua --weights mynet.pth --expect mynet.safetensors --tolerance 1e-4",
            "accept a larger error"},
    },
    options = {"net", "weights", "weights-key", "output", "crop", "mean", "std", "batch", "expect",
        "tolerance"},
    help = {batch = "inputs at a time (default: 32)"},
})
if not o.expect then fail.option("--expect is missing: a .safetensors file with x and logits") end
local expected, message = tensor.load(o.expect)
if not expected then fail.option("--expect: %s", message) end
local net = experiment.load_net(o)
if o.batch == "auto" then o.batch = net:largest_batch(32) end

local function shape_text(shape) return "[" .. table.concat(shape, ",") .. "]" end

--- A tensor of the file as f32, in the wanted shape; `rows`: the number of inputs, nil for any.
local function take(name, rows, ...)
    local t, shape = expected[name], {...}
    if not t then fail.option("%s: has no tensor '%s'; it must hold x and logits", o.expect, name) end
    local got, size = t:shape(), 1
    for _, n in ipairs(shape) do size = size * n end
    if #got < 2 or got[1] < 1 or rows and got[1] ~= rows or t:numel() ~= got[1] * size
        or #got == #shape + 1 and shape_text {table.unpack(got, 2)} ~= shape_text(shape) then
        fail.option("%s: '%s' is %s, net %s wants [%s,%s]", o.expect, name, shape_text(got), net.name,
            rows or "N", table.concat(shape, ","))
    end
    return t:to("f32"):reshape {got[1], table.unpack(shape)}
end

local x = take("x", nil, table.unpack(net.input))
local logits = take("logits", #x, net.classes)
local gradients = expected.gradients and take("gradients", #x, table.unpack(net.input))

--- For each row: the L2 norm of got - wanted divided by that of wanted; 0 / 0 counts as 0.
local function errors(got, wanted)
    local off, size, list = (got - wanted):norm(2), wanted:norm(2), {}
    for k = 1, #got do
        local d = off:get(k)
        list[k] = d == 0 and 0 or d / size:get(k)
    end
    return list
end

local function cosines(got, wanted)
    local list = {}
    for k = 1, #got do
        local a, b = got[k], wanted[k]
        local size = got:norm(2):get(k) * wanted:norm(2):get(k)
        list[k] = size == 0 and (a:equal(b) and 1 or 0) or (a * b):sum() / size
    end
    return list
end

--- Logits of a batch and the gradients of their sums; no gradients if the file has none.
local function run(batch)
    if not gradients then return net:forward(batch) end
    local z, trace = net:trace(batch)
    return z, net:backward(tensor.new({#batch, net.classes}):fill(1), nil, trace)
end

print(("%s against %s, tolerance %g"):format(net.name, o.expect, o.tolerance))
local passed, worst = 0, 0
for first = 1, #x, o.batch do
    local n = math.min(o.batch, #x - first + 1)
    local z, q = run(x:narrow(first, n))
    local off = errors(z, logits:narrow(first, n))
    local q_off = q and errors(q, gradients:narrow(first, n))
    local cosine = q and cosines(q, gradients:narrow(first, n))
    for k = 1, n do
        local good = off[k] <= o.tolerance and (not q or cosine[k] >= LEAST_COSINE)
        passed, worst = passed + (good and 1 or 0), (off[k] > worst or off[k] ~= off[k]) and off[k] or worst
        print(("input %d: logits off by %.2e%s: %s"):format(first + k - 1, off[k], q
            and (", gradient by %.2e (cosine %.6f)"):format(q_off[k], cosine[k]) or "",
            good and "pass" or "FAIL"))
    end
end
print(("%d of %d pass; relative L2 error of the logits at most %.2e"):format(passed, #x, worst))
if passed < #x then
    fail("net %s does not reproduce %s; check mean and std, padding, eps and the order of layers",
        net.name, o.expect)
end
