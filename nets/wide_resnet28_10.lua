--- WideResNet-28-10 (Zagoruyko and Komodakis, arXiv:1605.07146) for CIFAR-10, with the parameter names of
-- RobustBench's checkpoints. Images are not normalised: those models take [0, 1].

local DEPTH, WIDEN = 28, 10

local function conv(b, x, name, out, kernel, stride, pad)
    return b:conv(x, name, {out = out, kernel = kernel, stride = stride, pad = pad, bias = false})
end

local function block(b, x, name, out, stride)
    local first = b:relu(b:batchnorm(x, name .. ".bn1"))
    local y = conv(b, first, name .. ".conv1", out, 3, stride, 1)
    y = conv(b, b:relu(b:batchnorm(y, name .. ".bn2")), name .. ".conv2", out, 3, 1, 1)
    local around = x.C == out and x or conv(b, first, name .. ".convShortcut", out, 1, stride, 0)
    return b:add(y, around)
end

return {
    name = "wide_resnet28_10",
    classes = 10,
    input = {3, 32, 32},
    build = function(b, x)
        x = conv(b, x, "conv1", 16, 3, 1, 1)
        for stage = 1, 3 do
            for i = 0, (DEPTH - 4) // 6 - 1 do
                local name = ("block%d.layer.%d"):format(stage, i)
                x = block(b, x, name, (16 << stage - 1) * WIDEN, stage > 1 and i == 0 and 2 or 1)
            end
        end
        x = b:relu(b:batchnorm(x, "bn1"))
        return b:linear(b:adaptive_avgpool(x, 1), "fc", b.classes)
    end,
}
