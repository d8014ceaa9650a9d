-- Unfinished runs whose journal or checkpoint somebody, or a disk, has changed. None goes on to other records
-- without a word, and none ends in a traceback or never.

local core = require "advrt.core.record"
local record = require "advrt.record"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local experiments = system.options.root .. "/experiments/"
local base, images

setup(function()
    base = support.folder()
    images = support.images(base .. "/images", 8)
end)
teardown(function() support.remove(base) end)

local function joined(...)
    local list = {}
    for _, part in ipairs {...} do table.move(part, 1, #part, #list + 1, list) end
    return list
end

-- Copies a part file; change(number of the unit, note) may change a note, 0 being the header and nil one of
-- looked_at; frames(kind, bytes) tells how many times a frame
-- is written, or what is written in its place.
local function rewrite(from, to, change, frames)
    os.remove(to)
    local old <close> = assert(record.part(from, "append"))
    local new <close> = assert(record.part(to))
    local unit = -1
    for i = 1, #old do
        local kind, bytes = old:kind(i), old:bytes(i)
        if kind == "note" then
            local note = old:record(i)
            if not note.looked_at then unit = unit + 1 end
            change(not note.looked_at and unit or nil, note)
            local fields = {}
            for key, value in pairs(note) do fields[#fields + 1] = {key, value} end
            bytes = core.pack(fields)
        end
        local times = frames and frames(kind, bytes, unit) or 1
        if type(times) == "string" then times, bytes = 1, times end
        for _ = 1, times do assert(new:add(kind, bytes)) end
    end
    assert(new:sync())
end

local function nothing() end

-- Status and standard error; fails for what is no end in one line after a short time.
local function goes_on(list, told)
    local status, out, err = support.advrt(list, "timeout 60")
    told = ("%s: %d: %s%s"):format(told, status, out:sub(1, 200), err:sub(1, 600))
    assert.is_true(status == 0 or status == 1 or status == 2, told)
    assert.is_nil(err:find("traceback", 1, true), told)
    assert.is_nil(err:find(".lua:%d"), told)
    if status ~= 0 then assert.matches("advrt: [^\n]+\n$", err, 1, false) end
    return status, err
end

local kinds = {
    equal_perturbation = {"--iterations", "12", "--batch", "3", "--losses", "ce,logit", "--magnitude", "0.5",
        "--save-adversarial", "last", "--no-figures"},
    attacks = {"--batch", "3", "--attacks", "fgs,ifgs:steps=3", "--no-figures",
        "--save-adversarial", "last"},
    theorem = {"--iterations", "12", "--batch", "3", "--losses", "ce,logit", "--every", "5", "--margin-step",
        "20", "--no-figures"},
    robustness = {"--batch", "3", "--attacks", "fgs,ifgs:steps=3", "--matrix", "none", "--eps", "0,8/255",
        "--no-figures"},
    make_adversarial = {"--iterations", "12", "--batch", "3", "--losses", "ce,logit", "--magnitude", "0.5",
        "--setting", "equal_perturbation", "--extra", "0"},
}

for name, options in pairs(kinds) do
    describe("the journal of " .. name .. ".lua", function()
        local dir, part, whole, copy

        local function words(out, ...)
            return joined({"--threads", "1", experiments .. name .. ".lua", "--images", images, "--out", out},
                options, {...})
        end

        setup(function()
            dir, whole = base .. "/" .. name, base .. "/" .. name .. "_whole"
            part, copy = dir .. "/records.part", base .. "/" .. name .. ".part"
            local status, _, err = support.advrt(words(whole))
            assert.equal(0, status, err)
            status, _, err = support.advrt(words(dir), support.stop {at = "commit", count = 4,
                signal = "KILL"})
            assert.equal(137, status, err)
            assert(os.rename(part, copy))
        end)

        local function sound()
            rewrite(copy, part, nothing)
            local status, err = goes_on(words(dir, "--resume"), "as it was")
            assert.equal(0, status, err)
            assert.same(support.contents(whole), support.contents(dir))
            support.remove(dir)
            assert(os.execute("mkdir " .. support.quote(dir)))
        end

        it("is gone on with where it is sound", sound)

        it("is refused where a frame of a unit is there twice, or is missing", function()
            for _, case in ipairs {{"records", 2}, {"records", 0}, {"note", 2}, {"bytes", 2}} do
                local seen = 0
                rewrite(copy, part, nothing, function(kind, _, unit)
                    if kind ~= case[1] or kind == "note" and unit < 1 then return 1 end
                    seen = seen + 1
                    return seen == 2 and case[2] or 1
                end)
                local status, err = goes_on(words(dir, "--resume"), case[1] .. " " .. case[2])
                if seen > 0 then
                    assert.equal(1, status, err)
                    assert.matches("records.part: [^\n]*the journal is damaged", err)
                end
            end
        end)

        it("is refused where records are in another order", function()
            local first, seen -- the first record in the place of the second
            rewrite(copy, part, nothing, function(kind, bytes)
                if kind ~= "records" then return 1 end
                seen = (seen or 0) + 1
                first = first or bytes
                return seen == 2 and first or 1
            end)
            local status, err = goes_on(words(dir, "--resume"), "the first record twice")
            assert.equal(1, status, err)
            assert.matches("the journal is damaged", err)
        end)

        it("leads to no error further on, whatever its notes hold", function()
            -- One process tries all changes of the notes; it leaves out the work itself.
            local script = support.write(base .. "/mutate.lua", [[
                local experiment, fail = require "advrt.run.experiment", require "advrt.support.fail"
                local journal, progress = require "advrt.run.journal", require "advrt.run.progress"
                local count, refused = 0, 0
                local cases = load(io.open(arg[1]):read "a")()
                local script = arg[3]
                table.move(arg, 4, #arg + 3, 1)
                local open = journal.open
                for _, case in ipairs(cases) do
                    journal.open = function(path)
                        local j = assert(open(path))
                        case.change(j)
                        -- Where the notes are taken for sound the run would begin to work.
                        function j:add() fail("the work began") end
                        function j:look() fail("the work began") end
                        function j:commit() fail("the work began") end
                        return j
                    end
                    local from = os.clock()
                    local ok, problem = pcall(dofile, script)
                    count = count + 1
                    if not ok and not fail.is(problem) or os.clock() - from > 5 then
                        io.stderr:write(case.told, ": ", tostring(problem), "\n")
                        os.exit(3)
                    end
                    if not ok and problem.message:find("damaged") then refused = refused + 1 end
                end
                print(count, refused)
            ]])
            local cases = support.write(base .. "/cases.lua", [[
                local values = {"x", -1, 1e300, math.maxinteger, 0 / 0, 2.5, {1, 2}, true, "",
                    ("a"):rep(100000)}
                local list = {}
                local journal <close> = assert(require "advrt.run.journal".open(arg[2]))
                local function notes(j) return {[0] = j.header, table.unpack(j.units)} end
                for unit = 0, #journal.units do
                    for field in pairs(notes(journal)[unit]) do
                        -- Of units that are alike the first; and the one that closes a batch.
                        local wanted = unit < 2 or notes(journal)[unit].next
                        for k = 0, wanted and field ~= "frames" and #values or -1 do
                            list[#list + 1] = {told = ("unit %d: %s = %s"):format(unit, field,
                                tostring(values[k]):sub(1, 20)), change = function(j)
                                    notes(j)[unit][field] = values[k]
                                end}
                        end
                    end
                end
                for _, text in ipairs {"x", "\0", ("a"):rep(100000), ("- 0 a\0"):rep(100), "- 99 \0"} do
                    list[#list + 1] = {told = "looked_at " .. text:sub(1, 9),
                        change = function(j) j.looked = {text} end}
                    list[#list + 1] = {told = "files " .. text:sub(1, 9),
                        change = function(j) j.header.files = text end}
                end
                for _, about in ipairs {"[]", "{}", "null", "3", '{"options":[1]}', '{"setting":{}}'} do
                    list[#list + 1] = {told = about, change = function(j) j.header.about = about end}
                end
                return list
            ]])
            rewrite(copy, part, nothing)
            local status, out, err = support.advrt(joined({"--threads", "1", "-e",
                ("load(io.open(%q):read 'a')()"):format(script), "--", cases, part, experiments .. name
                .. ".lua", "--images", images, "--out", dir}, options, {"--resume"}), "timeout 120")
            assert.equal(0, status, err)
            local count, refused = out:match("(%d+)%s+(%d+)\n$")
            assert.is_true(tonumber(count) > 90 and tonumber(refused) > 50, out)
        end)

        it("is refused in one line where its file holds other types", function()
            for _, case in ipairs {{0, "about", 7}, {0, "files", 2.5}, {1, "images", math.maxinteger},
                {1, "loss", {1, 2}}, {2, "seconds", 0 / 0}, {1, "looked_at", {1}}} do
                rewrite(copy, part, function(unit, note)
                    if unit == case[1] then note[case[2]] = case[3] end
                end)
                local status, err = goes_on(words(dir, "--resume"), case[2])
                assert.equal(1, status, err)
                assert.matches("^advrt: [^\n]*records.part: [^\n]+\n$", err)
            end
            for _, value in ipairs {3, true, {1}} do
                rewrite(copy, part, function(unit, note)
                    if not unit then note.looked_at = value end
                end)
                local status, err = goes_on(words(dir, "--resume"), "looked_at")
                assert.equal(1, status, err)
            end
        end)
    end)
end

describe("a checkpoint of an attack", function()
    local dir, path, bytes, whole, part

    local function words(out, ...)
        return joined({"--threads", "1", experiments .. "equal_perturbation.lua", "--images", images,
            "--iterations", "60", "--batch", "8", "--losses", "ce,logit", "--no-figures", "--out",
            out}, {...})
    end

    setup(function()
        dir, whole = base .. "/kept", base .. "/kept_whole"
        path = dir .. "/checkpoint.safetensors"
        local status, _, err = support.advrt(words(whole))
        assert.equal(0, status, err)
        status, _, err = support.advrt(words(dir), support.stop {at = "update", count = 30, signal = "INT"})
        assert.equal(130, status, err)
        bytes, part = support.read(path), support.read(dir .. "/records.part")
    end)

    local function goes_on_with(text, told, wanted)
        support.remove(dir)
        assert(os.execute("mkdir " .. support.quote(dir)))
        support.write(dir .. "/records.part", part)
        support.write(path, text)
        local status, err = goes_on(words(dir, "--resume"), told)
        assert.equal(0, status, told .. err)
        assert.equal(wanted, err:match("advrt: [^\n]*checkpoint.safetensors: ([^\n]*); the current batch "
            .. "restarts\n"), told .. err)
        assert.same(support.contents(whole), support.contents(dir), told)
    end

    it("is gone on with where it is sound", function() goes_on_with(bytes, "sound", nil) end)

    it("is passed over, with a line, where a bit flipped", function()
        local seed = os.time()
        math.randomseed(seed)
        local header = string.unpack("<I8", bytes)
        for _ = 1, 4 do
            local at = math.random(9 + header, #bytes)
            goes_on_with(bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 1 << math.random(0, 7))
                .. bytes:sub(at + 1), ("byte %d (random seed %d)"):format(at, seed),
                "is damaged (its SHA-256 is another one)")
        end
    end)

    it("is passed over where its values cannot be an attack's, whatever its sum", function()
        local all = assert(tensor.load(path) or tensor.load(support.write(base .. "/c.safetensors", bytes)))
        local sealed = require "advrt.run.sealed"
        all.sha256 = nil
        local function number(v) return tensor.from({v}, "f64") end
        for _, case in ipairs {
            {"number.step", number(0), "'step' is 0, not a whole number from 1 to 60"},
            {"number.step", number(61), "'step' is 61, not a whole number from 1 to 60"},
            {"number.step", number(-5), "'step' is -5, not a whole number from 1 to 60"},
            {"number.step", number(0 / 0)}, {"number.step", number(2.5)}, {"number.step", number(1e300)},
            {"number.step", tensor.from({1, 2}, "f64")}, {"number.step", nil}, {"number.seconds", number(-1)},
            {"tensor.x", tensor.new {2, 1, 28, 28}}, {"tensor.x", nil},
            {"tensor.x", tensor.new({8, 1, 28, 28}):fill(7), "its 'x' has values outside of [0,1]"},
            {"tensor.x", tensor.new({8, 1, 28, 28}):fill(0 / 0), "its 'x' has values outside of [0,1]"},
            {"tensor.first", tensor.new({8, 1, 28, 28}, "f64")}, {"tensor.series.l2", tensor.new {61, 8}},
            {"tensor.flip_iteration", tensor.from({1, 2, 3, 4, 5, 6, 7, 99999}, "i64")},
            {"text.run", sealed.of_text "another", "belongs to another run"},
        } do
            local changed = {}
            for name, v in pairs(all) do changed[name] = v end
            changed[case[1]] = case[2]
            local copy = base .. "/changed.safetensors"
            assert(sealed.save(copy, changed))
            support.remove(dir)
            assert(os.execute("mkdir " .. support.quote(dir)))
            support.write(dir .. "/records.part", part)
            support.write(path, support.read(copy))
            -- That it begins anew is seen at once; the rest is as above.
            local status, _, err = support.advrt(words(dir, "--resume"), support.stop {at = "update",
                of = ", images", count = 1, signal = "KILL"})
            assert.equal(137, status, err)
            assert.matches("checkpoint.safetensors: [^\n]+; the current batch restarts\n", err)
            if case[3] then assert.truthy(err:find(case[3], 1, true), err) end
        end
    end)

    it("of a training is refused where a bit flipped, or where it cannot be one", function()
        local weights = require "advrt.run.sealed"
        local state = base .. "/state.safetensors"
        local net, train = require "advrt.net", require "advrt.train"
        local g = assert(net.build({name = "small", classes = 2, input = {1, 2, 2}, build = function(b, x)
            return b:linear(x, "fc", 2)
        end}, {init = "he", seed = 1}))
        local function run()
            train.run {net = g, images = tensor.uniform("x", {4, 1, 2, 2}), labels = {0, 1, 0, 1}, epochs = 2,
                batch = 2, optimiser = train.sgd {momentum = 0.9}, checkpoint = state}
        end
        local function refused(wanted)
            local ok, problem = pcall(run)
            assert.is_false(ok)
            assert.truthy(problem.message:find(wanted, 1, true), problem.message or problem)
            assert.matches("remove it to start again$", problem.message)
        end
        run()
        local text = support.read(state)
        local all = assert(weights.load(state))
        support.write(state, text:sub(1, -2) .. string.char(text:byte(-1) ~ 4))
        refused "is damaged"
        for _, case in ipairs {{"number.epoch", -1}, {"number.epoch", 9}, {"number.step", 1e9},
            {"number.step", 0 / 0}, {"number.rate", -1}, {"number.sum", 0 / 0}, {"number.right", 2.5},
            {"number.t", -3}} do
            local before = all[case[1]]
            all[case[1]] = tensor.from({case[2]}, "f64")
            assert(weights.save(state, all))
            refused("'" .. case[1]:gsub("number.", "") .. "' is ")
            all[case[1]] = before
        end
        all.entries = tensor.new({1, 8}, "f64")
        assert(weights.save(state, all))
        refused "log does not have 2 epochs"
    end)
end)
