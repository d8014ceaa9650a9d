--- How time and memory grow: with the batch, the images' size, threads, and the number of images; with
-- attacks made in one process; and what a large folder costs before its first batch.
--
--     build/advrt tests/bench/scale.lua [--studies batch,size,threads,images,memory,start] [--out DIR]
--
-- Each point is a process of its own (studies.lua). Leaves a CSV and a figure for each study, and
-- scale.json with all of it, in the folder; says what grew and how. The exit status is 1 where memory
-- grows with attacks, or a folder's images are opened before its first batch.

local child = require "child"
local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local json = require "dkjson"
local lfs = require "lfs"
local options = require "advrt.support.options"
local peer = require "peer"
local plot = require "advrt.plot"
local studies = require "studies"
local system = require "advrt.core.system"
local work = require "work"

local NET = "resnet18"
local STUDIES = {"batch", "size", "threads", "images", "memory", "start"}
-- What the resident memory may grow by between the 100th and the last attack: the C library's heap
-- settles in pages.
local RSS_SLACK = 4 << 20
local MEMORY = {batch = 8, iterations = 10}
-- An experiment that is short for each image, so that what comes with each counts.
local EXPERIMENT = {"--iterations", "5", "--losses", "ce", "--no-figures"}

-- Links ------------------------------------------------------------------------

local function make_folder(path)
    local made, message = lfs.mkdir(path)
    if not made then fail("cannot make the folder %s: %s", path, message) end
    return path
end

--- A folder of n links to the bundled images, round and round, with their labels; those behind the
-- first `real` lead nowhere.
local function links(path, n, real)
    local bundled, targets = system.options.root .. "/nets/fashion-images", {}
    if bundled:sub(1, 1) ~= "/" then bundled = lfs.currentdir() .. "/" .. bundled end
    for i, record in ipairs(assert(csv.parse(assert(csv.read(bundled .. "/labels.csv"))))) do
        if i > 1 then targets[i - 1] = record end
    end
    make_folder(path)
    local lines = {"file,label"}
    for i = 1, n do
        local name, target = ("%06d.png"):format(i), targets[(i - 1) % #targets + 1]
        local to = i <= real and bundled .. "/" .. target[1] or "nowhere.png"
        local done, message = lfs.link(to, path .. "/" .. name, true)
        if not done then fail("cannot make the link %s/%s: %s", path, name, message) end
        lines[#lines + 1] = name .. "," .. target[2]
    end
    local done, message = system.write(path .. "/labels.csv", table.concat(lines, "\n") .. "\n")
    if not done then fail("%s", message) end
    return path
end

-- What follows from points -------------------------------------------------------

--- The slope of log y over log x by least squares: the power of x with which y grows.
local function exponent(rows, x, y)
    local n, sx, sy, sxx, sxy = #rows, 0, 0, 0, 0
    for _, r in ipairs(rows) do
        local a, b = math.log(r[x]), math.log(r[y])
        sx, sy, sxx, sxy = sx + a, sy + b, sxx + a * a, sxy + a * b
    end
    return (n * sxy - sx * sy) / (n * sxx - sx * sx)
end

--- Says how a quantity grows, where there are points enough.
local function say_growth(rows, x, y, what)
    if #rows < 2 then return end
    print(("  %s from %g to %g: times %.2f; exponent %.2f"):format(what, rows[1][x], rows[#rows][x],
        rows[#rows][y] / rows[1][y], exponent(rows, x, y)))
end

-- Studies: each returns columns, rows by column, and the panels of its figure ------------

local study = {}

--- Points of studies.step: `vary` fills what is varied into a spec from a value.
local function points(run, name, values, vary)
    local rows = {}
    for i, value in ipairs(values) do
        local spec = {measure = "step", net = NET, what = "gradient", batch = 4,
            name = ("%s %d"):format(name, value)}
        vary(spec, value)
        local r = run(spec)
        r[name], r.per_image = value, r.seconds / spec.batch
        r.least_per_image, r.most_per_image = r.min / spec.batch, r.max / spec.batch
        rows[i] = r
        print(("  %-8s %4d %10.4g s %10.4g s/image %8.1f MB resident %8.1f MB counted"):format(name,
            value, r.seconds, r.per_image, r.peak_rss / 1e6, r.counted_peak / 1e6))
        io.stdout:flush()
    end
    return rows
end

local STEP_COLUMNS = {"seconds", "min", "max", "per_image", "peak_rss", "counted_peak"}
local MEMORY_PANEL = {label = "MB", scale = 1e-6, {"peak_rss", "peak of the process"},
    {"counted_peak", "counted by the core"}}

local function step_panels(x)
    return {{label = "ms for an image", scale = 1e3, x = x,
        {"per_image", "median", "least_per_image", "most_per_image"}}, MEMORY_PANEL}
end

function study.batch(run, o)
    local rows = points(run, "batch", o.batches, function(spec, value) spec.batch = value end)
    say_growth(rows, "batch", "seconds", "seconds by images of a batch")
    say_growth(rows, "batch", "peak_rss", "peak of the process by images of a batch")
    return STEP_COLUMNS, rows, step_panels "images of a batch"
end

function study.size(run, o)
    local rows = points(run, "size", o.sizes, function(spec, value) spec.crop = value end)
    for _, r in ipairs(rows) do r.pixels = r.size * r.size end
    say_growth(rows, "pixels", "seconds", "seconds by pixels of an image")
    say_growth(rows, "pixels", "peak_rss", "peak of the process by pixels of an image")
    return STEP_COLUMNS, rows, step_panels "height and width of the images"
end

function study.threads(run, o)
    local counts = {}
    for t = 1, o.most_threads do counts[t] = t end
    local rows = points(run, "threads", counts, function(spec, value) spec.threads = value end)
    for _, r in ipairs(rows) do
        print(("  %d threads: %.2f times as fast as 1, %.0f %% of each used"):format(r.threads,
            rows[1].seconds / r.seconds, 100 * rows[1].seconds / r.seconds / r.threads))
    end
    return STEP_COLUMNS, rows, step_panels "threads"
end

function study.images(run, o, scratch)
    local rows = {}
    for i, n in ipairs(o.counts) do
        local dir, out = links(scratch .. "/images", n, n), scratch .. "/run"
        local argv = table.move(EXPERIMENT, 1, #EXPERIMENT, 5, {"--images", dir, "--out", out})
        local r = run {measure = "experiment", name = n .. " images", argv = argv, quiet = true}
        r.images, r.per_image = n, r.seconds / n
        rows[i] = r
        print(("  %6d images %10.4g s %10.4g s/image %8.1f MB resident %8.1f MB counted"):format(n,
            r.seconds, r.per_image, r.peak_rss / 1e6, r.counted_peak / 1e6))
        io.stdout:flush()
        os.execute(("rm -rf %s %s"):format(peer.quote(dir), peer.quote(out)))
    end
    say_growth(rows, "images", "seconds", "seconds by images")
    say_growth(rows, "images", "peak_rss", "peak of the process by images")
    return {"seconds", "per_image", "peak_rss", "counted_peak"}, rows, {
        {label = "seconds", scale = 1, x = "images of the folder", {"seconds", "the whole experiment"}},
        MEMORY_PANEL}
end

function study.memory(run, o)
    local rows = {}
    for i, r in ipairs(run {measure = "memory", name = "memory", batch = MEMORY.batch,
        iterations = MEMORY.iterations, attacks = o.attacks, every = math.max(1, o.attacks // 10)}) do
        rows[i] = {attacks = r[1], rss = r[2], counted = r[3]}
    end
    local first, last = rows[1], rows[#rows]
    local grown = last.rss - first.rss
    print(("  after %d attacks: %.2f MB resident, %d bytes counted; after %d: %.2f MB, %d bytes"):format(
        first.attacks, first.rss / 1e6, first.counted, last.attacks, last.rss / 1e6, last.counted))
    print(("  grown by %.2f MB resident (at most %.2f) and %d bytes counted (at most 0)"):format(
        grown / 1e6, RSS_SLACK / 1e6, last.counted - first.counted))
    local problem = (grown > RSS_SLACK or last.counted ~= first.counted)
        and "memory grows with attacks" or nil
    return {"rss", "counted"}, rows, {{label = "MB", scale = 1e-6, x = "attacks in one process",
        {"rss", "resident"}, {"counted", "counted by the core"}}}, problem
end

function study.start(run, o, scratch)
    local rows = {}
    for i, n in ipairs {100, o.files} do
        -- Links that lead nowhere cannot be opened, nor asked what they lead to.
        local dir = links(scratch .. "/links", n, 32)
        local list = run {measure = "listing", name = "listing", dir = dir, rounds = 5}
        local samples, cpu = {}, {}
        for k = 1, o.rounds do
            local r = run {measure = "start", name = n .. " links", quiet = true,
                argv = {"--images", dir, "--out", scratch .. "/run", "--no-figures"}}
            if r.failed then fail("%d links: before the first batch: %s", n, r.failed) end
            samples[k], cpu[k] = r.seconds, r.cpu
        end
        local median, min, max = work.median(samples)
        rows[i] = {files = n, seconds = median, min = min, max = max, cpu = (work.median(cpu)),
            listing = list.seconds, listing_cpu = list.cpu}
        print(("  %6d files: %.4g s until the first batch (%.4g of the processor), listing alone %.4g s "
            .. "(%.4g)"):format(n, median, rows[i].cpu, list.seconds, list.cpu))
        os.execute("rm -rf " .. peer.quote(dir))
    end
    local extra, more, listing = o.files - 100, rows[2].cpu - rows[1].cpu,
        rows[2].listing_cpu - rows[1].listing_cpu
    print(("  %d files more cost %.4g s of the processor, %.1f us each; to list them %.4g s, %.1f us "
        .. "each: ratio %.1f"):format(extra, more, 1e6 * more / extra, listing, 1e6 * listing / extra,
        more / listing))
    return {"seconds", "min", "max", "cpu", "listing", "listing_cpu"}, rows, {{label = "seconds", scale = 1,
        x = "files of the folder", {"seconds", "until the first batch"},
        {"listing", "listing alone"}}}
end

-- What is left -------------------------------------------------------------------

local function write_csv(out, name, columns, rows)
    local lines = {name .. "," .. table.concat(columns, ",")}
    for _, r in ipairs(rows) do
        local fields = {tostring(r[name])}
        for i, column in ipairs(columns) do fields[i + 1] = ("%.9g"):format(r[column]) end
        lines[#lines + 1] = table.concat(fields, ",")
    end
    out:write(name .. ".csv", table.concat(lines, "\n") .. "\n")
end

--- A figure of panels one above the other; a series is {column, title, least, most}.
local function draw(name, title, x, rows, panels)
    local blocks, commands = {}, {("set multiplot layout %d,1"):format(#panels), "set key bottom right",
        "set yrange [0:*]", "set offsets graph 0.02, graph 0.02, graph 0.1, 0"}
    for p, panel in ipairs(panels) do
        local drawn = {}
        for s, series in ipairs(panel) do
            local numbers = {}
            for i, r in ipairs(rows) do
                local y = r[series[1]] * panel.scale
                numbers[i] = {r[x], y, series[3] and r[series[3]] * panel.scale or y,
                    series[4] and r[series[4]] * panel.scale or y}
            end
            local block = ("$p%d_%d"):format(p, s)
            blocks[#blocks + 1] = plot.block(block:sub(2), numbers)
            drawn[#drawn + 1] = ("%s using 1:2 with linespoints pointtype 7 linecolor %d title %s"):format(
                block, s, plot.quote(series[2]))
            if series[3] then
                drawn[#drawn + 1] = ("'' using 1:2:3:4 with yerrorbars pointtype 7 linecolor %d title "
                    .. "'least and most'"):format(s)
            end
        end
        commands[#commands + 1] = "set xlabel " .. plot.quote(panels[1].x)
        commands[#commands + 1] = "set ylabel " .. plot.quote(panel.label)
        commands[#commands + 1] = "plot " .. table.concat(drawn, ", ")
    end
    commands[#commands + 1] = "unset multiplot"
    return plot.script(name, title, plot.widths.page, 230 * #panels, table.concat(blocks),
        table.concat(commands, "\n"))
end

-- The command line ----------------------------------------------------------------

local function numbers_of(text, name, least)
    local list = {}
    for word in (text .. ","):gmatch("([^,]*),") do
        local value = math.tointeger(tonumber(word))
        if not value or value < least or list[1] and value <= list[#list] then
            fail.option("--%s wants growing whole numbers from %d, with commas between; got '%s'", name,
                least, text)
        end
        list[#list + 1] = value
    end
    return list
end

local function number_of(text, name, least)
    local value = math.tointeger(tonumber(text))
    if not value or value < least then
        fail.option("--%s wants a whole number from %d, got '%s'", name, least, text)
    end
    return value
end

local function studies_of(text)
    local list, known = {}, {}
    for _, name in ipairs(STUDIES) do known[name] = true end
    for name in (text .. ","):gmatch("([^,]*),") do
        if not known[name] then
            fail.option("--studies wants some of %s, with commas between; got '%s'",
                table.concat(STUDIES, ", "), text)
        end
        list[#list + 1] = name
    end
    return list
end

local function parse(argv)
    local parser = require "argparse" ("scale.lua", "Measures how time and memory grow, and draws it.")
    parser:option("--studies", "which, with commas between"):default(table.concat(STUDIES, ","))
    parser:option("--batches", "images of a batch"):default("1,2,4,8,16")
    parser:option("--sizes", "height and width of the images"):default("96,128,160,192,224,256,288,320")
    parser:option("--counts", "images of a folder"):default("100,200,400,800,1600")
    parser:option("--attacks", "attacks in one process"):default("1000")
    parser:option("--files", "files of the large folder"):default("50000")
    parser:option("--rounds", "rounds of each, of which the median counts"):default("5")
    parser:option("--round-seconds", "what a round lasts at least"):default("0.3")
    parser:option("--out", "the folder of what is found, new or empty")
    local ok, o = parser:pparse(argv)
    if not ok then fail.option("%s", (o:match("^[^\n]*"))) end
    o.studies = studies_of(o.studies)
    o.batches, o.sizes = numbers_of(o.batches, "batches", 1), numbers_of(o.sizes, "sizes", 32)
    o.counts = numbers_of(o.counts, "counts", 32)
    o.attacks, o.files = number_of(o.attacks, "attacks", 2), number_of(o.files, "files", 101)
    o.rounds, o.seconds = number_of(o.rounds, "rounds", 1), tonumber(o.round_seconds)
    if not o.seconds or not (o.seconds >= 0 and o.seconds <= 60) then
        fail.option("--round-seconds wants a number from 0 to 60")
    end
    o.most_threads = system.options.threads
    return o
end

local TITLES = {
    batch = "ResNet-18, forward and input gradient, by batch",
    size = "ResNet-18, forward and input gradient of 4 images, by their size",
    threads = "ResNet-18, forward and input gradient of 4 images, by threads",
    images = "Equal perturbation on the bundled net, by images",
    memory = "Memory of one process over its attacks (bundled net)",
    start = "From the start of an experiment to its first batch",
}
local AXES = {batch = "batch", size = "size", threads = "threads", images = "images",
    memory = "attacks", start = "files"}

local function main(argv)
    local o = parse(argv)
    plot.check()
    local out <close> = folder.claim(o.out, "scale")
    local scratch = make_folder(out:file("scratch"))
    local _ <close> = setmetatable({}, {__close = function()
        os.execute("rm -rf " .. peer.quote(scratch))
    end})
    local s, found, figures, problems = system.options, {}, {}, {}
    local function run(spec)
        spec.scratch, spec.rounds, spec.seconds = scratch, spec.rounds or o.rounds, o.seconds
        return child.ask(spec)
    end
    print(("%d threads, %s, %s plan, %s"):format(s.threads, s.precision, s.plan, s.isa))
    for i, name in ipairs(o.studies) do
        print(TITLES[name])
        local columns, rows, panels, problem = study[name](run, o, scratch)
        local x = AXES[name]
        write_csv(out, x, columns, rows)
        figures[i] = "fig_" .. name
        out:write(figures[i] .. ".gp", draw(figures[i], TITLES[name], x, rows, panels))
        found[name], problems[#problems + 1] = rows, problem
    end
    plot.draw(out.path, figures)
    out:write("scale.json", json.encode({advrt = s.version, onednn = system.onednn_version,
        threads = s.threads, isa = s.isa, plan = s.plan, precision = s.precision, rounds = o.rounds,
        round_seconds = o.seconds, rss_slack = RSS_SLACK, net = NET, studies = found},
        {indent = true}) .. "\n")
    print("results: " .. options.quote(out.path))
    out:keep()
    if #problems > 0 then fail("%s", table.concat(problems, "; ")) end
end

if not child.answers(studies) then main(arg) end
