-- Runs as the work of several processes, started by mpirun on this machine. The plugin is left out of
-- the build for the sanitizers: Open MPI keeps memory of its own to the end.

local lfs = require "lfs"
local support = require "support"
local system = require "advrt.core.system"

local script = system.options.root .. "/experiments/equal_perturbation.lua"
local launcher = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,vader "
    .. "mpirun --oversubscribe -n %d"

-- Why nothing can be started here by mpirun.
local function lacking()
    if not os.execute("command -v mpirun >/dev/null 2>&1") then
        return "there is no mpirun (make deps-dev installs it)"
    elseif not support.exists(system.options.executable:match("^(.*)/") .. "/advrt_mpi.so") then
        return "this advrt is built without its plugin for Open MPI"
    end
end

-- support.advrt, by `count` processes.
local function several(count, words) return support.advrt(words, launcher:format(count)) end

-- What advrt itself has said on standard error, line by line; mpirun says things of its own.
local function said(err)
    local lines = {}
    for line in err:gmatch("[^\n]*") do
        if line:find("^advrt: ") then lines[#lines + 1] = line end
    end
    return lines
end

local function may(name, f)
    local reason = lacking()
    if reason then return pending(name .. ": " .. reason) end
    it(name, f)
end

describe("a process", function()
    local base
    setup(function() base = support.folder() end)
    teardown(function() support.remove(base) end)

    local LOADED = [[
        for line in io.lines("/proc/self/maps") do
            if line:find("libmpi", 1, true) then print "loaded" break end
        end]]

    it("that is alone does without MPI", function()
        local status, out = support.advrt {"-e", LOADED}
        assert.equal(0, status)
        assert.equal("", out)
    end)

    may("that mpirun started alone does too, and one of two does not", function()
        local _, out = several(1, {"-e", LOADED})
        assert.equal("", out)
        _, out = several(2, {"-e", LOADED})
        assert.equal("loaded\nloaded\n", out)
    end)

    it("that was started as one of several says what it needs", function()
        lfs.mkdir(base .. "/bin")
        lfs.mkdir(base .. "/share")
        support.write(base .. "/bin/advrt", support.read(system.options.executable))
        os.execute("chmod +x " .. base .. "/bin/advrt; ln -s " .. support.quote(system.options.root) .. " "
            .. base .. "/share/advrt")
        local done = os.execute(("OMPI_COMM_WORLD_SIZE=2 %s/bin/advrt -e 'x = 1' 2>%s/err"):format(base,
            base))
        assert.is_nil(done)
        assert.equal(("advrt: started as one of several processes: there is no advrt_mpi.so in %s/bin: build "
            .. "advrt where Open MPI is (libopenmpi-dev), or start one process\n"):format(base),
            support.read(base .. "/err"))
    end)

    may("speaks with the others", function()
        local status, out, err = several(3, {"-e", [[
            local dist = require "advrt.dist"
            local told = dist.broadcast(dist.rank == 0 and "told" or "not heard")
            local all = dist.gather(told .. (" "):rep(dist.rank) .. dist.rank .. "/" .. dist.size)
            dist.wait()
            if all then print(table.concat(all, "|")) end
            dist.mute()
            print("rank " .. dist.rank)]]})
        assert.equal(0, status, err)
        assert.equal("told0/3|told 1/3|told  2/3\nrank 0\n", out)
    end)

    may("ends the others with it, in one line and with its status", function()
        for _, case in ipairs {
            {"require 'advrt.fail'('no disk')", 1, "^advrt: rank 1 of 2 on [^ ]+: no disk$"},
            {"require 'advrt.fail'.option('no such thing')", 2, ": no such thing$"},
            {"os.exit(7)", 7},
        } do
            local status, _, err = several(2, {"-e", ([[
                local dist = require "advrt.dist"
                if dist.rank == 1 then %s end
                dist.wait()
                print "never"]]):format(case[1])})
            local lines = said(err)
            assert.equal(case[2], status, err)
            assert.equal(case[3] and 1 or 0, #lines, err)
            if case[3] then assert.matches(case[3], lines[1]) end
        end
        -- What goes wrong with all of them is said once.
        local status, out, err = several(3, {script, "--los", "ce"})
        assert.equal(2, status)
        assert.equal("", out)
        assert.same({"advrt: there is no option '--los'; did you mean '--losses'?"}, said(err))
    end)
end)

describe("an experiment of two processes", function()
    local base, whole

    local function words(dir, more)
        local list = {script, "--limit", "11", "--iterations", "12", "--batch", "3", "--losses", "ce,m_logit",
            "--save-adversarial", "first", "--magnitude", "0.3", "--no-figures", "--out", dir}
        return table.move(more or {}, 1, #(more or {}), #list + 1, list)
    end

    setup(function()
        base = support.folder()
        whole = base .. "/whole"
        if lacking() then return end
        local list = words(whole)
        table.insert(list, 1, "--threads=1") -- which run.json tells
        local status, _, err = support.advrt(list)
        assert.equal(0, status, err)
    end)
    teardown(function() support.remove(base) end)

    local function run(count, dir, more, code)
        local list = words(dir, more)
        if code then table.move({"-e", code}, 1, 2, 1, table.move(list, 1, #list, 3)) end
        table.insert(list, 1, "--threads=1")
        return several(count, list)
    end

    -- Code for rank 1: `what` where two of its units of work are kept.
    local function after_two(what)
        return ([[
            local dist, journal = require "advrt.dist", require "advrt.journal"
            local open = journal.open
            function journal.open(path)
                local j, message = open(path)
                local commit, count = j.commit, 0
                function j:commit(note)
                    count = count + 1
                    if dist.rank == 1 and count == 4 then %s end
                    commit(self, note)
                end
                return j, message
            end]]):format(what)
    end

    may("leaves what one process leaves, byte for byte", function()
        local dir = base .. "/two"
        local status, out, err = run(2, dir)
        assert.equal(0, status, err)
        assert.same(support.contents(whole), support.contents(dir))
        -- One of them has said it.
        assert.equal(1, select(2, out:gsub("11 images, ", "")))
        assert.equal(1, select(2, err:gsub("images attacked", "")))
        status, out = run(2, dir, {"--resume"})
        assert.equal(0, status)
        assert.equal(("The run in %s is finished.\n"):format(dir), out)
        status, out, err = run(2, dir)
        assert.equal(2, status)
        assert.equal("", out)
        assert.matches("^advrt: %-%-out .*: the folder is not empty", said(err)[1])
    end)

    may("has processes without an image of their own", function()
        local dir = base .. "/three"
        local status, _, err = run(3, dir, {"--limit", "2"})
        assert.equal(0, status, err)
        local list = words(base .. "/short", {"--limit", "2"})
        table.insert(list, 1, "--threads=1")
        assert.equal(0, (support.advrt(list)))
        assert.same(support.contents(base .. "/short"), support.contents(dir))
    end)

    local function finish(dir)
        assert.is_false(support.exists(dir .. "/records.msgpack"))
        assert.is_false(support.exists(dir .. "/run.json"))
        local status, _, err = run(3, dir, {"--resume"})
        assert.equal(2, status, err)
        assert.equal(1, #said(err), err)
        assert.matches("2 processes share the run in .*; go on with it by mpirun %-n 2$", said(err)[1])
        status, _, err = support.advrt(words(dir, {"--resume"}))
        assert.equal(2, status)
        assert.matches("go on with it by mpirun %-n 2\n$", err)
        status, _, err = run(2, dir, {"--resume"})
        assert.equal(0, status, err)
        assert.same(support.contents(whole), support.contents(dir))
    end

    may("ends when one is killed, and goes on", function()
        local dir = base .. "/killed"
        local status, _, err = run(2, dir, nil, after_two "os.execute 'kill -9 $PPID'")
        assert.equal(137, status, err)
        assert.matches("mpirun noticed that process rank 1 .* exited on signal 9", err)
        finish(dir)
    end)

    may("ends when one fails, says how to go on, and does", function()
        local dir = base .. "/failed"
        local status, _, err = run(2, dir, nil, after_two "require 'advrt.fail'('the disk is gone')")
        assert.equal(1, status, err)
        assert.equal(1, #said(err), err)
        assert.matches("^advrt: rank 1 of 2 on [^ ]+: the disk is gone; what was done is kept, go on with: "
            .. "mpirun %-n 2 .* %-%-resume$", said(err)[1])
        finish(dir)
    end)

    may("goes on with what was cut short while it was joined", function()
        local dir = base .. "/joined"
        local code = [[
            local results = require "advrt.results"
            local write = results.write
            function results.write(out, run)
                local rows, pictures = write(out, run)
                if run.about.options.shard[2] == 1 then os.execute "kill -9 $PPID" end
                return rows, pictures
            end]]
        assert.equal(137, (run(2, dir, nil, code)))
        local status, _, err = run(2, dir, {"--resume"})
        assert.equal(0, status, err)
        assert.same(support.contents(whole), support.contents(dir))
    end)

    may("is refused where its shards are chosen by hand, and where it is one process's work", function()
        local status, _, err = run(2, base .. "/none", {"--shard", "1/2"})
        assert.equal(2, status)
        assert.same({"advrt: --shard: mpirun itself shares out the work; leave it out"}, said(err))
        status, _, err = several(2, {system.options.root .. "/experiments/evaluate.lua"})
        assert.equal(2, status)
        assert.same({"advrt: evaluate.lua is the work of one process; start it without mpirun"}, said(err))
        assert.is_false(support.exists(base .. "/none"))
    end)

    may("leaves a set of adversarial examples in its parts", function()
        local dir = base .. "/set"
        local status, out, err = several(2, {system.options.root .. "/experiments/make_adversarial.lua",
            "--limit", "6", "--iterations", "20", "--magnitude", "0.3", "--losses", "ce", "--batch", "4",
            "--out", dir})
        assert.equal(0, status, err)
        local list = out:match("parts: %-%-set ([^\n]+)\n$")
        local alone = base .. "/set_alone"
        assert.equal(0, (support.advrt {system.options.root .. "/experiments/make_adversarial.lua",
            "--limit", "6", "--iterations", "20", "--magnitude", "0.3", "--losses", "ce", "--batch", "4",
            "--out", alone}))
        local survive = {}
        for i, set in ipairs {list, alone} do
            status, out, err = support.advrt {system.options.root .. "/experiments/transformations.lua",
                "--set", set, "--transformations", "bits:4", "--out", base .. "/survive" .. i}
            assert.equal(0, status, err)
            survive[i] = out:match("^.*\n\n") or out:gsub("[^\n]*/survive[^\n]*", "")
        end
        assert.equal(survive[2], survive[1])
    end)
end)
