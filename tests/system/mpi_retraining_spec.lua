-- Adversarial retraining as the work of several processes: one process's, but for the order of sums.

local adversarial = require "advrt.paper.adversarial"
local ranks = require "ranks"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local may, said, several = ranks.may(it, pending), ranks.said, ranks.several
local same_files = support.same_files
local experiments = system.options.root .. "/experiments/"
local attacks = {"--images", system.options.root .. "/nets/fashion-images", "--limit", "25",
    "--iterations", "20", "--magnitude", "0.2", "--batch", "8", "--losses", "ce,logit"}
-- Batches of 15 images, which neither two nor three processes share alike; of batch norm in a second net.
local training = {"--extra", "30", "--detectors", "alexnet,resnet18", "--values", "float32", "--epochs",
    "2", "--train-batch", "15", "--augment", "--test-share", "0.4", "--validation-share", "0.2",
    "--no-figures"}

local function words(...)
    local all = {"--threads", "1"}
    for _, list in ipairs {...} do
        for _, word in ipairs(type(list) == "table" and list or {list}) do all[#all + 1] = word end
    end
    return all
end

local tables = {"table2.csv", "table3.csv", "tables.txt", "runs.csv", "records.msgpack"}

-- The bytes of a set's images, each behind what the index tells of it, in the order of the set.
local function images_of(set)
    local list, names = {}, {}
    local feed = set:feed(false)
    local x, y = tensor.new {1, table.unpack(set.input)}, tensor.new({1}, "i64")
    for name in pairs(set.of) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
        local of = set.of[name]
        feed:start {order = tensor.from(of.number, "i64"), batch = 1}
        for k = 1, #of.number do
            assert(feed:next(x, y))
            list[#list + 1] = ("%s %s %d %d %d %d %s"):format(name, of.file[k], of.label[k], of.target[k],
                of.survives[k], y:get(1), system.digest(x:bytes()))
        end
    end
    return list
end

describe("retraining by several processes", function()
    local base, alone, two
    setup(function()
        base = support.folder()
        alone, two = base .. "/alone", base .. "/two"
        if ranks.lacking() then return end
        local status, _, err = support.advrt(words(experiments .. "retraining.lua", attacks, training,
            "--out", alone))
        assert.equal(0, status, err)
        status, _, err = several(2, words(experiments .. "retraining.lua", attacks, training, "--out", two))
        assert.equal(0, status, err)
    end)
    teardown(function() support.remove(base) end)

    local function go(count, dir, code, ...)
        return several(count, words(code and {"-e", code} or {}, experiments .. "retraining.lua", attacks,
            training, "--out", dir, ...))
    end

    -- The losses of every training and epoch, which lie within 1e-4 of one process's; and the same tables.
    local function like_alone(dir)
        local rows = 0
        for _, name in ipairs(support.list(alone .. "/logs")) do
            local a, b = support.rows(alone .. "/logs/" .. name), support.rows(dir .. "/logs/" .. name)
            assert.equal(#a, #b)
            for i, row in ipairs(a) do
                assert.near(row.loss, b[i].loss, 1e-4 * row.loss, name)
                assert.equal(row.accuracy, b[i].accuracy)
                assert.equal(row.validation_accuracy, b[i].validation_accuracy)
                rows = rows + 1
            end
        end
        assert.equal(3 * 2 * 2, rows)
        same_files(alone, dir, tables)
    end

    may("makes the images of one process's set, in the parts of a job array, byte for byte", function()
        local dirs = {two .. "/set/shards/1-of-2", two .. "/set/shards/2-of-2"}
        local whole = images_of(adversarial.open {alone .. "/set"})
        assert.same(whole, images_of(adversarial.open(dirs)))
        assert.is_true(#whole > 25 + 30 + 25)
        for i, dir in ipairs(dirs) do
            local part = ("%s/part%d"):format(base, i)
            local status, _, err = support.advrt(words(experiments .. "make_adversarial.lua", attacks,
                "--extra", "30", "--out", part, "--shard", i .. "/2"))
            assert.equal(0, status, err)
            assert.same(support.list(part), support.list(dir))
            for _, name in ipairs(support.list(part)) do
                if name ~= "run.json" then same_files(part, dir, {name}) end
            end
        end
    end)

    may("trains as one does, batches shared unevenly, and leaves its tables", function()
        like_alone(two)
        local three = base .. "/three"
        local status, out, err = go(3, three)
        assert.equal(0, status, err)
        assert.equal(1, select(2, out:gsub("Table III:", "")))
        like_alone(three)
        assert.matches('"processes":3', support.read(three .. "/run.json"))
        status, out = go(2, two, nil, "--resume")
        assert.equal(0, status)
        assert.equal(("The run in %s is finished.\n"):format(two), out)
    end)

    -- Code that kills a rank with SIGKILL: in the set, inside a training behind a checkpoint, and behind
    -- the commit of a training whose checkpoint is still there.
    local kills = {
        {1, [[local dist, journal = require "advrt.dist", require "advrt.run.journal"
            local open = journal.open
            function journal.open(path)
                local j, message = open(path)
                local commit, count = j.commit, 0
                function j:commit(note)
                    count = count + 1
                    if dist.rank == 1 and path:find "/set/" and count == 4 then
                        os.execute "kill -9 $PPID"
                    end
                    commit(self, note)
                end
                return j, message
            end]]},
        {1, [[local dist, train = require "advrt.dist", require "advrt.train"
            local run = train.run
            function train.run(o)
                local shown = o.progress
                o.every = 0
                function o.progress(step, ...)
                    if dist.rank == 1 and o.name:find "all%-resnet18" and step == 3 then
                        os.execute "kill -9 $PPID"
                    end
                    return shown(step, ...)
                end
                return run(o)
            end]]},
        {0, [[local dist, remove = require "advrt.dist", os.remove
            function os.remove(path)
                if dist.rank == 0 and path:find "checkpoint%-float32%-logit%-alexnet" then
                    os.execute "kill -9 $PPID"
                end
                return remove(path)
            end]]},
    }

    for i, kill in ipairs(kills) do
        may(("ends where rank %d is killed, says how to go on, and does (%d)"):format(kill[1], i), function()
            local dir = ("%s/killed%d"):format(base, i)
            local status, _, err = go(2, dir, kill[2])
            assert.equal(137, status, err)
            assert.equal(1, #said(err), err)
            assert.matches("^advrt: ended by SIGTERM; finished work is kept; continue with: mpirun %-n 2 ",
                said(err)[1])
            assert.is_false(support.exists(dir .. "/run.json"))
            assert.is_false(support.exists(dir .. "/tables.txt"))
            status, _, err = go(i == 1 and 1 or 3, dir, nil, "--resume")
            assert.equal(2, status, err)
            assert.same({("advrt: --resume: 2 processes share the run in %s; resume it with mpirun -n 2")
                :format(dir)}, said(err))
            status, _, err = go(2, dir, nil, "--resume")
            assert.equal(0, status, err)
            same_files(two, dir, tables)
            for _, name in ipairs(support.list(dir)) do assert.is_nil(name:find "^checkpoint") end
        end)
    end

    may("goes on after Ctrl-C with the command that it says", function()
        local dir = base .. "/interrupted"
        local status, _, err = ranks.stopped(2, "INT", {at = "update", of = "on logit", count = 3},
            words(experiments .. "retraining.lua", attacks, training, "--out", dir))
        assert.is_true(status > 0)
        assert.equal(1, #said(err), err)
        assert.is_true(support.exists(dir .. "/logs/float32-ce-alexnet-adam_3e-4.csv"))
        assert.is_false(support.exists(dir .. "/tables.txt"))
        status, _, err = ranks.go_on(err)
        assert.equal(0, status, err)
        same_files(two, dir, tables)
    end)

    may("is refused what one process began, and a look ahead", function()
        local dir = base .. "/began"
        local status, _, err = go(1, dir, (kills[2][2]:gsub("dist.rank == 1", "true"):gsub("os.execute[^\n]*",
            "require 'advrt.support.fail'('here')")))
        assert.equal(1, status, err)
        status, _, err = go(2, dir, nil, "--resume")
        assert.equal(2, status, err)
        assert.same({("advrt: --out %s: one process started the run; resume it without mpirun")
            :format(dir)}, said(err))
        status, _, err = several(2, words(experiments .. "retraining.lua", attacks, "--dry-run"))
        assert.equal(2, status)
        assert.same({"advrt: --dry-run runs in one process; start it without mpirun"}, said(err))
    end)
end)
