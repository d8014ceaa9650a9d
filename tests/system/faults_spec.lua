-- Files that cannot be written: each operation on a file in turn fails, is interrupted or takes a part
-- alone (tests/faults). A run then ends with one line, leaves nothing half written under a final name,
-- and ends as it would have when it is gone on with. ADVRT_FAULTS=all takes every operation, else a few
-- of each kind are. Allocations fail too: with `all` each of tests/faults/starve.lua's works and of a
-- process, and of a run each place (tests/faults/faults.c) that is told by six calls.

local lfs = require "lfs"
local support = require "support"
local system = require "advrt.core.system"

local every = os.getenv "ADVRT_FAULTS" == "all"
local reasons = {EIO = "Input/output error", ENOSPC = "No space left on device"}

-- What an unfinished run may hold that a finished one does not: the journal, perturbations that wait
-- for those of other losses, and what is named in `passing`.
local function waits(name, passing)
    return name == "records.part" or name:find("%.part%.safetensors$") or passing and passing[name]
end

describe("a world in which files fail", function()
    local base, images

    setup(function()
        base = support.folder()
        images = support.images(base .. "/images", 4)
    end)
    teardown(function() support.remove(base) end)

    -- The operations on files below `dir` of a run that does not fail: an array of {what, name}, name
    -- being the one that the file gets in the end, without its number.
    local function operations(words, dir)
        local log = base .. "/log"
        os.remove(log)
        local status, _, err = support.advrt(words(dir),
            support.faults {ADVRT_FAULT_AT = dir, ADVRT_FAULT_LOG = log})
        assert.equal(0, status, err)
        local list = {}
        for line in io.lines(log) do
            local what, path = line:match("^%d+ (%S+) (.*)$")
            list[#list + 1] = {what = what, name = path:sub(#dir + 2)}
        end
        local final
        for i = #list, 1, -1 do
            local one = list[i]
            if one.what == "rename" then final = one.name end
            if one.name:find("%.advrt%-%x+%.tmp$") then one.name, one.renamed = final, true end
            one.name = one.name:gsub("%d+%-[%w-]+%.png$", "N.png")
        end
        return list
    end

    -- The numbers of operations to fail at: of those alike one, and of these as many as there is time
    -- for.
    local function chosen(list, is_wanted)
        local known, found = {}, {}
        for i, one in ipairs(list) do
            local key = one.what .. " " .. one.name
            if is_wanted(one) and (every or not known[key]) then
                known[key] = true
                found[#found + 1] = i
            end
        end
        if every then return found end
        local some, step = {}, math.max(1, #found // 8)
        for i = math.random(1, step), #found, step do some[#some + 1] = found[i] end
        -- Never left to chance: where a unit of work may be told of and not be on disk.
        for i = #list, 1, -1 do
            if list[i].what == "fsync" and list[i].name == "records.part" and is_wanted(list[i]) then
                some[#some + 1] = i
                break
            end
        end
        return some
    end

    local function last_line(err) return err:match("([^\n]*)\n$") or err end

    -- words(dir, more): the command; whole: the folder of a run that did not fail; contents(dir): what
    -- files hold, by name; passing: names of files of the work at hand, of which
    -- those that are "whole" in the end are looked at then.
    local function check(words, whole, contents_of, passing)
        local function contents(dir)
            local found = contents_of(dir)
            for name, what in pairs(passing) do
                if what == "passing" then found[name] = nil end
            end
            return found
        end
        local seed = os.time()
        math.randomseed(seed)
        local list = operations(words, whole)
        local wanted, dir = contents(whole), base .. "/broken"
        support.remove(dir)
        local function adds(one) return one.what == "open" or one.what == "write" or one.what == "mkdir" end
        for kind, is_wanted in pairs {EIO = function() return true end, ENOSPC = adds} do
            for _, n in ipairs(chosen(list, is_wanted)) do
                local one = list[n]
                local told = ("%s at operation %d of %d, %s of %s (random seed %d)"):format(kind, n, #list,
                    one.what, one.name, seed)
                local status, _, err = support.advrt(words(dir), support.faults {ADVRT_FAULT_AT = dir,
                    ADVRT_FAULT = ("%s:%d"):format(kind, n)})
                -- What the journal held is on disk before it is closed; a file that tries a folder holds
                -- nothing.
                local harmless = one.what == "close" and not one.renamed and passing[one.name]
                assert.equal(harmless and 0 or 1, status, told .. ": " .. err)
                if status == 1 then
                    local line = last_line(err)
                    assert.matches("^advrt: ", line, 1, false)
                    assert.truthy(line:find(dir, 1, true) and line:find(reasons[kind], 1, true),
                        told .. ": " .. line)
                    assert.is_nil(err:find("traceback", 1, true), told .. ": " .. err)
                end
                for name, digest in pairs(contents(dir)) do
                    if not waits(name, passing) then
                        assert.equal(wanted[name], digest, told .. ": " .. name)
                    end
                end
                local more, out
                status, out, more = support.advrt(words(dir))
                assert.equal(0, status, told .. ", then gone on with: " .. out .. more)
                assert.same(wanted, contents(dir), told)
                support.remove(dir)
            end
        end
        for _, fault in ipairs {"EINTR:1", "EINTR:2", "SHORT:1"} do
            local status, _, err = support.advrt(words(dir),
                support.faults {ADVRT_FAULT_AT = dir, ADVRT_FAULT = fault})
            assert.equal(0, status, fault .. ": " .. err)
            assert.same(wanted, contents(dir), fault)
            support.remove(dir)
        end
    end

    it("does a run no harm", function()
        check(function(dir)
            return {system.options.root .. "/experiments/equal_perturbation.lua", "--images", images,
                "--iterations", "6", "--batch", "2", "--losses", "ce,logit", "--magnitude", "1",
                "--save-adversarial", "last", "--no-figures", "--resume", "--out", dir}
        end, base .. "/whole", support.contents, {["records.part"] = "passing"})
    end)

    it("does a set of adversarial examples no harm", function()
        check(function(dir)
            return {system.options.root .. "/experiments/make_adversarial.lua", "--images", images,
                "--iterations", "6", "--batch", "2", "--losses", "ce", "--limit", "3", "--extra", "1",
                "--magnitude", "1", "--resume", "--out", dir}
        end, base .. "/set", support.contents, {["records.part"] = "passing"})
    end)

    it("does training no harm", function()
        for class = 0, 9 do
            local folder = ("%s/data/%%s/%d"):format(base, class)
            for _, part in ipairs {"train", "val"} do
                os.execute("mkdir -p " .. support.quote(folder:format(part)))
                support.write(folder:format(part) .. "/0.png", support.read(images .. "/"
                    .. support.list(images)[1 + class % 3]))
            end
        end
        -- The log's last three columns tell of time.
        local function contents(dir)
            local found = support.contents(dir)
            if found["log.csv"] then
                local text = support.read(dir .. "/log.csv"):gsub((",[^,\n]*"):rep(3) .. "\n", "\n")
                found["log.csv"] = system.digest(text)
            end
            return found
        end
        check(function(dir)
            lfs.mkdir(dir)
            return {system.options.root .. "/experiments/train.lua", "--net", "mlp", "--data",
                base .. "/data", "--batch", "5", "--epochs", "3", "--out", dir .. "/w.safetensors", "--log",
                dir .. "/log.csv", "--checkpoint", dir .. "/checkpoint.safetensors"}
        end, base .. "/trained", contents,
            {["checkpoint.safetensors"] = "passing", ["w.safetensors.advrt-try"] = "passing",
                ["log.csv.advrt-try"] = "passing", ["checkpoint.safetensors.advrt-try"] = "passing",
                ["log.csv"] = "whole"})
    end)

    it("does a run no harm where the disk is really full", function()
        local disk = base .. "/disk"
        lfs.mkdir(disk)
        local function size(kilobytes, more)
            return os.execute(("mount -t tmpfs -o %ssize=%dk tmpfs %s 2>/dev/null"):format(more or "",
                kilobytes, support.quote(disk)))
        end
        if not size(48) then
            pending "a disk of its own size takes a user who may mount one"
            return
        end
        local _ <close> = setmetatable({}, {__close = function()
            os.execute("umount " .. support.quote(disk))
        end})
        local function words(dir)
            return {system.options.root .. "/experiments/equal_perturbation.lua", "--images", images,
                "--iterations", "6", "--batch", "2", "--losses", "ce,logit", "--magnitude", "1", "--resume",
                "--out", dir}
        end
        local whole, dir = base .. "/plotted", disk .. "/run"
        assert.equal(0, (support.advrt(words(whole))))
        local wanted, full = support.contents(whole), 0
        for _, kilobytes in ipairs {48, 160, 400, 560, 720, 880, 4000} do
            assert(size(kilobytes, "remount,"))
            local status, _, err = support.advrt(words(dir))
            if kilobytes == 4000 then assert.equal(0, status, err) end
            if status ~= 0 then
                full = full + 1
                local line = last_line(err)
                assert.truthy(line:find("^advrt: ") and line:find(dir, 1, true), err)
                assert.truthy(line:find(reasons.ENOSPC, 1, true) or line:find("gnuplot", 1, true), err)
                for name, digest in pairs(support.contents(dir)) do
                    if not waits(name) then
                        assert.equal(wanted[name], digest, ("%d kB: %s: %s"):format(kilobytes, name, err))
                    end
                end
            end
        end
        assert.is_true(full >= 4, full .. " disks were full")
        assert.same(wanted, support.contents(dir))
    end)
end)

describe("a run's folder among its images", function()
    it("is none of them", function()
        local base <close> = setmetatable({path = support.folder()},
            {__close = function(self) support.remove(self.path) end})
        local images = support.images(base.path .. "/images", 2)
        for _, to in ipairs {images .. "/out", images .. "/out", base.path .. "/other"} do
            local status, _, err = support.advrt {system.options.root .. "/experiments/equal_multiplier.lua",
                "--images", images, "--iterations", "1", "--losses", "ce", "--no-figures", "--resume",
                "--out", to}
            assert.equal(0, status, err)
        end
        assert.same(support.contents(images .. "/out"), support.contents(base.path .. "/other"))
    end)
end)

describe("a file that is there and cannot be read", function()
    local base, images, loop

    setup(function()
        base = support.folder()
        images = support.images(base .. "/images", 2)
        loop = base .. "/loop" -- root may read all else
        assert(lfs.link(loop, loop, true))
    end)
    teardown(function() support.remove(base) end)

    local function refused(words, path)
        local status, out, err = support.advrt(words)
        assert.equal("", out)
        assert.equal("advrt: " .. path .. ": Too many levels of symbolic links\n", err:match("[^\n]*\n$"))
        assert.equal(1, status)
        assert.is_nil(err:find("traceback", 1, true))
    end

    it("is not waited for", function()
        local pipe = base .. "/pipe"
        assert(os.execute("mkfifo " .. support.quote(pipe)))
        for _, option in ipairs {"--net", "--require", "--weights"} do
            local status, _, err = support.advrt({system.options.root .. "/experiments/equal_multiplier.lua",
                "--images", images, option, pipe, "--out", base .. "/piped"}, "timeout 60")
            local named = option == "--require" and option .. ": " or ""
            assert.equal(("advrt: %s%s: is no regular file\n"):format(named, pipe), err)
            assert.equal(1, status)
            assert.is_false(support.exists(base .. "/piped"))
        end
    end)

    it("is not taken as one that is missing", function()
        local root = system.options.root
        local run = base .. "/run"
        assert.equal(0, (support.advrt {root .. "/experiments/equal_perturbation.lua", "--images", images,
            "--iterations", "2", "--losses", "ce", "--no-figures", "--out", run}))
        os.execute(("cp -r %s %s.b"):format(support.quote(run), support.quote(run)))
        os.remove(run .. "/classes.txt")
        assert(lfs.link(loop, run .. "/classes.txt", true))
        refused({root .. "/experiments/compare.lua", run, run .. ".b", "--out", base .. "/both"},
            run .. "/classes.txt")
        assert.is_false(support.exists(base .. "/both/report.html"))
        for _, call in ipairs {"net').load(%q)", "loss').load(%q)", "paper.checkpoint').load(%q, {})"} do
            local script = "require 'advrt.support.fail' (select(2, require('advrt." .. call .. "))"
            refused({"-e", script:format(loop)}, loop)
        end
    end)
end)

describe("a world without memory", function()
    local base, images

    setup(function()
        base = support.folder()
        images = support.images(base .. "/images", 2)
    end)
    teardown(function() support.remove(base) end)

    it("lets each work say so, and be done afterwards", function()
        local run, out = base .. "/run", base .. "/out"
        local status, _, err = support.advrt {system.options.root .. "/experiments/equal_perturbation.lua",
            "--images", images, "--iterations", "6", "--batch", "2", "--losses", "ce,logit", "--magnitude",
            "1", "--no-figures", "--out", run}
        assert.equal(0, status, err)
        lfs.mkdir(out)
        local said
        status, said, err = support.advrt({"--threads", "1", system.options.root
            .. "/tests/faults/starve.lua", run, out, every and "all" or nil}, support.faults {})
        assert.equal(0, status, said .. err)
        local _, count = said:gsub("allocations failed", "")
        assert.is_true(count >= 16, said)
    end)

    it("ends a process in one line", function()
        local failures, n = 0, 1
        local list = {"-e", "print(#require 'advrt.loss'.names())"}
        local counting = list[2] .. " io.stderr:write(os.getenv 'ADVRT_FAULT?')"
        local _, _, told_count = support.advrt({"-e", counting},
            support.faults {ADVRT_FAULT = "alloc:1000000000"})
        local count = assert(tonumber(told_count), told_count)
        assert.is_true(count > 1000, told_count)
        while n < count + 100 do
            for _, kind in ipairs {"alloc", "alloc+"} do
                local told = ("%s:%d"):format(kind, n)
                local status, out, err = support.advrt(list, support.faults {ADVRT_FAULT = told})
                assert.is_true(status == 0 or status == 1, ("%s: %d: %s"):format(told, status, err))
                if status == 0 then
                    assert.equal("4\n", out, told)
                else
                    failures = failures + 1
                    -- A script that requires a module is told the way to it.
                    local first = err:match("^advrt: [^\n]*\n$")
                        or err:match("^advrt: [^\n]*\n\t[^\n]*\nstack")
                    -- Lua looks for a module by opening files, and cannot tell why that fails.
                    local unseen = err:find("^advrt: [^\n]*module 'advrt%.[%w_.]+' not found:")
                    assert.truthy(unseen or (first or ""):find("memory", 1, true), told .. ": " .. err)
                end
            end
            n = every and n + 1 or math.ceil(n * 1.6) + math.random(0, 5)
        end
        assert.is_true(failures >= 15, failures .. " failures")
    end)

    it("ends a run in one line, with nothing half written, and lets it be gone on with", function()
        local log, whole, dir = base .. "/log", base .. "/unstarved", base .. "/starved"
        local function words(to)
            return {"--threads", "1", system.options.root .. "/experiments/equal_perturbation.lua",
                "--images", images, "--iterations", "3", "--batch", "2", "--losses", "ce", "--magnitude", "1",
                "--no-figures", "--resume", "--out", to}
        end
        local status, _, err = support.advrt(words(whole),
            support.faults {ADVRT_FAULT = "places:6", ADVRT_FAULT_LOG = log})
        assert.equal(0, status, err)
        local wanted, names = support.contents(whole), {}
        for name in support.read(log):gmatch "%d+ place ([%x-]+)\n" do names[#names + 1] = name end
        assert.is_true(#names > 1000, #names .. " places")
        local failures, step = 0, every and 1 or #names // 12
        for i = math.random(step), #names, step do
            local fault = (i // step % 2 == 0 and "at:" or "at+:") .. names[i]
            status, _, err = support.advrt(words(dir), support.faults {ADVRT_FAULT = fault})
            assert.is_true(status == 0 or status == 1, ("%s: %d: %s"):format(fault, status, err))
            if status == 1 then
                failures = failures + 1
                -- A script that requires a module is told the way to it, as above.
                local first = err:match("advrt: ([^\n]*)\n$") or err:match("advrt: ([^\n]*\n\t[^\n]*)\nstack")
                assert.truthy((first or ""):find("memory", 1, true)
                    or err:find("module 'advrt%.[%w_.]+' not found:"), fault .. ": " .. err)
            end
            for name, digest in pairs(support.exists(dir) and support.contents(dir) or {}) do
                if not waits(name) then assert.equal(wanted[name], digest, fault .. ": " .. name) end
            end
            local more
            status, _, more = support.advrt(words(dir))
            assert.equal(0, status, fault .. ", then gone on with: " .. more)
            assert.same(wanted, support.contents(dir), fault)
            support.remove(dir)
        end
        assert.is_true(failures >= 6, failures .. " failures")
    end)
end)
