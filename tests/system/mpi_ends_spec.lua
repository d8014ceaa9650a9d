-- How runs of several processes end early: by a signal, and where the processes are not alike. Each ends in
-- one line of advrt's and none waits for ever.

local lfs = require "lfs"
local ranks = require "ranks"
local support = require "support"
local system = require "advrt.core.system"

local may, said = ranks.may(it, pending), ranks.said
local root = system.options.root

describe("a run of two processes", function()
    local base, whole

    local function words(dir, ...)
        return {"--threads", "1", root .. "/experiments/equal_perturbation.lua", "--iterations", "60",
            "--batch", "3", "--losses", "ce,m_logit", "--magnitude", "0.3", "--no-figures", "--out", dir, ...}
    end

    setup(function()
        base = support.folder()
        whole = base .. "/whole"
        if ranks.lacking() then return end
        local status, _, err = support.advrt(words(whole))
        assert.equal(0, status, err)
    end)
    teardown(function() support.remove(base) end)

    -- That one line was said, which matches, and nothing came out.
    local function refused(dir, wanted_status, wanted, status, _, err)
        assert.equal(wanted_status, status, err)
        assert.equal(1, #said(err), err)
        assert.matches(wanted, said(err)[1])
        assert.is_false(support.exists(dir .. "/records.msgpack"))
    end

    for _, signal in ipairs {"INT", "TERM"} do
        may("goes on after SIG" .. signal .. " to mpirun with the command that it says", function()
            local dir = base .. "/" .. signal
            local status, _, err = ranks.stopped(2, signal, {at = "commit", count = 3}, words(dir))
            assert.is_true(status > 0)
            assert.equal(1, #said(err), err)
            assert.is_false(support.exists(dir .. "/records.msgpack"))
            status, _, err = ranks.go_on(err)
            assert.equal(0, status, err)
            assert.same(support.contents(whole), support.contents(dir))
        end)
    end

    may("ends where mpirun itself is killed, and goes on", function()
        local dir = base .. "/KILL"
        local status, _, err = ranks.stopped(2, "KILL", {at = "commit", count = 3}, words(dir))
        assert.equal(137, status, err)
        assert.is_false(support.exists(dir .. "/records.msgpack"))
        for _ = 1, 100 do -- until they have noticed
            status, _, err = ranks.several(2, words(dir, "--resume"))
            if not err:find("another process is at work", 1, true) then break end
        end
        assert.equal(0, status, err)
        assert.same(support.contents(whole), support.contents(dir))
    end)

    may("is refused where they have other options, or other weights", function()
        local dir = base .. "/unlike"
        refused(dir, 1, "^advrt: rank 1 of 2 has a different run than rank 0: run with different options: "
            .. "%-%-limit 9, not 11", ranks.apart(words(dir, "--limit", "11"), words(dir, "--limit", "9")))
        dir = base .. "/other"
        local both, weights = {}, support.read(root .. "/nets/fashion.safetensors")
        for i, name in ipairs {"one", "another"} do
            lfs.mkdir(base .. "/" .. name)
            support.write(("%s/%s/w.safetensors"):format(base, name),
                i == 1 and weights or weights:sub(1, -2) .. "?")
            both[i] = words(dir, "--weights", "w.safetensors")
            both[i].of = "-wdir " .. base .. "/" .. name
        end
        refused(dir, 1,
            "^advrt: rank 1 of 2 has a different run than rank 0: with different weights "
                .. "%(another SHA.256%)$",
            ranks.apart(both[1], both[2]))
        assert.is_false(support.exists(dir))
        dir = base .. "/script"
        local other = words(dir)
        other[3] = root .. "/experiments/equal_multiplier.lua"
        refused(dir, 1, "^advrt: rank 1 of 2 runs a different version of advrt or a different script than "
            .. "rank 0$",
            ranks.apart(words(dir), other))
    end)

    may("is refused where one is of another version", function()
        local dir, old = base .. "/versions", base .. "/old"
        local build = system.options.executable:match("^(.*)/")
        os.execute(("mkdir -p %s/bin %s/share/advrt && cp %s/advrt %s/advrt_mpi.so %s/bin && cp -r %s/lua "
            .. "%s/share/advrt && ln -s %s/nets %s/experiments %s/share/advrt"):format(old, old, build, build,
            old, root, old, root, root, old))
        local file = assert(io.open(old .. "/share/advrt/lua/advrt/attacks/pgd.lua", "a"))
        file:write("-- of another day\n")
        file:close()
        local other = words(dir)
        other.advrt = old .. "/bin/advrt"
        refused(dir, 1, "^advrt: rank 1 of 2 runs a different version of advrt or a different script than "
            .. "rank 0$",
            ranks.apart(words(dir), other))
        assert.is_false(support.exists(dir))
    end)

    may("is refused where one does not see the folder", function()
        lfs.mkdir(base .. "/here")
        lfs.mkdir(base .. "/there")
        local soon = "require 'advrt.run.folder'.patience = 0.5"
        local one, other = words "run", words "run"
        table.move({"-e", soon}, 1, 2, 1, table.move(one, 1, #one, 3))
        table.move({"-e", soon}, 1, 2, 1, table.move(other, 1, #other, 3))
        one.of, other.of = "-wdir " .. base .. "/here", "-wdir " .. base .. "/there"
        refused(base .. "/here/run", 1, "^advrt: rank 1 of 2 on [^ ]+: %-%-out run: this process does not "
            .. "see the files of rank 0; all processes must see the same folder$",
            ranks.apart(one, other))
        assert.same({}, support.list(base .. "/here"))
        assert.same({}, support.list(base .. "/there"))
    end)

    may("ends where the disk of one is full, and goes on", function()
        local dir = base .. "/full"
        local other = words(dir)
        other.env = support.faults {ADVRT_FAULT = "ENOSPC:60", ADVRT_FAULT_AT = dir}
        local status, _, err = ranks.apart(words(dir), other)
        assert.equal(1, status, err)
        assert.equal(1, #said(err), err)
        assert.matches("^advrt: rank 1 of 2 on [^ ]+: .*No space left on device; finished work is kept; "
            .. "continue with: mpirun %-n 2 ", said(err)[1])
        status, _, err = ranks.go_on(err)
        assert.equal(0, status, err)
        assert.same(support.contents(whole), support.contents(dir))
    end)

    may("waits for a slow one without using the processor", function()
        local status, out, err = ranks.several(2, {"-e", [[
            local dist, tensor = require "advrt.dist", require "advrt.tensor"
            local began = os.clock()
            if dist.rank == 0 then os.execute "sleep 2" end
            local sum = dist.sum(tensor.from {1.5}):get(1)
            local used = dist.gather(("%g %.3f"):format(sum, os.clock() - began))
            if used then print(table.concat(used, " ")) end]]})
        assert.equal(0, status, err)
        local one, _, other, used = out:match("^(%S+) (%S+) (%S+) (%S+)\n$")
        assert.same({"3", "3"}, {one, other})
        assert.is_true(tonumber(used) < 0.5, out)
    end)

    may("trains with the same settings, or not at all", function()
        local script = [[
            local dist, net, tensor = require "advrt.dist", require "advrt.net", require "advrt.tensor"
            local train = require "advrt.train"
            local first, rate, images = dist.rank == 0, 0.01, 20
            local epochs = 2
            %s
            local labels = {}
            for i = 1, images do labels[i] = i %% 10 end
            train.run {net = net.load("mlp", {init = "he"}),
                images = tensor.uniform("x", {images, 1, 28, 28}),
                labels = labels, epochs = epochs, batch = 5, optimiser = train.sgd {rate = rate},
                shared = true}
        ]]
        for _, change in ipairs {"epochs = first and 2 or 3", "rate = first and rate or 0.1",
            "images = first and 20 or 25"} do
            refused(base, 1, "^advrt: rank 1 of 2 trains with different settings, images or another kind of "
                .. "processor than rank 0", ranks.several(2, {"-e", script:format(change)}))
        end
        local status, _, err = ranks.several(2, {"-e", script:format ""})
        assert.equal(0, status, err)
    end)
end)
