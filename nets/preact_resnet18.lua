--- PreActResNet-18 (He et al., arXiv:1603.05027) for CIFAR-10, with the parameter names of RobustBench's
-- checkpoints. Images are not normalised: those models take [0, 1].

local function conv(b, x, name, out, kernel, stride)
    return b:conv(x, name, {out = out, kernel = kernel, stride = stride, pad = kernel // 2, bias = false})
end

local function block(b, x, name, out, stride)
    local first = b:relu(b:batchnorm(x, name .. ".bn1"))
    local around = x
    if stride ~= 1 or x.C ~= out then around = conv(b, first, name .. ".shortcut.0", out, 1, stride) end
    local y = conv(b, first, name .. ".conv1", out, 3, stride)
    y = conv(b, b:relu(b:batchnorm(y, name .. ".bn2")), name .. ".conv2", out, 3, 1)
    return b:add(y, around)
end

return {
    name = "preact_resnet18",
    classes = 10,
    input = {3, 32, 32},
    build = function(b, x)
        x = conv(b, x, "conv1", 64, 3, 1)
        for stage = 1, 4 do
            for i = 0, 1 do
                local stride = stage > 1 and i == 0 and 2 or 1
                x = block(b, x, ("layer%d.%d"):format(stage, i), 64 << stage - 1, stride)
            end
        end
        x = b:relu(b:batchnorm(x, "bn"))
        return b:linear(b:adaptive_avgpool(x, 1), "linear", b.classes)
    end,
}
