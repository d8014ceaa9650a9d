--- ONNX's normalisation operators, and the softmax.

local constant = require "advrt.nets.onnx.constant"
local fold = require "advrt.nets.onnx.fold"
local help = require "advrt.nets.onnx.help"

local operators = {}
local copy, value, weight = help.copy, help.value, help.weight

--- Gives a norm's layer its weight and bias, with `count` numbers each; ones and zeros if there are
-- none.
local function set_affine(d, n, a, name, shape)
    for i, suffix in ipairs {"weight", "bias"} do
        local c = a[i + 1] and weight(n, a, i + 1, suffix) or help.filled(2 - i, shape)
        if c:count() ~= constant.count(shape) then
            n:wrong("has a %s %s, its input wants %s", suffix, constant.text(c.shape), constant.text(shape))
        end
        d:set(name .. "." .. suffix, c, shape)
    end
end

function operators.BatchNormalization(d, n, a)
    local x = value(n, a, 1)
    if n:attr("training_mode", 0) ~= 0 or n.opset < 14 and #n.outputs > 1 then
        n:unsupported("in training mode")
    end
    local C = x.shape[2]
    if not C or x.shape[1] ~= 1 then n:unsupported("on %s", constant.text(x.shape)) end
    local name = d:layer_name(n, 2)
    for i, suffix in ipairs {"weight", "bias", "running_mean", "running_var"} do
        local c = weight(n, a, i + 1, suffix)
        if c:count() ~= C then n:wrong("has %d numbers for %d channels", c:count(), C) end
        d:set(name .. "." .. suffix, c, {C})
    end
    return d:value(x.shape, d.b:batchnorm(d:as(x, help.body(x.shape)), name, {eps = n:attr("epsilon", 1e-5)}))
end

function operators.LayerNormalization(d, n, a)
    local x = value(n, a, 1)
    local axis, body = fold.axis(n, n:attr("axis", -1), #x.shape), help.body(x.shape)
    local dims = math.min(#x.shape - axis, #body)
    local name = d:layer_name(n, 2)
    for i = 2, 3 do
        if d.wanted[n.outputs[i]] then n:unsupported("with its mean as an output") end
    end
    set_affine(d, n, a, name, table.move(body, #body - dims + 1, #body, 1, {}))
    return d:value(x.shape, d.b:layernorm(d:as(x, body), name, {eps = n:attr("epsilon", 1e-5), dims = dims}))
end

--- The shape [C, rest] of the input of instance and group norm.
local function channels(n, x)
    if #x.shape < 3 or x.shape[1] ~= 1 then n:unsupported("on %s", constant.text(x.shape)) end
    return x.shape[2]
end

function operators.InstanceNormalization(d, n, a)
    local x = value(n, a, 1)
    local name = d:layer_name(n, 2)
    set_affine(d, n, a, name, {channels(n, x)})
    return d:value(x.shape, d.b:instancenorm(d:as(x, help.body(x.shape)), {name = name,
        eps = n:attr("epsilon", 1e-5)}))
end

--- One number per group, or per channel.
local function of_groups(n, a, i, groups, C)
    local c = weight(n, a, i, "weight")
    if c:count() == C or C % groups ~= 0 or c:count() ~= groups then return c end
    return fold.operators.Expand(n, {c:reshape {groups, 1}, constant.whole {groups, C // groups}})
end

function operators.GroupNormalization(d, n, a)
    local x, groups = value(n, a, 1), n:attr("num_groups", 1)
    local C, name = channels(n, x), d:layer_name(n, 2)
    set_affine(d, n, {a[1], of_groups(n, a, 2, groups, C), of_groups(n, a, 3, groups, C)}, name, {C})
    return d:value(x.shape, d.b:groupnorm(d:as(x, help.body(x.shape)), name, {groups = groups,
        eps = n:attr("epsilon", 1e-5)}))
end

function operators.LpNormalization(d, n, a)
    local x = value(n, a, 1)
    if n:attr("p", 2) ~= 2 then n:unsupported("of another norm than the second") end
    local axis = fold.axis(n, n:attr("axis", -1), #x.shape)
    local mean = d:mean(d:formula(n, x.shape, "($1 * $1)", {x}, {1}), {[axis] = true})
    return d:formula(n, x.shape, ("($1 / sqrt($2 * %d))"):format(x.shape[axis + 1]), {x, mean}, {1})
end

--- Before opset 13 the dimensions from the axis on counted as one.
function operators.Softmax(d, n, a)
    local x = value(n, a, 1)
    local axis = fold.axis(n, n:attr("axis", n.opset >= 13 and -1 or 1), #x.shape)
    if n.opset < 13 then
        local last = constant.count(table.move(x.shape, axis + 1, #x.shape, 1, {}))
        local v = d:as(x, {constant.count(x.shape) // last, last})
        return d:value(x.shape, d.b:softmax(v, -1))
    end
    local body = help.body(x.shape)
    local dim = axis + 1 - (#x.shape - #body)
    if dim < 1 then body, dim = copy(x.shape), axis + 1 end
    return d:value(x.shape, d.b:softmax(d:as(x, body), dim))
end

function operators.LogSoftmax(d, n, a)
    return d:formula(n, value(n, a, 1).shape, "log($1)", {operators.Softmax(d, n, a)}, {})
end

return operators
