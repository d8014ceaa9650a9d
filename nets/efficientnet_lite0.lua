--- EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, arXiv:1905.11946) with ReLU6 instead of swish,
-- without squeeze-and-excitation, and with TensorFlow's "same" padding. Parameter names are those
-- of the PyPI package efficientnet-lite-pytorch. Training has no stochastic depth, unlike the
-- original.
local EPS, MOMENTUM = 1e-3, 0.01

-- One stage per row: blocks, kernel, stride of the first block, expansion, output channels.
local stages = {
    {1, 3, 1, 1, 16},
    {2, 3, 2, 6, 24},
    {2, 5, 2, 6, 40},
    {3, 3, 2, 6, 80},
    {3, 5, 1, 6, 112},
    {4, 5, 2, 6, 192},
    {1, 3, 1, 6, 320},
}

local function conv(b, x, name, norm, o)
    o.pad, o.bias = "same", false
    return b:batchnorm(b:conv(x, name, o), norm, {eps = EPS, momentum = MOMENTUM})
end

-- Inverted residual block: widen, convolve each channel separately, narrow.
local function block(b, x, name, kernel, stride, expansion, out)
    local wide, y = x.C * expansion, x
    if expansion ~= 1 then
        y = b:relu6(conv(b, y, name .. "._expand_conv", name .. "._bn0", {out = wide, kernel = 1}))
    end
    y = conv(b, y, name .. "._depthwise_conv", name .. "._bn1",
        {out = wide, kernel = kernel, stride = stride, groups = wide})
    y = b:relu6(y)
    y = conv(b, y, name .. "._project_conv", name .. "._bn2", {out = out, kernel = 1})
    return stride == 1 and x.C == out and b:add(y, x) or y
end

return {
    name = "efficientnet_lite0",
    classes = 1000,
    input = {3, 224, 224},
    preprocess = {resize = 256, crop = 224},
    mean = {127 / 255, 127 / 255, 127 / 255},
    std = {128 / 255, 128 / 255, 128 / 255},
    build = function(b, x)
        x = b:relu6(conv(b, x, "_conv_stem", "_bn0", {out = 32, kernel = 3, stride = 2}))
        local index = 0
        for _, s in ipairs(stages) do
            for i = 1, s[1] do
                x = block(b, x, "_blocks." .. index, s[2], i == 1 and s[3] or 1, s[4], s[5])
                index = index + 1
            end
        end
        x = b:relu6(conv(b, x, "_conv_head", "_bn1", {out = 1280, kernel = 1}))
        return b:linear(b:dropout(b:adaptive_avgpool(x, {1, 1}), 0.2), "_fc", b.classes)
    end,
}
