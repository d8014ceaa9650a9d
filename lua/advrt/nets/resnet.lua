--- Residual networks for ImageNet (He et al., arXiv:1512.03385) with torchvision's parameter
-- names. The bottleneck strides in its 3x3 convolution, as torchvision's does.

local function conv(b, x, name, out, kernel, stride)
    local pad = kernel // 2
    return b:conv(x, name, {out = out, kernel = kernel, stride = stride, pad = pad, bias = false})
end

-- The path around a block: the identity, or a 1x1 convolution where the shape changes.
local function shortcut(b, x, name, out, stride)
    if stride == 1 and x.C == out then return x end
    return b:batchnorm(conv(b, x, name .. ".downsample.0", out, 1, stride), name .. ".downsample.1")
end

local function basic(b, x, name, width, stride)
    local y = b:relu(b:batchnorm(conv(b, x, name .. ".conv1", width, 3, stride), name .. ".bn1"))
    y = b:batchnorm(conv(b, y, name .. ".conv2", width, 3, 1), name .. ".bn2")
    return b:relu(b:add(y, shortcut(b, x, name, width, stride)))
end

local function bottleneck(b, x, name, width, stride)
    local y = b:relu(b:batchnorm(conv(b, x, name .. ".conv1", width, 1, 1), name .. ".bn1"))
    y = b:relu(b:batchnorm(conv(b, y, name .. ".conv2", width, 3, stride), name .. ".bn2"))
    y = b:batchnorm(conv(b, y, name .. ".conv3", 4 * width, 1, 1), name .. ".bn3")
    return b:relu(b:add(y, shortcut(b, x, name, 4 * width, stride)))
end

local M = {basic = basic, bottleneck = bottleneck}

--- A definition: `block` is M.basic or M.bottleneck, `depths` the blocks of the four stages.
function M.definition(name, block, depths)
    return {
        name = name,
        classes = 1000,
        input = {3, 224, 224},
        preprocess = {resize = 256, crop = 224},
        mean = {0.485, 0.456, 0.406},
        std = {0.229, 0.224, 0.225},
        branch_end = block == basic and ".bn2" or ".bn3",
        stems = {"small"},
        build = function(b, x)
            local small = b.stem == "small"
            local width = small and 8 or 64
            x = conv(b, x, "conv1", width, small and 3 or 7, small and 1 or 2)
            x = b:relu(b:batchnorm(x, "bn1"))
            x = b:maxpool(x, small and {kernel = 2} or {kernel = 3, stride = 2, pad = 1})
            for stage, depth in ipairs(depths) do
                for i = 0, depth - 1 do
                    local stride = (stage > 1 and i == 0) and 2 or 1
                    x = block(b, x, ("layer%d.%d"):format(stage, i), width << stage - 1, stride)
                end
            end
            return b:linear(b:adaptive_avgpool(x, {1, 1}), "fc", b.classes)
        end,
    }
end

return M
