--- What `make bench-scale` measures, each in a process of its own (child): a function from a spec to what
-- it found.

local attack = require "advrt.attack"
local data = require "advrt.data"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local loss = require "advrt.loss"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local work = require "work"

local studies = {}

local EXPERIMENT = "experiments/equal_perturbation.lua"

--- Bytes of this process that are resident now.
local function resident()
    local file <close> = assert(io.open("/proc/self/status"))
    return 1024 * math.tointeger(file:read("a"):match("VmRSS:%s*(%d+)"))
end

--- Seconds of one step of a work, over rounds, and its memory. spec: net, what, batch, and crop, the
-- images' size, or nil for the net's own; rounds, seconds.
function studies.step(spec)
    local g, message = net.load(spec.net, {init = "golden", crop = spec.crop})
    if not g then fail("%s", message) end
    local labels, targets = work.classes(g, spec.batch)
    local step = work.step(spec.what, g, work.tensors(g, spec.batch), labels, targets)
    step()
    local steps, samples = work.steps_for(spec.seconds, work.time(step, 1)), {}
    for r = 1, spec.rounds do samples[r] = work.time(step, steps) end
    local median, min, max = work.median(samples)
    return {seconds = median, min = min, max = max, peak_rss = work.peak_rss(),
        counted_peak = system.memory().peak}
end

local function run_experiment(spec)
    _G.arg = table.move(spec.argv, 1, #spec.argv, 1, {[0] = EXPERIMENT})
    dofile(system.options.root .. "/" .. EXPERIMENT)
end

--- A whole experiment. spec.argv: its arguments.
function studies.experiment(spec)
    local began = system.clock()
    run_experiment(spec)
    return {seconds = system.clock() - began, peak_rss = work.peak_rss(),
        counted_peak = system.memory().peak}
end

--- Attacks one after another in this process, each with buffers of its own, as a script has them that
-- keeps no workspace: {attacks, rss, counted} every spec.every of spec.attacks.
function studies.memory(spec)
    local g = assert(net.load("fashion"))
    local x = tensor.uniform("scale:images", {spec.batch, table.unpack(g.input)})
    local labels, targets = work.classes(g, spec.batch)
    local rows = {}
    for k = 1, spec.attacks do
        attack.run {net = g, images = x, labels = labels, targets = targets, loss = loss.ce,
            multiplier = attack.equal_perturbation(0.05), iterations = spec.iterations}
        if k % spec.every == 0 then
            collectgarbage()
            collectgarbage()
            rows[#rows + 1] = {k, resident(), system.memory().in_use}
        end
    end
    return rows
end

--- Seconds that listing a folder takes, its names into a table and no more: of the clock, and of the
-- processor (cpu), in which what else the machine does is not. And how many names there are.
function studies.listing(spec)
    local samples, cpu, count = {}, {}, 0
    for r = 1, spec.rounds do
        local began, busy, names = system.clock(), os.clock(), {}
        for name in lfs.dir(spec.dir) do names[#names + 1] = name end
        samples[r], cpu[r], count = system.clock() - began, os.clock() - busy, #names
    end
    return {seconds = (work.median(samples)), cpu = (work.median(cpu)), names = count}
end

--- Seconds, as above, from the start of an experiment until its first batch is read, where it is left;
-- or failed, why it did not come so far.
function studies.start(spec)
    local began, busy, open = system.clock(), os.clock(), data.folder
    local took, cpu
    function data.folder(...)
        local images = open(...)
        local batches = images.batches
        function images:batches(...)
            local next_batch = batches(self, ...)
            next_batch()
            took, cpu = system.clock() - began, os.clock() - busy
            fail("the first batch is there")
        end
        return images
    end
    local ok, problem = pcall(run_experiment, spec)
    if not took then return {failed = ok and "it reads no batch" or tostring(problem)} end
    return {seconds = took, cpu = cpu}
end

return studies
