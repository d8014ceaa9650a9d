--- GoogLeNet (Szegedy et al., arXiv:1409.4842) with batch norm and torchvision's parameter names.
-- It omits the auxiliary classifiers, which only training uses.

local imagenet = require "advrt.nets.imagenet"

local function conv(b, x, name, out, kernel, stride, pad)
    x = b:conv(x, name .. ".conv", {out = out, kernel = kernel, stride = stride, pad = pad, bias = false})
    return b:relu(b:batchnorm(x, name .. ".bn", {eps = 1e-3}))
end

-- Four parallel branches. As in torchvision, the third has a 3x3 kernel; the paper has 5x5.
local function inception(b, x, name, n1, narrow3, n3, narrow5, n5, pooled)
    local one = conv(b, x, name .. ".branch1", n1, 1)
    local three = conv(b, conv(b, x, name .. ".branch2.0", narrow3, 1), name .. ".branch2.1", n3, 3, 1, 1)
    local five = conv(b, conv(b, x, name .. ".branch3.0", narrow5, 1), name .. ".branch3.1", n5, 3, 1, 1)
    local pool = b:maxpool(x, {kernel = 3, stride = 1, pad = 1, ceil_mode = true})
    return b:concat {one, three, five, conv(b, pool, name .. ".branch4.1", pooled, 1)}
end

local function build(b, x)
    local pool = {kernel = 3, stride = 2, ceil_mode = true}
    x = b:maxpool(conv(b, x, "conv1", 64, 7, 2, 3), pool)
    x = conv(b, conv(b, x, "conv2", 64, 1), "conv3", 192, 3, 1, 1)
    x = b:maxpool(x, pool)
    x = inception(b, x, "inception3a", 64, 96, 128, 16, 32, 32)
    x = inception(b, x, "inception3b", 128, 128, 192, 32, 96, 64)
    x = b:maxpool(x, pool)
    x = inception(b, x, "inception4a", 192, 96, 208, 16, 48, 64)
    x = inception(b, x, "inception4b", 160, 112, 224, 24, 64, 64)
    x = inception(b, x, "inception4c", 128, 128, 256, 24, 64, 64)
    x = inception(b, x, "inception4d", 112, 144, 288, 32, 64, 64)
    x = inception(b, x, "inception4e", 256, 160, 320, 32, 128, 128)
    x = b:maxpool(x, {kernel = 2, ceil_mode = true})
    x = inception(b, x, "inception5a", 256, 160, 320, 32, 128, 128)
    x = inception(b, x, "inception5b", 384, 192, 384, 48, 128, 128)
    return b:linear(b:dropout(b:adaptive_avgpool(x, 1), 0.2), "fc", b.classes)
end

return imagenet.definition("googlenet", build)
