--- The bundled net: a small residual network for Fashion-MNIST's 28x28 grey images, with 5.8
-- million multiply-adds per image. `make weights` trains it with experiments/train.lua.
local function conv(b, x, name, out, kernel, stride)
    local pad = kernel // 2
    return b:conv(x, name, {out = out, kernel = kernel, stride = stride, pad = pad, bias = false})
end

local function block(b, x, name, out, stride)
    local y = b:relu(b:batchnorm(conv(b, x, name .. ".conv1", out, 3, stride), name .. ".bn1"))
    y = b:batchnorm(conv(b, y, name .. ".conv2", out, 3, 1), name .. ".bn2")
    x = b:batchnorm(conv(b, x, name .. ".downsample.0", out, 1, stride), name .. ".downsample.1")
    return b:relu(b:add(y, x))
end

return {
    name = "fashion",
    classes = 10,
    input = {1, 28, 28},
    preprocess = {}, -- no resize: images of another size are an error
    mean = {0.2860},
    std = {0.3530},
    weights = "fashion.safetensors",
    -- Steps small enough to show how a flip develops, and large enough to reach it. With alpha or
    -- magnitude, the mean iteration of the first flip is 30 to 90 for every loss; within 250
    -- iterations nearly all bundled images flip. With magnitude_inf, in the Linf norm: 13 to 82,
    -- and 353 of 356 flip.
    defaults = {alpha = 0.001, magnitude = 0.02, magnitude_inf = 0.003},
    branch_end = ".bn2",
    build = function(b, x)
        x = b:relu(b:batchnorm(conv(b, x, "conv1", 16, 3, 1), "bn1"))
        x = b:maxpool(x, {kernel = 2})
        x = block(b, x, "layer1", 32, 1)
        x = block(b, x, "layer2", 64, 2)
        return b:linear(b:adaptive_avgpool(x, {1, 1}), "fc", b.classes)
    end,
}
