--- One work, measured in a process of its own: rounds of ours, and of PyTorch's modes in turn.

local csv = require "advrt.support.csv"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local images = require "images"
local json = require "dkjson"
local net = require "advrt.net"
local peer = require "peer"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local weights = require "advrt.core.weights"
local work = require "work"

-- How far PyTorch's logits (relative to the largest) and images (1 - cosine) may be from ours before
-- the two cannot be the same work; deep nets of such weights amplify rounding to percents. What is
-- computed in bf16 is another work by intent.
local AGREEMENT = {logits = 1e-2, cosine = 5e-2}
-- How many images more or less a loss may flip in a whole experiment.
local FLIPS_APART = 2
-- PyTorch's ways of the same f32 work, of which the fastest is compared with.
local F32 = {eager = true, channels_last = true, channels_last_folded = true, compile = true}

local function summary(samples)
    local median, min, max = work.median(samples)
    return {median = median, min = min, max = max, rounds = samples}
end

--- Rounds of ours and of each of PyTorch's modes in turn: samples by name, and the most counted
-- allocations that a step of ours made in any round.
local function interleave(spec, step, steps, other, other_steps)
    local samples, takes = {advrt = {}}, 0
    for _, mode in ipairs(other and other.modes or {}) do samples[mode] = {} end
    for r = 1, spec.rounds do
        -- Wakes the threads and fills the caches that another has used; a process of its own starts with
        -- neither each time.
        if spec.what ~= "experiment" then step() end
        local before = system.memory().takes
        samples.advrt[r] = work.time(step, steps)
        takes = math.max(takes, (system.memory().takes - before) / steps)
        for _, mode in ipairs(other and other.modes or {}) do
            samples[mode][r] = other:ask("run", mode, other_steps[mode]).seconds
        end
    end
    return samples, takes
end

-- Training is left out: dropout draws from other streams.
local function check_agreement(spec, difference)
    for mode, by in pairs(spec.what ~= "training" and difference or {}) do
        for name, most in pairs(mode == "bf16" and {} or AGREEMENT) do
            if by[name] and by[name] > most then
                fail("%s: PyTorch's %s differ by %g in mode %s: not the same work", spec.name,
                    name == "logits" and "logits" or "images", by[name], mode)
            end
        end
    end
end

local function check_flips(spec, flips)
    for mode, by in pairs(spec.flips and flips or {}) do
        for name, count in pairs(F32[mode] and by or {}) do
            if math.abs(count - spec.flips[name]) > FLIPS_APART then
                fail("%s: %s flips %d images, in PyTorch's mode %s %d: not the same work", spec.name,
                    name, spec.flips[name], mode, count)
            end
        end
    end
end

--- The peak memory of a process that does nothing but two steps of PyTorch's best mode.
local function peer_peak(spec, mode)
    local other <close> = peer.start(spec, {mode})
    return other:ask("peak").rss
end

local function measure_peer(spec, step, steps)
    local result, samples, takes, modes
    do
        local other <close> = peer.start(spec, spec.modes)
        if other.missing then return {missing = other.missing}, interleave(spec, step, steps) end
        if #other.modes == 0 then fail("%s: PyTorch could run it in no mode", spec.name) end
        check_agreement(spec, other.difference)
        check_flips(spec, other.flips)
        local other_steps = {}
        for _, mode in ipairs(other.modes) do
            other_steps[mode] = work.steps_for(spec.seconds, other:ask("run", mode, 1).seconds)
        end
        samples, takes = interleave(spec, step, steps, other, other_steps)
        result, modes = {
            version = other.version, threads = other.threads, difference = other.difference,
            skipped = other.skipped, modes = {},
        }, other.modes
    end
    for _, mode in ipairs(modes) do
        result.modes[mode] = summary(samples[mode])
        local best = result.best and result.modes[result.best].median or math.huge
        if F32[mode] and result.modes[mode].median < best then result.best = mode end
    end
    result.peak_rss = result.best and peer_peak(spec, result.best)
    return result, samples, takes
end

--- Times the step in rounds, beside PyTorch where spec.python names one. Returns ours and PyTorch's.
-- memory: the peaks of the process that makes the steps, where that is another.
local function compare(spec, step, memory)
    local steps = memory and 1 or work.steps_for(spec.seconds, work.time(step, 1))
    -- The rounds to come take no more memory than the two steps did.
    local rss = memory and memory.peak_rss or work.peak_rss()
    local counted = memory and memory.counted_peak or system.memory().peak
    local theirs, samples, takes
    if spec.python then
        theirs, samples, takes = measure_peer(spec, step, steps)
    else
        samples, takes = interleave(spec, step, steps)
    end
    local ours = summary(samples.advrt)
    ours.peak_rss, ours.counted_peak, ours.takes_per_step = rss, counted, takes
    ours.steps_per_round = steps
    return ours, theirs
end

--- Nets have weights by formula: speed does not depend on their values, and no file is needed.
local function measure(spec)
    local g, message = net.load(spec.net, {init = "golden", precision = spec.precision})
    if not g then fail("%s", message) end
    local t = work.tensors(g, spec.batch)
    local labels, targets = work.classes(g, spec.batch)
    spec.task = {labels = labels, targets = targets, mean = g.preprocess.mean, std = g.preprocess.std}
    if spec.python then assert(g:save(spec.scratch .. "/weights.safetensors")) end
    local step = work.step(spec.what, g, t, labels, targets)
    step()
    if spec.python then assert(weights.save(spec.scratch .. "/tensors.safetensors", t)) end
    local ours, theirs = compare(spec, step)
    return {flops = work.PASSES[spec.what] * spec.batch * work.forward_flops(g.graph),
        advrt = ours, pytorch = theirs}
end

--- The images that each loss flips, from the table of a run.
local function flips_of(path)
    local flips, column = {}, {}
    for i, record in ipairs(assert(csv.parse(assert(csv.read(path))))) do
        for k, field in ipairs(record) do
            if i == 1 then column[field] = k end
        end
        if i > 1 then flips[record[column.loss]] = tonumber(record[column.flipped]) end
    end
    return flips
end

--- A whole experiment on the bundled net and images, from the start of the process to its last file.
-- PyTorch is given the images that are right as a tensor, and neither reads nor writes files.
local function measure_experiment(spec)
    local o = {net = spec.net, batch = spec.batch, targets = "random", seed = 0}
    local g = experiment.load_net(o)
    local right = images.right(o, g, experiment.open_images(o, g))
    local out, task = spec.scratch .. "/run", spec.scratch .. "/whole.json"
    local argv = {"--net", g.definition, "--batch", tostring(spec.batch), "--out", out, "--iterations",
        tostring(work.EXPERIMENT.iterations), "--no-figures"}
    assert(system.write(task, json.encode {measure = "whole", scratch = spec.scratch, argv = argv}))
    local command = ("rm -rf %s && %s --device %s --threads %d --plan %s --precision %s %s --child %s"
        .. " >%s 2>&1"):format(
        peer.quote(out), peer.quote(system.options.executable), system.options.device,
        system.options.threads, system.options.plan, spec.precision or system.options.precision,
        peer.quote(arg[0]), peer.quote(task), peer.quote(spec.scratch .. "/said"))
    local function step()
        if not os.execute(command) then fail("%s could not be run", spec.name) end
    end
    step()
    local file <close> = assert(io.open(spec.scratch .. "/result.json"))
    local memory = json.decode(file:read("a"))
    spec.flips = flips_of(out .. "/table1.csv")
    if spec.python then
        local n, input = #right.files, g.input
        assert(g:save(spec.scratch .. "/weights.safetensors"))
        assert(weights.save(spec.scratch .. "/tensors.safetensors", {x = right.x,
            z = tensor.new {n, g.classes}, dz = tensor.new {n, g.classes},
            q = tensor.new {n, table.unpack(input)}}))
    end
    spec.task = {labels = right.labels, targets = right.targets, mean = g.preprocess.mean,
        std = g.preprocess.std, experiment = {losses = work.EXPERIMENT.losses,
            iterations = work.EXPERIMENT.iterations, kappa = work.EXPERIMENT.kappa,
            magnitude = g.defaults.magnitude or 0.05, batch = spec.batch}}
    local ours, theirs = compare(spec, step, memory)
    ours.takes_per_step = nil
    return {flops = work.PASSES.experiment * #right.files * work.forward_flops(g.graph),
        advrt = ours, pytorch = theirs, images = #right.files, flips = spec.flips}
end

return {work = measure, experiment = measure_experiment}
