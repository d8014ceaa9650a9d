--- What a loss that a script defines costs beyond a built-in one, of a step of ResNet-18:
--
--     build/advrt tests/bench/losses.lua [BATCH]
--
-- Least of many rounds, in turns; a step is forward, loss.ce and backward. The share should be at most
-- 2 %.

local loss = require "advrt.loss"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local STEPS, ROUNDS = 12, 300

local B = math.tointeger(tonumber(arg[1] or 4))
if not B or B < 1 then error("a batch is a whole number of at least 1", 0) end
loss.define("ce_by_autograd", function(z, t) return z:log_softmax(2):gather(2, t) end)
local names = {"ce", "ce_by_autograd"}
for _, name in ipairs {"dlr", "p_margin", "ce_temperature", "ce_stable"} do
    assert(loss.load(name))
    names[#names + 1] = name
end

local g = assert(net.load("nets/resnet18.lua", {init = "he"}))
local x, K = tensor.uniform("bench", {B, table.unpack(g.input)}), g.classes
local q, z, dz, value = tensor.new(x:shape()), tensor.new {B, K}, tensor.new {B, K}, tensor.new {B}
local targets = {}
for n = 1, B do targets[n] = n * 31 % K end
targets = tensor.from(targets, "i64")

local function seconds(f)
    local began = system.clock()
    f()
    return system.clock() - began
end

local step, least = math.huge, {}
for _ = 1, STEPS do
    step = math.min(step, seconds(function()
        g:trace(x, z)
        loss.ce:evaluate(z, targets, value, dz)
        g:backward(dz, q)
    end))
end
for _ = 1, ROUNDS do
    for _, name in ipairs(names) do
        least[name] = math.min(least[name] or math.huge, seconds(function()
            loss[name]:evaluate(z, targets, value, dz)
        end))
    end
end
print(("ResNet-18, batch %d: a step %.2f ms"):format(B, 1e3 * step))
for _, name in ipairs(names) do
    print(("  %-15s %.3f ms, %.2f %% of a step beyond ce"):format(name, 1e3 * least[name],
        100 * (least[name] - least.ce) / step))
end
