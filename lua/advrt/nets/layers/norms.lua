--- Layers that normalise.

local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.batchnorm = {"name", {"eps", "momentum"}}
--- Batch normalisation over channels. o: eps = 1e-5, momentum = 0.1 (PyTorch's meaning: the
-- share of the new batch in the running statistics).
function Builder:batchnorm(x, name, o)
    o = o or {}
    return layer.add(self, {
        kind = "batchnorm", name = name, eps = layer.attribute("batchnorm", o, "eps", layer.NUMBER, 1e-5),
        momentum = layer.attribute("batchnorm", o, "momentum", layer.NUMBER, 0.1),
    }, x)
end

takes.normalize = {"mean", "std"}
--- (x - mean) / std per channel; net.lua adds it before the definition's first layer.
function Builder:normalize(x, mean, std)
    return layer.add(self, {kind = "normalize", mean = mean, std = std}, x)
end
