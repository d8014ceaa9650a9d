-- Runs with --seeds: a run for each choice of random targets, and their spread; gone on with, and in shards.

local csv = require "advrt.support.csv"
local ranks = require "ranks"
local support = require "support"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"

local experiments = system.options.root .. "/experiments/"
local may = ranks.may(it, pending)

describe("a run with several seeds", function()
    local base, images, whole, out

    local function words(dir, more)
        local list = {"--threads", "1", experiments .. "equal_perturbation.lua", "--images", images,
            "--iterations", "12", "--batch", "3", "--losses", "ce,logit", "--magnitude", "0.3",
            "--no-figures", "--out", dir}
        return table.move(more or {}, 1, #(more or {}), #list + 1, list)
    end

    local function well(list, before)
        local status, said, err = support.advrt(list, before)
        assert.equal(0, status, err)
        return said
    end

    local function refused(wanted_status, wanted, list)
        local status, said, err = support.advrt(list)
        assert.equal(wanted_status, status, err)
        assert.equal("", said)
        assert.matches("^advrt: [^\n]+\n$", err)
        assert.truthy(err:find(wanted, 1, true), err)
    end

    -- What the folders of the seeds hold, and the table of all.
    local function contents(dir)
        local found = {}
        for _, name in ipairs {"seeds.csv", "seeds.tex"} do found[name] = support.read(dir .. "/" .. name) end
        for _, name in ipairs(support.list(dir)) do
            if name:find("^seed%-") then
                found[name] = support.contents(dir .. "/" .. name)
                found[name]["run.json"] = nil
            end
        end
        return found
    end

    setup(function()
        base = support.folder()
        images = support.images(base .. "/images", 7)
        whole = base .. "/whole"
        out = well(words(whole, {"--seeds", "3", "--seed", "4"}))
    end)
    teardown(function() support.remove(base) end)

    it("is the runs of these seeds, each by itself", function()
        assert.same({"report.html", "seed-4", "seed-5", "seed-6", "seeds.csv", "seeds.tex"},
            support.list(whole))
        local alone = base .. "/alone"
        well(words(alone, {"--targets", "random:5", "--seed", "4"}))
        assert.same(support.contents(alone), support.contents(whole .. "/seed-5"))
        assert.truthy(support.read(whole .. "/seed-5/report.html"):find("--targets random:5 ", 1, true))
        -- What --seed alone chooses is the first of them.
        local first = base .. "/first"
        well(words(first, {"--seed", "4"}))
        support.same_files(first, whole .. "/seed-4", {"records.msgpack", "paired.csv",
            "least_perturbation.csv"})
        assert.not_equal(support.read(whole .. "/seed-4/records.msgpack"),
            support.read(whole .. "/seed-5/records.msgpack"))
        -- One seed is a run as any: nothing tells of the option.
        local one = base .. "/one"
        well(words(one, {"--seed", "4", "--seeds", "1"}))
        assert.same(support.contents(first), support.contents(one))
        assert.is_nil(support.read(one .. "/run.json"):find("seeds", 1, true))
        well(words(one, {"--seed", "4", "--resume"}))
    end)

    it("tells mean and standard deviation over the seeds", function()
        local values = {}
        for seed = 4, 6 do
            for _, row in ipairs(support.rows(("%s/seed-%d/table1.csv"):format(whole, seed))) do
                values[row.loss] = values[row.loss] or {}
                table.insert(values[row.loss], row)
            end
        end
        local names = {flipped = "flipped", iterations = "iterations_mean", common_images = "common_images",
            common_iterations = "common_mean"}
        local count = 0
        for _, row in ipairs(support.rows(whole .. "/seeds.csv")) do
            assert.equal(3, row.seeds)
            if names[row.quantity] then
                local list = {}
                for i, one in ipairs(values[row.loss]) do list[i] = one[names[row.quantity]] end
                local mean, std = tables.mean_std(list)
                assert.near(mean, row.mean, 1e-6)
                assert.near(std, row.std, 1e-6)
                assert.equal(math.min(table.unpack(list)), row.least)
                assert.equal(math.max(table.unpack(list)), row.most)
                count = count + 1
            end
        end
        assert.equal(8, count)
        assert.matches("\nCE +[%d.]+ ± [%d.]+ ", out)
        assert.truthy(out:find("Mean ± standard deviation of Table I over 3 choices of random targets", 1,
            true))
        for line in out:gmatch("[^\n]+") do
            assert.is_true(utf8.len(line) <= 100 or line:find(base, 1, true) ~= nil, line)
        end
        assert.equal(1, select(2, out:gsub("Images: 7 of the 7", "")))
        assert.truthy(support.read(whole .. "/report.html"):find('<a href="seed-5/report.html">', 1, true))
        assert.equal("setting,loss,quantity,seeds,mean,std,least,most",
            table.concat(csv.parse(support.read(whole .. "/seeds.csv"))[1], ","))
    end)

    it("goes on where it was killed, and adds seeds", function()
        local dir = base .. "/killed"
        local list = words(dir, {"--seeds", "3", "--seed", "4", "--resume"})
        assert.equal(137, (support.advrt(list, support.stop {at = "commit", count = 2, of = "seed%-5",
            signal = "KILL"})))
        assert.same({"seed-4", "seed-5"}, support.list(dir))
        local status, _, err = support.advrt(list, support.stop {at = "commit", count = 1, of = "seed%-5",
            signal = "INT"})
        assert.equal(130, status, err)
        local command = err:match("^advrt: interrupted; finished work is kept; continue with: ([^\n]+)\n$")
            or err:match("\nadvrt: interrupted; finished work is kept; continue with: ([^\n]+)\n$")
        assert.truthy(command, err)
        assert.equal(1, select(2, command:gsub(" %-%-out " .. dir:gsub("%W", "%%%0") .. " ", "")), command)
        support.sure(command)
        assert.same(contents(whole), contents(dir))
        -- A finished one stays as it is.
        local page = support.read(dir .. "/report.html")
        assert.truthy(well(list):find("The run in " .. dir .. "/seed-6 is finished.", 1, true))
        assert.equal(page, support.read(dir .. "/report.html"))
        well(words(dir, {"--seeds", "4", "--seed", "4", "--resume"}))
        assert.same({"report.html", "seed-4", "seed-5", "seed-6", "seed-7", "seeds.csv",
            "seeds.tex"}, support.list(dir))
        assert.truthy(support.read(dir .. "/seeds.csv"):find("\nequal_perturbation,ce,flipped,4,", 1, true))
        refused(2, "holds seed-7, which", words(dir, {"--seeds", "3", "--seed", "4", "--resume"}))
    end)

    it("is joined from shards, seed by seed", function()
        local merge = {experiments .. "merge.lua", "--no-figures", "--out", base .. "/merged"}
        for i = 1, 2 do
            local dir = base .. "/shard" .. i
            well(words(dir, {"--seeds", "3", "--seed", "4", "--shard", i .. "/2"}))
            table.insert(merge, 2, dir)
        end
        local said = well(merge)
        assert.truthy(said:find("over 3 choices of random targets", 1, true))
        assert.same(contents(whole), contents(base .. "/merged"))
        local other = base .. "/two"
        well(words(other, {"--seeds", "2", "--seed", "4", "--shard", "2/2"}))
        refused(1, "merge shards of the same --seeds", {experiments .. "merge.lua", base .. "/shard1", other,
            "--no-figures", "--out", base .. "/none"})
        assert.is_false(support.exists(base .. "/none"))
    end)

    it("draws the figures of every seed as they are asked for, and so does a merge", function()
        local small = {"--threads", "1", experiments .. "equal_perturbation.lua", "--images", images,
            "--limit", "2", "--iterations", "3", "--losses", "ce", "--seeds", "2"}
        local form = {"--figure-size", "column", "--bands", "sd", "--no-titles"}
        local function with(list, more) return table.move(more, 1, #more, #list + 1, {table.unpack(list)}) end
        well(with(with(small, form), {"--out", base .. "/drawn"}))
        local merge = with({experiments .. "merge.lua"}, form)
        for i = 1, 2 do
            local dir = base .. "/drawn" .. i
            well(with(small, {"--no-figures", "--shard", i .. "/2", "--out", dir}))
            merge[#merge + 1] = dir
        end
        well(with(merge, {"--out", base .. "/drawn-merged"}))
        for _, seed in ipairs {"/seed-0/", "/seed-1/"} do
            local script = support.read(base .. "/drawn" .. seed .. "fig3a.gp")
            assert.truthy(script:find("mean and one standard deviation", 1, true))
            assert.is_nil(script:find("'Softmax of the initial", 1, true))
            assert.matches("/MediaBox %[ 0 0 24[01]", support.read(base .. "/drawn" .. seed .. "fig3a.pdf"))
            support.same_files(base .. "/drawn" .. seed, base .. "/drawn-merged" .. seed,
                {"fig3a.gp", "fig3a.pdf", "figflipped.pdf"})
        end
    end)

    may("is the work of several processes", function()
        local dir = base .. "/ranks"
        local list = words(dir, {"--seeds", "3", "--seed", "4"})
        local status, _, err = ranks.several(2, list)
        assert.equal(0, status, err)
        assert.same(contents(whole), contents(dir))
    end)

    it("is refused where no target is random, and in a folder of another kind", function()
        local none = base .. "/none"
        for _, rule in ipairs {"offset:1", "second", "class:2"} do
            refused(2, "--targets is " .. rule .. "; give --targets random, or omit --seeds",
                words(none, {"--seeds", "2", "--targets", rule}))
        end
        refused(2, "--seeds wants a whole number from 1 to 1000", words(none, {"--seeds", "0"}))
        refused(2, "there is no option '--seeds'", {experiments .. "attacks.lua", "--seeds", "2", "--out",
            none})
        assert.is_false(support.exists(none))
        refused(2, "the run in it was started with --seeds", words(whole, {"--resume", "--seed", "4"}))
        refused(2, "not empty; give a new or empty one, or --resume", words(whole, {"--seeds", "3"}))
        local plain = base .. "/plain"
        well(words(plain))
        refused(2, "the run in it was started without --seeds", words(plain, {"--resume", "--seeds", "3"}))
        refused(1, "holds a run for each seed; give one of its folders", {experiments .. "compare.lua", whole,
            plain, "--out", none})
        well {experiments .. "compare.lua", whole .. "/seed-4", whole .. "/seed-5", "--out", none}
        local status, _, err = support.advrt(words(whole, {"--seeds", "3", "--seed", "4", "--iterations",
            "13", "--resume"}))
        assert.equal(2, status)
        assert.matches("^advrt: [^\n]+ %-%-iterations 12, not 13; [^\n]+\n$", err)
    end)
end)
