--- Definitions, the builder and net.load: parameters, shapes, weights that do not fit.
local loss = require "advrt.loss"
local net = require "advrt.net"
local tensor = require "advrt.tensor"
local weights = require "advrt.core.weights"

local function count(g)
    local sum = 0
    for _, p in ipairs(g:parameters()) do
        local n = 1
        for _, size in ipairs(p.shape) do n = n * size end
        if not p.role:find("^running") then sum = sum + n end
    end
    return sum
end

local function shapes(g)
    local out = {}
    for _, p in ipairs(g:parameters()) do out[p.name] = table.concat(p.shape, "x") end
    return out
end

local function load(name, opts)
    opts = opts or {}
    opts.init = opts.init or "golden"
    return assert(net.load("nets/" .. name .. ".lua", opts))
end

-- A file that is gone after the test.
local function scratch(suffix, text)
    local path = os.tmpname() .. suffix
    finally(function() os.remove(path) end)
    if text then
        local f = assert(io.open(path, "w"))
        f:write(text)
        f:close()
    end
    return path
end

describe("the definitions", function()
    -- Parameters without running statistics, as torchvision and the PyPI package count them.
    local published = {
        alexnet = 61100840, resnet18 = 11689512, resnet34 = 21797672, resnet50 = 25557032,
        resnet101 = 44549160, resnet152 = 60192808, vgg16 = 138357544, efficientnet_lite0 = 4652008,
    }
    for name, parameters in pairs(published) do
        it(name .. " has its published number of parameters", function()
            local g = load(name)
            assert.are.equal(parameters, count(g))
            assert.are.same({3, 224, 224}, g.input)
            assert.are.equal(1000, g.classes)
            assert.are.equal(256, g.preprocess.resize)
            assert.are.equal(224, g.preprocess.crop)
            collectgarbage()
        end)
    end

    it("name parameters as torchvision does", function()
        local s = shapes(load "resnet50")
        assert.are.equal("64x3x7x7", s["conv1.weight"])
        assert.are.equal("256x64x1x1", s["layer1.0.downsample.0.weight"])
        assert.are.equal("256", s["layer1.0.downsample.1.running_var"])
        assert.are.equal("512x512x3x3", s["layer4.2.conv2.weight"])
        assert.is_nil(s["layer1.1.downsample.0.weight"])
        assert.are.equal("1000x2048", s["fc.weight"])
        s = shapes(load "resnet101")
        assert.are.equal("256x1024x1x1", s["layer3.22.conv1.weight"])
        assert.is_nil(s["layer3.23.conv1.weight"])
        assert.are.equal("1000x2048", s["fc.weight"])
        s = shapes(load "efficientnet_lite0")
        assert.are.equal("32x1x3x3", s["_blocks.0._depthwise_conv.weight"])
        assert.is_nil(s["_blocks.0._expand_conv.weight"])
        assert.are.equal("320x1152x1x1", s["_blocks.15._project_conv.weight"])
        assert.are.equal("1280", s["_bn1.running_mean"])
    end)

    it("are small enough to be bundled", function()
        assert.is_true(count(load "fashion") < 400000)
        assert.are.equal(784 * 256 + 256 + 2560 + 10, count(load "mlp"))
    end)

    it("work at other sizes and with other heads", function()
        local g = load("resnet18", {input = {3, 65, 97}, classes = 5})
        assert.are.same({2, 5}, g:forward(tensor.uniform("x", {2, 3, 65, 97})):shape())
        assert.are.same({3, 96, 96}, load("resnet18", {crop = 96}).input)
        g = load("efficientnet_lite0", {input = {3, 57, 72}, classes = 3})
        assert.are.same({1, 3}, g:forward(tensor.uniform("x", {1, 3, 57, 72})):shape())
        g = load("alexnet", {input = {3, 70, 80}, classes = 2})
        assert.are.same({1, 2}, g:forward(tensor.uniform("x", {1, 3, 70, 80})):shape())
        local nothing, message = net.load("nets/vgg16.lua", {init = "he", input = {3, 16, 16}})
        assert.is_nil(nothing)
        assert.matches("nets/vgg16.lua:%d+: .*maxpool", message)
    end)

    describe("in a small form", function()
        local parameters = {alexnet = 92186, resnet18 = 175738, vgg16 = 255514, resnet34 = 334490,
            resnet152 = 925498}
        for name, wanted in pairs(parameters) do
            it(name .. " has the layers of its own, an eighth as wide at most", function()
                local small = load(name, {stem = "small", input = {1, 28, 28}, classes = 2,
                    mean = 0.3, std = 0.4})
                assert.are.equal(wanted, count(small))
                local own = {}
                for _, p in ipairs(load(name):parameters()) do own[p.name] = p.shape end
                for _, p in ipairs(small:parameters()) do
                    assert.is_true(8 * p.shape[1] <= own[p.name][1] or p.shape[1] == 2, p.name)
                    own[p.name] = nil
                end
                assert.is_nil(next(own))
                local z = small:forward(tensor.uniform("x", {2, 1, 28, 28}))
                assert.are.same({2, 2}, z:shape())
                collectgarbage()
            end)
        end

        it("is refused where a definition has none", function()
            local nothing, message = net.load("nets/mlp.lua", {init = "he", stem = "small"})
            assert.is_nil(nothing)
            assert.matches("nets/mlp.lua: there is no stem 'small'$", message)
            nothing, message = net.load("nets/vgg16.lua", {init = "he", stem = "tiny"})
            assert.is_nil(nothing)
            assert.matches("there is no stem 'tiny', but 'small'$", message)
        end)
    end)

    it("take another normalisation", function()
        local x = tensor.uniform("x", {2, 1, 28, 28})
        local z = load("mlp", {init = "golden", mean = {0.25}, std = 0.5}):forward(x)
        local plain = load("mlp", {init = "golden", mean = 0, std = 1})
        local expected = plain:forward(x:sub(0.25):div(0.5))
        for i = 1, 2 do
            for k = 1, 10 do assert.near(expected:get(i, k), z:get(i, k), 1e-5) end
        end
        local _, message = net.load("nets/mlp.lua", {init = "he", mean = {1, 2}})
        assert.matches("mean and std need 1 or 1 finite numbers each", message)
        _, message = net.load("nets/mlp.lua", {init = "he", std = 0})
        assert.matches("std above 0", message)
    end)
end)

describe("a net's precision", function()
    it("is the command line's or its own, and one that there is", function()
        assert.are.equal("f32", load("mlp").precision)
        assert.are.equal("bf16", load("mlp", {precision = "bf16"}).precision)
        assert.has_error(function() load("mlp", {precision = "f16"}) end,
            "precision must be 'f32', 'mixed', 'bf16' or 'tf32', got 'f16'")
    end)

    it("leaves training in f32", function()
        local z = {}
        for _, p in ipairs {"f32", "bf16"} do
            z[p] = load("mlp", {precision = p}):training_plan(2):forward(
                tensor.uniform("input", {2, 1, 28, 28}))
        end
        assert.is_true(z.f32:equal(z.bf16))
        local g = load("mlp")
        assert.has_error(function()
            g.graph:plan {purpose = "training", batch = 2, precision = "mixed"}
        end)
    end)

    it("refuse a part of a batch that is in no whole", function()
        local g = assert(net.load("fashion"))
        for _, part in ipairs {{0, math.mininteger}, {0, math.maxinteger}, {0, 1}, {1, 2}, {-1, 4}} do
            assert.error_matches(function()
                g.graph:plan {purpose = "training", batch = 2, first = part[1], whole = part[2]}
            end, "the part exceeds the shared batch")
        end
    end)
end)

describe("a definition that is wrong", function()
    local function message_of(text)
        local path = scratch(".lua", text)
        local g, message = net.load(path, {init = "he"})
        assert.is_nil(g)
        assert.is_nil(message:find("\n"))
        return message, path
    end
    local function drawn(line)
        return message_of("return {classes = 2, input = {1, 8, 8},\nbuild = function(b, x)\n"
            .. line .. "\nreturn z end}")
    end

    it("is named with its line", function()
        local _, none = net.load("nets/none.lua")
        assert.matches("^no network definition 'nets/none.lua'", none)
        assert.matches("lua:1: .*expected", (message_of "return {"))
        assert.matches("lua:2: boom$", (message_of "\nerror 'boom'"))
        assert.matches("must return a table, not", (message_of "return 1"))
        assert.matches("has no function 'build'", (message_of "return {classes = 2}"))
        for field, wanted in pairs {
            ["name = 5"] = "needs 'name', text", ["weights = {}"] = "needs 'weights', text",
            ["branch_end = 1"] = "needs 'branch_end', text",
            ["preprocess = 5"] = "needs 'preprocess', a table",
            ["preprocess = {resize = '256'}"] = "needs 'preprocess.resize', a whole number",
            ["preprocess = {crop = 65536}"] = "needs 'preprocess.crop', a whole number",
            ["defaults = 'x'"] = "needs 'defaults', a table",
            ["defaults = {alpha = 0}"] = "needs 'defaults.alpha', a number above 0",
            ["defaults = {magnitude = '1'}"] = "needs 'defaults.magnitude', a number above 0",
            ["preproces = {}"] = "'preproces' is unknown; did you mean 'preprocess'",
            ["preprocess = {size = 3}"] = "preprocess: 'size' is unknown; did you mean 'resize'",
        } do
            assert.matches(wanted, (message_of("return {classes = 2, input = {1, 8, 8}, " .. field
                .. ", build = function(b, x) return b:linear(x, 'a', 2) end}")))
        end
        assert.matches("lua:3: conv needs the name", (drawn "local z = b:conv(x)"))
        assert.matches("lua:3: conv: kernel must be", (drawn "local z = b:conv(x, 'c', {out = 2})"))
        assert.matches("lua:3: .*input 2 is not a layer's output", (drawn "local z = b:add(x, nil)"))
        assert.matches("lua:3: conv: 'padding' is unknown; did you mean 'pad'",
            (drawn "local z = b:conv(x, 'c', {out = 2, kernel = 3, padding = 1})"))
        assert.matches("lua:3: maxpool: 'size' is unknown",
            (drawn "local z = b:maxpool(x, {size = 2})"))
        assert.matches("lua:3: .*larger than its padded input",
            (drawn "local z = b:conv(x, 'c', {out = 2, kernel = 9})"))
        assert.matches("lua:3: two layers have a parameter named 'a.weight'",
            (drawn "x = b:linear(x, 'a', 2) x = b:linear(x, 'a', 2)"))
        assert.matches("returns %[1,8,8%], which is not one logit for each of 2 classes",
            (drawn "local z = b:relu(x)"))
        assert.matches("must return the logits, the layer it added last",
            (drawn "local z = b:linear(x, 'a', 2) b:relu(z)"))
        assert.matches("must return the logits", (drawn "b:linear(x, 'a', 2)"))
    end)

    it("is no excuse to go on after an interrupt", function()
        local interrupt = 'require "advrt.support.fail".interrupted()'
        for _, text in ipairs {
            interrupt,
            "return {classes = 2, input = {1, 8, 8}, build = function() " .. interrupt .. " end}",
        } do
            local ok, problem = pcall(net.load, scratch(".lua", text), {init = "he"})
            assert.is_false(ok)
            assert.are.equal(130, problem.status)
        end
    end)

    it("is found from the installation's nets/ by its name", function()
        assert.are.equal("mlp", assert(net.load("mlp", {init = "he"})).name)
        assert.matches("nets/mlp.lua$", net.load("mlp.lua", {init = "he"}).definition)
    end)
end)

describe("weights", function()
    local function state_of(name) return load(name, {init = "golden"}):state() end
    local function misfit(state)
        local path = scratch(".safetensors")
        assert(weights.save(path, state))
        local g, message = net.load("nets/mlp.lua", {weights = path})
        assert.is_nil(g)
        assert.is_nil(message:find("\n"))
        return message
    end

    it("load by name and give the same logits", function()
        local path, g = scratch(".safetensors"), load("fashion", {init = "golden"})
        assert(g:save(path))
        local again = assert(net.load("nets/fashion.lua", {weights = path}))
        assert.are.equal(path, again.weights)
        local x = tensor.uniform("x", {3, 1, 28, 28})
        assert.are.same(g:forward(x):totable(), again:forward(x):totable())
    end)

    it("may carry PyTorch's batch counters", function()
        local path, state = scratch(".safetensors"), state_of "mlp"
        state["bn1.num_batches_tracked"] = tensor.from({3}, "i64")
        assert(weights.save(path, state))
        assert.is_truthy(net.load("nets/mlp.lua", {weights = path}))
    end)

    it("that do not fit are named, each parameter of them", function()
        local state = state_of "mlp"
        state["hidden.bias"] = nil
        state["extra.weight"] = tensor.new {2}
        state["out.weight"] = tensor.new {10, 100}
        local message = misfit(state)
        assert.matches("do not fit net mlp", message)
        assert.matches("missing: hidden.bias;", message)
        assert.matches("unexpected: extra.weight;", message)
        assert.matches("misshaped: out.weight %(%[10,100%], wanted %[10,256%]%)$", message)
    end)

    it("of quite another net are counted, and the first few named", function()
        local other = load("resnet18", {input = {3, 32, 32}}):state()
        local message = misfit(other)
        assert.matches("missing: hidden.bias, hidden.weight, out.bias, out.weight;", message)
        assert.matches("102 unexpected: bn1.bias, bn1.running_mean, .*, bn1.weight, conv1.weight and "
            .. "97 more", message)
    end)

    it("may carry the prefixes of wrappers, which all names share", function()
        local path, wrapped = scratch(".safetensors"), {}
        for name, t in pairs(state_of "mlp") do wrapped["state_dict.module." .. name] = t end
        assert(weights.save(path, wrapped))
        assert(net.load("nets/mlp.lua", {weights = path}))
        wrapped["step"] = tensor.new {1}
        assert.matches("1 unexpected: step; %-%-weights%-key state_dict.module selects", misfit(wrapped))
    end)

    it("are asked for where a net has none bundled, and must be there", function()
        local g, message = net.load("nets/resnet18.lua")
        assert.is_nil(g)
        assert.matches("resnet18 has no bundled weights", message)
        g, message = net.load("nets/resnet18.lua", {weights = "no/such.pth"})
        assert.is_nil(g)
        assert.matches("no/such.pth", message)
    end)

    it("have no place for a new head in a net without a linear layer", function()
        local path = scratch(".safetensors")
        local d = {name = "convs", classes = 2, input = {1, 3, 3},
            build = function(b, x) return b:conv(x, "c", {out = 2, kernel = 3}) end}
        assert(assert(net.build(d, {init = "golden"})):save(path))
        assert(net.build(d, {weights = path}))
        local g, message = net.build(d, {weights = path, new_head = true})
        assert.is_nil(g)
        assert.are.equal("net convs has no linear layer that could be a new head", message)
    end)

    it("leave a new head alone", function()
        local path, g = scratch(".safetensors"), load("fashion", {init = "golden"})
        assert(g:save(path))
        local two = assert(net.load("nets/fashion.lua",
            {weights = path, classes = 2, new_head = true, seed = 4}))
        assert.are.same(g:state()["conv1.weight"]:totable(), two:state()["conv1.weight"]:totable())
        assert.are.same({2, 64}, two:state()["fc.weight"]:shape())
        assert.are.same({0, 0}, two:state()["fc.bias"]:totable())
    end)
end)

describe("a net in use", function()
    local g = load("mlp", {init = "golden"})

    it("says at the caller's line what shape it wants", function()
        local wrong = {
            ["got %[8,3,28,28%]"] = tensor.new {8, 3, 28, 28},
            ["got %[28,28%]"] = tensor.new {28, 28},
            ["of f64"] = tensor.new({1, 1, 28, 28}, "f64"),
            ["got table"] = {},
            ["got nil"] = false,
            ["got userdata"] = io.stdout,
        }
        for pattern, x in pairs(wrong) do
            for _, method in ipairs {"forward", "trace", "gradient"} do
                local ok, message = pcall(function() g[method](g, x or nil) end)
                assert.is_false(ok)
                assert.matches("nets_spec.lua:%d+: bad argument #1 to '" .. method, message)
                assert.matches("net wants %[N,1,28,28%], .*" .. pattern, message)
            end
        end
    end)

    it("says at the caller's line that loss or target is none", function()
        local x = tensor.uniform("x", {2, 1, 28, 28})
        local function refused(wanted, ...)
            local given = table.pack(...)
            local ok, message = pcall(function()
                g:gradient(x, table.unpack(given, 1, given.n))
            end)
            assert.is_false(ok)
            assert.matches("^[^\n]*nets_spec.lua:%d+: bad argument #" .. wanted, message)
        end
        refused("2 to 'gradient' .*such as loss.ce, got nil", nil, {1, 2})
        refused("2 .*got function", print, {1, 2})
        refused("3 to 'gradient' .*target%[2%]: want a class in 0 .. 9, got 99", loss.ce, {1, 99})
        refused("3 .*target%[1%].*got %-1", loss.ce, tensor.from({-1, 0}, "i64"))
        refused("3 .*want 2 classes, one for each image, got 1", loss.ce, {1})
        refused("3 .*one for each image, got nil", loss.ce)
        refused("3 .*one for each image, got userdata", loss.ce, io.stdout)
    end)

    it("gives several gradients for one forward, each the one it gives alone", function()
        local x, t = tensor.uniform("x", {2, 1, 28, 28}), {3, 4}
        local z, q = g:gradients(x, {loss.ce, loss.m_logit, 7, loss.ce_sign}, t)
        local wanted_z, ce = g:gradient(x, loss.ce, t)
        assert.is_true(z:equal(wanted_z))
        assert.is_true(q[1]:equal(ce))
        for i, one in pairs {[2] = loss.m_logit, [4] = loss.ce_sign} do
            local _, alone = g:gradient(x, one, t)
            assert.is_true(q[i]:equal(alone))
        end
        local _, logit = g:gradient(x, loss.logit, {7, 7})
        assert.is_true(q[3]:equal(logit))
        for wanted, list in pairs {
            ["2 .*list of losses and classes"] = loss.ce, ["2 .*%(1: class 10 of 10"] = {10},
            ["2 .*%(1: .*such as loss.ce"] = {print}, ["3 .*target"] = {loss.logit},
        } do
            local ok, message = pcall(function() g:gradients(x, list, nil) end)
            assert.is_false(ok)
            assert.matches("nets_spec.lua:%d+: bad argument #" .. wanted, message)
        end
    end)

    it("reads new weights of another initialisation where the old ones lay", function()
        local own = load("mlp", {init = "golden"})
        local x = tensor.uniform("x", {2, 1, 28, 28})
        own:forward(x)
        own.graph:init_he(1)
        local z = own:forward(x)
        own:forget_plans()
        assert.is_true(z:equal(own:forward(x)))
    end)

    it("keeps what is read again behind layers that do nothing", function()
        -- a's value is read once more, late, through `idle` and so may not be summed into.
        local function build(idle)
            local function draw(b, x)
                local function conv(y, name)
                    return b:conv(y, name, {out = 16, kernel = 3, pad = 1})
                end
                local a = b:relu(conv(x, "a"))
                local c = conv(b:relu(conv(a, "b")), "c")
                local again, plain = idle(b, a)
                local sum = b:add(c, plain)
                return b:linear(b:add(b:relu(conv(sum, "d")), again), "fc", 3)
            end
            return assert(net.build({classes = 3, input = {4, 6, 6}, build = draw},
                {init = "golden"}))
        end
        local x = tensor.uniform("x", {2, 4, 6, 6})
        local wanted = build(function(_, a) return a, a end)
        local cases = {
            function(b, a) return b:dropout(b:dropout(a)), a end,
            function(b, a) return b:dropout(b:adaptive_avgpool(a, {6, 6})), b:dropout(a) end,
            function(b, a)
                local first = b:dropout(a)
                return b:dropout(a), first
            end,
        }
        for _, idle in ipairs(cases) do
            local z, q = build(idle):gradient(x, loss.ce, {0, 1})
            local wanted_z, wanted_q = wanted:gradient(x, loss.ce, {0, 1})
            assert.is_true(wanted_z:equal(z))
            assert.is_true(wanted_q:equal(q))
        end
    end)

    it("may end in a ReLU, whose logits are written into any row of a tensor", function()
        local function build(b, x) return b:relu(b:linear(x, "a", 6)) end
        local d = {classes = 6, input = {2, 1, 1}, build = build}
        local x = tensor.uniform("x", {1, 2, 1, 1})
        local g6, all = assert(net.build(d, {init = "golden"})), tensor.new {8, 6}
        local z = all:narrow(8, 1)
        g6:trace(x, z)
        assert.is_true(z:equal(g6:forward(x)))
        assert.are.equal(0, all:narrow(1, 7):maximum())
        local q, state = g6:backward(tensor.from {{1, 1, 1, 1, 1, 1}}), g6:state()
        for c = 1, 2 do
            local sum = 0
            for k = 1, 6 do
                if z:get(1, k) > 0 then sum = sum + state["a.weight"]:get(k, c) end
            end
            assert.near(sum, q:get(1, c, 1, 1), 1e-6)
        end
    end)

    it("keeps one plan for each batch size and purpose", function()
        local x = tensor.uniform("x", {2, 1, 28, 28})
        g:forward(x)
        local plan = g.plans.forward[2]
        g:forward(x)
        assert.are.equal(plan, g.plans.forward[2])
        g:forward(tensor.uniform("x", {3, 1, 28, 28}))
        assert.are_not.equal(plan, g.plans.forward[3])
        g:forget_plans()
        assert.is_nil(next(g.plans.forward))
    end)

    it("gives a linear net's gradient exactly", function()
        local function build(b, x) return b:linear(x, "a", 3) end
        local d = {classes = 3, input = {2, 1, 1}, build = build}
        local line = assert(net.build(d, {init = "golden"}))
        local z = line:trace(tensor.uniform("x", {1, 2, 1, 1}))
        assert.are.same({1, 3}, z:shape())
        local q = line:backward(tensor.from {{0, 1, 0}})
        local w = line:state()["a.weight"]
        assert.near(w:get(2, 1), q:get(1, 1, 1, 1), 1e-7)
        assert.near(w:get(2, 2), q:get(1, 2, 1, 1), 1e-7)
        assert.is_true(q:equal(line:backward(tensor.from {{0, 1, 0}})))
        line:forget_plans()
        assert.has_error(function() line:backward(tensor.from {{0, 1, 0}}) end,
            "backward needs a trace before it")
    end)
end)
