--- Layers of transformers. A value of tokens is [L, D], or [windows, L, D].

local arguments = require "advrt.support.check"
local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.softmax = {"dim"}
--- Softmax along a dimension. 1 is the value's first, as in PyTorch, where 0 is the batch; -1 is
-- the last.
function Builder:softmax(x, dim)
    local n = #x.shape
    if dim == nil then dim = -1 end
    local at = math.type(dim) == "integer" and (dim < 0 and n + dim or dim - 1)
    if not at or at < 0 or at >= n then
        layer.wrong("softmax: dim must be a whole number from 1 to %d or from -1 to %d, got %s", n, -n,
            arguments.text(dim))
    end
    return layer.add(self, {kind = "softmax", sizes = {at}}, x)
end

--- The matrix product of the last two dimensions of x and y; earlier dimensions are broadcast. o:
-- scale = 1, a factor of the result; transpose_x, transpose_y = false, for the last two
-- dimensions.
function Builder:matmul(x, y, o)
    layer.check_self(self, "matmul")
    layer.check_input(self, "matmul", x, 1)
    layer.check_input(self, "matmul", y, 2)
    if o ~= nil and type(o) ~= "table" then
        layer.wrong("matmul takes a table of attributes (scale, transpose_x, transpose_y), got %s",
            arguments.text(o))
    end
    local problem = arguments.keys(o, {"scale", "transpose_x", "transpose_y"})
    if problem then layer.wrong("matmul: %s", problem) end
    o = o or {}
    return layer.add(self, {
        kind = "matmul", scale = layer.attribute("matmul", o, "scale", layer.NUMBER, 1),
        flag = layer.attribute("matmul", o, "transpose_x", layer.SWITCH, false),
        second_flag = layer.attribute("matmul", o, "transpose_y", layer.SWITCH, false),
    }, x, y)
end

local function scaled(self, kind, x, o)
    return layer.add(self, {
        kind = "attention", groups = layer.attribute(kind, o, "heads", layer.COUNT),
        scale = layer.attribute(kind, o, "scale", layer.NUMBER, 0),
    }, x)
end

takes.dot_product_attention = {{"heads", "scale"}}
--- softmax(scale q k') v for tokens [L, 3 D]. Each token holds a query, a key and a value, one
-- after another. D is split into heads. o: heads, scale = 1 / sqrt(D / heads).
function Builder:dot_product_attention(x, o) return scaled(self, "dot_product_attention", x, o or {}) end

takes.attention = {"name", {"heads", "bias", "scale"}}
--- Multi-head self-attention of tokens [L, D], with the parameters of PyTorch's MultiheadAttention:
-- NAME.in_proj_weight [3 D, D], NAME.in_proj_bias, NAME.out_proj.weight and NAME.out_proj.bias. o:
-- heads, bias = true, scale = 1 / sqrt(D / heads).
function Builder:attention(x, name, o)
    o = o or {}
    local D, bias = x.shape[#x.shape], layer.attribute("attention", o, "bias", layer.SWITCH, true)
    local packed = layer.add(self, {kind = "linear", name = name, text = "in_proj_", out = 3 * D,
        bias = bias, flag = true, second_flag = true}, x)
    local y = scaled(self, "attention", packed, o)
    return layer.add(self, {kind = "linear", name = name .. ".out_proj", out = D, bias = bias, flag = true,
        second_flag = true}, y)
end
