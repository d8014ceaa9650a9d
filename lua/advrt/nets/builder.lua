--- The builder that a network definition's `build(b, x)` draws its net with.
--
-- Each method adds one layer and returns its output, a value with the fields C, H and W
-- (its shape without the batch), so a definition reads like the paper of its net:
--
--     x = b:conv(x, "conv1", {out = 64, kernel = 7, stride = 2, pad = 3, bias = false})
--     x = b:relu(b:batchnorm(x, "bn1"))
--
-- Names are the prefixes of the parameters' names: "conv1" has "conv1.weight". An argument that does
-- not fit raises an error at the line of the definition that called the method. A call that is also
-- the whole of a `return` leaves no line, so net.load then names the lines of `build`.
-- `b.classes` is the number of logits that the last layer must have, `b.stem` the form that is
-- wanted, nil for the definition's own.

local arguments = require "advrt.support.check"
local fail = require "advrt.support.fail"
local loaded = require "advrt.support.loaded"
local nearest = require "advrt.support.nearest"

local HERE = debug.getinfo(1, "S").source
local CALLER = debug.getinfo(loaded.during, "S").source -- what calls a definition's build

local Builder = {}
Builder.__index = Builder

--- Fields of a builder that may be nil; any other name that it has not is a mistake.
local may_be_nil = {stem = true, head = true, last = true}

setmetatable(Builder, {__index = function(_, name)
    if may_be_nil[name] then return nil end
    local layers = {}
    for layer, f in pairs(Builder) do
        if type(f) == "function" and layer ~= "normalize" then layers[#layers + 1] = layer end
    end
    table.sort(layers)
    error(("a net definition has no layer '%s'%s (layers: %s)"):format(tostring(name),
        nearest.hint(tostring(name), layers), table.concat(layers, ", ")), 2)
end})

--- The level of the definition's line for the function that asks: the first that is not in this file; 0
-- where the call was the whole of a return, which leaves no line.
local function level_of_line()
    local level = 3
    while (debug.getinfo(level, "S") or {}).source == HERE do level = level + 1 end
    return (debug.getinfo(level, "S") or {}).source == CALLER and 0 or level - 1
end

--- Raises at the line of the definition.
local function wrong(text, ...) error(text:format(...), level_of_line()) end

local function whole(v, least) return math.type(v) == "integer" and v >= least end

local function is_pair(v, least)
    return type(v) == "table" and #v == 2 and whole(v[1], least) and whole(v[2], least)
end

--- Two sizes, {height, width}, of one or two numbers; `what` is what a message calls them.
local function pair(v, default, what, least)
    if v == nil then v = default end
    if whole(v, least) then return {v, v} end
    if is_pair(v, least) then return v end
    wrong("%s must be a whole number from %d on or {height, width}%s, got %s", what, least,
        least == 0 and ", \"same\" or {top, left, bottom, right}" or "", arguments.text(v))
end

-- TensorFlow's "same": ceil(in / stride) outputs, the odd element of padding after the input.
local function same(size, kernel, stride)
    local total = math.max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
end

local function padding(kind, x, pad, kernel, stride)
    if pad == "same" then
        local top, bottom = same(x.H, kernel[1], stride[1])
        local left, right = same(x.W, kernel[2], stride[2])
        return {top, left, bottom, right}
    end
    if type(pad) == "table" and #pad == 4 and is_pair({pad[1], pad[2]}, 0)
        and is_pair({pad[3], pad[4]}, 0) then
        return pad
    end
    local p = pair(pad, 0, kind .. ": pad", 0)
    return {p[1], p[2], p[1], p[2]}
end

--- The arguments that each layer takes behind its input, in order; a list in a list names the
-- attributes of a table.
local takes = {
    conv = {"name", {"out", "kernel", "stride", "pad", "groups", "bias"}},
    batchnorm = {"name", {"eps", "momentum"}},
    relu = {},
    relu6 = {},
    maxpool = {{"kernel", "stride", "pad", "ceil_mode"}},
    avgpool = {"grid"},
    dropout = {"p"},
    linear = {"name", "out", {"bias"}},
    normalize = {"mean", "std"},
}

local function check_input(self, kind, x, i)
    if type(x) ~= "table" or not self.values[x] then
        wrong("%s: input %d is not a layer's output of this net, got %s", kind, i, arguments.text(x))
    end
end

local function check_self(self, kind)
    if getmetatable(self) ~= Builder then wrong("%s is called with a colon: b:%s(x, ...)", kind, kind) end
end

--- Checks what a layer was given: its builder, its input, and as many arguments as it takes.
local function check(self, kind, x, ...)
    check_self(self, kind)
    check_input(self, kind, x, 1)
    local given = {...}
    for i, name in ipairs(takes[kind]) do
        local v = given[i]
        if name == "name" and (type(v) ~= "string" or v == "") then
            wrong("%s needs the name of its parameters, got %s", kind, arguments.text(v))
        elseif type(name) == "table" then
            if v ~= nil and type(v) ~= "table" then
                wrong("%s takes a table of attributes (%s), got %s", kind, table.concat(name, ", "),
                    arguments.text(v))
            end
            local problem = arguments.keys(v, name)
            if problem then wrong("%s: %s", kind, problem) end
        end
    end
    for i = #takes[kind] + 1, select("#", ...) do
        if given[i] ~= nil then
            wrong("%s takes %d argument%s, but argument %d is %s", kind, #takes[kind] + 1,
                #takes[kind] == 0 and "" or "s", i + 1, arguments.text(given[i]))
        end
    end
end

--- An attribute that is to be a whole number, a number or a boolean, or its default.
local function attribute(kind, o, name, wanted, default)
    local v = o[name]
    if v == nil then v = default end
    local fits = wanted == "a whole number from 1 on" and whole(v, 1)
        or wanted == "a number" and math.type(v) ~= nil or wanted == "true or false" and type(v) == "boolean"
    if not fits then wrong("%s: %s must be %s, got %s", kind, name, wanted, arguments.text(v)) end
    return v
end

local COUNT, NUMBER, SWITCH = "a whole number from 1 on", "a number", "true or false"

--- Adds a layer whose inputs, values, have been checked.
local function add(self, layer, ...)
    layer.input = {}
    for i, x in ipairs {...} do
        layer.input[i] = x.id
        self.values[x].read = true
    end
    -- Caught, so that the position in the message is the definition's.
    local ok, id, C, H, W = fail.try(self.graph.add, self.graph, layer)
    if not ok then wrong("%s", tostring(id)) end
    self.last = {id = id, C = C, H = H, W = W}
    local at = debug.getinfo(level_of_line(), "Sl")
    self.values[self.last] = {what = layer.name and ("%s '%s'"):format(layer.kind, layer.name) or layer.kind,
        where = at and at.currentline > 0 and ("%s:%d"):format(at.short_src, at.currentline) or nil}
    self.order[#self.order + 1] = self.last
    return self.last
end

--- Convolution. o: out (channels), kernel, stride = 1, pad = 0 | "same" | {top, left, bottom,
-- right}, groups = 1, bias = true; kernel, stride and pad may be {height, width}.
function Builder:conv(x, name, o)
    o = o or {}
    local kernel, stride = pair(o.kernel, nil, "conv: kernel", 1), pair(o.stride, 1, "conv: stride", 1)
    return add(self, {
        kind = "conv", name = name, out = attribute("conv", o, "out", COUNT), kernel = kernel,
        stride = stride, pad = padding("conv", x, o.pad, kernel, stride),
        groups = attribute("conv", o, "groups", COUNT, 1), bias = attribute("conv", o, "bias", SWITCH, true),
    }, x)
end

--- Batch normalisation over channels. o: eps = 1e-5, momentum = 0.1 (PyTorch's meaning: the
-- share of the new batch in the running statistics).
function Builder:batchnorm(x, name, o)
    o = o or {}
    return add(self, {
        kind = "batchnorm", name = name, eps = attribute("batchnorm", o, "eps", NUMBER, 1e-5),
        momentum = attribute("batchnorm", o, "momentum", NUMBER, 0.1),
    }, x)
end

--- max(x, 0).
function Builder:relu(x) return add(self, {kind = "relu"}, x) end

--- min(max(x, 0), 6).
function Builder:relu6(x) return add(self, {kind = "relu", cap = 6.0}, x) end

--- Maximum over windows. o: kernel, stride = kernel, pad = 0, ceil_mode = false.
function Builder:maxpool(x, o)
    o = o or {}
    local kernel = pair(o.kernel, nil, "maxpool: kernel", 1)
    local stride = pair(o.stride, kernel, "maxpool: stride", 1)
    return add(self, {
        kind = "maxpool", kernel = kernel, stride = stride,
        pad = padding("maxpool", x, o.pad, kernel, stride),
        ceil_mode = attribute("maxpool", o, "ceil_mode", SWITCH, false),
    }, x)
end

--- Adaptive average pooling to grid = {height, width}; {1, 1} is the global average.
function Builder:avgpool(x, grid)
    local size = pair(grid, 1, "avgpool: the grid, its output's size,", 1)
    return add(self, {kind = "avgpool", grid = size}, x)
end

--- x + y, or the sum of more values, all of one shape.
function Builder:add(x, y, ...)
    check_self(self, "add")
    local values = table.pack(x, y, ...)
    for i = 1, values.n do check_input(self, "add", values[i], i) end
    local sum = add(self, {kind = "add"}, x, y)
    for i = 3, values.n do sum = add(self, {kind = "add"}, sum, values[i]) end
    return sum
end

--- In training sets elements to 0 with probability p and scales the others by 1 / (1 - p).
function Builder:dropout(x, p)
    return add(self, {kind = "dropout", p = attribute("dropout", {p = p}, "p", NUMBER, 0.5)}, x)
end

--- Fully connected layer on the flattened x. o: bias = true.
function Builder:linear(x, name, out, o)
    self.head = name
    return add(self, {
        kind = "linear", name = name, out = attribute("linear", {out = out}, "out", COUNT),
        bias = attribute("linear", o or {}, "bias", SWITCH, true),
    }, x)
end

--- (x - mean) / std per channel; net.lua adds it before the definition's first layer.
function Builder:normalize(x, mean, std)
    return add(self, {kind = "normalize", mean = mean, std = std}, x)
end

-- What a layer was given is checked before its method runs.
for kind in pairs(takes) do
    local method = Builder[kind]
    Builder[kind] = function(self, x, ...)
        check(self, kind, x, ...)
        return method(self, x, ...)
    end
end

local M = {}

--- A builder on an empty graph of input {C, H, W}, and the input's value.
function M.new(graph, classes, input, stem)
    local x = {id = 1, C = input[1], H = input[2], W = input[3]}
    return setmetatable({graph = graph, classes = classes, stem = stem, values = {[x] = {}}, order = {}},
        Builder), x
end

--- nil where every layer but the last is read by another, else what is wrong, with the line of the layer.
function M.problem(b)
    for _, x in ipairs(b.order) do
        local value = b.values[x]
        if not value.read and x ~= b.last then
            return ("%sno layer reads the output of %s"):format(value.where and value.where .. ": " or "",
                value.what)
        end
    end
end

return M
