--- The builder with which a network definition's `build(b, x)` draws its net.
--
-- Each method adds one layer and returns its output, a value. The value's field `shape` is an
-- array without the batch dimension; its C, H and W are the same as an image's channels, height
-- and width. So a definition reads like the paper of its net:
--
--     x = b:conv(x, "conv1", {out = 64, kernel = 7, stride = 2, pad = 3, bias = false})
--     x = b:relu(b:batchnorm(x, "bn1"))
--
-- A name is the prefix of the parameters' names: "conv1" has "conv1.weight". A wrong argument
-- raises an error at the line of the definition that called the method. A call that is the whole
-- of a `return` leaves no line, so net.load then names the lines of `build`. `b.classes` is the
-- number of logits that the last layer must have. `b.stem` is the requested stem; nil means the
-- definition's own.
--
-- The layers are the methods of the files in lua/advrt/nets/layers/.

local layer = require "advrt.nets.layer"
local lfs = require "lfs"
local system = require "advrt.core.system"

local Builder = layer.Builder

for file in lfs.dir(system.options.root .. "/lua/advrt/nets/layers") do
    local name = file:match("^([%w_]+)%.lua$")
    if name then require("advrt.nets.layers." .. name) end
end

-- Checks the arguments of a layer before its method runs.
for kind in pairs(layer.takes) do
    local method = Builder[kind]
    Builder[kind] = function(self, x, ...)
        layer.check(self, kind, x, ...)
        return method(self, x, ...)
    end
end

local M = {}

--- A builder on an empty graph of input {C, H, W}, and the input's value.
function M.new(graph, classes, input, stem)
    local x = layer.value(1, {input[1], input[2], input[3]})
    return setmetatable({graph = graph, classes = classes, stem = stem, values = {[x] = {}}, order = {},
        constants = 0},
        Builder), x
end

--- nil if every layer but the last is read by another one; else the problem, with the line of the
-- layer.
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
