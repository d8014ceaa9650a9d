--- The builder that a network definition's `build(b, x)` draws its net with.
--
-- Each method adds one layer and returns its output, a value with the fields C, H and W
-- (its shape without the batch), so a definition reads like the paper of its net:
--
--     x = b:conv(x, "conv1", {out = 64, kernel = 7, stride = 2, pad = 3, bias = false})
--     x = b:relu(b:batchnorm(x, "bn1"))
--
-- Names are the prefixes of the parameters' names: "conv1" has "conv1.weight". What does not
-- fit raises an error at the line of the definition that asked for it (a tail call has none).
-- `b.classes` is the number of logits that the last layer must have, `b.stem` the form that is
-- wanted, nil for the definition's own.

local arguments = require "advrt.check"
local fail = require "advrt.fail"

local Builder = {}
Builder.__index = Builder

local function pair(v, default, what, level)
    if v == nil then v = default end
    if math.type(v) == "integer" then return {v, v} end
    if type(v) == "table" and #v == 2 then return v end
    error(("%s must be a whole number or {height, width}%s, got %s"):format(
        what, what == "pad" and ", \"same\" or {top, left, bottom, right}" or "", tostring(v)),
        level or 3)
end

-- TensorFlow's "same": ceil(in / stride) outputs, the odd element of padding after the input.
local function same(size, kernel, stride)
    local total = math.max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
end

local function padding(x, pad, kernel, stride)
    if pad == "same" then
        local top, bottom = same(x.H, kernel[1], stride[1])
        local left, right = same(x.W, kernel[2], stride[2])
        return {top, left, bottom, right}
    end
    if type(pad) == "table" and #pad == 4 then return pad end
    local p = pair(pad, 0, "pad", 4)
    return {p[1], p[2], p[1], p[2]}
end

-- Every method ends in a tail call of this, so level 2 is the definition.
local function add(self, layer, ...)
    layer.input = {}
    for i = 1, select("#", ...) do
        local x = select(i, ...)
        if type(x) ~= "table" or not x.id then
            error(("layer '%s' (%s): input %d is not a layer's output")
                :format(layer.name or "", layer.kind, i), 2)
        end
        layer.input[i] = x.id
    end
    -- Caught, so that the position in the message is the definition's.
    local ok, id, C, H, W = fail.try(self.graph.add, self.graph, layer)
    if not ok then error(tostring(id), 2) end
    self.last = {id = id, C = C, H = H, W = W}
    return self.last
end

local attributes = {
    conv = {"out", "kernel", "stride", "pad", "groups", "bias"},
    batchnorm = {"eps", "momentum"},
    maxpool = {"kernel", "stride", "pad", "ceil_mode"},
    linear = {"bias"},
}

local function check_attributes(kind, o)
    if o ~= nil and type(o) ~= "table" then error(kind .. " takes a table of attributes", 4) end
    local problem = arguments.keys(o, attributes[kind])
    if problem then error(("%s: %s"):format(kind, problem), 4) end
end

local function check(kind, name, o)
    if type(name) ~= "string" or name == "" then
        error(kind .. " needs the name of its parameters", 3)
    end
    check_attributes(kind, o)
end

--- Convolution. o: out (channels), kernel, stride = 1, pad = 0 | "same" | {top, left, bottom,
-- right}, groups = 1, bias = true; kernel, stride and pad may be {height, width}.
function Builder:conv(x, name, o)
    check("conv", name, o or false)
    local kernel, stride = pair(o.kernel, nil, "kernel"), pair(o.stride, 1, "stride")
    return add(self, {
        kind = "conv", name = name, out = o.out, kernel = kernel, stride = stride,
        pad = padding(x, o.pad, kernel, stride), groups = o.groups or 1, bias = o.bias ~= false,
    }, x)
end

--- Batch normalisation over channels. o: eps = 1e-5, momentum = 0.1 (PyTorch's meaning: the
-- share of the new batch in the running statistics).
function Builder:batchnorm(x, name, o)
    check("batchnorm", name, o)
    o = o or {}
    return add(self, {
        kind = "batchnorm", name = name, eps = o.eps or 1e-5, momentum = o.momentum or 0.1,
    }, x)
end

--- max(x, 0).
function Builder:relu(x) return add(self, {kind = "relu"}, x) end

--- min(max(x, 0), 6).
function Builder:relu6(x) return add(self, {kind = "relu", cap = 6.0}, x) end

--- Maximum over windows. o: kernel, stride = kernel, pad = 0, ceil_mode = false.
function Builder:maxpool(x, o)
    check("maxpool", "windows", o or false)
    local kernel = pair(o.kernel, nil, "kernel")
    local stride = pair(o.stride, kernel, "stride")
    return add(self, {
        kind = "maxpool", kernel = kernel, stride = stride,
        pad = padding(x, o.pad, kernel, stride), ceil_mode = o.ceil_mode or false,
    }, x)
end

--- Adaptive average pooling to grid = {height, width}; {1, 1} is the global average.
function Builder:avgpool(x, grid)
    local size = pair(grid, 1, "grid")
    return add(self, {kind = "avgpool", grid = size}, x)
end

--- x + y, of one shape.
function Builder:add(x, y) return add(self, {kind = "add"}, x, y) end

--- In training sets elements to 0 with probability p and scales the others by 1 / (1 - p).
function Builder:dropout(x, p) return add(self, {kind = "dropout", p = p or 0.5}, x) end

--- Fully connected layer on the flattened x. o: bias = true.
function Builder:linear(x, name, out, o)
    check("linear", name, o)
    self.head = name
    local bias = not (o and o.bias == false)
    return add(self, {kind = "linear", name = name, out = out, bias = bias}, x)
end

--- (x - mean) / std per channel; net.lua adds it before the definition's first layer.
function Builder:normalize(x, mean, std)
    return add(self, {kind = "normalize", mean = mean, std = std}, x)
end

local M = {}

--- A builder on an empty graph of input {C, H, W}, and the input's value.
function M.new(graph, classes, input, stem)
    local x = {id = 1, C = input[1], H = input[2], W = input[3]}
    return setmetatable({graph = graph, classes = classes, stem = stem}, Builder), x
end

return M
