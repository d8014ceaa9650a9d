--- EfficientNet-B0 (Tan and Le, arXiv:1905.11946) with torchvision's parameter names. Training has
-- no stochastic depth, unlike the original.

local blocks = require "advrt.nets.blocks"
local imagenet = require "advrt.nets.imagenet"

-- One stage per row: expansion, kernel, stride of the first block, output channels, blocks.
local stages = {
    {1, 3, 1, 16, 1},
    {6, 3, 2, 24, 2},
    {6, 5, 2, 40, 2},
    {6, 3, 2, 80, 3},
    {6, 5, 1, 112, 3},
    {6, 5, 2, 192, 4},
    {6, 3, 1, 320, 1},
}

-- Inverted residual block: widen, convolve each channel separately, gate the channels, narrow.
local function block(b, x, name, expansion, kernel, stride, out)
    local wide, y, index = x.C * expansion, x, 0
    local function part()
        index = index + 1
        return ("%s.block.%d"):format(name, index - 1)
    end
    if expansion ~= 1 then y = blocks.conv(b, y, part(), "silu", {out = wide}) end
    y = blocks.conv(b, y, part(), "silu", {out = wide, kernel = kernel, stride = stride, groups = wide})
    y = blocks.squeeze_excite(b, y, part(), math.max(1, x.C // 4), "silu", "sigmoid")
    y = blocks.conv(b, y, part(), nil, {out = out})
    return stride == 1 and x.C == out and b:add(y, x) or y
end

local function build(b, x)
    x = blocks.conv(b, x, "features.0", "silu", {out = 32, kernel = 3, stride = 2})
    for stage, s in ipairs(stages) do
        for i = 0, s[5] - 1 do
            x = block(b, x, ("features.%d.%d"):format(stage, i), s[1], s[2], i == 0 and s[3] or 1, s[4])
        end
    end
    x = blocks.conv(b, x, "features.8", "silu", {out = 1280})
    return b:linear(b:dropout(b:adaptive_avgpool(x, 1), 0.2), "classifier.1", b.classes)
end

return imagenet.definition("efficientnet_b0", build)
