-- experiments/attacks.lua as a user runs it, on the bundled net and images.

local json = require "dkjson"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"

local script = system.options.root .. "/experiments/attacks.lua"
local CHEAP = "fgs,ifgs:steps=3,pgd:norm=2:steps=3:restarts=2,"
    .. "lbfgs:searches=1:iterations=4,cw:iterations=8:rate=0.2:searches=1:c=10:starts=2"

describe("experiments/attacks.lua", function()
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

    it("flips the bundled images with L-BFGS and C&W, closer than PGD can", function()
        local radii, names = {0.5, 0.75, 1, 1.5, 2}, {}
        for i, eps in ipairs(radii) do names[i] = ("pgd:norm=2:steps=20:eps=%g"):format(eps) end
        names[6], names[7] = "lbfgs:searches=4:iterations=25",
            "cw:iterations=100:rate=0.1:searches=4:c=1"
        run_well("least", {"--attacks", table.concat(names, ","), "--limit", "12", "--batch", "12",
            "--no-figures"})
        local rows = support.rows(base .. "/least/attacks.csv")
        local pgd, lbfgs, cw = nil, rows[6], rows[7]
        for i = 5, 1, -1 do
            if rows[i].success < rows[i].images then break end
            pgd = rows[i]
        end
        assert.is_true(rows[1].success < 12 and pgd ~= nil) -- the smallest that flips all is among them
        assert.same({12, 12, 12}, {lbfgs.images, lbfgs.success, cw.success})
        assert.is_true(cw.l2_median <= pgd.l2_median, cw.l2_median .. " " .. pgd.l2_median)
        assert.is_true(lbfgs.l2_median <= 1.5 * cw.l2_median)
    end)

    it("leaves tables, records and a picture that agree", function()
        local dir = base .. "/all"
        local out, err = run_well("all", {"--attacks", CHEAP, "--limit", "5", "--batch", "4"})
        assert.same({"attacks.csv", "fig_attacks.gp", "fig_attacks.png", "fig_attacks.svg",
            "left_out.csv", "perturbations.csv", "records.msgpack", "run.json"}, support.list(dir))
        assert.matches("5 images, 5 right on the clean image %(100.00 %%%), 5 attacked, towards", out)
        assert.matches("\nlbfgs:searches=1:iterations=4 +%d of 5 ", out)
        assert.matches("5 images attacked with 5 attacks", err)
        local rows, images = support.rows(dir .. "/attacks.csv"), support.rows(dir .. "/perturbations.csv")
        assert.equal(5, #rows)
        assert.equal(25, #images)
        assert.same({"fgs", 1, 5, 1, 1}, {rows[1].attack, rows[1].targeted, rows[1].images,
            rows[1].forward, rows[1].backward})
        local k, success, forward = 0, {0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}
        for r in record.each(dir .. "/records.msgpack") do
            local one, a = images[k + 1], k % 5 + 1
            assert.equal(rows[a].attack, r.attack)
            for _, name in ipairs {"attack", "file", "label", "target", "prediction", "forward",
                "backward"} do
                assert.equal(one[name], r[name])
            end
            assert.near(one.l2, r.l2, 1e-7)
            assert.near(one.linf, r.linf, 1e-8)
            assert.equal(r.success, r.prediction == r.target)
            assert.equal(r.success and 1 or 0, one.success)
            assert.is_true(k < 5 or images[k - 4].file < one.file)
            success[a] = success[a] + one.success
            forward[a] = forward[a] + r.forward
            k = k + 1
        end
        assert.equal(25, k)
        for a, row in ipairs(rows) do
            assert.equal(success[a], row.success)
            assert.near(forward[a] / 5, row.forward, 1e-6)
            assert.near(row.seconds, row.seconds_forward + row.seconds_backward + row.seconds_step,
                1e-6)
        end
        local about = assert(json.decode(support.read(dir .. "/run.json")))
        assert.same({"attacks", 5, 0, 5, false}, {about.setting, about.images_found,
            about.images_wrong, about.images_attacked, about.options.untargeted})
        assert.equal("lbfgs:searches=1:iterations=4", about.options.attacks[4])
        assert.is_true(about.seconds.fgs > 0)
    end)

    it("gives the same bytes again, whatever else is attacked, and in shards", function()
        local function bytes(name, words)
            table.move({"--attacks", CHEAP, "--batch", "4", "--no-figures"}, 1, 5, #words + 1, words)
            run_well(name, words)
            return support.read(("%s/%s/records.msgpack"):format(base, name))
        end
        local all = bytes("nine", {"--limit", "9"})
        assert.equal(all, bytes("again", {"--limit", "9"}))
        local three = bytes("three", {"--limit", "3"})
        assert.equal(all:sub(1, #three), three)
        assert.equal(all, bytes("first", {"--limit", "9", "--shard", "1/2"})
            .. bytes("second", {"--limit", "9", "--shard", "2/2"}))
        assert.is_true(all ~= bytes("seed", {"--limit", "9", "--seed", "1"}))
    end)

    it("attacks away from the label, too", function()
        local out = run_well("away", {"--attacks", "fgs:eps=0.1", "--limit", "10", "--untargeted",
            "--no-figures"})
        assert.matches("attacked, untargeted", out)
        for _, row in ipairs(support.rows(base .. "/away/perturbations.csv")) do
            assert.equal(-1, row.target)
            assert.equal(row.success == 1, row.prediction ~= row.label)
            assert.near(0.1, row.linf, 1e-6)
        end
        assert.is_true(support.rows(base .. "/away/attacks.csv")[1].success > 5)
    end)

    it("leaves nothing where it is interrupted before any image is finished", function()
        local dir = base .. "/interrupted"
        local status, _, err = support.advrt({script, "--attacks", "cw", "--out", dir},
            support.stop {at = "update", of = ", images %d", count = 20, signal = "INT"})
        assert.equal(130, status)
        assert.matches("advrt: interrupted\n$", err)
        assert.is_false(support.exists(dir))
    end)

    it("refuses what cannot work in one line", function()
        for _, case in ipairs {
            {2, "'--attack'; did you mean '--attacks'?", {"--attack", "fgs"}},
            {2, "unknown attack 'fsg'; did you mean 'fgs'?", {"--attacks", "fsg"}},
            {2, "'pgd': eps must be a number above 0, got x", {"--attacks", "pgd:eps=x"}},
            {2, "'cw' has no parameter 'kapa'; did you mean 'kappa'?", {"--attacks", "cw:kapa=1"}},
            {2, "attack 'fgs' is given twice", {"--attacks", "fgs,fgs"}},
            {2, "'--untargeted' can not be used together", {"--targets", "second", "--untargeted"}},
            {2, "leads back to the label itself", {"--targets", "offset:10"}},
            {1, "there is no such folder", {"--images", base .. "/nowhere"}},
        } do
            local status, out, err = run("refused", case[3])
            assert.same({case[1], ""}, {status, out})
            assert.matches("^advrt: [^\n]+\n$", err)
            assert.truthy(err:find(case[2], 1, true), err)
            assert.is_false(support.exists(base .. "/refused"))
        end
    end)
end)
