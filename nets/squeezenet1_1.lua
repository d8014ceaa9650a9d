--- SqueezeNet 1.1 (Iandola et al., arXiv:1602.07360) with torchvision's parameter names.

local imagenet = require "advrt.nets.imagenet"

-- Narrow, then widen by parallel 1x1 and 3x3 convolutions.
local function fire(b, x, index, narrow, wide)
    local name = ("features.%d."):format(index)
    local s = b:relu(b:conv(x, name .. "squeeze", {out = narrow, kernel = 1}))
    return b:concat {
        b:relu(b:conv(s, name .. "expand1x1", {out = wide, kernel = 1})),
        b:relu(b:conv(s, name .. "expand3x3", {out = wide, kernel = 3, pad = 1})),
    }
end

local function build(b, x)
    local pool = {kernel = 3, stride = 2, ceil_mode = true}
    x = b:relu(b:conv(x, "features.0", {out = 64, kernel = 3, stride = 2}))
    x = b:maxpool(x, pool)
    x = fire(b, fire(b, x, 3, 16, 64), 4, 16, 64)
    x = b:maxpool(x, pool)
    x = fire(b, fire(b, x, 6, 32, 128), 7, 32, 128)
    x = b:maxpool(x, pool)
    x = fire(b, fire(b, x, 9, 48, 192), 10, 48, 192)
    x = fire(b, fire(b, x, 11, 64, 256), 12, 64, 256)
    x = b:relu(b:conv(b:dropout(x, 0.5), "classifier.1", {out = b.classes, kernel = 1}))
    return b:flatten(b:adaptive_avgpool(x, 1))
end

return imagenet.definition("squeezenet1_1", build)
