--- RegNetY-400MF (Radosavovic et al., arXiv:2003.13678) with torchvision's parameter names.

local blocks = require "advrt.nets.blocks"
local imagenet = require "advrt.nets.imagenet"

local GROUP = 8 -- channels per group
local stages = {{1, 48}, {3, 104}, {6, 208}, {6, 440}} -- blocks, channels

local function block(b, x, name, out, stride)
    local around = x
    if x.C ~= out or stride ~= 1 then
        around = blocks.conv(b, x, name .. ".proj", nil, {out = out, stride = stride})
    end
    local y = blocks.conv(b, x, name .. ".f.a", "relu", {out = out})
    y = blocks.conv(b, y, name .. ".f.b", "relu",
        {out = out, kernel = 3, stride = stride, groups = out // GROUP})
    y = blocks.squeeze_excite(b, y, name .. ".f.se", x.C // 4, "relu", "sigmoid")
    y = blocks.conv(b, y, name .. ".f.c", nil, {out = out})
    return b:relu(b:add(around, y))
end

local function build(b, x)
    x = blocks.conv(b, x, "stem", "relu", {out = 32, kernel = 3, stride = 2})
    for stage, s in ipairs(stages) do
        for i = 0, s[1] - 1 do
            local name = ("trunk_output.block%d.block%d-%d"):format(stage, stage, i)
            x = block(b, x, name, s[2], i == 0 and 2 or 1)
        end
    end
    return b:linear(b:adaptive_avgpool(x, 1), "fc", b.classes)
end

return imagenet.definition("regnet_y_400mf", build, {branch_end = ".f.c.1"})
