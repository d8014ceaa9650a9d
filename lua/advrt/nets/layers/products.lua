--- Layers that multiply by weights.

local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.conv = {"name", {"out", "kernel", "stride", "pad", "dilation", "groups", "bias"}}
--- Convolution. o: out (channels), kernel, stride = 1, pad = 0 | "same" | {top, left, bottom,
-- right}, dilation = 1, groups = 1, bias = true; kernel, stride, pad and dilation may be
-- {height, width}.
function Builder:conv(x, name, o)
    o = o or {}
    local kernel = layer.pair(o.kernel, nil, "conv: kernel", 1)
    local stride = layer.pair(o.stride, 1, "conv: stride", 1)
    local dilation = layer.pair(o.dilation, 1, "conv: dilation", 1)
    local reach = {(kernel[1] - 1) * dilation[1] + 1, (kernel[2] - 1) * dilation[2] + 1}
    return layer.add(self, {
        kind = "conv", name = name, out = layer.attribute("conv", o, "out", layer.COUNT), kernel = kernel,
        stride = stride, dilation = dilation, pad = layer.padding("conv", x, o.pad, reach, stride),
        groups = layer.attribute("conv", o, "groups", layer.COUNT, 1),
        bias = layer.attribute("conv", o, "bias", layer.SWITCH, true),
    }, x)
end

takes.conv_transpose = {"name", {"out", "kernel", "stride", "pad", "output_padding", "dilation", "groups",
    "bias"}}
--- Transposed convolution, from [C,H,W] to out channels on a grid about stride times as large. o:
-- out, kernel, stride = 1, pad = 0 | {top, left, bottom, right}, output_padding = 0, dilation = 1,
-- groups = 1, bias = true.
function Builder:conv_transpose(x, name, o)
    o = o or {}
    local kernel = layer.pair(o.kernel, nil, "conv_transpose: kernel", 1)
    local stride = layer.pair(o.stride, 1, "conv_transpose: stride", 1)
    if o.pad == "same" then layer.wrong("conv_transpose: pad must be given in numbers, got 'same'") end
    return layer.add(self, {
        kind = "conv_transpose", name = name, out = layer.attribute("conv_transpose", o, "out", layer.COUNT),
        kernel = kernel, stride = stride, pad = layer.padding("conv_transpose", x, o.pad, kernel, stride),
        dilation = layer.pair(o.dilation, 1, "conv_transpose: dilation", 1),
        sizes = layer.pair(o.output_padding, 0, "conv_transpose: output_padding", 0),
        groups = layer.attribute("conv_transpose", o, "groups", layer.COUNT, 1),
        bias = layer.attribute("conv_transpose", o, "bias", layer.SWITCH, true),
    }, x)
end

takes.linear = {"name", "out", {"bias", "flatten", "attention"}}
--- Fully connected layer, on the flattened x or along its last dimension. o: bias = true; flatten =
-- true for a value of one or three dimensions, else false; attention = false: whether to
-- initialise it as attention's layers.
function Builder:linear(x, name, out, o)
    o = o or {}
    self.head = name
    local flat = layer.attribute("linear", o, "flatten", layer.SWITCH, #x.shape == 1 or #x.shape == 3)
    return layer.add(self, {
        kind = "linear", name = name, out = layer.attribute("linear", {out = out}, "out", layer.COUNT),
        bias = layer.attribute("linear", o, "bias", layer.SWITCH, true), flag = not flat,
        second_flag = layer.attribute("linear", o, "attention", layer.SWITCH, false),
    }, x)
end
