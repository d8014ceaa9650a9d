-- `advrt show` and `advrt check`: what a net is made of, and whether it computes what it should.

local net = require "advrt.net"
local onnx = require "onnx"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

describe("the commands on nets", function()
    local folder, model
    setup(function()
        folder = support.folder()
        model = support.write(folder .. "/tiny.onnx", onnx.model {graph = {
            nodes = {
                onnx.node("Conv", {"x", "c.weight", "c.bias"}, {"y"}, {pads = {1, 1, 1, 1}}, "/c"),
                onnx.node("Relu", {"y"}, {"r"}), onnx.node("Flatten", {"r"}, {"f"}),
                onnx.node("Gemm", {"f", "w"}, {"z"}, {transB = 1}, "/fc/Gemm"),
            },
            initializers = {
                onnx.reals("c.weight", {2, 1, 3, 3}, {1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0, -1, 0, 1, 0, 1, 0}),
                onnx.reals("c.bias", {2}, {0.5, -0.25}),
                onnx.reals("w", {2, 8}, {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}),
            },
            inputs = {onnx.value("x", {"N", 1, 2, 2})}, outputs = {onnx.value("z", {"N", 2})},
        }})
    end)
    teardown(function() support.remove(folder) end)

    it("list layers, parameters and FLOPs", function()
        local status, out, err = support.advrt {"show", "--net", model}
        assert.equal(0, status)
        assert.equal("", err) -- nothing of images, which do not go through the net
        assert.equal(table.concat({
            "tiny: input [1,2,2]",
            "layer     operation  output   parameters  MFLOPs",
            "c         conv 3x3   [2,2,2]          20    0.00",
            "          relu       [2,2,2]",
            "fc.Gemm   linear     [2]              16    0.00",
            "3 layers             [2]              36    0.00", "",
        }, "\n"), out)
        status, out = support.advrt {"show", "--net", "resnet18"}
        assert.equal(0, status)
        assert.matches("\nconv1 +conv 7x7/2 +%[64,112,112%] +9 408 +236%.03\n", out)
        assert.matches("\n69 layers +%[1000%] +11 689 512 +3628%.15\n$", out)
        status, out, err = support.advrt {"show", "--net", "nets/none.onnx"}
        assert.equal(1, status, out)
        assert.matches("^advrt: no network definition 'nets/none.onnx' %(looked there and in .*\n$", err)
    end)

    it("name an activation, and print the formula of another layer", function()
        local function node(op, inputs, output) return onnx.node(op, inputs, {output}) end
        local path = support.write(folder .. "/formulas.onnx", onnx.model {graph = {
            nodes = {
                node("Sigmoid", {"x"}, "s"), node("Mul", {"x", "s"}, "silu"), node("Relu", {"silu"}, "r"),
                node("Mul", {"r", "half"}, "h"), node("Abs", {"h"}, "a"), node("Add", {"a", "tiny"}, "t"),
                node("Div", {"r", "t"}, "d"), node("Relu", {"d"}, "e"), node("Selu", {"e"}, "f"),
                node("Mul", {"f", "half"}, "g"), node("Gemm", {"g", "w"}, "z"),
            },
            initializers = {onnx.reals("half", {}, {0.5}), onnx.reals("tiny", {}, {1e-12}),
                onnx.reals("w", {2, 2}, {1, 2, 3, 4})},
            inputs = {onnx.value("x", {"N", 2})}, outputs = {onnx.value("z", {"N", 2})},
        }})
        local status, out = support.advrt {"show", "--net", path}
        assert.equal(0, status)
        local seen = {}
        for line in out:gmatch "[^\n]+" do seen[#seen + 1] = line:match "^ +(%S.-)  +%[2%]" end
        assert.same({"reshape", "silu", "relu", "x / (abs(x * 0.5) + 1e-12)", "relu",
            "(1.051 * select(x > 0, x, 1.673 *..."}, seen)
    end)

    --- Writes what check compares with: the net's own logits and gradients, changed by `change`.
    local function expected(change)
        local g = assert(net.load(model))
        local x = tensor.uniform("show_spec", {5, 1, 2, 2})
        local z, trace = g:trace(x)
        local q = g:backward(tensor.new({5, 2}):fill(1), nil, trace)
        local all = {x = x, logits = z, gradients = q}
        if change then change(all) end
        assert(tensor.save(folder .. "/expect.safetensors", all))
        return folder .. "/expect.safetensors"
    end

    local function check(change, ...)
        return support.advrt {"check", "--net", model, "--expect", expected(change), ...}
    end

    it("pass a net that computes what was expected", function()
        local status, out = check(nil, "--batch", "2")
        assert.equal(0, status)
        assert.matches("\ninput 5: logits off by 0.00e%+00, gradient by 0.00e%+00 %(cosine 1.000000%): "
            .. "pass\n", out)
        assert.matches("\n5 of 5 pass; relative L2 error of the logits at most 0.00e%+00\n$", out)
        status, out = check(function(all) all.gradients = nil end)
        assert.equal(0, status)
        assert.matches("\ninput 1: logits off by 0.00e%+00: pass\n", out)
        assert.equal(0, (check(function(all) all.x, all.logits = all.x:to("f64"), all.logits:to("f64") end)))
    end)

    it("fail one that does not", function()
        local status, out, err = check(function(all) all.logits:set(all.logits:get(3, 2) * 1.001, 3, 2) end)
        assert.equal(1, status)
        assert.matches("\ninput 3: logits off by [^:]*: FAIL\n", out)
        assert.matches("\n4 of 5 pass; ", out)
        assert.matches("tiny does not reproduce .*/expect.safetensors; check mean and std", err)
        assert.equal(0, (check(function(all) all.logits:set(all.logits:get(3, 2) * 1.001, 3, 2) end,
            "--tolerance", "0.01")))
        status, out = check(function(all) all.gradients[2]:fill(1) end)
        assert.equal(1, status)
        assert.matches("\n4 of 5 pass; relative L2 error of the logits at most 0.00e%+00\n$", out)
        status, out = check(function(all) all.logits:set(0 / 0, 1, 1) end)
        assert.equal(1, status)
        assert.matches("at most %-?nan\n$", out)
    end)

    it("refuse a file that does not fit, with status 2", function()
        local path = folder .. "/expect.safetensors"
        for _, case in ipairs {
            {function(all) all.x = nil end, path .. ": has no tensor 'x'; it must hold x and logits"},
            {function(all) all.logits = nil end,
                path .. ": has no tensor 'logits'; it must hold x and logits"},
            {function(all) all.x = tensor.new {5, 1, 3, 2} end,
                path .. ": 'x' is [5,1,3,2], net tiny wants [N,1,2,2]"},
            {function(all) all.logits = tensor.new {5, 3} end,
                path .. ": 'logits' is [5,3], net tiny wants [5,2]"},
            {function(all) all.logits = tensor.new {4, 2} end,
                path .. ": 'logits' is [4,2], net tiny wants [5,2]"},
            {function(all) all.gradients = tensor.new {5, 2} end,
                path .. ": 'gradients' is [5,2], net tiny wants [5,1,2,2]"},
        } do
            local status, _, err = check(case[1])
            assert.equal(2, status)
            assert.matches("advrt: " .. case[2]:gsub("%p", "%%%0") .. "\n", err)
        end
        local status, _, err = support.advrt {"check", "--net", model}
        assert.same({2, "advrt: --expect is missing: a .safetensors file with x and logits\n"}, {status, err})
        status, _, err = support.advrt {"check", "--net", model, "--expect", folder .. "/none"}
        assert.equal(2, status)
        assert.matches("^advrt: %-%-expect: .*/none: No such file", err)
    end)

    it("take a model wherever a net is", function()
        local bundled = system.options.root .. "/nets/fashion"
        local g = assert(net.load(bundled .. ".lua"))
        local list, nodes = {}, {}
        for _, name in ipairs {"fc.weight", "fc.bias"} do
            local t = g:state()[name]
            list[#list + 1] = onnx.reals(name, t:shape(), t:reshape({-1}):totable())
        end
        list[#list + 1] = onnx.reals("spread", {64, 1, 1, 1}, (function()
            local all = {}
            for i = 1, 64 do all[i] = i / 64 end
            return all
        end)())
        nodes[1] = onnx.node("Conv", {"x", "spread"}, {"a"})
        nodes[2] = onnx.node("GlobalAveragePool", {"a"}, {"b"})
        nodes[3] = onnx.node("Flatten", {"b"}, {"c"})
        nodes[4] = onnx.node("Gemm", {"c", "fc.weight", "fc.bias"}, {"d"}, {transB = 1})
        nodes[5] = onnx.node("Softmax", {"d"}, {"z"}, {axis = 1}, "/softmax")
        local function write(name, size)
            return support.write(folder .. name, onnx.model {graph = {nodes = nodes, initializers = list,
                inputs = {onnx.value("x", {1, 1, size, size})}, outputs = {onnx.value("z", {1, 10})}}})
        end
        local path = write("/means.onnx", 28)
        local status, out, err = support.advrt {"evaluate", "--net", path, "--limit", "20"}
        assert.equal(0, status)
        assert.matches("means on .*: 20 images", out)
        assert.matches("means.onnx: removed the final Softmax %(node '/softmax'%)", err)
        assert.matches("advrt: warning: [0-3] of 20 images are classified correctly, below twice chance "
            .. "%(10 classes%); no normalisation: the file states none; give it with %-%-mean and "
            .. "%-%-std\n", err)
        status, out, err = support.advrt {"evaluate", "--net", path, "--limit", "20", "--mean", "0"}
        assert.equal(0, status)
        assert.matches("top%-1", out)
        assert.falsy(err:find("warning"))
        local run = {"equal_perturbation", "--net", path, "--limit", "20", "--losses", "ce", "--iterations",
            "3", "--no-figures", "--out", folder .. "/run"}
        status, out = support.advrt(run)
        assert.equal(0, status, out)
        local about = support.read(folder .. "/run/run.json")
        assert.matches('"net_sha256":"' .. system.sha256(path) .. '"', about, 1, true)
        run[#run + 1] = "--resume"
        status, out, err = support.advrt(run)
        assert.equal(0, status, out .. err)
        path = write("/small.onnx", 14)
        status, out, err = support.advrt {"evaluate", "--net", path, "--limit", "20"}
        assert.equal(1, status, out)
        assert.matches("28", err)
        assert.equal(0, (support.advrt {"evaluate", "--net", path, "--limit", "20", "--resize", "14",
            "--crop", "14"}))
    end)
end)
