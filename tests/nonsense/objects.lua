--- What a script can have in its hands: a maker of each kind of object, and calls that are right.
-- Made for a scratch folder, which is the current one.

local advrt = setmetatable({}, {__index = function(_, name) return require("advrt." .. name) end})
local core = setmetatable({}, {__index = function(_, name) return require("advrt.core." .. name) end})
local tensor = advrt.tensor
local onnx = dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "../onnx.lua")

local objects = {}

objects.dtypes = {"f32", "f64", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool"}

local taken = 0
--- A path in the scratch folder that was not used before.
local function path(suffix)
    taken = taken + 1
    return ("file%d%s"):format(taken, suffix or "")
end

local DEFINITION = {classes = 3, input = {1, 4, 4}, build = function(b, x)
    x = b:relu(b:batchnorm(b:conv(x, "conv", {out = 2, kernel = 3, pad = 1}), "bn"))
    return b:linear(b:maxpool(x, {kernel = 2}), "fc", 3)
end}
local DEFINITION_TEXT = [[return {classes = 3, input = {1, 4, 4},
build = function(b, x) return b:linear(x, "fc", 3) end}]]

local function write(name, bytes)
    local file = assert(io.open(name, "wb"))
    file:write(bytes)
    file:close()
    return name
end

--- Files that calls read.
function objects.prepare(lfs)
    write("net.lua", DEFINITION_TEXT)
    write("loss.lua", "loss.define('scratch', function(z, t) return z:gather(2, t) end)")
    write("model.onnx", onnx.model {graph = {
        nodes = {onnx.node("Gemm", {"x", "w"}, {"z"}, {transB = 1})},
        initializers = {onnx.reals("w", {2, 3}, {1, 2, 3, 4, 5, 6})},
        inputs = {onnx.value("x", {"N", 3})}, outputs = {onnx.value("z", {"N", 2})},
    }})
    write("images.idx", "\0\0\8\3\0\0\0\2\0\0\0\4\0\0\0\4" .. ("\7"):rep(32))
    write("labels.idx", "\0\0\8\1\0\0\0\2\0\1")
    assert(lfs.mkdir("images"))
    for i = 1, 2 do
        assert(core.image.save(("images/%d.png"):format(i), tensor.new({1, 4, 4}, "u8")))
    end
    write("images/labels.csv", "1.png,0\n2.png,2\n")
    assert(tensor.save("weights.safetensors", {a = tensor.new {2, 3}}))
    local part = core.record.part("some.part")
    part:append(core.record.pack {{"file", "a"}, {"l2", {1, 2.5}}})
    part:finish("some.msgpack")
end

local function images(n) return tensor.uniform("images", {n or 2, 1, 4, 4}) end
local function logits() return tensor.uniform("logits", {2, 3}) end
local function f64(n) return tensor.new({n or 2}, "f64") end

local function net() return assert(advrt.net.build(DEFINITION, {init = "he"})) end

local function graph()
    local g = core.net.new {1, 4, 4}
    g:add {kind = "linear", name = "fc", input = {1}, out = 3, bias = true}
    g:init_he(1)
    return g
end

local function plan(purpose)
    return function()
        local p = graph():plan {purpose = purpose, batch = 2}
        if purpose ~= "forward" then p:forward(images()) end
        return p
    end
end

local function solver()
    local s = core.lbfgsb.new(2, 16, {memory = 5, tolerance = 1e-9, gradient = 1e-5})
    s:start(1, images()[1])
    return s
end

local function feed(begun)
    local f = core.feed.new {shape = {1, 4, 4}}
    f:pixels(images(), 1)
    if begun then f:start {order = tensor.from({0, 1, 1}, "i64"), batch = 2} end
    return f
end

local function part()
    local p = assert(core.record.part(path(".part")))
    p:append(core.record.pack {{"file", "a"}})
    p:add("note", core.record.pack {{"epoch", 3}})
    return p
end

local function stream()
    return assert(core.weights.stream(path(".safetensors"), {{"n", "i64", {1}}, {"x", "f32", {2}}},
        {when = "last"}))
end

local function model() return assert(core.onnx.open("model.onnx")) end

local drawn -- the input of the builder made last
local function builder()
    local b
    b, drawn = require("advrt.nets.builder").new(core.net.new {1, 4, 4}, 3, {1, 4, 4})
    return b
end

--- Kind -> function that makes a new object of it.
objects.makers = {
    net = net, graph = graph, forward_plan = plan "forward", gradient_plan = plan "gradient",
    training_plan = plan "training", solver = solver, feed = feed, part = part, builder = builder,
    stream = stream, model = model,
    begun_feed = function() return feed(true) end,
    images = images, logits = logits, norms = f64,
    scalar = function() return tensor.new {} end,
    empty = function() return tensor.new {0} end,
    no_rows = function() return tensor.new {0, 3} end,
    no_columns = function() return tensor.new {2, 0} end,
    wide = function() return tensor.new {1, 1, 1, 1, 1, 1, 1, 2} end,
    of_nan = function() return tensor.from({{0 / 0, 1 / 0, -1 / 0}, {1, -0.0, 3e38}}) end,
    not_a_number_images = function() return images():fill(0 / 0) end,
    tracked = function() return advrt.autograd.track(logits()) end,
    tracked_images = function() return advrt.autograd.track(images()) end,
    value = function() return advrt.autograd.track(logits()):softmax(2):sum(2) end,
    next_record = function() return (advrt.record.each("some.msgpack")) end,
    reader = function() return select(4, advrt.record.each("some.msgpack")) end,
    editor = function() return core.edit.open(function() return "" end) end,
    hold = function() return core.system.hold_interrupts() end,
    failure = function() return core.system.failure("nothing", 1) end,
    loss = function() return advrt.loss.ce end,
    variant = function() return advrt.loss.m_logit {kappa = 5} end,
    defined = function() return advrt.loss.define("mine", function(z, t) return z:gather(2, t) end) end,
    equal_multiplier = function() return advrt.attack.equal_multiplier(0.1) end,
    equal_perturbation = function() return advrt.attack.equal_perturbation(0.1, {norm = "inf"}) end,
    fgs = function() return advrt.attacks.fgs {} end,
    pgd = function() return advrt.attacks.pgd {steps = 2} end,
    lbfgs = function() return advrt.attacks.lbfgs {} end,
    cw = function() return advrt.attacks.cw {} end,
    folder = function() return advrt["run.folder"].claim(path()) end,
    journal = function() return (advrt["run.journal"].open(path(".part"))) end,
    data = function() return advrt.data.folder("images", {classes = 3}) end,
    progress = function() return advrt["run.progress"].start("step", 10) end,
    sgd = function() return advrt.train.sgd {} end,
    adam = function() return advrt.train.adam {} end,
    tester = function() return advrt.theorem.tester(net(), 2) end,
    coroutine = function() return coroutine.create(function() coroutine.yield() end) end,
    file = function() return io.tmpfile() end,
}
for _, dtype in ipairs(objects.dtypes) do
    objects.makers[dtype] = function() return tensor.new({2, 3}, dtype) end
    objects.makers[dtype .. "_row"] = function() return tensor.new({2}, dtype) end
end

--- A call of a method of what `make` makes.
local function method(make, name, ...)
    local more = table.pack(...)
    return {name = name, make = function()
        local self = make()
        local arguments = {self}
        for i = 1, more.n do
            local v = more[i]
            if type(v) == "function" then v = v() end
            arguments[i + 1] = v
        end
        return self[name], arguments
    end}
end

--- A call of a function with these arguments, of which functions are called for theirs.
local function call(name, f, ...)
    local more = table.pack(...)
    return {name = name, make = function()
        local arguments = {}
        for i = 1, more.n do
            local v = more[i]
            if type(v) == "function" then v = v() end
            arguments[i] = v
        end
        return f, arguments
    end}
end

local backward_of_trace = {name = "backward", make = function()
    local p = plan "gradient" ()
    local _, trace = p:forward(images())
    return p.backward, {p, trace, logits(), images()}
end}

local function constant(v) return function() return v end end
local classes, index = constant {0, 2}, function() return tensor.from({0, 2}, "i64") end

--- Calls that succeed: each with its name and make() -> function, arguments, all of them new.
objects.calls = {
    call("tensor.new", tensor.new, constant {2, 3}, "i32"),
    call("tensor.from", tensor.from, constant {{1, 2}, {3, 4}}, "f64", constant {4}),
    call("tensor.uniform", tensor.uniform, "a", constant {2, 3}),
    call("tensor.normal", tensor.normal, "a", constant {2, 3}),
    call("tensor.stack", tensor.stack, function() return {logits(), logits()} end),
    call("tensor.concat", tensor.concat, function() return {logits(), logits()} end),
    call("tensor.sgd", tensor.sgd, logits, logits, logits, constant {rate = 0.1, momentum = 0.5}),
    call("tensor.adam", tensor.adam, logits, logits, logits, logits, constant {rate = 0.1, t = 1,
        beta1 = 0.9, beta2 = 0.99, eps = 1e-8, weight_decay = 0.1, decoupled = true}),
    call("tensor.tanh_step", tensor.tanh_step, function()
        return {x = images(), w = images(), m = images(), v = images(), q = images(), x0 = images(),
            c = f64(), l2 = f64(), t = index()}
    end, constant {rate = 0.1}),
    call("tensor.cross_entropy", tensor.cross_entropy, logits, classes, logits),
    call("tensor.norms", tensor.norms, images, f64, f64, f64),
    call("tensor.load", tensor.load, "weights.safetensors"),
    call("tensor.save", tensor.save, path(".msgpack"), function() return {a = logits()} end,
        constant {made = "here"}),
    call("loss.evaluate", core.loss.evaluate, "m_logit", {kappa = 20}, logits, classes, function()
        return tensor.new {2}
    end, logits),
    call("loss.stats", core.loss.stats, logits, classes, index, constant {}),
    call("loss.define", advrt.loss.define, "again",
        constant(function(z, t) return z:gather(2, t) end), constant {min_classes = 2}),
    call("loss.load", advrt.loss.load, "loss.lua"),
    call("net.new", core.net.new, constant {1, 4, 4}),
    call("net.load", advrt.net.load, "net.lua", constant {init = "golden", salt = "x",
        input = {1, 4, 4}, classes = 3, mean = 0.5, std = {0.5}}),
    call("net.load of a model", advrt.net.load, "model.onnx", constant {crop = 1, output = "z"}),
    call("onnx.open", core.onnx.open, "model.onnx"),
    call("net.build", advrt.net.build, constant(DEFINITION), constant {init = "he", seed = 3}),
    call("lbfgsb.new", core.lbfgsb.new, 2, 16, constant {memory = 5, tolerance = 0, gradient = 0}),
    call("weights.stream", core.weights.stream, path(".safetensors"),
        constant {{"n", "i64", {1}}, {"x", "f32", {2}}}, constant {when = "last"}),
    call("loss.records", core.loss.records),
    call("feed.new", core.feed.new, constant {shape = {1, 4, 4}, resize = 4, crop = 4, round = true}),
    call("image.load", core.image.load, "images/1.png", constant {resize = 9, crop = 5, channels = 3}),
    call("image.size", core.image.size, "images/1.png"),
    call("image.save", core.image.save, path(".png"), function() return images()[1] end),
    call("image.idx", core.image.idx, "images.idx"),
    call("image.show", advrt.image.show, images, path(".png")),
    call("transform.tv", core.transform.apply, "tv", 0.1, images),
    call("transform.median", core.transform.apply, "median", 3, images),
    call("transform.gaussian", core.transform.apply, "gaussian", 1.5, images),
    call("transform.jpeg", core.transform.apply, "jpeg", 75, images),
    call("transform.bits", core.transform.apply, "bits", 4, images),
    call("transform.pad", core.transform.apply, "pad", 0.25, images, constant {"a", "b"}),
    call("record.pack", core.record.pack, function()
        return {{"file", "a"}, {"l2", {1, 2.5}}, {"x", f64()}, {"on", true}, {"n", 7}}
    end),
    call("record.each", core.record.each, "some.msgpack"),
    call("record.part", core.record.part, path(".part"), "append"),
    call("record.part_recover", core.record.part_recover, "part"),
    call("system.sha256", core.system.sha256, "net.lua"),
    call("system.digest", core.system.digest, "bytes"),
    call("system.write", core.system.write, path(), "bytes"),
    call("system.replace", core.system.replace, "net.lua", path()),
    call("system.failure", core.system.failure, "message", 1),
    call("edit.keep", core.edit.keep, path(), "line"),
    call("attack.run", advrt.attack.run, function()
        return {net = net(), images = images(), labels = {0, 1}, targets = {1, 2},
            loss = advrt.loss.ce, multiplier = advrt.attack.equal_perturbation(0.05),
            iterations = 2, names = {"a", "b"}, progress = function() end, workspace = {}}
    end),
    call("attacks.run", advrt.attacks.run, function()
        return {attack = advrt.attacks.pgd {steps = 2}, net = net(), images = images(),
            labels = {0, 1}, targets = {1, 2}, batch = 2}
    end),
    call("attacks.run lbfgs", advrt.attacks.run, function()
        return {attack = advrt.attacks.lbfgs {}, net = net(), images = images(1), labels = {0}}
    end),
    call("data.folder", advrt.data.folder, "images", function()
        return {classes = 3, input = {1, 4, 4}, net = net()}
    end),
    call("data.circles", advrt.data.circles, 8, constant {}),
    call("data.targets", advrt.data.targets, "offset:1", 3, 0),
    call("csv.parse", advrt["support.csv"].parse, 'a,b\n"c",d\n'),
    call("json.decode", advrt["support.json"].decode, '{"a":[1,2]}'),
    call("docs.help", advrt["session.docs"].help, "tensor.new", constant {tensor = tensor}),
    call("attacks.parse", advrt.attacks.parse, "pgd:steps=3,cw:kappa=1"),

    method(graph, "add", constant {kind = "conv", name = "c", input = {1}, out = 4, kernel = {3, 3},
        stride = {1, 2}, pad = {1, 1, 1, 1}, groups = 1, bias = true}),
    method(graph, "add", constant {kind = "maxpool", input = {1}, kernel = {2, 2}, stride = {2, 2},
        pad = {0, 0, 1, 1}, ceil_mode = true}),
    method(graph, "add", constant {kind = "adaptive_avgpool", input = {1}, grid = {2, 3}}),
    method(graph, "add", constant {kind = "normalize", input = {1}, mean = {0.5}, std = {2}}),
    method(graph, "add", constant {kind = "batchnorm", name = "b", input = {1}, eps = 1, momentum = 1}),
    method(graph, "add", constant {kind = "relu", input = {1}, cap = 6}),
    method(graph, "add", constant {kind = "add", input = {1, 1}}),
    method(graph, "add", constant {kind = "dropout", input = {1}, p = 0.5}),
    method(graph, "add", constant {kind = "linear", name = "l", input = {1}, out = 2, bias = false}),
    method(graph, "layers"), method(graph, "parameters"),
    method(graph, "set", "fc.weight", function() return tensor.new {3, 16} end),
    method(graph, "get", "fc.bias"),
    method(graph, "init_golden", "salt", ".bn"), method(graph, "init_he", 7),
    method(graph, "plan", constant {purpose = "gradient", batch = 2, direct = true}),
    method(graph, "plan", constant {purpose = "training", batch = 2, seed = 1, runs = 2}),
    method(plan "forward", "forward", images, logits),
    method(plan "gradient", "forward", images, logits),
    method(plan "gradient", "holds", 1), backward_of_trace,
    method(plan "training", "train_backward", logits),
    method(plan "training", "gradient", "fc.bias", function() return tensor.new {3} end),
    method(plan "gradient", "time", true),
    method(net, "forward", images, logits), method(net, "trace", images, logits),
    method(net, "gradient", images, constant(advrt.loss.ce), classes),
    method(net, "gradients", images, function() return {advrt.loss.ce, 1} end, classes),
    method(net, "plan", "gradient", 2), method(net, "training_plan", 2, 3, 4),
    method(net, "save", path(".safetensors")), method(net, "state"),
    method(solver, "start", 2, function() return images()[2] end),
    method(solver, "advance", images, images, function() return tensor.new {2} end,
        function() return tensor.from({1, 0}, "f64") end, f64, index),
    method(feed, "raw", "images.idx", "u8", 16, 2, index),
    method(feed, "raw", "images.idx", "f32", 0, 1, 3),
    method(feed, "file", "images/1.png", 1),
    method(feed, "pixels", function() return tensor.new({2, 1, 4, 4}, "u8") end, index),
    method(feed, "start", function()
        return {order = tensor.from({0, 1, 1}, "i64"), batch = 2, threads = 2, flip = true,
            shift = 1, stream = "s"}
    end),
    method(objects.makers.begun_feed, "next", images, index),
    method(stream, "put", ("\0"):rep(16)), method(stream, "finish"),
    method(part, "append", constant(core.record.pack {{"a", 1}})),
    method(part, "add", "bytes", "xyz"), method(part, "sync"), method(part, "kind", 1),
    method(part, "bytes", 2), method(part, "record", 1), method(part, "cut", 1),
    method(part, "write", path(".msgpack"), constant {1}), method(part, "finish", path(".msgpack")),
    method(model, "structure"), method(model, "tensor", function()
        return model():structure().graph.initializer[1].item
    end), method(model, "tensor_file", function()
        return model():structure().graph.initializer[1].item
    end),
    method(logits, "permute", constant {2, 1}),
    method(builder, "conv", function() return drawn end, "c",
        constant {out = 2, kernel = 3, stride = 1, pad = "same"}),
    method(objects.makers.editor, "read", "> "), method(objects.makers.editor, "remember", "line"),

    method(logits, "size", 1), method(logits, "get", 1, 2), method(logits, "set", 0.5, 1, 2),
    method(logits, "narrow", 1, 1), method(logits, "reshape", constant {-1, 2}),
    method(logits, "copy", logits), method(logits, "to", "u8"), method(logits, "fill", 2),
    method(images, "set_image", 1, function() return images()[1] end),
    method(images, "image_u8", 2), method(logits, "bytes"), method(logits, "totable"),
    method(images, "clamp", 0, 1), method(images, "clamp_", 0, 1), method(images, "quantize_", 255),
    method(images, "sum", 2, true), method(images, "mean", 3), method(images, "minimum", 4),
    method(images, "maximum", 1, true), method(logits, "argmax"), method(logits, "rank", index),
    method(logits, "equal", logits), method(images, "norms", f64, f64, f64),
    method(images, "step_", images, f64, images, f64, f64),
    method(images, "project_", images, f64, f64), method(images, "tanh_enter_", images, 0.01),
    method(logits, "norm", "2", 2, true), method(logits, "logsumexp", 2, true),
    method(logits, "softmax", 1), method(logits, "log_softmax", 2), method(logits, "topk", 2, 2),
    method(logits, "gather", 2, index), method(logits, "others", 2, index),
    method(function() return tensor.new {2} end, "scatter", 2, index, 3, true),
    method(logits, "scatter_others", 2, index),
    method(logits, "matmul", logits, "nt"),
    method(objects.makers.tracked, "gather", 2, classes),
    method(objects.makers.tracked, "topk", 2, 2), method(objects.makers.tracked, "reshape", constant {6}),
    method(objects.makers.tracked, "norm", 2, 2),
    method(objects.makers.journal, "begin", constant {{"about", "x"}}),
    method(objects.makers.folder, "write", "name", "text"),
}
for _, name in ipairs {"add", "sub", "mul", "div", "pow", "min", "max", "gt", "ge", "lt", "le", "eq",
    "keep", "share"} do
    table.insert(objects.calls, method(logits, name, function() return tensor.new {2, 1} end))
    if name ~= "share" then table.insert(objects.calls, method(objects.makers.tracked, name, logits)) end
end
for _, name in ipairs {"add_", "sub_", "mul_", "div_", "min_", "max_"} do
    table.insert(objects.calls, method(f64, name, f64))
end
for _, name in ipairs {"exp", "log", "log1p", "tanh", "sqrt", "abs", "sign_"} do
    table.insert(objects.calls, method(logits, name))
end

return objects
