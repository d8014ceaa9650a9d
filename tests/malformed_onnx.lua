--- Malformed ONNX models: a good one, and changed ones with the message that refuses each.
-- tests/lua/onnx_malformed_spec.lua holds the reader to the messages; tests/fuzz/seeds.lua gives the
-- files to libFuzzer to begin with.

local onnx = require "onnx"

local WEIGHTS, NUMBERS = {0.5, -1, 2, 0.25, 1, -0.5}, {1, 2}

--- A net of one linear layer, x [N,3] to z [N,2]; `change` may exchange its parts.
local function model(change)
    local g = {
        nodes = {onnx.node("Gemm", {"x", "w", "b"}, {"z"}, {transB = 1}, "fc")},
        initializers = {onnx.reals("w", {2, 3}, WEIGHTS), onnx.reals("b", {2}, NUMBERS)},
        inputs = {onnx.value("x", {"N", 3})}, outputs = {onnx.value("z", {"N", 2})},
    }
    local m = {graph = g}
    if change then change(g, m) end
    return onnx.model(m)
end

--- The same with one part of the graph exchanged: with("nodes", 1, bytes).
local function with(part, i, bytes)
    return model(function(g) g[part][i] = bytes end)
end

local function weights(t)
    t.name, t.dims = t.name or "w", t.dims or {2, 3}
    return with("initializers", 1, onnx.tensor(t))
end

local function node(...) return with("nodes", 1, onnx.node(...)) end

local good = model()
local RAW = onnx.floats(WEIGHTS)
local head = onnx.int(1, 8)

--- The place of a byte behind the good model's last one.
local function at_end(offset) return ("byte %d: "):format(#good + offset) end

local function outside(path)
    return "tensor 'w': is in the file '" .. path .. "', which is not inside the model's folder"
end

local function external(t)
    t.location = t.location or "weights.bin"
    return weights {external = t}
end

-- good; more: other forms that are read; cases of {bytes, message behind the path}.
return {good = good,
    more = {
        model(function(_, m) m.ir = 3 end),
        model(function(g, m) m.ir, g.inputs[2] = 3, onnx.value("w", {2, 3}) end),
        weights {floats = WEIGHTS},
        weights {more = onnx.float(4, 0.5) .. onnx.float(4, -1) .. onnx.float(4, 2) .. onnx.float(4, 0.25)
            .. onnx.float(4, 1) .. onnx.float(4, -0.5)},
        good .. onnx.bytes(99, "unknown") .. onnx.int(100, 1 << 60) .. onnx.float(101, 1),
    },
    {"", "is empty"},
    {"return {}\n", "is text, not an ONNX model"},
    {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "is a pointer of Git LFS, not the model; `git lfs pull` in its repository gets it"},
    {head, "is no ONNX model: it has no graph"},
    {onnx.int(2, 0), "byte 0: field 'producer_name' is written as wire type 0"},
    {onnx.bytes(8, "\0"), "byte 2: 0 begins no field of a opset"},
    {head .. onnx.int(1, 8), "byte 2: a model has 'ir_version' twice"},
    {good:sub(1, -2), at_end(-5) .. "a field of 4 bytes ends behind its message"},
    {good .. "\x98\x06", at_end(2) .. "a number does not end, or has more than 64 bits"},
    {good .. "\x98\x06" .. ("\xff"):rep(11), at_end(2) .. "a number does not end, or has more than 64 bits"},
    {good .. "\x98\x06" .. ("\xff"):rep(9) .. "\x02",
        at_end(2) .. "a number does not end, or has more than 64 bits"},
    {good .. "\x00", at_end(0) .. "0 begins no field of a model"},
    {good .. "\x1b", at_end(0) .. "27 begins no field of a model"},
    {good .. "\x1f", at_end(0) .. "31 begins no field of a model"},
    {good .. "\x9d\x06\1\2\3", at_end(2) .. "a number ends behind its message"},
    {good .. onnx.varint(99 << 3 | 2) .. ("\xff"):rep(9) .. "\x01",
        at_end(2) .. "a field of 18446744073709551615 bytes ends behind its message"},
    {head .. onnx.bytes(7, onnx.bytes(1, onnx.bytes(3, ("n"):rep(65537)))),
        "byte 14: a text has more than 65536 bytes"},
    {node("Ge\0mm", {"x", "w"}, {"z"}), "byte 24: a text holds a NUL byte"},
    {model(function(_, m) m.ir = 2 end), "has IR version 2; versions from 3 on are read"},
    {onnx.bytes(7, ""), "is no ONNX model: it has no ir_version"},
    {model(function(_, m) m.opset = false end), "names no version of ONNX's operators (opset_import)"},
    {model(function(_, m) m.opset = 5 end),
        "is of opset 5; 6 to 28 are read (torch.onnx.export's opset_version)"},
    {model(function(_, m) m.opset = 1 << 40 end),
        "is of opset 1099511627776; 6 to 28 are read (torch.onnx.export's opset_version)"},
    {weights {raw = RAW:sub(1, -2)}, "tensor 'w': has 23 bytes, its shape and type take 24"},
    {weights {raw = RAW, dims = {2, 3, 0}},
        "1 operator is not supported: Gemm of [1,3] and [2,3,0] (1 node: fc)"},
    {weights {raw = RAW, dims = {2, -3}}, "initializer 'w' has a dimension of size -3"},
    {weights {raw = RAW, type = 8}, "tensor 'w': has elements of type STRING, which is not supported"},
    {weights {raw = RAW, type = 99}, "tensor 'w': has elements of the unknown type 99"},
    {weights {floats = {}}, "tensor 'w': has 0 bytes of numbers, its shape has 6 elements"},
    {weights {floats = {1, 2}}, "tensor 'w': has 2 numbers, its shape has 6"},
    {weights {floats = {1, 2, 3, 4, 5, 6, 7}}, "tensor 'w': has more numbers than the 6 of its shape"},
    {weights {more = onnx.bytes(4, ("x"):rep(25))}, "tensor 'w': has 25 bytes of numbers of 4 bytes"},
    {weights {type = 10, words = {300, 300, 300, 300}},
        "tensor 'w': has 4 numbers, its shape has 6"},
    {weights {type = 6, more = onnx.bytes(5, ("\xff"):rep(8))},
        "tensor 'w': byte 71: a number does not end, or has more than 64 bits"},
    {weights {raw = RAW, more = onnx.bytes(3, "")},
        "tensor 'w': is a segment of a tensor, which is not supported"},
    {external {location = "../weights.bin"}, outside "../weights.bin"},
    {external {location = "/etc/passwd"}, outside "/etc/passwd"},
    {external {location = "a/../../b"}, outside "a/../../b"},
    {external {location = ""}, outside ""},
    {external {location = "a\\b"}, outside "a\\b"},
    {weights {external = {}}, "tensor 'w': is in another file, but does not name it"},
    {external {offset = "-1"},
        "tensor 'w': has the offset '-1' in another file, which is not a number of bytes"},
    {external {length = "99999999999999999999"},
        "tensor 'w': has the length '99999999999999999999' in another file, which is not a number of bytes"},
    {external {length = 23}, "tensor 'w': has 23 bytes, its shape and type take 24"},
    {model(function(g) g.initializers[3] = g.initializers[1] end), "has two initializers 'w'"},
    {with("initializers", 1, onnx.tensor {dims = {2, 3}, raw = RAW}), "has an initializer without a name"},
    {model(function(g) g.more = onnx.bytes(15, "") end), "has sparse initializers, which are not supported"},
    {model(function(g) g.outputs = {} end), "has no output"},
    {with("outputs", 1, onnx.value("y", {"N", 2})), "has an output 'y' that nothing makes"},
    {with("inputs", 1, onnx.value("y", {"N", 3})), "node 'fc' reads 'x', which nothing before it makes"},
    {with("inputs", 1, onnx.value(nil, {"N", 3})), "has an input without a name"},
    {with("inputs", 2, onnx.value("x", {"N", 3})), "has two inputs 'x'"},
    {with("nodes", 2, onnx.node("Relu", {"z"}, {"z"}, nil, "again")),
        "'z' is made twice, the second time by node 'again'"},
    {node(nil, {"x"}, {"z"}, nil, "fc"), "node 'fc' has no operator"},
    {with("nodes", 1, onnx.node("Gemm", {"x", "w"}, {"z"}, nil, "fc")
        .. onnx.bytes(5, onnx.int(3, 1))),
        "node 'fc' has an attribute without a name"},
    {with("nodes", 1, onnx.node("Gemm", {"x", "w"}, {"z"}, {transB = 1}, "fc")
        .. onnx.bytes(5, onnx.attribute("transB", 0))), "node 'fc' has the attribute 'transB' twice"},
    {with("nodes", 1, onnx.node("Gemm", {"x", "w"}, {"z"}, nil, "fc")
        .. onnx.bytes(5, onnx.bytes(1, "alpha") .. onnx.int(20, 4))),
        "attribute 'alpha' of node 'fc' holds nothing"},
    {node("Gemm", {"x", "w", "b"}, {"z"}, {transB = "yes"}, "fc"),
        "node 'fc' (Gemm) has an attribute 'transB' of another kind"},
    {node("Gemm", {"x", "w", "b"}, {"z"}, {transB = 0}, "fc"),
        "node 'fc' (Gemm) has weights [2,3] for an input [1,3]"},
    {model(function(g)
        g.inputs[1] = onnx.value("x", {"N", 2, 1, 1})
        g.nodes = {onnx.node("Conv", {"x", "k", "x3"}, {"y"}, nil, "c"), onnx.node("Flatten", {"y"}, {"z"})}
        g.initializers = {onnx.reals("k", {2, 2, 1, 1}, {1, 2, 3, 4}), onnx.reals("x3", {3}, {1, 2, 3})}
    end), "parameter 'c.bias' is [3], its layer wants [2]"},
    {model(function(g) g.inputs[1] = onnx.value("x", {"N", 1 << 50}) end),
        "input 'x' is [?,1125899906842624]: an input shape needs three positive sizes, height and width up "
            .. "to 65536"},
    {node("Expand", {"x", "e"}, {"z"}, nil, "e"), "node 'e' reads 'e', which nothing before it makes"},
    {node("Gemm", {"x"}, {"z"}, {transB = 1}, "fc"), "node 'fc' (Gemm) has no second input"},
    {node("Reshape", {"x", "w"}, {"z"}, nil, "r"), "node 'r' (Reshape) asks for the shape "
        .. "[0.5,-1.0,2.0,0.25,1.0,-0.5]"},
    {node("Flatten", {"w"}, {"z"}), "output 'z' does not depend on the input"},
}
