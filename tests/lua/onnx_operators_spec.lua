-- ONNX's operators one by one, on few numbers: what the exporters' models (onnx_golden_spec) do not show.

local net = require "advrt.net"
local onnx = require "onnx"
local support = require "support"
local tensor = require "advrt.tensor"

local node, reals, wholes = onnx.node, onnx.reals, onnx.wholes

describe("ONNX's operators", function()
    local folder
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    --- The numbers that `nodes` make of x, in a shape, as "v"; they read it as "x". constants: encoded.
    local function run(shape, x, nodes, constants, opset)
        local all = {node("Reshape", {"in", "shape"}, {"x"})}
        table.move(nodes, 1, #nodes, 2, all)
        all[#all + 1] = node("Reshape", {"v", "row"}, {"z"})
        local list = {wholes("shape", shape), wholes("row", {1, -1}), table.unpack(constants or {})}
        local path = support.write(folder .. "/model.onnx", onnx.model {opset = opset, graph = {nodes = all,
            initializers = list, inputs = {onnx.value("in", {1, #x})}, outputs = {onnx.value("z")}}})
        local g, message = net.load(path, {mean = 0})
        if not g then return nil, message:sub(#path + 3) end
        return g:forward(tensor.from(x):reshape {1, #x, 1, 1}):reshape({-1}):totable()
    end

    local function near(wanted, got, message)
        assert.is_truthy(got, message)
        assert.equal(#wanted, #got)
        for i, v in ipairs(wanted) do
            if math.abs(got[i] - v) > 1e-5 * math.max(1, math.abs(v)) then assert.same(wanted, got) end
        end
    end

    --- A case of one node: op, attributes, shape and numbers of x, what comes out; then constants (inputs
    -- behind x, in the order of their names) and the opset.
    local function is(op, attributes, shape, x, wanted, constants, opset)
        local names, list = {"x"}, {}
        for i, c in ipairs(constants or {}) do
            names[i + 1] = c and "c" .. i or ""
            if c then list[#list + 1] = c("c" .. i) end
        end
        near(wanted, run(shape, x, {node(op, names, {"v"}, attributes)}, list, opset))
    end

    local function R(dims, list) return function(name) return reals(name, dims, list) end end
    local function I(list) return function(name) return wholes(name, list) end end

    local E = math.exp(1)
    local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
    local function softplus(x) return math.log(1 + math.exp(x)) end

    it("on elements", function()
        local x = {-2, -0.5, 0, 0.25, 1, 4}
        local function each(op, attributes, f, opset)
            local wanted = {}
            for i, v in ipairs(x) do wanted[i] = f(v) end
            is(op, attributes, {1, 6}, x, wanted, nil, opset)
        end
        each("Neg", nil, function(v) return -v end)
        each("Abs", nil, math.abs)
        each("Exp", nil, math.exp)
        each("Floor", nil, math.floor)
        each("Ceil", nil, math.ceil)
        each("Sign", nil, function(v) return v > 0 and 1 or v < 0 and -1 or 0 end)
        each("Sigmoid", nil, sigmoid)
        each("Softplus", nil, softplus)
        each("Softsign", nil, function(v) return v / (1 + math.abs(v)) end)
        each("Tanh", nil, function(v) return 2 * sigmoid(2 * v) - 1 end)
        each("Mish", nil, function(v) return v * (2 * sigmoid(2 * softplus(v)) - 1) end, 18)
        each("LeakyRelu", {alpha = 0.1}, function(v) return v > 0 and v or 0.1 * v end)
        each("LeakyRelu", nil, function(v) return v > 0 and v or 0.01 * v end)
        each("ThresholdedRelu", {alpha = 0.5}, function(v) return v > 0.5 and v or 0 end)
        each("Elu", {alpha = 2.0}, function(v) return v > 0 and v or 2 * (math.exp(v) - 1) end)
        each("Celu", {alpha = 2.0}, function(v) return v > 0 and v or 2 * (math.exp(v / 2) - 1) end)
        each("Selu", {alpha = 2.0, gamma = 3.0}, function(v)
            return 3 * (v > 0 and v or 2 * (math.exp(v) - 1))
        end)
        each("HardSigmoid", {alpha = 0.5, beta = 0.25}, function(v)
            return math.max(0, math.min(1, v / 2 + 0.25))
        end)
        each("HardSwish", nil, function(v) return v * math.max(0, math.min(1, v / 6 + 0.5)) end)
        each("Swish", {alpha = 2.0}, function(v) return v * sigmoid(2 * v) end, 24)
        each("Clip", {min = -0.5, max = 0.5}, function(v) return math.max(-0.5, math.min(0.5, v)) end, 6)
        each("Clip", {min = 0.0, max = 6.0}, function(v) return math.max(0, v) end, 6)
        is("Clip", nil, {1, 3}, {-1, 2, 9}, {0, 2, 9}, {R({}, {0})})
        is("Clip", nil, {1, 3}, {-1, 2, 9}, {-1, 2, 3}, {false, R({}, {3})})
        is("Gelu", nil, {1, 2}, {-1, 2}, {-0.15865525, 1.9544997}, nil, 20)
        is("Gelu", {approximate = "tanh"}, {1, 2}, {-1, 2}, {-0.15880801, 1.9545977}, nil, 20)
        is("Sqrt", nil, {1, 2}, {4, 0.25}, {2, 0.5})
        is("Log", nil, {1, 2}, {1, E}, {0, 1})
        is("Reciprocal", nil, {1, 2}, {4, -0.5}, {0.25, -2})
        is("Erf", nil, {1, 2}, {0.5, -1}, {0.52049988, -0.84270079})
    end)

    it("on several operands, broadcast", function()
        local x, c = {1, 2, 3, 4, 5, 6}, R({2, 1}, {10, 20})
        is("Add", nil, {1, 2, 3}, x, {11, 12, 13, 24, 25, 26}, {c})
        is("Sub", nil, {1, 2, 3}, x, {-9, -8, -7, -16, -15, -14}, {c})
        is("Mul", nil, {1, 2, 3}, x, {10, 20, 30, 80, 100, 120}, {c})
        is("Div", nil, {1, 2, 3}, x, {0.1, 0.2, 0.3, 0.2, 0.25, 0.3}, {c})
        is("Max", nil, {1, 2, 3}, x, {2, 2, 3, 5, 5, 6}, {R({2, 1}, {2, 5})})
        is("Min", nil, {1, 2, 3}, x, {1, 2, 2, 4, 5, 5}, {R({2, 1}, {2, 5})})
        is("Sum", nil, {1, 2, 3}, x, {12, 13, 14, 25, 26, 27}, {c, R({1}, {1})})
        is("Mean", nil, {1, 2, 3}, x, {4, 4.3333333, 4.6666667, 8.3333333, 8.6666667, 9},
            {c, R({1}, {1})})
        is("Pow", nil, {1, 2, 3}, x, {1, 4, 9, 16, 25, 36}, {R({}, {2})})
        is("Pow", nil, {1, 2}, {4, 9}, {2, 3}, {R({}, {0.5})})
        is("Pow", nil, {1, 2, 2}, {1, 2, 3, 4}, {1, 8, 9, 64}, {R({2}, {2, 3})})
        is("PRelu", nil, {1, 2, 2}, {-1, 2, -3, -4}, {-0.5, 2, -6, -8}, {R({2, 1}, {0.5, 2})})
        is("Add", nil, {1, 3}, {1, 2, 3}, {11, 12, 13, 21, 22, 23}, {R({2, 1}, {10, 20})})
        is("Add", {broadcast = 1, axis = 1}, {1, 2, 2}, {1, 2, 3, 4}, {11, 12, 23, 24}, {R({2}, {10, 20})}, 6)
        near({1, -2, 3}, run({1, 3}, {1, 2, 3}, {node("Greater", {"x", "two"}, {"a"}),
            node("Less", {"x", "two"}, {"b"}), node("Or", {"a", "b"}, {"c"}), node("Neg", {"x"}, {"n"}),
            node("Where", {"c", "x", "n"}, {"v"})}, {reals("two", {}, {2})}))
    end)

    it("in chains that are too long for one formula", function()
        local nodes, x = {}, {0.5, -0.25}
        local y = {table.unpack(x)}
        for i = 1, 30 do
            nodes[i] = node(i % 2 == 0 and "Sub" or "Mul", {i == 1 and "x" or "v" .. i - 1, "k" .. i % 2},
                {i == 30 and "v" or "v" .. i})
            for k, v in ipairs(y) do y[k] = i % 2 == 0 and v - 0.123456789 or v * 1.0987654321 end
        end
        near(y, run({1, 2}, x, nodes, {reals("k0", {}, {0.123456789}), reals("k1", {}, {1.0987654321})}))
        local five, list = {node("Add", {"x", "c1"}, {"a1"})}, {reals("c1", {2}, {1, 2})}
        for i = 2, 6 do
            list[i] = reals("c" .. i, {2}, {i, 2 * i})
            five[i] = node("Mul", {"a" .. i - 1, "c" .. i}, {i == 6 and "v" or "a" .. i})
        end
        near({720 * 2, 720 * 32 * 3}, run({1, 2}, {1, 1}, five, list))
    end)

    it("that put numbers elsewhere", function()
        local x = {1, 2, 3, 4, 5, 6}
        is("Transpose", {perm = {0, 2, 1}}, {1, 2, 3}, x, {1, 4, 2, 5, 3, 6})
        is("Transpose", {perm = {2, 0, 1}}, {2, 3, 1}, x, x)
        is("Transpose", nil, {2, 3}, x, {1, 4, 2, 5, 3, 6})
        is("Flatten", {axis = 2}, {1, 2, 3}, x, x)
        is("Slice", nil, {1, 2, 3}, x, {5, 6}, {I {1, 1}, I {9, 9}, I {1, 2}})
        is("Slice", nil, {1, 6}, x, {6, 4, 2}, {I {-1}, I {-100}, I {1}, I {-2}})
        is("Slice", {starts = {0, 1}, ends = {1, 2}, axes = {2, 1}}, {1, 2, 3}, x, {4}, nil, 9)
        is("Gather", {axis = 2}, {1, 2, 3}, x, {3, 1, 6, 4}, {I {2, 0}})
        is("Gather", {axis = 1}, {1, 6}, x, {1, 6, 2, 2}, {I {0, -1, 1, 1}})
        is("Gather", {axis = 0}, {2, 3}, x, {4, 5, 6}, {I {1}})
        is("Concat", {axis = 1}, {1, 2, 1}, {1, 2}, {1, 2, 7, 8, 9}, {R({1, 3, 1}, {7, 8, 9})})
        is("Concat", {axis = 0}, {2, 1}, {1, 2}, {1, 2, 7}, {R({1, 1}, {7})})
        is("Tile", nil, {1, 2}, {1, 2}, {1, 2, 1, 2, 1, 2, 1, 2}, {I {2, 2}})
        is("Expand", nil, {1, 2, 1}, {1, 2}, {1, 1, 1, 2, 2, 2}, {I {1, 2, 3}})
        is("Pad", nil, {1, 3}, {1, 2, 3}, {0, 1, 2, 3, 0, 0}, {I {0, 1, 0, 2}})
        is("Pad", nil, {1, 3}, {1, 2, 3}, {9, 9, 1, 2}, {I {0, 2, 0, -1}, R({}, {9})})
        is("Pad", {mode = "reflect"}, {1, 3}, {1, 2, 3}, {3, 2, 1, 2, 3, 2}, {I {0, 2, 0, 1}})
        is("Pad", {mode = "edge"}, {1, 3}, {1, 2, 3}, {1, 1, 1, 2, 3, 3}, {I {0, 2, 0, 1}})
        is("Pad", {mode = "wrap"}, {1, 3}, {1, 2, 3}, {2, 3, 1, 2, 3, 1}, {I {0, 2, 0, 1}}, 19)
        is("Pad", nil, {1, 3, 1}, {1, 2, 3}, {1, 2, 3, 0, 0}, {I {0, 2}, false, I {-2}}, 18)
        is("DepthToSpace", {blocksize = 2}, {1, 4, 1, 2}, {1, 2, 3, 4, 5, 6, 7, 8}, {1, 3, 2, 4, 5, 7, 6, 8})
        is("DepthToSpace", {blocksize = 2, mode = "CRD"}, {1, 8, 1, 1}, {1, 2, 3, 4, 5, 6, 7, 8},
            {1, 2, 3, 4, 5, 6, 7, 8})
        is("SpaceToDepth", {blocksize = 2}, {1, 1, 2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}, {1, 3, 2, 4, 5, 7, 6, 8})
        near({5, 6, 1, 2}, run({1, 6}, x, {node("Split", {"x"}, {"a", "b", "c"}, {axis = 1}),
            node("Concat", {"c", "a"}, {"v"}, {axis = 1})}))
        near({4, 5, 6, 1}, run({1, 6}, x, {node("Split", {"x", "n"}, {"a", "b", "c"}, {axis = 1}),
            node("Concat", {"c", "a"}, {"v"}, {axis = 1})}, {wholes("n", {1, 2, 3})}))
    end)

    it("that resize", function()
        local x, none = {1, 2, 3, 4}, R({0}, {})
        local function to(sizes, attributes, wanted)
            is("Resize", attributes, {1, 1, 2, 2}, x, wanted, {none, none, I(sizes)})
        end
        to({1, 1, 2, 4}, nil, {1, 1, 2, 2, 3, 3, 4, 4})
        to({1, 1, 4, 2}, {mode = "linear"}, {1, 2, 1.5, 2.5, 2.5, 3.5, 3, 4})
        to({1, 1, 3, 2}, {mode = "linear", coordinate_transformation_mode = "align_corners"},
            {1, 2, 2, 3, 3, 4})
        to({1, 1, 2, 3}, {mode = "linear", coordinate_transformation_mode = "asymmetric"},
            {1, 1.6666667, 2, 3, 3.6666667, 4})
        to({1, 1, 1, 1}, {mode = "linear"}, {2.5})
        is("Resize", {mode = "linear"}, {1, 2, 2}, x, {1, 1.25, 1.75, 2, 3, 3.25, 3.75, 4},
            {none, none, I {1, 2, 4}})
        is("Resize", {mode = "linear"}, {1, 1, 1, 2}, {0, 3}, {0, 1.1470588, 2.9117647},
            {none, R({4}, {1, 1, 1, 1.7})})
        is("Resize", {mode = "linear"}, {1, 1, 2}, {0, 3}, {0, 1.5, 3}, {none, none, I {1, 1, 3}})
        to({1, 1, 1, 1}, {mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"}, {1})
        to({1, 1, 2, 3}, {nearest_mode = "floor"}, {1, 1, 2, 3, 3, 4})
        to({1, 1, 2, 3}, {nearest_mode = "ceil"}, {1, 2, 2, 3, 4, 4})
        -- cubic, of a = -0.75, halfway between the second and third of four: -0.09375, 0.59375 twice
        is("Resize", {mode = "cubic", coordinate_transformation_mode = "align_corners"}, {1, 1, 1, 4},
            {0, 0, 1, 0}, {0, -0.09375, 0, 0.59375, 1, 0.59375, 0},
            {none, none, I {1, 1, 1, 7}})
        is("Resize", nil, {1, 1, 2, 2}, x, {1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4},
            {none, R({4}, {1, 1, 2, 2})})
        is("Resize", nil, {1, 1, 1, 2}, {1, 2}, {1, 1, 2, 2}, {R({4}, {1, 1, 1, 2})}, 10)
        is("Upsample", {scales = {floats = {1, 1, 2, 1}}}, {1, 1, 2, 1}, {1, 2}, {1, 1, 2, 2}, nil, 7)
        is("Resize", {axes = {2}}, {1, 1, 2}, {1, 2}, {1, 1, 2, 2}, {none, none, I {4}}, 18)
    end)

    it("that pool and reduce", function()
        local x = {1, 2, 3, 4, 5, 6, 7, 8, 9}
        is("MaxPool", {kernel_shape = {2, 2}}, {1, 1, 3, 3}, x, {5, 6, 8, 9})
        is("MaxPool", {kernel_shape = {2}, strides = {2}, ceil_mode = 1}, {1, 1, 5}, {5, 1, 2, 4, 3},
            {5, 4, 3})
        is("AveragePool", {kernel_shape = {2, 2}}, {1, 1, 3, 3}, x, {3, 4, 6, 7})
        is("AveragePool", {kernel_shape = {3, 3}}, {1, 1, 3, 3}, x, {5})
        is("AveragePool", {kernel_shape = {1, 1}}, {1, 1, 3, 3}, x, x)
        is("AveragePool", {kernel_shape = {2}, pads = {1, 0}}, {1, 1, 3}, {1, 2, 3}, {1, 1.5, 2.5})
        is("AveragePool", {kernel_shape = {2}, pads = {1, 0}, count_include_pad = 1}, {1, 1, 3}, {1, 2, 3},
            {0.5, 1.5, 2.5})
        is("AveragePool", {kernel_shape = {2, 2}, auto_pad = "SAME_UPPER", strides = {2, 2}}, {1, 1, 3, 3}, x,
            {3, 4.5, 7.5, 9})
        is("GlobalAveragePool", nil, {1, 2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}, {2.5, 6.5})
        is("GlobalMaxPool", nil, {1, 2, 2, 2}, {1, 4, 3, 2, 5, 6, 8, 7}, {4, 8})
        is("LRN", {size = 3, alpha = 3.0, beta = 0.5, bias = 1.0}, {1, 3, 1, 1}, {1, 2, 3},
            {1 / math.sqrt(6), 2 / math.sqrt(15), 3 / math.sqrt(14)})
        x = {1, 2, 3, 4, 5, 6}
        is("ReduceMean", {axes = {1}}, {1, 2, 3}, x, {2.5, 3.5, 4.5})
        is("ReduceMean", {axes = {-1}, keepdims = 0}, {1, 2, 3}, x, {2, 5})
        is("ReduceMean", nil, {1, 2, 3}, x, {3.5})
        is("ReduceSum", nil, {1, 2, 3}, x, {5, 7, 9}, {I {1}})
        is("ReduceL1", {axes = {2}}, {1, 2, 3}, {1, -2, 3, -4, 5, -6}, {6, 15})
        is("ReduceL2", {axes = {1}}, {1, 2, 1}, {3, 4}, {5})
        is("ReduceSumSquare", {axes = {1}}, {1, 2, 1}, {3, 4}, {25})
        is("ReduceMax", {axes = {1}}, {1, 2, 3}, {1, 5, 3, 4, 2, 6}, {4, 5, 6})
        is("ReduceMin", {axes = {2}}, {1, 2, 3}, {1, 5, 3, 4, 2, 6}, {1, 2})
    end)

    it("that multiply", function()
        local w = R({3, 2}, {1, 2, 3, 4, 5, 6})
        is("MatMul", nil, {1, 2, 3}, {1, 0, 0, 0, 1, 1}, {1, 2, 8, 10}, {w})
        is("Gemm", {alpha = 2.0, beta = 3.0}, {1, 3}, {1, 0, 1}, {12 + 3, 16 + 6}, {w, R({2}, {1, 2})})
        is("Gemm", nil, {1, 3}, {1, 0, 1}, {7, 9}, {w, R({1}, {1})})
        is("Gemm", nil, {2, 3}, {1, 0, 0, 0, 1, 1}, {11, 22, 38, 50}, {w, R({2, 2}, {10, 20, 30, 40})})
        near({1, 2, 2, 4}, run({1, 2}, {1, 2}, {node("Reshape", {"x", "s"}, {"c"}),
            node("MatMul", {"c", "x"}, {"v"})}, {wholes("s", {2, 1})}))
        near({5, 11, 11, 25}, run({1, 2, 2}, {1, 2, 3, 4}, {node("Transpose", {"x"}, {"t"},
            {perm = {0, 2, 1}}), node("MatMul", {"x", "t"}, {"v"})}))
        near({5, 11, 11, 25}, run({2, 2}, {1, 2, 3, 4}, {node("Gemm", {"x", "x"}, {"v"}, {transB = 1})}))
        near({10, 14, 14, 20}, run({2, 2}, {1, 2, 3, 4}, {node("Gemm", {"x", "x"}, {"v"}, {transA = 1})}))
        near({19, 43}, run({1, 2, 2}, {1, 2, 3, 4}, {node("MatMul", {"x", "r"}, {"v"})},
            {reals("r", {2}, {5, 7})}))
        near({5, 11, 11, 25}, run({1, 2, 2}, {1, 2, 3, 4}, {node("Einsum", {"x", "x"}, {"v"},
            {equation = "bij,bkj->bik"})}))
        near({10, 14, 14, 20}, run({1, 2, 2}, {1, 2, 3, 4}, {node("Einsum", {"x", "x"}, {"v"},
            {equation = "bji, bjk -> bki"})}))
        is("Conv", {kernel_shape = {2}, pads = {1, 0}}, {1, 1, 3}, {1, 2, 3}, {10, 21, 32},
            {R({1, 1, 2}, {1, 10})})
        is("Conv", {auto_pad = "SAME_LOWER"}, {1, 1, 1, 3}, {1, 2, 3}, {10, 21, 32},
            {R({1, 1, 1, 2}, {1, 10})})
        is("Conv", {dilations = {2}}, {1, 1, 4}, {1, 2, 3, 4}, {31, 42}, {R({1, 1, 2}, {1, 10})})
        is("ConvTranspose", {strides = {2}}, {1, 1, 2}, {1, 2}, {1, 10, 2, 20}, {R({1, 1, 2}, {1, 10})})
        is("ConvTranspose", {strides = {2}, pads = {1, 0}, output_padding = {1}}, {1, 1, 2}, {1, 2},
            {10.5, 2.5, 20.5, 0.5}, {R({1, 1, 2}, {1, 10}), R({1}, {0.5})})
        is("ConvTranspose", {strides = {2}, auto_pad = "SAME_UPPER"}, {1, 1, 2}, {1, 2}, {1, 10, 102, 20},
            {R({1, 1, 3}, {1, 10, 100})})
        is("ConvTranspose", {group = 2, output_shape = {1, 1}}, {1, 2, 1, 1}, {1, 2}, {3, 10},
            {R({2, 1, 1, 1}, {3, 5})})
        is("Conv", {auto_pad = "VALID", group = 2}, {1, 2, 1, 1}, {1, 2}, {4, 11}, {R({2, 1, 1, 1}, {3, 5}),
            R({2}, {1, 1})})
    end)

    it("that normalise", function()
        local s = math.sqrt(1.5)
        is("LayerNormalization", {epsilon = 1e-12}, {1, 2, 3}, {1, 2, 3, 6, 4, 2},
            {1 - s, 2, 3 + s * 2, 1 + s, 2, 3 - s * 2}, {R({3}, {1, 1, 2}), R({3}, {1, 2, 3})})
        is("LayerNormalization", {axis = 1, epsilon = 1e-12}, {1, 2, 1}, {1, 3}, {-1, 1}, {R({2, 1}, {1, 1})})
        is("InstanceNormalization", {epsilon = 1e-12}, {1, 2, 1, 2}, {1, 3, 5, 9}, {-1, 1, 0, 4},
            {R({2}, {1, 2}), R({2}, {0, 2})})
        is("GroupNormalization", {num_groups = 1, epsilon = 1e-12}, {1, 2, 1, 1}, {1, 3}, {-2, 3},
            {R({2}, {2, 2}), R({2}, {0, 1})}, 21)
        is("LpNormalization", {axis = 1}, {1, 2, 1}, {3, 4}, {0.6, 0.8})
        is("BatchNormalization", {epsilon = 1e-12}, {1, 2}, {1, 3}, {0, 4}, {R({2}, {1, 2}), R({2}, {0, 2}),
            R({2}, {1, 1}), R({2}, {4, 4})})
        local a, b = 1 / (1 + E), E / (1 + E)
        is("Softmax", nil, {1, 2, 2}, {0, 1, 3, 2}, {a, b, b, a})
        is("Softmax", {axis = 1}, {1, 2, 2}, {0, 3, 1, 2}, {a, b, b, a})
        is("Softmax", {axis = 1}, {1, 2, 1}, {0, 1}, {a, b}, nil, 11)
        is("Softmax", nil, {1, 2, 2}, {0, 0, 0, 0}, {0.25, 0.25, 0.25, 0.25}, nil, 11)
        is("LogSoftmax", nil, {1, 2, 2}, {0, 1, 3, 2}, {math.log(a), math.log(b), math.log(b), math.log(a)})
    end)

    it("on constants, which are computed", function()
        local function folded(wanted, nodes, constants, opset)
            nodes[#nodes + 1] = node("Mul", {"x", "k"}, {"v"})
            near(wanted, run({1, 1}, {1}, nodes, constants, opset))
        end
        folded({0, 2, 4}, {node("Range", {"a", "b", "c"}, {"k"})},
            {reals("a", {}, {0}), reals("b", {}, {5}), reals("c", {}, {2})})
        folded({7, 7}, {node("ConstantOfShape", {"n"}, {"k"},
            {value = {tensor = onnx.tensor {dims = {1}, floats = {7}}}})}, {wholes("n", {2})})
        folded({-2, -1, 2}, {node("Div", {"a", "b"}, {"q"}), node("Cast", {"q"}, {"k"}, {to = 1})},
            {wholes("a", {-5, -3, 8}), wholes("b", {2, 2, 3})})
        folded({1, -1}, {node("Mod", {"a", "b"}, {"q"}), node("Cast", {"q"}, {"k"}, {to = 1})},
            {wholes("a", {-5, 5}), wholes("b", {2, -2})})
        folded({1, 9, 3, 9}, {node("ScatterND", {"a", "i", "u"}, {"k"})}, {reals("a", {4}, {1, 2, 3, 4}),
            onnx.tensor {name = "i", dims = {2, 1}, type = 7, raw = onnx.whole {1, 3}},
            reals("u", {2}, {9, 9})})
        folded({1, 20}, {node("Equal", {"a", "b"}, {"e"}), node("Where", {"e", "a2", "b2"}, {"k"})},
            {wholes("a", {1, 2}), wholes("b", {1, 3}), reals("a2", {2}, {1, 2}), reals("b2", {2}, {10, 20})})
        folded({1, 0, 3, 4}, {node("Trilu", {"a"}, {"k"}, {upper = 0})}, {reals("a", {2, 2}, {1, 2, 3, 4})})
        folded({3, 7}, {node("ReduceSum", {"a", "ax"}, {"k"}, {keepdims = 0})},
            {reals("a", {2, 2}, {1, 2, 3, 4}), wholes("ax", {1})})
        folded({2, 2, 0}, {node("Round", {"a"}, {"r"}), node("Abs", {"r"}, {"k"})},
            {reals("a", {3}, {2.5, -1.5, 0.5})})
        folded({19, 43}, {node("MatMul", {"a", "b"}, {"k"})}, {reals("a", {2, 2}, {1, 2, 3, 4}),
            reals("b", {2, 1}, {5, 7})})
        folded({1, 3, 6}, {node("CumSum", {"a", "ax"}, {"k"})}, {reals("a", {3}, {1, 2, 3}),
            onnx.tensor {name = "ax", dims = {}, type = 7, raw = onnx.whole {0}}})
    end)

    it("are refused with what is missing", function()
        local function refused(wanted, op, attributes, shape, constants, opset)
            local names, list, n = {"x"}, {}, 1
            for _, size in ipairs(shape) do n = n * size end
            for i, c in ipairs(constants or {}) do names[i + 1], list[i] = "c" .. i, c("c" .. i) end
            local x = {}
            for i = 1, n do x[i] = 0 end
            local got, message = run(shape, x, {node(op, names, {"v"}, attributes, "n")}, list, opset)
            assert.is_nil(got)
            assert.equal(wanted, message)
        end
        local function one(what) return ("1 operator is not supported: %s (1 node: n)"):format(what) end
        refused(one "BatchNormalization in training mode", "BatchNormalization", {training_mode = 1}, {1, 1},
            {R({1}, {1}), R({1}, {1}), R({1}, {1}), R({1}, {1})})
        refused(one "Pad in mode 'odd'", "Pad", {mode = "odd"}, {1, 3}, {I {0, 1, 0, 1}})
        refused(one "MaxPool on [1,1,2,2,2]", "MaxPool", {kernel_shape = {1, 1, 1}}, {1, 1, 2, 2, 2})
        refused(one "Einsum 'ii->i'", "Einsum", {equation = "ii->i"}, {1, 1})
        refused(one "QuantizeLinear", "QuantizeLinear", nil, {1, 1}, {R({}, {1})})
        refused("node 'n' (Concat) joins [1,2] and [1,2,1]", "Concat", {axis = 1}, {1, 2},
            {R({1, 2, 1}, {1, 2})})
        refused("node 'n' (Add) cannot broadcast [1,2] with [3]", "Add", nil, {1, 2}, {R({3}, {1, 2, 3})})
        refused("node 'n' (Slice) slices with no end or a step of 0", "Slice", nil, {1, 2},
            {I {0}, I {1}, I {1}, I {0}})
        refused("node 'n' (Gather) gathers element 5 of 2", "Gather", {axis = 1}, {1, 2}, {I {5}})
        refused("node 'n' (Transpose) has no order of 2 dimensions", "Transpose", {perm = {0, 0}}, {1, 2})
    end)
end)
