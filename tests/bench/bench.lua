--- How fast advrt is and how much memory it takes, beside PyTorch on the same machine.
--
--     build/advrt tests/bench/bench.lua [--works resnet50:8:gradient,...] [--rounds N] [--out FILE]
--
-- A work is NET:BATCH:WHAT, where WHAT is
--     forward   logits of a batch
--     gradient  forward, and the gradient with respect to the images for given logit gradients
--     training  forward in training mode, cross-entropy, the parameters' gradients, one SGD update
--     attack    ten steps of cross-entropy under equal perturbation, all that attack.run does
-- Each runs in a process of its own, so that peaks of memory do not add up. With BENCH_PYTHON, the
-- path of an interpreter that has torch, the same work on the same weights and images is timed in
-- PyTorch too (pytorch.py), in turns with ours, so that what else the machine does falls on both.
--
-- Nets have weights by formula: speed does not depend on their values, and no file is needed.

local attack = require "advrt.attack"
local fail = require "advrt.fail"
local json = require "dkjson"
local lfs = require "lfs"
local loss = require "advrt.loss"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local train = require "advrt.train"
local weights = require "advrt.core.weights"

local HERE = arg[0]:match("^(.*/)") or "./"
local WORKS = "resnet50:8:gradient,resnet50:1:gradient,resnet18:8:gradient,vgg16:4:gradient,"
    .. "alexnet:16:gradient,efficientnet_lite0:8:gradient,resnet18:16:training,"
    .. "fashion:32:gradient,fashion:32:attack"
local ATTACK_STEPS, ATTACK_NORM = 10, 0.05
local SGD = {rate = 1e-4, momentum = 0.9, weight_decay = 5e-4}
-- How far PyTorch's logits (relative to the largest) and images (1 - cosine) may be from ours before
-- the two cannot be the same work; deep nets of such weights amplify rounding to percents.
local AGREEMENT = {logits = 1e-2, cosine = 5e-2}
local MOST_ROUNDS, MOST_BATCH = 1000, 4096

-- How many times the FLOPs of one forward pass each work takes: the gradient with respect to a
-- layer's input costs what the layer costs, and so does that with respect to its weights. An
-- attack takes a gradient before each step and after the last, and tries its result rounded.
local PASSES = {forward = 1, gradient = 2, training = 3, attack = 2 * (ATTACK_STEPS + 1) + 1}

-- Counting -------------------------------------------------------------------

--- FLOPs of a forward pass of one image: 2 per multiply-add of convolutions and linear layers.
local function forward_flops(graph)
    local size, total = {}, 0
    for _, p in ipairs(graph:parameters()) do
        if p.role == "weight" then
            local n = 1
            for _, d in ipairs(p.shape) do n = n * d end
            size[p.name] = n
        end
    end
    for _, layer in ipairs(graph:layers()) do
        if layer.kind == "conv" or layer.kind == "linear" then
            total = total + 2 * size[layer.name .. ".weight"] * layer.H * layer.W
        end
    end
    return total
end

--- The most memory that this process has had resident, in bytes.
local function peak_rss()
    local file <close> = assert(io.open("/proc/self/status"))
    return 1024 * math.tointeger(file:read("a"):match("VmHWM:%s*(%d+)"))
end

local function summary(samples)
    local sorted = table.move(samples, 1, #samples, 1, {})
    table.sort(sorted)
    local n = #sorted
    return {
        median = (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2, min = sorted[1], max = sorted[n],
        rounds = samples,
    }
end

--- Seconds a step, of `steps` steps.
local function time(step, steps)
    local began = system.clock()
    for _ = 1, steps do step() end
    return (system.clock() - began) / steps
end

--- Steps that fill a round of `seconds`, from what one took.
local function steps_for(seconds, one) return math.max(1, math.ceil(seconds / one)) end

-- One work, in a process of its own -------------------------------------------

local set_up = {}

function set_up.forward(g, t)
    return function() g:forward(t.x, t.z) end
end

function set_up.gradient(g, t)
    return function()
        g:trace(t.x, t.z)
        g:backward(t.dz, t.q)
    end
end

function set_up.training(g, t, labels)
    local plan, optimiser = g:training_plan(t.x:size(1), 0), train.sgd(SGD)
    local y, dz = tensor.from(labels, "i64"), tensor.new(t.z:shape())
    return function()
        plan:forward(t.x, t.z)
        local value = tensor.cross_entropy(t.z, y, dz)
        if value ~= value then fail("training: the loss is not a number") end
        plan:train_backward(dz)
        optimiser:step(g, plan)
    end
end

function set_up.attack(g, t, labels, targets)
    local spec = {
        net = g, images = t.x, labels = labels, targets = targets, loss = loss.ce,
        multiplier = attack.equal_perturbation(ATTACK_NORM), iterations = ATTACK_STEPS,
        workspace = {},
    }
    return function() t.q = attack.run(spec).adversarial - t.x end
end

--- Starts pytorch.py on the work; talks over its standard input and a FIFO.
local Peer = {}
Peer.__index = Peer
Peer.__close = function(self)
    self.to:close()
    if self.from then self.from:close() end
end

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

--- One answer of PyTorch's process; a failure where it has ended instead.
function Peer:read()
    local answer = json.decode(self.from:read("l") or "")
    if type(answer) ~= "table" then fail("%s: PyTorch's process gave no answer", self.name) end
    return answer
end

function Peer:ask(...)
    self.to:write(table.concat({...}, " "), "\n")
    self.to:flush()
    return self:read()
end

local function new_peer(spec, modes)
    local fifo, task = spec.scratch .. "/answers", spec.scratch .. "/task.json"
    os.remove(fifo)
    if not os.execute("mkfifo " .. quote(fifo)) then fail("cannot make a FIFO in %s", spec.scratch) end
    local described = {
        net = spec.net, what = spec.what, modes = modes, threads = system.options.threads,
        labels = spec.labels, targets = spec.targets, sgd = SGD, mean = spec.mean, std = spec.std,
        attack = {steps = ATTACK_STEPS, norm = ATTACK_NORM},
        tensors = spec.scratch .. "/tensors.safetensors",
        weights = spec.scratch .. "/weights.safetensors",
    }
    assert(system.write(task, json.encode(described)))
    -- advrt bounds its own threads' spinning by this variable; PyTorch runs as it does by itself.
    local env = os.getenv("GOMP_SPINCOUNT") == "1000" and "env -u GOMP_SPINCOUNT " or ""
    local to = assert(io.popen(("exec %s%s %s %s >%s"):format(env, quote(spec.python),
        quote(HERE .. "pytorch.py"), quote(task), quote(fifo)), "w"))
    local peer = setmetatable({to = to, from = assert(io.open(fifo)), name = spec.name}, Peer)
    local hello = peer:read()
    if hello.missing then
        peer.missing = hello.missing
        return peer
    end
    peer.version, peer.modes, peer.skipped = hello.version, hello.modes, hello.skipped
    peer.difference, peer.threads = hello.difference, hello.threads
    return peer
end

--- Rounds of ours and of each of PyTorch's modes in turn: samples by name, and the most counted
-- allocations that a step of ours made in any round.
local function interleave(step, steps, rounds, peer, peer_steps)
    local samples, takes = {advrt = {}}, 0
    for _, mode in ipairs(peer and peer.modes or {}) do samples[mode] = {} end
    for r = 1, rounds do
        step() -- wakes the threads and fills the caches that another has used
        local before = system.memory().takes
        samples.advrt[r] = time(step, steps)
        takes = math.max(takes, (system.memory().takes - before) / steps)
        for _, mode in ipairs(peer and peer.modes or {}) do
            samples[mode][r] = peer:ask("run", mode, peer_steps[mode]).seconds
        end
    end
    return samples, takes
end

-- Training is left out: dropout draws from other streams.
local function check_agreement(spec, difference)
    for mode, by in pairs(spec.what ~= "training" and difference or {}) do
        for name, most in pairs(AGREEMENT) do
            if by[name] and by[name] > most then
                fail("%s: PyTorch's %s differ by %g in mode %s: not the same work", spec.name,
                    name == "logits" and "logits" or "images", by[name], mode)
            end
        end
    end
end

--- The peak memory of a process that does nothing but two steps of PyTorch's best mode.
local function peer_peak(spec, mode)
    local peer <close> = new_peer(spec, {mode})
    return peer:ask("peak").rss
end

local function measure_peer(spec, step, steps)
    local result, samples, takes, modes
    do
        local peer <close> = new_peer(spec, spec.modes)
        if peer.missing then return {missing = peer.missing}, interleave(step, steps, spec.rounds) end
        if #peer.modes == 0 then fail("%s: PyTorch could run it in no mode", spec.name) end
        check_agreement(spec, peer.difference)
        local peer_steps = {}
        for _, mode in ipairs(peer.modes) do
            peer_steps[mode] = steps_for(spec.seconds, peer:ask("run", mode, 1).seconds)
        end
        samples, takes = interleave(step, steps, spec.rounds, peer, peer_steps)
        result, modes = {
            version = peer.version, threads = peer.threads, difference = peer.difference,
            skipped = peer.skipped, modes = {},
        }, peer.modes
    end
    for _, mode in ipairs(modes) do
        result.modes[mode] = summary(samples[mode])
        if not result.best or result.modes[mode].median < result.modes[result.best].median then
            result.best = mode
        end
    end
    result.peak_rss = peer_peak(spec, result.best)
    return result, samples, takes
end

--- Images, and where the work has them: logits, their gradient, the images' gradient.
local function tensors_of(g, N)
    local t = {
        x = tensor.uniform("bench:images", {N, table.unpack(g.input)}),
        z = tensor.new {N, g.classes},
        dz = tensor.uniform("bench:dz", {N, g.classes}):sub_(0.5):div_(N),
        q = tensor.new {N, table.unpack(g.input)},
    }
    return t
end

local function measure(spec)
    local g, message = net.load(spec.net, {init = "golden"})
    if not g then fail("%s", message) end
    local t = tensors_of(g, spec.batch)
    spec.labels, spec.targets = {}, {}
    for i = 1, spec.batch do
        spec.labels[i], spec.targets[i] = (i - 1) % g.classes, i % g.classes
    end
    spec.mean, spec.std = g.preprocess.mean, g.preprocess.std
    if spec.python then assert(g:save(spec.scratch .. "/weights.safetensors")) end
    local step = set_up[spec.what](g, t, spec.labels, spec.targets)
    step()
    if spec.python then assert(weights.save(spec.scratch .. "/tensors.safetensors", t)) end
    local steps = steps_for(spec.seconds, time(step, 1))
    -- The rounds to come take no more than the two steps did.
    local rss, counted = peak_rss(), system.memory().peak
    local theirs, samples, takes
    if spec.python then
        theirs, samples, takes = measure_peer(spec, step, steps)
    else
        samples, takes = interleave(step, steps, spec.rounds)
    end
    local ours = summary(samples.advrt)
    ours.peak_rss, ours.counted_peak, ours.takes_per_step = rss, counted, takes
    ours.steps_per_round = steps
    return {flops = PASSES[spec.what] * spec.batch * forward_flops(g.graph), advrt = ours,
        pytorch = theirs}
end

-- The machine's peak -------------------------------------------------------------

-- Direct 3x3 convolutions of as many channels as come in: sizes that caches and vectors like.
local PEAK = {
    how = "best f32 rate of three direct 3x3 convolutions in a row: forward, batch 8, 64 channels "
        .. "at 56x56, 128 at 28x28, 256 at 14x14",
    shapes = {{64, 56}, {128, 28}, {256, 14}}, batch = 8, layers = 3, rounds = 5,
}

--- The most FLOP/s that direct convolutions reach here, by shape and over all.
local function measure_peak(spec)
    local result = {how = PEAK.how, shapes = {}, flops_per_second = 0}
    for _, shape in ipairs(PEAK.shapes) do
        local C, side = shape[1], shape[2]
        local g = assert(net.build({
            classes = C, input = {C, side, side},
            build = function(b, x)
                for i = 1, PEAK.layers do
                    x = b:conv(x, "conv" .. i, {out = C, kernel = 3, pad = 1, bias = false})
                end
                return b:avgpool(x, {1, 1})
            end,
        }, {init = "he", plan = "direct"}))
        local x, z = tensor.uniform("bench:peak", {PEAK.batch, C, side, side}),
            tensor.new {PEAK.batch, C}
        local function step() g:forward(x, z) end
        step()
        local best = time(step, 1)
        for _ = 1, steps_for(PEAK.rounds * spec.seconds, best) do
            best = math.min(best, time(step, 1))
        end
        local rate = PEAK.batch * forward_flops(g.graph) / best
        result.shapes[#result.shapes + 1] =
            {channels = C, side = side, flops_per_second = rate}
        result.flops_per_second = math.max(result.flops_per_second, rate)
    end
    return result
end

-- The parent: works one after the other, a table and a file ------------------------

local COLUMNS = {
    {"work", "%-30s"}, {"median s", "%9s"}, {"min", "%9s"}, {"max", "%9s"}, {"images/s", "%9s"},
    {"GFLOP/s", "%8s"}, {"of peak", "%8s"}, {"peak MB", "%8s"}, {"counted", "%8s"},
    {"allocs", "%7s"},
}
local COLUMNS_PYTORCH = {
    {"PyTorch s", "%10s"}, {"its best mode", "%21s"}, {"time", "%6s"}, {"memory", "%7s"},
}

local function print_row(cells, columns)
    local line = {}
    for i, column in ipairs(columns) do line[i] = column[2]:format(cells[i] or "") end
    print((table.concat(line, " "):gsub("%s+$", "")))
end

local function megabytes(bytes) return ("%.0f"):format(bytes / 1e6) end

local function number(format, v) return v and format:format(v) or "-" end

--- What follows from the measured: rates, shares and ratios, in place.
local function derive(r, peak)
    local a, p = r.advrt, r.pytorch
    a.images_per_second = r.batch / a.median
    a.flops_per_second = r.flops / a.median
    a.share_of_peak = a.flops_per_second / peak.flops_per_second
    if p and p.best then
        r.ratio = {seconds = a.median / p.modes[p.best].median, peak_rss = a.peak_rss / p.peak_rss}
    end
end

local function row(r)
    local a, p = r.advrt, r.pytorch
    local cells = {
        r.work, ("%.4g"):format(a.median), ("%.4g"):format(a.min), ("%.4g"):format(a.max),
        ("%.4g"):format(a.images_per_second), ("%.1f"):format(a.flops_per_second / 1e9),
        ("%.0f %%"):format(100 * a.share_of_peak), megabytes(a.peak_rss),
        megabytes(a.counted_peak), ("%.4g"):format(a.takes_per_step),
    }
    if p then
        local best = p.best and p.modes[p.best]
        cells[#cells + 1] = number("%.4g", best and best.median)
        cells[#cells + 1] = p.best or p.missing
        cells[#cells + 1] = number("%.2f", r.ratio and r.ratio.seconds)
        cells[#cells + 1] = number("%.2f", r.ratio and r.ratio.peak_rss)
    end
    return cells
end

--- Runs this script anew on a spec; returns what it found.
local function in_child(spec)
    local question, answer = spec.scratch .. "/spec.json", spec.scratch .. "/result.json"
    os.remove(answer)
    assert(system.write(question, json.encode(spec)))
    local o = system.options
    local _, kind, status = os.execute(("%s --threads %d --plan %s --precision %s %s --child %s")
        :format(quote(o.executable), o.threads, o.plan, o.precision, quote(arg[0]),
            quote(question)))
    if kind == "signal" and status == 2 or status == 130 then fail.interrupted() end
    local file = io.open(answer)
    if status ~= 0 or not file then fail("%s could not be measured", spec.name) end
    local text = file:read("a")
    file:close()
    return (json.decode(text))
end

local function child(question)
    local file <close> = assert(io.open(question))
    local spec = json.decode(file:read("a"))
    local result = spec.what == "peak" and measure_peak(spec) or measure(spec)
    assert(system.write(spec.scratch .. "/result.json", json.encode(result)))
end

local function parse_works(text)
    local works = {}
    for word in (text .. ","):gmatch("([^,]*),") do
        local name, batch, what = word:match("^([^:]+):(%d+):(%a+)$")
        local N = math.tointeger(tonumber(batch))
        if not name or not N or N < 1 or N > MOST_BATCH or not PASSES[what] then
            fail.option("--works wants NET:BATCH:WHAT, WHAT one of forward, gradient, training, "
                .. "attack; got '%s'", word)
        end
        local d, message = net.definition(name)
        if not d then fail.option("--works: %s", message) end
        works[#works + 1] = {net = name, batch = N, what = what, name = word}
    end
    return works
end

local function parse(argv)
    local parser = require "argparse" ("bench.lua",
        "Times advrt, and PyTorch beside it where BENCH_PYTHON names an interpreter that has it.")
    parser:option("--works", "what to measure, with commas between: NET:BATCH:WHAT"):default(WORKS)
    parser:option("--rounds", "rounds of each, of which the median counts"):default("7")
    parser:option("--round-seconds", "what a round of each lasts at least"):default("0.3")
    parser:option("--out", "the file of results"):default("build/bench.json")
    parser:flag("--compile", "time torch.compile too, which takes minutes to start")
    local ok, o = parser:pparse(argv)
    if not ok then fail.option("%s", (o:match("^[^\n]*"))) end
    o.rounds, o.seconds = math.tointeger(tonumber(o.rounds)), tonumber(o.round_seconds)
    if not o.rounds or o.rounds < 1 or o.rounds > MOST_ROUNDS then
        fail.option("--rounds wants a whole number from 1 to %d", MOST_ROUNDS)
    end
    if not o.seconds or not (o.seconds >= 0 and o.seconds <= 60) then
        fail.option("--round-seconds wants a number from 0 to 60")
    end
    o.works = parse_works(o.works)
    return o
end

--- A folder beside the results for the children's files; removed at the end, whatever it is.
local function scratch_beside(out)
    local path = out .. ".work"
    os.execute("rm -rf " .. quote(path))
    local made, message = lfs.mkdir(path)
    if not made then fail("cannot make the folder %s: %s", path, message) end
    return setmetatable({path = path}, {__close = function(self)
        os.execute("rm -rf " .. quote(self.path))
    end})
end

local function machine()
    local file = io.open("/proc/cpuinfo")
    local model = file and file:read("a"):match("model name%s*:%s*([^\n]+)")
    if file then file:close() end
    return model or "unknown"
end

local function main(argv)
    local o = parse(argv)
    local python = os.getenv("BENCH_PYTHON")
    if python == "" then python = nil end
    local modes = {"eager", "channels_last", "channels_last_folded"}
    if o.compile then modes[#modes + 1] = "compile" end
    local scratch <close> = scratch_beside(o.out)
    local function spec_of(work)
        return {
            name = work.name, net = work.net, batch = work.batch, what = work.what, python = python,
            modes = modes, scratch = scratch.path, seconds = o.seconds, rounds = o.rounds,
        }
    end

    local s = system.options
    local peak = in_child(spec_of {what = "peak", name = "the machine's peak"})
    print(("%s, %d threads, %s, %s plan, %s"):format(machine(), s.threads, s.precision, s.plan, s.isa))
    print(("peak: %.1f GFLOP/s (%s); Winograd can exceed it"):format(
        peak.flops_per_second / 1e9, peak.how))
    print(("%d rounds of at least %g s"):format(o.rounds, o.seconds))
    local columns = table.move(COLUMNS, 1, #COLUMNS, 1, {})
    if python then table.move(COLUMNS_PYTORCH, 1, #COLUMNS_PYTORCH, #columns + 1, columns) end
    local header = {}
    for i, column in ipairs(columns) do header[i] = column[1] end
    print_row(header, columns)
    local results = {}
    for i, work in ipairs(o.works) do
        local r = in_child(spec_of(work))
        r.work, r.net, r.batch, r.what = work.name, work.net, work.batch, work.what
        derive(r, peak)
        results[i] = r
        print_row(row(r), columns)
        io.stdout:flush()
    end
    local document = {
        advrt = s.version, onednn = system.onednn_version, machine = machine(), threads = s.threads,
        isa = s.isa, plan = s.plan, precision = s.precision, rounds = o.rounds,
        round_seconds = o.seconds, peak = peak, works = results,
    }
    local done, message = system.write(o.out, json.encode(document, {indent = true}) .. "\n")
    if not done then fail("%s", message) end
    print("results: " .. o.out)
end

if arg[1] == "--child" then
    local ok, problem = pcall(child, arg[2])
    if not ok then
        -- The parent, which is interrupted too, is the one to say so.
        if fail.is(problem) and problem.status == 130 then os.exit(130) end
        error(problem, 0)
    end
else
    main(arg)
end
