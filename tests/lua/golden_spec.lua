--- The seven ImageNet nets against float64 numbers made elsewhere: tests/golden/NET.safetensors.
local attack = require "advrt.attack"
local loss = require "advrt.loss"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"
local weights = require "advrt.core.weights"

-- Under a sanitizer, where passes take many times as long, the nets that have each kind of layer, and one
-- setting.
local NETS, SETTINGS = {"alexnet", "vgg16", "resnet18", "resnet34", "resnet50", "resnet152",
    "efficientnet_lite0"}, {"equal_multiplier", "equal_perturbation"}
if support.sanitized() then
    NETS, SETTINGS = {"alexnet", "resnet18", "efficientnet_lite0"}, {"equal_perturbation"}
end

local TARGETS, D = {7, 423}, 3 * 224 * 224
local LINF = 0.05 -- one element of a deep net's gradient moves more than the whole
local losses = {ce = loss.ce, logit = loss.logit, m_logit = loss.m_logit {kappa = 20}}
-- The relative error of logits that each plan is held to. Direct convolutions are held to more of
-- the gradient besides its direction: where a ReLU flips, a deep net's gradient moves by percents.
local PLANS = {{name = "direct", logits = 1e-5, norms = true}, {name = "fast", logits = 1e-4}}

local function golden_net(name)
    return assert(net.load("nets/" .. name .. ".lua", {init = "golden", plan = "direct"}))
end

local function row(t, i) return t[i]:reshape({-1}):totable() end

-- |a - b| / |b|, and the cosine of a and b, over arrays of numbers.
local function compare(a, b)
    assert.are.equal(#b, #a)
    local d, aa, bb, ab = 0, 0, 0, 0
    for i = 1, #b do
        d, aa, bb, ab = d + (a[i] - b[i]) ^ 2, aa + a[i] ^ 2, bb + b[i] ^ 2, ab + a[i] * b[i]
    end
    return math.sqrt(d / bb), ab / math.sqrt(aa * bb)
end

local function below(value, limit, what)
    assert.is_true(value <= limit, ("%s: %g, at most %g allowed"):format(what, value, limit))
end

-- q at flat position (i * 977) mod D, as the file keeps it.
local function sample(q, image)
    local flat, out = q[image]:reshape({-1}), {}
    for i = 0, 2047 do out[i + 1] = flat:get(i * 977 % D + 1) end
    return out
end

local function check_gradient(name, plan, kind, q, golden)
    local l2, linf = q:norms()
    for image = 1, 2 do
        local what = ("%s, %s plan, %s, image %d"):format(name, plan.name, kind, image)
        local error, cosine = compare(sample(q, image), row(golden[kind .. ".sample"], image))
        below(1 - cosine, 1e-3, what .. ", 1 - cosine")
        if plan.norms then
            if name == "alexnet" then below(error, 1e-4, what .. ", gradient") end
            below(math.abs(l2:get(image) / golden[kind .. ".l2"]:get(image) - 1), 0.01, what .. ", L2")
            below(math.abs(linf:get(image) / golden[kind .. ".linf"]:get(image) - 1), LINF,
                what .. ", Linf")
        end
    end
end

-- Both passes of a plan, forward alone and with the gradients of all losses.
local function check_plan(name, g, plan, x, golden)
    g.direct = plan.name == "direct"
    g:forget_plans()
    collectgarbage()
    local kinds, list = {}, {}
    for kind, l in pairs(losses) do
        kinds[#kinds + 1], list[#list + 1] = kind, l
    end
    local z, directions = g:gradients(x, list, TARGETS)
    local forward = g:forward(x)
    for image = 1, 2 do
        local wanted, what = row(golden.logits, image), ("%s, %s plan"):format(name, plan.name)
        below(compare(row(z, image), wanted), plan.logits, what .. ", traced logits")
        below(compare(row(forward, image), wanted), plan.logits, what .. ", logits")
    end
    for i, kind in ipairs(kinds) do check_gradient(name, plan, kind, directions[i], golden) end
end

describe("golden numbers", function()
    local x = tensor.uniform("input", {2, 3, 224, 224})
    for _, name in ipairs(NETS) do
        it("of " .. name, function()
            local g = golden_net(name)
            local golden = assert(weights.load("tests/golden/" .. name .. ".safetensors"))
            for _, plan in ipairs(PLANS) do check_plan(name, g, plan, x, golden) end
            g = nil -- luacheck: ignore
            collectgarbage()
            collectgarbage()
        end)
    end
end)

describe("ten steps on resnet18", function()
    local multipliers = {
        equal_multiplier = attack.equal_multiplier(0.02),
        equal_perturbation = attack.equal_perturbation(0.5),
    }
    local x = tensor.uniform("input", {2, 3, 224, 224})
    for _, setting in ipairs(SETTINGS) do
        it("of " .. setting .. " follow the golden run", function()
            local g = golden_net "resnet18"
            local path = "tests/golden/resnet18." .. setting .. ".safetensors"
            local golden = assert(weights.load(path))
            local labels = g:forward(x):argmax():totable()
            for kind, wanted in pairs(golden) do -- [11,3,2]: z_target, p_target, l2
                local r = attack.run {
                    net = g, images = x, labels = labels, targets = TARGETS, loss = loss[kind],
                    multiplier = multipliers[setting], iterations = 10,
                }
                for s, series in ipairs {"z_target", "p_target", "l2"} do
                    local got, expected = {}, {}
                    for n = 1, 11 do
                        for image = 1, 2 do
                            got[#got + 1] = r.series[series]:get(n, image)
                            expected[#expected + 1] = wanted:get(n, s, image)
                        end
                    end
                    below(compare(got, expected), 1e-2, ("%s %s %s"):format(setting, kind, series))
                end
            end
        end)
    end
end)
