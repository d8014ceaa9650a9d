-- What a network definition asks of the builder: layers as they are meant, and mistakes named with the
-- line of the definition.

local net = require "advrt.net"
local support = require "tests.support"
local tensor = require "advrt.tensor"

local folder

-- The net, or the message with the definition's path cut to "net.lua", of a build whose third line is
-- this; `tail` is what stands below it.
local function drawn(line, tail)
    local path = support.write(folder .. "/net.lua",
        ("return {classes = 2, input = {1, 8, 8}, build = function(b, x)\n\n%s\n%s end}"):format(line,
            tail or "return z"))
    local g, message = net.load(path, {init = "golden"})
    return g, message and message:gsub(folder .. "/", "")
end

local function refused(line, wanted)
    local g, message = drawn(line)
    assert.is_nil(g, line)
    assert.equal("net.lua:3: " .. wanted, message)
end

describe("the builder", function()
    setup(function() folder = support.folder() end)
    teardown(function() support.remove(folder) end)

    it("adds any number of values", function()
        local x = tensor.uniform("x", {3, 1, 8, 8})
        local sum = {
            "local a, c = b:relu(x), b:maxpool(x, {kernel = 3, stride = 1, pad = 1})",
            "local s = b:add(a, x, c, x)", "local z = b:linear(s, 'out', 2)",
        }
        local g = assert(drawn(table.concat(sum, " ")))
        sum[2] = "local s = b:add(b:add(b:add(a, x), c), x)"
        local chained = assert(drawn(table.concat(sum, " ")))
        assert.same(chained:forward(x):totable(), g:forward(x):totable())
        sum[2] = "local s = b:add(a, x, c)"
        assert.not_same(assert(drawn(table.concat(sum, " "))):forward(x):totable(), g:forward(x):totable())
    end)

    it("has constants, which no weights hold and training leaves", function()
        local train = require "advrt.train"
        local d = {classes = 2, input = {1, 1, 2}, build = function(b, x)
            local mask = tensor.from {0, 3}
            local y = b:mul(b:linear(x, "f", 2), b:constant(mask))
            mask:fill(9) -- the net has its own
            return b:add(y, b:constant(tensor.from {1}))
        end}
        local g = assert(net.build(d, {init = "golden"}))
        assert.are.same({"f.weight", "f.bias"}, {g:parameters()[1].name, g:parameters()[2].name})
        assert.equal(2, #g:parameters())
        assert.is_nil(next(g:state(), next(g:state(), next(g:state()))))
        local x, optimiser = tensor.uniform("x", {2, 1, 1, 2}), train.sgd {rate = 0.5, weight_decay = 0.5}
        assert.equal(1, g:forward(x):get(1, 1))
        local plan = g:training_plan(2)
        plan:forward(x)
        plan:train_backward(tensor.from {{1, 1}, {1, -2}})
        assert.are.same({0, 0}, plan:gradient("f.weight")[1]:totable())
        optimiser:step(g, plan)
        g:forget_plans()
        assert.equal(1, g:forward(x):get(1, 1))
        local path = folder .. "/constants.safetensors"
        assert(g:save(path))
        local again = assert(net.build(d, {weights = path}))
        assert.are.same(g:forward(x):totable(), again:forward(x):totable())
        refused("local z = b:constant(3)", "constant needs a tensor of one dimension or more, got 3")
        refused("local z = b:parameter('p', {2}, {role = 'constant'})",
            "parameter: a constant needs its numbers, b:constant(tensor)")
    end)

    it("names the layers that there are, and one that is near", function()
        for line, near in pairs {["b:gelo(x)"] = "'gelo'; did you mean 'gelu'?", ["b:conf(x)"] =
            "'conf'; did you mean 'conv'?", ["b.Conv(x)"] = "'Conv'; did you mean 'conv'?",
            ["b:quite_unlike(x)"] = "'quite_unlike'"} do
            local g, message = drawn("local z = " .. line)
            assert.is_nil(g)
            local start = "net.lua:3: a net definition has no layer " .. near .. " (layers: "
            assert.equal(start, message:sub(1, #start))
            assert.truthy(message:find(", relu, relu6, ", 1, true))
        end
    end)

    it("refuses what is no layer's output, naming it", function()
        local no_output = " is not a layer's output of this net, got "
        for line, wanted in pairs {
            ["b:relu()"] = "relu: input 1" .. no_output .. "nil",
            ["b:conv('c', {out = 2})"] = "conv: input 1" .. no_output .. "'c'",
            ["b:linear({id = 1}, 'f', 2)"] = "linear: input 1" .. no_output .. "{id = 1}",
            ["b:add(x)"] = "add: input 2" .. no_output .. "nil",
            ["b:add(x, x, nil, x)"] = "add: input 3" .. no_output .. "nil",
            ["b:add {x, x}"] = "add: input 1" .. no_output .. "a table",
            ["b.relu(x)"] = "relu is called with a colon: b:relu(x, ...)",
            ["b.add(x, x)"] = "add is called with a colon: b:add(x, ...)",
            ["b:relu(x, 3)"] = "relu takes 1 argument, but argument 2 is 3",
            ["b:linear(x, 'f', 2, {}, 'relu')"] = "linear takes 4 arguments, but argument 5 is 'relu'",
        } do refused("local z = " .. line, wanted) end
    end)

    it("refuses arguments of another kind, naming layer, argument and value", function()
        local grid = "adaptive_avgpool: grid (the size of the output) "
        local average = "avgpool takes a table of attributes (kernel, stride, pad, ceil_mode, "
            .. "count_include_pad), got %s; for an output of a given size use adaptive_avgpool"
        local sizes = "must be a whole number of at least 1 or {height, width}, got "
        for line, wanted in pairs {
            ["b:adaptive_avgpool(x, {kernel = 2})"] = grid .. sizes .. "{kernel = 2}",
            ["b:adaptive_avgpool(x, 2.5)"] = grid .. sizes .. "2.5",
            ["b:adaptive_maxpool(x, {3, 2})"] = "adaptive_maxpool: a grid of 3 x 2 does not divide 8 x 8",
            ["b:avgpool(x, 1)"] = average:format(1), ["b:avgpool(x)"] = average:format(nil),
            ["b:avgpool(x, {2, 2})"] = average:format("{2, 2}"),
            ["b:avgpool(x, {grid = 2})"] =
                "avgpool: 'grid' is unknown (known: kernel, stride, pad, ceil_mode, count_include_pad)",
            ["b:avgpool(x, {kernel = 2, pad = 2})"] =
                "avgpool: padding must be 0 or more and less than the kernel",
            ["b:avgpool(x, {kernel = 3, pad = 2})"] = "avgpool: padding is at most half the kernel",
            ["b:avgpool(x, {kernel = 9})"] = "avgpool: the window is larger than its padded input",
            ["b:maxpool(x, 2)"] =
                "maxpool takes a table of attributes (kernel, stride, pad, ceil_mode), got 2",
            ["b:maxpool(x, {kernel = 2, stride = 0})"] = "maxpool: stride " .. sizes .. "0",
            ["b:maxpool(x, {kernel = 2, ceil_mode = 1})"] = "maxpool: ceil_mode must be true or false, got 1",
            ["b:conv(x, 'c', {out = '2', kernel = 3})"] =
                "conv: out must be a whole number of at least 1, got '2'",
            ["b:conv(x, 'c', {kernel = 3})"] = "conv: out must be a whole number of at least 1, got nil",
            ["b:conv(x, 'c', {out = 2, kernel = {3, 'a'}})"] = "conv: kernel " .. sizes .. "{3, 'a'}",
            ["b:conv(x, 'c', {out = 2, kernel = 3, pad = 'Same'})"] =
                "conv: pad must be a whole number of at least 0 "
                .. "or {height, width}, \"same\" or {top, left, bottom, right}, got 'Same'",
            ["b:conv(x, 'c', {out = 2, kernel = 3, groups = 2})"] =
                "layer 'c' (conv): groups must divide the input's and the output's channels",
            ["b:conv(x, 'c', {out = 2, kernel = 3, dilatoin = 2})"] = "conv: 'dilatoin' is unknown; "
                .. "did you mean 'dilation'? (known: out, kernel, stride, pad, dilation, groups, bias)",
            ["b:conv(x, 'c', {out = 2, kernel = 3, dilation = 0})"] = "conv: dilation " .. sizes .. "0",
            ["b:conv(x, 'c', {out = 2, kernel = 5, dilation = 2})"] =
                "layer 'c' (conv): the kernel is larger than its padded input",
            ["b:conv_transpose(x, 'c', {out = 2, kernel = 3, output_padding = 1})"] =
                "layer 'c' (conv_transpose): output_padding must be 0 or more and less than the stride",
            ["b:conv_transpose(x, 'c', {out = 2, kernel = 3, output_padding = -1})"] =
                "conv_transpose: output_padding must be a whole number of at least 0 or {height, "
                    .. "width}, got -1",
            ["b:conv_transpose(x, 'c', {out = 2, kernel = 3, pad = 'same'})"] =
                "conv_transpose: pad must be given in numbers, got 'same'",
            ["b:lrn(x)"] = "lrn: size must be a whole number of at least 1, got nil",
            ["b:lrn(x, {size = 2000})"] = "lrn: size must be 1 to 1024 channels",
            ["b:upsample(x)"] = "upsample needs either size, the output's {height, width}, or factor",
            ["b:upsample(x, {factor = 2, size = 3})"] =
                "upsample needs either size, the output's {height, width}, or factor",
            ["b:upsample(x, {factor = {2, -1}})"] =
                "upsample: factor must be a number greater than 0 or {height, width}, got {2, -1}",
            ["b:upsample(x, {factor = 0.1})"] = "resize: its output grid needs two sizes from 1 to 65536",
            ["b:upsample(x, {factor = 2, mode = 'cubic'})"] =
                "upsample: mode must be 'bilinear' or 'nearest' or 'nearest-exact', got 'cubic'",
            ["b:upsample(x, {factor = 2, align_corners = true})"] =
                "upsample: align_corners needs mode 'bilinear'",
            ["b:upsample(b:flatten(x), {factor = 2})"] = "resize: takes an image [C,H,W], got [64]",
            ["b:resize(x, {size = {4, 0}})"] = "resize: size " .. sizes .. "{4, 0}",
            ["b:resize(x, {size = 4, coordinates = 'tf_crop_and_resize'})"] = "resize: coordinates must be "
                .. "'align_corners' or 'asymmetric' or 'half_pixel' or 'pytorch_half_pixel', "
                .. "got 'tf_crop_and_resize'",
            ["b:resize(x, {size = 4, mode = true})"] = "resize: mode must be 'linear' or 'nearest', got true",
            ["b:conv_transpose(b:maxpool(x, {kernel = 8}), 'c', {out = 2, kernel = 3, pad = 2})"] =
                "layer 'c' (conv_transpose): the padding removes its whole output",
            ["b:batchnorm(x, 'n', {eps = '1e-3'})"] = "batchnorm: eps must be a number, got '1e-3'",
            ["b:batchnorm(x)"] = "batchnorm needs the name of its parameters, got nil",
            ["b:linear(x, 2)"] = "linear needs the name of its parameters, got 2",
            ["b:linear(x, 'f')"] = "linear: out must be a whole number of at least 1, got nil",
            ["b:linear(x, 'f', 2, false)"] = "linear takes a table of attributes "
                .. "(bias, flatten, attention), got false",
            ["b:dropout(x, 'half')"] = "dropout: p must be a number, got 'half'",
            ["b:dropout(x, 1)"] = "dropout: its probability must be in [0, 1)",
            ["b:add(x, b:maxpool(x, {kernel = 2}))"] = "add: [1,8,8] and [1,4,4] differ in shape",
        } do refused("local z = " .. line, wanted) end
    end)

    it("names the lines of build where the call was the whole of a return", function()
        local _, message = drawn("", "return b:linear(x, 'f')")
        local problem = "linear: out must be a whole number of at least 1, got nil"
        assert.equal("net.lua: build, lines 1 to 4: " .. problem, message)
        _, message = drawn("local function last(y) return b:linear(y, 'f') end local z = last(x)")
        assert.equal("net.lua:3: " .. problem, message)
    end)

    it("names a layer whose output nothing reads, with its line", function()
        local unread = "no layer reads the output of "
        refused("b:conv(x, 'c', {out = 2, kernel = 3}) local z = b:linear(x, 'f', 2)", unread .. "conv 'c'")
        refused("local y = b:relu(x) local z = b:linear(x, 'f', 2)", unread .. "relu")
        local _, message = drawn("b:linear(x, 'f', 2) local z = b:linear(x, 'g', 2)")
        assert.equal("net.lua:3: " .. unread .. "linear 'f'", message)
    end)

    it("has fields that may be nil", function()
        assert(drawn("assert(b.stem == nil and b.classes == 2) local z = b:linear(x, 'f', b.classes)"))
    end)
end)

describe("a file that is no definition", function()
    it("is not parsed as Lua: the message says what is wanted, and where weights go", function()
        local dir = support.folder()
        finally(function() support.remove(dir) end)
        local g = assert(net.load("mlp", {init = "golden"}))
        assert(g:save(dir .. "/mlp.safetensors"))
        support.write(dir .. "/mlp.pth", "PK\3\4\0\0\8\8\0\0archive/data.pkl")
        support.write(dir .. "/mlp.png", "\137PNG\r\n\26\n\0\0\0\rIHDR")
        for _, kind in ipairs {"safetensors", "pth", "png"} do
            local path = dir .. "/mlp." .. kind
            local nothing, message = net.load(path)
            assert.is_nil(nothing)
            assert.equal(path .. ": is a binary file; a net is a Lua file such as nets/mlp.lua, or an ONNX "
                .. "model (.onnx); weights go to --weights (in Lua: {weights = FILE})", message)
        end
    end)

    it("may begin with a byte-order mark, a line for the shell, or a name in UTF-8", function()
        local text = "return {name = 'größer', classes = 2, input = {1, 2, 2}, build = function(b, x) "
            .. "return b:linear(x, 'f', 2) end}"
        for _, start in ipairs {"", "\239\187\191", "#!/usr/bin/advrt\n", "\t\12\r\n"} do
            local path = os.tmpname()
            support.write(path, start .. text)
            local g, message = net.load(path, {init = "golden"})
            os.remove(path)
            assert.truthy(g, message)
        end
    end)
end)
