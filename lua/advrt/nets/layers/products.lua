--- Layers that multiply by weights.

local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.conv = {"name", {"out", "kernel", "stride", "pad", "groups", "bias"}}
--- Convolution. o: out (channels), kernel, stride = 1, pad = 0 | "same" | {top, left, bottom,
-- right}, groups = 1, bias = true; kernel, stride and pad may be {height, width}.
function Builder:conv(x, name, o)
    o = o or {}
    local kernel = layer.pair(o.kernel, nil, "conv: kernel", 1)
    local stride = layer.pair(o.stride, 1, "conv: stride", 1)
    return layer.add(self, {
        kind = "conv", name = name, out = layer.attribute("conv", o, "out", layer.COUNT), kernel = kernel,
        stride = stride, pad = layer.padding("conv", x, o.pad, kernel, stride),
        groups = layer.attribute("conv", o, "groups", layer.COUNT, 1),
        bias = layer.attribute("conv", o, "bias", layer.SWITCH, true),
    }, x)
end

takes.linear = {"name", "out", {"bias"}}
--- Fully connected layer on the flattened x. o: bias = true.
function Builder:linear(x, name, out, o)
    self.head = name
    return layer.add(self, {
        kind = "linear", name = name, out = layer.attribute("linear", {out = out}, "out", layer.COUNT),
        bias = layer.attribute("linear", o or {}, "bias", layer.SWITCH, true),
    }, x)
end
