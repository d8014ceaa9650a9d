-- Runs that are killed, interrupted, torn or short of disk, and gone on with; and runs in shards that
-- are merged. On the bundled net, and on a few of its images.

local lfs = require "lfs"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local contents = support.contents

local script = system.options.root .. "/experiments/equal_perturbation.lua"
local merge = system.options.root .. "/experiments/merge.lua"

describe("a run that is gone on with", function()
    local base, images, whole, duration -- of a whole run, in seconds: for kills at random instants

    local function words(dir, more)
        local list = {script, "--images", images, "--iterations", "25", "--batch", "3", "--losses",
            "ce,logit,m_logit", "--save-adversarial", "first", "--magnitude", "0.2", "--no-figures",
            "--out", dir}
        return table.move(more or {}, 1, #(more or {}), #list + 1, list)
    end

    setup(function()
        base = support.folder()
        images = support.images(base .. "/images", 11)
        local line = 0
        local labels = support.read(images .. "/labels.csv"):gsub("[^\n]*\n", function(text)
            line = line + 1
            return line == 4 and text:gsub(",(%d)", function(label) return "," .. (label + 1) % 10 end) or nil
        end)
        support.write(images .. "/labels.csv", labels)
        whole = base .. "/whole"
        local began = system.clock()
        local status, _, err = support.advrt(words(whole))
        assert.equal(0, status, err)
        duration = system.clock() - began
    end)
    teardown(function() support.remove(base) end)

    -- Goes on until it is done; fails where it is not by then.
    local function finish(dir, more)
        local list = words(dir, more)
        list[#list + 1] = "--resume"
        local status, _, err = support.advrt(list)
        assert.equal(0, status, err)
        assert.same(contents(whole), contents(dir))
    end

    -- Starts or goes on, and ends it by a signal after that share of a whole run's time; returns status
    -- and standard error.
    local function ended(dir, signal, share, more)
        local list = words(dir, more)
        list[#list + 1] = "--resume"
        local status, _, err = support.advrt(list, ("timeout -s %s %.3f"):format(signal,
            math.max(0.05, share * duration)))
        return status, err
    end

    -- The same, at a point that tests/stop.lua takes.
    local function stopped(dir, signal, point, more)
        point.signal = signal
        local list = words(dir, more)
        list[#list + 1] = "--resume"
        local status, _, err = support.advrt(list, support.stop(point))
        assert.equal(signal == "INT" and 130 or 137, status, err)
        return err
    end

    it("after being killed at random instants is the run that was not", function()
        local dir = base .. "/killed"
        support.kill_at_random(words(dir, {"--resume"}), dir, whole, duration, 8)
        finish(dir)
    end)

    it("says at Ctrl-C the command that goes on with it, in the midst of an attack too", function()
        local dir = base .. "/it's interrupted"
        local err = stopped(dir, "INT", {at = "update", of = ", images %d", count = 5},
            {"--iterations", "100000"})
        local command = err:match("^advrt: interrupted; finished work is kept; continue with: ([^\n]+)\n$")
        assert.truthy(command, err)
        assert.matches("%-%-resume", command)
        local threads = (" --threads %d "):format(system.options.threads)
        assert.equal(1, select(2, command:gsub(threads:gsub("%-", "%%-"), "")), command)
        assert.is_true(support.exists(dir .. "/checkpoint.safetensors"))
        local function step() return tensor.load(dir .. "/checkpoint.safetensors")["number.step"]:item() end
        local first = step()
        assert.is_true(first > 0)
        assert.is_nil(os.execute(("%s %s 2>/dev/null"):format(
            support.stop {at = "update", of = ", images %d", count = 5, signal = "INT"}, command)))
        assert.is_true(step() > first, ("step %d, then %d"):format(first, step()))
    end)

    it("after signals that ask for its end is the run that was not interrupted", function()
        local seed, dir = os.time(), base .. "/interrupted"
        math.randomseed(seed)
        for _, signal in ipairs {"INT", "TERM", "HUP", "TERM", "INT", "TERM"} do
            local status, err = ended(dir, signal, 0.1 + 0.6 * math.random())
            assert.is_true(status == 0 or status == 124, ("%s (random seed %d)"):format(err, seed))
            -- Before the script begins there is nothing to say.
            local said = signal == "INT" and "interrupted" or "ended by SIG" .. signal
            local done = support.exists(dir .. "/records.msgpack") -- it came too late
            if status == 124 and err ~= "" and not done then
                assert.matches("advrt: " .. said .. "[^\n]*\n$", err)
            end
        end
        finish(dir)
    end)

    -- A run that stopped after some units, and its journal.
    local function unfinished(name)
        local dir = base .. "/" .. name
        stopped(dir, "KILL", {at = "commit", count = 5})
        return dir, support.read(dir .. "/records.part")
    end

    it("passes over a torn end, whatever stands there", function()
        local dir, journal = unfinished("torn")
        assert.is_true(#journal > 40000)
        for _, torn in ipairs {journal:sub(1, -2), journal .. "advp\1" .. ("\0"):rep(5000),
            journal:sub(1, 30000) .. "?" .. journal:sub(30002), journal:sub(1, 2)} do
            for _, name in ipairs(support.list(dir)) do os.remove(dir .. "/" .. name) end
            support.write(dir .. "/records.part", torn)
            support.write(dir .. "/.advrt-0123456789abcdef.tmp", "half a file")
            finish(dir)
        end
    end)

    it("needs neither its checkpoint nor a whole one", function()
        for _, text in ipairs {"", "noise"} do
            local dir = unfinished("checkpoint" .. #text)
            support.write(dir .. "/checkpoint.safetensors", text)
            finish(dir)
        end
    end)

    it("stays as it is where it is finished", function()
        local before, times = contents(whole), {}
        for _, name in ipairs(support.list(whole)) do
            times[name] = lfs.attributes(whole .. "/" .. name, "modification")
        end
        local list = words(whole, {"--resume"})
        local status, out = support.advrt(list)
        assert.equal(0, status)
        assert.equal(("The run in %s is finished.\n"):format(whole), out)
        assert.same(before, contents(whole))
        for name, time in pairs(times) do
            assert.equal(time, lfs.attributes(whole .. "/" .. name, "modification"))
        end
    end)

    local function refused(status, wanted, list, environment)
        local got, out, err = support.advrt(list, environment)
        assert.equal(status, got, err)
        assert.equal("", out)
        assert.matches("^advrt: [^\n]+\n$", err)
        for _, text in ipairs(wanted) do assert.truthy(err:find(text, 1, true), err) end
    end

    it("is refused with other options, each by its name", function()
        local dir, journal = unfinished("options")
        for _, case in ipairs {
            {{"--iterations", "26"}, {"--iterations 25, not 26"}},
            {{"--seed", "1", "--targets", "second"}, {"--seed 0, not 1", '--targets "random", not "second"'}},
            {{"--losses", "ce"}, {'--losses ["ce","logit","m_logit"], not ["ce"]'}},
            {{"--limit", "5"}, {"--limit left out, not 5"}},
            {{"--shard", "1/2"}, {"--shard [1,1], not [1,2]"}},
        } do
            local list = words(dir, case[1])
            list[#list + 1] = "--resume"
            refused(2, case[2], list)
        end
        local list = words(dir, {"--resume"})
        table.insert(list, 1, "--plan")
        table.insert(list, 2, "direct")
        refused(2, {'--plan "fast", not "direct"'}, list)
        refused(2, {"--iterations 25, not 26"}, words(whole, {"--iterations", "26", "--resume"}))
        refused(2, {"not empty", "--resume to continue"}, words(dir))
        refused(2, {"holds no run to continue"}, words(images, {"--resume"}))
        -- A unit that the kill cut short may be gone, no whole one is.
        local now = support.read(dir .. "/records.part")
        assert.is_true(#now > 0 and journal:sub(1, #now) == now)
        finish(dir)
    end)

    it("is refused where net, weights or images have changed", function()
        local mine = base .. "/changed"
        lfs.mkdir(mine)
        for _, name in ipairs {"fashion.lua", "fashion.safetensors"} do
            support.write(mine .. "/" .. name, support.read("nets/" .. name))
        end
        local more = {"--net", mine .. "/fashion.lua", "--weights", mine .. "/fashion.safetensors"}
        local dir = base .. "/of_changed"
        stopped(dir, "INT", {at = "commit", count = 4}, more)
        more[#more + 1] = "--resume"
        local function changed(path, wanted, change)
            local bytes = support.read(path)
            support.write(path, change(bytes))
            refused(1, {wanted}, words(dir, more))
            support.write(path, bytes)
        end
        changed(mine .. "/fashion.lua", "fashion.lua: the net changed",
            function(text) return text .. "\n" end)
        changed(mine .. "/fashion.safetensors", "fashion.safetensors: the weights changed",
            function(bytes) return bytes:sub(1, -2) .. string.char(bytes:byte(-1) ~ 1) end)
        local names = support.list(images)
        changed(images .. "/" .. names[3], names[3] .. " has changed",
            function() return support.read(images .. "/" .. names[4]) end)
        changed(images .. "/labels.csv", names[1] .. " was of class",
            function(text) return (text:gsub(",(%d)", function(d) return "," .. (d + 1) % 10 end, 1)) end)
        local elsewhere = words(dir, more)
        elsewhere[#elsewhere + 1] = "--weights"
        elsewhere[#elsewhere + 1] = "nets/fashion.safetensors"
        local status, _, err = support.advrt(elsewhere)
        assert.equal(0, status, err)
        assert.equal(contents(whole)["records.msgpack"], contents(dir)["records.msgpack"])
    end)

    it("ends at a damaged image, and goes on once that is mended", function()
        local names = {}
        for _, name in ipairs(support.list(images)) do
            if name:find("%.png$") then names[#names + 1] = name end
        end
        -- One of the first batch, with which nothing is begun; and the last one.
        for _, name in ipairs {names[2], names[#names]} do
            local dir, path = base .. "/damaged", images .. "/" .. name
            local bytes = support.read(path)
            support.write(path, bytes:sub(1, -30))
            local status, _, err = support.advrt(words(dir))
            support.write(path, bytes)
            assert.equal(1, status)
            assert.matches("^advrt: [^\n]*" .. name:gsub("%p", "%%%0") .. ": is truncated[^\n]*\n$", err)
            assert.equal(name == names[#names], err:find("--resume", 1, true) ~= nil)
            assert.equal(name == names[#names], support.exists(dir))
        end
        finish(base .. "/damaged")
    end)

    it("has one process at a time", function()
        local dir = base .. "/two"
        local parts = {support.quote(system.options.executable)}
        for _, word in ipairs(words(dir, {"--resume"})) do parts[#parts + 1] = support.quote(word) end
        local status, _, err = support.advrt(words(dir), support.stop {at = "commit", count = 4,
            command = ("unset LUA_INIT; %s >%s/out 2>%s/err; echo $? >>%s/out"):format(
                table.concat(parts, " "), base, base, base)})
        assert.equal(0, status, err)
        assert.equal("1\n", support.read(base .. "/out"))
        assert.matches("^advrt: [^\n]+: another process is using it[^\n]*\n$",
            support.read(base .. "/err"))
        assert.same(contents(whole), contents(dir))
    end)

    it("goes on when the disk has room again", function()
        local dir = base .. "/full"
        -- In blocks of 512 bytes: room for the first units, and then none for the next; at last for all
        -- but the kept images.
        for _, blocks in ipairs {90, 160} do
            local list = words(dir, {"--resume"})
            local status, _, err = support.advrt(list, ("trap '' XFSZ; ulimit -f %d;"):format(blocks))
            assert.equal(1, status, err)
            assert.matches("File too large; finished work is kept; continue with: [^\n]+\n$", err)
            assert.is_false(support.exists(dir .. "/run.json"))
        end
        finish(dir)
    end)

    it("may be merged from shards", function()
        local shards = {}
        for i = 1, 3 do
            shards[i] = base .. "/shard" .. i
            local more = {"--shard", i .. "/3"}
            if i == 2 then stopped(shards[i], "KILL", {at = "commit", count = 3}, more) end
            more[#more + 1] = "--resume"
            local status, _, err = support.advrt(words(shards[i], more))
            assert.equal(0, status, err)
        end
        local dir = base .. "/merged"
        local status, out, err = support.advrt {merge, shards[3], shards[1], shards[2], "--out", dir,
            "--no-figures"}
        assert.equal(0, status, err)
        assert.matches("11 images, 10 right on the clean image", out)
        local wanted, got = contents(whole), contents(dir)
        wanted["run.json"], got["run.json"] = nil, nil
        assert.same(wanted, got)
        local other = base .. "/other"
        assert.equal(0, (support.advrt(words(other, {"--shard", "2/3", "--seed", "7"}))))
        local unready = unfinished("unready")
        for _, case in ipairs {
            {{shards[1], shards[3]}, "shard 2/3 is missing"},
            {{shards[1], shards[1]}, "are both shard 1/3"},
            {{shards[1], other, shards[3]}, other .. " is not a shard of the same run as " .. shards[1]
                .. ": run with different options: --seed 0, not 7"},
            {{shards[1], whole}, "it is one of 1 shards, not of 3"},
            {{unready}, "the run is not finished"},
            {{images}, "run.json"},
        } do
            local list = table.move(case[1], 1, #case[1], 2, {merge})
            list[#list + 1], list[#list + 2] = "--out", base .. "/refused"
            refused(1, {case[2]}, list)
            assert.is_false(support.exists(base .. "/refused"))
        end
        local file <close> = io.open(shards[3] .. "/records.msgpack", "rb")
        local records = file:read("a")
        local all = {merge, shards[1], shards[2], shards[3], "--out", base .. "/refused"}
        local function changed(shard, name, bytes, told)
            support.write(shard .. "/" .. name, bytes)
            refused(1, {name .. ": was changed after the run"}, all)
            support.reseal(shard)
            refused(1, told, all)
        end
        changed(shards[3], "records.msgpack", "",
            {"records.msgpack: holds ", " records, 10 attacked images have 30"})
        assert.is_false(support.exists(base .. "/refused"))
        os.remove(shards[3] .. "/records.msgpack")
        lfs.mkdir(shards[3] .. "/records.msgpack")
        refused(1, {shards[3] .. "/records.msgpack: is a directory"}, all)
        lfs.rmdir(shards[3] .. "/records.msgpack")
        refused(1, {shards[3] .. "/records.msgpack: is missing"}, all)
        support.write(shards[3] .. "/records.msgpack", records)
        support.reseal(shards[3])
        changed(shards[1], "adversarial.safetensors", ("\xff"):rep(16),
            {shards[1] .. "/adversarial.safetensors: holds no images of ce"})
        assert.is_false(support.exists(base .. "/refused"))
    end)
end)
