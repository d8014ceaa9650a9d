--- A node of an ONNX graph for operators (advrt.nets.onnx.fold, advrt.nets.onnx.operators): its
-- checked attributes, and the two ways to reject it.

local constant = require "advrt.nets.onnx.constant"

local Node = {}
Node.__index = Node

local M = {}

--- Wraps a node of advrt.nets.onnx.model, with the opset of its graph.
function M.new(node, opset)
    return setmetatable({name = node.name, op = node.op, domain = node.domain, inputs = node.inputs,
        outputs = node.outputs, attributes = node.attributes, opset = opset}, Node)
end

--- Stops the drawing: ONNX does not allow this node.
function Node:wrong(text, ...)
    error({wrong = ("node '%s' (%s) %s"):format(self.name, self.op, text:format(...))}, 0)
end

--- Notes that the node's operator is not supported; `text` gives the reason. The drawing continues,
-- to find others.
function Node:unsupported(text, ...)
    local domain = self.domain ~= "" and self.domain .. "." or ""
    error({unsupported = domain .. self.op .. (text and " " .. text:format(...) or "")}, 0)
end

local function of_kind(value, like)
    if math.type(like) == "integer" then return math.type(value) == "integer" end
    return type(value) == type(like)
end

--- A number or a text; `default` if the node has none, which also defines the wanted type.
function Node:attr(name, default)
    local value = self.attributes[name]
    if value == nil then return default end
    if not of_kind(value, default) then self:wrong("has an attribute '%s' of another kind", name) end
    return value
end

--- An array of numbers, or nil.
function Node:list(name)
    local value = self.attributes[name]
    if value ~= nil and (type(value) ~= "table" or constant.is(value) or value.other) then
        self:wrong("has an attribute '%s' that is no list", name)
    end
    for _, v in ipairs(value or {}) do
        if type(v) ~= "number" then self:wrong("has an attribute '%s' that is no list of numbers", name) end
    end
    return value
end

--- A tensor's constant, or nil.
function Node:constant(name)
    local value = self.attributes[name]
    if value ~= nil and not constant.is(value) then
        self:wrong("has an attribute '%s' that is no tensor", name)
    end
    return value
end

return M
