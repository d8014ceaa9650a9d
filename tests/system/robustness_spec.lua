-- experiments/robustness.lua as a user runs it, on the bundled net and images.

local json = require "dkjson"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"
local stats = require "advrt.results.stats"
local tables = require "advrt.results.tables"

local script = system.options.root .. "/experiments/robustness.lua"

describe("experiments/robustness.lua", function()
    local base
    setup(function() base = support.folder() end)
    teardown(function() support.remove(base) end)

    local function run(name, words)
        local all = {script, "--out", base .. "/" .. name}
        table.move(words, 1, #words, #all + 1, all)
        return support.advrt(all)
    end

    local function run_well(name, words)
        local status, out, err = run(name, words)
        assert.equal(0, status, err)
        return out, err
    end

    local function records(name)
        local list = {}
        for r in record.each(("%s/%s/records.msgpack"):format(base, name)) do list[#list + 1] = r end
        return list
    end

    it("leaves tables, records, a picture and a report that agree", function()
        local dir = base .. "/all"
        local out = run_well("all", {"--attacks", "apgd:steps=5,square:queries=8", "--matrix", "dlr,logit",
            "--eps", "0.02,0,1/255", "--limit", "24", "--batch", "24"})
        assert.same({"fig_robust.gp", "fig_robust.pdf", "fig_robust.png", "fig_robust.svg", "left_out.csv",
            "matrix.csv", "matrix.tex", "paired.csv", "paired.tex", "records.msgpack", "report.html",
            "robustness.csv", "robustness.tex", "run.json"}, support.list(dir))
        assert.matches("24 images, 23 right on the clean image", out)
        local rows, found = support.rows(dir .. "/robustness.csv"), 24
        local order = {}
        for i, row in ipairs(rows) do order[i] = ("%.4f %s %s"):format(row.eps, row.attack, row.loss) end
        assert.same({"0.0000 all ", "0.0039 apgd:steps=5 ce", "0.0039 square:queries=8 m_logit",
            "0.0039 all ", "0.0200 apgd:steps=5 ce", "0.0200 square:queries=8 m_logit", "0.0200 all "}, order)
        local right = 23
        for _, row in ipairs(rows) do
            assert.equal("inf", row.norm)
            if row.attack ~= "all" then
                assert.equal(right, row.right)
                right = right - row.broken
            else
                assert.same({23, 23 - right}, {row.right, row.broken})
            end
            assert.near(right / found, row.robust_accuracy, 1e-8)
            local low, high = tables.interval(right, found)
            assert.near(low, row.low, 1e-8)
            assert.near(high, row.high, 1e-8)
        end
        assert.is_true(right > 0 and right < 20)
        -- an image that is broken is attacked no more by what spares it
        local broken, counts, before = {}, {}, ""
        for _, r in ipairs(records("all")) do
            assert.is_true(r.file >= before)
            before = r.file
            local chain = r.part == "attacks" and r.file or table.concat({r.file, r.attack, r.loss}, " ")
            assert.is_nil(broken[chain])
            broken[chain] = r.broken or nil
            assert.is_true(r.linf <= r.eps * (1 + 1e-12))
            assert.equal(r.broken, r.prediction ~= r.label)
            local key = ("%s %s %s %.4f"):format(r.part, r.attack, r.loss, r.eps)
            counts[key] = (counts[key] or 0) + (r.broken and 1 or 0)
        end
        for _, row in ipairs(rows) do
            local key = ("attacks %s %s %.4f"):format(row.attack, row.loss, row.eps)
            if row.attack ~= "all" then assert.equal(row.broken, counts[key], key) end
        end
        local matrix, left = support.rows(dir .. "/matrix.csv"), {}
        assert.equal(8, #matrix)
        for _, row in ipairs(matrix) do
            local pair = row.attack .. " " .. row.loss
            left[pair] = (left[pair] or 23) - counts[("matrix %s %.4f"):format(pair, row.eps)]
            assert.near(left[pair] / found, row.robust_accuracy, 1e-8)
        end
        -- Images that are right under one loss alone, of those that both attack.
        local paired = support.rows(dir .. "/paired.csv")
        assert.equal(4, #paired)
        for _, row in ipairs(paired) do
            local lost = {dlr = {}, logit = {}}
            for _, r in ipairs(records("all")) do
                if r.part == "matrix" and r.attack == row.attack and r.eps <= row.eps * (1 + 1e-6) then
                    lost[r.loss][r.file] = lost[r.loss][r.file] or r.broken or nil
                end
            end
            local only = {dlr = 0, logit = 0}
            for file in pairs(lost.dlr) do only.logit = only.logit + (lost.logit[file] and 0 or 1) end
            for file in pairs(lost.logit) do only.dlr = only.dlr + (lost.dlr[file] and 0 or 1) end
            assert.same({"dlr", "logit", 23, only.dlr, only.logit},
                {row.loss_a, row.loss_b, row.n, row.only_a, row.only_b})
            assert.near(stats.sign_test(only.dlr, only.logit), row.p, 1e-6)
        end
        assert.is_true(paired[2].only_b > 3)
        local about = assert(json.decode(support.read(dir .. "/run.json")))
        assert.same({"robustness", 24, 1, 23, {"0.02", "0", "1/255"}, {"dlr", "logit"}, "inf"},
            {about.setting, about.images_found, about.images_wrong, about.images_attacked,
                about.options.eps, about.options.matrix, about.options.norm})
        assert.is_true(about.seconds.matrix > 0 and about.seconds["apgd:steps=5"] > 0)
        local page = support.read(dir .. "/report.html")
        for _, text in ipairs {"<h1>Robust accuracy</h1>", "square:queries=8", "Losses and attacks", "<svg",
            "Pairs of losses", ("%.1f&thinsp;%%"):format(100 * right / found)} do
            assert.truthy(page:find(text, 1, true), text)
        end
    end)

    it("takes an attack without an eps for what it finds within each, in the norm 2", function()
        run_well("two", {"--norm", "2", "--attacks", "ddn:steps=30", "--matrix", "none", "--limit", "12",
            "--batch", "12", "--eps", "0.1,0.3,3", "--no-figures"})
        local all = {}
        for _, row in ipairs(support.rows(base .. "/two/robustness.csv")) do
            if row.attack == "all" then all[#all + 1] = row end
        end
        assert.equal(3, #all)
        assert.is_true(all[1].broken < all[2].broken and all[2].broken < all[3].broken)
        assert.equal(0, all[3].robust_accuracy)
        for _, r in ipairs(records("two")) do
            assert.equal(r.broken, r.prediction ~= r.label and r.l2 <= r.eps)
        end
        assert.same({}, support.rows(base .. "/two/matrix.csv"))
    end)

    it("needs no attack where eps is 0 alone", function()
        local out = run_well("clean", {"--eps", "0", "--limit", "10", "--no-figures"})
        assert.matches("\n0 +all +10 +0 +100.0 %% +72.2 to 100.0\n", out)
        local rows = support.rows(base .. "/clean/robustness.csv")
        assert.same({1, 1}, {#rows, rows[1].robust_accuracy})
    end)

    it("refuses what cannot work in one line", function()
        for _, case in ipairs {
            {2, "wants numbers or fractions of at least 0, such as 0.01 or 8/255, got '-1'", {"--eps", "-1"}},
            {2, "got '1/0'", {"--eps", "1/0"}}, {2, "got 'x'", {"--eps", "0,x"}},
            {2, "got 'nan'", {"--eps", "nan"}}, {2, "got ''", {"--eps", "0.1,"}},
            {2, "got '1/2/3'", {"--eps", "1/2/3"}}, {2, "got 'inf'", {"--eps", "inf"}},
            {2, "2/510 is given twice", {"--eps", "1/255,2/510"}},
            {2, "'apgd:eps=0.1' sets its own eps; give --eps instead", {"--attacks", "apgd:eps=0.1"}},
            {2, "fgs is an attack in norm inf, not in --norm 2", {"--attacks", "fgs", "--norm", "2"}},
            {2, "cw is an attack in norm 2, not in --norm inf", {"--attacks", "cw"}},
            {2, "unknown loss 'dlrr'", {"--matrix", "dlrr"}},
            {2, "unknown attack 'apdg'; did you mean 'apgd'?", {"--attacks", "apdg"}},
        } do
            local status, out, err = run("refused", case[3])
            assert.same({case[1], ""}, {status, out})
            assert.matches("^advrt: [^\n]+\n$", err)
            assert.truthy(err:find(case[2], 1, true), err)
            assert.is_false(support.exists(base .. "/refused"))
        end
    end)

    it("refuses shards whose records are not all there", function()
        local words = {"--attacks", "fgs", "--matrix", "none", "--eps", "0.01,0.02", "--limit", "10",
            "--no-figures"}
        for i = 1, 2 do
            local list = table.move(words, 1, #words, 1, {"--shard", i .. "/2"})
            list[#list + 1], list[#list + 2] = "--shard", i .. "/2"
            run_well("shard" .. i, list)
        end
        local path = base .. "/shard1/records.msgpack"
        local all, count, last = support.read(path), 0, nil
        for r in record.each(path) do count, last = count + 1, r end
        assert.is_true(count > 5 and last ~= nil)
        local cut, at = nil, 0 -- the last record begins where the last map of 15 fields does
        repeat
            at = all:find("\x8f\xa4file", at + 1, true)
            cut = at or cut
        until not at
        support.write(path, all:sub(1, cut - 1))
        support.reseal(base .. "/shard1")
        local status, _, err = support.advrt {system.options.root .. "/experiments/merge.lua",
            "--no-figures", "--out", base .. "/merged", base .. "/shard1", base .. "/shard2"}
        assert.equal(1, status)
        assert.matches("^advrt: [^\n]*records.msgpack: holds %d+ records of fgs at eps 0.0[12], %d+ images "
            .. "had that attack\n$", err)
    end)
end)
