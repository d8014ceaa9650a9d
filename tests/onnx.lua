--- Writes ONNX models, message by message, so that tests can have any, well-formed or not: the bytes of
-- protobuf's wire format, by ONNX's field numbers.

local onnx = {}

--- A number in groups of seven bits.
function onnx.varint(n)
    local out = {}
    repeat
        local low = n & 0x7f
        n = n >> 7
        out[#out + 1] = string.char(n ~= 0 and low | 0x80 or low)
    until n == 0
    return table.concat(out)
end

local function tag(field, wire) return onnx.varint(field << 3 | wire) end

function onnx.int(field, n) return n and tag(field, 0) .. onnx.varint(n) or "" end
function onnx.float(field, x) return tag(field, 5) .. string.pack("<f", x) end
function onnx.bytes(field, s) return s and tag(field, 2) .. onnx.varint(#s) .. s or "" end

--- One field for each element of a list.
local function each(field, list, write)
    local out = {}
    for i, v in ipairs(list or {}) do out[i] = (write or onnx.bytes)(field, v) end
    return table.concat(out)
end

local function packed(list, write)
    local out = {}
    for i, v in ipairs(list) do out[i] = write(v) end
    return table.concat(out)
end

function onnx.floats(list) return packed(list, function(x) return string.pack("<f", x) end) end
function onnx.whole(list) return packed(list, function(x) return string.pack("<i8", x) end) end

--- A tensor. t: name, dims, type = 1 (float), and raw (bytes), or floats, ints (int64_data), words
-- (int32_data), each packed; external = {key = value}; more: bytes of other fields.
function onnx.tensor(t)
    local external = {}
    for _, key in ipairs {"location", "offset", "length"} do
        local value = t.external and t.external[key]
        if value then
            external[#external + 1] = onnx.bytes(13, onnx.bytes(1, key) .. onnx.bytes(2, tostring(value)))
        end
    end
    return each(1, t.dims, onnx.int) .. onnx.int(2, t.type or 1)
        .. onnx.bytes(4, t.floats and onnx.floats(t.floats))
        .. onnx.bytes(5, t.words and packed(t.words, onnx.varint))
        .. onnx.bytes(7, t.ints and packed(t.ints, onnx.varint)) .. onnx.bytes(8, t.name)
        .. onnx.bytes(9, t.raw) .. table.concat(external) .. onnx.int(14, t.external and 1) .. (t.more or "")
end

--- A tensor of floats, or of whole numbers (i64), with raw bytes.
function onnx.reals(name, dims, list)
    return onnx.tensor {name = name, dims = dims, raw = onnx.floats(list)}
end

function onnx.wholes(name, list)
    return onnx.tensor {name = name, dims = {#list}, type = 7, raw = onnx.whole(list)}
end

--- An attribute: a whole number, a float, a text, an array of whole numbers, or {tensor = bytes},
-- {floats = {...}}.
function onnx.attribute(name, v)
    local body
    if math.type(v) == "integer" then
        body = onnx.int(3, v) .. onnx.int(20, 2)
    elseif math.type(v) == "float" then
        body = onnx.float(2, v) .. onnx.int(20, 1)
    elseif type(v) == "string" then
        body = onnx.bytes(4, v) .. onnx.int(20, 3)
    elseif v.tensor then
        body = onnx.bytes(5, v.tensor) .. onnx.int(20, 4)
    elseif v.floats then
        body = each(7, v.floats, onnx.float) .. onnx.int(20, 6)
    else
        body = each(8, v, onnx.int) .. onnx.int(20, 7)
    end
    return onnx.bytes(1, name) .. body
end

--- A node: onnx.node("Relu", {"x"}, {"y"}, {attribute = value}, name, domain).
function onnx.node(op, inputs, outputs, attributes, name, domain)
    local names, list = {}, {}
    for key in pairs(attributes or {}) do names[#names + 1] = key end
    table.sort(names)
    for i, key in ipairs(names) do list[i] = onnx.attribute(key, attributes[key]) end
    return each(1, inputs) .. each(2, outputs) .. onnx.bytes(3, name) .. onnx.bytes(4, op)
        .. each(5, list) .. onnx.bytes(7, domain)
end

--- A value's name, type and shape, an array of sizes or names.
function onnx.value(name, shape, kind)
    local dims = {}
    for i, size in ipairs(shape or {}) do
        dims[i] = math.type(size) and onnx.int(1, size) or onnx.bytes(2, size)
    end
    local of_shape = shape and onnx.bytes(2, each(1, dims)) or ""
    return onnx.bytes(1, name) .. onnx.bytes(2, onnx.bytes(1, onnx.int(1, kind or 1) .. of_shape))
end

--- A graph of encoded nodes, initializers, inputs and outputs; more: bytes of other fields.
function onnx.graph(g)
    return each(1, g.nodes) .. onnx.bytes(2, "graph") .. each(5, g.initializers) .. each(11, g.inputs)
        .. each(12, g.outputs) .. (g.more or "")
end

--- A model. m: graph (bytes, or a table for onnx.graph), ir = 8, opset = 17 (false: none).
function onnx.model(m)
    local opset = m.opset == nil and 17 or m.opset
    return onnx.int(1, m.ir or 8) .. onnx.bytes(2, "tests")
        .. onnx.bytes(7, type(m.graph) == "table" and onnx.graph(m.graph) or m.graph)
        .. onnx.bytes(8, opset and onnx.bytes(1, "") .. onnx.int(2, opset))
end

return onnx
