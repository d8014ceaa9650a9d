--- An ONNX model as nodes, inputs, outputs and constants, with the checks that every reader needs.
--
--     local m = model.open("resnet18.onnx")
--     m.nodes      {name =, op =, domain =, inputs =, outputs =, attributes =} in the order they run
--     m.inputs     {name =, shape = {..., false for a size that is not fixed}}, without initializers
--     m.outputs    the same
--     m.constants  name -> constant (advrt.nets.onnx.constant)
--     m.opset      of the default domain
--     m.bytes      of the file, with the other files that hold its tensors
--
-- A problem of a file is a failure in one line that begins with its path.

local constant = require "advrt.nets.onnx.constant"
local core = require "advrt.core.onnx"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local M = {}

M.OLDEST, M.NEWEST = 6, 28 -- the oldest and newest supported opset

--- Element types by ONNX's number.
M.types = {"f32", "u8", "i8", nil, "i16", "i32", "i64", nil, "bool", "f16", "f64", [16] = "bf16"}

--- An attribute's or initializer's tensor as a constant that is read when needed. If another file
-- holds its values, file.others gets this file's path, once.
local function tensor_constant(file, t)
    local other, problem = file.core:tensor_file(t.item)
    if problem then fail("%s", problem) end
    if other and not file.others[other] then
        file.others[other], file.others[#file.others + 1] = true, other
    end
    return constant.of(M.types[t.data_type] or "foreign", t.dims or {}, function()
        local values, message = file.core:tensor(t.item)
        if not values then fail("%s", message) end
        return values
    end)
end

local readers = {
    [1] = function(a) return a.f end,
    [2] = function(a) return a.i end,
    [3] = function(a) return a.s end,
    [4] = function(a, file) return a.t and tensor_constant(file, a.t) end,
    [6] = function(a) return a.floats or {} end,
    [7] = function(a) return a.ints or {} end,
    [8] = function(a) return a.strings or {} end,
}

--- The value of an attribute, by its type. IR versions before 3 had no types, so the field may
-- decide.
local function attribute_value(a, file)
    local read = readers[a.type]
    if read then return read(a, file) end
    if a.type then return {other = true} end
    return a.f or a.i or a.s or a.t and tensor_constant(file, a.t) or a.floats or a.ints or a.strings
end

local function node_name(n, i)
    if n.name and n.name ~= "" then return n.name end
    return n.output and n.output[1] ~= "" and n.output[1] or ("node %d"):format(i)
end

local function read_node(n, i, file, wrong)
    local name, attributes = node_name(n, i), {}
    if not n.op_type or n.op_type == "" then wrong("node '%s' has no operator", name) end
    for _, a in ipairs(n.attribute or {}) do
        if not a.name then wrong("node '%s' has an attribute without a name", name) end
        if attributes[a.name] ~= nil then wrong("node '%s' has the attribute '%s' twice", name, a.name) end
        local value = attribute_value(a, file)
        -- protobuf omits zeros and empty texts
        if value == nil then value = a.type == 1 and 0.0 or a.type == 2 and 0 or a.type == 3 and "" end
        if value == nil or value == false then
            wrong("attribute '%s' of node '%s' holds nothing", a.name, name)
        end
        attributes[a.name] = value
    end
    local domain = n.domain ~= "ai.onnx" and n.domain or ""
    return {name = name, op = n.op_type, domain = domain, inputs = n.input or {}, outputs = n.output or {},
        attributes = attributes}
end

local function read_value(v, what, wrong)
    local kind = v.type and v.type.tensor_type
    if not v.name or v.name == "" then wrong("has %s without a name", what) end
    if not kind then return {name = v.name} end
    local shape
    if kind.shape then
        shape = {}
        for d, dim in ipairs(kind.shape.dim or {}) do
            local size = dim.dim_value
            if size and size < 0 then wrong("%s '%s' has a dimension of size %d", what, v.name, size) end
            shape[d] = size and size > 0 and size or false
        end
    end
    return {name = v.name, type = M.types[kind.elem_type], shape = shape}
end

local function find_opset(s, wrong)
    local opset
    for _, one in ipairs(s.opset_import or {}) do
        if (one.domain or "") == "" or one.domain == "ai.onnx" then opset = one.version or 0 end
    end
    if not opset then wrong("names no version of ONNX's operators (opset_import)") end
    if opset < M.OLDEST or opset > M.NEWEST then
        wrong("is of opset %d; %d to %d are read (torch.onnx.export's opset_version)", opset, M.OLDEST,
            M.NEWEST)
    end
    return opset
end

local function read_constants(graph, file, wrong)
    local constants = {}
    if graph.sparse_initializer then wrong("has sparse initializers, which are not supported") end
    for _, t in ipairs(graph.initializer or {}) do
        if not t.name or t.name == "" then wrong("has an initializer without a name") end
        if constants[t.name] then wrong("has two initializers '%s'", t.name) end
        for _, size in ipairs(t.dims or {}) do
            if size < 0 then wrong("initializer '%s' has a dimension of size %d", t.name, size) end
        end
        constants[t.name] = tensor_constant(file, t)
    end
    return constants
end

--- Checks that every value is made once, before it is read.
local function check_order(m, wrong)
    local made = {}
    for name in pairs(m.constants) do made[name] = true end
    for _, input in ipairs(m.inputs) do
        if made[input.name] then wrong("has two inputs '%s'", input.name) end
        made[input.name] = true
    end
    for _, n in ipairs(m.nodes) do
        for _, name in ipairs(n.inputs) do
            if name ~= "" and not made[name] then
                wrong("node '%s' reads '%s', which nothing before it makes", n.name, name)
            end
        end
        for _, name in ipairs(n.outputs) do
            if name ~= "" and made[name] then wrong("'%s' is made twice, the second time by node '%s'", name,
                n.name) end
            made[name] = true
        end
    end
    for _, output in ipairs(m.outputs) do
        if not made[output.name] then wrong("has an output '%s' that nothing makes", output.name) end
    end
end

--- Reads a model. The file stays open; its tensors are read from it when needed.
function M.open(path)
    local function wrong(text, ...) fail("%s: %s", path, text:format(...)) end
    local opened, problem = core.open(path)
    if not opened then fail("%s", problem) end
    local file, s = {core = opened, others = {}}, opened:structure()
    local graph = s.graph
    local m = {path = path, name = graph.name, nodes = {}, inputs = {}, outputs = {},
        opset = find_opset(s, wrong), constants = read_constants(graph, file, wrong), functions = {},
        bytes = lfs.attributes(path, "size") or 0}
    for _, f in ipairs(s.functions or {}) do m.functions[(f.domain or "") .. ":" .. (f.name or "")] = true end
    for i, n in ipairs(graph.node or {}) do m.nodes[i] = read_node(n, i, file, wrong) end
    for _, other in ipairs(file.others) do
        system.note_file(other) -- which reads all of it
        m.bytes = m.bytes + (lfs.attributes(other, "size") or 0)
    end
    for _, v in ipairs(graph.input or {}) do
        local input = read_value(v, "an input", wrong)
        if not m.constants[input.name] then m.inputs[#m.inputs + 1] = input end
    end
    for i, v in ipairs(graph.output or {}) do m.outputs[i] = read_value(v, "an output", wrong) end
    if #m.outputs == 0 then wrong("has no output") end
    check_order(m, wrong)
    return m
end

return M
