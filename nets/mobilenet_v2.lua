--- MobileNetV2 (Sandler et al., arXiv:1801.04381) with torchvision's parameter names.

local blocks = require "advrt.nets.blocks"
local imagenet = require "advrt.nets.imagenet"

-- One stage per row: expansion, output channels, blocks, stride of the first block.
local stages = {
    {1, 16, 1, 1},
    {6, 24, 2, 2},
    {6, 32, 3, 2},
    {6, 64, 4, 2},
    {6, 96, 3, 1},
    {6, 160, 3, 2},
    {6, 320, 1, 1},
}

-- Inverted residual block: widen, convolve each channel separately, narrow.
local function block(b, x, name, expansion, out, stride)
    local wide, y, last = x.C * expansion, x, 1
    if expansion ~= 1 then
        y = blocks.conv(b, y, name .. ".conv.0", "relu6", {out = wide})
        last = 2
    end
    y = blocks.conv(b, y, ("%s.conv.%d"):format(name, last - 1), "relu6",
        {out = wide, kernel = 3, stride = stride, groups = wide})
    y = b:conv(y, ("%s.conv.%d"):format(name, last), {out = out, kernel = 1, bias = false})
    y = b:batchnorm(y, ("%s.conv.%d"):format(name, last + 1))
    return stride == 1 and x.C == out and b:add(y, x) or y
end

local function build(b, x)
    x = blocks.conv(b, x, "features.0", "relu6", {out = 32, kernel = 3, stride = 2})
    local index = 1
    for _, s in ipairs(stages) do
        for i = 1, s[3] do
            x = block(b, x, "features." .. index, s[1], s[2], i == 1 and s[4] or 1)
            index = index + 1
        end
    end
    x = blocks.conv(b, x, "features.18", "relu6", {out = 1280})
    return b:linear(b:dropout(b:adaptive_avgpool(x, 1), 0.2), "classifier.1", b.classes)
end

return imagenet.definition("mobilenet_v2", build)
