-- Models as PyTorch exports them, one of each family of nets, against PyTorch in float64:
-- tests/golden/onnx, which generate.py makes.

local lfs = require "lfs"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local FOLDER = system.options.root .. "/tests/golden/onnx/"
local COSINE = 0.999
local MOST = {direct = 1e-5, fast = 3e-5} -- relative L2 error of an image's logits

local function error_of(got, wanted, k)
    return (got - wanted):norm(2):get(k) / wanted:norm(2):get(k)
end

local function cosine(got, wanted, k)
    return (got[k] * wanted[k]):sum() / (got:norm(2):get(k) * wanted:norm(2):get(k))
end

describe("an exported model", function()
    local count = 0
    for file in lfs.dir(FOLDER) do
        local name = file:match("^(.+)%.onnx$")
        count = count + (name and 1 or 0)
        for plan, most in pairs(name and MOST or {}) do
            it(("computes what PyTorch does: %s, plan %s"):format(name, plan), function()
                local g = assert(net.load(FOLDER .. file, {plan = plan}))
                local wanted = assert(tensor.load(FOLDER .. name .. ".safetensors"))
                local N = #wanted.x
                local z, trace = g:trace(wanted.x)
                local q = g:backward(tensor.new({N, g.classes}):fill(1), nil, trace)
                local forward = g:forward(wanted.x)
                for k = 1, N do
                    assert.is_true(error_of(z, wanted.logits, k) <= most)
                    assert.is_true(error_of(forward, wanted.logits, k) <= most)
                    assert.is_true(cosine(q, wanted.gradients, k) >= COSINE)
                end
                assert.is_true(error_of(wanted.logits:narrow(1, 1), wanted.logits:narrow(2, 1), 1) > 1e-3)
            end)
        end
    end
    assert(count >= 12)
end)
