-- Runs as the work of several processes, started by mpirun on this machine. The plugin is left out of
-- the build for the sanitizers: Open MPI keeps memory of its own to the end.

local lfs = require "lfs"
local ranks = require "ranks"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local script = system.options.root .. "/experiments/equal_perturbation.lua"
local may, said, several = ranks.may(it, pending), ranks.said, ranks.several

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
            {"require 'advrt.support.fail'('no disk')", 1, "^advrt: rank 1 of 2 on [^ ]+: no disk$"},
            {"require 'advrt.support.fail'.option('no such thing')", 2, ": no such thing$"},
            {"os.exit(7)", 7, "^advrt: ended by SIGTERM$"}, -- which the first, not knowing why, says
        } do
            local status, _, err = several(2, {"-e", ([[
                local dist = require "advrt.dist"
                if dist.rank == 1 then %s end
                dist.wait()
                print "never"]]):format(case[1])})
            local lines = said(err)
            assert.equal(case[2], status, err)
            assert.equal(1, #lines, err)
            assert.matches(case[3], lines[1])
        end
        -- One that ends well does not hold the others for ever.
        for rank = 0, 1 do
            local status, _, err = several(2, {"-e", ([[
                local dist = require "advrt.dist"
                if dist.rank == %d then os.exit(0) end
                dist.sum(require "advrt.tensor".from {1.0})
                print "never"]]):format(rank)})
            assert.equal(1, status, err)
            assert.equal(1, #said(err), err)
            assert.matches(("rank %d has ended and cannot answer$"):format(rank), said(err)[1])
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
        if ranks.lacking() then return end
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
            local dist, journal = require "advrt.dist", require "advrt.run.journal"
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
        assert.matches("2 processes share the run in .*; resume it with mpirun %-n 2$", said(err)[1])
        status, _, err = support.advrt(words(dir, {"--resume"}))
        assert.equal(2, status)
        assert.matches("resume it with mpirun %-n 2\n$", err)
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
        local status, _, err = run(2, dir, nil, after_two "require 'advrt.support.fail'('the disk is gone')")
        assert.equal(1, status, err)
        assert.equal(1, #said(err), err)
        assert.matches("^advrt: rank 1 of 2 on [^ ]+: the disk is gone; finished work is kept; "
            .. "continue with: mpirun %-n 2 .* %-%-resume$", said(err)[1])
        finish(dir)
    end)

    may("goes on with what was cut short while it was joined", function()
        local dir = base .. "/joined"
        local code = [[
            local results = require "advrt.results.finish"
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
        assert.same({"advrt: --shard: mpirun already distributes the work; omit --shard"}, said(err))
        status, _, err = several(2, {system.options.root .. "/experiments/evaluate.lua"})
        assert.equal(2, status)
        assert.same({"advrt: evaluate.lua runs in one process; start it without mpirun"}, said(err))
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

describe("training shared by processes", function()
    if not ranks.devices() then return pending("wants a GPU for each") end
    local base
    setup(function() base = support.folder() end)
    teardown(function() support.remove(base) end)

    -- Twenty steps of a net with batch norm, strides, odd channels and dropout, in batches that neither two
    -- nor three processes share alike. Arguments: where the weights go, "sgd" or "adam", a checkpoint, the
    -- step at which rank 1 is killed. The seed is one of a run without a ReLU on the fence: in its twenty
    -- steps no ReLU's input is nearer to 0 than 2.3e-6 (sgd's 3.6e-6), ten times what a run is off by. With
    -- seed 3 one is 6.6e-9 from 0 in Adam's step 11, and runs that add up in another order part by 2.2e-4.
    local SCRIPT = [[
        local dist, net, tensor = require "advrt.dist", require "advrt.net", require "advrt.tensor"
        local train = require "advrt.train"
        local out, kind, checkpoint, killed = ...
        local g = assert(net.build({name = "small", classes = 4, input = {3, 12, 12}, build = function(b, x)
            local function conv(y, i, channels, stride)
                y = b:conv(y, "conv" .. i,
                    {out = channels, kernel = 3, stride = stride, pad = 1, bias = false})
                return b:relu(b:batchnorm(y, "bn" .. i))
            end
            x = b:add(conv(x, 1, 8, 1), conv(conv(x, 2, 5, 1), 3, 8, 1))
            x = b:dropout(b:adaptive_avgpool(conv(x, 4, 20, 2), {2, 2}), 0.25)
            return b:linear(x, "fc", 4)
        end}, {init = "he", seed = 5}))
        local images, labels = tensor.uniform("images", {62, 3, 12, 12}), {}
        for i = 1, 62 do labels[i] = (i * 7 + i // 5) % 4 end
        local seen = tensor.from({0, 5, 11, 30, 31, 60, 61}, "i64")
        local entries = train.run {net = g, images = images, labels = labels, epochs = 5, batch = 13,
            optimiser = kind == "adam" and train.adam {rate = 1e-3}
                or train.sgd {momentum = 0.9, weight_decay = 5e-4, nesterov = true},
            schedule = kind == "sgd" and train.cosine(0.05, 0.1) or nil, clip = 2, validation = seen,
            augment = {flip = true, shift = 1}, shared = true, checkpoint = checkpoint, every = 0,
            progress = function(step)
                if dist.rank == 1 and step == tonumber(killed) then os.execute "kill -9 $PPID" end
            end}
        if dist.rank == 0 then
            local all, rows = g:state(), {}
            for i, e in ipairs(entries) do rows[i] = {e.loss, e.accuracy, e.validation_accuracy} end
            all.log = tensor.from(rows)
            assert(tensor.save(out, all))
        end]]

    -- The largest distance of a tensor to the same in the other file, relative to its norm.
    local function distance(path, other)
        local a, b, worst, count = tensor.load(path), tensor.load(other), 0, 0
        local function norm(t) return t:reshape({1, -1}):norms():get(1) end
        for name, t in pairs(a) do
            worst, count = math.max(worst, norm(t - b[name]) / norm(b[name])), count + 1
        end
        assert.equal(4 * 5 + 2 + 1, count)
        return worst
    end

    for _, kind in ipairs {"sgd", "adam"} do
        -- A GPU sums in another order each time, and Adam divides a gradient that is rounding alone by its
        -- own size: what is left is its sign.
        local tolerance = kind == "adam" and ranks.device ~= "cpu" and 1e-3 or 1e-4
        may("by " .. kind .. " is one process's, batch norm and dropout included", function()
            local alone = base .. "/alone." .. kind .. ".safetensors"
            local status, _, err = ranks.alone {"-e", SCRIPT, "--", alone, kind}
            assert.equal(0, status, err)
            for count = 2, 3 do
                local path = ("%s/%s%d.safetensors"):format(base, kind, count)
                status, _, err = several(count, {"-e", SCRIPT, "--", path, kind})
                assert.equal(0, status, err)
                local worst = distance(path, alone)
                assert.is_true(worst <= tolerance, ("%d processes: %g"):format(count, worst))
            end
        end)
    end

    if os.getenv "STANDIN_GPUS" then
        may("by sgd on one GPU is refused", function()
            local status, _, err = several(2, {"-e", SCRIPT, "--", base .. "/none", "sgd"}, "STANDIN_GPUS=1")
            assert.equal(1, status)
            assert.matches("rank %d of 2: invalid usage %(each rank needs a GPU of its own%)$", said(err)[1])
        end)
    end

    may("ends when one is killed, and goes on from its checkpoint, bit for bit", function()
        local kept, path = base .. "/checkpoint.safetensors", base .. "/resumed.safetensors"
        local status, _, err = several(2, {"-e", SCRIPT, "--", path, "sgd", kept, "8"})
        assert.equal(137, status, err)
        assert.is_true(support.exists(kept))
        assert.is_false(support.exists(path))
        assert.equal(0, (several(2, {"-e", SCRIPT, "--", path, "sgd", kept})))
        assert.equal(0, distance(path, base .. "/sgd2.safetensors"))
    end)

    may("is refused where the ranks differ, and where they cannot share a batch", function()
        local other = "local dist, net = require 'advrt.dist', require 'advrt.net' local build = net.build "
            .. "net.build = function(d, o) o.seed = dist.rank return build(d, o) end " .. SCRIPT
        local none = base .. "/none.safetensors"
        local status, _, err = several(2, {"-e", other, "--", none, "sgd"})
        assert.equal(1, status, err)
        assert.matches("^advrt: rank 1 of 2 is at another step than rank 0, or has other weights",
            said(err)[1])
        status, _, err = several(3, {"-e", (SCRIPT:gsub("batch = 13", "batch = 2")), "--", none, "sgd"})
        assert.equal(1, status, err)
        assert.same({"advrt: 3 processes cannot share a batch of 2 images; start at most 2"}, said(err))
        assert.is_false(support.exists(none))
    end)

    may("is what experiments/train.lua does", function()
        local image = require "advrt.core.image"
        for _, part in ipairs {"train", "val"} do
            for class = 0, 1 do
                os.execute(("mkdir -p %s/data/%s/%d"):format(base, part, class))
                for i = 1, 8 do
                    assert(image.save(("%s/data/%s/%d/%d.png"):format(base, part, class, i),
                        tensor.uniform(part .. class .. i, {1, 28, 28}):mul_(class == 0 and 1 or 0.3)))
                end
            end
        end
        local function words(out)
            return {system.options.root .. "/experiments/train.lua", "--net", base .. "/net.lua", "--data",
                base .. "/data", "--epochs", "2", "--batch", "4", "--out", out, "--log", out .. ".csv"}
        end
        support.write(base .. "/net.lua",
            (support.read "nets/fashion.lua":gsub("classes = 10", "classes = 2")))
        local first, second = base .. "/first.safetensors", base .. "/second.safetensors"
        local status, said_alone, err = ranks.alone(words(first))
        assert.equal(0, status, err)
        local said_shared
        status, said_shared, err = several(2, words(second))
        assert.equal(0, status, err)
        assert.equal(said_alone:match("test images: [^\n]*"), said_shared:match("test images: [^\n]*"))
        assert.equal(1, select(2, said_shared:gsub("test images", "")))
        local a, b = tensor.load(first), tensor.load(second)
        for name, t in pairs(a) do
            assert.is_true((t - b[name]):reshape({1, -1}):norms():get(1) <= 1e-4
                * t:reshape({1, -1}):norms():get(1), name)
        end
        assert.equal(2, #support.rows(second .. ".csv"))
    end)
end)
