--- ShuffleNetV2 of width 1 (Ma et al., arXiv:1807.11164) with torchvision's parameter names.

local blocks = require "advrt.nets.blocks"
local imagenet = require "advrt.nets.imagenet"

-- A convolution NAME.I without bias and its batch norm NAME.(I+1).
local function conv(b, x, name, index, o)
    o.bias, o.pad = false, o.kernel // 2
    return b:batchnorm(b:conv(x, ("%s.%d"):format(name, index), o), ("%s.%d"):format(name, index + 1))
end

-- Widen, convolve each channel separately, mix.
local function branch(b, x, name, width, stride)
    local y = b:relu(conv(b, x, name, 0, {out = width, kernel = 1}))
    y = conv(b, y, name, 3, {out = width, kernel = 3, stride = stride, groups = width})
    return b:relu(conv(b, y, name, 5, {out = width, kernel = 1}))
end

-- Half of the channels bypass the branch; if the grid shrinks, all channels go through both
-- branches.
local function block(b, x, name, out, stride)
    local half = out // 2
    local left, right
    if stride == 1 then
        left, right = b:chunk(x, 2)
    else
        left = conv(b, x, name .. ".branch1", 0, {out = x.C, kernel = 3, stride = 2, groups = x.C})
        left, right = b:relu(conv(b, left, name .. ".branch1", 2, {out = half, kernel = 1})), x
    end
    right = branch(b, right, name .. ".branch2", half, stride)
    return b:channel_shuffle(b:concat({left, right}), 2)
end

local function build(b, x)
    x = blocks.conv(b, x, "conv1", "relu", {out = 24, kernel = 3, stride = 2})
    x = b:maxpool(x, {kernel = 3, stride = 2, pad = 1})
    for stage, depth in ipairs {4, 8, 4} do
        for i = 0, depth - 1 do
            local name = ("stage%d.%d"):format(stage + 1, i)
            x = block(b, x, name, 116 << stage - 1, i == 0 and 2 or 1)
        end
    end
    x = blocks.conv(b, x, "conv5", "relu", {out = 1024})
    return b:linear(b:mean(x, {2, 3}), "fc", b.classes)
end

return imagenet.definition("shufflenet_v2", build)
