--- DenseNet-121 (Huang et al., arXiv:1608.06993) with torchvision's parameter names.

local imagenet = require "advrt.nets.imagenet"

local GROWTH = 32

local function conv(b, x, name, out, kernel, stride, pad)
    return b:conv(x, name, {out = out, kernel = kernel, stride = stride, pad = pad, bias = false})
end

-- New channels computed from all earlier ones.
local function layer(b, x, name)
    local y = conv(b, b:relu(b:batchnorm(x, name .. ".norm1")), name .. ".conv1", 4 * GROWTH, 1)
    y = conv(b, b:relu(b:batchnorm(y, name .. ".norm2")), name .. ".conv2", GROWTH, 3, 1, 1)
    return b:concat {x, y}
end

local function build(b, x)
    x = b:relu(b:batchnorm(conv(b, x, "features.conv0", 64, 7, 2, 3), "features.norm0"))
    x = b:maxpool(x, {kernel = 3, stride = 2, pad = 1})
    for stage, depth in ipairs {6, 12, 24, 16} do
        for i = 1, depth do
            x = layer(b, x, ("features.denseblock%d.denselayer%d"):format(stage, i))
        end
        if stage == 4 then break end
        local name = "features.transition" .. stage
        x = conv(b, b:relu(b:batchnorm(x, name .. ".norm")), name .. ".conv", x.C // 2, 1)
        x = b:avgpool(x, {kernel = 2})
    end
    x = b:relu(b:batchnorm(x, "features.norm5"))
    return b:linear(b:adaptive_avgpool(x, 1), "classifier", b.classes)
end

return imagenet.definition("densenet121", build)
