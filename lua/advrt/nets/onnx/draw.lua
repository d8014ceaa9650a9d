--- Draws an ONNX graph with the net builder. Results that depend only on constants and shapes are
-- computed (advrt.nets.onnx.fold); every other node becomes layers (advrt.nets.onnx.operators).
--
-- A graph is drawn as a function of one image: the batch is 1 in every shape here, and the engine
-- runs the net on any number of images. So shapes are plain numbers, whether the exported batch is
-- free or 1.
--
-- A value of the net is {shape = ONNX's shape, v = the builder's value}; both have the same
-- elements in row-major order. Some layers are added only when their value is first read, so that
-- later nodes can still be merged into them: {shape =, make = function} for a layer that may get a
-- bias, {shape =, expression =} for a formula that may become part of another. `nhwc` marks an
-- input that is [1,H,W,C] in ONNX and [C,H,W] in v.

local arithmetic = require "advrt.nets.onnx.arithmetic"
local constant = require "advrt.nets.onnx.constant"
local fail = require "advrt.support.fail"
local fold = require "advrt.nets.onnx.fold"
local help = require "advrt.nets.onnx.help"
local node = require "advrt.nets.onnx.node"
local operators = require "advrt.nets.onnx.operators"

local M = {}

local SHOWN = 3 -- nodes of a list in a message

-- Placeholders for the outputs of an unsupported node, so that the drawing can find all of these
-- nodes.
local BROKEN, BROKEN_CONSTANT = {shape = {}}, {shape = {}}

local OF_SHAPES = {Shape = true, Size = true} -- constants for any input

local Drawing = {}
Drawing.__index = Drawing

-- What operators use --------------------------------------------------------

--- The builder's value; adds its layer if that has not been done.
function Drawing:v(x)
    if x.make then
        x.v, x.make = x.make(), nil
    elseif x.expression then
        x.v, x.expression = arithmetic.map(self.b, x.expression), nil
    elseif x.nhwc then
        x.v, x.nhwc = self.b:permute(x.v, {2, 3, 1}), nil
    end
    return x.v
end

--- The same in another shape with equally many elements.
function Drawing:as(x, shape)
    local v = self:v(x)
    if help.same(v.shape, shape) then return v end
    local views = self.views[v] or {}
    local key = constant.text(shape)
    views[key] = views[key] or self.b:reshape(v, shape)
    self.views[v] = views
    return views[key]
end

--- The same elements with another ONNX shape.
function Drawing:view(x, shape)
    if help.same(x.shape, shape) then return x end
    return self:later(shape, function() return self:v(x) end)
end

--- A constant as a value of the net: input i of a node.
function Drawing:parameter(n, i, c)
    local key = n.inputs[i] or ""
    local known = self.parameters[c]
    if known then return known end
    local shape = help.body(c.shape)
    local name = self:layer_name({inputs = {}, name = key ~= "" and key or n.name}, 1)
    self:set(name, c, shape)
    local x = self:value(c.shape, self.b:parameter(name, shape))
    self.parameters[c] = x
    return x
end

--- The operands of a formula, without Expand if other operands have the expanded shape.
local function unexpanded(n, shape, list)
    local out, whole = {}, {}
    for i, x in ipairs(list) do
        out[i] = x.narrow and not x.v and x.narrow or x
        whole = fold.broadcast_shape(n, whole, out[i].shape)
    end
    return help.same(whole, shape) and out or list
end

--- The value of a formula (advrt.nets.onnx.arithmetic) of values and constants, which are broadcast
-- to an ONNX shape. places: the index of each operand among the node's inputs, or nil.
function Drawing:formula(n, shape, text, list, places)
    local operands, of_values = {}, {}
    list = unexpanded(n, shape, list)
    for _, x in ipairs(list) do
        if not constant.is(x) then of_values = fold.broadcast_shape(n, of_values, x.shape) end
    end
    for i, x in ipairs(list) do
        if constant.is(x) then
            local whole = fold.broadcast_shape(n, x.shape, of_values)
            local uniform = help.same(whole, of_values) and help.uniform(x)
            operands[i] = uniform and arithmetic.number(uniform)
                or arithmetic.atom(self:as(self:parameter(n, places[i], x), help.body(x.shape)))
        else
            local _, uses = text:gsub("%$" .. i, "")
            local inside = x.expression and uses == 1 and (not places[i] or self:once(n, places[i]))
            operands[i] = inside and x.expression or arithmetic.atom(self:as(x, help.body(x.shape)))
        end
    end
    return {shape = shape, expression = arithmetic.join(self.b, text, operands)}
end

--- Whether only one node reads a value, so that it may change the value.
function Drawing:once(n, i) return self.readers[n.inputs[i]] == 1 end

--- A new value.
function Drawing.value(_, shape, v) return {shape = shape, v = v} end
function Drawing.later(_, shape, make) return {shape = shape, make = make} end

Drawing.mean, Drawing.transposed = help.mean, help.transposed

--- A name for a layer: that of its weights without ".weight", else the node's.
function Drawing:layer_name(n, i)
    local stem = (n.inputs[i] or ""):match("^(.+)%.weight$")
    if not stem or #stem > M.LONGEST then
        stem = n.name:gsub("^/", ""):gsub("/", ".")
    end
    if #stem > M.LONGEST or stem == "" then stem = "node" end
    local name, number = stem, self.numbers[stem] or 1
    while self.names[name] do
        number = number + 1
        name = ("%s_%d"):format(stem, number)
    end
    self.names[name], self.numbers[stem] = true, number
    return name
end

M.LONGEST = 80 -- bytes of a layer's name

-- Layers may share an initializer (tied weights), or compute one from few numbers. So a net's
-- parameters may be larger than the file, up to these limits. FILLED: bytes of parameters that are
-- equal numbers, as in a model without its weights.
local REPEATS, REPEATS_SMALL, FILLED = 32, 64 << 20, 1 << 30

--- Sets the values of a parameter: a constant, in `shape` if that differs from its own.
function Drawing:set(name, c, shape)
    if shape and constant.count(shape) ~= c:count() then
        error({wrong = ("parameter '%s' is %s, its layer wants %s"):format(name, constant.text(c.shape),
            constant.text(shape))}, 0)
    end
    local kind = c.filled and "filled" or "bytes"
    self[kind] = self[kind] + 4 * c:count()
    if (self.bytes - REPEATS_SMALL) // REPEATS > self.model.bytes or self.filled > FILLED then
        fail("%s: its layers' parameters would take %d bytes or more, far more than the %d of the file; it "
            .. "may be cut off", self.model.path, self.bytes + self.filled, self.model.bytes)
    end
    self.state[name] = function() return c:tensor(shape) end
end

-- The walk ------------------------------------------------------------------

--- The nodes that the outputs depend on, as a set; and the number of nodes that read each value.
local function live(m, outputs)
    local wanted, readers, nodes = {}, {}, {}
    for _, name in ipairs(outputs) do wanted[name], readers[name] = true, (readers[name] or 0) + 1 end
    for i = #m.nodes, 1, -1 do
        local one = m.nodes[i]
        for _, name in ipairs(one.outputs) do
            if wanted[name] then nodes[i] = true end
        end
        for _, name in ipairs(nodes[i] and one.inputs or {}) do
            if name ~= "" then wanted[name], readers[name] = true, (readers[name] or 0) + 1 end
        end
    end
    return nodes, readers, wanted
end

--- Before opset 7, if `broadcast` was set, the second input of an elementwise operator was aligned
-- with the first at `axis`.
local function line_up(self, n, a)
    local axis = n:attr("axis", -1)
    if n.opset >= 7 or n:attr("broadcast", 0) == 0 or axis < 0 or not a[1] or not a[2] then return end
    local shape = help.copy(a[2].shape)
    for _ = axis + #shape + 1, #a[1].shape do shape[#shape + 1] = 1 end
    a[2] = constant.is(a[2]) and a[2]:reshape(shape) or self:view(a[2], shape)
end

--- The outputs of a node, as a list.
local function compute(self, n, a, all_constant)
    if n.domain ~= "" then n:unsupported() end
    if n.attributes.broadcast then line_up(self, n, a) end
    if all_constant then
        local f = fold.operators[n.op]
        if f then return table.pack(f(n, a)) end
    elseif n.op == "Shape" then
        return {fold.shape_of(n, a[1].shape)}
    elseif n.op == "Size" then
        return {constant.whole(constant.count(a[1].shape))}
    end
    local f = operators[n.op]
    if not f or all_constant then n:unsupported() end
    return table.pack(f(self, n, a))
end

local function note(self, what, name)
    local entry = self.missing[what]
    if not entry then
        entry = {what = what, nodes = {}}
        self.missing[what], self.missing[#self.missing + 1] = entry, entry
    end
    entry.nodes[#entry.nodes + 1] = name
end

--- Raises the problem of a node, or notes that it is not supported.
local function refuse(self, n, problem)
    if fail.is(problem) then error(problem, 0) end
    local known = type(problem) == "table" and problem or {}
    if known.unsupported then return note(self, known.unsupported, n.name) end
    if known.too_large then return note(self, ("%s of %s"):format(n.op, known.too_large), n.name) end
    if known.wrong then fail("%s: %s", self.model.path, known.wrong) end
    local text = tostring(problem):gsub("^[^\n]-:%d+: ", "")
    fail("%s: node '%s' (%s): %s", self.model.path, n.name, n.op, text)
end

local function qualified(n) return (n.domain ~= "" and n.domain .. "." or "") .. n.op end

local function run(self, one)
    local n = node.new(one, self.model.opset)
    local a, all_constant, broken = {n = #n.inputs}, true, false
    for i, name in ipairs(n.inputs) do
        a[i] = name ~= "" and self.values[name] or nil
        if a[i] == BROKEN or a[i] == BROKEN_CONSTANT then broken = true end
        if a[i] and a[i] ~= BROKEN_CONSTANT and not constant.is(a[i]) then all_constant = false end
    end
    if n.domain == "" and OF_SHAPES[n.op] then all_constant = broken or all_constant end
    local ok, outputs = true, nil
    if broken then
        local known = all_constant and fold.operators[n.op] or not all_constant and operators[n.op]
        if not known or n.domain ~= "" then note(self, qualified(n), n.name) end
    else
        ok, outputs = fail.try(compute, self, n, a, all_constant)
    end
    if outputs and ok then return outputs end
    if not ok then refuse(self, n, outputs) end
    local stand_in = all_constant and BROKEN_CONSTANT or BROKEN
    return setmetatable({}, {__index = function() return stand_in end})
end

local function list_text(names)
    local text = table.concat(names, ", ", 1, math.min(#names, SHOWN))
    return #names > SHOWN and ("%s and %d more"):format(text, #names - SHOWN) or text
end

--- All unsupported operators, in one line.
local function missing_text(missing)
    local parts = {}
    for i, entry in ipairs(missing) do
        parts[i] = ("%s (%d node%s: %s)"):format(entry.what, #entry.nodes, #entry.nodes == 1 and "" or "s",
            list_text(entry.nodes))
    end
    return ("%d operator%s not supported: %s"):format(#missing, #missing == 1 and " is" or "s are",
        table.concat(parts, ", "))
end

--- Draws the nodes of a model (advrt.nets.onnx.model) that `outputs`, an array of names, depend on.
-- b: the builder; values: name -> the value or constant of each input. Returns an array of the
-- outputs' values or constants, name -> function that returns the parameter's tensor, and the
-- drawing. Anything that cannot be drawn is a failure; all unsupported operators are listed in one
-- message.
function M.draw(m, b, values, outputs)
    local self = setmetatable({model = m, b = b, values = setmetatable(values, {__index = m.constants}),
        names = {}, numbers = {}, state = {}, missing = {}, views = {}, parameters = {}, bytes = 0,
        filled = 0}, Drawing)
    constant.begin(m.bytes)
    local makers, nodes, readers, wanted = {}, live(m, outputs)
    self.readers, self.wanted = readers, wanted
    for i, one in ipairs(m.nodes) do
        if nodes[i] then
            local made = run(self, one)
            for k, name in ipairs(one.outputs) do
                self.values[name], makers[name] = made[k], one
            end
        end
    end
    if #self.missing > 0 then fail("%s: %s", m.path, missing_text(self.missing)) end
    local list = {}
    for i, name in ipairs(outputs) do
        list[i] = self.values[name] or fail("%s: nothing makes the output '%s'", m.path, name)
        if not constant.is(list[i]) then
            local ok, problem = fail.try(self.v, self, list[i])
            if not ok then refuse(self, makers[name], problem) end
        end
    end
    return list, self.state, self
end

return M
