-- Makes every allocation of some works fail in turn, each as often as Lua asks for it (twice), and all
-- from there on. Wants tests/faults.so before it, the folder of a finished run, and another one to
-- write to: `advrt tests/faults/starve.lua RUN FOLDER [all]`. A work must say that memory ran out, or
-- come to its result all the same; and it must come to it afterwards, with no counted memory left over.
-- Without `all` about forty allocations of each work, evenly over it, are taken.

local attack = require "advrt.attack"
local data = require "advrt.data"
local fail = require "advrt.fail"
local image = require "advrt.image"
local loss = require "advrt.loss"
local net = require "advrt.net"
local record = require "advrt.record"
local report = require "advrt.report"
local system = require "advrt.core.system"
local tables = require "advrt.tables"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local run, out, mode = arg[1], arg[2], arg[3]
local golden = system.options.root .. "/tests/golden/weights/"
local images = system.options.root .. "/nets/fashion-images"
local SOME = 40

local function small() return net.load("nets/mlp.lua", {init = "golden"}) end

assert(tensor.save(out .. "/state.msgpack", assert(tensor.load(golden .. "state.safetensors"))))

local works = {}
local function work(name, f) works[#works + 1] = {name = name, f = f} end

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
end)
work("save msgpack", function()
    local done, message = tensor.save(out .. "/w.msgpack", {a = tensor.uniform("a", {3, 5})})
    return done and "saved", message
end)
for _, name in ipairs {"palette.png", "base420.jpg"} do
    work("load " .. name, function()
        local x, message = image.load(golden .. "../images/" .. name, {resize = 20, crop = 16, channels = 3})
        return x and system.digest(x:bytes()), message
    end)
end
work("save an image", function()
    local done, message = image.save(out .. "/x.png", tensor.uniform("x", {3, 9, 7}))
    return done and "saved", message
end)
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

-- One work with the n-th allocation failing; returns whether there were as many.
local function starved(one, kind, n, wanted)
    local order = ("ADVRT_FAULT=%s:%d"):format(kind, n)
    local ok, result, message
    -- Lua itself may need memory to call pcall.
    local outer, problem = pcall(function()
        os.getenv(order)
        ok, result, message = pcall(one.f)
    end)
    os.getenv "ADVRT_FAULT=alloc:0"
    if not outer then ok, result = false, problem end
    local reached = tonumber(os.getenv "ADVRT_FAULT?") >= n
    local good, said = true, nil
    if not ok then
        good, said = says_so(result)
    elseif result == nil or result == false then
        good, said = says_so(message)
    elseif result ~= wanted then
        good, said = false, "another result"
    end
    if not good or (not reached and (not ok or not result)) then
        note(("%s, %s:%d"):format(one.name, kind, n), tostring(said or result))
    end
    return reached
end

for _, one in ipairs(works) do
    local wanted, message = one.f()
    if not wanted then fail("%s: %s", one.name, message) end
    assert(one.f() == wanted, one.name) -- what is made once is there
    local before = settled()
    os.getenv "ADVRT_FAULT=alloc:1000000000"
    one.f()
    local count = tonumber(os.getenv "ADVRT_FAULT?")
    os.getenv "ADVRT_FAULT=alloc:0"
    local step = mode == "all" and 1 or math.max(1, count // SOME)
    local tried = 0
    for _, kind in ipairs {"alloc", "alloc+"} do
        for n = 1, count + 2 * step, step do
            if not starved(one, kind, n, wanted) then break end
            tried = tried + 1
            if tried % 16 == 0 then
                if one.f() ~= wanted then note(one.name, "another result afterwards") end
            end
        end
    end
    if one.f() ~= wanted then note(one.name, "another result in the end") end
    local after = settled()
    if after > before then note(one.name, ("%d bytes are left over"):format(after - before)) end
    print(("%s: %d of %d allocations failed in two ways"):format(one.name, tried, count))
end
if #problems > 0 then fail("%s", table.concat(problems, " | ")) end
