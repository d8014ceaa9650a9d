-- Makes the allocations of some works fail in turn, each as often as Lua asks for it (twice), or all from
-- there on. Wants tests/faults.so before it, the folder of a finished run, and another one to
-- write to: `advrt tests/faults/starve.lua RUN FOLDER [all]`. A work must say that memory ran out, or
-- come to its result all the same; leave a file whole, or none; and come to its result afterwards, with
-- no counted memory left over.
-- With `all` it is every allocation, in both ways. Else it is the first at each place, in one of them: at
-- each chain of the CALLS innermost calls in C and lines of Lua that asks for memory; of those where Lua
-- itself asks, which are alike, every SHARE-th, from a random one on.

local attack = require "advrt.attack"
local data = require "advrt.data"
local fail = require "advrt.support.fail"
local image = require "advrt.image"
local lfs = require "lfs"
local loss = require "advrt.loss"
local net = require "advrt.net"
local record = require "advrt.record"
local report = require "advrt.results.report"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local run, out, mode = arg[1], arg[2], arg[3]
local golden = system.options.root .. "/tests/golden/weights/"
local images = system.options.root .. "/nets/fashion-images"
local CALLS, SHARE = 6, 4
local function small() return net.load("nets/mlp.lua", {init = "golden"}) end

assert(tensor.save(out .. "/state.msgpack", assert(tensor.load(golden .. "state.safetensors"))))

-- file: what the work writes, to a place where it is not there before.
local works = {}
local function work(name, f, file)
    works[#works + 1] = {name = name, f = f, file = file and out .. "/" .. file}
end

-- Not under AddressSanitizer, which takes memory of its own where a thread starts, and ends without it.
local sanitized = assert(io.open "/proc/self/maps"):read("a"):find("libasan", 1, true)
local function plainly(...) if not sanitized then work(...) end end

local function digest_of(all)
    local names, sums = {}, {}
    for name in pairs(all) do names[#names + 1] = name end
    table.sort(names)
    for i, name in ipairs(names) do sums[i] = name .. system.digest(all[name]:bytes()) end
    return table.concat(sums, "\n")
end

for _, path in ipairs {golden .. "state.safetensors", golden .. "state.pth", golden .. "state_legacy.pth",
    out .. "/state.msgpack"} do
    work("load " .. path:match("[^/]+$"), function()
        local all, message = tensor.load(path)
        return all and digest_of(all), message
    end)
end
work("load weights of a net", function()
    local g, message = net.load "nets/fashion.lua"
    return g and digest_of(g:state()), message
end)
work("save safetensors", function()
    local done, message = tensor.save(out .. "/w.safetensors", {a = tensor.uniform("a", {3, 5})})
    return done and "saved", message
end, "w.safetensors")
work("save msgpack", function()
    local done, message = tensor.save(out .. "/w.msgpack", {a = tensor.uniform("a", {3, 5})})
    return done and "saved", message
end, "w.msgpack")
for _, name in ipairs {"palette.png", "base420.jpg"} do
    work("load " .. name, function()
        local x, message = image.load(golden .. "../images/" .. name, {resize = 20, crop = 16, channels = 3})
        return x and system.digest(x:bytes()), message
    end)
end
work("save an image", function()
    local done, message = image.save(out .. "/x.png", tensor.uniform("x", {3, 9, 7}))
    return done and "saved", message
end, "x.png")
work("read a folder", function()
    local folder = data.folder(images, {classes = 10, input = {1, 28, 28}})
    local sums = {}
    for x, numbers in folder:batches(1, 5, 3) do
        sums[#sums + 1] = system.digest(x:bytes()) .. #numbers
    end
    return table.concat(sums)
end)
work("build a plan, forward and back", function()
    local g, message = small()
    if not g then return nil, message end
    local x = tensor.uniform("x", {2, table.unpack(g.input)})
    local z, q = g:gradient(x, loss.m_logit, {1, 2})
    return system.digest(z:bytes() .. q:bytes())
end)

local built = assert(net.load("nets/fashion.lua"))
local x = tensor.uniform("x", {2, table.unpack(built.input)})
built:gradient(x, loss.ce, {1, 2})
work("forward and back", function()
    local z, q = built:gradient(x, loss.ce, {1, 2})
    return system.digest(z:bytes() .. q:bytes())
end)
work("a loss made of a function", function()
    local l = loss.define("starved", function(z, t) return z:log_softmax(2):gather(2, t) end)
    local value, dz = l:evaluate(tensor.uniform("z", {3, 10}), {1, 2, 3})
    return system.digest(value:bytes() .. dz:bytes())
end)
work("steps of an attack", function()
    local r = attack.run {net = built, images = x, labels = {0, 1}, targets = {1, 2}, loss = loss.ce,
        multiplier = attack.equal_perturbation(0.05), iterations = 2}
    return system.digest(r.adversarial:bytes() .. r.series.p_target:bytes())
end)
plainly("steps of training", function()
    local g = assert(small())
    local entries = train.run {net = g, images = tensor.uniform("t", {8, table.unpack(g.input)}),
        labels = tensor.from({0, 1, 2, 3, 4, 5, 6, 7}, "i64"), batch = 4, epochs = 1,
        optimiser = train.sgd {rate = 0.01}, augment = {flip = true, shift = 1}, readers = 2}
    return #entries .. digest_of(g:state())
end)
work("read records and sum them up", function()
    local n = 0
    for _ in record.each(run .. "/records.msgpack") do n = n + 1 end
    local summary = tables.summarise(run .. "/records.msgpack", {"ce", "logit"}, 6, 0)
    local rows = tables.table1(summary, "equal_perturbation", {ce = 1, logit = 1})
    return n .. tables.table1_csv(rows) .. tables.curves_csv(summary)
end)
work("write a report", function()
    return (report.page {run}):gsub("<footer>.-</footer>", "")
end)

-- Raised, or returned as nil and a message: that memory ran out, in the words of Lua, of this project,
-- of the C library or of libzip, which sometimes forgets why an archive could not be opened or read.
local function says_so(message)
    message = tostring(fail.is(message) and message.message or message)
    return message:find "not enough memory" or message:find "out of memory"
        or message:find "Cannot allocate memory" or message:find "Malloc failure"
        or message:find "zip archive without its end" or message:find "%(No error%)", message
end

local function settled()
    collectgarbage()
    collectgarbage()
    return system.memory().in_use
end

-- What went wrong, by what it says: each kind once, with where it was seen first.
local problems, known = {}, {}
local function note(what, text)
    local key = text:gsub("%d+", "N")
    if not known[key] then problems[#problems + 1] = what .. ": " .. text end
    known[key] = true
end

local function contents(path)
    local file = io.open(path, "rb")
    if not file then return nil end
    local bytes = file:read "a"
    file:close()
    return bytes
end

-- How many files there are in the folder that is written to.
local function files()
    local n = 0
    for _ in lfs.dir(out) do n = n + 1 end
    return n
end

-- One work with an allocation failing; order: "alloc:17". Returns whether there was that one.
local function starved(one, order, wanted)
    local ok, result, message
    if one.file then os.remove(one.file) end
    local before = files()
    -- So that allocations keep their numbers.
    collectgarbage()
    collectgarbage()
    -- Lua itself may need memory to call pcall.
    local outer, problem = pcall(function()
        os.getenv("ADVRT_FAULT=" .. order)
        ok, result, message = pcall(one.f)
    end)
    os.getenv "ADVRT_FAULT=alloc:0"
    if not outer then ok, result = false, problem end
    local reached = os.getenv "ADVRT_FAULT?failed" ~= nil
    local good, said = true, nil
    if not ok then
        good, said = says_so(result)
    elseif result == nil or result == false then
        good, said = says_so(message)
    elseif result ~= wanted then
        good, said = false, "another result"
    end
    if not reached and not (ok and result) then good = false end
    if not good then note(one.name .. ", " .. order, tostring(said or result)) end
    if one.file then
        local is = contents(one.file)
        if is and is ~= one.contents then note(one.name .. ", " .. order, "half a file") end
        if files() ~= before + (is and 1 or 0) then
            note(one.name .. ", " .. order, "another file is left")
        end
    end
    return reached
end

-- Every allocation of `count`, and those that a failure makes more of them; try(order) is starved. Returns
-- how many there were.
local function each_allocation(count, try)
    local n = 0
    repeat
        n = n + 1
        local reached = try("alloc:" .. n)
        try("alloc+:" .. n)
    until not reached and n > count
    return n - 1
end

-- The number and the name of the next place to fail at; nil after the last.
local passed = math.random(SHARE)
local function next_place()
    while true do
        local number, name, lua = (os.getenv "ADVRT_FAULT?place" or ""):match "^(%d+) ([%x-]+)(.*)$"
        if not number or lua == "" or passed % SHARE == 0 then return number, name end
        passed = passed + 1
        os.getenv("ADVRT_FAULT=at:" .. name) -- it has been asked for
        os.getenv "ADVRT_FAULT=alloc:0"
    end
end

-- Such places, in the two ways by turns. Returns how many there were, and how many more that were not met
-- again.
local function each_place(try)
    local order, asked, tried, lost = "places:" .. CALLS, nil, 0, 0
    while true do
        local reached = try(order) -- at one line, since it is among the calls that tell places apart
        local number, name = next_place()
        if asked and asked ~= name then
            tried, lost = tried + (reached and 1 or 0), lost + (reached and 0 or 1)
            passed = passed + 1
            number, name = next_place()
        end
        if not number then return tried, lost end
        local more = (tried + lost) % 2 == 0 and "" or "+"
        if asked == name then -- another place had that number
            order = ("at%s:%s"):format(more, name)
        else
            order = ("alloc%s:%s"):format(more, number)
        end
        asked = name
    end
end

for _, one in ipairs(works) do
    if one.file then os.remove(one.file) end
    local wanted, message = one.f()
    if not wanted then fail("%s: %s", one.name, message) end
    one.contents = one.file and contents(one.file)
    assert(one.f() == wanted, one.name) -- what is made once is there
    local before = settled()
    os.getenv "ADVRT_FAULT=alloc:1000000000"
    one.f()
    local count = tonumber(os.getenv "ADVRT_FAULT?")
    os.getenv "ADVRT_FAULT=alloc:0"
    local failures = 0
    local function try(order)
        failures = failures + 1
        if mode ~= "all" or failures % 16 == 0 then
            if one.f() ~= wanted then note(one.name, "another result afterwards") end
        end
        return starved(one, order, wanted)
    end
    local told
    if mode == "all" then
        told = ("%d allocations failed in two ways"):format(each_allocation(count, try))
    else
        told = ("of %d allocations failed %d places, and %d did not come again"):format(count,
            each_place(try))
    end
    if one.f() ~= wanted then note(one.name, "another result in the end") end
    local after = settled()
    if after > before then note(one.name, ("%d bytes are left over"):format(after - before)) end
    print(one.name .. ": " .. told)
end
if #problems > 0 then fail("%s", table.concat(problems, " | ")) end
