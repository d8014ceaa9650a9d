--- This tree's speed and memory beside another's, as the tree before a change, in turns:
--
--     build/advrt tests/bench/turns.lua OTHER [--works resnet50:8:gradient,...] [--rounds N]
--
-- OTHER is the folder of a tree that has been built. A work is NET:BATCH:WHAT[:PRECISION] as
-- bench.lua takes it. Each tree's own binary, Lua and bench/work.lua make its steps, in a process of
-- each tree that lives through all rounds of a work; an experiment is a new process each time. A row has
-- the medians, the median of the rounds' ratios (this tree over the other) with its 95 % bootstrap
-- interval, and the ratios of the counted and the resident peaks. Results: build/turns.json.

local system = require "advrt.core.system"

--- Answers a number of steps by the seconds that one of them took, and "peak" by the peaks of memory.
local function serve(bench, name, N, what, precision)
    package.path = bench .. "/?.lua;" .. package.path
    local net, work = require "advrt.net", require "work"
    local g = assert(net.load(name, {init = "golden", precision = precision ~= "" and precision or nil}))
    local labels, targets = work.classes(g, N)
    local step = work.step(what, g, work.tensors(g, N), labels, targets)
    step()
    for line in io.lines() do
        if line == "peak" then
            print(work.peak_rss(), system.memory().peak)
        else
            step() -- fills the caches that the other tree's turn has used
            print(("%.9g"):format(work.time(step, math.tointeger(line))))
        end
        io.stdout:flush()
    end
end

-- The other tree's modules may have other names; its process loads those above alone.
if arg[1] == "--serve" then
    serve(arg[2], arg[3], math.tointeger(arg[4]), arg[5], arg[6])
    return
end

local fail = require "advrt.support.fail"
local json = require "dkjson"
local lfs = require "lfs"
local stats = require "advrt.results.stats"

local WORKS = "resnet50:8:gradient,resnet50:1:gradient,resnet18:8:gradient,vgg16:4:gradient,"
    .. "alexnet:16:gradient,efficientnet_lite0:8:gradient,resnet18:16:training,"
    .. "fashion:32:gradient,fashion:32:attack,fashion:32:experiment"
local ROUND_SECONDS = 0.3

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- A tree's process -----------------------------------------------------------------

local Tree = {}
Tree.__index = Tree
Tree.__close = function(self)
    self.to:close()
    self.from:close()
end

function Tree:ask(question)
    self.to:write(question, "\n")
    self.to:flush()
    local answer = self.from:read("l")
    if not answer then fail("%s could not run %s", self.root, self.work) end
    return answer
end

function Tree:seconds(steps) return tonumber(self:ask(("%d"):format(steps))) end

function Tree:peaks()
    local resident, counted = self:ask("peak"):match("(%d+)%s+(%d+)")
    return {resident = tonumber(resident), counted = tonumber(counted)}
end

local function start(root, w, scratch)
    local fifo, o = scratch .. "/answers", system.options
    os.remove(fifo)
    if not os.execute("mkfifo " .. quote(fifo)) then fail("cannot make the FIFO %s", fifo) end
    local to = assert(io.popen(("exec %s --threads %d --plan %s %s --serve %s %s %d %s %s >%s"):format(
        quote(root .. "/build/advrt"), o.threads, o.plan, quote(arg[0]), quote(root .. "/tests/bench"),
        w.net, w.batch, w.what, quote(w.precision), quote(fifo)), "w"))
    return setmetatable({root = root, work = w.name, to = to, from = assert(io.open(fifo))}, Tree)
end

--- A tree whose step is a whole experiment on the bundled net, without pictures.
local Whole = {__close = function() end}
Whole.__index = Whole

function Whole:seconds()
    local out, began = self.scratch .. "/run", system.clock()
    os.execute("rm -rf " .. quote(out))
    local done = os.execute(("%s --threads %d %s --iterations 25 --no-figures --out %s >%s 2>&1"):format(
        quote(self.root .. "/build/advrt"), system.options.threads,
        quote(self.root .. "/experiments/equal_perturbation.lua"), quote(out),
        quote(self.scratch .. "/said")))
    if not done then fail("%s could not run its experiment", self.root) end
    return system.clock() - began
end

function Whole.peaks() return nil end

-- Turns ----------------------------------------------------------------------------

local function measure(w, roots, rounds, scratch)
    local function open(root)
        if w.what == "experiment" then return setmetatable({root = root, scratch = scratch}, Whole) end
        return start(root, w, scratch)
    end
    local before <close> = open(roots[1])
    local now <close> = open(roots[2])
    local one = before:seconds(1)
    local steps = math.max(1, math.ceil(ROUND_SECONDS / one))
    local times, ratios = {before = {}, now = {}}, {}
    now:seconds(1)
    for r = 1, rounds do
        -- Each goes first in every second round: the first meets what the second has left in the caches.
        local first, second = before, now
        if r % 2 == 0 then first, second = now, before end
        local a, b = first:seconds(steps), second:seconds(steps)
        if r % 2 == 0 then a, b = b, a end
        times.before[r], times.now[r], ratios[r] = a, b, b / a
    end
    local median, low, high = stats.medians(0)(ratios)
    return {work = w.name, before = stats.median(times.before), now = stats.median(times.now),
        ratio = median, low = low, high = high, rounds = times,
        peaks = {before = before:peaks(), now = now:peaks()}}
end

local function parse_works(text)
    local works = {}
    for word in text:gmatch("[^,]+") do
        local name, batch, what, precision = word:match("^([^:]+):(%d+):(%a+):?(%w*)$")
        if not name then fail.option("--works wants NET:BATCH:WHAT[:PRECISION], got '%s'", word) end
        works[#works + 1] = {name = word, net = name, batch = math.tointeger(tonumber(batch)),
            what = what, precision = precision}
    end
    return works
end

local function ratio_of(peaks, kind)
    if not peaks.now then return "-" end
    return ("%.3f"):format(peaks.now[kind] / peaks.before[kind])
end

local function main()
    local parser = require "argparse" ("turns.lua", "Times this tree beside another, in turns.")
    parser:argument("other", "the folder of the other tree, which has been built")
    parser:option("--works", "what to measure: NET:BATCH:WHAT[:PRECISION], with commas between")
        :default(WORKS)
    parser:option("--rounds", "rounds of each work"):default("15")
    parser:option("--out", "the file of results"):default("build/turns.json")
    local ok, o = parser:pparse(arg)
    if not ok then fail.option("%s", (o:match("^[^\n]*"))) end
    local rounds = math.tointeger(tonumber(o.rounds))
    if not rounds or rounds < 1 then fail.option("--rounds wants a whole number from 1, got %s", o.rounds) end
    if not lfs.attributes(o.other .. "/build/advrt") then
        fail.option("%s has no build/advrt; build it by make", o.other)
    end
    local works, scratch, results = parse_works(o.works), o.out .. ".work", {}
    os.execute("rm -rf " .. quote(scratch))
    assert(lfs.mkdir(scratch))
    print(("%-28s %10s %10s %7s %16s %8s %9s"):format("work", "other, s", "this, s", "ratio", "95 %",
        "counted", "resident"))
    for i, w in ipairs(works) do
        local r = measure(w, {o.other, system.options.root}, rounds, scratch)
        print(("%-28s %10.4g %10.4g %7.3f %7.3f .. %5.3f %8s %9s"):format(w.name, r.before, r.now, r.ratio,
            r.low, r.high, ratio_of(r.peaks, "counted"), ratio_of(r.peaks, "resident")))
        io.stdout:flush()
        results[i] = r
    end
    os.execute("rm -rf " .. quote(scratch))
    local text = json.encode({rounds = rounds, threads = system.options.threads, isa = system.options.isa,
        works = results}, {indent = true})
    local done, message = system.write(o.out, text .. "\n")
    if not done then fail("%s", message) end
    print("results: " .. o.out)
end

main()
