-- Every layer on the CPU against the device of plain loops, which sums in
-- double; and the gradient against differences of the loss.

local layers = require "tests.layers"
local lfs = require "lfs"
local loss = require "advrt.loss"
local net = require "advrt.net"
local support = require "tests.support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local folder

local function results_on(options, environment)
    local file = folder .. "/" .. #options .. (environment or ""):gsub("%W", "") .. ".safetensors"
    local arguments = table.move(options, 1, #options, 1, {})
    arguments[#arguments + 1] = system.options.root .. "/tests/layers.lua"
    arguments[#arguments + 1] = file
    local status, _, err = support.advrt(arguments, environment)
    assert.equal(0, status, err)
    return assert(tensor.load(file))
end

local function distance(a, b)
    local n = 1
    for _, size in ipairs(b:shape()) do n = n * size end
    local apart, size = (a - b):reshape {1, n}, b:reshape {1, n}
    return apart:norm("inf", 2):totable()[1] / math.max(size:norm("inf", 2):totable()[1], 1e-6)
end

describe("layers", function()
    local plain

    setup(function()
        folder = support.folder()
        -- beside the program, or, where that is a device's own copy, a folder above it
        local beside = system.options.executable:match("^(.*)/") .. "/"
        local tests = lfs.attributes(beside .. "tests/advrt_plain.so") and "tests" or "../tests"
        plain = results_on({"--device", "plain"}, "env ADVRT_PLUGINS=" .. support.quote(beside .. tests))
    end)
    teardown(function() support.remove(folder) end)

    local function like_plain_loops(own)
        local count = 0
        for name, wanted in pairs(plain) do
            local d = distance(own[name], wanted)
            assert.is_true(d < 5e-6, ("%s: %g"):format(name, d))
            count = count + 1
        end
        assert.is_true(count > 5 * #layers.nets)
    end

    it("give what plain loops give", function()
        like_plain_loops(results_on {"--device", system.options.device})
    end)

    it("give it behind convolutions that leave their channels last, as oneDNN may", function()
        if system.options.device ~= "cpu" then return pending "only the CPU has several layouts" end
        like_plain_loops(results_on({"--device", "cpu"}, "env ADVRT_TEST_CHANNELS_LAST=1000"))
    end)

    it("give an image the same bits alone and among others", function()
        local own = results_on {"--device", system.options.device}
        for _, d in ipairs(layers.nets) do
            assert.same(own[d.name .. ":logits"]:narrow(1, 3, 1):totable(),
                own[d.name .. ":logits of one"]:totable(), d.name)
        end
    end)

    it("have the gradient that differences of the loss show", function()
        for _, d in ipairs(layers.nets) do
            local g = assert(net.build(d, {init = "golden"}, d.name))
            local shape = {1, table.unpack(g.input)}
            local x, v = tensor.uniform("x", shape), tensor.uniform("v", shape) - 0.5
            local _, q = g:gradient(x, loss.ce, {1})
            local slope, h = (q * v):sum(), 1e-2
            local function value(t) return loss.ce:evaluate(g:forward(t), {1}):totable()[1] end
            local difference = (value(x + v * h) - value(x - v * h)) / (2 * h)
            local scale = math.sqrt((q * q):sum() * (v * v):sum())
            assert.is_true(math.abs(slope - difference) < 5e-3 * scale,
                ("%s: %g, differences %g"):format(d.name, slope, difference))
        end
    end)
end)
