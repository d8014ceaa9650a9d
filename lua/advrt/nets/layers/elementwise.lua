--- Elementwise layers.

local arguments = require "advrt.support.check"
local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

takes.relu = {}
--- max(x, 0).
function Builder:relu(x) return layer.add(self, {kind = "relu"}, x) end

takes.relu6 = {}
--- min(max(x, 0), 6).
function Builder:relu6(x) return layer.add(self, {kind = "relu", cap = 6.0}, x) end

--- Whether a dimension of one value would be repeated to fit the other.
local function repeats(x, y)
    if #x.shape ~= #y.shape then return true end
    for i, n in ipairs(x.shape) do
        if n ~= y.shape[i] and (n == 1 or y.shape[i] == 1) then return true end
    end
    return false
end

local function check_all(self, kind, values, least)
    layer.check_self(self, kind)
    for i = 1, math.max(values.n, least) do layer.check_input(self, kind, values[i], i) end
end

--- x + y, or the sum of more values. Shapes are aligned at the last dimensions; dimensions of size
-- 1 are repeated.
function Builder:add(x, y, ...)
    local values = table.pack(x, y, ...)
    check_all(self, "add", values, 2)
    local sum = x
    for i = 2, values.n do
        local rule = repeats(sum, values[i]) and {kind = "map", text = "x + y"} or {kind = "add"}
        sum = layer.add(self, rule, sum, values[i])
    end
    return sum
end

--- x * y, or the product of more values, which are broadcast as in add.
function Builder:mul(x, y, ...)
    local values = table.pack(x, y, ...)
    check_all(self, "mul", values, 2)
    local product = x
    for i = 2, values.n do
        product = layer.add(self, {kind = "map", text = "x * y"}, product, values[i])
    end
    return product
end

takes.dropout = {"p"}
--- In training, sets elements to 0 with probability p and scales the others by 1 / (1 - p).
function Builder:dropout(x, p)
    p = layer.attribute("dropout", {p = p}, "p", layer.NUMBER, 0.5)
    return layer.add(self, {kind = "dropout", p = p}, x)
end

--- An elementwise formula of one to four values: b:map("x * sigmoid(x)", h), b:map("x * y", h, s).
-- Its operands are x, y, z and u, in the order of the values. Shapes are aligned at the last
-- dimensions; dimensions of size 1 are repeated. A formula may contain numbers, + - * / ^,
-- comparisons, which are 1 or 0, and abs, erf, exp, floor, log, max, min, pow, select(c, a, b) (a
-- where c is not 0, else b), sigmoid, sign, softplus, sqrt, tanh. advrt derives its gradient.
function Builder:map(formula, ...)
    local values = table.pack(...)
    layer.check_self(self, "map")
    if type(formula) ~= "string" then
        layer.wrong("map needs a formula, such as \"x * sigmoid(x)\", got %s", arguments.text(formula))
    end
    check_all(self, "map", values, 1)
    return layer.add(self, {kind = "map", text = formula}, table.unpack(values, 1, values.n))
end

--- A parameter as a value, the same for every image. name is its full name, shape an array. o: role
-- = "weight", "bias", "norm_weight", "norm_bias", "attention_weight", "token" (also for position
-- embeddings), "layer_scale", "logit_scale" or "slope"; the role selects the initialisation.
function Builder:parameter(name, shape, o)
    layer.check_self(self, "parameter")
    if type(name) ~= "string" or name == "" then
        layer.wrong("parameter needs its name, got %s", arguments.text(name))
    elseif type(shape) ~= "table" or #shape == 0 then
        layer.wrong("parameter: shape must be an array of sizes, got %s", arguments.text(shape))
    end
    for _, n in ipairs(shape) do
        if not layer.whole(n, 1) then
            layer.wrong("parameter: sizes must be whole numbers of at least 1, got %s", arguments.text(n))
        end
    end
    local problem = arguments.keys(o, {"role"})
    if problem then layer.wrong("parameter: %s", problem) end
    if o and o.role == "constant" then
        layer.wrong("parameter: a constant needs its numbers, b:constant(tensor)")
    end
    return layer.add(self, {kind = "parameter", name = name, sizes = shape, text = o and o.role or "bias"})
end

--- The numbers of a tensor as a value, the same for every image, for example a mask. They belong to
-- the definition: weight files do not contain them, and training does not change them.
function Builder:constant(t)
    layer.check_self(self, "constant")
    if not arguments.is_tensor(t) or t:dim() == 0 then
        layer.wrong("constant needs a tensor of one dimension or more, got %s", arguments.text(t))
    end
    self.constants = self.constants + 1
    local name = ("constant %d"):format(self.constants)
    local x = layer.add(self, {kind = "parameter", name = name, sizes = t:shape(), text = "constant"})
    self.graph:set(name, t)
    return x
end

--- Activations of one value, by name.
local activations = require "advrt.nets.activations"

local function activation(self, formula, x) return layer.add(self, {kind = "map", text = formula}, x) end

-- Each is a method; the functions below give some of them a docstring.
for name, formula in pairs(activations) do
    takes[name] = {}
    Builder[name] = function(self, x) return activation(self, formula, x) end
end

local gelu_by_tanh = "0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x^3)))"

--- 1 / (1 + exp(-x)).
function Builder:sigmoid(x) return activation(self, activations.sigmoid, x) end
--- x sigmoid(x), also called swish (arXiv:1702.03118).
function Builder:silu(x) return activation(self, activations.silu, x) end
--- The hyperbolic tangent.
function Builder:tanh(x) return activation(self, activations.tanh, x) end
--- log(1 + exp(x)).
function Builder:softplus(x) return activation(self, activations.softplus, x) end
--- x tanh(softplus(x)) (arXiv:1908.08681).
function Builder:mish(x) return activation(self, activations.mish, x) end
--- x / 6 + 1/2, clamped to [0, 1] (arXiv:1905.02244).
function Builder:hardsigmoid(x) return activation(self, activations.hardsigmoid, x) end
--- x hardsigmoid(x) (arXiv:1905.02244).
function Builder:hardswish(x) return activation(self, activations.hardswish, x) end
--- SELU (arXiv:1706.02515).
function Builder:selu(x) return activation(self, activations.selu, x) end

--- A number in a formula, with all its bits.
local function number(kind, o, name, default)
    return ("(%.17g)"):format(layer.attribute(kind, o or {}, name, layer.NUMBER, default))
end

takes.gelu = {{"approximate"}}
--- x Phi(x) with the normal distribution's Phi (arXiv:1606.08415). o: approximate = "none" (uses
-- erf) or "tanh".
function Builder:gelu(x, o)
    local how = o and o.approximate or "none"
    if how ~= "none" and how ~= "tanh" then
        layer.wrong("gelu: approximate must be 'none' or 'tanh', got %s", arguments.text(how))
    end
    return activation(self, how == "none" and activations.gelu or gelu_by_tanh, x)
end

takes.leakyrelu = {{"slope"}}
--- x if x > 0, else slope x. o: slope = 0.01.
function Builder:leakyrelu(x, o)
    return activation(self, ("select(x > 0, x, %s * x)"):format(number("leakyrelu", o, "slope", 0.01)), x)
end

takes.elu = {{"alpha"}}
--- x if x > 0, else alpha (exp(x) - 1) (arXiv:1511.07289). o: alpha = 1.
function Builder:elu(x, o)
    return activation(self, ("select(x > 0, x, %s * (tanh(select(x > 0, 0, x) / 2)"
        .. " * (exp(select(x > 0, 0, x)) + 1)))"):format(number("elu", o, "alpha", 1)), x)
end

takes.clip = {"low", "high"}
--- x clamped to [low, high].
function Builder:clip(x, low, high)
    local least, most = number("clip", {low = low}, "low"), number("clip", {high = high}, "high")
    if low > high then layer.wrong("clip: low must not be above high, got %g and %g", low, high) end
    return activation(self, ("select(x < %s, %s, select(x > %s, %s, x))"):format(least, least, most, most), x)
end

takes.prelu = {"name", {"channels"}}
--- x if x > 0, else w x, with the parameter NAME.weight [channels] (arXiv:1502.01852). o: channels
-- = 1, or as many as x has.
function Builder:prelu(x, name, o)
    local n = layer.attribute("prelu", o or {}, "channels", layer.COUNT, 1)
    if n ~= 1 and n ~= x.C then layer.wrong("prelu: channels must be 1 or %d, got %d", x.C, n) end
    local sizes = {n}
    for i = 2, #x.shape do sizes[i] = 1 end
    local slope = layer.add(self, {kind = "parameter", name = name .. ".weight", sizes = sizes, flag = true,
        text = "slope"})
    return layer.add(self, {kind = "map", text = "select(x > 0, x, y * x)"}, x, slope)
end

takes.mean = {"dims", {"keep"}}
--- The mean over dimensions, counted from 1 without the batch: dims is a number or an array. o:
-- keep = false; with true the dimensions stay, with size 1.
function Builder:mean(x, dims, o)
    dims = type(dims) == "table" and dims or {dims}
    local sizes = {}
    for i, d in ipairs(dims) do
        if not layer.whole(d, 1) or d > #x.shape then
            layer.wrong("mean: dimensions are 1 to %d, got %s", #x.shape, arguments.text(d))
        end
        sizes[i] = d - 1
    end
    return layer.add(self, {kind = "mean", sizes = sizes,
        second_flag = layer.attribute("mean", o or {}, "keep", layer.SWITCH, false)}, x)
end
