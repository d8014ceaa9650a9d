-- Single layers against PyTorch's in float64: tests/golden/layers.safetensors.

local autograd = require "advrt.autograd"
local net = require "advrt.net"
local tensor = require "advrt.tensor"

local layers = {
    ["average"] = function(b, x) return b:avgpool(x, {kernel = 3, stride = 2, pad = 1}) end,
    ["average, ceil"] = function(b, x)
        return b:avgpool(x, {kernel = {2, 3}, stride = {3, 2}, pad = {1, 1}, ceil_mode = true})
    end,
    ["average, ceil, inside"] = function(b, x)
        return b:avgpool(x, {kernel = 3, stride = 2, pad = 1, ceil_mode = true, count_include_pad = false})
    end,
    ["average, inside"] = function(b, x)
        return b:avgpool(x, {kernel = {2, 3}, stride = 2, pad = 1, count_include_pad = false})
    end,
    ["adaptive average"] = function(b, x) return b:adaptive_avgpool(x, {3, 4}) end,
    ["adaptive maximum"] = function(b, x) return b:adaptive_maxpool(x, {1, 3}) end,
    ["dilated"] = function(b, x)
        return b:conv(x, "c", {out = 3, kernel = {3, 2}, stride = {1, 2}, pad = {2, 1}, dilation = {2, 3}})
    end,
    ["dilated in groups"] = function(b, x)
        return b:conv(x, "c", {out = 4, kernel = 3, pad = 2, dilation = 2, groups = 4})
    end,
    ["transposed"] = function(b, x)
        return b:conv_transpose(x, "c", {out = 3, kernel = {3, 2}, stride = {2, 1}, pad = 1,
            output_padding = {1, 0}})
    end,
    ["transposed in groups"] = function(b, x)
        return b:conv_transpose(x, "c", {out = 4, kernel = 3, stride = 2, pad = 1, groups = 2, dilation = 2,
            bias = false})
    end,
    ["nearest"] = function(b, x) return b:upsample(x, {size = {7, 4}}) end,
    ["nearest, exact"] = function(b, x) return b:upsample(x, {size = {7, 4}, mode = "nearest-exact"}) end,
    ["nearest by factors"] = function(b, x) return b:upsample(x, {factor = {2, 1.7}}) end,
    ["bilinear"] = function(b, x) return b:upsample(x, {size = {8, 4}, mode = "bilinear"}) end,
    ["bilinear by factors"] = function(b, x) return b:upsample(x, {factor = {1.7, 2}, mode = "bilinear"}) end,
    ["bilinear, corners"] = function(b, x)
        return b:upsample(x, {size = {8, 4}, mode = "bilinear", align_corners = true})
    end,
    ["shuffle"] = function(b, x) return b:channel_shuffle(x, 2) end,
    ["pad"] = function(b, x) return b:pad(x, {3, 1, 0, 2}) end,
    ["permute"] = function(b, x) return b:permute(x, {3, 1, 2}) end,
    ["chunks"] = function(b, x)
        local parts, turned = {b:chunk(x, 4, 3)}, {}
        for i, part in ipairs(parts) do turned[#parts + 1 - i] = part end
        return b:concat(turned, 3)
    end,
    ["response"] = function(b, x) return b:lrn(x, {size = 3, alpha = 0.5, beta = 0.75, k = 2}) end,
    ["response, even"] = function(b, x) return b:lrn(x, {size = 2}) end,
}

-- The largest difference, relative to the largest number.
local function distance(a, b)
    local most, apart = 0, 0
    for i, v in ipairs(b) do
        most, apart = math.max(most, math.abs(v)), math.max(apart, math.abs(a[i] - v))
    end
    return apart / most
end

describe("a layer", function()
    local golden

    setup(function() golden = assert(tensor.load("tests/golden/layers.safetensors")) end)

    for name, layer in pairs(layers) do
        it("gives PyTorch's numbers and gradient: " .. name, function()
            local value, gradient = golden[name .. ":value"], golden[name .. ":gradient"]
            local n = value:shape()[1]
            local g = assert(net.build({classes = n, input = {4, 5, 6}, build = function(b, x)
                return b:flatten(layer(b, x))
            end}, {init = "golden"}, name))
            local x = autograd.track(tensor.uniform("input", {1, 4, 5, 6}))
            local z = g(x)
            local q = autograd.gradient((z * tensor.uniform("dy", {1, n})):sum(), x)
            assert.is_true(distance(z.value:reshape({n}):totable(), value:totable()) < 1e-6)
            assert.is_true(distance(q:reshape({120}):totable(), gradient:totable()) < 1e-6)
        end)
    end

    it("is tested wherever there are golden numbers", function()
        for name in pairs(golden) do assert.truthy(layers[name:match("^(.*):")], name) end
    end)
end)
