--- Lists a net's layers: operations, shapes, parameters, FLOPs. No weights are needed.

local fail = require "advrt.support.fail"
local net = require "advrt.net"
local options = require "advrt.support.options"
local summary = require "advrt.nets.summary"

local o = options.parse(arg, {
    name = "show.lua",
    description = "Lists a net's layers: shapes, parameters and FLOPs for one image.",
    uses = {
        {"", "the layers of the bundled network"},
        {"--net resnet50", "a network definition that comes with advrt"},
        {"--net model.onnx --crop 224", "an ONNX model with an open image size"},
    },
    options = {"net", "output", "crop"},
})
local g, message = net.load(o.net, {init = "none", output = o.output, crop = o.crop})
if not g then fail("%s", message) end

local function shape_text(shape) return "[" .. table.concat(shape, ",") .. "]" end

--- A number with blanks between groups of three digits.
local function grouped(n)
    local text = tostring(n)
    repeat
        local more
        text, more = text:gsub("^(%d+)(%d%d%d)", "%1 %2")
    until more == 0
    return text
end

local rows, total = summary.of(g)
local lines = {{"layer", "operation", "output", "parameters", "MFLOPs"}}
for _, row in ipairs(rows) do
    lines[#lines + 1] = {row.name, row.operation, shape_text(row.shape),
        row.parameters > 0 and grouped(row.parameters) or "",
        row.flops > 0 and ("%.2f"):format(row.flops / 1e6) or ""}
end
lines[#lines + 1] = {("%d layers"):format(total.layers), "", shape_text(rows[#rows].shape),
    grouped(total.parameters), ("%.2f"):format(total.flops / 1e6)}

local widths = {0, 0, 0, 0, 0}
for _, line in ipairs(lines) do
    for k, text in ipairs(line) do widths[k] = math.max(widths[k], #text) end
end
local form = ("%%-%ds  %%-%ds  %%-%ds  %%%ds  %%%ds"):format(table.unpack(widths))
print(("%s: input %s"):format(g.name, shape_text(g.input)))
for _, line in ipairs(lines) do print((form:format(table.unpack(line)):gsub(" +$", ""))) end
