-- Features and array files through the commands: a net is trained on .npz files, attacked, gone on with, done
-- in parts, and reported; nothing is made that only images have.

local lfs = require "lfs"
local record = require "advrt.record"
local support = require "tests.support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local scripts = system.options.root .. "/experiments/"
local dir

local function run(...)
    local status, out, err = support.advrt {...}
    assert.equal(0, status, err)
    return out, err
end

--- A set of N points of 5 features, three classes around three points, in [-4,4], as safetensors.
local function write(path, N, stream)
    local centres = tensor.normal("centres", {3, 5}):mul_(1.5)
    local x, y = tensor.normal(stream, {N, 5}):mul_(0.7), {}
    for i = 1, N do
        y[i] = i % 3
        x[i]:add_(centres[y[i] + 1])
    end
    assert(tensor.save(path, {x = x:clamp(-4, 4), y = tensor.from(y, "i64")}))
end

describe("a net of features", function()
    local given

    setup(function()
        dir = support.folder()
        write(dir .. "/train.safetensors", 300, "train")
        write(dir .. "/val.safetensors", 60, "val")
        support.write(dir .. "/net.lua", [[return {
            name = "points", classes = 3, input = {5}, range = {-4, 4},
            build = function(b, x) return b:linear(b:relu(b:linear(x, "hidden", 16)), "out", 3) end,
        }]])
        local out = run(scripts .. "train.lua", "--net", dir .. "/net.lua", "--data", dir, "--epochs", "5",
            "--batch", "20", "--out", dir .. "/net.safetensors")
        assert.matches("test images: [89]%d.%d+ %% right", out)
        given = {"--net", dir .. "/net.lua", "--weights", dir .. "/net.safetensors", "--images",
            dir .. "/val.safetensors"}
    end)
    teardown(function() support.remove(dir) end)

    local function with(script, ...)
        local words = {scripts .. script .. ".lua", table.unpack(given)}
        return table.move({...}, 1, select("#", ...), #words + 1, words)
    end

    it("is looked at and attacked without a picture", function()
        local out = run(table.unpack(with("evaluate")))
        assert.matches("Images: 60 of the 60 in [^\n]*, of 3 classes %(from its array y%)\n", out)
        local folder = dir .. "/run"
        out = run(table.unpack(with("equal_perturbation", "--iterations", "30", "--save-adversarial", "last",
            "--out", folder)))
        assert.truthy(out:find("Steps: magnitude 0.03578 in the L2 norm, the default for 5 features\n"
            .. "Pictures: none, because the input is not an image (5 features). fig5 and examples/ are left "
            .. "out; "
            .. "survives_8bit is -1\n", 1, true), out)
        assert.is_nil(out:find("examples/\n", 1, true))
        for _, name in ipairs {"examples", "fig5.svg", "fig5.gp"} do
            assert.is_false(support.exists(folder .. "/" .. name), name)
        end
        assert.is_true(support.exists(folder .. "/fig1.svg"))
        for _, row in ipairs(support.rows(folder .. "/least_perturbation.csv")) do
            assert.equal(-1, row.survives_8bit)
            assert.matches("^%d%d%d%d%d$", ("%05d"):format(row.file))
        end
        for r in record.each(folder .. "/records.msgpack") do assert.equal(-1, r.survives_8bit) end
        local kept = assert(tensor.load(folder .. "/adversarial.safetensors"))
        assert.is_true(kept.ce:minimum() >= -4 and kept.ce:maximum() <= 4)
        assert.same({5, 1, 1}, {table.unpack(kept.ce:shape(), 2)})
        local page = support.read(folder .. "/report.html")
        for _, text in ipairs {"Survive 8 bits", 'id="gallery"', "pixels in [0,1]"} do
            assert.is_nil(page:find(text, 1, true), text)
        end
        out = run(scripts .. "figures.lua", folder, "--out", dir .. "/again")
        assert.is_nil(out:find("fig5", 1, true))
    end)

    it("gives the same records in parts, and where it is gone on with", function()
        local whole = dir .. "/whole"
        run(table.unpack(with("equal_multiplier", "--iterations", "20", "--no-figures", "--out", whole)))
        for i = 1, 2 do
            run(table.unpack(with("equal_multiplier", "--iterations", "20", "--no-figures", "--shard",
                i .. "/2", "--out",
                dir .. "/part" .. i)))
        end
        run(scripts .. "merge.lua", dir .. "/part1", dir .. "/part2", "--no-figures", "--out",
            dir .. "/merged")
        local records = support.read(whole .. "/records.msgpack")
        assert.equal(records, support.read(dir .. "/merged/records.msgpack"))
        assert.is_false(support.exists(dir .. "/merged/examples"))
        run(table.unpack(with("equal_multiplier", "--iterations", "20", "--no-figures", "--out", whole,
            "--resume")))
        local at = support.read(dir .. "/val.safetensors")
        write(dir .. "/val.safetensors", 60, "other")
        local status, _, err = support.advrt(with("equal_multiplier", "--iterations", "20",
            "--no-figures", "--out", whole,
            "--resume"))
        support.write(dir .. "/val.safetensors", at)
        assert.equal(1, status)
        assert.matches("^advrt: [^\n]+\n$", err)
    end)

    it("is tested for the theorem in its range, in the midst of a trajectory too", function()
        local function words(name, ...)
            return with("theorem", "--limit", "6", "--iterations", "30", "--no-figures", "--out", dir .. name,
                ...)
        end
        run(table.unpack(words "/theorem"))
        local status, _, err = support.advrt(words "/stopped", support.stop {at = "update", count = 12,
            signal = "INT"})
        assert.equal(130, status, err)
        status, _, err = support.advrt(words("/stopped", "--resume"))
        assert.equal(0, status, err)
        assert.is_nil(err:find("restarts", 1, true), err)
        for _, file in ipairs {"records.msgpack", "points.csv"} do
            assert.equal(support.read(dir .. "/theorem/" .. file), support.read(dir .. "/stopped/" .. file))
        end
    end)

    it("is attacked by every kind of attack", function()
        local out = run(table.unpack(with("attacks", "--limit", "9", "--attacks",
            "pgd:eps=1,cw:iterations=30:searches=3,fab:norm=2:steps=10", "--untargeted", "--out",
            dir .. "/attacks")))
        assert.matches("pgd:eps=1 +%d of %d", out)
        local names = {}
        for i = 1, 2 do
            names[i] = ("%s/fgs%d"):format(dir, i)
            run(table.unpack(with("attacks", "--limit", "6", "--attacks", "fgs", "--no-figures", "--shard",
                i .. "/2", "--out", names[i])))
        end
        run(scripts .. "merge.lua", names[1], names[2], "--out", dir .. "/merged_attacks")
        run(table.unpack(with("robustness", "--limit", "6", "--attacks", "fgs", "--matrix", "none", "--eps",
            "0,1", "--out", dir .. "/robust")))
        for _, name in ipairs {"run/fig3c", "attacks/fig_attacks", "merged_attacks/fig_attacks",
            "robust/fig_robust"} do
            local figure = support.read(("%s/%s.gp"):format(dir, name))
            assert.truthy(figure:find("the net''s input values", 1, true), name)
            assert.is_nil(figure:find("pixels", 1, true), name)
        end
    end)

    it("is given data that lies in its range alone, in one line", function()
        local status, _, err = support.advrt(with("equal_perturbation", "--range", "-1,1", "--out",
            dir .. "/none"))
        assert.equal(1, status)
        assert.matches("^advrt: [^\n]*val.safetensors: image %d+: feature %d is %-?%d.%d+, outside of "
            .. "%[%-1,1%], the range of the net\n$", err)
        assert.is_false(support.exists(dir .. "/none/records.part"))
        run(table.unpack(with("equal_perturbation", "--range", "-5,5", "--iterations", "3", "--limit",
            "6", "--no-figures",
            "--out", dir .. "/wide")))
        assert.matches('"range": ?%[%s*%-5', support.read(dir .. "/wide/run.json"))
        for text, wanted in pairs {["1,1"] = "such as -1,1, got '1,1'", ["0"] = "got '0'",
            ["a,b"] = "got 'a,b'"} do
            status, _, err = support.advrt(with("evaluate", "--range", text))
            assert.equal(2, status)
            assert.truthy(err:find(wanted, 1, true), err)
        end
    end)
end)

describe("images of four channels, and CIFAR's batches", function()
    setup(function() dir = support.folder() end)
    teardown(function() support.remove(dir) end)

    it("are attacked, the first without a picture", function()
        assert(tensor.save(dir .. "/x.safetensors", {x = tensor.uniform("x", {12, 4, 5, 6}),
            y = tensor.from({0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}, "i64")}))
        support.write(dir .. "/net.lua", [[return {name = "four", classes = 2, input = {4, 5, 6},
            build = function(b, x)
                return b:linear(b:relu(b:conv(x, "conv", {out = 4, kernel = 3})), "out", 2)
            end}]])
        local g = assert(require("advrt.net").load(dir .. "/net.lua", {init = "he"}))
        assert(g:save(dir .. "/net.safetensors"))
        local out = run(scripts .. "equal_perturbation.lua", "--net", dir .. "/net.lua", "--weights",
            dir .. "/net.safetensors", "--images", dir .. "/x.safetensors", "--iterations", "5",
                "--no-figures", "--out",
            dir .. "/four")
        assert.matches("not an image %(4 channels%)", out)
        assert.is_false(support.exists(dir .. "/four/examples"))
    end)

    it("are trained on and attacked, with pictures and the names of their classes", function()
        local folder = dir .. "/cifar"
        assert(lfs.mkdir(folder))
        local function batch(name, N)
            local records = {}
            for i = 1, N do
                records[i] = string.char(i % 10) .. string.char((i % 10) * 25):rep(3072)
            end
            support.write(folder .. "/" .. name, table.concat(records))
        end
        batch("data_batch_1.bin", 40)
        batch("data_batch_2.bin", 20)
        batch("test_batch.bin", 20)
        support.write(folder .. "/batches.meta.txt",
            "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\n"
            .. "ship\ntruck\n")
        support.write(dir .. "/c.lua", [[return {name = "c", classes = 10, input = {3, 32, 32},
            build = function(b, x) return b:linear(b:relu(b:linear(x, "hidden", 16)), "out", 10) end}]])
        local net = {"--net", dir .. "/c.lua"}
        local out = run(scripts .. "train.lua", net[1], net[2], "--data", folder, "--epochs", "2", "--batch",
            "10", "--rate", "0.01", "--out", dir .. "/c.safetensors")
        assert.matches("test images: %d", out)
        out = run(scripts .. "evaluate.lua", net[1], net[2], "--weights", dir .. "/c.safetensors", "--images",
            folder)
        assert.matches("Images: 60 of the 60 in [^\n]*, of 10 classes %(from the records of CIFAR%-10%)",
            out)
        run(scripts .. "equal_perturbation.lua", net[1], net[2], "--weights", dir .. "/c.safetensors",
            "--images", folder .. "/test_batch.bin", "--iterations", "2", "--no-figures", "--out",
            dir .. "/attacked")
        assert.is_true(support.exists(dir .. "/attacked/examples/01-original.png"))
        assert.matches("^airplane\n", support.read(dir .. "/attacked/classes.txt"))
    end)
end)
