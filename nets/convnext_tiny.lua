--- ConvNeXt-Tiny (Liu et al., arXiv:2201.03545) with torchvision's parameter names. Training has no
-- stochastic depth, unlike the original.

local imagenet = require "advrt.nets.imagenet"

local NORM = {eps = 1e-6}
local GRID = {eps = 1e-6, dims = "channels"} -- at each pixel

-- Convolves each channel separately; then a perceptron over the channels at each pixel.
local function block(b, x, name)
    local y = b:conv(x, name .. ".block.0", {out = x.C, kernel = 7, pad = 3, groups = x.C})
    y = b:layernorm(b:permute(y, {2, 3, 1}), name .. ".block.2", NORM)
    y = b:gelu(b:linear(y, name .. ".block.3", 4 * x.C, {flatten = false}))
    y = b:permute(b:linear(y, name .. ".block.5", x.C, {flatten = false}), {3, 1, 2})
    return b:add(x, b:mul(y, b:parameter(name .. ".layer_scale", {x.C, 1, 1}, {role = "layer_scale"})))
end

local function build(b, x)
    x = b:conv(x, "features.0.0", {out = 96, kernel = 4, stride = 4})
    x = b:layernorm(x, "features.0.1", GRID)
    for stage, depth in ipairs {3, 3, 9, 3} do
        local name = ("features.%d."):format(2 * stage - 1)
        for i = 0, depth - 1 do x = block(b, x, name .. i) end
        if stage == 4 then break end
        name = ("features.%d."):format(2 * stage)
        x = b:layernorm(x, name .. "0", GRID)
        x = b:conv(x, name .. "1", {out = 2 * x.C, kernel = 2, stride = 2})
    end
    x = b:layernorm(b:adaptive_avgpool(x, 1), "classifier.0", GRID)
    return b:linear(x, "classifier.2", b.classes)
end

return imagenet.definition("convnext_tiny", build, {preprocess = {resize = 236, crop = 224}})
