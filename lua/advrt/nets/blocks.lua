--- Blocks of layers that several families of nets share, with torchvision's parameter names.

local M = {}

--- A convolution NAME.0 without bias, its batch norm NAME.1, and an activation: a builder's method
-- by name, or nil for none. o: options of conv, and eps, momentum. The padding preserves the grid
-- unless o sets another one.
function M.conv(b, x, name, activation, o)
    local kernel = o.kernel or 1
    local y = b:conv(x, name .. ".0", {out = o.out, kernel = kernel, stride = o.stride,
        pad = o.pad or kernel // 2, groups = o.groups, bias = false})
    y = b:batchnorm(y, name .. ".1", {eps = o.eps, momentum = o.momentum})
    return activation and b[activation](b, y) or y
end

--- Squeeze and excitation (arXiv:1709.01507): multiplies each channel by a gate that is computed
-- from the means of all channels.
function M.squeeze_excite(b, x, name, width, activation, gate)
    local s = b:adaptive_avgpool(x, 1)
    s = b[activation](b, b:conv(s, name .. ".fc1", {out = width, kernel = 1}))
    s = b[gate](b, b:conv(s, name .. ".fc2", {out = x.C, kernel = 1}))
    return b:mul(x, s)
end

--- The multiple of 8 nearest to a number of channels, but not below 90 % of it.
function M.divisible(channels)
    local near = math.max(8, (math.floor(channels + 4)) // 8 * 8)
    return near < 0.9 * channels and near + 8 or near
end

return M
