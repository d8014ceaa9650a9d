-- Image files that are bad in the midst of a run: what is said, and how the run goes on without them.

local lfs = require "lfs"
local support = require "support"
local system = require "advrt.core.system"

local scripts = system.options.root .. "/experiments/"
local WAY_OUT = "; replace the file, or skip it with --skip-bad"

describe("a bad image file", function()
    local base, images, good

    setup(function()
        base = support.folder()
        images = support.images(base .. "/images", 12)
        good = support.read(images .. "/00007.png")
        support.write(images .. "/00007.png", "")
        support.write(images .. "/00009.png", good:sub(1, 60))
        os.remove(images .. "/00010.png")
        lfs.mkdir(images .. "/00010.png")
    end)
    teardown(function() support.remove(base) end)

    local function run(dir, ...)
        return support.advrt {scripts .. "equal_perturbation.lua", "--images", images, "--iterations", "5",
            "--batch", "3", "--losses", "ce,logit", "--no-figures", "--out", dir, ...}
    end

    -- Lines of left_out.csv that tell of bad files.
    local function bad_lines(dir)
        local found = {}
        for _, row in ipairs(support.rows(dir .. "/left_out.csv")) do
            if row.prediction == -1 then found[#found + 1] = row.file .. " " .. row.reason end
        end
        return found
    end
    local BAD = {"00007.png bad: is empty",
        "00009.png bad: is truncated: its 60 bytes end before the image does",
        "00010.png bad: is a directory"}

    it("is one of all that evaluate names", function()
        local status, out, err = support.advrt {scripts .. "evaluate.lua", "--images", images, "--batch", "4"}
        assert.equal(1, status)
        for _, one in ipairs(BAD) do
            assert.truthy(err:find("bad file: " .. images .. "/" .. one:gsub(" bad:", ":"), 1, true), err)
        end
        assert.truthy(err:find(("advrt: %s: 3 of 12 images cannot be read; replace the files, or "
            .. "skip them with --skip-bad\n"):format(images), 1, true), err)
        local again, same = support.advrt {scripts .. "evaluate.lua", "--images", images, "--skip-bad",
            "--batch", "5"}
        assert.equal(0, again)
        assert.equal(out, same)
        assert.matches("9 images, 3 bad left out\n", out)
    end)

    it("loses no work: the run goes on without it, as one that was told so from the start", function()
        local whole, dir = base .. "/whole", base .. "/run"
        local status, out, err = run(whole, "--skip-bad")
        local _
        assert.equal(0, status, err)
        assert.matches("9 images, .* 3 bad files left out\n", out)
        assert.same(BAD, bad_lines(whole))

        status, _, err = run(dir)
        assert.equal(1, status)
        assert.truthy(err:find("advrt: " .. images .. "/00007.png: is empty" .. WAY_OUT
            .. "; finished work is kept; continue with: ", 1, true), err)
        status, _, err = run(dir, "--resume")
        assert.equal(1, status)
        assert.truthy(err:find("00007.png: is empty" .. WAY_OUT, 1, true), err)
        status, _, err = run(dir, "--resume", "--skip-bad")
        assert.equal(0, status, err)
        assert.same(support.contents(whole), support.contents(dir))
        local about = support.read(dir .. "/run.json")
        assert.matches('"skip_bad":true', about)
        assert.matches('"images_found":9', about)
        assert.matches('"images_bad":3', about)
        assert.truthy(support.read(dir .. "/report.html"):find("and 3 files that cannot be read", 1, true))
        status, out = run(dir, "--resume")
        assert.equal(0, status)
        assert.matches("is finished", out)
    end)

    it("may be replaced by a good one, and a run in shards has it once", function()
        local one, list = base .. "/replaced", {}
        assert.equal(1, (run(one)))
        support.write(images .. "/00007.png", good)
        local status, _, err = run(one, "--resume", "--skip-bad")
        assert.equal(0, status, err)
        assert.same({BAD[2], BAD[3]}, bad_lines(one))
        for i = 1, 2 do
            list[i] = ("%s/part%d"):format(base, i)
            status, _, err = run(list[i], "--shard", i .. "/2", i == 2 and "--skip-bad" or nil)
            assert.equal(0, status, err)
        end
        local merged = base .. "/merged"
        status, _, err = support.advrt {scripts .. "merge.lua", "--out", merged, "--no-figures", list[1],
            list[2]}
        assert.equal(0, status, err)
        support.same_files(one, merged, {"records.msgpack", "left_out.csv", "curves.csv"})
        assert.matches('"images_bad":2', support.read(merged .. "/run.json"))
        support.write(images .. "/00007.png", "")
    end)

    it("is left out by every experiment on images", function()
        for _, words in ipairs {
            {"attacks.lua", "--attacks", "fgs,pgd:steps=2"},
            {"make_adversarial.lua", "--iterations", "3", "--losses", "ce", "--limit", "7", "--extra", "2"},
        } do
            local dir = base .. "/" .. words[1]
            words[1] = scripts .. words[1]
            table.move({"--images", images, "--batch", "3", "--out", dir}, 1, 6, #words + 1, words)
            local status, _, err = support.advrt(words)
            assert.equal(1, status)
            assert.truthy(err:find(WAY_OUT, 1, true), err)
            words[#words + 1] = "--skip-bad"
            words[#words + 1] = "--resume"
            status, _, err = support.advrt(words)
            assert.equal(0, status, err)
            assert.equal(BAD[1], bad_lines(dir)[1])
        end
        -- Of the images behind the seventh the first is empty: the next two that are good stand in.
        local records = support.read(base .. "/make_adversarial.lua/records.msgpack")
        local _, extra = records:gsub("extra%-00001", "")
        assert.equal(2, extra)
    end)
end)
