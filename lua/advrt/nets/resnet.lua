--- Residual networks for ImageNet with torchvision's parameter names: ResNet (He et al.,
-- arXiv:1512.03385), ResNeXt (arXiv:1611.05431) and wide ResNet (arXiv:1605.07146). As in
-- torchvision, the stride of a bottleneck is in its 3x3 convolution.

local imagenet = require "advrt.nets.imagenet"

local function conv(b, x, name, out, kernel, stride, groups)
    return b:conv(x, name, {out = out, kernel = kernel, stride = stride, pad = kernel // 2, groups = groups,
        bias = false})
end

-- The shortcut around a block: the identity, or a 1x1 convolution if the shape changes.
local function shortcut(b, x, name, out, stride)
    if stride == 1 and x.C == out then return x end
    return b:batchnorm(conv(b, x, name .. ".downsample.0", out, 1, stride), name .. ".downsample.1")
end

local function basic(b, x, name, width, stride)
    local y = b:relu(b:batchnorm(conv(b, x, name .. ".conv1", width, 3, stride), name .. ".bn1"))
    y = b:batchnorm(conv(b, y, name .. ".conv2", width, 3, 1), name .. ".bn2")
    return b:relu(b:add(y, shortcut(b, x, name, width, stride)))
end

-- o: the groups of the 3x3 convolution, and the channels per group if the block's width is 64.
local function bottleneck(b, x, name, width, stride, o)
    local inner = width * (o.group_width or 64) // 64 * (o.groups or 1)
    local y = b:relu(b:batchnorm(conv(b, x, name .. ".conv1", inner, 1, 1), name .. ".bn1"))
    y = b:relu(b:batchnorm(conv(b, y, name .. ".conv2", inner, 3, stride, o.groups), name .. ".bn2"))
    y = b:batchnorm(conv(b, y, name .. ".conv3", 4 * width, 1, 1), name .. ".bn3")
    return b:relu(b:add(y, shortcut(b, x, name, 4 * width, stride)))
end

local M = {basic = basic, bottleneck = bottleneck}

--- A definition: `block` is M.basic or M.bottleneck; `depths` are the numbers of blocks in the four
-- stages; o is for the bottleneck: groups = 1, group_width = 64.
function M.definition(name, block, depths, o)
    local function build(b, x)
        local small = b.stem == "small"
        local width = small and 8 or 64
        x = conv(b, x, "conv1", width, small and 3 or 7, small and 1 or 2)
        x = b:relu(b:batchnorm(x, "bn1"))
        x = b:maxpool(x, small and {kernel = 2} or {kernel = 3, stride = 2, pad = 1})
        for stage, depth in ipairs(depths) do
            for i = 0, depth - 1 do
                local stride = (stage > 1 and i == 0) and 2 or 1
                x = block(b, x, ("layer%d.%d"):format(stage, i), width << stage - 1, stride, o or {})
            end
        end
        return b:linear(b:adaptive_avgpool(x, 1), "fc", b.classes)
    end
    return imagenet.definition(name, build, {
        branch_end = block == basic and ".bn2" or ".bn3",
        stems = o and {} or {"small"}, -- the small form has too few channels for groups
    })
end

return M
