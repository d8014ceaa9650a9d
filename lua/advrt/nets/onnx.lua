--- ONNX models as network definitions (advrt.net): interprets the graph's inputs and outputs;
-- advrt.nets.onnx.draw makes the layers.
--
-- The net's input is the model's only input that is not an initializer, [N,C,H,W] or [N,K]. If the
-- channels are last ([N,H,W,C], as TensorFlow exports), images are still given as [N,C,H,W]. The
-- logits are the model's only output, or the named one. A final Softmax or LogSoftmax is removed.

local builder = require "advrt.nets.builder"
local constant = require "advrt.nets.onnx.constant"
local core = require "advrt.core.net"
local draw = require "advrt.nets.onnx.draw"
local fail = require "advrt.support.fail"
local model = require "advrt.nets.onnx.model"
local nearest = require "advrt.support.nearest"

local M = {}

local function names_of(values)
    local names = {}
    for i, v in ipairs(values) do names[i] = v.name end
    return names
end

-- Input ---------------------------------------------------------------------

local function input_text(input)
    local sizes = {}
    for d, size in ipairs(input.shape or {}) do sizes[d] = size or "?" end
    return "[" .. table.concat(sizes, ",") .. "]"
end

local CHANNELS = {[1] = true, [3] = true, [4] = true} -- channels of images that nets take

--- Whether an input is [N,H,W,C].
local function is_nhwc(shape)
    return #shape == 4 and CHANNELS[shape[4]] and not CHANNELS[shape[2]]
end

--- The only input, its shape {C, H, W} with 0 for sizes that are not fixed, and whether it is
-- [N,H,W,C].
local function find_input(m)
    local path = m.path
    if #m.inputs ~= 1 then
        fail("%s: has %d inputs%s; a net has one input, the images", path, #m.inputs,
            #m.inputs > 0 and " (" .. table.concat(names_of(m.inputs), ", ") .. ")" or "")
    end
    local input = m.inputs[1]
    local shape = input.shape
    if not shape or #shape ~= 4 and #shape ~= 2 then
        fail("%s: input '%s' is %s; it must be a batch of images, [N,C,H,W] or [N,H,W,C], or [N,K]", path,
            input.name, shape and input_text(input) or "of no known shape")
    end
    if input.type and not constant.is_real(input.type) then
        fail("%s: input '%s' has elements of type %s; they must be f32, images in [0,1]", path, input.name,
            input.type)
    end
    if #shape == 2 then return input, {shape[2] or 0, 1, 1}, false end
    local nhwc = is_nhwc(shape)
    local order = nhwc and {4, 2, 3} or {2, 3, 4}
    return input, {shape[order[1]] or 0, shape[order[2]] or 0, shape[order[3]] or 0}, nhwc
end

--- Fails if the model leaves a size open that the user has not given.
local function check_size(m, input, size)
    if size[1] == 0 then
        fail("%s: input '%s' is %s, with an open number of channels; in Lua, set it with net.load's option "
            .. "input = {C, H, W}", m.path, input.name, input_text(input))
    end
    if size[2] == 0 or size[3] == 0 then
        fail("%s: input '%s' is %s, with an open size; set it with --crop N (in Lua, crop = N or input = {C, "
            .. "H, W})", m.path, input.name, input_text(input))
    end
end

-- Output --------------------------------------------------------------------

local function find_output(m, wanted)
    local names = names_of(m.outputs)
    if not wanted then
        if #names > 1 then
            fail("%s: has %d outputs (%s); choose the logits with --output NAME (in Lua, output = NAME)",
                m.path, #names, table.concat(names, ", "))
        end
        return names[1]
    end
    for _, name in ipairs(names) do
        if name == wanted then return name end
    end
    fail("%s: has no output '%s'%s (outputs: %s)", m.path, wanted, nearest.hint(wanted, names),
        table.concat(names, ", "))
end

local function makers(m)
    local made_by = {}
    for _, n in ipairs(m.nodes) do
        for _, name in ipairs(n.outputs) do made_by[name] = n end
    end
    return made_by
end

local PASSING = {Identity = true, Cast = true}
local SOFTMAX = {Softmax = true, LogSoftmax = true}

--- The value before a Softmax at the end of an output, and the Softmax's node; the output itself if
-- there is none.
local function without_softmax(m, output)
    local made_by, name = makers(m), output
    local n = made_by[name]
    while n and PASSING[n.op] and n.domain == "" do
        name = n.inputs[1]
        n = made_by[name]
    end
    if not n or not SOFTMAX[n.op] or n.domain ~= "" then return output end
    return n.inputs[1], n
end

-- Normalisation -------------------------------------------------------------

local ARITHMETIC = {Sub = true, Div = true, Mul = true, Add = true, BatchNormalization = true}

--- Whether the graph starts with arithmetic of constants on the input: its own normalisation.
local function has_normalisation(m, input)
    local same = {[input.name] = true}
    for _, n in ipairs(m.nodes) do
        local reads = false
        for _, name in ipairs(n.inputs) do reads = reads or same[name] end
        if reads and ARITHMETIC[n.op] then return true end
        if reads and (PASSING[n.op] or n.op == "Transpose") then same[n.outputs[1] or ""] = true end
    end
    return false
end

--- The message for an input {C, H, W} that nothing normalises.
function M.no_normalisation(input)
    return "no normalisation: the file states none" .. (input[1] == 3 and input[2] > 1
        and "; torchvision's is --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
        or "; give it with --mean and --std")
end

-- Definitions ---------------------------------------------------------------

--- The number of classes in an output's shape.
local function classes_of(m, output, shape)
    local K = shape[#shape] or 0
    if constant.count(shape) ~= K or K < 1 then
        fail("%s: output '%s' is %s for one image; it must be logits, [N,K]", m.path, output,
            constant.text(shape))
    end
    return K
end

--- Draws the net; returns the logits and their number.
local function draw_net(m, input, nhwc, output, b, x)
    local shape = {1, x.C, x.H, x.W}
    if #input.shape == 2 then shape = {1, x.C * x.H * x.W} end
    if nhwc then shape = {1, x.H, x.W, x.C} end
    local batch = input.shape[1] or 1
    if batch ~= 1 then
        fail("%s: input '%s' is %s, with a fixed batch; export it with a batch of 1 or a dynamic one", m.path,
            input.name, input_text(input))
    end
    local image = {shape = shape, v = x, nhwc = nhwc or nil}
    local made, state, d = draw.draw(m, b, {[input.name] = image}, {output})
    if constant.is(made[1]) then fail("%s: output '%s' does not depend on the input", m.path, output) end
    b.state = state
    local K = classes_of(m, output, made[1].shape)
    return d:as(made[1], {K}), K
end

--- A model's definition, as advrt.net describes it, and {path =, notes = array of lines, normalises
-- = whether the graph starts with a normalisation}. opts: output (a name), input ({C, H, W}) and
-- crop. Any problem of the model is a failure.
function M.definition(path, opts)
    opts = opts or {}
    local m = model.open(path)
    local input, size, nhwc = find_input(m)
    local output = find_output(m, opts.output)
    local logits, softmax = without_softmax(m, output)
    if opts.input then size = opts.input end
    if opts.crop then size = {size[1], opts.crop, opts.crop} end
    check_size(m, input, size)
    local made, graph = fail.try(core.new, size)
    if not made then
        local text = tostring(graph):gsub("^.*%(input%): ", ""):gsub("%)$", "")
        fail("%s: input '%s' is %s: %s", path, input.name, input_text(input), text)
    end
    local b, x = builder.new(graph, nil, size)
    local _, K = draw_net(m, input, nhwc, logits, b, x)
    local notes = {}
    if softmax then
        notes[1] = ("removed the final %s (node '%s'), because the losses need logits"):format(softmax.op,
            softmax.name)
    end
    return {
        name = path:match("([^/]*)%.[^.]*$"),
        classes = K,
        input = size,
        preprocess = {},
        build = function(of_net, value) return (draw_net(m, input, nhwc, logits, of_net, value)) end,
    }, {path = path, notes = notes, normalises = has_normalisation(m, input)}
end

return M
