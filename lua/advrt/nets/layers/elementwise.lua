--- Layers that work element by element.

local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.relu = {}
--- max(x, 0).
function Builder:relu(x) return layer.add(self, {kind = "relu"}, x) end

takes.relu6 = {}
--- min(max(x, 0), 6).
function Builder:relu6(x) return layer.add(self, {kind = "relu", cap = 6.0}, x) end

--- x + y, or the sum of more values, all of one shape.
function Builder:add(x, y, ...)
    layer.check_self(self, "add")
    local values = table.pack(x, y, ...)
    for i = 1, values.n do layer.check_input(self, "add", values[i], i) end
    local sum = layer.add(self, {kind = "add"}, x, y)
    for i = 3, values.n do sum = layer.add(self, {kind = "add"}, sum, values[i]) end
    return sum
end

takes.dropout = {"p"}
--- In training sets elements to 0 with probability p and scales the others by 1 / (1 - p).
function Builder:dropout(x, p)
    p = layer.attribute("dropout", {p = p}, "p", layer.NUMBER, 0.5)
    return layer.add(self, {kind = "dropout", p = p}, x)
end
