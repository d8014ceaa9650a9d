-- Definitions of nets/ against PyTorch's numbers in float64 (tests/zoo/golden.lua): one net with shuffled
-- channels, one with gates, one with concatenations, one with layer norms and GELU, one with attention in
-- shifted windows.

local loss = require "advrt.loss"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local root = system.options.root

local SIZE = {swin_t = 104} -- whose grids of 26 and 13 are padded to windows

describe("definitions", function()
    for _, name in ipairs {"shufflenet_v2", "mobilenet_v3_small", "squeezenet1_1", "convnext_tiny",
        "swin_t"} do
        it("are torchvision's: " .. name, function()
            local wanted = assert(tensor.load(("%s/tests/golden/zoo/%s.safetensors"):format(root, name)))
            local path = ("%s/nets/%s.lua"):format(root, name)
            local g = assert(net.load(path, {init = "golden", plan = "direct", crop = SIZE[name]}))
            local x = tensor.uniform("x", {2, table.unpack(g.input)})
            for _, l in ipairs {"ce", "logit"} do
                local z, q = g:gradient(x, loss[l], {1, 2})
                local size = wanted.logits:norm(2):totable()
                for i, off in ipairs((z - wanted.logits):norm(2):totable()) do
                    assert.is_true(off < 1e-5 * size[i], ("logits of image %d: %g"):format(i, off / size[i]))
                end
                local flat, product, own, other = q:reshape({q:numel()}):totable(), 0, 0, 0
                for i, v in ipairs(wanted["gradient_" .. l]:totable()) do
                    local mine = flat[1 + 997 * (i - 1)]
                    product, own, other = product + v * mine, own + mine * mine, other + v * v
                end
                assert.is_true(product / math.sqrt(own * other) > 0.9999, l)
                assert.is_true(math.abs(math.sqrt(own / other) - 1) < 1e-3, l)
            end
        end)
    end
end)
