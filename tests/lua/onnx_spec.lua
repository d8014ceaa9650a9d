-- ONNX models as nets: what a graph's inputs, outputs and constants mean. The operators are in
-- onnx_operators_spec, malformed files in onnx_malformed_spec.

local lfs = require "lfs"
local net = require "advrt.net"
local onnx = require "onnx"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local W, B = {0.5, -1, 2, 0.25, 1, -0.5}, {1, 2}

describe("ONNX models", function()
    local folder
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    --- Writes a model of a graph; returns its path.
    local function write(g, m)
        m = m or {}
        m.graph = g
        return support.write(folder .. "/model.onnx", onnx.model(m))
    end

    local function load(g, m, opts) return net.load(write(g, m), opts) end

    local function refused(wanted, g, m, opts)
        local got, message = load(g, m, opts)
        assert.is_nil(got)
        assert.equal(folder .. "/model.onnx: " .. wanted, message)
    end

    --- The graph of x [N,3] by a linear layer to z [N,2]; changes: fields that are other ones.
    local function linear(changes)
        local g = {
            nodes = {onnx.node("Gemm", {"x", "w", "b"}, {"z"}, {transB = 1}, "fc")},
            initializers = {onnx.reals("w", {2, 3}, W), onnx.reals("b", {2}, B)},
            inputs = {onnx.value("x", {"N", 3})}, outputs = {onnx.value("z", {"N", 2})},
        }
        for key, value in pairs(changes or {}) do g[key] = value end
        return g
    end

    local X = tensor.from {{1, 2, 3}, {-1, 0, 1}}:reshape {2, 3, 1, 1}
    local Z = {{5.5, 2.75}, {2.5, 1.25}}

    local function computes(wanted, g, m)
        local made = assert(load(g, m))
        assert.same(wanted, made:forward(X):totable())
        return made
    end

    it("are nets, of any number of images, with the file's weights and classes", function()
        local g = computes(Z, linear())
        assert.equal("model", g.name)
        assert.equal(2, g.classes)
        assert.same({3, 1, 1}, g.input)
        assert.is_nil(g.weights)
        assert.same({{5.5, 2.75}}, g:forward(X:narrow(1, 1)):totable())
        assert.same({folder .. "/model.onnx: no normalisation: the file states none; give it with --mean "
            .. "and --std"}, g.notes)
        local _, q = g:gradient(X, require "advrt.loss".logit, {0, 1})
        assert.same({2, 3, 1, 1}, q:shape())
    end)

    it("of each opset from 6 on are read, and of a fixed batch of one", function()
        for opset = 6, 28 do computes(Z, linear(), {opset = opset}) end
        computes(Z, linear {inputs = {onnx.value("x", {1, 3})}})
        refused("input 'x' is [4,3], with a fixed batch; export it with a batch of 1 or a dynamic one",
            linear {inputs = {onnx.value("x", {4, 3})}})
    end)

    it("hold weights in every form", function()
        local function weights(t)
            t.name, t.dims = "w", {2, 3}
            return linear {initializers = {onnx.tensor(t), onnx.reals("b", {2}, B)}}
        end
        local halves, rounded, doubles = {0x3800, 0xbc00, 0x4000, 0x3400, 0x3c00, 0xb800}, {}, {}
        for i, v in ipairs(W) do
            rounded[i] = string.unpack("<I4", string.pack("<f", v)) >> 16
            doubles[i] = string.pack("<d", v)
        end
        computes(Z, weights {floats = W})
        computes(Z, weights {type = 10, words = halves})
        computes(Z, weights {type = 10, raw = string.pack("<" .. ("I2"):rep(6), table.unpack(halves))})
        computes(Z, weights {type = 16, words = rounded})
        computes(Z, weights {type = 11, raw = table.concat(doubles)})
        computes(Z, weights {type = 11, more = onnx.bytes(10, table.concat(doubles))})
        -- of constants: a node, and whole numbers that are cast and divided
        local four = onnx.tensor {dims = {}, floats = {4}}
        computes(Z, linear {
            initializers = {onnx.tensor {name = "i", dims = {2, 3}, type = 3, words = {2, -4, 8, 1, 4, -2}},
                onnx.reals("b", {2}, B)},
            nodes = {
                onnx.node("Constant", {}, {"four"}, {value = {tensor = four}}),
                onnx.node("Cast", {"i"}, {"f"}, {to = 1}), onnx.node("Div", {"f", "four"}, {"w"}),
                onnx.node("Gemm", {"x", "w", "b"}, {"z"}, {transB = 1}, "fc"),
            },
        })
    end)

    it("may have weights in files of their folder", function()
        local function with(external)
            return linear {initializers = {onnx.tensor {name = "w", dims = {2, 3}, external = external},
                onnx.reals("b", {2}, B)}}
        end
        assert(lfs.mkdir(folder .. "/more"))
        support.write(folder .. "/more/w.bin", "....." .. onnx.floats(W) .. "..")
        computes(Z, with {location = "more/w.bin", offset = 5, length = 24})
        computes(Z, with {location = "./more/w.bin", offset = "005"})
        refused(("tensor 'w': is at bytes 8 to 32 of %s/more/w.bin, which has 31"):format(folder),
            with {location = "more/w.bin", offset = 8})
        local got, message = load(with {location = "more/none.bin"})
        assert.is_nil(got)
        assert.matches("tensor 'w': .*more/none.bin: No such file", message)
        -- A run depends on each of them, those of a node's attribute too.
        support.write(folder .. "/b.bin", onnx.floats(B))
        computes(Z, linear {
            initializers = {onnx.tensor {name = "w", dims = {2, 3}, raw = onnx.floats(W)}},
            nodes = {onnx.node("Constant", {}, {"b"}, {value = {tensor = onnx.tensor {dims = {2},
                external = {location = "b.bin"}}}}), onnx.node("Gemm", {"x", "w", "b"}, {"z"}, {transB = 1})},
        })
        local noted = {}
        for _, file in ipairs(system.noted()) do noted[file[1]] = (noted[file[1]] or 0) + 1 end
        assert.same({1, 1}, {noted[folder .. "/more/w.bin"], noted[folder .. "/b.bin"]})
    end)

    it("lose a Softmax that ends them, which is told", function()
        for _, op in ipairs {"Softmax", "LogSoftmax"} do
            local g = computes(Z, linear {
                nodes = {onnx.node("Gemm", {"x", "w", "b"}, {"y"}, {transB = 1}, "fc"),
                    onnx.node(op, {"y"}, {"p"}, {axis = 1}, "/end"), onnx.node("Identity", {"p"}, {"z"})},
            })
            assert.equal(("%s/model.onnx: removed the final %s (node '/end'), because the losses need logits")
                :format(folder, op), g.notes[1])
        end
    end)

    it("with several outputs want one named, and with several inputs are refused", function()
        local two = linear {
            nodes = {onnx.node("Gemm", {"x", "w", "b"}, {"z"}, {transB = 1}, "fc"),
                onnx.node("Relu", {"z"}, {"y"})},
            outputs = {onnx.value("y", {"N", 2}), onnx.value("z", {"N", 2})},
        }
        refused("has 2 outputs (y, z); choose the logits with --output NAME (in Lua, output = NAME)", two)
        refused("has no output 'logit'; did you mean 'logits'? (outputs: y, logits)", linear {
            outputs = {onnx.value("y", {"N", 2}), onnx.value("logits", {"N", 2})},
            nodes = {onnx.node("Relu", {"x"}, {"y"}), onnx.node("Relu", {"x"}, {"logits"})},
        }, nil, {output = "logit"})
        assert.same({{-2.5, -1.25}}, assert(load(two, nil, {output = "z", mean = {16, 0, 0}}))
            :forward(X:narrow(1, 1)):totable())
        assert.same({{0, 0}}, assert(load(two, nil, {output = "y", mean = {16, 0, 0}}))
            :forward(X:narrow(1, 1)):totable())
        refused("has 2 inputs (x, y); a net has one input, the images",
            linear {inputs = {onnx.value("x", {"N", 3}), onnx.value("y", {"N", 3})}})
        refused("has 0 inputs; a net has one input, the images", linear {inputs = {},
            nodes = {onnx.node("Identity", {"w"}, {"z"})}})
    end)

    it("of other inputs and outputs are refused", function()
        refused("input 'x' is [?,3,?]; it must be a batch of images, [N,C,H,W] or [N,H,W,C], or [N,K]",
            linear {inputs = {onnx.value("x", {"N", 3, "L"})}})
        refused("input 'x' is of no known shape; it must be a batch of images, [N,C,H,W] or [N,H,W,C], or "
            .. "[N,K]", linear {inputs = {onnx.value("x")}})
        refused("input 'x' has elements of type i64; they must be f32, images in [0,1]",
            linear {inputs = {onnx.value("x", {"N", 3}, 7)}})
        refused("input 'x' is [?,?], with an open number of channels; in Lua, set it with net.load's "
            .. "option input = {C, H, W}", linear {inputs = {onnx.value("x", {"N", "K"})}})
        refused("output 'z' is [1,3,1] for one image; it must be logits, [N,K]", linear {
            nodes = {onnx.node("Unsqueeze", {"x"}, {"y"}, {axes = {2}}), onnx.node("Relu", {"y"}, {"z"})},
        }, {opset = 11})
        refused("output 'z' does not depend on the input",
            linear {nodes = {onnx.node("Neg", {"b"}, {"z"})}})
        refused("the model has 2 logits, not 3", linear(), nil, {classes = 3})
    end)

    it("name all that is not supported at once", function()
        refused("3 operators are not supported: NonMaxSuppression (1 node: /nms), com.acme.Fancy (2 nodes: "
            .. "f1, f2), If (1 node: i)", linear {
            nodes = {onnx.node("NonMaxSuppression", {"x"}, {"a"}, nil, "/nms"),
                onnx.node("Fancy", {"a"}, {"c"}, nil, "f1", "com.acme"),
                onnx.node("Relu", {"c"}, {"d"}), onnx.node("Fancy", {"d"}, {"e"}, nil, "f2", "com.acme"),
                onnx.node("If", {"e"}, {"f"}, nil, "i"), onnx.node("Shape", {"f"}, {"s"}),
                onnx.node("Gather", {"s", "one"}, {"k"}), onnx.node("Reshape", {"e", "k"}, {"z"}),
                onnx.node("Unused", {"x"}, {"u"})},
            initializers = {onnx.wholes("one", {1})},
        })
        local many = {onnx.node("Gemm", {"x", "w", "b"}, {"v0"}, {transB = 1}, "fc")}
        for i = 1, 5 do
            many[i + 1] = onnx.node("Hardmax", {"v" .. i - 1}, {i == 5 and "z" or "v" .. i}, nil, "h" .. i)
        end
        refused("1 operator is not supported: Hardmax (5 nodes: h1, h2, h3 and 2 more)",
            linear {nodes = many})
    end)

    it("keep their normalisation, and get one", function()
        local g = linear {
            nodes = {onnx.node("BatchNormalization", {"x", "s", "m", "m", "s"}, {"n"}, {epsilon = 1e-12}),
                onnx.node("Gemm", {"n", "w", "b"}, {"z"}, {transB = 1}, "fc")},
            initializers = {onnx.reals("w", {2, 3}, W), onnx.reals("b", {2}, B),
                onnx.reals("m", {3}, {0, 0, 0}), onnx.reals("s", {3}, {1, 1, 1})},
        }
        assert.same({}, computes(Z, g).notes)
        local made = assert(load(linear(), nil, {mean = {1, 2, 3}, std = 0.5}))
        assert.same({}, made.notes)
        assert.same({{1, 2}}, made:forward(X:narrow(1, 1)):totable())
    end)

    it("of an open size take the size that is given", function()
        local g = {
            nodes = {onnx.node("GlobalAveragePool", {"x"}, {"p"}), onnx.node("Flatten", {"p"}, {"z"})},
            inputs = {onnx.value("x", {"N", 2, "H", "W"})}, outputs = {onnx.value("z")},
        }
        refused("input 'x' is [?,2,?,?], with an open size; set it with --crop N (in Lua, crop = N or input "
            .. "= {C, H, W})", g)
        local made = assert(load(g, nil, {crop = 2}))
        assert.same({2, 2, 2}, made.input)
        local x = tensor.from({1, 2, 3, 4, 5, 6, 7, 8}, "f32", {1, 2, 2, 2})
        assert.same({{2.5, 6.5}}, made:forward(x):totable())
        assert.same({2, 1, 3}, assert(load(g, nil, {input = {2, 1, 3}})).input)
    end)

    it("that take [N,H,W,C] are given [N,C,H,W]", function()
        local list = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
        local x = tensor.from(list, "f32", {1, 3, 2, 2})
        local inputs, outputs = {onnx.value("x", {"N", 2, 2, 3})}, {onnx.value("z")}
        local function computed(nodes, initializers)
            local g = assert(load {nodes = nodes, initializers = initializers, inputs = inputs,
                outputs = outputs})
            assert.same({3, 2, 2}, g.input)
            return g:forward(x):totable()[1]
        end
        assert.same({2.5, 6.5, 10.5}, computed {
            onnx.node("Transpose", {"x"}, {"t"}, {perm = {0, 3, 1, 2}}),
            onnx.node("GlobalAveragePool", {"t"}, {"p"}), onnx.node("Flatten", {"p"}, {"z"})})
        -- in the order of the model's own input
        assert.same({1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12}, computed {onnx.node("Flatten", {"x"}, {"z"})})
        assert.same({0, 4, 32, 1, 5, 36, 2, 6, 40, 3, 7, 44}, computed({
            onnx.node("Sub", {"x", "mean"}, {"c"}), onnx.node("Mul", {"c", "std"}, {"s"}),
            onnx.node("Flatten", {"s"}, {"z"})},
            {onnx.reals("mean", {3}, {1, 1, 1}), onnx.reals("std", {3}, {1, 1, 4})}))
    end)

    describe("named by a definition in Lua", function()
        local function define(text) return support.write(folder .. "/mine.lua", "return " .. text) end

        it("get what they lack", function()
            write(linear())
            support.write(folder .. "/names.txt", "cat\ndog\n")
            local g = assert(net.load(define [[{onnx = "model.onnx", name = "mine", mean = {1, 2, 3},
                std = 0.5, resize = 2, crop = 1, classes = "names.txt", defaults = {alpha = 0.5}}]]))
            assert.same({"mine", 2, 1, 0.5, folder .. "/names.txt"}, {g.name, g.preprocess.resize,
                g.preprocess.crop, g.defaults.alpha, g.class_names})
            assert.same({{1, 2}}, g:forward(X:narrow(1, 1)):totable())
            assert.same({}, g.notes)
            g = assert(net.load(define [[{onnx = "model.onnx"}]]))
            assert.same({Z[1]}, g:forward(X:narrow(1, 1)):totable())
        end)

        it("are refused where the two do not fit", function()
            write(linear())
            support.write(folder .. "/names.txt", "cat\n")
            for text, wanted in pairs {
                ['{onnx = "none.onnx"}'] = "there is no model '" .. folder .. "/none.onnx'",
                ['{onnx = 3}'] = "the network definition needs 'onnx', text",
                ['{onnx = "model.onnx", input = {3, 1, 1}}'] = "the network definition has an unknown field: "
                    .. "'input' is unknown (known: onnx, output, name, classes, mean, std, range, resize, "
                    .. "crop, defaults)",
                ['{onnx = "model.onnx", classes = 2}'] = "the network definition needs 'classes', the path "
                    .. "of a file with a line for each class",
                ['{onnx = "model.onnx", crop = 0}'] = "the network definition needs 'crop', a whole number "
                    .. "from 1 to 65535",
            } do
                local got, message = net.load(define(text))
                assert.is_nil(got)
                assert.equal(folder .. "/mine.lua: " .. wanted, message)
            end
            local _, message = net.load(define '{onnx = "model.onnx", classes = "names.txt"}')
            assert.equal(("%s/names.txt: names 1 classes, but %s/model.onnx has 2 logits"):format(folder,
                folder), message)
            _, message = net.load(define '{onnx = "model.onnx", classes = "no.txt"}')
            assert.equal(folder .. "/no.txt: this file of class names does not exist", message)
        end)
    end)
end)
