--- A node of an ONNX graph as operators see it (advrt.nets.onnx.fold, advrt.nets.onnx.operators): its
-- attributes, checked, and the two ways to refuse it.

local constant = require "advrt.nets.onnx.constant"

local Node = {}
Node.__index = Node

local M = {}

--- Of a node of advrt.nets.onnx.model, with the opset of its graph.
function M.new(node, opset)
    return setmetatable({name = node.name, op = node.op, domain = node.domain, inputs = node.inputs,
        outputs = node.outputs, attributes = node.attributes, opset = opset}, Node)
end

--- Ends the drawing: the node is none that ONNX allows.
function Node:wrong(text, ...)
    error({wrong = ("node '%s' (%s) %s"):format(self.name, self.op, text:format(...))}, 0)
end

--- Notes that the node's operator is not supported, `text` saying with what; the drawing goes on to find
-- others.
function Node:unsupported(text, ...)
    local domain = self.domain ~= "" and self.domain .. "." or ""
    error({unsupported = domain .. self.op .. (text and " " .. text:format(...) or "")}, 0)
end

local function of_kind(value, like)
    if math.type(like) == "integer" then return math.type(value) == "integer" end
    return type(value) == type(like)
end

--- A number or a text; `default` where the node has none, which also says what is wanted.
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
