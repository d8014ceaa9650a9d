--- Normalisation layers.

local arguments = require "advrt.support.check"
local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.batchnorm = {"name", {"eps", "momentum"}}
--- Batch normalisation over channels. o: eps = 1e-5, momentum = 0.1 (as in PyTorch: the weight of
-- the new batch in the running statistics).
function Builder:batchnorm(x, name, o)
    o = o or {}
    return layer.add(self, {
        kind = "batchnorm", name = name, eps = layer.attribute("batchnorm", o, "eps", layer.NUMBER, 1e-5),
        momentum = layer.attribute("batchnorm", o, "momentum", layer.NUMBER, 0.1),
    }, x)
end

--- The number of last dimensions of x that layernorm normalises together; 0 for the channels.
local function normalised(x, dims)
    if dims == nil then return 1 end
    if dims == "channels" then return 0 end
    if layer.whole(dims, 1) and dims <= #x.shape then return dims end
    layer.wrong("layernorm: dims must be a whole number from 1 to %d or \"channels\", got %s", #x.shape,
        arguments.text(dims))
end

takes.layernorm = {"name", {"eps", "dims", "affine"}}
--- Layer normalisation over the last `dims` dimensions, or, with "channels", over the first at each
-- position, as in ConvNeXt. o: eps = 1e-5, dims = 1, affine = true.
function Builder:layernorm(x, name, o)
    o = o or {}
    return layer.add(self, {
        kind = "layernorm", name = name, sizes = {normalised(x, o.dims)},
        eps = layer.attribute("layernorm", o, "eps", layer.NUMBER, 1e-5),
        bias = layer.attribute("layernorm", o, "affine", layer.SWITCH, true),
    }, x)
end

takes.groupnorm = {"name", {"groups", "eps", "affine"}}
--- Group normalisation: splits the channels into groups and normalises each over all its elements.
-- o: groups, eps = 1e-5, affine = true.
function Builder:groupnorm(x, name, o)
    o = o or {}
    return layer.add(self, {
        kind = "groupnorm", name = name, groups = layer.attribute("groupnorm", o, "groups", layer.COUNT),
        eps = layer.attribute("groupnorm", o, "eps", layer.NUMBER, 1e-5),
        bias = layer.attribute("groupnorm", o, "affine", layer.SWITCH, true),
    }, x)
end

takes.instancenorm = {{"name", "eps"}}
--- Instance normalisation: normalises each channel of each image separately. o: eps = 1e-5, name =
-- prefix of its weight and bias; without a name it has none.
function Builder:instancenorm(x, o)
    o = o or {}
    if o.name ~= nil and (type(o.name) ~= "string" or o.name == "") then
        layer.wrong("instancenorm: name must be that of its parameters, got %s", arguments.text(o.name))
    end
    return layer.add(self, {
        kind = "instancenorm", name = o.name, bias = o.name ~= nil,
        eps = layer.attribute("instancenorm", o, "eps", layer.NUMBER, 1e-5),
    }, x)
end

takes.normalize = {"mean", "std"}
--- (x - mean) / std per channel; net.lua adds it before the definition's first layer.
function Builder:normalize(x, mean, std)
    return layer.add(self, {kind = "normalize", mean = mean, std = std}, x)
end

takes.lrn = {{"size", "alpha", "beta", "k"}}
--- Local response normalisation as in torch: x / (k + alpha m)^beta, with m the mean of x^2 over
-- the `size` nearest channels. o: size, alpha = 1e-4, beta = 0.75, k = 1.
function Builder:lrn(x, o)
    o = o or {}
    return layer.add(self, {
        kind = "lrn", sizes = {layer.attribute("lrn", o, "size", layer.COUNT)},
        eps = layer.attribute("lrn", o, "alpha", layer.NUMBER, 1e-4),
        p = layer.attribute("lrn", o, "beta", layer.NUMBER, 0.75),
        scale = layer.attribute("lrn", o, "k", layer.NUMBER, 1),
    }, x)
end
