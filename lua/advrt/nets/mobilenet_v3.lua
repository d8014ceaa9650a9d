--- MobileNetV3 (Howard et al., arXiv:1905.02244) with torchvision's parameter names.

local blocks = require "advrt.nets.blocks"
local imagenet = require "advrt.nets.imagenet"

local EPS, MOMENTUM = 1e-3, 0.01

local function conv(b, x, name, activation, o)
    o.eps, o.momentum = EPS, MOMENTUM
    return blocks.conv(b, x, name, activation, o)
end

-- Inverted residual block: widen, convolve each channel separately, gate the channels, narrow.
local function block(b, x, name, kernel, wide, out, excite, activation, stride)
    local y, index = x, 0
    local function part()
        index = index + 1
        return ("%s.block.%d"):format(name, index - 1)
    end
    if wide ~= x.C then y = conv(b, y, part(), activation, {out = wide}) end
    y = conv(b, y, part(), activation, {out = wide, kernel = kernel, stride = stride, groups = wide})
    if excite then
        y = blocks.squeeze_excite(b, y, part(), blocks.divisible(wide // 4), "relu", "hardsigmoid")
    end
    y = conv(b, y, part(), nil, {out = out})
    return stride == 1 and x.C == out and b:add(y, x) or y
end

local M = {}

--- A definition. Each row is a block: kernel, inner channels, output channels, whether it has a
-- gate, its activation, stride. `hidden` is the width of the layer before the last.
function M.definition(name, rows, hidden)
    local function build(b, x)
        x = conv(b, x, "features.0", "hardswish", {out = 16, kernel = 3, stride = 2})
        for i, r in ipairs(rows) do x = block(b, x, "features." .. i, table.unpack(r)) end
        x = conv(b, x, "features." .. #rows + 1, "hardswish", {out = 6 * x.C})
        x = b:hardswish(b:linear(b:adaptive_avgpool(x, 1), "classifier.0", hidden))
        return b:linear(b:dropout(x, 0.2), "classifier.3", b.classes)
    end
    return imagenet.definition(name, build)
end

return M
