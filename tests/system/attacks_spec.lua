-- experiments/attacks.lua as a user runs it, on the bundled net and images.

local image = require "advrt.core.image"
local json = require "dkjson"
local net = require "advrt.net"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

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
        assert.same({"attacks.csv", "attacks.tex", "fig_attacks.gp", "fig_attacks.pdf", "fig_attacks.png",
            "fig_attacks.svg", "left_out.csv", "paired.csv", "paired.tex", "perturbations.csv",
            "records.msgpack", "run.json"}, support.list(dir))
        assert.matches("5 images, 5 right on the clean image %(100.00 %%%), 5 attacked, towards", out)
        assert.matches("\nlbfgs:searches=1:iterations=4\n +%d of 5 ", out)
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
        -- Of the ten pairs successes, and the distances where both succeed.
        local paired = support.rows(dir .. "/paired.csv")
        assert.equal(10 + 2 * 2 * 10, #paired)
        local a_less, b_less, n, less = 0, 0, 0, 0
        for i = 1, 25, 5 do
            local a, b = images[i + 1], images[i + 4]
            a_less = a_less + (a.success < b.success and 1 or 0)
            b_less = b_less + (b.success < a.success and 1 or 0)
            n = n + (a.success == 1 and b.success == 1 and 1 or 0)
            less = less + (a.success == 1 and b.success == 1 and a.linf < b.linf and 1 or 0)
        end
        local count = 0
        for _, row in ipairs(paired) do
            if row.attack_a == rows[2].attack and row.attack_b == rows[5].attack then
                count = count + 1
                if row.quantity == "success" then
                    assert.same({5, a_less, b_less, "sign_exact"}, {row.n, row.a_less, row.b_less, row.test})
                elseif row.quantity == "linf" then
                    assert.same({n, less}, {row.n, row.a_less})
                end
            end
        end
        assert.equal(5, count)
        assert.matches("\n\nPairs +images +L2 +p +Linf +p\nfgs %- ifgs:steps=3 +%d ", out)
        for line in out:gmatch("[^\n]+") do
            assert.is_true(utf8.len(line) <= 100 or line:find(dir, 1, true) ~= nil, line)
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

    it("asks about an eps that bounds nothing, as 8 where 8/255 is meant", function()
        local _, err = run_well("wide", {"--attacks", "fgs:eps=8,fgs,cw:iterations=1", "--limit", "2",
            "--no-figures"})
        local _, count = err:gsub("advrt: warning: eps [^\n]*; 8/255 is 0.03137\n", "")
        assert.equal(1, count)
        local status
        status, _, err = support.advrt {system.options.root .. "/experiments/robustness.lua", "--attacks",
            "fgs", "--matrix", "none", "--eps", "0,8,8/255", "--limit", "2", "--no-figures", "--out",
            base .. "/balls"}
        assert.equal(0, status, err)
        _, count = err:gsub("advrt: warning: eps 8 bounds nothing", "")
        assert.equal(1, count)
    end)

    -- The bundled weights with larger logits.
    local function scaled(factor)
        local path = ("%s/x%g.safetensors"):format(base, factor)
        local state = assert(tensor.load(system.options.root .. "/nets/fashion.safetensors"))
        for _, name in ipairs {"fc.weight", "fc.bias"} do state[name]:mul_(factor) end
        assert(tensor.save(path, state))
        return path
    end

    it("says how many images an attack does not move, a run that is joined from shards too", function()
        local list = {"--weights", scaled(1e5), "--attacks", "ifgs:steps=2,ifgs:loss=m_logit:steps=2,"
            .. "pgd:steps=2:eps=0.001", "--limit", "12", "--batch", "4", "--untargeted", "--no-figures"}
        local function check(out, name)
            local rows = support.rows(("%s/%s/attacks.csv"):format(base, name))
            assert.is_true(rows[1].images > 6)
            assert.same({0, rows[1].images, 0}, {rows[1].success, rows[1].unmoved, rows[1].not_finite})
            assert.equal(0, rows[2].unmoved)
            assert.equal(rows[3].images, rows[3].unmoved) -- a random start alone
            local line = ("%%d of %d images were not moved, because every gradient was 0%%. That is no "
                .. "robustness; try another loss, such as m_logit%%."):format(rows[1].images)
            assert.matches("\nifgs:steps=2: " .. line:gsub("%%d", rows[1].unmoved, 1) .. "\n", out)
            assert.matches("\npgd:steps=2:eps=0.001: " .. line:gsub("%%d", rows[3].unmoved, 1) .. "\n", out)
            assert.is_nil(out:find("\nifgs:loss=m_logit:steps=2: ", 1, true))
            for _, one in ipairs(support.rows(("%s/%s/perturbations.csv"):format(base, name))) do
                local flat = one.attack ~= "ifgs:loss=m_logit:steps=2"
                assert.equal(flat and 1 or 0, one.unmoved)
                assert.is_true(one.zero_gradients == 2 or not flat and one.zero_gradients < 2)
            end
        end
        check(run_well("still", list), "still")
        local parts = {system.options.root .. "/experiments/merge.lua", "--out", base .. "/joined"}
        for i = 1, 2 do
            run_well("part" .. i, {"--shard", i .. "/2", table.unpack(list)})
            parts[#parts + 1] = base .. "/part" .. i
        end
        local status, out, err = support.advrt(parts)
        assert.equal(0, status, err)
        check(out, "joined")
    end)

    it("goes on where one attack's numbers overflow, and names the first image", function()
        local out = run_well("steep", {"--weights", scaled(1e36), "--attacks",
            "cw:iterations=5,fgs:loss=m_logit,pgd:norm=2:loss=m_logit:steps=5", "--limit", "6",
            "--untargeted", "--no-figures"})
        local rows, first = support.rows(base .. "/steep/attacks.csv"), nil
        assert.same({0, rows[1].images, 0}, {rows[1].success, rows[1].not_finite, rows[1].unmoved})
        assert.is_true(rows[1].images > 3)
        for i = 2, 3 do
            assert.equal(0, rows[i].not_finite)
            assert.is_true(rows[i].success > 0)
        end
        for _, one in ipairs(support.rows(base .. "/steep/perturbations.csv")) do
            first = first or one.file
            assert.equal(one.attack == "cw:iterations=5" and "gradient" or "", one.not_finite)
        end
        local all = rows[1].images
        assert.matches(("\ncw:iterations=5: %d of %d images were stopped by numbers that are not finite; %d "
            .. "of them count as not broken%%. The first is %s %%(its gradient%%)%%.\n"):format(all, all, all,
            first), out)
    end)

    it("keeps the final images that were measured", function()
        local dir = base .. "/kept"
        local _, err = run_well("kept", {"--attacks", "fgs,pgd:norm=2:steps=3:eps=2", "--limit", "5",
            "--batch", "2", "--save-adversarial", "last", "--no-figures"})
        assert.matches("5 images attacked with 2 attacks", err)
        local kept = assert(tensor.load(dir .. "/adversarial.safetensors"))
        local about, k = {}, {fgs = 0, ["pgd:norm=2:steps=3:eps=2"] = 0}
        for name in pairs(kept) do about[#about + 1] = name end
        table.sort(about)
        assert.same({"fgs", "fgs.label", "fgs.success", "fgs.target", "pgd:norm=2:steps=3:eps=2",
            "pgd:norm=2:steps=3:eps=2.label", "pgd:norm=2:steps=3:eps=2.success",
            "pgd:norm=2:steps=3:eps=2.target"}, about)
        local g = assert(net.load("nets/fashion.lua"))
        for r in record.each(dir .. "/records.msgpack") do
            local i = k[r.attack] + 1
            k[r.attack] = i
            local x, original = kept[r.attack]:narrow(i, 1), tensor.new {1, 1, 28, 28}
            original:set_image(1, assert(image.load(system.options.root .. "/nets/fashion-images/"
                .. r.file, {channels = 1})))
            local l2, linf = (x - original):norms()
            assert.near(r.l2, l2:item(), 1e-6)
            assert.near(r.linf, linf:item(), 1e-7)
            assert.same({r.label, r.target, r.success and 1 or 0}, {kept[r.attack .. ".label"]:get(i),
                kept[r.attack .. ".target"]:get(i), kept[r.attack .. ".success"]:get(i)})
            assert.equal(r.prediction, g:forward(x):argmax():get(1))
        end
        assert.same({5, 5}, {k.fgs, k["pgd:norm=2:steps=3:eps=2"]})
    end)

    it("counts one of each in the singular", function()
        local out, err = run_well("one", {"--attacks", "fgs", "--limit", "1", "--no-figures"})
        assert.matches("\n1 image, 1 right on the clean image", "\n" .. out)
        assert.matches("1 image attacked with 1 attack in", err)
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
        local alone = support.write(base .. "/alone.lua", [[return {name = "alone", classes = 1,
            input = {1, 28, 28}, preprocess = {},
            build = function(b, x) return b:linear(x, "fc", 1) end}]])
        local weights = base .. "/alone.safetensors"
        assert(tensor.save(weights, assert(net.load(alone, {init = "he"})):state()))
        for _, case in ipairs {
            {2, "--untargeted needs a net of at least 2 classes, this one has 1 class",
                {"--untargeted", "--net", alone,
                "--weights", weights}},
            {2, "--save-adversarial first: attacks keep only the final image",
                {"--save-adversarial", "first"}},
            {2, "'--attack'; did you mean '--attacks'?", {"--attack", "fgs"}},
            {2, "unknown attack 'fsg'; did you mean 'fgs'?", {"--attacks", "fsg"}},
            {2, "'pgd': eps must be a number above 0, got x", {"--attacks", "pgd:eps=x"}},
            {2, "'cw' has no parameter 'kapa'; did you mean 'kappa'?", {"--attacks", "cw:kapa=1"}},
            {2, "attack 'fgs' is given twice", {"--attacks", "fgs,fgs"}},
            {2, "'--untargeted' can not be used together", {"--targets", "second", "--untargeted"}},
            {2, "is the label itself; give another offset", {"--targets", "offset:10"}},
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
