--- How many instructions a few small works take, counted by valgrind's callgrind: unlike times they do not
-- depend on what else a machine does.
--
--     build/advrt tests/bench/instructions.lua [--write] [--works NAME,...] [--numbers FILE]
--
-- Each work is held to its number in instructions.csv; the exit status is 1 where one takes more, or less,
-- than a few per cent beside it. --write writes the numbers anew, and so says what has changed. They are
-- of the processor that valgrind shows, which has AVX2, and of one thread, which never waits for another.
-- Where valgrind, AVX2 or the oneDNN of the numbers is missing, one line says so.

local attack = require "advrt.attack"
local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local image = require "advrt.image"
local json = require "advrt.support.json"
local lfs = require "lfs"
local loss = require "advrt.loss"
local net = require "advrt.net"
local peer = require "peer"
local record = require "advrt.record"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local work = require "work"

local NUMBERS = (arg[0]:match("^(.*/)") or "./") .. "instructions.csv"
local TOLERANCE = 0.05
-- The function of the core that parts one count from the next: nothing that is counted calls it.
local MARK = "system_isatty"
local CHANNELS, SIDE, BATCH = 64, 14, 2

-- Works: each returns a function of one step, and how many steps are counted -----------------

local function convolution(kernel, what)
    local g = assert(net.build({
        classes = CHANNELS, input = {CHANNELS, SIDE, SIDE},
        build = function(b, x)
            x = b:conv(x, "image", {out = CHANNELS, kernel = 1, bias = false})
            x = b:conv(x, "conv", {out = CHANNELS, kernel = kernel, pad = kernel // 2, bias = false})
            return b:adaptive_avgpool(x, {1, 1})
        end,
    }, {init = "he"}))
    local labels, targets = work.classes(g, BATCH)
    return (work.step(what, g, work.tensors(g, BATCH), labels, targets)), 1
end

local function attacked(g, iterations)
    local labels, targets = work.classes(g, BATCH)
    local spec = {net = g, images = tensor.uniform("bench:images", {BATCH, table.unpack(g.input)}),
        labels = labels, targets = targets, loss = loss.ce,
        multiplier = attack.equal_perturbation(0.05), iterations = iterations, workspace = {}}
    return function() return attack.run(spec) end
end

local works = {
    {"1x1 gradient", function() return convolution(1, "gradient") end},
    {"3x3 gradient", function() return convolution(3, "gradient") end},
    {"3x3 training", function() return convolution(3, "training") end},
    {"attack step", function() return attacked(assert(net.load("fashion")), 10), 1 end},
    {"png", function()
        local dir = system.options.root .. "/nets/fashion-images/"
        local path = dir .. assert(csv.parse(assert(csv.read(dir .. "labels.csv"))))[2][1]
        return function() image.load(path) end, 10
    end},
    {"records", function()
        local r = attacked(assert(net.load("fashion")), 10)()
        return function()
            for k = 1, BATCH do
                record.pack({file = "image.png", label = k, target = 0, loss = "ce",
                    setting = "equal_perturbation"}, r, k)
            end
        end, 10
    end},
    {"json", function()
        local value = {files = {}, numbers = {}}
        for i = 1, 100 do value.files[i], value.numbers[i] = ("%06d.png"):format(i), i / 7 end
        return function() json.decode(json.encode(value)) end, 1
    end},
    {"csv", function()
        local lines = {}
        for i = 1, 200 do lines[i] = ("%06d.png,%d\n"):format(i, i % 10) end
        local text = table.concat(lines)
        return function() csv.parse(text) end, 1
    end},
}

local function mark() system.isatty(0) end

--- Does the works in this process, a mark before and behind what is counted of each; a first step of
-- each makes what is made once.
local function count_here(names)
    for _, one in ipairs(works) do
        if names[one[1]] then
            local step, steps = one[2]()
            step()
            collectgarbage()
            collectgarbage("stop")
            mark()
            for _ = 1, steps do step() end
            mark()
            collectgarbage("restart")
        end
    end
end

-- Counting ---------------------------------------------------------------------

--- The instructions of the n-th part of a profile: those up to its mark.
local function total(path, n)
    local file <close> = io.open(("%s.%d"):format(path, n))
    local text = file and file:read("a") or ""
    return math.tointeger(text:match("\ntotals: (%d+)") or text:match("\nsummary: (%d+)"))
end

--- {name -> instructions of a step} under callgrind; nil and why it cannot be.
local function count(order)
    if not os.execute("command -v valgrind >/dev/null") then return nil, "valgrind is not found" end
    local dir = os.tmpname()
    os.remove(dir)
    assert(lfs.mkdir(dir))
    local _ <close> = setmetatable({}, {__close = function()
        os.execute("rm -rf " .. peer.quote(dir))
    end})
    local command = ("OMP_NUM_THREADS=1 valgrind --tool=callgrind --dump-before=%s "
        .. "--callgrind-out-file=%s %s --threads 1 --device cpu %s --here %s </dev/null >%s 2>&1"):format(
        MARK, peer.quote(dir .. "/profile"), peer.quote(system.options.executable), peer.quote(arg[0]),
        peer.quote(table.concat(order, ",")), peer.quote(dir .. "/said"))
    local _, kind, status = os.execute(command)
    if kind == "signal" and status == 2 or status == 130 then fail.interrupted() end
    local said = csv.read(dir .. "/said") or ""
    if status ~= 0 then fail("the works could not be counted: %s", said:match("advrt: [^\n]*") or said) end
    local isa = said:match("isa: (%S+)")
    if isa ~= "avx2" then return nil, ("valgrind shows a processor with %s, not AVX2"):format(isa) end
    local counts = {}
    for i, name in ipairs(order) do
        -- Parts by turns: up to a work's first mark, and what is counted of it.
        local part = total(dir .. "/profile", 2 * i)
        if not part then fail("callgrind has no count for %s; is advrt built without -g?", name) end
        counts[name] = part
    end
    return counts
end

-- Numbers ------------------------------------------------------------------------

local function read_numbers(path)
    local text, message = csv.read(path)
    if not text then fail("%s (--write makes it)", message) end
    local records, problem = csv.parse(text)
    if not records then fail("%s: %s", path, problem) end
    local numbers = {}
    for _, r in ipairs(records) do numbers[r[1]] = tonumber(r[2]) or r[2] end
    return numbers
end

local function write_numbers(path, counts)
    local lines = {"work,instructions\n", ("oneDNN,%s\n"):format(system.onednn_version)}
    for _, one in ipairs(works) do
        if counts[one[1]] then lines[#lines + 1] = ("%s,%d\n"):format(one[1], counts[one[1]]) end
    end
    local done, message = system.write(path, table.concat(lines))
    if not done then fail("%s", message) end
end

--- Prints a line for each work; returns the names of those that are off their number.
local function compare(order, counts, numbers)
    local off = {}
    for _, name in ipairs(order) do
        local now, was = counts[name], numbers[name]
        local ratio = was and now / was
        local wrong = not was or math.abs(ratio - 1) > TOLERANCE
        print(("%-14s %12d instructions, %s"):format(name, now, not was and "no number to hold it to"
            or ("%12d before: %+.2f %%%s"):format(was, 100 * (ratio - 1), wrong and (ratio > 1
                and "  DEARER" or "  cheaper; write the numbers anew (make instructions)") or "")))
        if wrong then
            off[#off + 1] = was and ("%s %+.1f %%"):format(name, 100 * (ratio - 1)) or name .. " (new)"
        end
    end
    return off
end

local function chosen(text)
    local names, order = {}, {}
    for name in ((text or "") .. ","):gmatch("([^,]+),") do names[name] = true end
    for _, one in ipairs(works) do
        if not text or names[one[1]] then order[#order + 1], names[one[1]] = one[1], nil end
    end
    if next(names) or #order == 0 then fail.option("--works: there is no work '%s'", next(names) or "") end
    for _, name in ipairs(order) do names[name] = true end
    return names, order
end

local function main(argv)
    local parser = require "argparse" ("instructions.lua", "Counts the instructions of a few works.")
    parser:option("--works", "which, with commas between")
    parser:option("--numbers", "the file of the numbers"):default(NUMBERS)
    parser:flag("--write", "write the numbers anew")
    local ok, o = parser:pparse(argv)
    if not ok then fail.option("%s", (o:match("^[^\n]*"))) end
    local _, order = chosen(o.works)
    if o.write and o.works then fail.option("--write: all works are written; leave --works out") end
    local numbers = not o.write and read_numbers(o.numbers)
    if numbers and numbers.oneDNN ~= system.onednn_version then
        print(("instructions are not counted: the numbers are of oneDNN %s, this is %s"):format(
            numbers.oneDNN, system.onednn_version))
        return
    end
    local counts, why = count(order)
    if not counts then
        print("instructions are not counted: " .. why)
    elseif o.write then
        write_numbers(o.numbers, counts)
        print("numbers: " .. o.numbers)
    else
        local off = compare(order, counts, numbers)
        if #off > 0 then fail("instructions: %s", table.concat(off, ", ")) end
    end
end

if arg[1] == "--here" then
    print("isa: " .. system.options.isa)
    count_here((chosen(arg[2])))
else
    main(arg)
end
