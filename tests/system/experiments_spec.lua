-- The experiments as a user runs them, on a small net with weights by formula and made-up images.

local image = require "advrt.core.image"
local json = require "dkjson"
local lfs = require "lfs"
local net = require "advrt.net"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local scripts = system.options.root .. "/experiments/"
local COUNT, WRONG = 7, 3 -- images, and the one whose label is wrong

describe("the experiments", function()
    local base, images, weights, common

    -- Made-up images whose labels are what the net says, but for one.
    local function make_images(g)
        local x = tensor.uniform("experiments", {COUNT, 1, 28, 28})
        for i = 1, COUNT do x[i]:mul_(0.4):add_(0.08 * i) end
        x:clamp_(0, 1):quantize_(255)
        local predictions, lines = g:forward(x):argmax(), {"file,label"}
        lfs.mkdir(images)
        for i = 1, COUNT do
            assert(image.save(("%s/%d.png"):format(images, i), x[i]))
            local label = predictions:get(i)
            lines[#lines + 1] = ("%d.png,%d"):format(i, i == WRONG and (label + 1) % 10 or label)
        end
        support.write(images .. "/labels.csv", table.concat(lines, "\n") .. "\n")
    end

    setup(function()
        base = support.folder()
        images, weights = base .. "/it's images", base .. "/weights.safetensors"
        local g = assert(net.load("nets/fashion.lua", {init = "golden"}))
        assert(g:save(weights))
        make_images(g)
        common = {"--weights", weights, "--images", images, "--iterations", "8", "--batch", "3"}
    end)
    teardown(function() support.remove(base) end)

    local function run(name, words, environment)
        local all = {scripts .. name}
        for _, word in ipairs(common) do all[#all + 1] = word end
        for _, word in ipairs(words) do all[#all + 1] = word end
        return support.advrt(all, environment)
    end

    local function run_well(name, words)
        local status, out, err = run(name, words)
        assert.equal(0, status, err)
        return out, err
    end

    -- All that a run that fails says on standard output: the lines on its images and steps, or nothing.
    local function says_nothing(out)
        assert.equal("", (out:gsub("^Images: [^\n]*\n", ""):gsub("^Steps: [^\n]*\n", "")))
    end

    -- A failure is one line and leaves nothing behind.
    local function fails(wanted_status, wanted, name, words, environment)
        local status, out, err = run(name, words, environment)
        assert.equal(wanted_status, status, err)
        assert.matches("^advrt: [^\n]+\n$", err)
        assert.truthy(err:find(wanted, 1, true), err .. " / " .. wanted)
        says_nothing(out)
    end

    local function records(dir)
        local list = {}
        for r in record.each(dir .. "/records.msgpack") do list[#list + 1] = r end
        return list
    end

    local figures = {
        equal_multiplier = {"fig1", "fig2a", "fig2b", "fig2c", "fig4", "fig5", "figflipped"},
        equal_perturbation = {"fig1", "fig3a", "fig3b", "fig3c", "fig5", "figflipped"},
    }

    for setting, step in pairs {equal_multiplier = "--alpha", equal_perturbation = "--magnitude"} do
        it("leave every file of " .. setting, function()
            local dir = base .. "/" .. setting
            local out, err = run_well(setting .. ".lua", {step, "0.25", "--out", dir})
            local wanted = {"curves.csv", "examples", "least_perturbation.csv", "left_out.csv",
                "paired.csv", "paired.tex", "records.msgpack", "report.html", "run.json", "survival.csv",
                "survival.tex", "table1.csv", "table1.tex"}
            for _, name in ipairs(figures[setting]) do
                for _, kind in ipairs {"gp", "pdf", "png", "svg"} do
                    wanted[#wanted + 1] = name .. "." .. kind
                end
            end
            table.sort(wanted)
            assert.same(wanted, support.list(dir))
            assert.equal(4 * 9 + 1, #support.list(dir .. "/examples"))
            assert.matches("7 images, 6 right on the clean image %(85.71 %%%), 6 attacked", out)
            assert.matches("\nCE%-Sign ", out)
            assert.truthy(out:find("Pictures: " .. dir, 1, true))
            assert.matches("6 images attacked with 4 losses", err)
            assert.is_nil(err:find("\r", 1, true))
            local amplified = {} -- alike for all losses of an image
            for _, row in ipairs(support.rows(dir .. "/examples/examples.csv")) do
                amplified[row.number] = amplified[row.number] or row.amplification
                assert.equal(amplified[row.number], row.amplification)
                assert.is_true(support.exists(("%s/examples/%02d-%s-perturbation-x%g.png"):format(dir,
                    row.number, row.loss, row.amplification)))
            end
            local pairs_of, times = support.rows(dir .. "/paired.csv"), support.rows(dir .. "/survival.csv")
            assert.equal(6 * 3 * 2, #pairs_of)
            assert.same({"ce", "ce_sign", "iterations"}, {pairs_of[1].loss_a, pairs_of[1].loss_b,
                pairs_of[1].quantity})
            assert.same({"m_logit", 6}, {times[4].loss, times[4].images})
            assert.matches("\nPairs +images +iterations +p +L2 at the flip +p\nCE %- CE%-Sign +%d ", out)
            assert.equal(setting == "equal_multiplier", out:find("Under an equal multiplier", 1, true) ~= nil)
            local r = records(dir)
            assert.equal(24, #r)
            assert.same({"1.png", "ce"}, {r[1].file, r[1].loss})
            assert.same({"1.png", "m_logit"}, {r[4].file, r[4].loss})
            assert.same({"2.png", "ce"}, {r[5].file, r[5].loss})
            assert.same({"4.png", "ce"}, {r[9].file, r[9].loss})
            assert.equal(setting, r[24].setting)
            assert.equal(9, #r[24].subspace)
            local expected = setting == "equal_perturbation" and 0.25 or 0.25 * r[1].grad_l2[1]
            assert.near(expected, r[1].step_l2[1], 1e-12)
            assert.equal(r[1].l2[1], 0)
        end)
    end

    it("write down what was run", function()
        local dir = base .. "/about"
        local said = run_well("equal_perturbation.lua", {"--out", dir, "--no-figures", "--norm", "inf",
            "--seed", "5", "--targets", "class:2", "--losses", "logit"})
        assert.truthy(said:find("\nSteps: magnitude 0.003 in the Linf norm, the net's own for this norm\n", 1,
            true), said)
        local text = support.read(dir .. "/run.json")
        local about = assert(json.decode(text))
        local keys = {} -- of the outermost table, each once
        for key in text:gmatch('\n  "([^"]+)":') do
            assert.is_nil(keys[key], key)
            keys[key] = true
        end
        assert.equal("equal_perturbation", about.setting)
        assert.equal(7, about.images_found)
        assert.equal(1, about.images_wrong)
        assert.near(6 / 7, about.clean_accuracy, 1e-12)
        assert.equal(6, about.images_left_out + about.images_attacked)
        assert.equal(system.sha256(weights), about.weights_sha256)
        assert.equal(64, #about.net_sha256)
        for _, option in ipairs(system.program_options) do
            if option.recorded then assert.equal(system.options[option.key], about[option.key]) end
        end
        assert.equal(system.options.threads, about.threads)
        assert.equal(system.options.isa, about.isa)
        assert.equal("inf", about.options.norm)
        assert.equal(5, about.options.seed)
        assert.equal(dofile("nets/fashion.lua").defaults.magnitude_inf, about.options.magnitude)
        assert.same({"logit"}, about.options.losses)
        assert.equal(images, about.options.images)
        assert.matches("^%d+%-%d+%-%d+T", about["end"])
        for _, r in ipairs(records(dir)) do assert.equal(2, r.target) end
        local bytes = support.read(dir .. "/records.msgpack")
        assert.is_nil(bytes:find(base, 1, true))
    end)

    it("run a user's losses beside the paper's, in records, tables and figures", function()
        local file = support.write(base .. "/own.lua",
            "loss.define('own_ce', function(z, t) return z:log_softmax(2):gather(2, t) end)")
        local dirs = {}
        for setting, names in pairs(figures) do
            local dir = base .. "/own-" .. setting
            dirs[#dirs + 1] = dir
            local out = run_well(setting .. ".lua", {"--out", dir, "--losses", "ce,own_ce,dlr",
                "--require", file, "--require", "dlr"})
            assert.matches("\nown_ce  ", out)
            local all = records(dir)
            assert.same({"ce", "own_ce", "dlr"}, {all[1].loss, all[2].loss, all[3].loss})
            for _, series in ipairs {"grad_l2", "z_target", "linf"} do -- the same loss and attack
                assert.same(all[1][series], all[2][series])
            end
            assert.is_false(all[1].grad_l2[1] == all[3].grad_l2[1])
            for _, name in ipairs(names) do
                assert.truthy(support.read(("%s/%s.svg"):format(dir, name)))
                assert.matches("own_ce", support.read(("%s/%s.gp"):format(dir, name)))
            end
            assert.matches("\n[%w_]+,own_ce,6,", support.read(dir .. "/table1.csv"))
            local about = assert(json.decode(support.read(dir .. "/run.json")))
            assert.same({file, "dlr"}, about.options.require)
            assert.equal(64, #about.require_sha256)
        end
        local status, out, err = support.advrt {scripts .. "table1.lua", dirs[1], dirs[2]}
        assert.equal(0, status, err)
        assert.matches("\nown_ce  ", out)
        local words = {"--losses", "ce,own_ce,dlr", "--require", file, "--require", "dlr", "--out",
            dirs[1], "--resume"}
        local name = dirs[1]:match("own%-(.*)$") .. ".lua"
        assert.matches("is finished", (run_well(name, words)))
        support.write(file, support.read(file) .. "\n")
        fails(1, "own.lua, dlr: the losses changed since", name, words)
        support.write(file, "loss.define('own_ce', function(z, t) return z end)")
        fails(1, "own.lua:1: loss 'own_ce' is rejected: with 2 classes it returns", "equal_multiplier.lua",
            {"--losses", "own_ce", "--require", file, "--out", base .. "/own-bad"})
        assert.is_false(support.exists(base .. "/own-bad"))
    end)

    it("sweep a loss's parameter", function()
        local dir, variants = base .. "/swept", {"ce_temperature:temperature=1", "m_logit:kappa=0.5"}
        local words = {"--losses", "ce," .. table.concat(variants, ","), "--require", "ce_temperature",
            "--save-adversarial", "last", "--out", dir}
        local out = run_well("equal_perturbation.lua", words)
        local all = records(dir)
        for i, name in ipairs(variants) do
            assert.equal(name, all[i + 1].loss)
            -- A long one has a line of its own.
            assert.truthy(out:find("\n" .. name .. (#name > 24 and "\n" or "  "), 1, true))
            assert.truthy(support.read(dir .. "/table1.csv"):find("," .. name .. ",6,", 1, true))
            for _, figure in ipairs {"fig1", "fig3a", "fig3c", "figflipped"} do
                assert.truthy(support.read(("%s/%s.gp"):format(dir, figure)):find(name, 1, true), figure)
            end
            assert.equal(6, tensor.load(dir .. "/adversarial.safetensors")[name]:size(1))
        end
        assert.same(all[1].grad_l2, all[2].grad_l2) -- at a temperature of 1 it is ce
        words[#words + 1] = "--resume"
        assert.matches("is finished", (run_well("equal_perturbation.lua", words)))
        words[2] = "ce,ce_temperature:temperature=2,m_logit:kappa=0.5"
        fails(2, "was started with --losses", "equal_perturbation.lua", words)
    end)

    it("give the same bytes twice, alone, in shards and among all", function()
        local function bytes(name, words)
            local dir = base .. "/same-" .. name
            words[#words + 1], words[#words + 2] = "--out", dir
            words[#words + 1] = "--no-figures"
            run_well("equal_perturbation.lua", words)
            return support.read(dir .. "/records.msgpack")
        end
        local all = bytes("all", {})
        assert.equal(all, bytes("again", {}))
        local alone = bytes("alone", {"--limit", "1"})
        assert.is_true(#alone > 1000)
        assert.equal(all:sub(1, #alone), alone)
        local parts = {}
        for i = 1, 3 do parts[i] = bytes("shard" .. i, {"--shard", i .. "/3"}) end
        assert.equal(all, table.concat(parts))
        assert.is_true(all ~= bytes("seed", {"--seed", "1"}))
    end)

    it("take a sample before they are sharded, and tell of it", function()
        local function bytes(name, ...)
            local dir = base .. "/sample-" .. name
            local out = run_well("equal_perturbation.lua", {"--no-figures", "--sample", "4", "--seed", "3",
                "--losses", "ce", "--out", dir, ...})
            local classes = out:match("^Images: 4 of the 7 in [^\n]+, of (%d) class[es]* "
                .. "%(from labels.csv%)\n")
            local about = json.decode(support.read(dir .. "/run.json"))
            assert.equal(math.tointeger(tonumber(classes)), about.classes_listed)
            return support.read(dir .. "/records.msgpack"), about
        end
        local all, about = bytes("all")
        assert.equal(all, bytes("first", "--shard", "1/2") .. bytes("second", "--shard", "2/2"))
        assert.same({7, 4, "labels.csv", 4}, {about.images_in_folder, about.images_listed,
            about.classes_told_by, about.options.sample})
    end)

    it("keep adversarial images in float32 that are what was recorded", function()
        local dir = base .. "/kept"
        run_well("equal_perturbation.lua", {"--out", dir, "--no-figures", "--magnitude", "0.5",
            "--save-adversarial", "last", "--losses", "ce,logit"})
        assert.is_false(support.exists(dir .. "/records.part"))
        local kept = assert(tensor.load(dir .. "/adversarial.safetensors"))
        assert.same({6, 1, 28, 28}, kept.logit:shape())
        assert.same({8, 8, 8, 8, 8, 8}, kept["ce.iteration"]:totable())
        local k = {ce = 0, logit = 0}
        for _, r in ipairs(records(dir)) do
            k[r.loss] = k[r.loss] + 1
            local original = tensor.new {1, 1, 28, 28}
            original:set_image(1, assert(image.load(images .. "/" .. r.file, {channels = 1})))
            local x = kept[r.loss]:narrow(k[r.loss], 1)
            local l2, linf = (x - original):norms()
            assert.near(r.l2[9], l2:item(), 1e-6)
            assert.near(r.linf[9], linf:item(), 1e-6)
            assert.equal(r.target, kept[r.loss .. ".target"]:get(k[r.loss]))
        end
        dir = base .. "/first"
        run_well("equal_perturbation.lua", {"--out", dir, "--no-figures", "--magnitude", "0.5",
            "--save-adversarial", "first", "--losses", "ce"})
        kept = assert(tensor.load(dir .. "/adversarial.safetensors"))
        local flips = {}
        for _, r in ipairs(records(dir)) do
            if r.flip_iteration >= 0 then flips[#flips + 1] = r.flip_iteration end
        end
        assert.is_true(#flips > 0)
        assert.same(flips, kept["ce.iteration"]:totable())
        assert.equal(#flips, #kept.ce)
    end)

    it("join into Table I", function()
        local a, b = base .. "/join_a", base .. "/join_b"
        local more = {"--no-figures", "--iterations", "40", "--magnitude", "0.3", "--out", b}
        local said = {[a] = run_well("equal_multiplier.lua", {"--no-figures", "--iterations", "40",
            "--alpha", "0.1", "--out", a}), [b] = run_well("equal_perturbation.lua", more)}
        local script = scripts .. "table1.lua"
        for _, order in ipairs {{a, b}, {b, a}} do
            local status, out = support.advrt {script, order[1], order[2]}
            assert.equal(0, status)
            assert.matches("^Equal Multiplier\n.*\n\nEqual Perturbation\n", out)
            for line in out:gmatch("[^\n]+") do assert.is_true(utf8.len(line) <= 100, line) end
            assert.matches("\nM%-Logit ", out)
            -- As each run itself prints them, the distances over the common images among them.
            for _, dir in ipairs {a, b} do
                for line in said[dir]:gmatch("\n([^\n]+ %d+ of %d+[^\n]*)") do
                    local name, rest = line:match("^(%S+) +(.*)$")
                    rest = rest:gsub("%p", "%%%0"):gsub(" +", " +")
                    assert.matches("\n" .. name:gsub("%p", "%%%0") .. "[^\n]*" .. rest, out)
                end
            end
            assert.equal(2, select(2, out:gsub("L2, Linf on these", "")))
        end
        local status, out = support.advrt {script, a, b, "--csv", "--out", base .. "/joined"}
        assert.equal(0, status)
        assert.equal(out, support.read(base .. "/joined/table1.csv"))
        assert.equal(9, select(2, out:gsub("\n", "")))
        local err
        status, out, err = support.advrt {script, a, a}
        assert.equal(1, status)
        assert.equal("", out)
        assert.matches("^advrt: neither [^\n]+ holds a run of equal_perturbation\n$", err)
        status, out, err = support.advrt {script, a, base}
        assert.equal(1, status)
        assert.equal("", out)
        assert.matches("^advrt: [^\n]*run.json[^\n]*\n$", err)
        local least = support.read(b .. "/least_perturbation.csv")
        for _, other in ipairs {least:match("^(.*\n)[^\n]+\n$"), (least:gsub("\nce,", "\nec,", 1)),
            (least:gsub(",%d+,([%d.]+),([%d.]+),([01])\n", ",-1,%1,%2,%3\n")), "loss\nce\n"} do
            support.write(b .. "/least_perturbation.csv", other)
            status, out, err = support.advrt {script, a, b}
            assert.same({1, ""}, {status, out})
            assert.matches("^advrt: [^\n]*/least_perturbation.csv: was changed after the run[^\n]*\n$", err)
            support.reseal(b)
            status, out, err = support.advrt {script, a, b}
            assert.same({1, ""}, {status, out})
            assert.matches("^advrt: [^\n]*/least_perturbation.csv: not of the run of table1.csv\n$", err)
        end
        support.write(b .. "/least_perturbation.csv", least)
        local about = support.read(b .. "/run.json")
        support.write(b .. "/run.json", (about:gsub('("weights_sha256": *)"%x+"',
            ('%%1"%s"'):format(("0"):rep(64)))))
        status, out, err = support.advrt {script, a, b}
        assert.same({1, ""}, {status, out})
        assert.matches("^advrt: [^\n]*/run.json: [^\n]*it was changed after the run[^\n]*\n$", err)
        support.reseal(b)
        status, out, err = support.advrt {script, a, b}
        assert.equal(1, status)
        assert.equal("", out)
        assert.matches("^advrt: [^\n]+ differ in their weights; Table I needs runs with the same\n$", err)
    end)

    it("evaluate a net on a folder", function()
        local status, out = support.advrt {scripts .. "evaluate.lua", "--weights", weights,
            "--images", images, "--batch", "4"}
        assert.equal(0, status)
        assert.matches("7 images\ntop%-1 +85.71 %%  %(6 right%)\ntop%-5 +%d+.%d%d %%", out)
        status, out = support.advrt {scripts .. "evaluate.lua", "--weights", weights,
            "--images", images, "--limit", "2"}
        assert.equal(0, status)
        assert.matches("top%-1 +100.00 %%  %(2 right%)", out)
        -- Of as many classes as there are, all are among the first.
        for classes, wanted in pairs {[2] = false, [5] = false, [6] = true} do
            local two = support.write(base .. "/few.lua", ([[return {classes = %d, input = {1, 28, 28},
                build = function(b, x) return b:linear(x, "out", %d) end}]]):format(classes, classes))
            local g = assert(net.load(two, {init = "golden"}))
            assert(g:save(base .. "/few.safetensors"))
            local there = base .. "/few"
            lfs.mkdir(there)
            for i = 1, 2 do
                support.write(("%s/%d.png"):format(there, i), support.read(("%s/%d.png"):format(images, i)))
            end
            support.write(there .. "/labels.csv", "file,label\n1.png,0\n2.png,1\n")
            status, out = support.advrt {scripts .. "evaluate.lua", "--net", two, "--weights",
                base .. "/few.safetensors", "--images", there}
            assert.equal(0, status)
            assert.matches("\ntop%-1 ", out)
            assert.equal(wanted, out:find("\ntop-5 ", 1, true) ~= nil, out)
        end
    end)

    it("label a folder by a net's predictions, with which every image is right", function()
        local there = base .. "/unlabelled"
        lfs.mkdir(there)
        for i = 1, 4 do
            support.write(("%s/a %d,.png"):format(there, i), support.read(("%s/%d.png"):format(images, i)))
        end
        local function label(...)
            return support.advrt {scripts .. "evaluate.lua", "--images", there, "--write-labels",
                there .. "/labels.csv", ...}
        end
        support.write(there .. "/bad.png", "no image")
        local status, _, err = label()
        assert.equal(1, status)
        assert.matches("no labels written: 1 of 5 images cannot be read; fix or remove them\n$", err)
        assert.is_false(support.exists(there .. "/labels.csv"))
        os.remove(there .. "/bad.png")
        local out
        status, out, err = label()
        assert.equal(0, status, err)
        assert.matches("\n[^\n]*/labels.csv: the predictions of fashion for 4 images, %d classe?s?\n$", out)
        local labels = support.read(there .. "/labels.csv")
        assert.matches('^file,label\n"a 1,.png",%d\n"a 2,.png",%d\n', labels)
        status, out = support.advrt {scripts .. "evaluate.lua", "--images", there}
        assert.equal(0, status)
        assert.matches("top%-1 +100.00 %%  %(4 right%)", out)
        status, _, err = label()
        assert.equal(1, status)
        assert.matches("labels.csv exists; give another file, or remove it\n$", err)
        assert.equal(labels, support.read(there .. "/labels.csv"))
        status, _, err = support.advrt {scripts .. "evaluate.lua", "--images", images .. "/1.png",
            "--write-labels", base .. "/new.csv"}
        assert.equal(1, status)
        assert.matches("needs a folder of image files", err)
        -- The bundled images, too.
        status, _, err = support.advrt {scripts .. "evaluate.lua", "--write-labels", there .. "/labels.csv"}
        assert.equal(1, status)
        assert.matches("labels.csv exists", err)
        assert.equal(labels, support.read(there .. "/labels.csv"))
    end)

    it("say how many images have logits that are not finite, and fail where all have", function()
        -- The largest logit of the bright images overflows, or that of all.
        local own = support.write(base .. "/bright.lua", [[return {name = "bright", classes = 10,
            input = {1, 28, 28}, preprocess = {},
            build = function(b, x)
                return b:linear(b:linear(x, "sum", 1), "fc", 10)
            end}]])
        local function evaluate(size)
            local g = assert(net.load(own, {init = "he"}))
            local state = g:state()
            state["sum.weight"]:fill(size)
            state["sum.bias"]:fill(0)
            state["fc.weight"]:fill(1e10)
            state["fc.weight"]:narrow(1, 1):fill(2e10)
            assert(tensor.save(base .. "/bright.safetensors", state))
            return support.advrt {scripts .. "evaluate.lua", "--net", own, "--weights",
                base .. "/bright.safetensors", "--images", images}
        end
        local sums = {}
        for _, file in ipairs(support.list(images)) do
            local x = tensor.new {1, 1, 28, 28}
            local pixels = file:find "png$" and image.load(images .. "/" .. file, {channels = 1})
            if pixels then sums[#sums + 1] = x:set_image(1, pixels):sum() end
        end
        table.sort(sums)
        local middle = (sums[3] + sums[4]) / 2 -- of seven: four logits of 2e10 size sum overflow
        local status, out = evaluate(3.4e38 / 2e10 / middle)
        assert.equal(0, status)
        assert.matches("top%-5 +[^\n]+\nLogits that are not finite: 4 images, the first 4.png%. An image ",
            out)
        local err
        status, out, err = evaluate(1e35)
        assert.equal(1, status)
        assert.is_nil(out:find("top-1", 1, true))
        assert.matches("^advrt: bright: the logits of all 7 images are not finite; check the weights and "
            .. "the preprocessing\n$", err:gsub("^.*\n(advrt: )", "%1"))
        status, out = support.advrt {scripts .. "evaluate.lua", "--images", images}
        assert.equal(0, status)
        assert.is_nil(out:find("not finite", 1, true))
    end)

    it("ask about the sign of one's own loss that leads away from the target", function()
        local own = support.write(base .. "/signs.lua", [[
            local function margin(z, t) return z:gather(2, t) - z:others(2, t):maximum(2) end
            loss.define("right", margin)
            loss.define("wrong", function(z, t) return -margin(z, t) end)
            loss.define("faint", function(z, t) return margin(z, t) * 0.001 end)]])
        local words = {"--require", own, "--losses", "right,wrong,ce", "--magnitude", "0.5", "--no-figures",
            "--iterations", "4"}
        local out = run_well("equal_perturbation.lua", {"--out", base .. "/signs", table.unpack(words)})
        assert.matches("\nwrong lowers the target's logit %(from %S+ to %S+, mean%)%. Is its sign wrong%?",
            out)
        assert.is_nil(out:find("\n%a+ lowers the target's logit", out:find("\nwrong lowers") + 1))
        assert.is_nil(out:find("right lowers", 1, true))
        out = run_well("equal_multiplier.lua", {"--out", base .. "/faint", "--require", own, "--losses",
            "faint,wrong", "--alpha", "0.0001", "--iterations", "2", "--no-figures"})
        assert.is_nil(out:find("faint lowers", 1, true)) -- it flips nothing, in the right direction
        assert.truthy(out:find("wrong lowers", 1, true))
    end)

    it("give no accuracy where a weight is NaN", function()
        local state = assert(tensor.load(weights))
        state['bn1.bias']:fill(0 / 0)
        assert(tensor.save(base .. "/nan.safetensors", state))
        local status, out, err = support.advrt {scripts .. "evaluate.lua", "--weights",
            base .. "/nan.safetensors", "--images", images}
        assert.equal(1, status)
        assert.equal("", out)
        assert.matches("^advrt: [^\n]*nan.safetensors: 'bn1.bias' holds NaN or infinity\n$", err)
    end)

    it("want to know where the weights of a net of one's own go", function()
        local status, _, err = support.advrt {scripts .. "train.lua", "--net", "nets/mlp.lua"}
        assert.equal(2, status)
        assert.matches("^advrt: %-%-out is missing: give the file for the weights of nets/mlp.lua\n$", err)
    end)

    it("go to a folder of their own below runs/ where none is named", function()
        local home = lfs.currentdir()
        assert(lfs.chdir(base))
        local status, out, err = run("equal_perturbation.lua", {"--no-figures", "--limit", "1"})
        assert(lfs.chdir(home))
        assert.equal(0, status, err)
        local made = support.list(base .. "/runs")
        assert.equal(1, #made)
        assert.matches("^equal_perturbation%-%d+%-%d+$", made[1])
        assert.truthy(out:find("runs/" .. made[1], 1, true))
    end)

    it("refuse what cannot work in one line and leave nothing", function()
        local dir = base .. "/refused"
        local out = {"--out", dir}
        local function with(...)
            local words = {...}
            return table.move(out, 1, 2, #words + 1, words)
        end
        local twin = base .. "/twin"
        lfs.mkdir(twin)
        image.save(twin .. "/a.png", tensor.new {1, 28, 29})
        support.write(twin .. "/labels.csv", "a.png,0\n")
        support.write(base .. "/noise.safetensors", "noise")
        local mlp = "nets/mlp.lua"
        for _, case in ipairs {
            {2, "'--iteration'; did you mean '--iterations'?", with("--iteration", "5")},
            {2, "is the label itself; give another offset", with("--targets", "offset:10")},
            {2, "not a class of the net", with("--targets", "class:10")},
            {2, "--resume wants --out DIR", {"--resume"}},
            {1, "there is no such folder", with("--images", base .. "/nowhere")},
            {1, "nowhere.safetensors", with("--weights", base .. "/nowhere.safetensors")},
            {1, "noise.safetensors", with("--weights", base .. "/noise.safetensors")},
            {1, "nowhere.lua", with("--net", base .. "/nowhere.lua")},
            {1, "missing", with("--net", mlp)},
            {1, "29 x 28 (width x height), the net takes 28 x 28", with("--images", twin)},
            {2, "--mean: 2 numbers, but the images of", with("--mean", "0.1,0.2")},
            {2, "have 1 channel\n", with("--std", "1,2,3")},
        } do
            fails(case[1], case[2], "equal_perturbation.lua", case[3])
            assert.is_false(support.exists(dir), case[2])
        end
    end)

    it("train on folders or IDX files, and name both where there is neither", function()
        local status, _, err = support.advrt {scripts .. "train.lua", "--data", images, "--out",
            base .. "/untrained.safetensors"}
        assert.equal(1, status)
        assert.matches("^advrt: %-%-data [^\n]* no training images; add folders train and val, "
            .. "[^\n]*train%-images[^\n]*\n$", err)
    end)

    it("train on options that make sense alone", function()
        for _, case in ipairs {
            {"--epochs", "0", "--epochs wants a whole number from 1 to 1000000, got '0'"},
            {"--batch", "2.5", "--batch wants a whole number from 1 to 65536, got '2.5'"},
            {"--seed", "x", "--seed wants a whole number of at least 0, got 'x'"},
            {"--rate", "fast", "--rate wants a number above 0, got 'fast'"},
            {"--rate", "nan", "--rate wants a number above 0, got 'nan'"},
            {"--epohcs", "1", "'--epochs'"},
        } do
            local status, out, err = support.advrt {scripts .. "train.lua", case[1], case[2]}
            assert.same({2, ""}, {status, out})
            assert.matches("^advrt: [^\n]+\n$", err)
            assert.truthy(err:find(case[3], 1, true), err)
        end
    end)

    it("refuse in one line a net whose channels no image file has", function()
        local definition = support.write(base .. "/four.lua", [[return {name = "four", classes = 10,
            input = {4, 28, 28}, preprocess = {}, build = function(b, x)
                return b:linear(x, "fc", b.classes)
            end}]])
        local g = assert(require "advrt.net".load(definition, {init = "he"}))
        local path = base .. "/four.safetensors"
        assert(tensor.save(path, g:state()))
        for _, name in ipairs {"evaluate", "equal_perturbation", "attacks", "make_adversarial", "train"} do
            local status, _, err = support.advrt(name == "train"
                and {scripts .. "train.lua", "--net", definition, "--out", path}
                or {scripts .. name .. ".lua", "--net", definition, "--weights", path})
            assert.equal(1, status)
            assert.matches("^advrt: [^\n]+ the net takes 4[^\n]*\n$", err)
        end
    end)

    it("train only where the weights can be written", function()
        for _, path in ipairs {base .. "/no/where.safetensors", base} do
            local status, out, err = support.advrt {scripts .. "train.lua", "--net", "nets/mlp.lua",
                "--data", base .. "/nowhere", "--out", path}
            assert.same({1, ""}, {status, out})
            assert.matches("^advrt: %-%-out: [^\n]+\n$", err)
        end
    end)

    it("train on folders of images, and go on from a checkpoint", function()
        local dir = base .. "/photos"
        local file = {weights = base .. "/trained.safetensors", log = base .. "/log.csv",
            checkpoint = base .. "/checkpoint.safetensors"}
        lfs.mkdir(dir)
        for _, part in ipairs {"train", "val"} do
            lfs.mkdir(dir .. "/" .. part)
            for class = 0, 9 do
                lfs.mkdir(("%s/%s/%d"):format(dir, part, class))
                local x = tensor.new {1, 28, 28}
                for y = 0, 1 do
                    for k = 1, 28 do x:set(1, 1, math.floor(2.8 * class) + y + 1, k) end
                end
                for i = 1, 3 do
                    assert(image.save(("%s/%s/%d/%d.png"):format(dir, part, class, i), x))
                end
            end
        end
        local function trained(epochs)
            local status, out, err = support.advrt {scripts .. "train.lua", "--net", "mlp", "--data", dir,
                "--batch", "10", "--epochs", epochs, "--rate", "0.01", "--out", file.weights, "--log",
                file.log, "--checkpoint", file.checkpoint, "--readers", "2"}
            return status, out, err
        end
        local status, out, err = trained "40"
        assert.equal(0, status, err)
        assert.is_true(tonumber(out:match("test images: ([%d.]+) %% right")) >= 80, out)
        local _, lines = support.read(file.log):gsub("\n", "")
        assert.equal(41, lines)
        local before = support.read(file.weights)
        os.remove(file.weights)
        status, out = trained "40" -- nothing is left to do
        assert.equal(0, status)
        assert.is_nil(out:find("epoch 1 of", 1, true))
        assert.equal(before, support.read(file.weights))
        status, _, err = trained "41"
        assert.equal(1, status)
        assert.matches("checkpoint belongs to another run %(mlp, 10 classes, 30 images, 40 epochs", err)
        os.remove(dir .. "/val/3/2.png")
        support.write(dir .. "/train/3/2.png", "no image")
        os.remove(file.checkpoint)
        status, _, err = trained "1"
        assert.equal(1, status)
        assert.matches("^advrt: [^\n]*photos/train/3/2.png: [^\n]+\n$", err)
    end)

    it("refuse a folder that is not empty", function()
        local dir = base .. "/taken"
        lfs.mkdir(dir)
        support.write(dir .. "/mine", "x")
        fails(2, "not empty", "equal_perturbation.lua", {"--out", dir})
        assert.same({"mine"}, support.list(dir))
    end)

    it("say so before the work where gnuplot is missing", function()
        local dir = base .. "/without"
        fails(1, "gnuplot is not found", "equal_perturbation.lua", {"--out", dir}, "PATH=/nowhere")
        assert.is_false(support.exists(dir))
    end)

    it("say so where nothing is left to attack", function()
        local dir, only = base .. "/nothing", base .. "/only_wrong"
        lfs.mkdir(only)
        support.write(only .. "/w.png", support.read(("%s/%d.png"):format(images, WRONG)))
        local labels = support.read(images .. "/labels.csv")
        support.write(only .. "/labels.csv", "w.png," .. labels:match(WRONG .. ".png,(%d)") .. "\n")
        local status, out, err = run("equal_perturbation.lua", {"--images", only, "--out", dir})
        assert.equal(1, status)
        says_nothing(out)
        assert.matches("\nadvrt: nothing to attack: of 1 images in [^\n]+, "
            .. "1 are classified wrongly [^\n]+\n$", "\n" .. err)
        assert.is_false(support.exists(dir))
    end)

    it("fail in one line on a full disk", function()
        local status, _, err = run("equal_perturbation.lua", {"--out", base .. "/full", "--no-figures"},
            "trap '' XFSZ; ulimit -f 4;")
        assert.equal(1, status)
        assert.matches("advrt: [^\n]+\n$", err)
        assert.is_false(support.exists(base .. "/full/records.msgpack"))
    end)
end)
