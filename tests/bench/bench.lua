--- How fast advrt is and how much memory it takes, beside PyTorch on the same machine.
--
--     build/advrt tests/bench/bench.lua [--works resnet50:8:gradient,...] [--rounds N] [--out FILE]
--
-- A work is NET:BATCH:WHAT, or NET:BATCH:WHAT:PRECISION for another than the command line's, where
-- WHAT is
--     forward   logits of a batch
--     gradient  forward, and the gradient with respect to the images for given logit gradients
--     training  forward in training mode, cross-entropy, the parameters' gradients, one SGD update
--     attack    ten steps of cross-entropy under equal perturbation, all that attack.run does
--     experiment  experiments/equal_perturbation.lua on the bundled net's images with the four
--               losses: a process from its start to its last table
-- Each runs in a process of its own, so that peaks of memory do not add up. With BENCH_PYTHON, the
-- path of an interpreter that has torch, the same work on the same weights and images is timed in
-- PyTorch too (pytorch.py), in turns with ours, so that what else the machine does falls on both; an
-- attack in torchattacks and foolbox too, where they are installed.
-- With --profile the works' plans are timed layer by layer instead (profile.lua).

local child = require "child"
local fail = require "advrt.support.fail"
local json = require "dkjson"
local lfs = require "lfs"
local measure = require "measure"
local net = require "advrt.net"
local peer = require "peer"
local profile = require "profile"
local rates = require "rates"
local system = require "advrt.core.system"
local work = require "work"

local WORKS = "resnet50:8:gradient,resnet50:1:gradient,resnet18:8:gradient,vgg16:4:gradient,"
    .. "alexnet:16:gradient,efficientnet_lite0:8:gradient,resnet18:16:training,"
    .. "resnet50:8:gradient:mixed,resnet50:8:gradient:bf16,"
    .. "mobilenet_v3_large:8:gradient,efficientnet_b0:8:gradient,regnet_y_400mf:8:gradient,"
    .. "densenet121:8:gradient,convnext_tiny:8:gradient,vit_b_16:8:gradient,"
    .. "fashion:32:gradient,fashion:32:attack,fashion:32:experiment"
-- Every net at two batches, for --full.
local NETS = {"alexnet", "vgg16", "resnet18", "resnet34", "resnet50", "resnet152",
    "efficientnet_lite0", "mobilenet_v3_large", "efficientnet_b0", "regnet_y_400mf", "densenet121",
    "convnext_tiny", "vit_b_16", "fashion"}
local BATCHES, WHATS = {1, 8}, {"forward", "gradient", "training"}
local PROFILED = "resnet50:8:gradient"
local MODES = {"eager", "channels_last", "channels_last_folded"}
local PRECISIONS = {[""] = true, f32 = true, mixed = true, bf16 = true, tf32 = true}
local MOST_ROUNDS, MOST_BATCH = 1000, 4096

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
    a.images_per_second = (r.images or r.batch) / a.median
    a.flops_per_second = r.flops / a.median
    a.share_of_peak = a.flops_per_second / peak.flops_per_second
    if p and p.best then
        r.ratio = {seconds = a.median / p.modes[p.best].median, peak_rss = a.peak_rss / p.peak_rss}
        for _, mode in pairs(p.modes) do mode.ratio = a.median / mode.median end
    end
end

local function row(r)
    local a, p = r.advrt, r.pytorch
    local cells = {
        r.work, ("%.4g"):format(a.median), ("%.4g"):format(a.min), ("%.4g"):format(a.max),
        ("%.4g"):format(a.images_per_second), ("%.1f"):format(a.flops_per_second / 1e9),
        ("%.0f %%"):format(100 * a.share_of_peak), megabytes(a.peak_rss),
        megabytes(a.counted_peak), number("%.4g", a.takes_per_step),
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

--- A row for each of PyTorch's modes, with ours over its time, and why some are missing.
local function print_modes(r, columns)
    local p, names = r.pytorch, {}
    if not p or not p.modes then return end
    for name in pairs(p.modes) do names[#names + 1] = name end
    table.sort(names, function(a, b) return p.modes[a].median < p.modes[b].median end)
    for _, name in ipairs(names) do
        local mode = p.modes[name]
        local cells = {"  " .. name}
        for i, v in ipairs {mode.median, mode.min, mode.max, (r.images or r.batch) / mode.median} do
            cells[i + 1] = ("%.4g"):format(v)
        end
        cells[#COLUMNS + 3] = ("%.2f"):format(mode.ratio)
        for i = 1, #COLUMNS + 3 do cells[i] = cells[i] or "" end
        print_row(cells, columns)
    end
    for name, why in pairs(p.skipped or {}) do print(("  %s is left out: %s"):format(name, why)) end
end

--- The machine's peak, of which other rates are given as shares; a GPU's is of the work's precision.
local function measure_peak(spec)
    if work.ON_GPU then
        return {how = "best rate of a product with 4096x4096 weights, in the precision of the work",
            flops_per_second = rates.product(spec.precision)}
    end
    return {how = "best f32 rate of direct 3x3 convolutions, forward, batch 8: of 64 channels at "
        .. "56x56, 128 at 28x28, 256 at 14x14", flops_per_second = rates.convolution("3x3", "direct")}
end

--- An experiment in this process, for its memory.
local function run_whole(spec)
    local script = "experiments/equal_perturbation.lua"
    _G.arg = table.move(spec.argv, 1, #spec.argv, 1, {[0] = script})
    dofile(system.options.root .. "/" .. script)
    return {peak_rss = work.peak_rss(), counted_peak = system.memory().peak}
end

local MEASURES = {peak = measure_peak, profile = profile.measure, work = measure.work,
    experiment = measure.experiment, whole = run_whole}

local function parse_works(text, profiled)
    local works = {}
    for word in (text .. ","):gmatch("([^,]*),") do
        local name, batch, what, precision = word:match("^([^:]+):(%d+):(%a+):?(%w*)$")
        local N = math.tointeger(tonumber(batch))
        if not name or not N or N < 1 or N > MOST_BATCH or not work.PASSES[what]
            or not PRECISIONS[precision] then
            fail.option("--works wants NET:BATCH:WHAT or NET:BATCH:WHAT:PRECISION, WHAT one of forward, "
                .. "gradient, training, attack, experiment; got '%s'", word)
        end
        if what == "training" and precision ~= "" then
            fail.option("--works: training is in f32; got '%s'", word)
        end
        if what == "experiment" and name ~= "fashion" then
            fail.option("--works: an experiment is that of the bundled net, fashion; got '%s'", word)
        end
        if profiled and (what == "attack" or what == "experiment") then
            fail.option("--profile is of one run of a plan: forward, gradient or training; got '%s'", word)
        end
        local d, message = net.definition(name)
        if not d then fail.option("--works: %s", message) end
        works[#works + 1] = {net = name, batch = N, what = what, name = word,
            precision = precision ~= "" and precision or nil}
    end
    return works
end

local function full_works()
    local words = {}
    for _, name in ipairs(NETS) do
        for _, N in ipairs(BATCHES) do
            for _, what in ipairs(WHATS) do words[#words + 1] = ("%s:%d:%s"):format(name, N, what) end
        end
    end
    return table.concat(words, ",")
end

local function parse(argv)
    local parser = require "argparse" ("bench.lua",
        "Times advrt, and PyTorch beside it where BENCH_PYTHON names an interpreter that has it.")
    parser:option("--works", "what to measure, with commas between: NET:BATCH:WHAT[:PRECISION]")
    parser:flag("--full", "measure every net, forward, gradient and training, at two batch sizes")
    parser:option("--rounds", "rounds of each, of which the median counts"):default("7")
    parser:option("--round-seconds", "what a round of each lasts at least"):default("0.3")
    parser:option("--out", "the file of results"):default("build/bench.json")
    parser:flag("--compile", "time torch.compile too, which takes minutes to start")
    parser:flag("--autocast", "time PyTorch's bf16 autocast too, which takes minutes where the "
        .. "processor has no bf16 instructions")
    parser:flag("--profile", "show where the works' time goes, layer by layer, beside a budget")
    local ok, o = parser:pparse(argv)
    if not ok then fail.option("%s", (o:match("^[^\n]*"))) end
    o.rounds, o.seconds = math.tointeger(tonumber(o.rounds)), tonumber(o.round_seconds)
    if not o.rounds or o.rounds < 1 or o.rounds > MOST_ROUNDS then
        fail.option("--rounds wants a whole number from 1 to %d", MOST_ROUNDS)
    end
    if not o.seconds or not (o.seconds >= 0 and o.seconds <= 60) then
        fail.option("--round-seconds wants a number from 0 to 60")
    end
    o.works = parse_works(o.works or o.full and full_works() or o.profile and PROFILED or WORKS,
        o.profile)
    return o
end

--- A folder beside the results for the children's files; removed at the end, whatever it is.
local function scratch_beside(out)
    local path = out .. ".work"
    os.execute("rm -rf " .. peer.quote(path))
    local made, message = lfs.mkdir(path)
    if not made then fail("cannot make the folder %s: %s", path, message) end
    return setmetatable({path = path}, {__close = function(self)
        os.execute("rm -rf " .. peer.quote(self.path))
    end})
end

local function machine()
    local file = io.open("/proc/cpuinfo")
    local model = file and file:read("a"):match("model name%s*:%s*([^\n]+)")
    if file then file:close() end
    return model or "unknown"
end

--- The models of the machine's GPUs, each once: the driver may count them in another order than CUDA,
-- so the one that is used is told where they are alike. nil where no driver says.
local function gpus()
    local listing = io.popen("nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null")
    local names, seen = {}, {}
    for name in listing:lines() do
        if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
    return listing:close() and names[1] and table.concat(names, " or ")
end

--- What computes comes first: the GPU, or else the CPU.
local function print_head(o, peak)
    local s = system.options
    if work.ON_GPU then
        print(("%s: %s, %s, %s, %s plan"):format(s.device, gpus() or "unknown GPU", s.isa, s.precision,
            s.plan))
        print(("host: %s, %d threads"):format(machine(), s.threads))
    else
        print(("%s, %d threads, %s, %s plan, %s, %s"):format(machine(), s.threads, s.precision, s.plan,
            s.device, s.isa))
    end
    print(("peak: %.1f GFLOP/s (%s)%s"):format(peak.flops_per_second / 1e9, peak.how,
        s.device == "cpu" and "; Winograd can exceed it" or ""))
    print(("%d rounds of at least %g s"):format(o.rounds, o.seconds))
end

--- PyTorch's modes and the libraries that have the attack.
local function with_libraries(modes)
    local all = table.move(modes, 1, #modes, 1, {})
    all[#all + 1], all[#all + 2] = "torchattacks", "foolbox"
    return all
end

--- Times the works; prints their table as it grows.
local function times(o, python, run)
    local peak = run {measure = "peak", name = "the machine's peak"}
    print_head(o, peak)
    local columns = table.move(COLUMNS, 1, #COLUMNS, 1, {})
    if python then table.move(COLUMNS_PYTORCH, 1, #COLUMNS_PYTORCH, #columns + 1, columns) end
    local header = {}
    for i, column in ipairs(columns) do header[i] = column[1] end
    print_row(header, columns)
    local results, peaks = {}, {[system.options.precision] = peak}
    local function peak_in(precision)
        if not work.ON_GPU then return peak end
        peaks[precision] = peaks[precision]
            or run {measure = "peak", name = "the machine's peak", precision = precision}
        return peaks[precision]
    end
    for i, w in ipairs(o.works) do
        w.measure = w.what == "experiment" and "experiment" or "work"
        local r = run(w)
        r.work, r.net, r.batch, r.what, r.precision = w.name, w.net, w.batch, w.what, w.precision
        derive(r, peak_in(w.precision or system.options.precision))
        results[i] = r
        print_row(row(r), columns)
        print_modes(r, columns)
        io.stdout:flush()
    end
    return {peak = peak, peaks = peaks, works = results}
end

--- Profiles the works; prints each as it is done.
local function profiles(o, run)
    local results = {}
    for i, w in ipairs(o.works) do
        w.measure = "profile"
        results[i] = run(w)
        results[i].work = w.name
        profile.print(w.name, results[i])
        io.stdout:flush()
    end
    return {profiles = results}
end

local function main(argv)
    local o = parse(argv)
    local python = os.getenv("BENCH_PYTHON")
    if python == "" then python = nil end
    local modes = table.move(MODES, 1, #MODES, 1, {})
    if o.compile then modes[#modes + 1] = "compile" end
    if o.autocast then modes[#modes + 1] = "bf16" end
    local scratch <close> = scratch_beside(o.out)
    local function run(spec)
        spec.python, spec.modes, spec.scratch = python, modes, scratch.path
        if spec.what == "attack" then spec.modes = with_libraries(modes) end
        spec.seconds, spec.rounds = o.seconds, o.rounds
        return child.ask(spec)
    end
    local document = o.profile and profiles(o, run) or times(o, python, run)
    local s = system.options
    for k, v in pairs {advrt = s.version, onednn = system.onednn_version, machine = machine(),
        gpu = work.ON_GPU and gpus() or nil, threads = s.threads, device = s.device, isa = s.isa,
        plan = s.plan, precision = s.precision, rounds = o.rounds, round_seconds = o.seconds} do
        document[k] = v
    end
    local done, message = system.write(o.out, json.encode(document, {indent = true}) .. "\n")
    if not done then fail("%s", message) end
    print("results: " .. o.out)
end

if not child.answers(MEASURES) then main(arg) end
